//! Why a training cannot start or go on, and whose fault that is.

use crate::{
    model::ModelError,
    train::{
        checkpoint::CheckpointError,
        dataset::DatasetError,
        evaluate::EvaluateError,
        graph::GraphError,
        loader::LoaderError,
        recipe::RecipeError,
        report::ReportError,
        session::{SessionError, StartError},
        step::StepError,
    },
};
use std::path::PathBuf;

/// Why a training cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The recipe cannot be used.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A value of the recipe does not fit the model or the data.
    #[error("recipe: {field}: expected {expected}, found {found}")]
    Unsuitable {
        /// The field.
        field: &'static str,
        /// What fits.
        expected: String,
        /// What it says.
        found: String,
    },
    /// A data set cannot be used.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// There are no batches.
    #[error(transparent)]
    Loader(#[from] LoaderError),
    /// The model to start from cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A graph cannot be used.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The training step cannot be built.
    #[error(transparent)]
    Step(#[from] StepError),
    /// ONNX Runtime is missing or failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The training step does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Validation failed.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint is there already.
    #[error(
        "{path}: a training is there already; go on with `--resume {}`, or name another folder",
        path.parent().unwrap_or(path).display()
    )]
    AlreadyThere {
        /// The checkpoint.
        path: PathBuf,
    },
    /// The report cannot be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The output folder cannot be written.
    #[error("{path}: cannot write: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The loss is not a number any more.
    #[error(
        "the loss became {loss} (gradient norm {gradient_norm}) at step {step} (epoch {epoch}): lower `schedule.base_learning_rate` (now {learning_rate}) \
         or `optimizer.max_gradient_norm`; the checkpoint of the last complete epoch is kept"
    )]
    NotFinite {
        /// The loss.
        loss: f64,
        /// Norm of the gradient.
        gradient_norm: f64,
        /// The step, from 1.
        step: u64,
        /// The epoch, from 1.
        epoch: usize,
        /// The step's learning rate.
        learning_rate: f64,
    },
}

impl FitError {
    /// Whether arguments or input files are at fault, and not the run.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Loader(LoaderError::Worker { .. })
            | Self::Session(_)
            | Self::Start(StartError::Session(_))
            | Self::Report(_)
            | Self::Write { .. }
            | Self::NotFinite { .. }
            | Self::Checkpoint(CheckpointError::Write { .. }) => false,
            Self::Evaluate(error) => error.is_bad_input(),
            Self::Recipe(_)
            | Self::Unsuitable { .. }
            | Self::Dataset(_)
            | Self::Loader(_)
            | Self::Model(_)
            | Self::Graph(_)
            | Self::Step(_)
            | Self::Start(_)
            | Self::Checkpoint(_)
            | Self::AlreadyThere { .. } => true,
        }
    }
}
