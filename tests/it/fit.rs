//! Whole trainings of a tiny network on drawn faces: exact continuation, agreement of seeds, learning, and what is said
//! when there is none.

use crate::fixtures::root;
use facemark::{
    annotation::Split,
    crop::CropRule,
    model::ModelCard,
    scheme::Scheme,
    train::{
        augment::AugmentConfig,
        checkpoint::{Checkpoint, LATEST},
        dataset::{DataSource, Dataset, OpenOptions},
        evaluate::{Cases, MeanShape},
        export::fold_batch_norm,
        fit::{Event, FitError, FitOptions, LOG, Outcome, Start, fit, restore},
        graph::Graph,
        nn::Architecture,
        optimizer::OptimizerConfig,
        progress::Validation,
        recipe::{Recipe, TaskKind},
        schedule::{Decay, Schedule},
        session::{Device, load_library},
    },
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

fn recipe() -> Recipe {
    Recipe {
        architecture: "tiny-landmarks".to_owned(),
        data: vec![DataSource::new("synthetic:3")],
        validation_limit: 10,
        batch: 4,
        epochs: 4,
        steps_per_epoch: 3,
        schedule: Schedule {
            base_learning_rate: 0.004,
            warmup_steps: 4,
            decay: Decay::Cosine {
                final_fraction: 0.01,
            },
        },
        optimizer: OptimizerConfig {
            ema_alpha: Some(0.05),
            ..OptimizerConfig::default()
        },
        ..Recipe::default()
    }
}

fn options(output: &Path) -> FitOptions {
    FitOptions {
        output: output.to_owned(),
        device: Device::Cpu,
        threads: 2,
        loader_threads: 2,
        sitting_epochs: None,
        report: false,
        stop: Arc::new(AtomicBool::new(false)),
    }
}

fn train(recipe: &Recipe, options: &FitOptions) -> Result<Outcome, Box<FitError>> {
    load_library(None).expect("`scripts/fetch-onnxruntime.sh` fetches the library");
    fit(
        Start::New(Box::new(recipe.clone())),
        options,
        &mut |_: &Event<'_>| {},
    )
    .map_err(Box::new)
}

fn resume(options: &FitOptions) -> Result<Outcome, Box<FitError>> {
    fit(
        Start::Resume { expected: None },
        options,
        &mut |_: &Event<'_>| {},
    )
    .map_err(Box::new)
}

/// What must agree bit for bit; times may not.
fn essence(folder: &Path) -> (Checkpoint, Vec<f64>) {
    let mut checkpoint = Checkpoint::read(&folder.join(LATEST)).expect("a checkpoint");
    checkpoint.progress.seconds = 0.0;
    let losses = checkpoint
        .progress
        .history
        .iter_mut()
        .map(|record| {
            record.seconds = 0.0;
            record.loss
        })
        .collect();
    (checkpoint, losses)
}

#[test]
fn four_epochs_equal_two_and_a_bit_and_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    assert!(train(&recipe(), &options(&whole)).unwrap().complete);

    let two = FitOptions {
        sitting_epochs: Some(2),
        loader_threads: 1,
        ..options(&parts)
    };
    let outcome = train(&recipe(), &two).unwrap();
    assert!(!outcome.complete);
    assert_eq!(outcome.progress.epoch, 2);

    // A stop in the middle of the third epoch.
    let interrupted = options(&parts);
    let stop = Arc::clone(&interrupted.stop);
    let outcome = fit(
        Start::Resume {
            expected: Some(Box::new(recipe())),
        },
        &interrupted,
        &mut |event| {
            if matches!(event, Event::Step(_)) {
                stop.store(true, Ordering::Relaxed);
            }
        },
    )
    .unwrap();
    assert_eq!(
        (outcome.progress.epoch, outcome.progress.step_in_epoch),
        (2, 1)
    );

    assert!(resume(&options(&parts)).unwrap().complete);
    let ((expected, expected_losses), (found, losses)) = (essence(&whole), essence(&parts));
    assert_eq!(losses, expected_losses);
    assert!(found == expected, "the checkpoints differ");

    let steps = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join(LOG)).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|line| (line["kind"].to_string(), line["step"].as_u64()))
            .collect::<Vec<_>>()
    };
    assert_eq!(steps(&parts), steps(&whole), "the logs differ");
}

#[test]
fn one_seed_gives_one_model_and_another_seed_another() {
    let folder = tempfile::tempdir().unwrap();
    let vectors = |name: &str, seed: u64| {
        let output = folder.path().join(name);
        let recipe = Recipe {
            seed,
            epochs: 1,
            ..recipe()
        };
        train(&recipe, &options(&output)).unwrap();
        essence(&output).0.vectors
    };
    let first = vectors("first", 1);
    assert!(first == vectors("again", 1));
    assert!(first != vectors("other", 2));
}

#[test]
fn a_training_on_drawn_faces_beats_the_mean_shape_and_survives_export() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut recipe = Recipe {
        batch: 16,
        steps_per_epoch: 60,
        validation_limit: 100,
        augment: AugmentConfig::NONE,
        seed: 2,
        ..recipe()
    };
    recipe.schedule.base_learning_rate = 0.01;
    recipe.schedule.warmup_steps = 20;
    recipe.optimizer.ema_alpha = Some(0.2);
    let with_report = FitOptions {
        report: true,
        ..options(&output)
    };
    let outcome = train(&recipe, &with_report).unwrap();
    assert_eq!(outcome.warning, None);
    let last = outcome.progress.history.last().unwrap();
    let Some(Validation::Landmarks(result)) = &last.validation else {
        panic!("a landmark result");
    };
    let (nme, baseline) = (
        result.summary.nme_mean.unwrap(),
        result.baseline_nme_mean.unwrap(),
    );
    assert!(nme < 0.8 * baseline, "NME {nme}, mean shape {baseline}");

    let page = outcome.report.unwrap();
    let text = std::fs::read_to_string(&page).unwrap();
    for file in [
        "loss.svg",
        "nme.svg",
        "ced.svg",
        "samples.png",
        "worst.png",
        "best.png",
    ] {
        assert!(text.contains(file), "{file} is on the page");
        let size = page
            .with_file_name(file)
            .metadata()
            .map_or(0, |data| data.len());
        assert!(size > 1000, "{file}: {size} bytes");
    }

    // The exported graph, read back from its file's bytes, measures the same.
    let best = restore(&output, None).unwrap();
    let onnx = fold_batch_norm(&best.graph).unwrap().to_onnx();
    let exported = Graph::from_onnx(&onnx, Path::new("exported.onnx")).unwrap();
    let card = ModelCard::from_metadata(&exported.metadata, Path::new("exported.onnx")).unwrap();
    assert!(
        exported
            .nodes
            .iter()
            .all(|node| node.op != "BatchNormalization")
    );
    let open = OpenOptions {
        split: Some(Split::Val),
        ..OpenOptions::default()
    };
    let dataset = Dataset::open("synthetic:3", &open).unwrap();
    let cases = Cases::prepare(&dataset, None, &card, None, 100).unwrap();
    let nme_of = |graph: &Graph| {
        let evaluation = cases.evaluate(graph, &card, Device::Cpu, 2).unwrap();
        evaluation.validation().score()
    };
    let (exported, trained) = (nme_of(&exported), nme_of(&best.graph));
    assert!(
        (exported - trained).abs() < 1e-3,
        "exported {exported}, trained {trained}"
    );
    assert!((trained - nme).abs() < 1e-9, "{trained} {nme}");
}

#[test]
fn a_training_that_learns_nothing_is_called_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut still = recipe();
    still.schedule.base_learning_rate = 0.0;
    still.epochs = 1;
    let warning = train(&still, &options(folder.path()))
        .unwrap()
        .warning
        .expect("a warning");
    assert!(
        warning.starts_with("COLLAPSED") || warning.starts_with("NOT LEARNING"),
        "{warning}"
    );
    let log = std::fs::read_to_string(folder.path().join(LOG)).unwrap();
    assert!(
        log.contains("COLLAPSED") || log.contains("NOT LEARNING"),
        "{log}"
    );
}

#[test]
fn a_diverging_training_stops_and_says_what_to_lower() {
    let folder = tempfile::tempdir().unwrap();
    let mut wild = recipe();
    wild.schedule.base_learning_rate = 1e30;
    wild.schedule.warmup_steps = 0;
    let error = train(&wild, &options(folder.path())).expect_err("diverges");
    assert!(matches!(*error, FitError::NotFinite { .. }), "{error}");
    assert!(error.to_string().contains("base_learning_rate"), "{error}");
    assert!(!error.is_bad_input());
}

#[test]
fn a_detector_trains_and_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe {
        task: TaskKind::Detector,
        architecture: "tiny-detector".to_owned(),
        epochs: 1,
        ..recipe()
    };
    let with_report = FitOptions {
        report: true,
        ..options(folder.path())
    };
    let outcome = train(&recipe, &with_report).unwrap();
    let Some(Validation::Detector(result)) = &outcome.progress.history[0].validation else {
        panic!("a detection result");
    };
    assert_eq!(result.summary.images, 10);
    assert!(outcome.report.is_some_and(|page| page.exists()));
}

#[test]
fn a_folder_with_a_training_and_another_recipe_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let one = Recipe {
        epochs: 2,
        ..recipe()
    };
    let first_epoch = FitOptions {
        sitting_epochs: Some(1),
        ..options(folder.path())
    };
    train(&one, &first_epoch).unwrap();
    let error = train(&one, &options(folder.path())).expect_err("there is one");
    assert!(error.to_string().contains("--resume"), "{error}");
    assert!(error.is_bad_input());

    let other = Recipe {
        batch: 5,
        ..one.clone()
    };
    let start = Start::Resume {
        expected: Some(Box::new(other)),
    };
    let error = fit(start, &options(folder.path()), &mut |_| {}).expect_err("another recipe");
    assert!(error.to_string().contains("batch"), "{error}");
    assert!(error.is_bad_input());
}

#[test]
fn a_model_of_another_task_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let detector = Recipe {
        architecture: "tiny-detector".to_owned(),
        ..recipe()
    };
    let error = train(&detector, &options(folder.path())).expect_err("another task");
    assert!(error.to_string().contains("task"), "{error}");
    assert!(error.is_bad_input());
}

#[test]
fn a_training_goes_on_from_a_released_file() {
    let released = root().join("models/landmarks68-small.onnx");
    let folder = tempfile::tempdir().expect("folder");
    let mut recipe = Recipe {
        architecture: "landmarks-small".to_owned(),
        weights: Some(released.clone()),
        epochs: 1,
        steps_per_epoch: 1,
        ..recipe()
    };
    recipe.schedule.base_learning_rate = 0.0;
    train(&recipe, &options(folder.path())).expect("a training");
    let trained = restore(folder.path(), None).expect("a checkpoint").graph;
    let bytes = std::fs::read(&released).expect("a released file");
    let file = Graph::from_onnx(&bytes, &released).expect("a graph");
    // Its normalisation is folded, and so there is none to train.
    assert_eq!(trained.parameters(), file.parameters());
    for name in file.parameters() {
        assert_eq!(
            trained.initializers[&name].data, file.initializers[&name].data,
            "{name}"
        );
    }
}

#[test]
fn layers_that_do_not_learn_stay_bit_for_bit_what_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    let architecture = Architecture::TinyLandmarks;
    let card = architecture.card("model", Scheme::Ibug68, 1.3);
    let model = fold_batch_norm(&architecture.build(&card, 9).unwrap()).unwrap();
    std::fs::write(&file, model.to_onnx()).unwrap();
    let part = |learns: &str| Recipe {
        weights: Some(file.clone()),
        learns: vec![learns.to_owned()],
        epochs: 1,
        ..recipe()
    };
    let output = folder.path().join("training");
    assert!(
        train(&part("presence"), &options(&output))
            .unwrap()
            .complete
    );
    let trained = restore(&output, None).unwrap().graph;
    for name in model.parameters() {
        let same = model.initializers[&name] == trained.initializers[&name];
        assert_eq!(same, !name.starts_with("presence."), "{name}");
    }

    // A whole name or the part before a dot, not just any beginning.
    let error = train(&part("pres"), &options(&folder.path().join("none"))).unwrap_err();
    assert!(
        error.to_string().contains("learns") && error.to_string().contains("pres"),
        "{error}"
    );
}

#[test]
fn the_mean_shape_alone_scores_the_baseline() {
    let open = |split| {
        let options = OpenOptions {
            split: Some(split),
            ..OpenOptions::default()
        };
        Dataset::open("synthetic:3", &options).unwrap()
    };
    let shape = MeanShape::of(
        &open(Split::Train),
        recipe().scheme,
        CropRule::AroundFace { margin: 1.3 },
    )
    .unwrap();
    assert_eq!(shape.flat().len(), 136);
    assert!(shape.flat().iter().all(|value| (-0.5..1.5).contains(value)));
}
