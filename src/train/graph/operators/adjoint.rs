//! What adjoint rules see of a node, and what several of them need.

use super::{Site, no_gradient, reduce};
use crate::train::autodiff::Backend;
use crate::train::graph::{ElementType, Graph, GraphError, Node};

/// What the adjoint rule of an operator sees.
pub(in crate::train::graph) struct Adjoint<'a> {
    pub(super) graph: &'a mut Graph,
    pub(super) node: &'a Node,
    pub(super) output_gradients: &'a [Option<String>],
    pub(super) needed: &'a [bool],
    pub(super) backend: Backend,
}

impl<'a> Adjoint<'a> {
    pub(super) fn site(&self) -> Site<'_> {
        Site {
            graph: self.graph,
            node: self.node,
        }
    }

    /// The gradient of the only output that may have one.
    pub(super) fn dy(&self) -> Result<&'a str, GraphError> {
        if self.output_gradients.iter().skip(1).any(Option::is_some) {
            return Err(self.missing("a loss depends on an output other than the first"));
        }
        self.output_gradients
            .first()
            .and_then(|name| name.as_deref())
            .ok_or_else(|| self.missing("no loss depends on its first output"))
    }

    /// The name of input `index`.
    pub(super) fn x(&self, index: usize) -> &'a str {
        &self.node.inputs[index]
    }

    /// The name of the first output.
    pub(super) fn y(&self) -> &'a str {
        &self.node.outputs[0]
    }

    pub(super) fn needs(&self, index: usize) -> bool {
        self.needed.get(index).copied().unwrap_or(false)
    }

    pub(super) fn shape(&self, value: &str) -> Vec<usize> {
        self.graph.shape(value).to_vec()
    }

    pub(super) fn missing(&self, reason: &str) -> GraphError {
        no_gradient(self.node, reason)
    }

    /// Whether the operators of the domain `facemark` can be used: they run on the CPU and take 32-bit floats.
    pub(super) fn on_cpu(&self) -> bool {
        let element = self.graph.type_of(self.x(0)).element;
        self.backend == Backend::Cpu && element == ElementType::F32
    }

    /// `gradient` summed over the axes along which input `index` was broadcast.
    pub(super) fn unbroadcast(
        &mut self,
        gradient: &str,
        index: usize,
    ) -> Result<Option<String>, GraphError> {
        let shape = self.shape(self.x(index));
        reduce::sum_to_shape(self.graph, gradient, &shape).map(Some)
    }

    /// `gradient * (1 where mask, else 0)`.
    pub(super) fn masked(&mut self, gradient: &str, mask: &str) -> Result<String, GraphError> {
        let element = self.graph.type_of(gradient).element;
        let ones = self.graph.cast(mask, element)?;
        self.graph.mul(gradient, &ones)
    }
}
