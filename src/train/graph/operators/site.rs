//! What type rules see of a node: its inputs' types, its attributes, and errors that name it.

use super::full_name;
use crate::train::graph::{Graph, GraphError, Node, TensorType};

/// What the type rule of an operator sees.
pub(in crate::train::graph) struct Site<'a> {
    pub(super) graph: &'a Graph,
    pub(super) node: &'a Node,
}

impl<'a> Site<'a> {
    pub(super) fn bad(
        &self,
        what: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
    ) -> GraphError {
        GraphError::BadNode {
            node: self.node.label().to_owned(),
            operator: full_name(self.node),
            what: what.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// The type of an input that must be there.
    pub(super) fn input(&self, index: usize) -> Result<&'a TensorType, GraphError> {
        self.optional(index)
            .ok_or_else(|| self.bad(format!("input {index}"), "a value", "none"))
    }

    /// The type of an input that may be absent.
    pub(super) fn optional(&self, index: usize) -> Option<&'a TensorType> {
        self.node
            .input(index)
            .and_then(|name| self.graph.find_type(name))
    }

    /// The type of an input of floats.
    pub(super) fn float_input(&self, index: usize) -> Result<&'a TensorType, GraphError> {
        let of = self.input(index)?;
        if of.element.is_float() {
            Ok(of)
        } else {
            Err(self.bad(format!("input {index}"), "floats", of))
        }
    }

    /// An input that must have the element type of the first one.
    pub(super) fn like_first(&self, index: usize) -> Result<&'a TensorType, GraphError> {
        let of = self.input(index)?;
        let expected = self.input(0)?.element;
        if of.element == expected {
            Ok(of)
        } else {
            Err(self.bad(
                format!("input {index}"),
                format!("{expected:?}, as input 0"),
                of,
            ))
        }
    }

    /// The elements of an input that must be a constant of 64-bit integers.
    pub(super) fn constant_ints(&self, index: usize) -> Result<&'a [i64], GraphError> {
        self.node
            .input(index)
            .and_then(|name| self.graph.initializers.get(name))
            .and_then(|tensor| tensor.as_i64())
            .ok_or_else(|| {
                self.bad(
                    format!("input {index}"),
                    "a constant of 64-bit integers",
                    self.optional(index)
                        .map_or("none".to_owned(), |of| format!("{of} that is computed")),
                )
            })
    }

    /// As [`Site::constant_ints`], but the input may be absent.
    pub(super) fn optional_ints(&self, index: usize) -> Result<Option<&'a [i64]>, GraphError> {
        match self.node.input(index) {
            Some(_) => self.constant_ints(index).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.node.int(name).unwrap_or(default)
    }

    /// An axis attribute or input as an index below `rank`.
    pub(super) fn axis(&self, axis: i64, rank: usize) -> Result<usize, GraphError> {
        let index = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(index)
            .ok()
            .filter(|&index| index < rank)
            .ok_or_else(|| self.bad("axis", format!("-{rank} to below {rank}"), axis))
    }

    /// Axes as sorted indices below `rank`, each once.
    pub(super) fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, GraphError> {
        let mut indices = axes
            .iter()
            .map(|&axis| self.axis(axis, rank))
            .collect::<Result<Vec<_>, _>>()?;
        indices.sort_unstable();
        if indices.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(self.bad("axes", "each axis once", format!("{axes:?}")));
        }
        Ok(indices)
    }

    /// The common shape of broadcast operands.
    pub(super) fn broadcast(&self, shapes: &[&[usize]]) -> Result<Vec<usize>, GraphError> {
        let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
        let mut result = vec![1; rank];
        for shape in shapes {
            for (size, &own) in result[rank - shape.len()..].iter_mut().zip(*shape) {
                if *size == 1 {
                    *size = own;
                } else if own != 1 && own != *size {
                    return Err(self.bad(
                        "inputs",
                        "shapes that broadcast together",
                        format!("{shapes:?}"),
                    ));
                }
            }
        }
        Ok(result)
    }
}
