//! Reductions.

use super::{Adjoint, Gradients, Site, Types, with_shape};
use crate::train::graph::{Graph, GraphError};

/// The axes that a reduction reduces.
fn reduced_axes(site: &Site) -> Result<Vec<usize>, GraphError> {
    let rank = site.input(0)?.rank();
    match site.optional_ints(1)? {
        Some(axes) if !axes.is_empty() => site.axes(axes, rank),
        _ if site.int("noop_with_empty_axes", 0) != 0 => Ok(vec![]),
        _ => Ok((0..rank).collect()),
    }
}

/// Shape of the result with the reduced axes kept as 1.
fn kept_shape(shape: &[usize], axes: &[usize]) -> Vec<usize> {
    (0..shape.len())
        .map(|axis| if axes.contains(&axis) { 1 } else { shape[axis] })
        .collect()
}

pub(super) fn reduce(site: &Site) -> Types {
    let x = site.input(0)?;
    let axes = reduced_axes(site)?;
    let shape = if site.int("keepdims", 1) != 0 {
        kept_shape(&x.shape, &axes)
    } else {
        (0..x.rank())
            .filter(|axis| !axes.contains(axis))
            .map(|axis| x.shape[axis])
            .collect()
    };
    Ok(vec![with_shape(x, shape)])
}

/// A value of the result's shape (`dy` or `y`) with the reduced axes kept as 1.
fn kept(adjoint: &mut Adjoint, value: &str) -> Result<String, GraphError> {
    let axes = reduced_axes(&adjoint.site())?;
    let shape = kept_shape(&adjoint.shape(adjoint.x(0)), &axes);
    adjoint.graph.reshape(value, &shape)
}

/// y = sum x; dx = dy, expanded.
pub(super) fn sum_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let dy = kept(adjoint, adjoint.dy()?)?;
    let shape = adjoint.shape(adjoint.x(0));
    Ok(vec![Some(expand(adjoint.graph, &dy, &shape)?)])
}

/// y = sum x / n; dx = dy / n, expanded.
pub(super) fn mean_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let dy = kept(adjoint, adjoint.dy()?)?;
    let shape = adjoint.shape(adjoint.x(0));
    let count = shape.iter().product::<usize>() / adjoint.graph.type_of(&dy).element_count().max(1);
    let dy = adjoint.graph.scale(&dy, 1.0 / count as f64)?;
    Ok(vec![Some(expand(adjoint.graph, &dy, &shape)?)])
}

/// y = sum x^2; dx = 2 x dy.
pub(super) fn sum_square_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let dy = kept(adjoint, adjoint.dy()?)?;
    let dy = adjoint.graph.scale(&dy, 2.0)?;
    Ok(vec![Some(adjoint.graph.mul(adjoint.x(0), &dy)?)])
}

/// y = sqrt(sum x^2); dx = x dy / y.
pub(super) fn l2_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let ratio = adjoint.graph.div(adjoint.dy()?, adjoint.y())?;
    let ratio = kept(adjoint, &ratio)?;
    Ok(vec![Some(adjoint.graph.mul(adjoint.x(0), &ratio)?)])
}

/// `x` broadcast to a shape.
pub(super) fn expand(graph: &mut Graph, x: &str, shape: &[usize]) -> Result<String, GraphError> {
    if graph.shape(x) == shape {
        return Ok(x.to_owned());
    }
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    let shape = graph.ints(&shape);
    graph.apply("Expand", &[x, &shape], &[])
}

/// The sum of `x` over the axes along which a value of `shape` would have to be broadcast to have the shape of `x`.
pub(super) fn sum_to_shape(
    graph: &mut Graph,
    x: &str,
    shape: &[usize],
) -> Result<String, GraphError> {
    let from = graph.shape(x).to_vec();
    if from == shape {
        return Ok(x.to_owned());
    }
    let lead = from.len() - shape.len();
    let summed: Vec<usize> = (0..from.len())
        .filter(|&axis| from[axis] != 1 && (axis < lead || shape[axis - lead] == 1))
        .collect();
    let summed = sum_axes(graph, x, &summed)?;
    graph.reshape(&summed, shape)
}

/// The sum over sorted `axes`, which stay with size 1. Axes that are not neighbours are summed one run after the other,
/// the last first, because reductions of one block of axes are the fast ones.
pub(super) fn sum_axes(graph: &mut Graph, x: &str, axes: &[usize]) -> Result<String, GraphError> {
    let mut value = x.to_owned();
    for run in axes.chunk_by(|a, b| a + 1 == *b).rev() {
        value = graph.reduce("ReduceSum", &value, run, true)?;
    }
    Ok(value)
}
