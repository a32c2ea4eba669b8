//! The QOperator form: operators on bytes, as the runtime and ONNX Runtime run them.

use super::{QuantizeError, grid::Grid, plan::Plan, points::NodeForm};
use crate::train::graph::{Attribute, Graph, Node, Tensor, TensorData};
use std::collections::{BTreeMap, HashMap};

/// Writes a plan as operators on bytes.
pub(super) fn qoperator(plan: &Plan) -> Result<Graph, QuantizeError> {
    let mut writer = Writer {
        plan,
        graph: plan.begin(&[NodeForm::Float, NodeForm::Passing])?,
        bytes: HashMap::new(),
        floats: plan
            .graph
            .inputs
            .iter()
            .map(|(name, _)| (name.clone(), name.clone()))
            .collect(),
    };
    for (node, form, made) in plan.steps() {
        match form {
            NodeForm::Integer => writer.integer(node, &made)?,
            NodeForm::Absorbed => {}
            NodeForm::Passing => writer.passing(node)?,
            NodeForm::Float => writer.float(node)?,
        }
    }
    for output in &plan.graph.outputs {
        writer.as_floats(output)?;
    }
    writer.graph.outputs.clone_from(&plan.graph.outputs);
    Ok(writer.graph)
}

/// The bytes of a value have its name with this appended; its floats keep the name.
pub(super) const BYTES: &str = "_quantized";
/// A node that makes floats of bytes has their name, with this appended when another node has it.
const FLOATS: &str = "_dequantized";

struct Writer<'a> {
    plan: &'a Plan,
    graph: Graph,
    /// The names of values as bytes, by their names in the float graph.
    bytes: HashMap<String, String>,
    /// The names of values as floats.
    floats: HashMap<String, String>,
}

impl Writer<'_> {
    /// A value as bytes; a float one is quantised.
    fn as_bytes(&mut self, value: &str) -> Result<String, QuantizeError> {
        if let Some(name) = self.bytes.get(value) {
            return Ok(name.clone());
        }
        let [scale, zero_point] = grid_constants(&mut self.graph, self.plan.grid_of(value));
        let name = format!("{value}{BYTES}");
        self.graph
            .apply_named("QuantizeLinear", &[value, &scale, &zero_point], &[], &name)?;
        self.bytes.insert(value.to_owned(), name.clone());
        Ok(name)
    }

    /// A value as floats; bytes are dequantised.
    fn as_floats(&mut self, value: &str) -> Result<String, QuantizeError> {
        if let Some(name) = self.floats.get(value) {
            return Ok(name.clone());
        }
        let Some(bytes) = self.bytes.get(value).cloned() else {
            // A constant.
            return Ok(value.to_owned());
        };
        let [scale, zero_point] = grid_constants(&mut self.graph, self.plan.grid_of(value));
        // A node on bytes that has kept its name may have this one's.
        let taken = self.graph.nodes.iter().any(|node| node.name == value);
        let name = match taken {
            true => format!("{value}{FLOATS}"),
            false => value.to_owned(),
        };
        self.graph.push(Node {
            name,
            op: "DequantizeLinear".to_owned(),
            domain: String::new(),
            inputs: vec![bytes, scale, zero_point],
            outputs: vec![value.to_owned()],
            attributes: BTreeMap::new(),
        })?;
        self.floats.insert(value.to_owned(), value.to_owned());
        Ok(value.to_owned())
    }

    fn float(&mut self, node: &Node) -> Result<(), QuantizeError> {
        for input in node.inputs.iter().filter(|name| !name.is_empty()) {
            self.as_floats(input)?;
        }
        // As all nodes that are added, it has its output's name, which nothing else has.
        self.graph.push(Node {
            name: node.outputs[0].clone(),
            ..node.clone()
        })?;
        for output in &node.outputs {
            self.floats.insert(output.clone(), output.clone());
        }
        Ok(())
    }

    fn passing(&mut self, node: &Node) -> Result<(), QuantizeError> {
        let mut node = node.clone();
        for input in &mut node.inputs {
            if self.plan.grid(input).is_some() {
                *input = self.as_bytes(input)?;
            }
        }
        let output = node.outputs[0].clone();
        node.outputs[0] = format!("{output}{BYTES}");
        node.name.clone_from(&node.outputs[0]);
        self.bytes.insert(output, node.outputs[0].clone());
        self.graph.push(node)?;
        Ok(())
    }

    /// A node on bytes whose result, that of the node it absorbs included, is `made`.
    fn integer(&mut self, node: &Node, made: &str) -> Result<(), QuantizeError> {
        let mut inputs = self.operand(&node.inputs[0])?;
        let mut attributes = node.attributes.clone();
        let op = match node.op.as_str() {
            "Conv" => {
                let weights = self.plan.integer_weights(node)?;
                inputs.extend(weight_constants(&mut self.graph, node, &weights)?);
                inputs.extend(self.result_grid(made));
                inputs.push(bias_constant(&mut self.graph, node, weights.bias)?);
                "QLinearConv"
            }
            "Gemm" => {
                let weights = self.plan.integer_weights(node)?;
                inputs.extend(weight_constants(&mut self.graph, node, &weights)?);
                inputs.push(bias_constant(&mut self.graph, node, weights.bias)?);
                inputs.extend(self.result_grid(made));
                attributes.clear();
                attributes.insert("transB".to_owned(), Attribute::Int(1));
                "QGemm"
            }
            "Add" => {
                inputs.extend(self.operand(&node.inputs[1])?);
                inputs.extend(self.result_grid(made));
                "QLinearAdd"
            }
            "GlobalAveragePool" => {
                inputs.extend(self.result_grid(made));
                attributes.insert("channels_last".to_owned(), Attribute::Int(0));
                "QLinearGlobalAveragePool"
            }
            other => unreachable!("{other} has no form on bytes"),
        };
        let (output, known) = match self.plan.grid(made) {
            Some(_) => (format!("{made}{BYTES}"), &mut self.bytes),
            None => (made.to_owned(), &mut self.floats),
        };
        known.insert(made.to_owned(), output.clone());
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let attributes: Vec<(&str, Attribute)> = attributes
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        self.graph.apply_named(op, &inputs, &attributes, &output)?;
        Ok(())
    }

    /// A value as bytes with its scale and zero point.
    fn operand(&mut self, value: &str) -> Result<Vec<String>, QuantizeError> {
        let mut names = vec![self.as_bytes(value)?];
        names.extend(grid_constants(&mut self.graph, self.plan.grid_of(value)));
        Ok(names)
    }

    /// The scale and zero point of a result; none for one that stays float.
    fn result_grid(&mut self, made: &str) -> Vec<String> {
        match self.plan.grid(made) {
            Some(grid) => grid_constants(&mut self.graph, grid).to_vec(),
            None => Vec::new(),
        }
    }
}

/// A grid's scale and zero point as constants.
pub(super) fn grid_constants(graph: &mut Graph, grid: Grid) -> [String; 2] {
    let zero_point = Tensor::new(&[], TensorData::U8(vec![grid.zero_point]));
    [graph.scalar(grid.scale), graph.constant(zero_point)]
}

/// The weight of a node, its scales and its zero points as constants.
pub(super) fn weight_constants(
    graph: &mut Graph,
    node: &Node,
    weights: &super::weights::IntegerWeights,
) -> Result<[String; 3], QuantizeError> {
    let channels = weights.shape[0];
    let name = free_name(graph, &format!("{}{BYTES}", node.inputs[1]));
    graph.parameter(&name, weights.tensor())?;
    let scales = free_name(graph, &format!("{}_scale", node.inputs[1]));
    graph.parameter(&scales, Tensor::f32(&[channels], weights.scales.clone()))?;
    let zeros = Tensor::new(&[channels], TensorData::I8(vec![0; channels]));
    Ok([name, scales, graph.constant(zeros)])
}

/// The bias of a node as a constant.
pub(super) fn bias_constant(
    graph: &mut Graph,
    node: &Node,
    bias: Vec<i32>,
) -> Result<String, QuantizeError> {
    let stem = match node.input(2) {
        Some(name) => format!("{name}{BYTES}"),
        None => format!("{}.bias{BYTES}", node.label()),
    };
    let name = free_name(graph, &stem);
    Ok(graph.parameter(&name, Tensor::new(&[bias.len()], TensorData::I32(bias)))?)
}

/// `stem` when no value has that name; nodes may share a weight.
fn free_name(graph: &mut Graph, stem: &str) -> String {
    match graph.find_type(stem) {
        None => stem.to_owned(),
        Some(_) => graph.fresh_name(stem),
    }
}
