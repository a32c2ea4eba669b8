//! Softmax and batch normalisation in inference form.

use super::{Adjoint, Gradients, Site, Types, with_shape};
use crate::train::graph::{Attribute, Graph, GraphError};

pub(super) fn softmax(site: &Site) -> Types {
    let x = site.float_input(0)?;
    site.axis(site.int("axis", -1), x.rank())?;
    Ok(vec![x.clone()])
}

/// BatchNormalization in inference form: x `[N, C, ..]`, then scale, bias, mean and variance `[C]`.
pub(super) fn batch_normalization(site: &Site) -> Types {
    let x = site.float_input(0)?;
    if site.int("training_mode", 0) != 0 {
        return Err(site.bad("training_mode", "0 (inference form)", 1));
    }
    if x.rank() < 2 {
        return Err(site.bad("input 0", "at least two axes", x));
    }
    for index in 1..5 {
        let of = site.like_first(index)?;
        if of.shape != [x.shape[1]] {
            return Err(site.bad(format!("input {index}"), format!("[{}]", x.shape[1]), of));
        }
    }
    Ok(vec![x.clone()])
}

/// BatchNormalizationGrad: x and dy `[N, C, ..]`, then scale, mean and variance `[C]`, to dx, dscale and dbias.
pub(super) fn batch_normalization_grad(site: &Site) -> Types {
    let (x, dy) = (site.float_input(0)?, site.like_first(1)?);
    if x.rank() < 2 || dy.shape != x.shape {
        return Err(site.bad(
            "inputs 0 and 1",
            "equal shapes of images",
            format!("{x}, {dy}"),
        ));
    }
    for index in 2..5 {
        let of = site.like_first(index)?;
        if of.shape != [x.shape[1]] {
            return Err(site.bad(format!("input {index}"), format!("[{}]", x.shape[1]), of));
        }
    }
    let of_channels = with_shape(x, vec![x.shape[1]]);
    Ok(vec![x.clone(), of_channels.clone(), of_channels])
}

/// dx = y (dy - sum(y dy)), the sum along the axis.
pub(super) fn softmax_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let (y, dy) = (adjoint.y(), adjoint.dy()?);
    let axis = softmax_axis(adjoint)?;
    let graph = &mut *adjoint.graph;
    let product = graph.mul(y, dy)?;
    let sum = graph.reduce("ReduceSum", &product, &[axis], true)?;
    let centred = graph.sub(dy, &sum)?;
    Ok(vec![Some(graph.mul(y, &centred)?)])
}

/// dx = dy - e^y sum(dy), the sum along the axis.
pub(super) fn log_softmax_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let (y, dy) = (adjoint.y(), adjoint.dy()?);
    let axis = softmax_axis(adjoint)?;
    let graph = &mut *adjoint.graph;
    let sum = graph.reduce("ReduceSum", dy, &[axis], true)?;
    let softmax = graph.unary("Exp", y)?;
    let share = graph.mul(&softmax, &sum)?;
    Ok(vec![Some(graph.sub(dy, &share)?)])
}

fn softmax_axis(adjoint: &Adjoint) -> Result<usize, GraphError> {
    let site = adjoint.site();
    site.axis(site.int("axis", -1), site.input(0)?.rank())
}

/// `x` `[N, C, ..]` as `[N, C, rest]`.
pub(in crate::train) fn rows_of_channels(graph: &mut Graph, x: &str) -> Result<String, GraphError> {
    let shape = graph.shape(x).to_vec();
    graph.reshape(x, &[shape[0], shape[1], shape[2..].iter().product()])
}

/// `x` `[N, C, rest]` summed (or averaged, ..) to `[C]`.
pub(in crate::train) fn reduce_to_channels(
    graph: &mut Graph,
    op: &str,
    x: &str,
) -> Result<String, GraphError> {
    // Reducing one block of axes at a time is the fast case; after the first the rest is small.
    let rows = graph.reduce(op, x, &[2], false)?;
    graph.reduce(op, &rows, &[0], false)
}

/// y = scale (x - mean) r + bias with r = 1 / sqrt(variance + epsilon).
///
/// With constant statistics dx = scale r dy. With the statistics of the batch (see
/// [`training_form`](crate::train::autodiff::training_form)) x also acts through them; summed up (Ioffe and Szegedy
/// 2015, the equations of section 3, with m elements a channel and g = sum(dy (x - mean) r)):
/// dx = scale r (dy - sum(dy) / m - (x - mean) r g / m).
pub(super) fn batch_normalization_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let [x, scale, mean, variance] = [0, 1, 3, 4].map(|index| adjoint.x(index));
    let dy = adjoint.dy()?;
    let of_batch = adjoint.graph.normalizes_by_batch(adjoint.y());
    if !of_batch && (adjoint.needs(3) || adjoint.needs(4)) {
        return Err(adjoint.missing("its statistics depend on what is differentiated"));
    }
    let epsilon = f64::from(adjoint.node.float("epsilon").unwrap_or(1e-5));
    if of_batch && adjoint.on_cpu() {
        let inputs = [x, dy, scale, mean, variance];
        let attributes = [("epsilon", Attribute::Float(epsilon as f32))];
        let gradients =
            adjoint
                .graph
                .apply_multi("BatchNormalizationGrad", &inputs, &attributes, 3)?;
        return Ok(gradients.into_iter().map(Some).collect());
    }
    let needs_x = adjoint.needs(0);
    let shape = adjoint.shape(x);
    let graph = &mut *adjoint.graph;
    let count = (graph.type_of(x).element_count() / shape[1]).max(1) as f64;
    let x_rows = rows_of_channels(graph, x)?;
    let dy_rows = rows_of_channels(graph, dy)?;
    let shifted = graph.offset(variance, epsilon)?;
    let deviation = graph.unary("Sqrt", &shifted)?;
    let r = graph.unary("Reciprocal", &deviation)?;
    let sum_dy = reduce_to_channels(graph, "ReduceSum", &dy_rows)?;
    let products = graph.mul(&dy_rows, &x_rows)?;
    let sum_products = reduce_to_channels(graph, "ReduceSum", &products)?;
    let shift = graph.mul(mean, &sum_dy)?;
    let centred = graph.sub(&sum_products, &shift)?;
    let g = graph.mul(&centred, &r)?;
    let dx = if needs_x {
        let channel = [shape[1], 1];
        let factor = graph.mul(scale, &r)?;
        let factor_column = graph.reshape(&factor, &channel)?;
        let mut dx = graph.mul(&dy_rows, &factor_column)?;
        if of_batch {
            // dx = factor dy + slope x + offset, with one slope and offset a channel.
            let slope = graph.mul(&factor, &g)?;
            let slope = graph.mul(&slope, &r)?;
            let slope = graph.scale(&slope, -1.0 / count)?;
            let level = graph.mul(&factor, &sum_dy)?;
            let level = graph.scale(&level, -1.0 / count)?;
            let moved = graph.mul(&slope, mean)?;
            let offset = graph.sub(&level, &moved)?;
            let line = affine(graph, &x_rows, &slope, &offset)?;
            dx = graph.add(&dx, &line)?;
        }
        Some(graph.reshape(&dx, &shape)?)
    } else {
        None
    };
    Ok(vec![dx, Some(g), Some(sum_dy), None, None])
}

/// `x slope + offset` with one slope and offset a channel: a batch normalisation by a mean of 0 and a deviation of 1,
/// which is one pass where a product and a sum would be two.
fn affine(graph: &mut Graph, x: &str, slope: &str, offset: &str) -> Result<String, GraphError> {
    const EPSILON: f32 = 1e-5;
    let channels = graph.shape(slope)[0];
    let mean = graph.constant_like(x, &[channels], &vec![0.0; channels]);
    let variance = graph.constant_like(x, &[channels], &vec![f64::from(1.0 - EPSILON); channels]);
    graph.apply(
        "BatchNormalization",
        &[x, slope, offset, &mean, &variance],
        &[("epsilon", Attribute::Float(EPSILON))],
    )
}
