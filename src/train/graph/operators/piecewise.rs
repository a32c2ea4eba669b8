//! Adjoints of operators with a kink: the gradient is masked by the side of the kink, and at the kink itself it is one of
//! the two slopes.

use super::{Adjoint, Gradients};
use crate::train::graph::{Attribute, GraphError};

/// dx = sign(x) dy.
pub(super) fn abs_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let sign = adjoint.graph.unary("Sign", adjoint.x(0))?;
    Ok(vec![Some(adjoint.graph.mul(adjoint.dy()?, &sign)?)])
}

/// dx = dy where y > 0.
pub(super) fn relu_adjoint(adjoint: &mut Adjoint) -> Gradients {
    if adjoint.on_cpu() {
        let inputs = [adjoint.y(), adjoint.dy()?];
        return Ok(vec![Some(adjoint.graph.apply("ReluGrad", &inputs, &[])?)]);
    }
    let inside = positive(adjoint, adjoint.y())?;
    Ok(vec![Some(adjoint.masked(adjoint.dy()?, &inside)?)])
}

/// The truth value of `value > 0`.
fn positive(adjoint: &mut Adjoint, value: &str) -> Result<String, GraphError> {
    let zero = adjoint.graph.scalar_like(0.0, value);
    adjoint.graph.apply("Greater", &[value, &zero], &[])
}

/// The truth value of `low < value < high`.
fn between(
    adjoint: &mut Adjoint,
    value: &str,
    low: Option<&str>,
    high: Option<&str>,
) -> Result<Option<String>, GraphError> {
    let graph = &mut *adjoint.graph;
    let above = low
        .map(|low| graph.apply("Greater", &[value, low], &[]))
        .transpose()?;
    let below = high
        .map(|high| graph.apply("Less", &[value, high], &[]))
        .transpose()?;
    Ok(match (above, below) {
        (Some(above), Some(below)) => Some(graph.apply("And", &[&above, &below], &[])?),
        (above, below) => above.or(below),
    })
}

/// dx = dy where min < y < max.
pub(super) fn clip_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let dy = adjoint.dy()?;
    let (low, high) = (adjoint.node.input(1), adjoint.node.input(2));
    let dx = match between(adjoint, adjoint.y(), low, high)? {
        Some(inside) => adjoint.masked(dy, &inside)?,
        None => dy.to_owned(),
    };
    if adjoint.needs(1) || adjoint.needs(2) {
        return Err(adjoint.missing("the bounds depend on what is differentiated"));
    }
    Ok(vec![Some(dx)])
}

/// dx = dy (1 where x > 0, else alpha).
pub(super) fn leaky_relu_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let (x, dy) = (adjoint.x(0), adjoint.dy()?);
    let alpha = f64::from(adjoint.node.float("alpha").unwrap_or(0.01));
    let mask = positive(adjoint, x)?;
    let graph = &mut *adjoint.graph;
    let element = graph.type_of(x).element;
    let mask = graph.cast(&mask, element)?;
    let slope = graph.scale(&mask, 1.0 - alpha)?;
    let slope = graph.offset(&slope, alpha)?;
    Ok(vec![Some(graph.mul(dy, &slope)?)])
}

/// y = max(x, 0) + slope min(x, 0); dslope = dy min(x, 0).
pub(super) fn prelu_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let (x, slope, dy) = (adjoint.x(0), adjoint.x(1), adjoint.dy()?);
    let dx = if adjoint.needs(0) {
        let mask = positive(adjoint, x)?;
        let graph = &mut *adjoint.graph;
        let element = graph.type_of(x).element;
        let mask = graph.cast(&mask, element)?;
        let one = graph.scalar_like(1.0, x);
        let rise = graph.sub(&one, slope)?;
        let total = graph.mul(&mask, &rise)?;
        let total = graph.add(&total, slope)?;
        let full = graph.mul(dy, &total)?;
        adjoint.unbroadcast(&full, 0)?
    } else {
        None
    };
    let dslope = if adjoint.needs(1) {
        let graph = &mut *adjoint.graph;
        let above = graph.unary("Relu", x)?;
        let below = graph.sub(x, &above)?;
        let full = graph.mul(dy, &below)?;
        adjoint.unbroadcast(&full, 1)?
    } else {
        None
    };
    Ok(vec![dx, dslope])
}

/// dx = alpha dy where 0 < y < 1.
pub(super) fn hard_sigmoid_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let (y, dy) = (adjoint.y(), adjoint.dy()?);
    let alpha = f64::from(adjoint.node.float("alpha").unwrap_or(0.2));
    let zero = adjoint.graph.scalar_like(0.0, y);
    let one = adjoint.graph.scalar_like(1.0, y);
    let dy = adjoint.graph.scale(dy, alpha)?;
    Ok(vec![match between(adjoint, y, Some(&zero), Some(&one))? {
        Some(inside) => Some(adjoint.masked(&dy, &inside)?),
        None => None,
    }])
}

/// y = x h(x) with h(x) = clip(x / 6 + 1/2, 0, 1); dx = (h(x) + x / 6 where |x| < 3) dy.
pub(super) fn hard_swish_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let (x, dy) = (adjoint.x(0), adjoint.dy()?);
    let graph = &mut *adjoint.graph;
    let shape = [
        ("alpha", Attribute::Float(1.0 / 6.0)),
        ("beta", Attribute::Float(0.5)),
    ];
    let hard_sigmoid = graph.apply("HardSigmoid", &[x], &shape)?;
    let size = graph.unary("Abs", x)?;
    let three = graph.scalar_like(3.0, x);
    let inside = graph.apply("Less", &[&size, &three], &[])?;
    let sixth = graph.scale(x, 1.0 / 6.0)?;
    let ramp = adjoint.masked(&sixth, &inside)?;
    let slope = adjoint.graph.add(&hard_sigmoid, &ramp)?;
    Ok(vec![Some(adjoint.graph.mul(dy, &slope)?)])
}

/// Min and Max: dy goes to the first operand that equals y.
pub(super) fn min_max_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let (y, dy) = (adjoint.y(), adjoint.dy()?);
    let mut gradients = Vec::new();
    // What the operands so far have not taken; `None` while that is everything.
    let mut rest: Option<String> = None;
    for index in 0..adjoint.node.inputs.len() {
        let graph = &mut *adjoint.graph;
        let equal = graph.apply("Equal", &[&adjoint.node.inputs[index], y], &[])?;
        let taken = match &rest {
            Some(rest) => graph.apply("And", &[rest, &equal], &[])?,
            None => equal.clone(),
        };
        let others = graph.unary("Not", &equal)?;
        rest = Some(match &rest {
            Some(rest) => graph.apply("And", &[rest, &others], &[])?,
            None => others,
        });
        gradients.push(if adjoint.needs(index) {
            let full = adjoint.masked(dy, &taken)?;
            adjoint.unbroadcast(&full, index)?
        } else {
            None
        });
    }
    Ok(gradients)
}

/// Where: each operand gets dy where it was chosen.
pub(super) fn where_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let (condition, dy) = (adjoint.x(0), adjoint.dy()?);
    let mut gradients = vec![None];
    for index in 1..3 {
        gradients.push(if adjoint.needs(index) {
            let chosen = match index {
                1 => condition.to_owned(),
                _ => adjoint.graph.unary("Not", condition)?,
            };
            let full = adjoint.masked(dy, &chosen)?;
            adjoint.unbroadcast(&full, index)?
        } else {
            None
        });
    }
    Ok(gradients)
}
