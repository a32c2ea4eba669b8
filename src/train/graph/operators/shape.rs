//! Operators that move elements without changing them.

use super::{Adjoint, Gradients, Site, Types, reduce, with_shape};
use crate::train::graph::{Attribute, Graph, GraphError};

pub(super) fn concat(site: &Site) -> Types {
    let first = site.input(0)?;
    let axis = site.axis(site.int("axis", 0), first.rank())?;
    let mut shape = first.shape.clone();
    for index in 1..site.node.inputs.len() {
        let part = site.like_first(index)?;
        let fits = part.rank() == shape.len()
            && (0..shape.len()).all(|other| other == axis || part.shape[other] == shape[other]);
        if !fits {
            return Err(site.bad(
                format!("input {index}"),
                format!("{first} except on axis {axis}"),
                part,
            ));
        }
        shape[axis] += part.shape[axis];
    }
    Ok(vec![with_shape(first, shape)])
}

/// The axis and the sizes of the parts.
pub(super) fn split_sizes(site: &Site) -> Result<(usize, Vec<usize>), GraphError> {
    let x = site.input(0)?;
    let axis = site.axis(site.int("axis", 0), x.rank())?;
    let total = x.shape[axis];
    let sizes: Vec<usize> = match site.optional_ints(1)? {
        Some(sizes) => sizes
            .iter()
            .map(|&size| usize::try_from(size).unwrap_or(0))
            .collect(),
        None => {
            let parts = site.node.outputs.len().max(1);
            let size = total.div_ceil(parts);
            (0..parts)
                .map(|part| size.min(total.saturating_sub(part * size)))
                .collect()
        }
    };
    if sizes.len() != site.node.outputs.len() || sizes.iter().sum::<usize>() != total {
        return Err(site.bad(
            "split",
            format!("{} sizes with sum {total}", site.node.outputs.len()),
            format!("{sizes:?}"),
        ));
    }
    Ok((axis, sizes))
}

pub(super) fn split(site: &Site) -> Types {
    let x = site.input(0)?;
    let (axis, sizes) = split_sizes(site)?;
    Ok(sizes
        .into_iter()
        .map(|size| {
            let mut shape = x.shape.clone();
            shape[axis] = size;
            with_shape(x, shape)
        })
        .collect())
}

/// A slice along one axis, with its bounds resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) axis: usize,
    pub(super) start: i64,
    pub(super) step: i64,
    pub(super) count: usize,
}

/// What a Slice node takes along each of its axes.
pub(super) fn ranges(site: &Site) -> Result<Vec<Range>, GraphError> {
    let x = site.input(0)?;
    let (starts, ends) = (site.constant_ints(1)?, site.constant_ints(2)?);
    let all: Vec<i64> = (0..starts.len() as i64).collect();
    let ones = vec![1; starts.len()];
    let axes = site.optional_ints(3)?.unwrap_or(&all);
    let steps = site.optional_ints(4)?.unwrap_or(&ones);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] || steps.contains(&0) {
        return Err(site.bad(
            "starts, ends, axes, steps",
            "as many of each and no step of 0",
            format!("{starts:?}, {ends:?}, {axes:?}, {steps:?}"),
        ));
    }
    (0..starts.len())
        .map(|index| {
            let axis = site.axis(axes[index], x.rank())?;
            let (size, step) = (x.shape[axis] as i64, steps[index]);
            let resolve = |bound: i64| {
                if bound < 0 {
                    bound.saturating_add(size)
                } else {
                    bound
                }
            };
            let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
            let start = resolve(starts[index]).clamp(low.max(0), high.max(0));
            let end = resolve(ends[index]).clamp(low, high);
            let room = if step > 0 { end - start } else { start - end };
            let count = (room.max(0) as usize).div_ceil(step.unsigned_abs() as usize);
            Ok(Range {
                axis,
                start,
                step,
                count,
            })
        })
        .collect()
}

pub(super) fn slice(site: &Site) -> Types {
    let x = site.input(0)?;
    let mut shape = x.shape.clone();
    for range in ranges(site)? {
        shape[range.axis] = range.count;
    }
    Ok(vec![with_shape(x, shape)])
}

/// The number of elements added before and after each axis.
pub(super) fn paddings(site: &Site) -> Result<Vec<(i64, i64)>, GraphError> {
    let x = site.input(0)?;
    let mode = site.node.text("mode").unwrap_or("constant");
    if mode != "constant" {
        return Err(site.bad("mode", "constant", mode));
    }
    let pads = site.constant_ints(1)?;
    let all: Vec<i64> = (0..x.rank() as i64).collect();
    let axes = site.optional_ints(3)?.unwrap_or(&all);
    if pads.len() != 2 * axes.len() {
        return Err(site.bad(
            "pads",
            format!("{} numbers", 2 * axes.len()),
            format!("{pads:?}"),
        ));
    }
    let mut result = vec![(0, 0); x.rank()];
    for (index, &axis) in axes.iter().enumerate() {
        result[site.axis(axis, x.rank())?] = (pads[index], pads[axes.len() + index]);
    }
    Ok(result)
}

pub(super) fn pad(site: &Site) -> Types {
    let x = site.input(0)?;
    let shape = paddings(site)?
        .into_iter()
        .zip(&x.shape)
        .map(|((before, after), &size)| usize::try_from(before + size as i64 + after).ok())
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| site.bad("pads", "no more than there is cut off", x))?;
    Ok(vec![with_shape(x, shape)])
}

pub(super) fn reshape(site: &Site) -> Types {
    let x = site.input(0)?;
    let target = site.constant_ints(1)?;
    let mismatch = || site.bad("shape", format!("a shape for {x}"), format!("{target:?}"));
    let keeps_zero = site.int("allowzero", 0) != 0;
    let mut shape = Vec::with_capacity(target.len());
    let mut open = None;
    for (axis, &size) in target.iter().enumerate() {
        shape.push(match size {
            -1 if open.is_none() => {
                open = Some(axis);
                1
            }
            0 if !keeps_zero => *x.shape.get(axis).ok_or_else(mismatch)?,
            _ => usize::try_from(size).map_err(|_| mismatch())?,
        });
    }
    let known: usize = shape.iter().product();
    if let Some(axis) = open
        && known > 0
    {
        shape[axis] = x.element_count() / known;
    }
    if shape.iter().product::<usize>() != x.element_count() {
        return Err(mismatch());
    }
    Ok(vec![with_shape(x, shape)])
}

pub(super) fn flatten(site: &Site) -> Types {
    let x = site.input(0)?;
    let axis = match site.int("axis", 1) {
        // The axis may also be one past the last.
        axis if axis == x.rank() as i64 => x.rank(),
        axis => site.axis(axis, x.rank())?,
    };
    let shape = vec![
        x.shape[..axis].iter().product(),
        x.shape[axis..].iter().product(),
    ];
    Ok(vec![with_shape(x, shape)])
}

pub(super) fn squeeze(site: &Site) -> Types {
    let x = site.input(0)?;
    let axes = match site.optional_ints(1)? {
        Some(axes) => site.axes(axes, x.rank())?,
        None => (0..x.rank()).filter(|&axis| x.shape[axis] == 1).collect(),
    };
    if let Some(&axis) = axes.iter().find(|&&axis| x.shape[axis] != 1) {
        return Err(site.bad("axes", "axes of size 1", format!("axis {axis} of {x}")));
    }
    let shape = (0..x.rank())
        .filter(|axis| !axes.contains(axis))
        .map(|axis| x.shape[axis])
        .collect();
    Ok(vec![with_shape(x, shape)])
}

pub(super) fn unsqueeze(site: &Site) -> Types {
    let x = site.input(0)?;
    let axes = site.constant_ints(1)?;
    let rank = x.rank() + axes.len();
    let axes = site.axes(axes, rank)?;
    let mut sizes = x.shape.iter();
    let shape = (0..rank)
        .map(|axis| match axes.contains(&axis) {
            true => 1,
            false => *sizes.next().expect("as many as axes that are not new"),
        })
        .collect();
    Ok(vec![with_shape(x, shape)])
}

/// The permutation of a Transpose node.
pub(super) fn permutation(site: &Site) -> Result<Vec<usize>, GraphError> {
    let rank = site.input(0)?.rank();
    let Some(permutation) = site.node.ints("perm") else {
        return Ok((0..rank).rev().collect());
    };
    let axes = permutation
        .iter()
        .map(|&axis| site.axis(axis, rank))
        .collect::<Result<Vec<_>, _>>()?;
    site.axes(permutation, rank)?;
    if axes.len() != rank {
        return Err(site.bad("perm", format!("{rank} axes"), format!("{permutation:?}")));
    }
    Ok(axes)
}

pub(super) fn transpose(site: &Site) -> Types {
    let x = site.input(0)?;
    let shape = permutation(site)?
        .into_iter()
        .map(|axis| x.shape[axis])
        .collect();
    Ok(vec![with_shape(x, shape)])
}

pub(super) fn expand(site: &Site) -> Types {
    let x = site.input(0)?;
    let target = site
        .constant_ints(1)?
        .iter()
        .map(|&size| usize::try_from(size).ok())
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| site.bad("shape", "no negative sizes", "one"))?;
    Ok(vec![with_shape(x, site.broadcast(&[&x.shape, &target])?)])
}

pub(super) fn gather(site: &Site) -> Types {
    let (x, indices) = (site.input(0)?, site.input(1)?);
    let axis = site.axis(site.int("axis", 0), x.rank())?;
    let mut shape = x.shape[..axis].to_vec();
    shape.extend(&indices.shape);
    shape.extend(&x.shape[axis + 1..]);
    Ok(vec![with_shape(x, shape)])
}

/// ScatterElements: data, indices and updates of one shape.
pub(super) fn scatter_elements(site: &Site) -> Types {
    let (x, indices, updates) = (site.input(0)?, site.input(1)?, site.like_first(2)?);
    site.axis(site.int("axis", 0), x.rank())?;
    if indices.shape != updates.shape || indices.rank() != x.rank() {
        return Err(site.bad(
            "inputs",
            "updates as the indices and equal ranks",
            format!("{x}, {indices}, {updates}"),
        ));
    }
    Ok(vec![x.clone()])
}

/// Each part gets its piece of dy.
pub(super) fn concat_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let dy = adjoint.dy()?;
    let count = adjoint.node.inputs.len();
    let site = adjoint.site();
    let axis = site.axis(site.int("axis", 0), site.input(0)?.rank())?;
    let sizes: Vec<i64> = (0..count)
        .map(|index| adjoint.graph.shape(adjoint.x(index))[axis] as i64)
        .collect();
    if count == 1 {
        return Ok(vec![Some(dy.to_owned())]);
    }
    let sizes = adjoint.graph.ints(&sizes);
    let axis = ("axis", Attribute::Int(axis as i64));
    let parts = adjoint
        .graph
        .apply_multi("Split", &[dy, &sizes], &[axis], count)?;
    Ok(parts.into_iter().map(Some).collect())
}

/// The gradients of the parts joined, zeros where a part has none.
pub(super) fn split_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let (axis, _) = split_sizes(&adjoint.site())?;
    let mut parts = Vec::new();
    for (output, gradient) in adjoint.node.outputs.iter().zip(adjoint.output_gradients) {
        parts.push(match gradient {
            Some(gradient) => gradient.clone(),
            None => {
                let shape = adjoint.shape(output);
                let zero = adjoint.graph.scalar_like(0.0, output);
                reduce::expand(adjoint.graph, &zero, &shape)?
            }
        });
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Ok(vec![Some(adjoint.graph.concat(&parts, axis)?)])
}

/// dy put back in its place among zeros.
pub(super) fn slice_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let ranges = ranges(&adjoint.site())?;
    let mut value = adjoint.dy()?.to_owned();
    for range in ranges {
        let size = adjoint.graph.shape(adjoint.x(0))[range.axis];
        value = unslice(adjoint.graph, &value, range, size)?;
    }
    Ok(vec![Some(value)])
}

/// The inverse of taking `range` from an axis of `size`, with zeros elsewhere.
fn unslice(graph: &mut Graph, dy: &str, range: Range, size: usize) -> Result<String, GraphError> {
    let Range {
        axis,
        start,
        step,
        count,
    } = range;
    let mut value = dy.to_owned();
    let mut first = start;
    if step < 0 {
        let end = i64::MIN + 1;
        value = graph.slice(&value, &[axis], &[-1], &[end], &[-1])?;
        first = start + step * (count as i64 - 1).max(0);
    }
    let stride = step.unsigned_abs() as usize;
    let mut shape = graph.shape(&value).to_vec();
    if stride > 1 {
        // Each element becomes the first of a row of `stride`, the others 0.
        let mut apart = shape.clone();
        apart.insert(axis + 1, 1);
        value = graph.reshape(&value, &apart)?;
        let before = vec![0; apart.len()];
        let mut after = before.clone();
        after[axis + 1] = stride as i64 - 1;
        value = pad_or_crop(graph, &value, &before, &after)?;
        shape[axis] = count * stride;
        value = graph.reshape(&value, &shape)?;
    }
    let mut before = vec![0; shape.len()];
    let mut after = before.clone();
    before[axis] = first;
    after[axis] = size as i64 - first - (count * stride) as i64;
    pad_or_crop(graph, &value, &before, &after)
}

/// `x` with zeros added around each axis, or cut off where the number is negative.
pub(super) fn pad_or_crop(
    graph: &mut Graph,
    x: &str,
    before: &[i64],
    after: &[i64],
) -> Result<String, GraphError> {
    let shape = graph.shape(x).to_vec();
    let cut: Vec<usize> = (0..shape.len())
        .filter(|&axis| before[axis] < 0 || after[axis] < 0)
        .collect();
    let mut value = x.to_owned();
    if !cut.is_empty() {
        let starts: Vec<i64> = cut.iter().map(|&axis| (-before[axis]).max(0)).collect();
        let ends: Vec<i64> = cut
            .iter()
            .map(|&axis| shape[axis] as i64 - (-after[axis]).max(0))
            .collect();
        let steps = vec![1; cut.len()];
        value = graph.slice(&value, &cut, &starts, &ends, &steps)?;
    }
    let positive = |sizes: &[i64]| sizes.iter().map(|&size| size.max(0)).collect::<Vec<_>>();
    graph.pad(&value, &positive(before), &positive(after))
}

pub(super) fn pad_adjoint(adjoint: &mut Adjoint) -> Gradients {
    if adjoint.needs(2) {
        return Err(adjoint.missing("the padding value depends on what is differentiated"));
    }
    let (before, after): (Vec<i64>, Vec<i64>) = paddings(&adjoint.site())?
        .into_iter()
        .map(|(before, after)| (-before, -after))
        .unzip();
    let dy = adjoint.dy()?;
    Ok(vec![Some(pad_or_crop(adjoint.graph, dy, &before, &after)?)])
}

/// Reshape, Flatten, Squeeze and Unsqueeze: dy in the shape of x.
pub(super) fn reshape_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let shape = adjoint.shape(adjoint.x(0));
    Ok(vec![Some(adjoint.graph.reshape(adjoint.dy()?, &shape)?)])
}

pub(super) fn transpose_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let permutation = permutation(&adjoint.site())?;
    let mut inverse = vec![0; permutation.len()];
    for (to, from) in permutation.into_iter().enumerate() {
        inverse[from] = to;
    }
    Ok(vec![Some(
        adjoint.graph.transpose(adjoint.dy()?, &inverse)?,
    )])
}

pub(super) fn expand_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let dy = adjoint.dy()?;
    Ok(vec![adjoint.unbroadcast(dy, 0)?])
}
