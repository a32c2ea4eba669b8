//! Quantisation-aware training of a tiny network on drawn faces: the roundings of training are those of the int8 file,
//! training lowers the loss through them, ranges are frozen when they should be; and how layers are ranked.

use facemark::{
    annotation::Split,
    crop::Crop,
    model::ModelCard,
    train::{
        augment::AugmentConfig,
        autodiff::Backend,
        checkpoint::Checkpoint,
        dataset::{DataSource, Dataset, OpenOptions},
        evaluate::Cases,
        export::fold_batch_norm,
        fit::{Event, FitOptions, Outcome, Start, fit, restore},
        graph::{Graph, Tensor},
        loss::{LossKind, LossTerm},
        nn::Architecture,
        optimizer::OptimizerConfig,
        progress::Validation,
        quantize::{
            QuantizeError, QuantizeOptions, Range, Ranges,
            points::quantization_points,
            qat::{
                QuantizationAware, has_fake_quantization, with_fake_quantization,
                without_fake_quantization,
            },
            quantize,
            report::layer_noise,
            sensitivity::{Probe, rank_layers},
        },
        recipe::Recipe,
        schedule::{Decay, Schedule},
        session::{
            Device, ForwardSession, SessionError, StepSettings, TrainingSession, load_library,
        },
        step::TrainingStep,
        target::{Batch, BatchTensor},
    },
};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

fn recipe() -> Recipe {
    Recipe {
        architecture: "tiny-landmarks".to_owned(),
        data: vec![DataSource::new("synthetic:3")],
        validation_limit: 40,
        batch: 16,
        epochs: 2,
        steps_per_epoch: 40,
        augment: AugmentConfig::NONE,
        seed: 2,
        schedule: Schedule {
            base_learning_rate: 0.01,
            warmup_steps: 10,
            decay: Decay::Cosine {
                final_fraction: 0.1,
            },
        },
        optimizer: OptimizerConfig {
            ema_alpha: Some(0.2),
            ..OptimizerConfig::default()
        },
        ..Recipe::default()
    }
}

fn train(recipe: &Recipe, output: &Path) -> Outcome {
    load_library(None).expect("`scripts/fetch-onnxruntime.sh` fetches the library");
    let options = FitOptions {
        output: output.to_owned(),
        device: Device::Cpu,
        threads: 2,
        loader_threads: 2,
        sitting_epochs: None,
        report: false,
        stop: Arc::new(AtomicBool::new(false)),
    };
    let start = Start::New(Box::new(recipe.clone()));
    fit(start, &options, &mut |_: &Event<'_>| {}).expect("it trains")
}

fn nme(outcome: &Outcome, epoch: usize) -> f64 {
    match &outcome.progress.history[epoch].validation {
        Some(Validation::Landmarks(result)) => result.summary.nme_mean.expect("faces"),
        _ => panic!("a landmark result"),
    }
}

fn ranges_of(folder: &Path) -> Vec<f32> {
    Checkpoint::read(folder).unwrap().vectors["ranges"].clone()
}

#[test]
fn training_through_roundings_learns_freezes_its_ranges_and_gives_the_int8_model() {
    let folder = tempfile::tempdir().unwrap();
    let (float, rounded) = (folder.path().join("float"), folder.path().join("rounded"));
    let before = train(&recipe(), &float);

    // The start of the second training, for which batch normalisation is folded.
    let model = folder.path().join("float.onnx");
    let best = restore(&float, None).unwrap();
    std::fs::write(&model, best.graph.to_onnx()).unwrap();
    let mut aware = Recipe {
        init: Some(model),
        quantization: Some(QuantizationAware::default()),
        epochs: 3,
        ..recipe()
    };
    aware.schedule.base_learning_rate = 0.003;
    aware.optimizer.range_steps = aware.steps_per_epoch as u64;
    let one_epoch = Recipe {
        epochs: 1,
        ..aware.clone()
    };

    let after_one = folder.path().join("one");
    train(&one_epoch, &after_one);
    let outcome = train(&aware, &rounded);
    let history = &outcome.progress.history;
    assert!(
        history[2].loss < history[0].loss,
        "{} is not below {}",
        history[2].loss,
        history[0].loss
    );
    assert!(
        nme(&outcome, 2) < nme(&before, 1),
        "{} is not below the float training's {}",
        nme(&outcome, 2),
        nme(&before, 1)
    );

    // All ranges were learnt, and stayed from the end of the first epoch on.
    let frozen = ranges_of(&rounded);
    assert!(
        frozen
            .chunks(2)
            .all(|range| range[0] <= 0.0 && range[0] < range[1])
    );
    let still_learning = Recipe {
        optimizer: OptimizerConfig {
            range_steps: 1000,
            ..aware.optimizer
        },
        ..aware.clone()
    };
    let mut at_end_of_epoch = Vec::new();
    for recipe in [&aware, &still_learning] {
        let output = tempfile::tempdir().unwrap();
        let options = FitOptions {
            output: output.path().to_owned(),
            device: Device::Cpu,
            threads: 2,
            loader_threads: 2,
            sitting_epochs: Some(1),
            report: false,
            stop: Arc::new(AtomicBool::new(false)),
        };
        fit(Start::New(Box::new(recipe.clone())), &options, &mut |_| {}).unwrap();
        let first = ranges_of(output.path());
        let second = FitOptions {
            output: output.path().to_owned(),
            ..options
        };
        fit(Start::Resume { expected: None }, &second, &mut |_| {}).unwrap();
        at_end_of_epoch.push((first, ranges_of(output.path())));
    }
    assert_eq!(at_end_of_epoch[0].0, at_end_of_epoch[0].1, "frozen");
    assert_eq!(at_end_of_epoch[0].0, frozen, "one seed, one training");
    assert_ne!(at_end_of_epoch[1].0, at_end_of_epoch[1].1, "still learning");

    // The float model and the ranges give an int8 model that is as good as training said.
    let trained = restore(&rounded, None).unwrap();
    assert!(has_fake_quantization(&trained.graph));
    let (exported, ranges) = without_fake_quantization(&trained.graph).unwrap();
    let int8 = quantize(&exported, &ranges, &QuantizeOptions::default()).unwrap();
    let open = OpenOptions {
        split: Some(Split::Val),
        ..OpenOptions::default()
    };
    let dataset = Dataset::open("synthetic:3", &open).unwrap();
    let cases = Cases::prepare(&dataset, None, &trained.card, None, 40).unwrap();
    let score = |graph: &Graph| {
        let evaluation = cases.evaluate(graph, &trained.card, Device::Cpu, 2);
        evaluation.unwrap().validation().score()
    };
    let (of_training, of_file) = (score(&trained.graph), score(&int8));
    assert!(
        (of_training - of_file).abs() < 0.002 * of_training,
        "training rounds to {of_training}, the file has {of_file}"
    );
}

fn tiny() -> (Graph, ModelCard) {
    let architecture = Architecture::TinyLandmarks;
    let card = architecture.card("tiny", facemark::scheme::Scheme::Ibug68, 1.3);
    (
        fold_batch_norm(&architecture.build(&card, 3).unwrap()).unwrap(),
        card,
    )
}

/// Crops of noise, the same for the same seed.
fn crops(card: &ModelCard, count: usize) -> Vec<Crop> {
    let mut state = 7u32;
    (0..count)
        .map(|_| {
            let mut crop = card.new_crop();
            for byte in crop.bytes_mut() {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24) as u8;
            }
            crop
        })
        .collect()
}

fn planes(card: &ModelCard, crop: &Crop) -> Vec<f32> {
    let mut planes = vec![0.0; card.color.channels() * card.input_width * card.input_height];
    card.normalization.write_planes(crop, &mut planes);
    planes
}

/// The least and the greatest value that the float graph has over `crops` wherever its int8 form rounds.
fn observed_ranges(float: &Graph, card: &ModelCard, crops: &[Crop]) -> Ranges {
    let points = quantization_points(float, &BTreeSet::new()).points;
    let values = points.iter().filter(|point| !point.is_input);
    let values: Vec<String> = values.flat_map(|point| point.members.clone()).collect();
    let mut watched = float.clone();
    watched.outputs.clone_from(&values);
    let mut session = ForwardSession::new(&watched, Device::Cpu, 1).unwrap();
    let shape = [
        1,
        card.color.channels(),
        card.input_height,
        card.input_width,
    ];
    let mut ranges = Ranges::default();
    for crop in crops {
        let outputs = session
            .run(&[("image", &shape, &planes(card, crop))])
            .unwrap();
        for value in &values {
            let numbers = || outputs[value].1.iter().copied();
            let (low, high) = (
                numbers().fold(f32::INFINITY, f32::min),
                numbers().fold(f32::NEG_INFINITY, f32::max),
            );
            let range = Range::new(low, high).unwrap();
            ranges
                .values
                .entry(value.clone())
                .and_modify(|all| *all = all.union(&range))
                .or_insert(range);
        }
    }
    ranges
}

#[test]
fn roundings_of_training_are_those_of_the_int8_file() {
    load_library(None).expect("`scripts/fetch-onnxruntime.sh` fetches the library");
    let (float, card) = tiny();
    let crops = crops(&card, 16);
    let ranges = observed_ranges(&float, &card, &crops);
    let how = QuantizationAware::default();
    let rounded = with_fake_quantization(&float, &how, &ranges).unwrap();
    let int8 = quantize(&float, &ranges, &QuantizeOptions::default()).unwrap();

    // Against the roundings of training the file's values differ by what float sums and rounded biases do to ties: far
    // less than against the float model, which is what a wrong scale, zero point or place would look like.
    let against_training = layer_noise(&rounded, &int8, &card, &crops, 1).unwrap();
    let against_float = layer_noise(&float, &int8, &card, &crops, 1).unwrap();
    assert_eq!(against_training.len(), against_float.len());
    assert!(against_training.len() > 5);
    for (training, float) in against_training.iter().zip(&against_float) {
        assert_eq!(training.value, float.value);
        let float = float.signal_to_noise_db.expect("rounding costs something");
        // None: not a single difference.
        let training = training.signal_to_noise_db.unwrap_or(f64::INFINITY);
        assert!(float > 15.0, "{}: {float} dB", against_float[0].value);
        assert!(
            training > float + 6.0,
            "{training} dB against training's roundings, {float} dB against floats"
        );
    }
}

#[test]
fn stock_operators_do_the_same_steps() {
    load_library(None).expect("`scripts/fetch-onnxruntime.sh` fetches the library");
    let (float, card) = tiny();
    let how = QuantizationAware::default();
    let rounded = with_fake_quantization(&float, &how, &Ranges::default()).unwrap();
    let optimizer = OptimizerConfig {
        range_alpha: 0.3,
        range_steps: 3,
        ..OptimizerConfig::default()
    };
    let terms = [LossTerm {
        name: "landmarks".to_owned(),
        kind: LossKind::L1,
        output: "landmarks".to_owned(),
        target: "target".to_owned(),
        weight: None,
        coefficient: 1.0,
    }];
    const BATCH: usize = 4;
    let images: Vec<f32> = crops(&card, BATCH)
        .iter()
        .flat_map(|crop| planes(&card, crop))
        .collect();
    let tensor = |shape: Vec<usize>, values: Vec<f32>| BatchTensor { shape, values };
    let shape = vec![
        BATCH,
        card.color.channels(),
        card.input_height,
        card.input_width,
    ];
    let targets = (0..BATCH * 136).map(|index| (index as f32).sin()).collect();
    let batch = Batch {
        epoch: 0,
        index: 0,
        tensors: [
            ("image".to_owned(), tensor(shape, images)),
            ("target".to_owned(), tensor(vec![BATCH, 136], targets)),
        ]
        .into(),
    };
    let [own, stock] = [Backend::Cpu, Backend::Cuda].map(|backend| {
        let step = TrainingStep::build(&rounded, BATCH, &terms, &optimizer, backend).unwrap();
        let ours = step.graph().nodes.iter();
        let ours = ours.filter(|node| node.domain == "facemark").count();
        assert_eq!(
            ours == 0,
            backend == Backend::Cuda,
            "{ours} operators of ours"
        );
        let mut session =
            TrainingSession::new(&step, Device::Cpu, 1, step.initial_state()).unwrap();
        let mut seen = Vec::new();
        for _ in 0..5 {
            let settings = StepSettings {
                learning_rate: 1e-4,
            };
            let report = session.step(&batch, &settings).unwrap();
            seen.push((report.loss, session.state().unwrap().ranges));
        }
        seen
    });
    for (step, ((loss, ranges), (stock_loss, stock_ranges))) in own.iter().zip(&stock).enumerate() {
        assert!(
            (loss - stock_loss).abs() < 1e-3 * loss,
            "{step}: {loss} {stock_loss}"
        );
        for (a, b) in ranges.iter().zip(stock_ranges) {
            assert!((a - b).abs() < 2e-2 * (1.0 + a.abs()), "{step}: {a} {b}");
        }
    }
    assert_ne!(own[0].1, own[2].1, "they follow");
    assert_eq!(own[2].1, own[4].1, "until they are frozen");
    assert_eq!(stock[2].1, stock[4].1, "until they are frozen");
}

#[test]
fn a_sabotaged_layer_is_ranked_first() {
    load_library(None).expect("`scripts/fetch-onnxruntime.sh` fetches the library");
    let (mut float, card) = tiny();
    // A channel that is always 0 with weights so large that all others of their output channels round to 0: without
    // effect on the float model, ruinous for the layer on bytes.
    let before = |name: &str| {
        let suffix = format!("{name}.depthwise.weight");
        let mut weights = float.initializers.keys();
        weights.find(|key| key.ends_with(&suffix)).cloned()
    };
    let depthwise = before("stage2").expect("a depthwise convolution");
    let bias = depthwise.replace(".weight", ".bias");
    let weight = depthwise.replace("depthwise", "project");
    let mut change = |name: &str, change: &dyn Fn(&mut [f32])| {
        let tensor = &float.initializers[name];
        let mut values = tensor.as_f32().unwrap().to_vec();
        change(&mut values);
        let changed = Tensor::f32(&tensor.shape.clone(), values);
        float.initializers.insert(name.to_owned(), changed);
    };
    change(&depthwise, &|taps| taps[..9].fill(0.0));
    change(&bias, &|bias| bias[0] = -1.0);
    change(&weight, &|weights| {
        // 16 channels, expanded twofold.
        for channel in weights.chunks_exact_mut(32) {
            let largest = channel.iter().fold(0.0f32, |size, w| size.max(w.abs()));
            channel[0] = 400.0 * largest;
        }
    });
    let victim = float
        .nodes
        .iter()
        .find(|node| node.inputs.get(1) == Some(&weight))
        .expect("a node uses it")
        .clone();
    let crops = crops(&card, 8);
    let ranges = observed_ranges(&float, &card, &crops);
    let shape = [
        1,
        card.color.channels(),
        card.input_height,
        card.input_width,
    ];
    let outputs = |graph: &Graph| -> Result<Vec<f32>, SessionError> {
        let mut session = ForwardSession::new(graph, Device::Cpu, 1)?;
        let mut all = Vec::new();
        for crop in &crops {
            let found = session.run(&[("image", &shape, &planes(&card, crop))])?;
            all.extend_from_slice(&found["landmarks"].1);
        }
        Ok(all)
    };
    let exact = outputs(&float).unwrap();
    let error = |graph: &Graph| -> Result<f64, QuantizeError> {
        let found = outputs(graph).expect("it runs");
        Ok(exact
            .iter()
            .zip(&found)
            .map(|(a, b)| f64::from(a - b).powi(2))
            .sum())
    };
    let options = QuantizeOptions::default();
    for probe in [Probe::Alone, Probe::Spared] {
        let ranked = rank_layers(&float, &ranges, &options, probe, error).unwrap();
        assert_eq!(ranked[0].node, victim.label(), "{probe:?}: {ranked:?}");
        let sorted = ranked.is_sorted_by(|a, b| match probe {
            Probe::Alone => a.error >= b.error,
            Probe::Spared => a.error <= b.error,
        });
        assert!(sorted, "{ranked:?}");
    }
}
