//! What batches a loader makes.

use crate::{
    crop::{Color, Normalization},
    model::Task,
    train::{augment::AugmentConfig, faults::Faults},
};

/// What batches to make.
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Examples a batch.
    pub batch: usize,
    /// Batches an epoch; `None`: as many whole batches as the data set has examples, at least one.
    pub batches_per_epoch: Option<usize>,
    /// Seed of the order and of every augmentation.
    pub seed: u64,
    /// Worker threads; 0: one a core.
    pub threads: usize,
    /// Batches that may be ready before they are asked for, at least 1.
    pub ahead: usize,
    /// What the network is for: decides crops and targets.
    pub task: Task,
    /// Width of the network's input.
    pub input_width: usize,
    /// Height of the network's input.
    pub input_height: usize,
    /// Colour of the network's input.
    pub color: Color,
    /// How a byte becomes an input value.
    pub normalization: Normalization,
    /// Part of the landmark crops that show no face, or none in its place. Detection takes its negatives from the data
    /// set itself.
    pub negative_share: f32,
    /// Strengths of the augmentation.
    pub augment: AugmentConfig,
    /// Mistakes made on purpose.
    pub faults: Faults,
    /// Batch to begin with, as (epoch, index): a resumed training continues where it stopped.
    pub start: (usize, usize),
}

impl LoaderConfig {
    /// The usual choices for a task: [`AugmentConfig::default`], colour, bytes around 128, a tenth of negatives, one
    /// thread a core, four batches ahead.
    pub fn new(task: Task, input_width: usize, input_height: usize, batch: usize) -> Self {
        Self {
            batch,
            batches_per_epoch: None,
            seed: 0,
            threads: 0,
            ahead: 4,
            task,
            input_width,
            input_height,
            color: Color::Rgb,
            normalization: Normalization::SYMMETRIC,
            negative_share: 0.1,
            augment: AugmentConfig::default(),
            faults: Faults::default(),
            start: (0, 0),
        }
    }
}
