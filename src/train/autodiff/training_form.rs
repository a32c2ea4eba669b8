//! Batch normalisation in training: normalising by the statistics of the batch, and naming them for the running averages.

use crate::train::graph::operators::{reduce_to_channels, rows_of_channels};
use crate::train::graph::{Graph, GraphError, Node};

/// The statistics of one BatchNormalization: constants that hold the running averages, and values that hold those of the
/// batch.
///
/// After a step `running = (1 - a) running + a batch`, where the batch's variance is multiplied by `unbiased_factor`
/// first.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchStatistics {
    /// Initializer `[channels]` with the running mean.
    pub mean_init: String,
    /// Initializer `[channels]` with the running variance.
    pub var_init: String,
    /// Value `[channels]`: mean of the batch.
    pub batch_mean: String,
    /// Value `[channels]`: variance of the batch around its mean, divided by the number of elements (biased).
    pub batch_var: String,
    /// Number of channels.
    pub channels: usize,
    /// `m / (m - 1)` for m elements a channel: what makes the variance unbiased, as running averages hold it.
    pub unbiased_factor: f32,
}

/// Rewrites each BatchNormalization whose statistics are constants to normalise by the mean and the biased variance of
/// the batch, and returns the statistics in the order of the nodes.
///
/// The constants stay in the graph, unused, with the running averages.
///
/// # Errors
/// The statistics of a BatchNormalization are not constants.
pub fn training_form(graph: &mut Graph) -> Result<Vec<BatchStatistics>, GraphError> {
    let mut statistics = Vec::new();
    for mut node in std::mem::take(&mut graph.nodes) {
        if node.op == "BatchNormalization" && node.domain.is_empty() {
            let of_node = batch_statistics(graph, &node)?;
            node.inputs[3].clone_from(&of_node.batch_mean);
            node.inputs[4].clone_from(&of_node.batch_var);
            graph.mark_batch_normalized(&node.outputs[0]);
            statistics.push(of_node);
        }
        graph.nodes.push(node);
    }
    Ok(statistics)
}

fn batch_statistics(graph: &mut Graph, node: &Node) -> Result<BatchStatistics, GraphError> {
    for input in &node.inputs[3..5] {
        if !graph.initializers.contains_key(input) {
            return Err(GraphError::BadNode {
                node: node.label().to_owned(),
                operator: node.op.clone(),
                what: input.clone(),
                expected: "constant statistics".to_owned(),
                found: "a computed value".to_owned(),
            });
        }
    }
    let x = &node.inputs[0];
    let channels = graph.shape(x)[1];
    let count = graph.type_of(x).element_count() / channels.max(1);
    let rows = rows_of_channels(graph, x)?;
    let mean = reduce_to_channels(graph, "ReduceMean", &rows)?;
    // E[x^2] - E[x]^2 reads x once less than centring it first; rounding can make it slightly negative.
    // ONNX Runtime's ReduceSumSquare is slower than the square and its sum.
    let squares = graph.mul(&rows, &rows)?;
    let sum_of_squares = reduce_to_channels(graph, "ReduceSum", &squares)?;
    let mean_of_squares = graph.scale(&sum_of_squares, 1.0 / count as f64)?;
    let square_of_mean = graph.mul(&mean, &mean)?;
    let difference = graph.sub(&mean_of_squares, &square_of_mean)?;
    let variance = graph.unary("Relu", &difference)?;
    Ok(BatchStatistics {
        mean_init: node.inputs[3].clone(),
        var_init: node.inputs[4].clone(),
        batch_mean: mean,
        batch_var: variance,
        channels,
        unbiased_factor: if count > 1 {
            (count as f64 / (count as f64 - 1.0)) as f32
        } else {
            1.0
        },
    })
}
