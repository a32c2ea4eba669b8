//! Pooling and its inverse in shape, resizing.

use super::conv::ConvGeometry;
use super::{Adjoint, Gradients, Site, Types, reduce, with_shape};
use crate::train::graph::{Attribute, ElementType, GraphError, TensorType};

/// The window of a pooling node.
pub(super) fn window(site: &Site) -> Result<ConvGeometry, GraphError> {
    let x = site.input(0)?;
    let kernel = site
        .node
        .ints("kernel_shape")
        .unwrap_or_default()
        .iter()
        .map(|&size| usize::try_from(size).ok().filter(|&size| size > 0))
        .collect::<Option<Vec<_>>>()
        .filter(|kernel| kernel.len() + 2 == x.rank() && !kernel.is_empty())
        .ok_or_else(|| {
            site.bad(
                "kernel_shape",
                format!("a size for each spatial axis of {x}"),
                format!("{:?}", site.node.ints("kernel_shape")),
            )
        })?;
    ConvGeometry::of(site, &kernel)
}

fn pooled(site: &Site) -> Result<TensorType, GraphError> {
    let x = site.input(0)?;
    let geometry = window(site)?;
    let mut shape = x.shape[..2].to_vec();
    shape.extend(geometry.output(site, &x.shape[2..], site.int("ceil_mode", 0) != 0)?);
    Ok(with_shape(x, shape))
}

/// MaxPool of floats or bytes, with the flat index of each maximum as second output.
pub(super) fn max_pool(site: &Site) -> Types {
    let x = site.input(0)?;
    if !x.element.is_float() && !matches!(x.element, ElementType::U8 | ElementType::I8) {
        return Err(site.bad("input 0", "floats or bytes", x));
    }
    let y = pooled(site)?;
    if site.int("storage_order", 0) != 0 {
        return Err(site.bad("storage_order", 0, 1));
    }
    let indices = TensorType::new(ElementType::I64, &y.shape);
    Ok(vec![y, indices])
}

pub(super) fn average_pool(site: &Site) -> Types {
    site.float_input(0)?;
    Ok(vec![pooled(site)?])
}

pub(super) fn global_pool(site: &Site) -> Types {
    let x = site.float_input(0)?;
    Ok(vec![spatial_ones(site, x)?])
}

/// `x` with size 1 along its spatial axes.
pub(super) fn spatial_ones(site: &Site, x: &TensorType) -> Result<TensorType, GraphError> {
    if x.rank() < 3 {
        return Err(site.bad("input 0", "at least three axes", x));
    }
    let mut shape = x.shape[..2].to_vec();
    shape.resize(x.rank(), 1);
    Ok(with_shape(x, shape))
}

/// Resize by nearest neighbour to whole multiples of the size, each element repeated: the only form with a rule.
pub(super) fn resize(site: &Site) -> Types {
    let x = site.input(0)?;
    let shape = match site
        .node
        .input(2)
        .and_then(|name| site.graph.initializers.get(name))
    {
        Some(scales) if !scales.shape.contains(&0) => {
            let factors = scales.as_f32().unwrap_or_default();
            if factors.len() != x.rank() {
                return Err(site.bad("scales", format!("{} floats", x.rank()), factors.len()));
            }
            let scaled = |(&size, &factor): (&usize, &f32)| (size as f32 * factor).floor() as usize;
            x.shape.iter().zip(factors).map(scaled).collect()
        }
        _ => {
            let sizes = site.constant_ints(3)?;
            if sizes.len() != x.rank() || sizes.iter().any(|&size| size < 1) {
                return Err(site.bad("sizes", format!("{} sizes", x.rank()), format!("{sizes:?}")));
            }
            sizes.iter().map(|&size| size as usize).collect::<Vec<_>>()
        }
    };
    let mode = site.node.text("mode").unwrap_or("nearest");
    if mode != "nearest" {
        return Err(site.bad("mode", "nearest", mode));
    }
    let coordinates = site
        .node
        .text("coordinate_transformation_mode")
        .unwrap_or("half_pixel");
    let rounding = site
        .node
        .text("nearest_mode")
        .unwrap_or("round_prefer_floor");
    // With whole factors these all give `input[i / factor]`: half-pixel coordinates lie within half a pixel of the
    // source; asymmetric ones need rounding down.
    let factors: Vec<usize> = shape
        .iter()
        .zip(&x.shape)
        .map(|(to, from)| to / from.max(&1))
        .collect();
    let whole = shape
        .iter()
        .zip(&x.shape)
        .all(|(to, from)| *from > 0 && *to > 0 && to % from == 0);
    let repeats = match (coordinates, rounding) {
        ("half_pixel" | "pytorch_half_pixel", "round_prefer_floor" | "round_prefer_ceil") => true,
        ("asymmetric", "floor") => true,
        ("asymmetric", "round_prefer_floor") => factors.iter().all(|&factor| factor <= 2),
        _ => false,
    };
    if !whole || !repeats {
        return Err(site.bad(
            "scales",
            "whole factors in a mode that repeats each element",
            format!("{:?} to {shape:?}, {coordinates}, {rounding}", x.shape),
        ));
    }
    Ok(vec![with_shape(x, shape)])
}

/// Each dy is added at the place of its window's maximum, which the forward node is made to tell.
pub(super) fn max_pool_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let dy = adjoint.dy()?;
    let shape = adjoint.shape(adjoint.x(0));
    let graph = &mut *adjoint.graph;
    let indices = graph.second_output(&adjoint.node.outputs[0])?;
    let window_count = graph.type_of(dy).element_count();
    let zero = graph.scalar_like(0.0, dy);
    let zeros = reduce::expand(graph, &zero, &[shape.iter().product()])?;
    let indices = graph.reshape(&indices, &[window_count])?;
    let updates = graph.reshape(dy, &[window_count])?;
    let flat = graph.apply(
        "ScatterElements",
        &[&zeros, &indices, &updates],
        &[
            ("axis", Attribute::Int(0)),
            ("reduction", Attribute::Text("add".to_owned())),
        ],
    )?;
    Ok(vec![Some(graph.reshape(&flat, &shape)?)])
}

/// Each dy, divided by the number of elements of its window, spreads over the window: a depthwise transposed convolution
/// with a kernel of ones.
pub(super) fn average_pool_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let dy = adjoint.dy()?;
    let geometry = window(&adjoint.site())?;
    let shape = adjoint.shape(adjoint.x(0));
    let input = &shape[2..];
    let output = adjoint.shape(dy)[2..].to_vec();
    let include_pads = adjoint.node.int("count_include_pad").unwrap_or(0) != 0;
    let graph = &mut *adjoint.graph;

    // One over the number of elements of each window: the product of the numbers along each axis.
    let mut shares = vec![1.0];
    let mut pads_after = geometry.pads_after.clone();
    let mut extra = vec![0; input.len()];
    for axis in 0..input.len() {
        let counts = window_counts(&geometry, axis, input[axis], output[axis], include_pads);
        shares = shares
            .iter()
            .flat_map(|share| counts.iter().map(move |&count| share / count as f64))
            .collect();
        let reach = geometry.strides[axis] * (output[axis] - 1) + geometry.extent(axis);
        let padded = geometry.padded(axis, input[axis]);
        // With rounding up the last window may reach beyond the padding.
        pads_after[axis] += reach.saturating_sub(padded);
        extra[axis] = padded.saturating_sub(reach);
    }
    let mut share_shape = vec![1, 1];
    share_shape.extend(&output);
    if shares.windows(2).all(|pair| pair[0] == pair[1]) {
        share_shape = vec![];
        shares.truncate(1);
    }
    let shares = graph.constant_like(dy, &share_shape, &shares);
    let share = graph.mul(dy, &shares)?;
    let mut kernel_shape = vec![shape[1], 1];
    kernel_shape.extend(&geometry.kernel);
    let ones = vec![1.0; kernel_shape.iter().product()];
    let kernel = graph.constant_like(dy, &kernel_shape, &ones);
    let sizes = |sizes: &[usize]| Attribute::Ints(sizes.iter().map(|&size| size as i64).collect());
    let pads = [geometry.pads_before.as_slice(), &pads_after].concat();
    let dx = graph.apply(
        "ConvTranspose",
        &[&share, &kernel],
        &[
            ("group", Attribute::Int(shape[1] as i64)),
            ("kernel_shape", sizes(&geometry.kernel)),
            ("strides", sizes(&geometry.strides)),
            ("dilations", sizes(&geometry.dilations)),
            ("pads", sizes(&pads)),
            ("output_padding", sizes(&extra)),
        ],
    )?;
    Ok(vec![Some(dx)])
}

/// The number of elements along an axis that each window averages over.
fn window_counts(
    geometry: &ConvGeometry,
    axis: usize,
    input: usize,
    output: usize,
    include_pads: bool,
) -> Vec<usize> {
    let before = geometry.pads_before[axis];
    let counted = match include_pads {
        true => 0..geometry.padded(axis, input),
        false => before..before + input,
    };
    (0..output)
        .map(|index| {
            (0..geometry.kernel[axis])
                .map(|tap| index * geometry.strides[axis] + tap * geometry.dilations[axis])
                .filter(|position| counted.contains(position))
                .count()
                .max(1)
        })
        .collect()
}

/// dx = dy / elements, everywhere.
pub(super) fn global_average_pool_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let shape = adjoint.shape(adjoint.x(0));
    let count: usize = shape[2..].iter().product();
    let share = adjoint.graph.scale(adjoint.dy()?, 1.0 / count as f64)?;
    Ok(vec![Some(reduce::expand(adjoint.graph, &share, &shape)?)])
}

/// Each element gets the sum of the dy of its repetitions.
pub(super) fn resize_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let dy = adjoint.dy()?;
    let (from, to) = (adjoint.shape(adjoint.x(0)), adjoint.shape(dy));
    let factors: Vec<usize> = from.iter().zip(&to).map(|(from, to)| to / from).collect();
    let graph = &mut *adjoint.graph;
    if from.len() == 4 && factors[..2] == [1, 1] {
        // The sum is the average times the number of elements, and pooling is the faster way to it.
        let sizes = Attribute::Ints(factors[2..].iter().map(|&factor| factor as i64).collect());
        let attributes = [("kernel_shape", sizes.clone()), ("strides", sizes)];
        let average = graph.apply("AveragePool", &[dy], &attributes)?;
        let count = factors.iter().product::<usize>();
        return Ok(vec![Some(graph.scale(&average, count as f64)?)]);
    }
    let blocks: Vec<usize> = from
        .iter()
        .zip(&factors)
        .flat_map(|(&size, &factor)| [size, factor])
        .collect();
    let axes: Vec<usize> = (0..from.len()).map(|axis| 2 * axis + 1).collect();
    let value = graph.reshape(dy, &blocks)?;
    let sum = reduce::sum_axes(graph, &value, &axes)?;
    Ok(vec![Some(graph.reshape(&sum, &from)?)])
}
