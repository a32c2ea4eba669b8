//! Quantisation-aware training (Jacob et al. 2018): the float graph with a rounding wherever its int8 form rounds, and
//! back. The training step learns weights and ranges of such a graph like those of any other.

use super::{
    QuantizeError, Range, Ranges,
    grid::WeightBits,
    points::{NodeForm, QuantizationPoints, quantization_points},
};
use crate::train::graph::{Attribute, Graph, GraphError, Node, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// How a network is rounded while it is trained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuantizationAware {
    /// Weights of 7 bits, for CPUs without a dot product instruction of 32-bit sums.
    pub reduce_range: bool,
    /// Names of nodes, or of their outputs, that stay float.
    pub keep_float: Vec<String>,
}

impl QuantizationAware {
    /// The levels of weights.
    pub fn weight_bits(&self) -> WeightBits {
        match self.reduce_range {
            true => WeightBits::Seven,
            false => WeightBits::Eight,
        }
    }
}

const FAKE_QUANTIZE: &str = "FakeQuantize";
const FAKE_QUANTIZE_WEIGHT: &str = "FakeQuantizeWeight";
/// What a value is called before it is rounded, a weight after it was, and the range of a value.
const BEFORE: &str = ".before_rounding";
const ROUNDED: &str = ".rounded";
/// What the node is called that rounds a value, unless it stands for a Relu: then it has that one's name.
const ROUNDING: &str = ".rounding";
const OBSERVED: &str = ".observed";
const RANGE: &str = "range.";

/// `graph`, without batch normalisation, with the activations and weights rounded that its int8 form rounds (see
/// [`quantization_points`]). The input is not: its bytes are exact.
///
/// Ranges are constants that begin as `ranges` says; one that it does not name has no width and rounds nothing until the
/// training step has seen a batch.
///
/// # Errors
/// The graph does not type-check.
pub fn with_fake_quantization(
    graph: &Graph,
    how: &QuantizationAware,
    ranges: &Ranges,
) -> Result<Graph, GraphError> {
    let kept: BTreeSet<String> = how.keep_float.iter().cloned().collect();
    let points = quantization_points(graph, &kept);
    let mut builder = Builder {
        points: &points,
        graph: Graph::new(&graph.name),
        bits: how.weight_bits(),
        float_made: HashSet::new(),
    };
    builder.graph.metadata.clone_from(&graph.metadata);
    for (name, of) in &graph.inputs {
        builder.graph.input(name, of.clone())?;
    }
    for (name, tensor) in &graph.initializers {
        builder.graph.parameter(name, tensor.clone())?;
    }
    for point in points.points.iter().filter(|point| !point.is_input) {
        let (low, high) = point
            .members
            .iter()
            .filter_map(|member| ranges.values.get(member))
            .fold((0.0f32, 0.0f32), |(low, high), range| {
                (low.min(range.min()), high.max(range.max()))
            });
        let range = [low.max(point.lowest), high.min(point.highest)];
        builder.graph.parameter(
            &format!("{RANGE}{}", point.name()),
            Tensor::f32(&[2], range.to_vec()),
        )?;
    }
    for (node, form) in graph.nodes.iter().zip(&points.forms) {
        builder.push(node, *form)?;
    }
    builder.graph.outputs.clone_from(&graph.outputs);
    Ok(builder.graph)
}

struct Builder<'a> {
    points: &'a QuantizationPoints,
    graph: Graph,
    bits: WeightBits,
    /// Values that float nodes compute and that are rounded for the integer nodes that read them.
    float_made: HashSet<String>,
}

impl Builder<'_> {
    fn push(&mut self, original: &Node, form: NodeForm) -> Result<(), GraphError> {
        let mut node = original.clone();
        match form {
            NodeForm::Passing => return self.graph.push(node),
            NodeForm::Absorbed if node.op == "Relu" => {
                let x = node.inputs[0].clone();
                return self.round(node.name, &x, &node.outputs[0], true);
            }
            NodeForm::Integer => {
                if matches!(node.op.as_str(), "Conv" | "Gemm") {
                    node.inputs[1] = self.rounded_weight(&node)?;
                }
            }
            NodeForm::Float => {
                // Floats read floats as they are.
                for input in &mut node.inputs {
                    if self.float_made.contains(input) {
                        input.push_str(BEFORE);
                    }
                }
            }
            NodeForm::Absorbed => {}
        }
        let output = node.outputs[0].clone();
        let is_member = self
            .points
            .point_of(&output)
            .is_some_and(|point| point.members.contains(&output));
        if !is_member {
            return self.graph.push(node);
        }
        let before = format!("{output}{BEFORE}");
        node.outputs[0].clone_from(&before);
        self.graph.push(node)?;
        if form == NodeForm::Float {
            self.float_made.insert(output.clone());
        }
        self.round(format!("{output}{ROUNDING}"), &before, &output, false)
    }

    /// Rounds `x`, after a ReLU with `rectify`, to the grid of `output`.
    fn round(
        &mut self,
        name: String,
        x: &str,
        output: &str,
        rectify: bool,
    ) -> Result<(), GraphError> {
        let point = self.points.point_of(output).expect("a member has a point");
        let node = Node {
            name,
            op: FAKE_QUANTIZE.to_owned(),
            domain: "facemark".to_owned(),
            inputs: vec![x.to_owned(), format!("{RANGE}{}", point.name())],
            outputs: vec![output.to_owned(), format!("{output}{OBSERVED}")],
            attributes: BTreeMap::from([(
                "rectify".to_owned(),
                Attribute::Int(i64::from(rectify)),
            )]),
        };
        self.graph.push(node)
    }

    /// The name of a node's weight, rounded.
    fn rounded_weight(&mut self, node: &Node) -> Result<String, GraphError> {
        let weight = &node.inputs[1];
        // A Gemm's matrix is [K, N] unless it is transposed.
        let axis = i64::from(node.op == "Gemm" && node.int("transB").unwrap_or(0) == 0);
        let rounded = format!("{weight}{ROUNDED}");
        if self.graph.find_type(&rounded).is_none() {
            let attributes = [
                ("axis", Attribute::Int(axis)),
                ("largest", Attribute::Int(i64::from(self.bits.largest()))),
            ];
            self.graph
                .apply_named(FAKE_QUANTIZE_WEIGHT, &[weight], &attributes, &rounded)?;
        }
        Ok(rounded)
    }
}

/// Whether [`with_fake_quantization`] made a graph.
pub fn has_fake_quantization(graph: &Graph) -> bool {
    graph.nodes.iter().any(|node| node.op == FAKE_QUANTIZE)
}

/// Undoes [`with_fake_quantization`]: the float graph with the weights of `graph`, and the range of each value that is
/// rounded there.
///
/// # Errors
/// A range is not one (training went astray), or the graph does not type-check, which one that
/// [`with_fake_quantization`] made does.
pub fn without_fake_quantization(graph: &Graph) -> Result<(Graph, Ranges), QuantizeError> {
    let mut float = Graph::new(&graph.name);
    float.metadata.clone_from(&graph.metadata);
    for (name, of) in &graph.inputs {
        float.input(name, of.clone())?;
    }
    let mut original: HashMap<&str, &str> = HashMap::new();
    let mut ranges = Ranges::default();
    let mut range_names = HashSet::new();
    for node in &graph.nodes {
        if node.op == FAKE_QUANTIZE_WEIGHT {
            original.insert(&node.outputs[0], &node.inputs[0]);
        }
        if node.op == FAKE_QUANTIZE {
            let range = graph.initializers.get(&node.inputs[1]);
            if let Some(&[low, high]) = range.and_then(Tensor::as_f32) {
                ranges
                    .values
                    .insert(node.outputs[0].clone(), Range::new(low, high)?);
            }
            range_names.insert(node.inputs[1].as_str());
            if node.int("rectify").unwrap_or(0) == 0 {
                original.insert(&node.inputs[0], &node.outputs[0]);
            }
        }
    }
    for (name, tensor) in &graph.initializers {
        if !range_names.contains(name.as_str()) {
            float.parameter(name, tensor.clone())?;
        }
    }
    for node in &graph.nodes {
        let mut node = node.clone();
        match node.op.as_str() {
            FAKE_QUANTIZE_WEIGHT => continue,
            FAKE_QUANTIZE if node.int("rectify").unwrap_or(0) == 0 => continue,
            FAKE_QUANTIZE => {
                node.op = "Relu".to_owned();
                node.domain = String::new();
                node.attributes.clear();
                node.inputs.truncate(1);
                node.outputs.truncate(1);
            }
            _ => {}
        }
        for name in node.inputs.iter_mut().chain(&mut node.outputs) {
            if let Some(&own) = original.get(name.as_str()) {
                *name = own.to_owned();
            }
        }
        float.push(node)?;
    }
    float.outputs.clone_from(&graph.outputs);
    Ok((float, ranges))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{export::fold_batch_norm, graph::TensorType, nn::Architecture};

    fn float_graph(architecture: Architecture) -> Graph {
        let card = architecture.card("tiny", crate::scheme::Scheme::Ibug68, 1.3);
        fold_batch_norm(&architecture.build(&card, 3).unwrap()).unwrap()
    }

    #[test]
    fn undoing_gives_the_same_graph_back() {
        for architecture in Architecture::ALL {
            let float = float_graph(architecture);
            let mut ranges = Ranges::default();
            let points = quantization_points(&float, &BTreeSet::new());
            for (index, point) in points
                .points
                .iter()
                .enumerate()
                .filter(|(_, p)| !p.is_input)
            {
                for member in &point.members {
                    let low = if point.lowest == 0.0 { 0.0 } else { -1.5 };
                    let range = Range::new(low, 1.0 + index as f32).unwrap();
                    ranges.values.insert(member.clone(), range);
                }
            }
            let how = QuantizationAware::default();
            let rounded = with_fake_quantization(&float, &how, &ranges).unwrap();
            assert!(has_fake_quantization(&rounded) && !has_fake_quantization(&float));
            let (back, found) = without_fake_quantization(&rounded).unwrap();
            assert_eq!(found, ranges, "{}", architecture.name());
            assert!(back == float, "{}", architecture.name());
        }
    }

    #[test]
    fn every_weight_and_every_point_but_the_input_is_rounded() {
        let float = float_graph(Architecture::LandmarksBase);
        let how = QuantizationAware {
            reduce_range: true,
            ..QuantizationAware::default()
        };
        let rounded = with_fake_quantization(&float, &how, &Ranges::default()).unwrap();
        let count = |graph: &Graph, ops: &[&str]| {
            let nodes = graph.nodes.iter();
            nodes.filter(|node| ops.contains(&node.op.as_str())).count()
        };
        assert_eq!(
            count(&rounded, &["FakeQuantizeWeight"]),
            count(&float, &["Conv", "Gemm"])
        );
        let points = quantization_points(&float, &BTreeSet::new()).points;
        assert_eq!(count(&rounded, &["FakeQuantize"]), points.len() - 1);
        assert_eq!(count(&rounded, &["Relu"]), 0, "all are absorbed");
        let weights = rounded
            .nodes
            .iter()
            .filter(|node| node.op == "FakeQuantizeWeight");
        assert!(weights.clone().all(|node| node.int("largest") == Some(63)));
        let types: Vec<&TensorType> = weights
            .map(|node| rounded.type_of(&node.outputs[0]))
            .collect();
        assert!(types.iter().any(|of| of.rank() == 2), "Gemm too");
        // The names of all that is trained stay.
        assert_eq!(
            rounded.parameters().iter().collect::<BTreeSet<_>>(),
            float.parameters().iter().collect::<BTreeSet<_>>()
        );
    }
}
