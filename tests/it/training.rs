//! Training against PyTorch (`tests/references/training.py`): losses with their gradients, ten steps in a row of a small
//! network, and what must not change the result.

use facemark::train::{
    autodiff::{self, Backend},
    graph::{Attribute, Graph, GraphError, Tensor, TensorType},
    loss::{LossKind, LossTerm},
    optimizer::{OptimizerConfig, OptimizerKind},
    session::{Device, ForwardSession, StepSettings, TrainingSession},
    step::{StepError, TrainingState, TrainingStep},
    target::{Batch, BatchTensor},
};
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct References {
    losses: Vec<LossReference>,
    laplace: LaplaceReference,
    trainings: Vec<TrainingReference>,
}

#[derive(Deserialize)]
struct LossReference {
    kind: LossKind,
    weighted: bool,
    value: f32,
    gradient: Vec<f32>,
}

#[derive(Deserialize)]
struct LaplaceReference {
    value: f32,
    points_gradient: Vec<f32>,
    log_scale_gradient: Vec<f32>,
}

#[derive(Deserialize)]
struct TrainingReference {
    name: String,
    losses: Vec<f32>,
    gradient_norms: Vec<f32>,
    parameters: Vec<f32>,
    running: Vec<f32>,
    ema: Vec<f32>,
}

fn references() -> References {
    serde_json::from_str(include_str!("../references/training.json")).expect("references")
}

/// `wave` of the reference script.
fn wave(count: usize, seed: f64, scale: f64) -> Vec<f32> {
    (0..count)
        .map(|i| (scale * (1.7 * i as f64 + seed).sin()) as f32)
        .collect()
}

/// The largest difference, relative where values are larger than 1.
fn apart(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found
        .iter()
        .zip(expected)
        .map(|(f, e)| (f - e).abs() / e.abs().max(1.0))
        .fold(0.0, |a, b| if b.is_nan() { f32::NAN } else { a.max(b) })
}

#[test]
fn losses_and_their_gradients_equal_pytorch() {
    const ROWS: usize = 5;
    const COLUMNS: usize = 6;
    for case in references().losses {
        let of_logits = matches!(
            case.kind,
            LossKind::BinaryCrossEntropy | LossKind::Focal { .. }
        );
        let output = wave(ROWS * COLUMNS, 0.3, if of_logits { 40.0 } else { 2.0 });
        let mut target = wave(ROWS * COLUMNS, 1.1, 1.5);
        if of_logits {
            for value in &mut target {
                *value = f32::from(*value > 0.0);
            }
        }
        let mut graph = Graph::new("loss");
        let shape = [ROWS, COLUMNS];
        graph
            .input("output", TensorType::f32(&shape))
            .expect("input");
        let term = LossTerm {
            name: "term".to_owned(),
            kind: case.kind,
            output: "output".to_owned(),
            target: "target".to_owned(),
            weight: case.weighted.then(|| "weight".to_owned()),
            coefficient: 3.0,
        };
        let loss = term.emit(&mut graph).expect("loss");
        let wrt = ["output".to_owned()];
        let gradients =
            autodiff::gradients(&mut graph, &loss, &wrt, Backend::Cpu).expect("gradient");
        graph.outputs = vec![loss.clone(), gradients[0].clone()];
        let weight = [0.0, 1.0, 0.5, 2.0, 0.0];
        let mut inputs: Vec<(&str, &[usize], &[f32])> =
            vec![("output", &shape, &output), ("target", &shape, &target)];
        if case.weighted {
            inputs.push(("weight", &[ROWS, 1], &weight));
        }
        let found = ForwardSession::new(&graph, Device::Cpu, 1)
            .expect("session")
            .run(&inputs)
            .expect("run");
        let what = format!("{:?}, weighted: {}", case.kind, case.weighted);
        let value = apart(&found[&loss].1, &[case.value]);
        assert!(value <= 1e-5, "{what}: loss differs by {value}");
        let gradient = apart(&found[&gradients[0]].1, &case.gradient);
        assert!(gradient <= 1e-5, "{what}: gradient differs by {gradient}");
    }
}

#[test]
fn the_likelihood_of_points_and_their_scales_equals_pytorch() {
    const ROWS: usize = 5;
    const COLUMNS: usize = 6;
    let reference = references().laplace;
    let mut graph = Graph::new("loss");
    let (points, scales) = ([ROWS, COLUMNS], [ROWS, COLUMNS / 2]);
    for (name, shape) in [("landmarks", points), ("uncertainty", scales)] {
        graph.input(name, TensorType::f32(&shape)).expect("input");
    }
    let term = LossTerm {
        name: "uncertainty".to_owned(),
        kind: LossKind::Laplace,
        output: "uncertainty".to_owned(),
        target: "target".to_owned(),
        weight: Some("weight".to_owned()),
        coefficient: 3.0,
    };
    let loss = term.emit(&mut graph).expect("loss");
    let wrt = ["landmarks".to_owned(), "uncertainty".to_owned()];
    let gradients = autodiff::gradients(&mut graph, &loss, &wrt, Backend::Cpu).expect("gradient");
    graph.outputs = [std::slice::from_ref(&loss), gradients.as_slice()].concat();
    let found = ForwardSession::new(&graph, Device::Cpu, 1)
        .expect("session")
        .run(&[
            ("landmarks", &points, &wave(ROWS * COLUMNS, 0.3, 1.0)),
            ("uncertainty", &scales, &wave(ROWS * COLUMNS / 2, 0.7, 1.0)),
            ("target", &points, &wave(ROWS * COLUMNS, 1.1, 1.5)),
            ("weight", &[ROWS, 1], &[0.0, 1.0, 0.5, 2.0, 0.0]),
        ])
        .expect("run");
    for (what, value, expected) in [
        ("loss", &loss, &vec![reference.value]),
        ("points", &gradients[0], &reference.points_gradient),
        ("scales", &gradients[1], &reference.log_scale_gradient),
    ] {
        let apart = apart(&found[value].1, expected);
        assert!(apart <= 1e-5, "{what} differs by {apart}");
    }
}

const BATCH: usize = 4;
const SIZE: usize = 13;
const OUTPUTS: usize = 6;

/// The reference script's network, batch 1.
fn network() -> Graph {
    try_network().expect("network")
}

fn try_network() -> Result<Graph, GraphError> {
    let mut graph = Graph::new("small");
    let mut x = graph.input("image", TensorType::f32(&[1, 3, SIZE, SIZE]))?;
    // Weights follow the reference script's `wave` with the index of the parameter.
    let mut index = 0;
    let mut parameter = |graph: &mut Graph, name: &str, shape: &[usize]| {
        let count = shape.iter().product();
        let values = if shape.len() > 1 {
            let fan_in: usize = shape[1..].iter().product();
            wave(count, f64::from(index), (3.0 / fan_in as f64).sqrt())
        } else {
            let offset = if index % 3 == 1 && index < 12 {
                1.0
            } else {
                0.0
            };
            let values = wave(count, f64::from(index), 0.1);
            values.into_iter().map(|value| offset + value).collect()
        };
        index += 1;
        graph.parameter(name, Tensor::f32(shape, values))
    };
    struct Layer {
        name: &'static str,
        channels: usize,
        kernel: usize,
        stride: i64,
        groups: usize,
    }
    let layers = [
        ("stem", 8, 3, 2, 1),
        ("depthwise", 8, 3, 1, 8),
        ("pointwise", 16, 1, 1, 1),
        ("reduce", 16, 5, 2, 16),
    ]
    .map(|(name, channels, kernel, stride, groups)| Layer {
        name,
        channels,
        kernel,
        stride,
        groups,
    });
    for layer in layers {
        let Layer {
            name,
            channels,
            kernel,
            stride,
            groups,
        } = layer;
        let in_channels = graph.shape(&x)[1];
        let weight = parameter(
            &mut graph,
            &format!("{name}.weight"),
            &[channels, in_channels / groups, kernel, kernel],
        )?;
        let pad = (kernel / 2) as i64;
        x = graph.apply(
            "Conv",
            &[&x, &weight],
            &[
                ("kernel_shape", Attribute::Ints(vec![kernel as i64; 2])),
                ("strides", Attribute::Ints(vec![stride; 2])),
                ("pads", Attribute::Ints(vec![pad; 4])),
                ("group", Attribute::Int(groups as i64)),
            ],
        )?;
        let scale = parameter(&mut graph, &format!("{name}.scale"), &[channels])?;
        let bias = parameter(&mut graph, &format!("{name}.bias"), &[channels])?;
        // Shared by all layers, as exporters do it: training must give each layer its own.
        let mean = graph.constant_f32(&vec![0.0; channels], &[channels]);
        let variance = graph.constant_f32(&vec![1.0; channels], &[channels]);
        x = graph.apply(
            "BatchNormalization",
            &[&x, &scale, &bias, &mean, &variance],
            &[],
        )?;
        x = match name {
            "stem" | "pointwise" => graph.unary("Relu", &x)?,
            "depthwise" => {
                let (zero, six) = (graph.scalar(0.0), graph.scalar(6.0));
                graph.apply("Clip", &[&x, &zero, &six], &[])?
            }
            _ => x,
        };
    }
    x = graph.apply(
        "MaxPool",
        &[&x],
        &[("kernel_shape", Attribute::Ints(vec![2, 2]))],
    )?;
    x = graph.unary("GlobalAveragePool", &x)?;
    x = graph.apply("Flatten", &[&x], &[])?;
    let weight = parameter(&mut graph, "linear.weight", &[OUTPUTS, 16])?;
    let bias = parameter(&mut graph, "linear.bias", &[OUTPUTS])?;
    let transposed = ("transB", Attribute::Int(1));
    graph.apply_named("Gemm", &[&x, &weight, &bias], &[transposed], "prediction")?;
    graph.outputs.push("prediction".to_owned());
    Ok(graph)
}

fn term() -> LossTerm {
    LossTerm {
        name: "points".to_owned(),
        kind: LossKind::SmoothL1 { beta: 0.5 },
        output: "prediction".to_owned(),
        target: "target".to_owned(),
        weight: None,
        coefficient: 1.0,
    }
}

fn batch(step: usize) -> Batch {
    let tensor = |shape: &[usize], seed: f64, scale: f64| BatchTensor {
        shape: shape.to_vec(),
        values: wave(shape.iter().product(), seed + step as f64, scale),
    };
    let image = tensor(&[BATCH, 3, SIZE, SIZE], 100.0, 1.5);
    let target = tensor(&[BATCH, OUTPUTS], 200.0, 1.0);
    Batch {
        epoch: 0,
        index: step,
        tensors: [("image".to_owned(), image), ("target".to_owned(), target)].into(),
    }
}

fn config(name: &str) -> (OptimizerConfig, f32) {
    let adamw = OptimizerConfig {
        optimizer: OptimizerKind::AdamW {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
        },
        weight_decay: 0.1,
        max_gradient_norm: Some(0.5),
        ema_alpha: Some(0.02),
        batch_norm_momentum: 0.1,
        ..OptimizerConfig::default()
    };
    let sgd = |nesterov, max_norm| OptimizerConfig {
        optimizer: OptimizerKind::Sgd {
            momentum: 0.9,
            nesterov,
        },
        weight_decay: 0.01,
        max_gradient_norm: Some(max_norm),
        ..adamw
    };
    match name {
        "adamw" => (adamw, 0.01),
        "muon" => {
            let optimizer = OptimizerKind::Muon {
                momentum: 0.95,
                beta2: 0.99,
                epsilon: 1e-8,
            };
            (OptimizerConfig { optimizer, ..adamw }, 0.01)
        }
        "sgd" => (sgd(false, 0.8), 0.05),
        "nesterov" => (sgd(true, 100.0), 0.05),
        other => panic!("no such training: {other}"),
    }
}

fn build(config: &OptimizerConfig) -> TrainingStep {
    TrainingStep::build(&network(), BATCH, &[term()], config, Backend::Cpu).expect("step")
}

fn start(step: &TrainingStep, state: TrainingState) -> TrainingSession {
    TrainingSession::new(step, Device::Cpu, 2, state).expect("session")
}

#[test]
fn ten_steps_in_a_row_equal_pytorch() {
    for reference in references().trainings {
        let name = &reference.name;
        let (config, learning_rate) = config(name);
        let step = build(&config);
        let mut session = start(&step, step.initial_state());
        let settings = StepSettings { learning_rate };
        let (mut losses, mut norms) = (Vec::new(), Vec::new());
        for index in 0..reference.losses.len() {
            let report = session.step(&batch(index), &settings).expect("step");
            assert_eq!(report.terms, [("points".to_owned(), report.loss)]);
            losses.push(report.loss);
            norms.push(report.gradient_norm);
        }
        let state = session.state().expect("state");
        assert_eq!(state.step, reference.losses.len() as u64);
        for (what, found, expected) in [
            ("loss", &losses, &reference.losses),
            ("gradient norm", &norms, &reference.gradient_norms),
            ("parameters", &state.parameters, &reference.parameters),
            ("running statistics", &state.running, &reference.running),
            ("moving average", &state.ema, &reference.ema),
        ] {
            let apart = apart(found, expected);
            println!("{name}: {what} differs by {apart:.1e}");
            let limit = if what == "gradient norm" { 1e-3 } else { 1e-4 };
            assert!(apart <= limit, "{name}: {what} differs by {apart}");
        }
    }
}

#[test]
fn a_training_continues_from_its_state_as_if_it_had_not_stopped() {
    let (config, learning_rate) = config("adamw");
    let step = build(&config);
    let settings = StepSettings { learning_rate };
    let mut whole = start(&step, step.initial_state());
    for index in 0..5 {
        whole.step(&batch(index), &settings).expect("step");
    }
    let mut first = start(&step, step.initial_state());
    for index in 0..3 {
        first.step(&batch(index), &settings).expect("step");
    }
    let mut second = start(&step, first.state().expect("state"));
    for index in 3..5 {
        second.step(&batch(index), &settings).expect("step");
    }
    assert_eq!(
        whole.state().expect("state"),
        second.state().expect("state")
    );
}

#[test]
fn the_trained_graph_has_the_weights_of_the_state() {
    let (config, learning_rate) = config("adamw");
    let step = build(&config);
    let mut session = start(&step, step.initial_state());
    for index in 0..3 {
        let settings = StepSettings { learning_rate };
        session.step(&batch(index), &settings).expect("step");
    }
    let state = session.state().expect("state");
    let image = wave(3 * SIZE * SIZE, 5.0, 1.0);
    let predict = |graph: &Graph| -> Vec<f32> {
        let mut session = ForwardSession::new(graph, Device::Cpu, 1).expect("session");
        let found = session.run(&[("image", &[1, 3, SIZE, SIZE], &image)]);
        found.expect("run").remove("prediction").expect("output").1
    };
    let trained = step.write_back(&state, false).expect("graph");
    let averaged = step.write_back(&state, true).expect("graph");
    assert!(apart(&predict(&trained), &predict(&network())) > 1e-2);
    assert!(apart(&predict(&trained), &predict(&averaged)) > 1e-4);
    // A step built on the trained graph starts where the state is.
    let again = TrainingStep::build(&trained, BATCH, &[term()], &config, Backend::Cpu);
    let restarted = again.expect("step").initial_state();
    assert_eq!(restarted.parameters, state.parameters);
    assert_eq!(restarted.running, state.running);
}

#[test]
fn what_does_not_fit_is_named() {
    let (config, learning_rate) = config("adamw");
    let step = build(&config);
    let mut session = start(&step, step.initial_state());
    let settings = StepSettings { learning_rate };

    let mut without_target = batch(0);
    without_target.tensors.remove("target");
    let error = session
        .step(&without_target, &settings)
        .expect_err("missing");
    assert!(error.to_string().contains("target"), "{error}");

    let mut small = batch(0);
    small.tensors.get_mut("image").expect("image").shape[0] = 1;
    let error = session.step(&small, &settings).expect_err("shape");
    assert!(error.to_string().contains("image"), "{error}");

    let mut state = step.initial_state();
    state.moment2.pop();
    let error = step.write_back(&state, true).expect_err("state");
    assert!(
        matches!(
            error,
            StepError::State {
                vector: "moment2",
                ..
            }
        ),
        "{error}"
    );

    let wrong_output = LossTerm {
        output: "elsewhere".to_owned(),
        ..term()
    };
    let error = TrainingStep::build(&network(), BATCH, &[wrong_output], &config, Backend::Cpu);
    let error = error.expect_err("no such output").to_string();
    assert!(
        error.contains("elsewhere") && error.contains("points"),
        "{error}"
    );

    let bad_beta = LossTerm {
        kind: LossKind::SmoothL1 { beta: 0.0 },
        ..term()
    };
    let error = TrainingStep::build(&network(), BATCH, &[bad_beta], &config, Backend::Cpu);
    assert!(error.expect_err("beta").to_string().contains("beta"));
}

#[test]
fn an_output_that_no_term_names_is_not_trained() {
    let mut graph = network();
    let spare = graph
        .parameter("spare.weight", Tensor::f32(&[6, 2], wave(12, 0.0, 1.0)))
        .expect("parameter");
    graph
        .apply_named("MatMul", &["prediction", &spare], &[], "spare")
        .expect("node");
    graph.outputs.push("spare".to_owned());
    let (config, learning_rate) = config("sgd");
    let step = TrainingStep::build(&graph, BATCH, &[term()], &config, Backend::Cpu).expect("step");
    assert!(!step.parameter_names().any(|name| name == "spare.weight"));
    let mut session = start(&step, step.initial_state());
    session
        .step(&batch(0), &StepSettings { learning_rate })
        .expect("step");
    let trained = step
        .write_back(&session.state().expect("state"), false)
        .expect("graph");
    assert_eq!(
        trained.initializers["spare.weight"],
        graph.initializers["spare.weight"]
    );
}

#[test]
fn the_cuda_form_of_the_gradients_trains_alike_on_the_cpu() {
    let (config, learning_rate) = config("sgd");
    let stock = TrainingStep::build(&network(), BATCH, &[term()], &config, Backend::Cuda);
    let stock = stock.expect("step");
    assert!(
        stock
            .graph()
            .nodes
            .iter()
            .all(|node| node.domain != "facemark"),
        "only stock operators"
    );
    let custom = build(&config);
    assert!(
        custom
            .graph()
            .nodes
            .iter()
            .any(|node| node.op == "DepthwiseGradW")
    );
    let run = |step: &TrainingStep| -> TrainingState {
        let mut session = start(step, step.initial_state());
        for index in 0..3 {
            let settings = StepSettings { learning_rate };
            session.step(&batch(index), &settings).expect("step");
        }
        session.state().expect("state")
    };
    let difference = apart(&run(&stock).parameters, &run(&custom).parameters);
    assert!(difference < 1e-4, "parameters differ by {difference}");
}

#[test]
fn a_library_that_is_not_one_is_a_clear_error() {
    let folder = tempfile::tempdir().expect("folder");
    let missing = folder.path().join("libonnxruntime.so.9");
    let load = facemark::train::session::find_library(Some(&missing));
    let error = load.expect_err("missing").to_string();
    for part in ["make onnxruntime", "--onnxruntime", "libonnxruntime.so.9"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(Path::new(&missing).parent().expect("folder").is_dir());
}
