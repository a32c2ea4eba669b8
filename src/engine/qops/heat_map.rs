//! Finds the mean of heat maps in a file: the float operators behind int8 scores that one step of a program can compute.

use super::{
    constants::Constants,
    onnx::{Translated, translate},
    operators::{HeatMapMean, Operator},
};
use crate::engine::{kernels::MOST_AXES, plan::node_name};
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::{GraphProto, NodeProto};

/// `DequantizeLinear`, `Reshape` to `[1, points, cells]`, `Softmax` over the cells, `MatMul` with a constant
/// `[cells, axes]`, `Flatten`, none of which anything else reads.
pub(super) struct Chain {
    /// All nodes but the last.
    pub(super) absorbed: Vec<usize>,
    /// What all of them are together.
    pub(super) translated: Translated,
}

/// The chains of a graph by the index of their last node.
pub(super) fn chains(graph: &GraphProto, constants: &Constants<'_>) -> HashMap<usize, Chain> {
    let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for input in &node.input {
            readers.entry(input).or_default().push(index);
        }
    }
    let outputs: HashSet<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    let next = |node: &NodeProto| -> Option<usize> {
        let output = node.output.first()?.as_str();
        match readers.get(output)?.as_slice() {
            [reader] if !outputs.contains(output) => Some(*reader),
            _ => None,
        }
    };
    let mut found = HashMap::new();
    for index in 0..graph.node.len() {
        let Some(indices) = follow(graph, index, next) else {
            continue;
        };
        if let Some(translated) = translated(constants, indices.map(|i| &graph.node[i])) {
            let [absorbed @ .., last] = indices;
            let absorbed = absorbed.to_vec();
            found.insert(
                last,
                Chain {
                    absorbed,
                    translated,
                },
            );
        }
    }
    found
}

fn follow(
    graph: &GraphProto,
    first: usize,
    next: impl Fn(&NodeProto) -> Option<usize>,
) -> Option<[usize; 5]> {
    const OPERATORS: [&str; 5] = [
        "DequantizeLinear",
        "Reshape",
        "Softmax",
        "MatMul",
        "Flatten",
    ];
    let mut indices = [first; 5];
    for (position, operator) in OPERATORS.into_iter().enumerate() {
        if position > 0 {
            let before = &graph.node[indices[position - 1]];
            indices[position] = next(before)?;
            let node = &graph.node[indices[position]];
            if node.input.first() != before.output.first() {
                return None;
            }
        }
        let node = &graph.node[indices[position]];
        if node.op_type != operator || !node.domain.is_empty() {
            return None;
        }
    }
    Some(indices)
}

/// `None` when the nodes are something else after all; they then run as they are.
fn translated(constants: &Constants<'_>, nodes: [&NodeProto; 5]) -> Option<Translated> {
    let [dequantize, reshape, softmax, product, flatten] = nodes;
    if constants.contains(dequantize.input.first()?) {
        return None;
    }
    let scores = translate(dequantize, node_name(dequantize), constants).ok()?;
    let Operator::Dequantize(quantization) = scores.operator else {
        return None;
    };
    let int = |node: &NodeProto, name: &str, default: i64| match node.attribute.as_slice() {
        [] => Some(default),
        [only] if only.name == name => Some(only.i),
        _ => None,
    };
    if int(reshape, "allowzero", 0)? != 0 || int(flatten, "axis", 1)? != 1 {
        return None;
    }
    let shape = constants.i64(reshape.input.get(1)?).ok()?.values;
    let places = constants.f32(product.input.get(1)?).ok()?;
    let ([0 | 1, points, cells_or_rest], [cells, axes]) = (&shape[..], &places.shape[..]) else {
        return None;
    };
    let points = usize::try_from(*points).ok().filter(|&points| points > 0)?;
    let same_cells = *cells_or_rest == -1 || usize::try_from(*cells_or_rest) == Ok(*cells);
    let last_axis = matches!(int(softmax, "axis", -1)?, 2 | -1);
    (same_cells && last_axis && (1..=MOST_AXES).contains(axes)).then(|| Translated {
        operator: Operator::HeatMapMean(Box::new(HeatMapMean {
            scale: quantization.scale,
            points,
            cells: *cells,
            axes: *axes,
            places: places.values,
        })),
        inputs: scores.inputs,
    })
}
