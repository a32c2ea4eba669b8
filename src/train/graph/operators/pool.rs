//! Pooling and its inverse in shape, resizing.

use super::conv::ConvGeometry;
use super::{Site, Types, with_shape};
use crate::train::graph::{ElementType, GraphError, TensorType};

/// The window of a pooling node.
pub(super) fn window(site: &Site) -> Result<ConvGeometry, GraphError> {
    let x = site.float_input(0)?;
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
    let x = site.float_input(0)?;
    let geometry = window(site)?;
    let mut shape = x.shape[..2].to_vec();
    shape.extend(geometry.output(site, &x.shape[2..], site.int("ceil_mode", 0) != 0)?);
    Ok(with_shape(x, shape))
}

/// MaxPool, with the flat index of each maximum as second output.
pub(super) fn max_pool(site: &Site) -> Types {
    let y = pooled(site)?;
    if site.int("storage_order", 0) != 0 {
        return Err(site.bad("storage_order", 0, 1));
    }
    let indices = TensorType::new(ElementType::I64, &y.shape);
    Ok(vec![y, indices])
}

pub(super) fn average_pool(site: &Site) -> Types {
    Ok(vec![pooled(site)?])
}

pub(super) fn global_pool(site: &Site) -> Types {
    let x = site.float_input(0)?;
    if x.rank() < 3 {
        return Err(site.bad("input 0", "at least three axes", x));
    }
    let mut shape = x.shape[..2].to_vec();
    shape.resize(x.rank(), 1);
    Ok(vec![with_shape(x, shape)])
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
