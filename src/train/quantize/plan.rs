//! A quantisation settled in numbers: which node computes how, and the grid of every rounded value. The two forms of a
//! file, [`super::emit`] and [`super::qdq`], only write it down.

use super::{
    QuantizeError, QuantizeOptions, Ranges,
    equalize::equalize,
    grid::{Grid, WeightBits},
    points::{NodeForm, Point, QuantizationPoints, quantization_points},
    weights::{FloatWeights, IntegerWeights},
};
use crate::{
    model::ModelCard,
    train::{
        export::fold_batch_norm,
        graph::{Graph, Node},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
};

/// The float graph that is quantised, and whose values [`Ranges`] name: batch normalisation folded, channels scaled by
/// the [`equalization`](Ranges::equalization) of `ranges`.
///
/// # Errors
/// The graph is quantised already, or the factors are not its.
pub fn prepare(graph: &Graph, ranges: &Ranges) -> Result<Graph, QuantizeError> {
    const QUANTIZED: [&str; 7] = [
        "QuantizeLinear",
        "DequantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "QLinearAdd",
        "QGemm",
        "QLinearGlobalAveragePool",
    ];
    if let Some(node) = graph
        .nodes
        .iter()
        .find(|node| QUANTIZED.contains(&node.op.as_str()))
    {
        return Err(QuantizeError::AlreadyQuantized {
            node: node.label().to_owned(),
            operator: node.op.clone(),
        });
    }
    equalize(&fold_batch_norm(graph)?, &ranges.equalization)
}

/// Which nodes of a prepared graph compute on bytes and which values are rounded.
///
/// # Errors
/// A node that is to stay float is not there, or nothing is left to quantise.
pub fn points_of(
    prepared: &Graph,
    options: &QuantizeOptions,
) -> Result<QuantizationPoints, QuantizeError> {
    let mut kept = BTreeSet::new();
    for name in &options.keep_float {
        let found = prepared
            .nodes
            .iter()
            .find(|node| node.label() == name || node.outputs.contains(name));
        let Some(node) = found else {
            return Err(QuantizeError::UnknownNode {
                name: name.clone(),
                example: prepared
                    .nodes
                    .first()
                    .map_or(String::new(), |node| node.label().to_owned()),
            });
        };
        kept.insert(node.label().to_owned());
    }
    let points = quantization_points(prepared, &kept);
    if !points.forms.contains(&NodeForm::Integer) {
        return Err(QuantizeError::NothingToQuantize);
    }
    Ok(points)
}

/// See the module.
pub(super) struct Plan {
    pub(super) graph: Graph,
    pub(super) points: QuantizationPoints,
    pub(super) grids: Vec<Grid>,
    bits: WeightBits,
    corrections: BTreeMap<String, Vec<f32>>,
}

impl Plan {
    pub(super) fn new(
        graph: &Graph,
        ranges: &Ranges,
        options: &QuantizeOptions,
    ) -> Result<Self, QuantizeError> {
        let graph = prepare(graph, ranges)?;
        let other = |reason: String| QuantizeError::OtherRanges { reason };
        for value in ranges.values.keys().chain(ranges.bias_corrections.keys()) {
            if graph.find_type(value).is_none() {
                return Err(other(format!(
                    "they name {value:?}, which it does not have"
                )));
            }
        }
        let points = points_of(&graph, options)?;
        let normalization = ModelCard::from_metadata(&graph.metadata, Path::new(""))
            .ok()
            .map(|card| Grid {
                scale: card.normalization.scale,
                zero_point: card.normalization.zero_point,
            });
        let grids = points
            .points
            .iter()
            .map(|point| match normalization.filter(|_| point.is_input) {
                Some(grid) => Ok(grid),
                None => grid_of(&graph, point, ranges),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            graph,
            points,
            grids,
            bits: if options.reduce_range {
                WeightBits::Seven
            } else {
                WeightBits::Eight
            },
            corrections: ranges.bias_corrections.clone(),
        })
    }

    /// The grid of a value that lies on one.
    pub(super) fn grid(&self, value: &str) -> Option<Grid> {
        self.points.index_of(value).map(|index| self.grids[index])
    }

    /// The grid of a value that an integer node reads or makes.
    pub(super) fn grid_of(&self, value: &str) -> Grid {
        self.grid(value)
            .expect("an integer node's values lie on grids")
    }

    /// Each node with its form; of an integer node also the value that it makes: after the node that it absorbs.
    pub(super) fn steps(&self) -> Vec<(&Node, NodeForm, String)> {
        let absorbed_output = |node: &Node| {
            self.graph
                .nodes
                .iter()
                .zip(&self.points.forms)
                .find(|(next, form)| {
                    **form == NodeForm::Absorbed && next.inputs[0] == node.outputs[0]
                })
                .map(|(next, _)| next.outputs[0].clone())
        };
        self.graph
            .nodes
            .iter()
            .zip(&self.points.forms)
            .map(|(node, &form)| {
                let made = match form {
                    NodeForm::Integer => absorbed_output(node),
                    _ => None,
                };
                (node, form, made.unwrap_or_else(|| node.outputs[0].clone()))
            })
            .collect()
    }

    /// The weights of an integer Conv or Gemm, its bias correction in the bias.
    pub(super) fn float_weights(&self, node: &Node) -> Result<FloatWeights, QuantizeError> {
        let mut weights = FloatWeights::of(&self.graph, node)
            .expect("only nodes with constant weights compute with integers");
        if let Some(correction) = self.corrections.get(&node.outputs[0]) {
            if correction.len() != weights.bias.len() {
                return Err(QuantizeError::OtherRanges {
                    reason: format!(
                        "{} bias corrections for the {} channels of {:?}",
                        correction.len(),
                        weights.bias.len(),
                        node.outputs[0]
                    ),
                });
            }
            for (bias, added) in weights.bias.iter_mut().zip(correction) {
                *bias += added;
            }
        }
        Ok(weights)
    }

    /// [`Plan::float_weights`] as integers.
    pub(super) fn integer_weights(&self, node: &Node) -> Result<IntegerWeights, QuantizeError> {
        let scale = self.grid_of(&node.inputs[0]).scale;
        self.float_weights(node)?
            .quantize(scale, self.bits, &node.inputs[1])
    }

    /// The constants that nodes of the given forms read, by name.
    pub(super) fn constants_of(&self, forms: &[NodeForm]) -> HashSet<&str> {
        self.graph
            .nodes
            .iter()
            .zip(&self.points.forms)
            .filter(|(_, form)| forms.contains(form))
            .flat_map(|(node, _)| &node.inputs)
            .map(String::as_str)
            .filter(|name| self.graph.initializers.contains_key(*name))
            .collect()
    }

    /// A graph with the prepared one's name, metadata and inputs and some of its constants.
    pub(super) fn begin(&self, forms: &[NodeForm]) -> Result<Graph, QuantizeError> {
        let mut graph = Graph::new(&self.graph.name);
        graph.metadata.clone_from(&self.graph.metadata);
        for (name, of) in &self.graph.inputs {
            graph.input(name, of.clone())?;
        }
        let constants = self.constants_of(forms);
        for (name, tensor) in &self.graph.initializers {
            if constants.contains(name.as_str()) {
                graph.parameter(name, tensor.clone())?;
            }
        }
        Ok(graph)
    }
}

/// The grid of a point: the ranges of its members together, within the bounds of what it absorbs.
fn grid_of(graph: &Graph, point: &Point, ranges: &Ranges) -> Result<Grid, QuantizeError> {
    let mut joined: Option<super::Range> = None;
    for member in &point.members {
        let Some(range) = range_of(graph, member, ranges) else {
            return Err(QuantizeError::OtherRanges {
                reason: format!("they have none for {member:?}"),
            });
        };
        joined = Some(joined.map_or(range, |joined| joined.union(&range)));
    }
    let range = joined.expect("a point has members");
    Ok(range.clamped(point.lowest, point.highest).grid())
}

/// The range of a value: its own, or that of what it was only moved from. A node that is kept in float can leave the
/// result of such a move to be rounded where the ranges know the value before it.
fn range_of(graph: &Graph, value: &str, ranges: &Ranges) -> Option<super::Range> {
    if let Some(range) = ranges.values.get(value) {
        return Some(*range);
    }
    let node = graph
        .nodes
        .iter()
        .find(|node| node.outputs.first().is_some_and(|output| output == value))?;
    match node.op.as_str() {
        "MaxPool" | "Flatten" | "Reshape" | "Resize" => range_of(graph, &node.inputs[0], ranges),
        _ => None,
    }
}
