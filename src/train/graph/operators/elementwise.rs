//! Operators that work element by element: type rules, and the adjoints of the smooth ones.

use super::{BOOL, Site, Types, with_shape};
use crate::train::graph::{TensorType, element_of_data_type};

pub(super) fn unary(site: &Site) -> Types {
    Ok(vec![site.input(0)?.clone()])
}

pub(super) fn unary_float(site: &Site) -> Types {
    Ok(vec![site.float_input(0)?.clone()])
}

pub(super) fn binary(site: &Site) -> Types {
    let (a, b) = (site.input(0)?, site.like_first(1)?);
    Ok(vec![with_shape(a, site.broadcast(&[&a.shape, &b.shape])?)])
}

/// Pow: the exponent may have another element type.
pub(super) fn power(site: &Site) -> Types {
    let (a, b) = (site.input(0)?, site.input(1)?);
    Ok(vec![with_shape(a, site.broadcast(&[&a.shape, &b.shape])?)])
}

pub(super) fn variadic(site: &Site) -> Types {
    let types = (0..site.node.inputs.len())
        .map(|index| site.like_first(index))
        .collect::<Result<Vec<_>, _>>()?;
    let shapes: Vec<&[usize]> = types.iter().map(|of| of.shape.as_slice()).collect();
    Ok(vec![with_shape(site.input(0)?, site.broadcast(&shapes)?)])
}

pub(super) fn comparison(site: &Site) -> Types {
    let (a, b) = (site.input(0)?, site.like_first(1)?);
    Ok(vec![TensorType {
        element: BOOL,
        shape: site.broadcast(&[&a.shape, &b.shape])?,
    }])
}

pub(super) fn clip(site: &Site) -> Types {
    for index in 1..3 {
        if let Some(bound) = site.optional(index) {
            site.like_first(index)?;
            if bound.element_count() != 1 {
                return Err(site.bad(format!("input {index}"), "one number", bound));
            }
        }
    }
    Ok(vec![site.input(0)?.clone()])
}

pub(super) fn cast(site: &Site) -> Types {
    let to = site.int("to", 0);
    let element = i32::try_from(to)
        .ok()
        .and_then(element_of_data_type)
        .ok_or_else(|| site.bad("to", "a supported element type", to))?;
    Ok(vec![TensorType {
        element,
        shape: site.input(0)?.shape.clone(),
    }])
}

/// Where: condition, value where it holds, value elsewhere.
pub(super) fn select(site: &Site) -> Types {
    let (condition, a, b) = (site.input(0)?, site.input(1)?, site.input(2)?);
    if condition.element != BOOL || a.element != b.element {
        return Err(site.bad(
            "inputs",
            "truth values and two values of one type",
            format!("{condition}, {a}, {b}"),
        ));
    }
    let shape = site.broadcast(&[&condition.shape, &a.shape, &b.shape])?;
    Ok(vec![with_shape(a, shape)])
}
