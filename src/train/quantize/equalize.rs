//! Cross-layer equalisation (Nagel et al. 2019, "Data-free quantization through weight equalization and bias
//! correction", section 4.1): a channel between two layers is divided by a factor in the first and multiplied by it in
//! the second, which changes nothing in floats since a ReLU lets positive factors through.
//!
//! The paper balances the first layer's weights against the second's (equations 10 to 12). Here weights have a scale an
//! output channel, so the first layer's weights need no help, but the activation between has one scale for all its
//! channels. So the measured spans of the activation's channels take the place of the first weights' ranges.

use super::QuantizeError;
use crate::train::graph::{Graph, Node, Tensor};
use std::collections::{BTreeMap, HashMap};

/// Channels of calibration spans below this share of the largest are treated as if they had it: what never was active
/// on the calibration pictures must not be amplified without bound.
const SMALLEST_SHARE: f32 = 1.0 / 64.0;

/// A value whose channels may be scaled: made by a Conv (and a Relu), read by one Conv or, flattened, by one Gemm.
struct Edge<'a> {
    /// The activation, after the Relu.
    value: &'a str,
    first: &'a Node,
    second: &'a Node,
    channels: usize,
    /// Columns of a Gemm's weight that belong to a channel; 1 for a Conv.
    positions: usize,
}

/// The values whose channels [`equalization_factors`] can scale, in the graph's order.
pub(super) fn equalizable_values(graph: &Graph) -> Vec<String> {
    edges(graph)
        .into_iter()
        .map(|edge| edge.value.to_owned())
        .collect()
}

/// The factor by which each channel of each equalisable value is divided; `spans` holds the largest magnitude of each
/// channel by value.
///
/// With a depthwise second layer, whose weights have a scale for each channel, all channels get one span. Otherwise
/// spans `a` and the second layer's weights `w` are balanced: `s = sqrt(a / w)` makes both `sqrt(a w)`.
pub(super) fn equalization_factors(
    graph: &Graph,
    spans: &BTreeMap<String, Vec<f32>>,
) -> BTreeMap<String, Vec<f32>> {
    let mut factors = BTreeMap::new();
    for edge in edges(graph) {
        let Some(spans) = spans.get(edge.value) else {
            continue;
        };
        let largest = spans.iter().fold(0.0f32, |most, &span| most.max(span));
        if largest <= 0.0 {
            continue;
        }
        let shares = spans
            .iter()
            .map(|span| (span / largest).max(SMALLEST_SHARE));
        let values: Vec<f32> = match reading_weights(graph, &edge) {
            None => shares.collect(),
            Some(weights) => {
                let balanced: Vec<f32> = shares
                    .zip(weights)
                    .map(|(share, weight)| (share / weight.max(SMALLEST_SHARE)).sqrt())
                    .collect();
                // One factor for all changes nothing; the largest is 1 as with a depthwise layer.
                let largest = balanced
                    .iter()
                    .fold(0.0f32, |most, &factor| most.max(factor));
                balanced.iter().map(|factor| factor / largest).collect()
            }
        };
        factors.insert(edge.value.to_owned(), values);
    }
    factors
}

/// The graph with channels scaled by `factors`; it computes the same.
///
/// # Errors
/// A factor is not positive, or they are not of this graph.
pub(super) fn equalize(
    graph: &Graph,
    factors: &BTreeMap<String, Vec<f32>>,
) -> Result<Graph, QuantizeError> {
    let mut equalized = graph.clone();
    let mut used = 0;
    for edge in edges(graph) {
        let Some(factors) = factors.get(edge.value) else {
            continue;
        };
        let usable = |&factor: &f32| factor.is_finite() && factor >= f32::MIN_POSITIVE;
        if factors.len() != edge.channels || !factors.iter().all(usable) {
            return Err(QuantizeError::OtherRanges {
                reason: format!(
                    "expected {} positive factors for {:?}, found {} of which some may not be",
                    edge.channels,
                    edge.value,
                    factors.len()
                ),
            });
        }
        used += 1;
        let taps = taps_of(&equalized, edge.first);
        scale(&mut equalized, &edge.first.inputs[1], |index| {
            1.0 / f64::from(factors[index / taps])
        });
        if let Some(bias) = edge.first.input(2) {
            scale(&mut equalized, bias, |index| {
                1.0 / f64::from(factors[index])
            });
        }
        let channel = channel_of_weight(graph, &edge);
        scale(&mut equalized, &edge.second.inputs[1], |index| {
            f64::from(factors[channel(index)])
        });
    }
    if used != factors.len() {
        return Err(QuantizeError::OtherRanges {
            reason: "they scale channels that cannot be scaled".to_owned(),
        });
    }
    Ok(equalized)
}

fn scale(graph: &mut Graph, name: &str, factor: impl Fn(usize) -> f64) {
    let tensor = graph
        .initializers
        .get_mut(name)
        .expect("an edge's weight is a constant");
    let values = tensor.as_f32().expect("of floats");
    let scaled = values
        .iter()
        .enumerate()
        .map(|(index, &value)| (f64::from(value) * factor(index)) as f32)
        .collect();
    *tensor = Tensor::f32(&tensor.shape.clone(), scaled);
}

fn taps_of(graph: &Graph, node: &Node) -> usize {
    graph.shape(&node.inputs[1])[1..]
        .iter()
        .product::<usize>()
        .max(1)
}

/// Of each element of the second layer's weight, the channel of the value between that it multiplies.
fn channel_of_weight(graph: &Graph, edge: &Edge) -> impl Fn(usize) -> usize + use<> {
    let shape = graph.shape(&edge.second.inputs[1]).to_vec();
    let (kind, positions, channels) = (edge.second.op.clone(), edge.positions, edge.channels);
    let by_rows = edge.second.int("transB").unwrap_or(0) != 0;
    move |index| match kind.as_str() {
        "Gemm" if by_rows => index % shape[1] / positions,
        "Gemm" => index / shape[1] / positions,
        _ => {
            let kernel: usize = shape[2..].iter().product();
            let outputs_in_group = shape[0] * shape[1] / channels;
            let (output, input) = (index / (kernel * shape[1]), index / kernel % shape[1]);
            output / outputs_in_group * shape[1] + input
        }
    }
}

/// How large the weights that read each channel are, relative to the largest weight of their output channel; `None` when
/// each output channel reads one channel alone.
fn reading_weights(graph: &Graph, edge: &Edge) -> Option<Vec<f32>> {
    let weight = &graph.initializers[&edge.second.inputs[1]];
    let by_columns = edge.second.op == "Gemm" && edge.second.int("transB").unwrap_or(0) == 0;
    let (outputs, inputs) = match by_columns {
        true => (weight.shape[1], weight.shape[0]),
        false => (weight.shape[0], taps_of(graph, edge.second)),
    };
    if edge.second.op == "Conv" && weight.shape[1] == 1 {
        return None;
    }
    let values = weight.as_f32()?;
    let output_of = |index: usize| match by_columns {
        true => index % outputs,
        false => index / inputs,
    };
    let mut largest_of_output = vec![0.0f32; outputs];
    for (index, value) in values.iter().enumerate() {
        let largest = &mut largest_of_output[output_of(index)];
        *largest = largest.max(value.abs());
    }
    let channel = channel_of_weight(graph, edge);
    let mut largest_of_channel = vec![0.0f32; edge.channels];
    for (index, value) in values.iter().enumerate() {
        let whole = largest_of_output[output_of(index)];
        if whole > 0.0 {
            let largest = &mut largest_of_channel[channel(index)];
            *largest = largest.max(value.abs() / whole);
        }
    }
    Some(largest_of_channel)
}

fn edges(graph: &Graph) -> Vec<Edge<'_>> {
    let mut readers: HashMap<&str, Vec<&Node>> = HashMap::new();
    for node in &graph.nodes {
        for value in &node.inputs {
            readers.entry(value).or_default().push(node);
        }
    }
    let only_reader = |value: &str| match readers.get(value)?.as_slice() {
        [node] if !graph.outputs.iter().any(|output| output == value) => Some(*node),
        _ => None,
    };
    // A weight that several nodes share cannot be scaled for one of them.
    let own_floats = |node: &Node, index: usize| {
        node.input(index).is_some_and(|name| {
            readers[name].len() == 1
                && graph
                    .initializers
                    .get(name)
                    .is_some_and(|tensor| tensor.as_f32().is_some())
        })
    };
    let mut found = Vec::new();
    for first in graph.nodes.iter().filter(|node| node.op == "Conv") {
        if !own_floats(first, 1) || (first.input(2).is_some() && !own_floats(first, 2)) {
            continue;
        }
        let mut value = first.outputs[0].as_str();
        let Some(mut next) = only_reader(value) else {
            continue;
        };
        if next.op == "Relu" {
            value = next.outputs[0].as_str();
            match only_reader(value) {
                Some(node) => next = node,
                None => continue,
            }
        }
        let channels = graph.shape(value)[1];
        let mut positions = 1;
        if next.op == "Flatten" && next.int("axis").unwrap_or(1) == 1 {
            positions = graph.shape(value)[2..].iter().product();
            match only_reader(&next.outputs[0]) {
                Some(node) if node.op == "Gemm" && node.int("transA").unwrap_or(0) == 0 => {
                    next = node;
                }
                _ => continue,
            }
        } else if next.op != "Conv" {
            continue;
        }
        if own_floats(next, 1) {
            found.push(Edge {
                value,
                first,
                second: next,
                channels,
                positions,
            });
        }
    }
    found
}
