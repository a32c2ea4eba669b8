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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{
        graph::{Tensor, TensorType},
        quantize::Range,
    };

    const LAYERS: [&str; 5] = ["a", "b", "c", "d", "e"];

    /// Five convolutions in a row.
    fn graph() -> (Graph, Ranges) {
        let mut graph = Graph::new("row");
        graph
            .input("image", TensorType::f32(&[1, 1, 4, 4]))
            .unwrap();
        graph
            .parameter("w", Tensor::f32(&[1, 1, 1, 1], vec![1.0]))
            .unwrap();
        let mut ranges = Ranges::default();
        let range = Range::new(-1.0, 1.0).unwrap();
        let mut x = "image";
        ranges.values.insert(x.to_owned(), range);
        for name in LAYERS {
            graph.apply_named("Conv", &[x, "w"], &[], name).unwrap();
            ranges.values.insert(name.to_owned(), range);
            x = name;
        }
        graph.outputs.push(x.to_owned());
        (graph, ranges)
    }

    /// Each quantised layer costs something, `c` and `a` the most.
    fn cost(graph: &Graph) -> Result<f64, QuantizeError> {
        let costs = [("a", 5.0), ("b", 1.0), ("c", 10.0), ("d", 1.0), ("e", 1.0)];
        let quantized = graph
            .nodes
            .iter()
            .filter(|node| node.op == "QLinearConv")
            .filter_map(|node| {
                costs
                    .iter()
                    .find(|(layer, _)| node.outputs[0].starts_with(layer))
            });
        Ok(quantized.map(|(_, cost)| cost).sum())
    }

    #[test]
    fn the_fewest_that_suffice_stay_float() {
        let (graph, ranges) = graph();
        let ranked: Vec<String> = ["c", "a", "b", "d", "e"].map(str::to_owned).to_vec();
        let options = QuantizeOptions::default();
        for (limit, expected) in [
            (100.0, &[][..]),
            (18.0, &[]),
            (17.0, &["c"]),
            (3.0, &["c", "a"]),
            (2.0, &["c", "a", "b"]),
            (0.0, &["c", "a", "b", "d", "e"]),
        ] {
            let found = keep_fewest(&graph, &ranges, &options, &ranked, limit, cost).unwrap();
            assert_eq!(found.keep_float, expected, "{limit}");
            assert!(found.score <= limit, "{limit}: {}", found.score);
        }
    }
}
