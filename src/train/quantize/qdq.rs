//! The QDQ form: float operators between QuantizeLinear and DequantizeLinear, which other engines turn into their own
//! operators on bytes.

use super::{
    QuantizeError,
    emit::{BYTES, bias_constant, grid_constants, weight_constants},
    plan::Plan,
    points::NodeForm,
};
use crate::train::graph::{Attribute, Graph, Node, Tensor, TensorData};
use std::collections::HashMap;

/// What an operator makes, before it is rounded, has its value's name with this appended.
const UNROUNDED: &str = "_unrounded";

/// Writes a plan as float operators between roundings.
pub(super) fn qdq(plan: &Plan) -> Result<Graph, QuantizeError> {
    let forms = [NodeForm::Float, NodeForm::Passing, NodeForm::Absorbed];
    let mut writer = Writer {
        plan,
        graph: plan.begin(&forms)?,
        rounded: HashMap::new(),
    };
    for (name, _) in &plan.graph.inputs {
        writer.round_copy(name)?;
    }
    for (node, form) in plan.graph.nodes.iter().zip(&plan.points.forms) {
        writer.node(node, *form)?;
    }
    writer.graph.outputs.clone_from(&plan.graph.outputs);
    Ok(writer.graph)
}

struct Writer<'a> {
    plan: &'a Plan,
    graph: Graph,
    /// Values that no integer node makes keep their name as they are, for the float nodes that read them; here is what
    /// they are called once they are rounded.
    rounded: HashMap<String, String>,
}

impl Writer<'_> {
    fn node(&mut self, node: &Node, form: NodeForm) -> Result<(), QuantizeError> {
        let mut node = node.clone();
        if form != NodeForm::Float {
            for input in &mut node.inputs {
                if let Some(rounded) = self.rounded.get(input) {
                    input.clone_from(rounded);
                }
            }
        }
        if form == NodeForm::Integer && matches!(node.op.as_str(), "Conv" | "Gemm") {
            self.weights(&mut node)?;
        }
        let output = node.outputs[0].clone();
        // As all nodes that are added, it has its output's name, which nothing else has.
        if form == NodeForm::Float || self.plan.grid(&output).is_none() {
            node.name.clone_from(&output);
            self.graph.push(node)?;
            return self.round_copy(&output);
        }
        let unrounded = format!("{output}{UNROUNDED}");
        node.outputs[0].clone_from(&unrounded);
        node.name.clone_from(&unrounded);
        self.graph.push(node)?;
        self.round(&output, &unrounded, &output)
    }

    /// Rounds a value beside the value itself, if integer nodes read it.
    fn round_copy(&mut self, value: &str) -> Result<(), QuantizeError> {
        if self.plan.grid(value).is_some() {
            let copy = format!("{value}_rounded");
            self.round(value, value, &copy)?;
            self.rounded.insert(value.to_owned(), copy);
        }
        Ok(())
    }

    /// Rounds `from` to the grid of `value` and calls the result `to`.
    fn round(&mut self, value: &str, from: &str, to: &str) -> Result<(), QuantizeError> {
        let [scale, zero_point] = grid_constants(&mut self.graph, self.plan.grid_of(value));
        let bytes = format!("{value}{BYTES}");
        self.graph
            .apply_named("QuantizeLinear", &[from, &scale, &zero_point], &[], &bytes)?;
        self.graph
            .apply_named("DequantizeLinear", &[&bytes, &scale, &zero_point], &[], to)?;
        Ok(())
    }

    /// Puts integer weights and biases with DequantizeLinear in the place of a node's float ones.
    fn weights(&mut self, node: &mut Node) -> Result<(), QuantizeError> {
        let original = self
            .plan
            .graph
            .nodes
            .iter()
            .find(|other| other.outputs == node.outputs);
        let original = original.expect("the node is the plan's").clone();
        let weights = self.plan.integer_weights(&original)?;
        let input_scale = self.plan.grid_of(&original.inputs[0]).scale;
        let axis = [("axis", Attribute::Int(0))];
        let [weight, scales, zeros] = weight_constants(&mut self.graph, &original, &weights)?;
        node.inputs.truncate(1);
        node.inputs.push(self.graph.apply(
            "DequantizeLinear",
            &[&weight, &scales, &zeros],
            &axis,
        )?);
        let steps: Vec<f32> = weights
            .scales
            .iter()
            .map(|&scale| input_scale * scale)
            .collect();
        let channels = steps.len();
        let steps = self.graph.constant(Tensor::f32(&[channels], steps));
        let zeros = self
            .graph
            .constant(Tensor::new(&[channels], TensorData::I32(vec![0; channels])));
        let bias = bias_constant(&mut self.graph, &original, weights.bias)?;
        node.inputs.push(
            self.graph
                .apply("DequantizeLinear", &[&bias, &steps, &zeros], &axis)?,
        );
        if node.op == "Gemm" {
            node.attributes.clear();
            node.attributes
                .insert("transB".to_owned(), Attribute::Int(1));
        }
        Ok(())
    }
}
