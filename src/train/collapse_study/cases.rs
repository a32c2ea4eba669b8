//! The runs of the study: a sound one, each mistake alone, mistakes together, and the usual set of mistakes with one of
//! them repaired.

use super::net::{Initial, NetPlan};
use crate::{
    crop::Normalization,
    train::{
        augment::AugmentConfig,
        faults::{BoxFault, Faults, RotationFault},
        loss::LossKind,
        optimizer::{OptimizerConfig, OptimizerKind},
        recipe::{LossConfig, Recipe},
        schedule::{Decay, Schedule},
    },
};
use serde::{Deserialize, Serialize};

/// Kinds of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// Nothing is wrong.
    Sound,
    /// One thing is wrong.
    Alone,
    /// Several things are wrong.
    Together,
    /// The beginner's set of mistakes but for one.
    Repaired,
}

/// A run of the study.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub group: Group,
    /// What is wrong, in words.
    pub words: &'static str,
    /// What it changes in the sound plan.
    pub(super) change: fn(&mut Plan),
}

/// A recipe and its network.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) recipe: Recipe,
    pub(super) net: NetPlan,
    /// Batch and passes of a run that is counted in passes instead of steps.
    pub(super) passes: Option<f64>,
}

/// Validations of a run; an "epoch" of a recipe here is the stretch between two of them.
const STRETCHES: usize = 12;
/// Steps of a run that is not counted in passes.
const STEPS: usize = 600;

impl Plan {
    /// Nothing wrong: normalisation layers, centred inputs, AdamW with a decaying rate, a loss in units of the labels'
    /// variance, points that turn with the picture.
    pub(super) fn sound(data: &[String], seed: u64) -> Self {
        Self {
            recipe: Recipe {
                name: "collapse-study".to_owned(),
                training_data: data.join(", "),
                data: data
                    .iter()
                    .map(super::super::dataset::DataSource::new)
                    .collect(),
                validation_limit: 0,
                negative_share: 0.0,
                augment: AugmentConfig {
                    shift_sigma: 0.05,
                    scale_sigma: 0.05,
                    rotation_sigma_deg: 10.0,
                    rotation_limit_deg: 15.0,
                    ..AugmentConfig::NONE
                },
                loss: LossConfig {
                    landmarks: LossKind::Mse,
                    landmarks_coefficient: 200.0,
                    ..LossConfig::default()
                },
                optimizer: OptimizerConfig {
                    weight_decay: 0.0,
                    max_gradient_norm: None,
                    ema_alpha: None,
                    ..OptimizerConfig::default()
                },
                schedule: Schedule {
                    base_learning_rate: 1e-3,
                    warmup_steps: 20,
                    decay: Decay::Cosine {
                        final_fraction: 0.01,
                    },
                },
                batch: 32,
                epochs: STRETCHES,
                seed,
                ..Recipe::default()
            },
            net: NetPlan {
                normalized: true,
                initial: Initial::He,
                input: Normalization::SYMMETRIC,
                dead_relus: 0.0,
            },
            passes: None,
        }
    }

    /// Steps between two validations on `faces` training faces.
    pub(super) fn steps_per_stretch(&self, faces: usize, share_of_steps: f64) -> usize {
        let steps = match self.passes {
            Some(passes) => passes * faces as f64 / self.recipe.batch as f64,
            None => STEPS as f64,
        };
        ((share_of_steps * steps / STRETCHES as f64).round() as usize).max(1)
    }
}

fn tiny_labels(plan: &mut Plan) {
    plan.recipe.loss.landmarks_coefficient = 1.0;
}

fn plain_descent(plan: &mut Plan) {
    plan.recipe.optimizer.optimizer = OptimizerKind::Sgd {
        momentum: 0.9,
        nesterov: false,
    };
    plan.recipe.schedule.base_learning_rate = 1e-2;
}

fn inputs_from_zero(plan: &mut Plan) {
    plan.net.input = Normalization {
        scale: 1.0 / 255.0,
        zero_point: 0,
    };
}

fn inputs_as_bytes(plan: &mut Plan) {
    plan.net.input = Normalization {
        scale: 1.0,
        zero_point: 0,
    };
}

fn rate_high(plan: &mut Plan) {
    plan.recipe.schedule.base_learning_rate *= 50.0;
}

fn rate_low(plan: &mut Plan) {
    plan.recipe.schedule.base_learning_rate *= 0.01;
}

fn dead_relus(plan: &mut Plan) {
    plan.net.dead_relus = 0.97;
}

fn faults(plan: &mut Plan) -> &mut Faults {
    plan.recipe.faults.get_or_insert_default()
}

fn opposite_rotation(plan: &mut Plan) {
    faults(plan).rotation = Some(RotationFault::OppositeSense);
}

fn rotation_centers(plan: &mut Plan) {
    faults(plan).rotation = Some(RotationFault::OtherCenter);
}

fn displaced_boxes(plan: &mut Plan) {
    faults(plan).boxes = Some(BoxFault::Displaced);
}

fn crop_only_boxes(plan: &mut Plan) {
    faults(plan).boxes = Some(BoxFault::CropOnly);
}

fn one_pass(plan: &mut Plan) {
    plan.recipe.batch = 5;
    plan.passes = Some(1.0);
}

fn no_normalization(plan: &mut Plan) {
    plan.net.normalized = false;
}

fn small_weights(plan: &mut Plan) {
    no_normalization(plan);
    plan.net.initial = Initial::SmallUniform;
}

fn constant_rate(plan: &mut Plan) {
    plan.recipe.schedule = Schedule {
        base_learning_rate: 1e-3,
        warmup_steps: 0,
        decay: Decay::Constant,
    };
}

/// What a first solution of the exercise usually looks like.
fn usual(plan: &mut Plan) {
    constant_rate(plan);
    small_weights(plan);
    inputs_from_zero(plan);
    tiny_labels(plan);
    one_pass(plan);
}

const fn case(
    name: &'static str,
    group: Group,
    words: &'static str,
    change: fn(&mut Plan),
) -> Case {
    Case {
        name,
        group,
        words,
        change,
    }
}

/// Every run, in the order of the report.
pub const CASES: [Case; 30] = [
    case(
        "sound",
        Group::Sound,
        "nothing: normalisation layers, centred inputs, AdamW at 1e-3 with a falling rate, batch 32, a loss in units of the labels' variance, points turned with the picture",
        |_| {},
    ),
    case(
        "tiny-labels",
        Group::Alone,
        "the loss is the plain mean squared error in fractions of the crop: some 1e-3 for the mean face",
        tiny_labels,
    ),
    case(
        "tiny-labels-sgd",
        Group::Alone,
        "the same with plain gradient descent with momentum at 1e-2 instead of AdamW",
        |plan| {
            tiny_labels(plan);
            plain_descent(plan);
        },
    ),
    case(
        "sgd",
        Group::Sound,
        "nothing: plain gradient descent with momentum at 1e-2, with the loss in units of the labels' variance",
        plain_descent,
    ),
    case(
        "inputs-0-to-1",
        Group::Alone,
        "inputs from 0 to 1, not centred",
        inputs_from_zero,
    ),
    case(
        "inputs-bytes",
        Group::Alone,
        "inputs from 0 to 255, neither centred nor scaled",
        inputs_as_bytes,
    ),
    case(
        "rate-high",
        Group::Alone,
        "learning rate 0.05, fifty times too high",
        rate_high,
    ),
    case(
        "rate-low",
        Group::Alone,
        "learning rate 1e-5, a hundred times too low",
        rate_low,
    ),
    case(
        "dead-relus",
        Group::Alone,
        "97 % of the channels of every layer are dead from the start (biases far below 0)",
        dead_relus,
    ),
    case(
        "opposite-rotation",
        Group::Alone,
        "pictures and points are turned in opposite senses (up to 15 degrees)",
        opposite_rotation,
    ),
    case(
        "rotation-centers",
        Group::Alone,
        "pictures are turned about their middle, points about the corner",
        rotation_centers,
    ),
    case(
        "boxes-displaced",
        Group::Alone,
        "boxes beside the faces, in training and validation; points and crops agree",
        displaced_boxes,
    ),
    case(
        "boxes-crop-only",
        Group::Alone,
        "crops are cut by boxes beside the faces, points are put in by the true ones",
        crop_only_boxes,
    ),
    case(
        "one-pass-batch-5",
        Group::Alone,
        "one pass over the data at batch 5",
        one_pass,
    ),
    case(
        "no-normalization",
        Group::Alone,
        "no normalisation layers; weights after He et al.",
        no_normalization,
    ),
    case(
        "no-normalization-small-weights",
        Group::Alone,
        "no normalisation layers; weights as small as PyTorch draws them by default (uniform within 1/sqrt(inputs))",
        small_weights,
    ),
    case(
        "rate-high-no-normalization",
        Group::Together,
        "no normalisation layers, learning rate 1e-2",
        |plan| {
            small_weights(plan);
            plan.recipe.schedule.base_learning_rate = 1e-2;
        },
    ),
    case(
        "rate-low-no-normalization",
        Group::Together,
        "no normalisation layers, small weights, learning rate 1e-5",
        |plan| {
            small_weights(plan);
            rate_low(plan);
        },
    ),
    case(
        "bytes-no-normalization",
        Group::Together,
        "no normalisation layers, inputs from 0 to 255",
        |plan| {
            no_normalization(plan);
            inputs_as_bytes(plan);
        },
    ),
    case(
        "one-pass-opposite-rotation",
        Group::Together,
        "one pass at batch 5, pictures and points turned in opposite senses",
        |plan| {
            one_pass(plan);
            opposite_rotation(plan);
        },
    ),
    case(
        "usual",
        Group::Together,
        "a usual first solution: no normalisation layers, small weights, inputs from 0 to 1, plain mean squared error, Adam at a constant 1e-3, one pass at batch 5",
        usual,
    ),
    case(
        "usual-rate-high",
        Group::Together,
        "the usual first solution at learning rate 1e-2",
        |plan| {
            usual(plan);
            plan.recipe.schedule.base_learning_rate = 1e-2;
        },
    ),
    case(
        "usual-opposite-rotation",
        Group::Together,
        "the usual first solution with opposite rotation",
        |plan| {
            usual(plan);
            opposite_rotation(plan);
        },
    ),
    case(
        "usual-boxes-crop-only",
        Group::Together,
        "the usual first solution with crops from wrong boxes",
        |plan| {
            usual(plan);
            crop_only_boxes(plan);
        },
    ),
    case(
        "usual-normalized",
        Group::Repaired,
        "the usual first solution with normalisation layers",
        |plan| {
            usual(plan);
            plan.net.normalized = true;
        },
    ),
    case(
        "usual-he-weights",
        Group::Repaired,
        "the usual first solution with weights after He et al.",
        |plan| {
            usual(plan);
            plan.net.initial = Initial::He;
        },
    ),
    case(
        "usual-centered",
        Group::Repaired,
        "the usual first solution with centred inputs",
        |plan| {
            usual(plan);
            plan.net.input = Normalization::SYMMETRIC;
        },
    ),
    case(
        "usual-scaled-labels",
        Group::Repaired,
        "the usual first solution with the loss in units of the labels' variance",
        |plan| {
            usual(plan);
            plan.recipe.loss.landmarks_coefficient = 200.0;
        },
    ),
    case(
        "usual-batch-32",
        Group::Repaired,
        "the usual first solution with batch 32 and 600 steps",
        |plan| {
            usual(plan);
            plan.recipe.batch = 32;
            plan.passes = None;
        },
    ),
    case(
        "usual-rate-high-normalized",
        Group::Repaired,
        "the usual first solution at learning rate 1e-2, with normalisation layers",
        |plan| {
            usual(plan);
            plan.recipe.schedule.base_learning_rate = 1e-2;
            plan.net.normalized = true;
        },
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_run_has_a_name_of_its_own_and_a_valid_recipe() {
        let names: BTreeSet<&str> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len());
        for case in CASES {
            let mut plan = Plan::sound(&["synthetic:1".to_owned()], 1);
            (case.change)(&mut plan);
            plan.recipe
                .check()
                .unwrap_or_else(|error| panic!("{}: {error}", case.name));
        }
    }

    #[test]
    fn a_pass_is_counted_in_faces() {
        let mut plan = Plan::sound(&[], 1);
        assert_eq!(plan.steps_per_stretch(1657, 1.0), STEPS / STRETCHES);
        one_pass(&mut plan);
        let steps = STRETCHES * plan.steps_per_stretch(1657, 1.0);
        assert!((5 * steps).abs_diff(1657) < 5 * STRETCHES, "{steps}");
    }
}
