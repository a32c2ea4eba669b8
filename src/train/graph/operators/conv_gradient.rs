//! Adjoints of convolutions.

use super::conv::ConvGeometry;
use super::{Adjoint, Gradients, linear};
use crate::train::graph::{Attribute, Graph, GraphError};

/// y = conv(x, w) + b. dx is the transposed convolution of dy, dw the correlation of x with dy, db the sum of dy.
pub(super) fn conv_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let (x, w, dy) = (adjoint.x(0), adjoint.x(1), adjoint.dy()?);
    let kernel = adjoint.shape(w)[2..].to_vec();
    let geometry = ConvGeometry::of(&adjoint.site(), &kernel)?;
    let needs = [0, 1, 2].map(|index| adjoint.needs(index));
    // Our own operators work on images.
    let own = adjoint.on_cpu() && kernel.len() == 2;
    let graph = &mut *adjoint.graph;
    let dx = match (needs[0], geometry.is_pointwise()) {
        (false, _) => None,
        (true, true) => Some(pointwise_dx(graph, x, w, dy)?),
        (true, false) => Some(conv_dx(graph, x, w, dy, &geometry, own)?),
    };
    let dw = match (needs[1], geometry.is_pointwise()) {
        (false, _) => None,
        (true, true) => Some(pointwise_dw(graph, x, w, dy)?),
        (true, false) => Some(weight_gradient(graph, x, w, dy, &geometry, own)?),
    };
    let db = match needs[2] {
        true => Some(bias_gradient(graph, dy)?),
        false => None,
    };
    Ok(vec![dx, dw, db])
}

/// y = conv_transpose(x, w) + b, which is what a convolution does to its dy: dx is the convolution of dy, and in dw x and
/// dy change places.
pub(super) fn conv_transpose_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let (x, w, dy) = (adjoint.x(0), adjoint.x(1), adjoint.dy()?);
    let kernel = adjoint.shape(w)[2..].to_vec();
    let geometry = ConvGeometry::of(&adjoint.site(), &kernel)?;
    let needs = [0, 1, 2].map(|index| adjoint.needs(index));
    // Our own operators work on images.
    let own = adjoint.on_cpu() && kernel.len() == 2;
    let graph = &mut *adjoint.graph;
    let dx = match needs[0] {
        false => None,
        true => Some(graph.apply("Conv", &[dy, w], &conv_attributes(&geometry))?),
    };
    let dw = match needs[1] {
        true => Some(weight_gradient(graph, dy, w, x, &geometry, own)?),
        false => None,
    };
    let db = match needs[2] {
        true => Some(bias_gradient(graph, dy)?),
        false => None,
    };
    Ok(vec![dx, dw, db])
}

/// dy `[N, M, ..]` summed to `[M]`.
fn bias_gradient(graph: &mut Graph, dy: &str) -> Result<String, GraphError> {
    let rows = super::normalization::rows_of_channels(graph, dy)?;
    super::normalization::reduce_to_channels(graph, "ReduceSum", &rows)
}

/// `[N, C, ..]` as `[N, C, pixels]` and a pointwise weight `[M, C, 1, ..]` as `[M, C]`.
fn as_matrices(graph: &mut Graph, image: &str, w: &str) -> Result<(String, String), GraphError> {
    let weight_shape = graph.shape(w)[..2].to_vec();
    let rows = super::normalization::rows_of_channels(graph, image)?;
    Ok((rows, graph.reshape(w, &weight_shape)?))
}

/// `w^T dy` for each image.
fn pointwise_dx(graph: &mut Graph, x: &str, w: &str, dy: &str) -> Result<String, GraphError> {
    let (dy_rows, w) = as_matrices(graph, dy, w)?;
    let rows = linear::product(graph, (&w, true), (&dy_rows, false), 1.0)?;
    let shape = graph.shape(x).to_vec();
    graph.reshape(&rows, &shape)
}

/// `dy x^T` summed over the images.
fn pointwise_dw(graph: &mut Graph, x: &str, w: &str, dy: &str) -> Result<String, GraphError> {
    let shape = graph.shape(w).to_vec();
    let x_rows = super::normalization::rows_of_channels(graph, x)?;
    let dy_rows = super::normalization::rows_of_channels(graph, dy)?;
    let each = linear::product(graph, (&dy_rows, false), (&x_rows, true), 1.0)?;
    let sum = graph.reduce("ReduceSum", &each, &[0], false)?;
    graph.reshape(&sum, &shape)
}

/// dx of a convolution with a window. `own`: with our own operators.
fn conv_dx(
    graph: &mut Graph,
    x: &str,
    w: &str,
    dy: &str,
    geometry: &ConvGeometry,
    own: bool,
) -> Result<String, GraphError> {
    if own && is_depthwise(graph, x, w, geometry) {
        let input = graph.shape(x)[2..]
            .iter()
            .map(|&size| size as i64)
            .collect();
        let mut attributes = window_attributes(geometry);
        attributes.push(("input_shape", Attribute::Ints(input)));
        return graph.apply("DepthwiseGradX", &[dy, w], &attributes);
    }
    // What a stride that does not divide leaves over at the end of the input.
    let left_over: Vec<i64> = (0..geometry.kernel.len())
        .map(|axis| {
            let room = geometry.padded(axis, graph.shape(x)[2 + axis]) - geometry.extent(axis);
            (room % geometry.strides[axis]) as i64
        })
        .collect();
    let mut attributes = conv_attributes(geometry);
    if left_over.iter().any(|&size| size != 0) {
        attributes.push(("output_padding", Attribute::Ints(left_over)));
    }
    graph.apply("ConvTranspose", &[dy, w], &attributes)
}

/// Whether each channel has one filter of its own.
fn is_depthwise(graph: &Graph, x: &str, w: &str, geometry: &ConvGeometry) -> bool {
    let channels = graph.shape(x)[1];
    geometry.groups == channels && graph.shape(w)[0] == channels
}

/// The attributes of our own operators: those of the convolution without its groups.
fn window_attributes(geometry: &ConvGeometry) -> Vec<(&'static str, Attribute)> {
    let mut attributes = conv_attributes(geometry);
    attributes.retain(|(name, _)| *name != "group");
    attributes
}

fn conv_attributes(geometry: &ConvGeometry) -> Vec<(&'static str, Attribute)> {
    let ints = |sizes: &[usize]| Attribute::Ints(sizes.iter().map(|&size| size as i64).collect());
    let pads = [geometry.pads_before.as_slice(), &geometry.pads_after].concat();
    vec![
        ("group", Attribute::Int(geometry.groups as i64)),
        ("kernel_shape", ints(&geometry.kernel)),
        ("strides", ints(&geometry.strides)),
        ("dilations", ints(&geometry.dilations)),
        ("pads", ints(&pads)),
    ]
}

/// dw `[M, C / groups, kernel..]` of a convolution from its input x `[N, C, ..]` and dy `[N, M, ..]`.
fn weight_gradient(
    graph: &mut Graph,
    x: &str,
    w: &str,
    dy: &str,
    geometry: &ConvGeometry,
    own: bool,
) -> Result<String, GraphError> {
    let shape = graph.shape(w).to_vec();
    match (is_depthwise(graph, x, w, geometry), own) {
        (true, true) => graph.apply("DepthwiseGradW", &[x, dy], &window_attributes(geometry)),
        (true, false) => depthwise_dw(graph, x, &shape, dy, geometry),
        (false, _) => dense_dw(graph, x, &shape, dy, geometry, own),
    }
}

/// For each tap of the kernel the elements of x that it meets, in the shape of dy's spatial axes.
fn tap_slices(
    graph: &mut Graph,
    x: &str,
    dy: &str,
    geometry: &ConvGeometry,
) -> Result<Vec<String>, GraphError> {
    let axes = geometry.kernel.len();
    let pads = |sizes: &[usize]| {
        [0, 0]
            .into_iter()
            .chain(sizes.iter().map(|&size| size as i64))
            .collect::<Vec<_>>()
    };
    let padded = graph.pad(x, &pads(&geometry.pads_before), &pads(&geometry.pads_after))?;
    let windows = graph.shape(dy)[2..].to_vec();
    let spatial: Vec<usize> = (2..2 + axes).collect();
    let steps: Vec<i64> = geometry
        .strides
        .iter()
        .map(|&stride| stride as i64)
        .collect();
    let tap_count: usize = geometry.kernel.iter().product();
    (0..tap_count)
        .map(|tap| {
            let mut rest = tap;
            let mut starts = vec![0; axes];
            for axis in (0..axes).rev() {
                starts[axis] = (rest % geometry.kernel[axis] * geometry.dilations[axis]) as i64;
                rest /= geometry.kernel[axis];
            }
            let ends: Vec<i64> = (0..axes)
                .map(|axis| starts[axis] + (windows[axis] as i64 - 1) * steps[axis] + 1)
                .collect();
            graph.slice(&padded, &spatial, &starts, &ends, &steps)
        })
        .collect()
}

/// Depthwise dw with stock operators: one product and sum a tap.
fn depthwise_dw(
    graph: &mut Graph,
    x: &str,
    shape: &[usize],
    dy: &str,
    geometry: &ConvGeometry,
) -> Result<String, GraphError> {
    let dy_rows = super::normalization::rows_of_channels(graph, dy)?;
    let mut sums = Vec::new();
    for slice in tap_slices(graph, x, dy, geometry)? {
        let rows = super::normalization::rows_of_channels(graph, &slice)?;
        let product = graph.mul(&rows, &dy_rows)?;
        sums.push(graph.reduce("ReduceSum", &product, &[2], true)?);
    }
    let sums: Vec<&str> = sums.iter().map(String::as_str).collect();
    let taps = graph.concat(&sums, 2)?;
    let sum = graph.reduce("ReduceSum", &taps, &[0], false)?;
    graph.reshape(&sum, shape)
}

/// dw by gathering the windows of x as a matrix (im2col) and multiplying, group by group.
fn dense_dw(
    graph: &mut Graph,
    x: &str,
    shape: &[usize],
    dy: &str,
    geometry: &ConvGeometry,
    own: bool,
) -> Result<String, GraphError> {
    let (images, channels) = (graph.shape(x)[0], graph.shape(x)[1]);
    let filters = graph.shape(dy)[1];
    let windows: usize = graph.shape(dy)[2..].iter().product();
    let (groups, taps) = (geometry.groups, geometry.kernel.iter().product::<usize>());
    let columns = if own {
        graph.apply("Columns", &[x], &window_attributes(geometry))?
    } else {
        let mut slices = Vec::new();
        for slice in tap_slices(graph, x, dy, geometry)? {
            slices.push(graph.reshape(&slice, &[images, channels, 1, windows])?);
        }
        let slices: Vec<&str> = slices.iter().map(String::as_str).collect();
        match slices.as_slice() {
            [only] => (*only).to_owned(),
            several => graph.concat(several, 2)?,
        }
    };
    let (mut column_shape, mut dy_shape) = (vec![images], vec![images]);
    if groups > 1 {
        column_shape.push(groups);
        dy_shape.push(groups);
    }
    column_shape.extend([channels / groups * taps, windows]);
    dy_shape.extend([filters / groups, windows]);
    let columns = graph.reshape(&columns, &column_shape)?;
    let dy = graph.reshape(dy, &dy_shape)?;
    let each = linear::product(graph, (&dy, false), (&columns, true), 1.0)?;
    let sum = graph.reduce("ReduceSum", &each, &[0], false)?;
    graph.reshape(&sum, shape)
}
