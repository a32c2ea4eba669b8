//! What is measured of a training, and what it remembers between two looks.

use super::{Cause, Finding, ViewEvidence};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Everything that was measured at one moment. What was not measured is absent and accuses nobody.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evidence {
    /// When.
    pub moment: Moment,
    /// How the training is set.
    pub setting: Setting,
    /// The network's input values.
    pub input: Option<InputEvidence>,
    /// Boxes against points, in the labels.
    pub boxes: Option<BoxEvidence>,
    /// Crops against points, as augmented.
    pub views: Option<ViewEvidence>,
    /// Each ReLU, in the order of the network.
    pub relus: Vec<ReluEvidence>,
    /// Norm of the gradient of each weight with more than one axis, in the order of the network.
    pub gradients: Vec<(String, f64)>,
    /// What the network says of some training faces, in the form that training gives it.
    pub predictions: Option<PredictionEvidence>,
    /// The loss so far.
    pub loss: Option<LossEvidence>,
    /// The longest step so far over the length of the weights: `|w' - w| / |w|`, over all weights.
    pub relative_step: Option<f64>,
}

/// How far a training is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Moment {
    /// Steps done.
    pub steps: u64,
    /// Part of the training that is done, 0 to 1.
    pub share_done: f64,
    /// How often each training example has been drawn.
    pub passes: f64,
}

/// What of a recipe and its network matters to a diagnosis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Setting {
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Whether the optimiser divides by the size of past gradients, so that the loss's unit does not matter.
    pub adaptive: bool,
    /// Whether the landmarks' loss is a squared error.
    pub squared_error: bool,
    /// Factor of that loss.
    pub loss_coefficient: f64,
    /// Normalisation layers of the network.
    pub normalizations: usize,
}

/// Input values of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct InputEvidence {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
}

impl InputEvidence {
    /// Of all values of a batch; `None` when there are none.
    pub fn of(values: &[f32]) -> Option<Self> {
        let count = values.len() as f64;
        let sum = |each: &dyn Fn(f64) -> f64| values.iter().map(|&v| each(f64::from(v))).sum();
        let mean: f64 = {
            let sum: f64 = sum(&|v| v);
            sum / count
        };
        let squares: f64 = sum(&|v| (v - mean) * (v - mean));
        (count > 0.0).then(|| Self {
            mean,
            deviation: (squares / count).sqrt(),
        })
    }
}

/// Boxes against the points of their faces.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BoxEvidence {
    /// Faces looked at.
    pub faces: usize,
    /// Part of them with more than a fifth of their points beyond the box by more than a tenth of its edge.
    pub missed: f64,
}

/// What a ReLU did on a batch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReluEvidence {
    /// The layer before it.
    pub name: String,
    /// Its channels.
    pub channels: usize,
    /// Part of the channels that are 0 everywhere on every picture.
    pub dead: f64,
    /// Part of the mean square of its output that differs from picture to picture, 0 to 1.
    pub picture_share: f64,
}

/// What a network says of a batch of faces, in units of the crop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PredictionEvidence {
    /// Prediction variance ratio.
    pub variance_ratio: f64,
    /// Mean squared error of a coordinate.
    pub mse: f64,
    /// Mean squared error that the mean of the batch's labels has.
    pub mean_shape_mse: f64,
}

/// The loss of the steps so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LossEvidence {
    /// Mean of the first block of steps.
    pub first: f64,
    /// Lowest mean of a block.
    pub best: f64,
    /// Mean of the last block.
    pub last: f64,
}

/// What a training remembers of its steps for the next look; part of its progress, so that a resumed training says what
/// an uninterrupted one says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    /// Means of the first, the lowest and the last block of steps.
    pub first: Option<f64>,
    /// See `first`.
    pub best: Option<f64>,
    /// See `first`.
    pub last: Option<f64>,
    /// Sum of the losses of the block under way.
    pub block_sum: f64,
    /// Its steps.
    pub block_steps: u64,
    /// See [`Evidence::relative_step`].
    pub relative_step: Option<f64>,
    /// Whether the look after a third has been taken.
    pub third_seen: bool,
    /// What has been said.
    pub said: BTreeSet<Cause>,
    /// Findings that no epoch's record holds yet.
    pub pending: Vec<Finding>,
}

impl Memory {
    /// Takes note of a step's loss in a training of `total_steps`. A block is a tenth of them, but 20 at most.
    pub fn add_loss(&mut self, loss: f64, total_steps: u64) {
        self.block_sum += loss;
        self.block_steps += 1;
        if self.block_steps >= (total_steps / 10).clamp(1, 20) {
            let mean = self.block_sum / self.block_steps as f64;
            self.first.get_or_insert(mean);
            self.best = Some(self.best.map_or(mean, |best| best.min(mean)));
            self.last = Some(mean);
            (self.block_sum, self.block_steps) = (0.0, 0);
        }
    }

    /// Takes note of a step's length over the length of the weights.
    pub fn add_step(&mut self, relative: f64) {
        self.relative_step = Some(
            self.relative_step
                .map_or(relative, |longest| longest.max(relative)),
        );
    }

    /// The loss of the steps so far; `None` before the first block is full.
    pub fn loss(&self) -> Option<LossEvidence> {
        Some(LossEvidence {
            first: self.first?,
            best: self.best?,
            last: self.last?,
        })
    }
}
