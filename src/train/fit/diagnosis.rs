//! What is likely wrong with a training: from measured evidence to findings in words. This file only decides; what
//! measures is in its modules, and `watch` says when.

mod evidence;
mod network;
mod views;
pub(super) mod watch;

pub use evidence::{
    BoxEvidence, Evidence, InputEvidence, LossEvidence, Memory, Moment, PredictionEvidence,
    ReluEvidence, Setting,
};
pub use views::ViewEvidence;

use serde::{Deserialize, Serialize};

/// What goes wrong in trainings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Input values lie on one side of 0.
    InputsNotCentered,
    /// Input values are far too large or all but constant.
    InputsNotScaled,
    /// Face boxes do not hold the points of their faces.
    WrongBoxes,
    /// Crops and points do not belong together, in no way that has a name of its own.
    PointsOffFace,
    /// Augmentation leaves many points outside of the crop.
    PointsOutsideCrop,
    /// Picture and points are turned in opposite senses.
    OppositeRotation,
    /// Picture and points are turned about different centres.
    RotationCenters,
    /// Most channels of a layer answer 0 to every picture.
    DeadRelus,
    /// Hardly anything of what the last hidden layer says depends on the picture.
    VanishingSignal,
    /// Steps are so large that the loss rises or stays.
    LearningRateTooHigh,
    /// Steps are so small that the weights hardly move.
    LearningRateTooLow,
    /// A squared error of labels that vary little gives plain gradient descent next to nothing to go by.
    TinyLabels,
    /// The training ended before it could learn faces.
    TooFewSteps,
}

impl Cause {
    /// The name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InputsNotCentered => "inputs-not-centered",
            Self::InputsNotScaled => "inputs-not-scaled",
            Self::WrongBoxes => "wrong-boxes",
            Self::PointsOffFace => "points-off-face",
            Self::PointsOutsideCrop => "points-outside-crop",
            Self::OppositeRotation => "opposite-rotation",
            Self::RotationCenters => "rotation-centers",
            Self::DeadRelus => "dead-relus",
            Self::VanishingSignal => "vanishing-signal",
            Self::LearningRateTooHigh => "learning-rate-too-high",
            Self::LearningRateTooLow => "learning-rate-too-low",
            Self::TinyLabels => "tiny-labels",
            Self::TooFewSteps => "too-few-steps",
        }
    }
}

/// A likely cause with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// What it is.
    pub cause: Cause,
    /// What was measured, what that means and what to do.
    pub words: String,
}

/// Input mean over deviation beyond which inputs count as not centred: bytes taken as 0 to 1 have about 2, dark or
/// bright sets of centred bytes stay below 1.
const OFF_CENTER: f64 = 1.3;
/// Deviations of inputs that networks are made for.
const INPUT_DEVIATION: std::ops::RangeInclusive<f64> = 0.02..=8.0;
/// Part of the faces whose boxes may miss them.
const BOXES_MISSED: f64 = 0.1;
/// Part of the points that may lie outside of the crop.
const POINTS_OUTSIDE: f64 = 0.25;
/// Correlation of the patches around a point in the picture and in the crop when they show the same.
const SAME_PATCH: f64 = 0.6;
/// By how much another hypothesis must fit better than the labels.
const BETTER: f64 = 0.12;
/// Distance of points that were mapped back from their labels, in sides of the crop.
const ROUND_TRIP: f64 = 0.01;
/// Part of a layer's channels, and of all channels, from which on they are too many dead ones: a wide layer learns well with
/// a seventh of its channels.
const DEAD_LAYER: f64 = 0.95;
const DEAD_ALL: f64 = 0.5;
/// Part of the last hidden layer that depends on the picture below which the signal is lost.
const PICTURE_SHARE: f64 = 0.01;
/// Part of the labels' variance that predictions must explain not to count as the mean face.
const EXPLAINED: f64 = 0.2;
/// Relative steps that are too long or too short.
const LONG_STEP: f64 = 0.05;
const SHORT_STEP: f64 = 1e-3;
/// Passes over the data, and steps, below which a training that says the mean face has just ended too early.
const FEW_PASSES: f64 = 3.0;
const FEW_STEPS: u64 = 500;

/// The likely causes that the evidence shows, the surest first.
///
/// What is wrong with data, inputs and activations is said at once. What is only wrong when nothing is learnt (steps,
/// signal, the unit of the loss) is said when a third of the training is done and the network still answers every
/// face with nearly the mean face; a rising loss is said when it rises.
pub fn diagnose(evidence: &Evidence) -> Vec<Finding> {
    let mut found = Vec::new();
    inputs(evidence, &mut found);
    boxes(evidence, &mut found);
    views(evidence, &mut found);
    dead_relus(evidence, &mut found);
    divergence(evidence, &mut found);
    mean_face(evidence, &mut found);
    found
}

fn inputs(evidence: &Evidence, found: &mut Vec<Finding>) {
    let Some(InputEvidence { mean, deviation }) = evidence.input else {
        return;
    };
    if !INPUT_DEVIATION.contains(&deviation) {
        add(
            found,
            Cause::InputsNotScaled,
            format!(
                "the input values have a standard deviation of {deviation:.3} (mean {mean:.2}); networks are drawn for one near \
             1. Check the model card's input_scale"
            ),
        );
    }
    if mean.abs() > OFF_CENTER * deviation {
        add(
            found,
            Cause::InputsNotCentered,
            format!(
                "the input values are not centred: mean {mean:.2}, standard deviation {deviation:.2}. All weights of a first-layer \
             filter are then pushed the same way at once. Check the model card's input_zero_point"
            ),
        );
    }
}

fn boxes(evidence: &Evidence, found: &mut Vec<Finding>) {
    if let Some(BoxEvidence { faces, missed }) = evidence.boxes
        && missed > BOXES_MISSED
    {
        add(
            found,
            Cause::WrongBoxes,
            format!(
                "{:.0} % of {faces} face boxes do not hold the points of their face, so that crops show half a face or none. Check \
             the boxes' columns (x, y, width, height) and that they belong to these pictures and sizes",
                100.0 * missed
            ),
        );
    }
}

fn views(evidence: &Evidence, found: &mut Vec<Finding>) {
    let Some(views) = &evidence.views else {
        return;
    };
    if views.outside > POINTS_OUTSIDE {
        add(
            found,
            Cause::PointsOutsideCrop,
            format!(
                "{:.0} % of the augmented points lie outside of the crop. Check crop_margin, shift and scale of the augmentation, \
             and the boxes",
                100.0 * views.outside
            ),
        );
    }
    let back = if views.round_trip > ROUND_TRIP {
        format!(
            "; mapped back to the picture, the points are {:.1} % of the crop's side from their labels",
            100.0 * views.round_trip
        )
    } else {
        String::new()
    };
    if let Some(turned) = &views.turned
        && turned.reversed > SAME_PATCH
        && turned.reversed > turned.labelled + BETTER
    {
        add(
            found,
            Cause::OppositeRotation,
            format!(
                "picture and points are turned in opposite senses: what is around the points in {} turned crops looks like the \
             picture around the labels (correlation {:.2}) only when the points are turned the other way, else {:.2}{back}. \
             Check the sign of the angle",
                turned.faces, turned.reversed, turned.labelled
            ),
        );
        return;
    }
    let Some(correlation) = views.correlation else {
        if !back.is_empty() {
            add(
                found,
                Cause::PointsOffFace,
                format!(
                    "the augmented points do not sit on the face{back}. Check how pictures and points are transformed"
                ),
            );
        }
        return;
    };
    if correlation >= SAME_PATCH && back.is_empty() {
        return;
    }
    let shifted = views
        .shifted
        .filter(|shifted| shifted.correlation > shifted.unshifted + BETTER / 2.0);
    match shifted {
        Some(shifted) if shifted.follows_turn > 0.6 => add(
            found,
            Cause::RotationCenters,
            format!(
                "picture and points are turned about different centres: what is around the points in the crop does not look like \
             the picture around the labels (correlation {correlation:.2}); it does (whole crop {:.2} instead of {:.2}) when \
             the points are moved by {:.0} % of the crop's side, the further the more the crop is turned{back}",
                shifted.correlation,
                shifted.unshifted,
                100.0 * shifted.distance
            ),
        ),
        Some(shifted) => add(
            found,
            Cause::WrongBoxes,
            format!(
                "crops are cut elsewhere than their points say: what is around the points in the crop does not look like the \
             picture around the labels (correlation {correlation:.2}); it does (whole crop {:.2} instead of {:.2}) when the \
             points are moved by {:.0} % of the crop's side, whatever the turn{back}. Check that picture and points are cut by \
             the same box",
                shifted.correlation,
                shifted.unshifted,
                100.0 * shifted.distance
            ),
        ),
        None => add(
            found,
            Cause::PointsOffFace,
            format!(
                "the augmented points do not sit on the face: what is around them in the crop does not look like the picture around \
             the labels (correlation {correlation:.2}){back}. Check that picture and points are transformed alike and belong to \
             the same record"
            ),
        ),
    }
}

fn dead_relus(evidence: &Evidence, found: &mut Vec<Finding>) {
    let channels: usize = evidence.relus.iter().map(|relu| relu.channels).sum();
    let dead = |relu: &ReluEvidence| relu.dead * relu.channels as f64;
    // The first of equals: what is dead kills what follows.
    let Some(worst) = evidence
        .relus
        .iter()
        .rev()
        .max_by(|a, b| a.dead.total_cmp(&b.dead))
    else {
        return;
    };
    let all = evidence.relus.iter().map(dead).sum::<f64>() / channels.max(1) as f64;
    if worst.dead < DEAD_LAYER && all < DEAD_ALL {
        return;
    }
    let long_steps = match evidence.relative_step {
        Some(step) if step > LONG_STEP => format!(
            ". A step moves the weights by {:.0} % of their length: the learning rate has likely killed them",
            100.0 * step
        ),
        _ => String::new(),
    };
    add(
        found,
        Cause::DeadRelus,
        format!(
            "dead ReLUs: {:.0} % of the channels after {} and {:.0} % of all channels are 0 on every picture, and no gradient reaches \
         what feeds them{long_steps}. Lower the learning rate, centre the inputs, check the biases, or add normalisation layers",
            100.0 * worst.dead,
            worst.name,
            100.0 * all
        ),
    );
}

fn divergence(evidence: &Evidence, found: &mut Vec<Finding>) {
    let (Some(loss), Some(step)) = (evidence.loss, evidence.relative_step) else {
        return;
    };
    // Losses with a likelihood in them go below 0: rises are measured by how far the loss had come, and by its size.
    let rises = loss.last - loss.best > 0.5 * (loss.first - loss.best).max(loss.best.abs())
        || !loss.last.is_finite();
    let stays = mean_face_said(evidence) && evidence.moment.share_done >= 1.0 / 3.0;
    if step > LONG_STEP && (rises || stays) {
        add(
            found,
            Cause::LearningRateTooHigh,
            format!(
                "the learning rate is too high: one step moves the weights by {:.0} % of their length (usual: 0.1 to 2 %), and the \
             loss went from {:.3e} to {:.3e} with a low of {:.3e}. Lower base_learning_rate ({}) ten times or more",
                100.0 * step,
                loss.first,
                loss.last,
                loss.best,
                evidence.setting.learning_rate
            ),
        );
    }
}

/// Whether the network answers with nearly the mean face.
fn mean_face_said(evidence: &Evidence) -> bool {
    evidence.predictions.is_some_and(|predictions| {
        predictions.mse >= (1.0 - EXPLAINED) * predictions.mean_shape_mse
    })
}

fn mean_face(evidence: &Evidence, found: &mut Vec<Finding>) {
    let Some(predictions) = evidence.predictions else {
        return;
    };
    if evidence.moment.share_done < 1.0 / 3.0 || !mean_face_said(evidence) {
        return;
    }
    let compared = match predictions.mse / predictions.mean_shape_mse {
        ratio if ratio > 1.3 => "is above that of the mean face",
        _ => "is about that of the mean face",
    };
    let said = format!(
        "the predictions vary {:.3} times as much as the labels, and their squared error ({:.2e}) {compared} ({:.2e})",
        predictions.variance_ratio, predictions.mse, predictions.mean_shape_mse
    );
    if let Some(last) = evidence.relus.last()
        && last.picture_share < PICTURE_SHARE
        && !has(found, Cause::DeadRelus)
    {
        let layers = match evidence.setting.normalizations {
            0 => {
                "The network has no normalisation layers: add them, or draw larger weights (He et al. 2015)"
            }
            _ => "Draw larger weights, or check the layers before it",
        };
        add(
            found,
            Cause::VanishingSignal,
            format!(
                "the picture is lost on the way: only {:.2e} of the mean square of what {} says differs from picture to picture{}; {said}. {layers}",
                last.picture_share,
                last.name,
                gradient_words(evidence)
            ),
        );
    }
    let Setting {
        adaptive,
        squared_error,
        loss_coefficient,
        ..
    } = evidence.setting;
    if squared_error && !adaptive && loss_coefficient * predictions.mean_shape_mse < 0.1 {
        add(
            found,
            Cause::TinyLabels,
            format!(
                "a loss of {:.1e} looks small and is not: the labels vary by only {:.3} (standard deviation, in crops), so that \
             always answering the mean face scores {:.1e}; {said}. Plain gradient descent takes steps as small as this loss: scale \
             the loss (loss.landmarks_coefficient) by about {:.0}, or use AdamW",
                loss_coefficient * predictions.mse,
                predictions.mean_shape_mse.sqrt(),
                loss_coefficient * predictions.mean_shape_mse,
                (1.0 / predictions.mean_shape_mse).round()
            ),
        );
    }
    // Inputs that are not centred slow a training down; alone they rarely are why nothing is learnt.
    let minor = |finding: &Finding| {
        matches!(
            finding.cause,
            Cause::InputsNotCentered | Cause::InputsNotScaled
        )
    };
    if !found.iter().all(minor) {
        return;
    }
    let Moment {
        steps,
        share_done,
        passes,
    } = evidence.moment;
    if let Some(step) = evidence.relative_step
        && step < SHORT_STEP
    {
        add(
            found,
            Cause::LearningRateTooLow,
            format!(
                "the learning rate is too low: one step moves the weights by {step:.1e} of their length (usual: 1e-3 to \
                 2e-2){}; {said}. Raise base_learning_rate ({}) ten times or more",
                gradient_words(evidence),
                evidence.setting.learning_rate
            ),
        );
    } else if share_done >= 1.0 && (passes < FEW_PASSES || steps < FEW_STEPS) {
        add(
            found,
            Cause::TooFewSteps,
            format!(
                "the training ended after {steps} steps, with each face shown {passes:.1} times: too few \
                 to learn more than the mean face; {said}. Train longer"
            ),
        );
    }
}

/// How gradients compare between the network's ends.
fn gradient_words(evidence: &Evidence) -> String {
    match (evidence.gradients.first(), evidence.gradients.last()) {
        (Some((first, a)), Some((last, b))) if first != last => {
            format!(" (gradient norm {a:.1e} at {first}, {b:.1e} at {last})")
        }
        _ => String::new(),
    }
}

fn add(found: &mut Vec<Finding>, cause: Cause, words: String) {
    if !has(found, cause) {
        found.push(Finding { cause, words });
    }
}

fn has(found: &[Finding], cause: Cause) -> bool {
    found.iter().any(|finding| finding.cause == cause)
}

#[cfg(test)]
mod tests;
