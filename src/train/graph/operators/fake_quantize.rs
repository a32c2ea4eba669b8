//! Rounding as the int8 form will do it, within a float graph that is trained: type rules, and the straight-through
//! adjoints (Bengio et al. 2013; clipped as in Jacob et al. 2018, section 3).
//!
//! `FakeQuantize(x, range [2]) -> y, observed [2]` rounds to the 256 levels of a range, after a ReLU with `rectify = 1`;
//! a range without width leaves values as they are. `observed` is the least and the greatest value that came in (after
//! the ReLU). `FakeQuantizeWeight(w) -> y` rounds each slice along `axis` to the symmetric grid of its own largest size
//! with `largest` steps on each side.

use super::{Adjoint, Gradients, Site, Types};
use crate::train::{
    graph::{Attribute, Graph, GraphError, Node, TensorType},
    quantize::grid::SMALLEST_SCALE,
};
use std::collections::BTreeMap;

/// A range, least and greatest value.
fn range_input(site: &Site, index: usize) -> Result<TensorType, GraphError> {
    let range = site.like_first(index)?;
    if range.shape != [2] {
        return Err(site.bad(format!("input {index}"), "a range [2]", range));
    }
    Ok(range.clone())
}

pub(super) fn fake_quantize(site: &Site) -> Types {
    let x = site.float_input(0)?.clone();
    let range = range_input(site, 1)?;
    Ok(vec![x, range])
}

/// FakeQuantizeGrad: x, dy and the range.
pub(super) fn fake_quantize_grad(site: &Site) -> Types {
    let (x, dy) = (site.float_input(0)?, site.like_first(1)?);
    if dy.shape != x.shape {
        return Err(site.bad("input 1", x, dy));
    }
    range_input(site, 2)?;
    Ok(vec![x.clone()])
}

pub(super) fn fake_quantize_weight(site: &Site) -> Types {
    let w = site.float_input(0)?;
    site.axis(site.int("axis", 0), w.rank())?;
    let largest = site.int("largest", 127);
    if !(1..=127).contains(&largest) {
        return Err(site.bad("largest", "1 to 127", largest));
    }
    Ok(vec![w.clone()])
}

/// Nothing is clipped: the largest weight is a level. dw = dy.
pub(super) fn fake_quantize_weight_adjoint(adjoint: &mut Adjoint) -> Gradients {
    Ok(vec![Some(adjoint.dy()?.to_owned())])
}

/// dx = dy where x rounds to a level without saturating, and where the ReLU lets it through.
pub(super) fn fake_quantize_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let dy = adjoint.dy()?;
    let (x, range) = (adjoint.x(0), adjoint.x(1));
    let rectify = adjoint.node.int("rectify").unwrap_or(0);
    if adjoint.on_cpu() {
        let dx = adjoint.graph.apply(
            "FakeQuantizeGrad",
            &[x, dy, range],
            &[("rectify", Attribute::Int(rectify))],
        )?;
        return Ok(vec![Some(dx), None]);
    }
    let graph = &mut *adjoint.graph;
    let (lower, upper) = passing_bounds(graph, range, rectify != 0)?;
    let above = graph.apply("Greater", &[x, &lower], &[])?;
    let below = graph.apply("Less", &[x, &upper], &[])?;
    let inside = graph.apply("And", &[&above, &below], &[])?;
    Ok(vec![Some(adjoint.masked(dy, &inside)?), None])
}

/// The grid of a range as values of a graph, each `[1]`.
struct GridNodes {
    /// Truth value: the range has no width.
    empty: String,
    /// Distance of two levels; 1 without width.
    scale: String,
    /// Levels below 0, as a number of at most 0.
    below_zero: String,
}

fn grid_nodes(graph: &mut Graph, range: &str) -> Result<GridNodes, GraphError> {
    let zero = graph.scalar_like(0.0, range);
    let low = graph.slice(range, &[0], &[0], &[1], &[1])?;
    let high = graph.slice(range, &[0], &[1], &[2], &[1])?;
    let low = graph.apply("Min", &[&low, &zero], &[])?;
    let high = graph.apply("Max", &[&high, &zero], &[])?;
    let width = graph.sub(&high, &low)?;
    let levels = graph.scalar_like(255.0, range);
    let scale = graph.div(&width, &levels)?;
    let smallest = graph.scalar_like(f64::from(SMALLEST_SCALE), range);
    let empty = graph.apply("Less", &[&scale, &smallest], &[])?;
    let one = graph.constant_like(range, &[1], &[1.0]);
    let scale = graph.apply("Where", &[&empty, &one, &scale], &[])?;
    let below_zero = graph.div(&low, &scale)?;
    let below_zero = graph.unary("Round", &below_zero)?;
    Ok(GridNodes {
        empty,
        scale,
        below_zero,
    })
}

/// Where values begin and end to pass a gradient: half a step beyond the first and the last level; everywhere when the
/// range has no width; above 0 alone behind a ReLU.
fn passing_bounds(
    graph: &mut Graph,
    range: &str,
    rectify: bool,
) -> Result<(String, String), GraphError> {
    let grid = grid_nodes(graph, range)?;
    let mut bound = |levels: f64, everything: f64| -> Result<String, GraphError> {
        let edge = graph.offset(&grid.below_zero, levels)?;
        let edge = graph.mul(&edge, &grid.scale)?;
        let everything = graph.constant_like(range, &[1], &[everything]);
        graph.apply("Where", &[&grid.empty, &everything, &edge], &[])
    };
    let upper = bound(255.5, f64::INFINITY)?;
    let lower = match rectify {
        true => graph.scalar_like(0.0, range),
        false => bound(-0.5, f64::NEG_INFINITY)?,
    };
    Ok((lower, upper))
}

/// The graph with FakeQuantize and FakeQuantizeWeight written in ONNX's own operators, for execution providers that do
/// not have ours. Only for graphs that nothing is derived from any more: Round has no gradient.
///
/// # Errors
/// None that a graph of this crate can cause.
pub(in crate::train) fn in_stock_operators(graph: &Graph) -> Result<Graph, GraphError> {
    let mut stock = Graph::new(&graph.name);
    stock.metadata.clone_from(&graph.metadata);
    // Made-up names begin past those of the graph.
    stock.fresh = graph.fresh;
    for (name, of) in &graph.inputs {
        stock.input(name, of.clone())?;
    }
    for (name, tensor) in &graph.initializers {
        stock.restore(name, tensor.clone())?;
    }
    for node in &graph.nodes {
        match node.op.as_str() {
            "FakeQuantize" => round_values(&mut stock, node)?,
            "FakeQuantizeWeight" => round_weights(&mut stock, node)?,
            _ => stock.push(node.clone())?,
        }
    }
    stock.outputs.clone_from(&graph.outputs);
    Ok(stock)
}

fn round_values(graph: &mut Graph, node: &Node) -> Result<(), GraphError> {
    let grid = grid_nodes(graph, &node.inputs[1])?;
    let x = match node.int("rectify").unwrap_or(0) {
        0 => node.inputs[0].clone(),
        _ => graph.unary("Relu", &node.inputs[0])?,
    };
    let steps = graph.div(&x, &grid.scale)?;
    let last = graph.offset(&grid.below_zero, 255.0)?;
    let steps = graph.apply("Min", &[&steps, &last], &[])?;
    let steps = graph.apply("Max", &[&steps, &grid.below_zero], &[])?;
    let steps = graph.unary("Round", &steps)?;
    let rounded = graph.mul(&steps, &grid.scale)?;
    graph.push(Node {
        name: node.name.clone(),
        op: "Where".to_owned(),
        domain: String::new(),
        inputs: vec![grid.empty, x.clone(), rounded],
        outputs: node.outputs[..1].to_vec(),
        attributes: BTreeMap::new(),
    })?;
    if let Some(observed) = node.outputs.get(1) {
        let low = graph.reduce("ReduceMin", &x, &[], false)?;
        let high = graph.reduce("ReduceMax", &x, &[], false)?;
        let (low, high) = (graph.reshape(&low, &[1])?, graph.reshape(&high, &[1])?);
        let axis = [("axis", Attribute::Int(0))];
        graph.apply_named("Concat", &[&low, &high], &axis, observed)?;
    }
    Ok(())
}

fn round_weights(graph: &mut Graph, node: &Node) -> Result<(), GraphError> {
    let w = &node.inputs[0];
    let axis = node.int("axis").unwrap_or(0);
    let others: Vec<usize> = (0..graph.shape(w).len())
        .filter(|&other| other as i64 != axis)
        .collect();
    let sizes = graph.unary("Abs", w)?;
    let largest_weight = graph.reduce("ReduceMax", &sizes, &others, true)?;
    let steps = graph.scalar_like(node.int("largest").unwrap_or(127) as f64, w);
    let scale = graph.div(&largest_weight, &steps)?;
    let smallest = graph.scalar_like(f64::from(SMALLEST_SCALE), w);
    let empty = graph.apply("Less", &[&scale, &smallest], &[])?;
    let one = graph.scalar_like(1.0, w);
    let scale = graph.apply("Where", &[&empty, &one, &scale], &[])?;
    let steps = graph.div(w, &scale)?;
    let steps = graph.unary("Round", &steps)?;
    graph.apply_named("Mul", &[&steps, &scale], &[], &node.outputs[0])?;
    Ok(())
}
