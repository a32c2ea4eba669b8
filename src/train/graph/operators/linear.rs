//! Matrix products.

use super::{Adjoint, Gradients, Site, Types, reduce, with_shape};
use crate::train::graph::{Attribute, Graph, GraphError, TensorType};

/// MatMul and FusedMatMul (`alpha * op(a) op(b)`, where `transA` and `transB` swap the last two axes).
pub(super) fn matmul(site: &Site) -> Types {
    let (a, b) = (site.float_input(0)?, site.like_first(1)?);
    Ok(vec![with_shape(a, matrix_product(site, a, b)?)])
}

/// The shape of the product of `a` and `b`.
pub(super) fn matrix_product(
    site: &Site,
    a: &TensorType,
    b: &TensorType,
) -> Result<Vec<usize>, GraphError> {
    let mismatch = || site.bad("inputs", "matrices that multiply", format!("{a}, {b}"));
    for name in ["transBatchA", "transBatchB"] {
        if site.int(name, 0) != 0 {
            return Err(site.bad(name, 0, site.int(name, 0)));
        }
    }
    if a.rank() == 0 || b.rank() == 0 {
        return Err(mismatch());
    }
    // A vector on the left is a row, one on the right a column; that axis is dropped from the result.
    let mut left = a.shape.clone();
    let mut right = b.shape.clone();
    if a.rank() == 1 {
        left.insert(0, 1);
    }
    if b.rank() == 1 {
        right.push(1);
    }
    let swap = |shape: &mut Vec<usize>, flag: &str| {
        let rank = shape.len();
        if site.int(flag, 0) != 0 {
            shape.swap(rank - 1, rank - 2);
        }
    };
    swap(&mut left, "transA");
    swap(&mut right, "transB");
    let (rows, depth) = (left[left.len() - 2], left[left.len() - 1]);
    let (depth_right, columns) = (right[right.len() - 2], right[right.len() - 1]);
    if depth != depth_right {
        return Err(mismatch());
    }
    let mut shape = site.broadcast(&[&left[..left.len() - 2], &right[..right.len() - 2]])?;
    if a.rank() > 1 {
        shape.push(rows);
    }
    if b.rank() > 1 {
        shape.push(columns);
    }
    Ok(shape)
}

/// `alpha * op(a) op(b)`.
pub(super) fn product(
    graph: &mut Graph,
    a: (&str, bool),
    b: (&str, bool),
    alpha: f32,
) -> Result<String, GraphError> {
    if !a.1 && !b.1 && alpha == 1.0 {
        return graph.apply("MatMul", &[a.0, b.0], &[]);
    }
    graph.apply(
        "FusedMatMul",
        &[a.0, b.0],
        &[
            ("transA", Attribute::Int(i64::from(a.1))),
            ("transB", Attribute::Int(i64::from(b.1))),
            ("alpha", Attribute::Float(alpha)),
        ],
    )
}

/// The gradients of `y = alpha op(a) op(b)` for matrices.
///
/// With neither transposed: da = alpha dy b^T, db = alpha a^T dy; a transposed operand swaps the factors.
pub(super) fn product_adjoint(
    graph: &mut Graph,
    a: (&str, bool),
    b: (&str, bool),
    alpha: f32,
    dy: &str,
    needed: [bool; 2],
) -> Result<[Option<String>; 2], GraphError> {
    let da = if needed[0] {
        let full = match a.1 {
            false => product(graph, (dy, false), (b.0, !b.1), alpha)?,
            true => product(graph, (b.0, b.1), (dy, true), alpha)?,
        };
        let shape = graph.shape(a.0).to_vec();
        Some(reduce::sum_to_shape(graph, &full, &shape)?)
    } else {
        None
    };
    let db = if needed[1] {
        let full = match b.1 {
            false => product(graph, (a.0, !a.1), (dy, false), alpha)?,
            true => product(graph, (dy, true), (a.0, a.1), alpha)?,
        };
        let shape = graph.shape(b.0).to_vec();
        Some(reduce::sum_to_shape(graph, &full, &shape)?)
    } else {
        None
    };
    Ok([da, db])
}

pub(super) fn matmul_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let (a, b) = (adjoint.x(0), adjoint.x(1));
    let dy = adjoint.dy()?;
    let needed = [adjoint.needs(0), adjoint.needs(1)];
    let trans_a = adjoint.node.int("transA").unwrap_or(0) != 0;
    let trans_b = adjoint.node.int("transB").unwrap_or(0) != 0;
    let alpha = adjoint.node.float("alpha").unwrap_or(1.0);
    let (a_shape, b_shape) = (adjoint.shape(a), adjoint.shape(b));
    if a_shape.len() > 1 && b_shape.len() > 1 {
        let graph = &mut *adjoint.graph;
        return product_adjoint(graph, (a, trans_a), (b, trans_b), alpha, dy, needed)
            .map(|gradients| gradients.to_vec());
    }
    if trans_a || trans_b {
        return Err(adjoint.missing("a vector operand is transposed"));
    }
    // A vector becomes a matrix with one row or column, and back.
    let graph = &mut *adjoint.graph;
    let (mut matrix_a, mut matrix_b) = (a_shape.clone(), b_shape.clone());
    if a_shape.len() == 1 {
        matrix_a.insert(0, 1);
    }
    if b_shape.len() == 1 {
        matrix_b.push(1);
    }
    let mut dy_shape = graph.shape(dy).to_vec();
    if b_shape.len() == 1 {
        dy_shape.push(1);
    }
    if a_shape.len() == 1 {
        dy_shape.insert(dy_shape.len() - 1, 1);
    }
    let a = graph.reshape(a, &matrix_a)?;
    let b = graph.reshape(b, &matrix_b)?;
    let dy = graph.reshape(dy, &dy_shape)?;
    let [da, db] = product_adjoint(graph, (&a, false), (&b, false), alpha, &dy, needed)?;
    let mut back = |gradient: Option<String>, shape: &[usize]| {
        gradient
            .map(|gradient| graph.reshape(&gradient, shape))
            .transpose()
    };
    Ok(vec![back(da, &a_shape)?, back(db, &b_shape)?])
}

/// Gemm: `alpha op(a) op(b) + beta c`, with `c` broadcast.
pub(super) fn gemm(site: &Site) -> Types {
    let (a, b) = (site.float_input(0)?, site.like_first(1)?);
    let shape = general_product(site, a, b)?;
    if let Some(c) = site.optional(2)
        && site.broadcast(&[&shape, &c.shape])? != shape
    {
        return Err(site.bad("input 2", format!("broadcastable to {shape:?}"), c));
    }
    Ok(vec![with_shape(a, shape)])
}

/// The shape of Gemm's product of `a` and `b`.
pub(super) fn general_product(
    site: &Site,
    a: &TensorType,
    b: &TensorType,
) -> Result<Vec<usize>, GraphError> {
    if a.rank() != 2 || b.rank() != 2 {
        return Err(site.bad("inputs 0 and 1", "matrices", format!("{a}, {b}")));
    }
    let oriented = |shape: &[usize], flag: &str| match site.int(flag, 0) {
        0 => (shape[0], shape[1]),
        _ => (shape[1], shape[0]),
    };
    let (rows, depth) = oriented(&a.shape, "transA");
    let (depth_right, columns) = oriented(&b.shape, "transB");
    if depth != depth_right {
        return Err(site.bad("inputs", "matrices that multiply", format!("{a}, {b}")));
    }
    Ok(vec![rows, columns])
}

pub(super) fn gemm_adjoint(adjoint: &mut Adjoint) -> Gradients {
    let dy = adjoint.dy()?;
    let flag = |name: &str| adjoint.node.int(name).unwrap_or(0) != 0;
    let a = (adjoint.x(0), flag("transA"));
    let b = (adjoint.x(1), flag("transB"));
    let alpha = adjoint.node.float("alpha").unwrap_or(1.0);
    let needed = [adjoint.needs(0), adjoint.needs(1)];
    let [da, db] = product_adjoint(adjoint.graph, a, b, alpha, dy, needed)?;
    let mut gradients = vec![da, db];
    if adjoint.needs(2) {
        let beta = adjoint.node.float("beta").unwrap_or(1.0);
        let shape = adjoint.shape(adjoint.x(2));
        let sum = reduce::sum_to_shape(adjoint.graph, dy, &shape)?;
        gradients.push(Some(if beta == 1.0 {
            sum
        } else {
            adjoint.graph.scale(&sum, f64::from(beta))?
        }));
    }
    Ok(gradients)
}
