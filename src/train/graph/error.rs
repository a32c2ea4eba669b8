//! What can go wrong with a graph.

use std::path::PathBuf;

/// Why a graph cannot be built, read or differentiated.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// An operator without a type rule.
    #[error("operator {operator} of node {node:?} is not supported")]
    UnsupportedOperator {
        /// Node name.
        node: String,
        /// Operator, with its domain unless that is ONNX's own.
        operator: String,
    },
    /// An operator that can be run but not differentiated.
    #[error("operator {operator} of node {node:?} has no gradient: {reason}")]
    NoGradient {
        /// Node name.
        node: String,
        /// Operator.
        operator: String,
        /// Which case is not covered.
        reason: String,
    },
    /// An operator is used in a way that is not allowed or not supported.
    #[error("operator {operator} of node {node:?}: {what}: expected {expected}, found {found}")]
    BadNode {
        /// Node name.
        node: String,
        /// Operator.
        operator: String,
        /// Which input or attribute.
        what: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A value that nothing defines.
    #[error("node {node:?} uses value {value:?}, which nothing before it defines")]
    UnknownValue {
        /// Node name.
        node: String,
        /// Value name.
        value: String,
    },
    /// A name is taken.
    #[error("there is already a value called {value:?}")]
    DuplicateValue {
        /// Value name.
        value: String,
    },
    /// The file is not an ONNX model.
    #[error("{path}: expected an ONNX model: {reason}")]
    NotOnnx {
        /// The model file.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// The file is an ONNX model that uses what facemark does not support.
    #[error("{path}: {what}: {reason}")]
    Unsupported {
        /// The model file.
        path: PathBuf,
        /// Which part of the model.
        what: String,
        /// Why not.
        reason: String,
    },
    /// Something is wrong with a node of a file.
    #[error("{path}: {source}")]
    InFile {
        /// The model file.
        path: PathBuf,
        /// What is wrong.
        source: Box<GraphError>,
    },
}
