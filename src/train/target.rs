//! From augmented crops and labels to the named tensors of a training step.

use std::collections::BTreeMap;

/// A tensor of a batch, row by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchTensor {
    /// Shape; the first axis is the batch.
    pub shape: Vec<usize>,
    /// Values.
    pub values: Vec<f32>,
}

/// The inputs of one training step.
///
/// `image` `[N, C, H, W]` and, for landmarks: `landmarks_target` `[N, 2n]`, `landmarks_weight` `[N, 1]` (0 for
/// negatives, else the set's weight), `presence_target` `[N, 1]`, `presence_weight` `[N, 1]`; for detection and each
/// stride S: `score_target_S` `[N, 1, h, w]`, `score_weight_S` (0: ignored), `box_target_S` `[N, 4, h, w]` and
/// `box_weight_S` `[N, 1, h, w]` (1 at positive cells).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Index within the epoch, from 0.
    pub index: usize,
    /// The tensors by name.
    pub tensors: BTreeMap<String, BatchTensor>,
}
