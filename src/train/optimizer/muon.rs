//! Muon's direction: the momentum of a convolution made orthogonal by Newton and Schulz's iteration.

use super::Placed;
use crate::train::graph::{Attribute, Graph, GraphError};

/// Coefficients of the quintic `a x + b x^3 + c x^5` and how often it is applied (Jordan et al. 2024): singular values from
/// about 0.01 to 1 end between 0.7 and 1.2.
const QUINTIC: (f32, f32, f32) = (3.4445, -4.7750, 2.0315);
const ITERATIONS: usize = 5;

/// Root mean square of AdamW's usual steps, in learning rates (Liu et al. 2025, section 2.2).
const ADAM_RMS: f32 = 0.2;

/// Keeps the norm of a gradient of 0 away from 0.
const NORM_EPSILON: f64 = 1e-7;

/// `direction` with the parts of convolution weights replaced by their orthogonal `momentum`; both are flat vectors in
/// which `placed` lie one after another.
pub(super) fn in_place_of_adam(
    graph: &mut Graph,
    direction: &str,
    momentum: &str,
    placed: &[Placed],
) -> Result<String, GraphError> {
    let mut parts = Vec::new();
    let mut pending = 0;
    for parameter in placed {
        let (start, end) = (parameter.range.start, parameter.range.end);
        let Some((rows, columns)) = matrix(&parameter.shape) else {
            continue;
        };
        if pending < start {
            parts.push(part(graph, direction, pending, start)?);
        }
        let flat = part(graph, momentum, start, end)?;
        let matrix = graph.reshape(&flat, &[rows, columns])?;
        let turned = orthogonal(graph, &matrix, rows, columns)?;
        let length = ADAM_RMS * (rows.max(columns) as f32).sqrt();
        let scaled = graph.scale(&turned, f64::from(length))?;
        parts.push(graph.reshape(&scaled, &[rows * columns])?);
        pending = end;
    }
    let all = placed.last().map_or(0, |last| last.range.end);
    if pending < all {
        parts.push(part(graph, direction, pending, all)?);
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    graph.concat(&parts, 0)
}

/// The matrix of a weight that follows Muon: a convolution's that mixes channels.
fn matrix(shape: &[usize]) -> Option<(usize, usize)> {
    match *shape {
        [out, into, height, width] if into > 1 && out > 1 => Some((out, into * height * width)),
        _ => None,
    }
}

fn part(graph: &mut Graph, flat: &str, start: usize, end: usize) -> Result<String, GraphError> {
    graph.slice(flat, &[0], &[start as i64], &[end as i64], &[1])
}

/// About `U V^T` of the matrix's singular value decomposition `U S V^T`.
fn orthogonal(
    graph: &mut Graph,
    matrix: &str,
    rows: usize,
    columns: usize,
) -> Result<String, GraphError> {
    let squares = graph.reduce("ReduceSumSquare", matrix, &[], false)?;
    let norm = graph.unary("Sqrt", &squares)?;
    let norm = graph.offset(&norm, NORM_EPSILON)?;
    let mut x = graph.div(matrix, &norm)?;
    // X X^T is the smaller of the two products when the matrix lies.
    let stands = rows > columns;
    if stands {
        x = graph.transpose(&x, &[1, 0])?;
    }
    let (a, b, c) = QUINTIC;
    for _ in 0..ITERATIONS {
        let gram = graph.apply("Gemm", &[&x, &x], &[("transB", Attribute::Int(1))])?;
        let polynomial = scaled_sum(graph, (&gram, &gram, c), (&gram, b))?;
        x = scaled_sum(graph, (&polynomial, &x, 1.0), (&x, a))?;
    }
    if stands {
        x = graph.transpose(&x, &[1, 0])?;
    }
    Ok(x)
}

/// `factor * left right + other_factor * other`.
fn scaled_sum(
    graph: &mut Graph,
    (left, right, factor): (&str, &str, f32),
    (other, other_factor): (&str, f32),
) -> Result<String, GraphError> {
    let attributes = [
        ("alpha", Attribute::Float(factor)),
        ("beta", Attribute::Float(other_factor)),
    ];
    graph.apply("Gemm", &[left, right, other], &attributes)
}
