//! A small typed graph that is ONNX (opset 18) on disk: nodes, constants and the type of every value.
//!
//! Types are inferred when a node is added, so a wrong shape or an operator without a rule is an error at the line that
//! adds it. All sizes are known: there are no symbolic axes, no control flow, no functions and no sequences.

mod build;
mod error;
mod file;
mod import;
mod node;
pub(super) mod operators;
mod tensor;

pub use error::GraphError;
use file::{data_type_of, element_of_data_type};
pub use node::Node;
pub use operators::differentiable_operators;
pub use tensor::{Attribute, ElementType, Tensor, TensorData, TensorType};

use std::collections::{BTreeMap, HashMap, HashSet};

/// A typed graph in topological order.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Name of the graph.
    pub name: String,
    /// Nodes in topological order.
    pub nodes: Vec<Node>,
    /// Inputs with their types.
    pub inputs: Vec<(String, TensorType)>,
    /// Names of the outputs.
    pub outputs: Vec<String>,
    /// Constant tensors by name: parameters and other constants.
    pub initializers: BTreeMap<String, Tensor>,
    /// The file's `metadata_props`.
    pub metadata: BTreeMap<String, String>,
    types: HashMap<String, TensorType>,
    constants: HashMap<ConstantKey, String>,
    /// Outputs of the BatchNormalization nodes whose statistics are those of the batch.
    batch_normalized: HashSet<String>,
    fresh: usize,
}

/// What makes two constants the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ConstantKey {
    of: TensorType,
    bytes: Vec<u8>,
}

/// Equal in everything that a file holds.
impl PartialEq for Graph {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.nodes == other.nodes
            && self.inputs == other.inputs
            && self.outputs == other.outputs
            && self.initializers == other.initializers
            && self.metadata == other.metadata
    }
}

/// Names of constants made by [`Graph::constant`] begin so; [`Graph::parameters`] leaves them out, also after a round
/// trip through a file.
pub(super) const CONSTANT_PREFIX: &str = "constant_";

impl Graph {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Adds an input.
    ///
    /// # Errors
    /// The name is taken.
    pub fn input(&mut self, name: &str, of: TensorType) -> Result<String, GraphError> {
        self.define(name, of.clone())?;
        self.inputs.push((name.to_owned(), of));
        Ok(name.to_owned())
    }

    /// Adds a named constant that training changes when it is a weight of a node (see [`Graph::parameters`]).
    ///
    /// # Errors
    /// The name is taken.
    pub fn parameter(&mut self, name: &str, tensor: Tensor) -> Result<String, GraphError> {
        self.define(name, tensor.tensor_type())?;
        self.initializers.insert(name.to_owned(), tensor);
        Ok(name.to_owned())
    }

    /// A constant; equal constants share one name.
    pub fn constant(&mut self, tensor: Tensor) -> String {
        let key = ConstantKey {
            of: tensor.tensor_type(),
            bytes: tensor.data.to_bytes(),
        };
        if let Some(name) = self.constants.get(&key) {
            return name.clone();
        }
        let name = self.fresh_name(CONSTANT_PREFIX.trim_end_matches('_'));
        self.types.insert(name.clone(), tensor.tensor_type());
        self.initializers.insert(name.clone(), tensor);
        self.constants.insert(key, name.clone());
        name
    }

    /// A constant of 32-bit floats.
    ///
    /// # Panics
    /// The number of values is not that of the shape.
    pub fn constant_f32(&mut self, values: &[f32], shape: &[usize]) -> String {
        self.constant(Tensor::f32(shape, values.to_vec()))
    }

    /// A 32-bit float without axes.
    pub fn scalar(&mut self, value: f32) -> String {
        self.constant_f32(&[value], &[])
    }

    /// A list of 64-bit integers (shape `[values.len()]`): axes, shapes, pads.
    pub fn ints(&mut self, values: &[i64]) -> String {
        self.constant(Tensor::i64(&[values.len()], values.to_vec()))
    }

    /// Applies an operator with one output and names node and output by itself.
    ///
    /// The domain follows from the operator: ONNX Runtime's own are `com.microsoft`, the gradients that have operators
    /// of their own are `facemark`, all others are ONNX's own. An empty input name is an absent input.
    ///
    /// # Errors
    /// The operator is not supported, or its inputs and attributes do not fit.
    pub fn apply(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
    ) -> Result<String, GraphError> {
        let output = self.fresh_name(op);
        self.apply_named(op, inputs, attributes, &output)
    }

    /// [`Graph::apply`] with a name for node and output.
    ///
    /// # Errors
    /// The name is taken, the operator is not supported, or its inputs and attributes do not fit.
    pub fn apply_named(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
        output: &str,
    ) -> Result<String, GraphError> {
        self.push(Node {
            name: output.to_owned(),
            op: op.to_owned(),
            domain: domain_of(op).to_owned(),
            inputs: inputs.iter().map(|&name| name.to_owned()).collect(),
            outputs: vec![output.to_owned()],
            attributes: attribute_map(attributes),
        })?;
        Ok(output.to_owned())
    }

    /// [`Graph::apply`] for an operator with several outputs.
    ///
    /// # Errors
    /// The operator is not supported, or its inputs and attributes do not fit.
    pub fn apply_multi(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
        output_count: usize,
    ) -> Result<Vec<String>, GraphError> {
        let name = self.fresh_name(op);
        let outputs: Vec<String> = (0..output_count)
            .map(|index| format!("{name}_{index}"))
            .collect();
        self.push(Node {
            name,
            op: op.to_owned(),
            domain: domain_of(op).to_owned(),
            inputs: inputs.iter().map(|&name| name.to_owned()).collect(),
            outputs: outputs.clone(),
            attributes: attribute_map(attributes),
        })?;
        Ok(outputs)
    }

    /// Adds a node as it is and infers the types of its outputs.
    ///
    /// # Errors
    /// An output's name is taken, an input is unknown, the operator is not supported, or inputs and attributes do not
    /// fit.
    pub fn push(&mut self, node: Node) -> Result<(), GraphError> {
        for value in node.inputs.iter().filter(|name| !name.is_empty()) {
            if !self.types.contains_key(value) {
                return Err(GraphError::UnknownValue {
                    node: node.label().to_owned(),
                    value: value.clone(),
                });
            }
        }
        let types = operators::infer(self, &node)?;
        for (output, of) in node.outputs.iter().zip(types) {
            if !output.is_empty() {
                self.define(output, of)?;
            }
        }
        self.nodes.push(node);
        Ok(())
    }

    /// The type of a value.
    ///
    /// # Panics
    /// No input, constant or node defines it; names that the graph gave out are always defined.
    pub fn type_of(&self, value: &str) -> &TensorType {
        self.types
            .get(value)
            .unwrap_or_else(|| panic!("no value is called {value:?}"))
    }

    /// The type of a value, or `None` when nothing defines it.
    pub fn find_type(&self, value: &str) -> Option<&TensorType> {
        self.types.get(value)
    }

    /// The shape of a value.
    ///
    /// # Panics
    /// As [`Graph::type_of`].
    pub fn shape(&self, value: &str) -> &[usize] {
        &self.type_of(value).shape
    }

    /// Renames a value everywhere: a node's output, its uses and the graph's outputs.
    ///
    /// # Errors
    /// `from` is not the output of a node, or `to` is taken.
    pub fn rename_output(&mut self, from: &str, to: &str) -> Result<(), GraphError> {
        if self.types.contains_key(to) {
            return Err(GraphError::DuplicateValue {
                value: to.to_owned(),
            });
        }
        let defined = self
            .nodes
            .iter()
            .any(|node| node.outputs.iter().any(|output| output == from));
        let Some(of) = defined.then(|| self.types.remove(from)).flatten() else {
            return Err(GraphError::UnknownValue {
                node: String::new(),
                value: from.to_owned(),
            });
        };
        self.types.insert(to.to_owned(), of);
        if self.batch_normalized.remove(from) {
            self.batch_normalized.insert(to.to_owned());
        }
        for node in &mut self.nodes {
            for name in node.inputs.iter_mut().chain(&mut node.outputs) {
                if name == from {
                    *name = to.to_owned();
                }
            }
        }
        for name in &mut self.outputs {
            if name == from {
                *name = to.to_owned();
            }
        }
        Ok(())
    }

    /// The trainable constants, in the order in which nodes first use them: float constants that a Conv, ConvTranspose,
    /// Gemm, MatMul, BatchNormalization (scale and bias), Add, Mul or PRelu uses as weight, directly or through nodes
    /// that only change its shape or round it. Constants made by [`Graph::constant`] and scalars are not parameters.
    pub fn parameters(&self) -> Vec<String> {
        let mut source: HashMap<&str, &str> = self
            .initializers
            .iter()
            .filter(|(name, tensor)| {
                tensor.data.element().is_float()
                    && !tensor.shape.is_empty()
                    && !name.starts_with(CONSTANT_PREFIX)
            })
            .map(|(name, _)| (name.as_str(), name.as_str()))
            .collect();
        let mut seen = HashSet::new();
        let mut parameters = Vec::new();
        for node in &self.nodes {
            let weights = match node.op.as_str() {
                "Conv" | "ConvTranspose" | "Gemm" | "MatMul" | "FusedMatMul" | "Add" | "Mul"
                | "PRelu" => 0..node.inputs.len(),
                "BatchNormalization" => 1..3,
                "Identity" | "Reshape" | "Transpose" | "Squeeze" | "Unsqueeze" | "Expand"
                | "FakeQuantizeWeight" => {
                    let root = node
                        .inputs
                        .first()
                        .and_then(|name| source.get(name.as_str()));
                    if let (Some(&root), Some(output)) = (root, node.outputs.first()) {
                        source.insert(output, root);
                    }
                    continue;
                }
                _ => continue,
            };
            for name in node.inputs.get(weights).unwrap_or_default() {
                if let Some(&root) = source.get(name.as_str())
                    && seen.insert(root)
                {
                    parameters.push(root.to_owned());
                }
            }
        }
        parameters
    }

    /// A name that no value has, beginning with `stem`.
    pub fn fresh_name(&mut self, stem: &str) -> String {
        loop {
            let name = format!("{stem}_{}", self.fresh);
            self.fresh += 1;
            // The outputs of a node with several outputs have its name with a number appended.
            if !self.types.contains_key(&name) && !self.types.contains_key(&format!("{name}_0")) {
                return name;
            }
        }
    }

    /// The second output of the node whose first output is `first`; the node gets one when it has none.
    fn second_output(&mut self, first: &str) -> Result<String, GraphError> {
        let name = self.fresh_name(&format!("{first}_indices"));
        let Some(index) = self
            .nodes
            .iter()
            .position(|node| node.outputs.first().is_some_and(|output| output == first))
        else {
            return Err(GraphError::UnknownValue {
                node: String::new(),
                value: first.to_owned(),
            });
        };
        if let Some(second) = self.nodes[index]
            .outputs
            .get(1)
            .filter(|name| !name.is_empty())
        {
            return Ok(second.clone());
        }
        let mut node = self.nodes[index].clone();
        node.outputs.truncate(1);
        node.outputs.push(name.clone());
        let types = operators::infer(self, &node)?;
        self.define(&name, types[1].clone())?;
        self.nodes[index] = node;
        Ok(name)
    }

    /// Adds a constant of a file. A constant that [`Graph::constant`] made is shared again.
    fn restore(&mut self, name: &str, tensor: Tensor) -> Result<(), GraphError> {
        if name.starts_with(CONSTANT_PREFIX) {
            let key = ConstantKey {
                of: tensor.tensor_type(),
                bytes: tensor.data.to_bytes(),
            };
            self.constants.insert(key, name.to_owned());
        }
        self.parameter(name, tensor).map(|_| ())
    }

    /// Notes that the batch normalisation with output `y` uses the statistics of the batch.
    pub(super) fn mark_batch_normalized(&mut self, y: &str) {
        self.batch_normalized.insert(y.to_owned());
    }

    /// Whether the batch normalisation with output `y` was rewritten to the statistics of the batch.
    fn normalizes_by_batch(&self, y: &str) -> bool {
        self.batch_normalized.contains(y)
    }

    fn define(&mut self, name: &str, of: TensorType) -> Result<(), GraphError> {
        if self.types.contains_key(name) {
            return Err(GraphError::DuplicateValue {
                value: name.to_owned(),
            });
        }
        self.types.insert(name.to_owned(), of);
        Ok(())
    }
}

fn attribute_map(attributes: &[(&str, Attribute)]) -> BTreeMap<String, Attribute> {
    attributes
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}

/// The namespace of an operator.
fn domain_of(op: &str) -> &'static str {
    match op {
        "FusedMatMul" | "QLinearAdd" | "QGemm" | "QLinearGlobalAveragePool" => "com.microsoft",
        "DepthwiseGradW"
        | "DepthwiseGradX"
        | "Columns"
        | "ReluGrad"
        | "BatchNormalizationGrad"
        | "FakeQuantize"
        | "FakeQuantizeGrad"
        | "FakeQuantizeWeight" => "facemark",
        _ => "",
    }
}
