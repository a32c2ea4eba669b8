//! Why there is no training step.

use crate::train::graph::{GraphError, TensorType};

/// Why no training step can be built, or a state does not belong to one.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The graph or its gradient.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A setting that makes no sense.
    #[error("{of}: {fault}")]
    Setting {
        /// The optimiser, or which loss term.
        of: String,
        /// What is wrong with it.
        fault: String,
    },
    /// There is nothing to train.
    #[error("no parameter of graph {graph:?} influences the loss")]
    NoParameters {
        /// The graph's name.
        graph: String,
    },
    /// A parameter that is not of 32-bit floats.
    #[error("parameter {parameter:?}: expected 32-bit floats, found {found}")]
    ParameterType {
        /// Its name.
        parameter: String,
        /// Its type.
        found: TensorType,
    },
    /// A vector of a state has another length than the step's.
    #[error(
        "the training state does not fit the network: {vector}: expected {expected} values, found {found}"
    )]
    State {
        /// Which vector.
        vector: &'static str,
        /// Its length in this step.
        expected: usize,
        /// Its length in the state.
        found: usize,
    },
}
