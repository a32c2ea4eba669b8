//! Adjoints of convolutions.

use super::conv::ConvGeometry;
use super::{Adjoint, Gradients, linear, shape::pad_or_crop};
use crate::train::autodiff::Backend;
use crate::train::graph::{Attribute, ElementType, Graph, GraphError};

/// y = conv(x, w) + b. dx is the transposed convolution of dy, dw the correlation of x with dy, db the sum of dy.
pub(super) fn conv_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let (x, w, dy) = (adjoint.x(0), adjoint.x(1), adjoint.dy()?);
    let kernel = adjoint.shape(w)[2..].to_vec();
    let geometry = ConvGeometry::of(&adjoint.site(), &kernel)?;
    let needs = [0, 1, 2].map(|index| adjoint.needs(index));
    let backend = adjoint.backend;
    let graph = &mut *adjoint.graph;
    let dx = match (needs[0], geometry.is_pointwise()) {
        (false, _) => None,
        (true, true) => Some(pointwise_dx(graph, x, w, dy)?),
        (true, false) => Some(conv_dx(graph, x, w, dy, &geometry)?),
    };
    let dw = match (needs[1], geometry.is_pointwise()) {
        (false, _) => None,
        (true, true) => Some(pointwise_dw(graph, x, w, dy)?),
        (true, false) => Some(weight_gradient(graph, x, w, dy, &geometry, backend)?),
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
    let backend = adjoint.backend;
    let graph = &mut *adjoint.graph;
    let dx = match needs[0] {
        false => None,
        true => Some(graph.apply("Conv", &[dy, w], &conv_attributes(&geometry))?),
    };
    let dw = match needs[1] {
        true => Some(weight_gradient(graph, dy, w, x, &geometry, backend)?),
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

fn conv_dx(
    graph: &mut Graph,
    x: &str,
    w: &str,
    dy: &str,
    geometry: &ConvGeometry,
) -> Result<String, GraphError> {
    let depthwise = geometry.groups == graph.shape(x)[1] && graph.shape(w)[1] == 1;
    let unstrided = geometry.strides.iter().all(|&stride| stride == 1);
    if depthwise && unstrided && graph.shape(w)[0] == geometry.groups {
        return depthwise_dx(graph, w, dy, geometry);
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

/// dx of a depthwise convolution without strides: the convolution of dy with the kernel turned by half a turn, which
/// ONNX Runtime computes on all threads, unlike the transposed convolution.
fn depthwise_dx(
    graph: &mut Graph,
    w: &str,
    dy: &str,
    geometry: &ConvGeometry,
) -> Result<String, GraphError> {
    let count = geometry.kernel.len();
    let spatial: Vec<usize> = (2..2 + count).collect();
    let first = vec![i64::MIN + 1; count];
    let turned = graph.slice(w, &spatial, &vec![-1; count], &first, &vec![-1; count])?;
    // Beyond the padding of the forward pass; less than none means that dy has columns that met nothing but padding.
    let beyond = |pads: &[usize]| -> Vec<i64> {
        let of_axis = |axis| geometry.extent(axis) as i64 - 1 - pads[axis] as i64;
        [0, 0].into_iter().chain((0..count).map(of_axis)).collect()
    };
    let (before, after) = (beyond(&geometry.pads_before), beyond(&geometry.pads_after));
    let cut = |sizes: &[i64]| sizes.iter().map(|&size| size.min(0)).collect::<Vec<_>>();
    let added = |sizes: &[i64]| {
        sizes[2..]
            .iter()
            .map(|&size| size.max(0) as usize)
            .collect()
    };
    let dy = pad_or_crop(graph, dy, &cut(&before), &cut(&after))?;
    let turned_geometry = ConvGeometry {
        pads_before: added(&before),
        pads_after: added(&after),
        ..geometry.clone()
    };
    graph.apply("Conv", &[&dy, &turned], &conv_attributes(&turned_geometry))
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
    backend: Backend,
) -> Result<String, GraphError> {
    let shape = graph.shape(w).to_vec();
    let channels = graph.shape(x)[1];
    let depthwise = geometry.groups == channels && shape[0] == channels;
    if !depthwise {
        return dense_dw(graph, x, &shape, dy, geometry);
    }
    let has_kernel = backend == Backend::Cpu
        && geometry.kernel.len() == 2
        && graph.type_of(x).element == ElementType::F32;
    if has_kernel {
        let mut attributes = conv_attributes(geometry);
        attributes.retain(|(name, _)| *name != "group");
        return graph.apply("DepthwiseGradW", &[x, dy], &attributes);
    }
    depthwise_dw(graph, x, &shape, dy, geometry)
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
) -> Result<String, GraphError> {
    let (images, channels) = (graph.shape(x)[0], graph.shape(x)[1]);
    let filters = graph.shape(dy)[1];
    let windows: usize = graph.shape(dy)[2..].iter().product();
    let (groups, taps) = (geometry.groups, geometry.kernel.iter().product::<usize>());
    let mut slices = Vec::new();
    for slice in tap_slices(graph, x, dy, geometry)? {
        slices.push(graph.reshape(&slice, &[images, channels, 1, windows])?);
    }
    let slices: Vec<&str> = slices.iter().map(String::as_str).collect();
    let columns = match slices.as_slice() {
        [only] => (*only).to_owned(),
        several => graph.concat(several, 2)?,
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
