//! What can go wrong with a quantisation.

use crate::train::{graph::GraphError, session::SessionError};

/// Why a graph cannot be quantised.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The ends of a range cannot be used.
    #[error("a range from {min} to {max}: expected finite ends in this order")]
    BadRange {
        /// Its lower end.
        min: f32,
        /// Its upper end.
        max: f32,
    },
    /// A stored scale or zero point does not follow from its range.
    #[error(
        "the range from {min} to {max}: expected scale and zero point {expected}, found {found}"
    )]
    InconsistentRange {
        /// Its lower end.
        min: f32,
        /// Its upper end.
        max: f32,
        /// What follows from the ends.
        expected: String,
        /// What is stored.
        found: String,
    },
    /// The graph is quantised already.
    #[error("the model is quantised already: node {node:?} is a {operator}")]
    AlreadyQuantized {
        /// The node.
        node: String,
        /// Its operator.
        operator: String,
    },
    /// The ranges are not those of this graph and these options.
    #[error("the ranges are not of this model: {reason}")]
    OtherRanges {
        /// What does not fit.
        reason: String,
    },
    /// A node that is to stay float is not there.
    #[error("no node and no output is called {name:?}; for instance there is {example:?}")]
    UnknownNode {
        /// The name given.
        name: String,
        /// A name that there is.
        example: String,
    },
    /// The graph has nothing that can be computed on bytes.
    #[error("the model has nothing to quantise: no Conv, Gemm or MatMul with a constant weight")]
    NothingToQuantize,
    /// A weight or bias is not a finite number.
    #[error("weight or bias {name:?} holds {value}, which is not a finite number")]
    BadWeight {
        /// The constant.
        name: String,
        /// The value.
        value: f32,
    },
    /// There is nothing to calibrate on.
    #[error("no picture to calibrate on: expected at least one that can be read")]
    NoPictures,
    /// The method is not one of calibration.
    #[error(
        "ranges by training are not measured on pictures: expected minmax, percentile, entropy or mse; a          quantisation-aware training's ranges come from `facemark-train export --ranges FILE`"
    )]
    NotMeasured,
    /// The graph has not one input.
    #[error("expected a model with one input, found {found}")]
    Inputs {
        /// Number of inputs.
        found: usize,
    },
    /// A value of the float graph is not a number.
    #[error("value {value:?} of the float model is {found} on a calibration picture")]
    NotFinite {
        /// The value.
        value: String,
        /// What it holds.
        found: f32,
    },
    /// The caller ended it.
    #[error("interrupted")]
    Interrupted,
    /// ONNX Runtime is missing or failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The graph cannot be built.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl QuantizeError {
    /// Whether arguments or input files are at fault, and not the run.
    pub fn is_bad_input(&self) -> bool {
        !matches!(self, Self::Interrupted | Self::Session(_))
    }
}
