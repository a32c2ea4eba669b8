//! Which operators stay float so that a model loses no more than allowed: as few as possible, the most sensitive first.

use super::{QuantizeError, QuantizeOptions, Ranges, quantize};
use crate::train::graph::Graph;

/// What was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// The nodes that stay float, the most sensitive first.
    pub keep_float: Vec<String>,
    /// The score of the model with them.
    pub score: f64,
}

/// Keeps the fewest of `ranked` (the most sensitive first) in float with which `score` is at most `limit`; smaller scores
/// are better. All of them when even that is not enough.
///
/// Nodes are added in the order of the ranking; the number is found by bisection, as though each further one helped.
///
/// # Errors
/// As [`quantize`], or what `score` says.
pub fn keep_fewest<E: From<QuantizeError>>(
    graph: &Graph,
    ranges: &Ranges,
    options: &QuantizeOptions,
    ranked: &[String],
    limit: f64,
    mut score: impl FnMut(&Graph) -> Result<f64, E>,
) -> Result<Selection, E> {
    let mut with = |count: usize| -> Result<Selection, E> {
        let mut options = options.clone();
        options.keep_float.extend(ranked[..count].iter().cloned());
        let score = match quantize(graph, ranges, &options) {
            Ok(quantized) => score(&quantized)?,
            // With everything in float there is no loss.
            Err(QuantizeError::NothingToQuantize) => f64::NEG_INFINITY,
            Err(error) => return Err(error.into()),
        };
        Ok(Selection {
            keep_float: options.keep_float,
            score,
        })
    };
    let whole = with(0)?;
    if whole.score <= limit || ranked.is_empty() {
        return Ok(whole);
    }
    let (mut too_few, mut enough) = (0, ranked.len());
    let mut best = with(enough)?;
    while enough - too_few > 1 {
        let middle = (too_few + enough) / 2;
        let tried = with(middle)?;
        if tried.score <= limit {
            enough = middle;
            best = tried;
        } else {
            too_few = middle;
        }
    }
    Ok(best)
}
