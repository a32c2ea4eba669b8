//! Faults planted in short trainings on drawn faces: each is called by its name, and a sound training is not accused.

use facemark::{
    crop::Normalization,
    model::ModelCard,
    scheme::Scheme,
    train::{
        augment::AugmentConfig,
        dataset::DataSource,
        faults::{BoxFault, Faults, RotationFault},
        fit::{Cause, Event, Finding, FitOptions, LOG, Start, fit},
        graph::TensorData,
        loss::LossKind,
        nn::Architecture,
        optimizer::{OptimizerConfig, OptimizerKind},
        recipe::{LossConfig, Recipe},
        schedule::{Decay, Schedule},
        session::{Device, load_library},
    },
};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

/// A short sound training.
fn sound() -> Recipe {
    Recipe {
        architecture: "tiny-landmarks".to_owned(),
        data: vec![DataSource::new("synthetic:3")],
        validation_limit: 20,
        negative_share: 0.0,
        batch: 16,
        epochs: 3,
        steps_per_epoch: 30,
        seed: 2,
        augment: AugmentConfig {
            shift_sigma: 0.03,
            rotation_sigma_deg: 12.0,
            rotation_limit_deg: 20.0,
            flip_probability: 0.5,
            ..AugmentConfig::NONE
        },
        schedule: Schedule {
            base_learning_rate: 0.01,
            warmup_steps: 5,
            decay: Decay::Cosine {
                final_fraction: 0.1,
            },
        },
        optimizer: OptimizerConfig {
            ema_alpha: None,
            ..OptimizerConfig::default()
        },
        ..Recipe::default()
    }
}

fn findings(recipe: &Recipe, output: &Path) -> Vec<Finding> {
    load_library(None).expect("`scripts/fetch-onnxruntime.sh` fetches the library");
    let mut found = Vec::new();
    let options = FitOptions {
        output: output.to_owned(),
        device: Device::Cpu,
        threads: 2,
        loader_threads: 2,
        sitting_epochs: None,
        report: false,
        stop: Arc::new(AtomicBool::new(false)),
    };
    let outcome = fit(
        Start::New(Box::new(recipe.clone())),
        &options,
        &mut |event| {
            if let Event::Diagnosis { findings, .. } = event {
                found.extend_from_slice(findings);
            }
        },
    )
    .unwrap();
    let recorded: Vec<Finding> = outcome
        .progress
        .history
        .into_iter()
        .flat_map(|record| record.findings)
        .collect();
    assert_eq!(recorded, found, "the history holds what was said");
    found
}

fn causes(found: &[Finding]) -> BTreeSet<Cause> {
    let causes: BTreeSet<Cause> = found.iter().map(|finding| finding.cause).collect();
    assert_eq!(causes.len(), found.len(), "said once: {found:?}");
    causes
}

/// Makes `recipe` start from its architecture with a changed card and changed constants.
fn changed_model(
    recipe: &mut Recipe,
    folder: &Path,
    card: impl FnOnce(&mut ModelCard),
    weights: impl Fn(&str, &mut [f32]),
) {
    let architecture = Architecture::TinyLandmarks;
    let mut own = architecture.card("changed", Scheme::Ibug68, recipe.crop_margin);
    card(&mut own);
    let mut graph = architecture.build(&own, recipe.seed).unwrap();
    for (name, tensor) in &mut graph.initializers {
        if let TensorData::F32(values) = &mut tensor.data {
            weights(name, values);
        }
    }
    let path = folder.join("changed.onnx");
    std::fs::write(&path, graph.to_onnx()).unwrap();
    recipe.init = Some(path);
}

#[test]
fn a_sound_training_is_not_accused() {
    let folder = tempfile::tempdir().unwrap();
    let long_enough = Recipe {
        steps_per_epoch: 110,
        ..sound()
    };
    let found = findings(&long_enough, folder.path());
    assert_eq!(found, [], "a sound training");
    let log = std::fs::read_to_string(folder.path().join(LOG)).unwrap();
    // Before the first step and after each of three epochs.
    assert_eq!(log.matches("\"kind\":\"diagnosis\"").count(), 4, "{log}");
}

#[test]
fn faults_of_data_are_called_by_name() {
    // What is wrong with the data shows before the first step: one step is enough.
    let short = Recipe {
        epochs: 1,
        steps_per_epoch: 1,
        ..sound()
    };
    let with = |faults: Faults| Recipe {
        faults: Some(faults),
        ..short.clone()
    };
    let rotation = |fault| {
        with(Faults {
            rotation: Some(fault),
            ..Faults::default()
        })
    };
    let boxes = |fault| {
        with(Faults {
            boxes: Some(fault),
            ..Faults::default()
        })
    };
    let spill = Recipe {
        crop_margin: 0.6,
        ..short.clone()
    };
    for (recipe, expected) in [
        (
            rotation(RotationFault::OppositeSense),
            Cause::OppositeRotation,
        ),
        (rotation(RotationFault::OtherCenter), Cause::RotationCenters),
        (boxes(BoxFault::Displaced), Cause::WrongBoxes),
        (boxes(BoxFault::CropOnly), Cause::WrongBoxes),
        (spill, Cause::PointsOutsideCrop),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let found = findings(&recipe, folder.path());
        let causes = causes(&found);
        assert!(causes.contains(&expected), "{expected:?}: {found:?}");
        let mut others = causes;
        others.remove(&expected);
        // Displaced boxes leave points outside of the crop, too; and one step teaches nothing.
        others.remove(&Cause::PointsOutsideCrop);
        others.remove(&Cause::TooFewSteps);
        assert!(others.is_empty(), "{expected:?}: {found:?}");
    }
}

#[test]
fn faults_of_inputs_and_activations_are_called_by_name() {
    let short = Recipe {
        epochs: 1,
        steps_per_epoch: 1,
        ..sound()
    };
    let normalization = |scale, zero_point| {
        move |card: &mut ModelCard| card.normalization = Normalization { scale, zero_point }
    };
    let folder = tempfile::tempdir().unwrap();
    let mut from_zero = short.clone();
    changed_model(
        &mut from_zero,
        folder.path(),
        normalization(1.0 / 255.0, 0),
        |_, _| {},
    );
    let found = causes(&findings(&from_zero, &folder.path().join("from-zero")));
    assert!(found.contains(&Cause::InputsNotCentered), "{found:?}");

    let mut bytes = short.clone();
    changed_model(&mut bytes, folder.path(), normalization(1.0, 0), |_, _| {});
    let found = causes(&findings(&bytes, &folder.path().join("bytes")));
    assert!(found.contains(&Cause::InputsNotScaled), "{found:?}");

    let mut dead = short;
    changed_model(
        &mut dead,
        folder.path(),
        |_| {},
        |name, values| {
            if name == "stem.bn.bias" {
                values.fill(-50.0);
            }
        },
    );
    let found = findings(&dead, &folder.path().join("dead"));
    let words = &found
        .iter()
        .find(|finding| finding.cause == Cause::DeadRelus)
        .unwrap()
        .words;
    assert!(
        words.contains("100 % of the channels after stem"),
        "{words}"
    );
}

#[test]
fn faults_of_the_optimisation_are_called_by_name() {
    let high = Recipe {
        schedule: Schedule {
            base_learning_rate: 0.5,
            warmup_steps: 0,
            decay: Decay::Constant,
        },
        optimizer: OptimizerConfig {
            weight_decay: 0.0,
            ..sound().optimizer
        },
        ..sound()
    };
    let low = Recipe {
        schedule: Schedule {
            base_learning_rate: 1e-6,
            ..sound().schedule
        },
        ..sound()
    };
    let few = Recipe {
        epochs: 1,
        steps_per_epoch: 4,
        ..sound()
    };
    let tiny = Recipe {
        loss: LossConfig {
            landmarks: LossKind::Mse,
            landmarks_coefficient: 1.0,
            presence_coefficient: 0.0,
            ..LossConfig::default()
        },
        optimizer: OptimizerConfig {
            optimizer: OptimizerKind::Sgd {
                momentum: 0.9,
                nesterov: false,
            },
            weight_decay: 0.0,
            ..sound().optimizer
        },
        ..sound()
    };
    for (name, recipe, expected) in [
        ("high", high, Cause::LearningRateTooHigh),
        ("low", low, Cause::LearningRateTooLow),
        ("few", few, Cause::TooFewSteps),
        ("tiny", tiny, Cause::TinyLabels),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let found = findings(&recipe, folder.path());
        assert!(causes(&found).contains(&expected), "{name}: {found:?}");
    }
}

#[test]
fn a_signal_that_fades_from_layer_to_layer_is_called_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut faded = Recipe {
        schedule: Schedule {
            base_learning_rate: 1e-6,
            ..sound().schedule
        },
        ..sound()
    };
    // A scale of almost nothing and a bias: what comes after no longer depends on the picture.
    changed_model(
        &mut faded,
        folder.path(),
        |_| {},
        |name, values| {
            if name == "landmarks.squeeze.bn.scale" {
                values.fill(1e-4);
            } else if name == "landmarks.squeeze.bn.bias" {
                values.fill(1.0);
            }
        },
    );
    let found = findings(&faded, &folder.path().join("run"));
    assert!(
        causes(&found).contains(&Cause::VanishingSignal),
        "{found:?}"
    );
}
