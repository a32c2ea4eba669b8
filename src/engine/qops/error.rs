//! Why the int8 part of a file cannot run.

use crate::model::ModelError;
use std::path::Path;

/// A node that is broken or that the engine has no kernel for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("operator {operator} of node {node:?}: {reason}")]
pub(crate) struct NodeError {
    pub(crate) operator: String,
    pub(crate) node: String,
    pub(crate) reason: String,
}

impl NodeError {
    /// The same for the users of the library.
    pub(crate) fn in_file(self, path: &Path) -> ModelError {
        ModelError::BadNode {
            path: path.to_owned(),
            operator: self.operator,
            node: self.node,
            reason: self.reason,
        }
    }
}
