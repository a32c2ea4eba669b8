//! One side of the comparison with PyTorch (`compare.py`): runs training steps of an architecture on request.
//!
//! `training_step ARCHITECTURE BATCH THREADS FORWARD.onnx` writes the forward graph, so that the other side trains the
//! same network, prints `ready` and then, for each line with a number on standard input, does that many steps and
//! prints their wall times in seconds. It exists to catch a formulation of the gradients or a session option that makes
//! a step slower than PyTorch's.

use anyhow::{Context, bail};
use facemark::{
    scheme::Scheme,
    train::{
        loss::{LossKind, LossTerm},
        nn::Architecture,
        optimizer::OptimizerConfig,
        session::{Device, StepSettings, TrainingSession},
        step::TrainingStep,
        target::{Batch, BatchTensor},
    },
};
use rand::{RngExt, SeedableRng};
use std::{
    io::{BufRead, Write},
    time::Instant,
};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` and `cargo bench` without arguments come by here.
    let [architecture, batch, threads, forward_path, ..] = arguments.as_slice() else {
        eprintln!(
            "usage: training_step ARCHITECTURE BATCH THREADS FORWARD.onnx; see benches/training_step/run.sh"
        );
        return Ok(());
    };
    let architecture: Architecture = architecture.parse()?;
    let (batch, threads): (usize, usize) = (batch.parse()?, threads.parse()?);
    let card = architecture.card("bench", Scheme::Ibug68, 1.3);
    let forward = architecture.build(&card, 1)?;
    std::fs::write(forward_path, forward.to_onnx()).context(forward_path.clone())?;

    // Every output is pulled to its target: what the losses are hardly matters for the time of a step.
    let terms: Vec<LossTerm> = forward
        .outputs
        .iter()
        .map(|output| LossTerm {
            name: output.clone(),
            kind: LossKind::SmoothL1 { beta: 0.1 },
            output: output.clone(),
            target: format!("{output}_target"),
            weight: None,
            coefficient: 1.0,
        })
        .collect();
    let device = Device::Cpu;
    let config = OptimizerConfig::default();
    let step = TrainingStep::build(&forward, batch, &terms, &config, device.backend())?;
    let mut session = TrainingSession::new(&step, device, threads, step.initial_state())?;

    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let mut tensors = Batch::default();
    for (name, of) in step.batch_inputs() {
        let values = (0..of.element_count()).map(|_| rng.random_range(-1.0..1.0));
        let tensor = BatchTensor {
            shape: of.shape.clone(),
            values: values.collect(),
        };
        tensors.tensors.insert(name.clone(), tensor);
    }
    let settings = StepSettings {
        learning_rate: 1e-3,
    };
    let mut output = std::io::stdout().lock();
    writeln!(output, "ready")?;
    output.flush()?;
    for line in std::io::stdin().lock().lines() {
        let count: usize = line?.trim().parse().context("a number of steps")?;
        let mut seconds = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            let report = session.step(&tensors, &settings)?;
            seconds.push(start.elapsed().as_secs_f64().to_string());
            if !report.loss.is_finite() {
                bail!("the loss is {}", report.loss);
            }
        }
        writeln!(output, "{}", seconds.join(" "))?;
        output.flush()?;
    }
    Ok(())
}
