//! Operators that work element by element: type rules, and the adjoints of the smooth ones.

use super::{Adjoint, BOOL, Gradients, Site, Types, with_shape};
use crate::train::graph::{Graph, GraphError, TensorType, element_of_data_type};

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

/// ReluGrad: y and dy of one shape.
pub(super) fn relu_grad(site: &Site) -> Types {
    let (y, dy) = (site.float_input(0)?, site.like_first(1)?);
    if dy.shape != y.shape {
        return Err(site.bad("input 1", y, dy));
    }
    Ok(vec![y.clone()])
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

pub(super) fn add_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let dy = adjoint.dy()?;
    (0..2)
        .map(|index| match adjoint.needs(index) {
            true => adjoint.unbroadcast(dy, index),
            false => Ok(None),
        })
        .collect()
}

pub(super) fn sub_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let mut gradients = add_adjoint(adjoint)?;
    if let Some(db) = gradients[1].take() {
        gradients[1] = Some(adjoint.graph.unary("Neg", &db)?);
    }
    Ok(gradients)
}

/// da = dy b, db = dy a.
pub(super) fn mul_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let dy = adjoint.dy()?;
    (0..2)
        .map(|index| {
            if !adjoint.needs(index) {
                return Ok(None);
            }
            let full = adjoint.graph.mul(dy, adjoint.x(1 - index))?;
            adjoint.unbroadcast(&full, index)
        })
        .collect()
}

/// y = a / b; da = dy / b, db = -y dy / b.
pub(super) fn div_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let ratio = adjoint.graph.div(adjoint.dy()?, adjoint.x(1))?;
    let da = match adjoint.needs(0) {
        true => adjoint.unbroadcast(&ratio, 0)?,
        false => None,
    };
    let db = match adjoint.needs(1) {
        true => {
            let full = adjoint.graph.mul(&ratio, adjoint.y())?;
            let full = adjoint.graph.unary("Neg", &full)?;
            adjoint.unbroadcast(&full, 1)?
        }
        false => None,
    };
    Ok(vec![da, db])
}

/// y = x^p with a constant p; dx = p x^(p - 1) dy.
pub(super) fn pow_adjoint(adjoint: &mut Adjoint) -> Gradients {
    if adjoint.needs(1) {
        return Err(
            adjoint.missing("only the base of a power may depend on what is differentiated")
        );
    }
    let (x, dy) = (adjoint.x(0), adjoint.dy()?);
    let graph = &mut *adjoint.graph;
    let exponent = graph.cast(adjoint.node.inputs[1].as_str(), graph.type_of(x).element)?;
    let lower = graph.offset(&exponent, -1.0)?;
    let power = graph.apply("Pow", &[x, &lower], &[])?;
    let slope = graph.mul(&power, &exponent)?;
    let full = graph.mul(dy, &slope)?;
    Ok(vec![adjoint.unbroadcast(&full, 0)?])
}

/// The adjoint of a function of one value: `dx = dy * slope(graph, x, y)`.
fn chain(
    adjoint: &mut Adjoint,
    slope: impl FnOnce(&mut Graph, &str, &str) -> Result<String, GraphError>,
) -> Gradients {
    let slope = slope(
        adjoint.graph,
        adjoint.node.inputs[0].as_str(),
        adjoint.node.outputs[0].as_str(),
    )?;
    Ok(vec![Some(adjoint.graph.mul(adjoint.dy()?, &slope)?)])
}

pub(super) fn neg_adjoint(adjoint: &mut Adjoint) -> Gradients {
    Ok(vec![Some(adjoint.graph.unary("Neg", adjoint.dy()?)?)])
}

pub(super) fn identity_adjoint(adjoint: &mut Adjoint) -> Gradients {
    Ok(vec![Some(adjoint.dy()?.to_owned())])
}

pub(super) fn cast_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let element = adjoint.graph.type_of(adjoint.x(0)).element;
    Ok(vec![Some(adjoint.graph.cast(adjoint.dy()?, element)?)])
}

/// y = sqrt x; dx = dy / 2 y.
pub(super) fn sqrt_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let ratio = adjoint.graph.div(adjoint.dy()?, adjoint.y())?;
    Ok(vec![Some(adjoint.graph.scale(&ratio, 0.5)?)])
}

pub(super) fn exp_adjoint(adjoint: &mut Adjoint) -> Gradients {
    Ok(vec![Some(adjoint.graph.mul(adjoint.dy()?, adjoint.y())?)])
}

pub(super) fn log_adjoint(adjoint: &mut Adjoint) -> Gradients {
    Ok(vec![Some(adjoint.graph.div(adjoint.dy()?, adjoint.x(0))?)])
}

/// y = 1 / x; dx = -y^2 dy.
pub(super) fn reciprocal_adjoint(adjoint: &mut Adjoint) -> Gradients {
    chain(adjoint, |graph, _, y| {
        let square = graph.mul(y, y)?;
        graph.unary("Neg", &square)
    })
}

/// dx = y (1 - y) dy.
pub(super) fn sigmoid_adjoint(adjoint: &mut Adjoint) -> Gradients {
    chain(adjoint, |graph, _, y| {
        let square = graph.mul(y, y)?;
        graph.sub(y, &square)
    })
}

/// dx = (1 - y^2) dy.
pub(super) fn tanh_adjoint(adjoint: &mut Adjoint) -> Gradients {
    chain(adjoint, |graph, _, y| {
        let square = graph.mul(y, y)?;
        let one = graph.scalar_like(1.0, y);
        graph.sub(&one, &square)
    })
}

/// y = ln(1 + e^x); dx = sigmoid(x) dy.
pub(super) fn softplus_adjoint(adjoint: &mut Adjoint) -> Gradients {
    chain(adjoint, |graph, x, _| graph.unary("Sigmoid", x))
}

/// dx = 2 / sqrt(pi) e^(-x^2) dy.
pub(super) fn erf_adjoint(adjoint: &mut Adjoint) -> Gradients {
    chain(adjoint, |graph, x, _| {
        let square = graph.mul(x, x)?;
        let negative = graph.unary("Neg", &square)?;
        let bell = graph.unary("Exp", &negative)?;
        graph.scale(&bell, std::f64::consts::FRAC_2_SQRT_PI)
    })
}
