//! Accuracy of the runtime's own path on a labelled folder: pictures through [`crate::picture`], crops and networks as
//! in the live program, errors as in [`crate::metrics`]. A damaged picture or label is counted, named and skipped.

mod detection;
mod landmarks;
mod records;

pub use detection::{DetectionFigures, DetectionReport, Judge, evaluate_detector};
pub use landmarks::{FOUND_IOU, FaceBoxes, LandmarkReport, evaluate_landmarks};
pub use records::{Damaged, LabelledFolder};

use crate::{annotation::Split, model::InferError, scheme::Scheme};
use std::path::PathBuf;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// The labels cannot be read.
    #[error("{path}: cannot read the labels: {source}")]
    Labels {
        /// The annotation file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No record of the split is left.
    #[error(
        "{path}: expected records of split {}, found none among {lines} lines ({damaged} damaged){}",
        split.name(),
        first.as_ref().map_or(String::new(), |damaged| format!("; the first damaged one: {damaged}"))
    )]
    NoRecords {
        /// The annotation file.
        path: PathBuf,
        /// The split that was asked for.
        split: Split,
        /// Lines in the file.
        lines: usize,
        /// Lines that are no record.
        damaged: usize,
        /// One of them.
        first: Option<Damaged>,
    },
    /// The labels are of another landmark scheme than the model.
    #[error("{path}: expected labels of the model's scheme {expected}, found {found} only")]
    OtherScheme {
        /// The annotation file.
        path: PathBuf,
        /// The model's scheme.
        expected: Scheme,
        /// The labels'.
        found: Scheme,
    },
    /// No picture could be used.
    #[error("{path}: no usable picture among {pictures}; the first damaged one: {first}")]
    NoPicture {
        /// The folder.
        path: PathBuf,
        /// Pictures that the labels name.
        pictures: usize,
        /// One of the damaged ones.
        first: Damaged,
    },
    /// A network failed.
    #[error(transparent)]
    Infer(#[from] InferError),
}
