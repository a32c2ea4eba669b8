//! How much each layer suffers from rounding: the model's error with one layer on bytes and all others in float, and with
//! one layer in float and all others on bytes.

use super::{
    QuantizeError, QuantizeOptions, Ranges, points::NodeForm, points_of, prepare, quantize,
};
use crate::train::graph::{Graph, Node};
use serde::Serialize;

/// Which of a layer's two errors are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// With the layer alone on bytes: how sensitive it is by itself.
    Alone,
    /// With all layers but this one on bytes: what keeping it in float would win.
    Spared,
}

/// The error of a model with one layer treated otherwise than the others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerSensitivity {
    /// The node.
    pub node: String,
    /// Its operator in the float graph.
    pub operator: String,
    /// The model's error.
    pub error: f64,
}

/// Measures every layer that computes with integers by `error` (smaller is better) and ranks them: the most sensitive
/// first, which is the largest error of [`Probe::Alone`] and the smallest of [`Probe::Spared`]. Layers that are equally
/// sensitive stay in the graph's order.
///
/// # Errors
/// As [`quantize`], or what `error` says.
pub fn rank_layers<E: From<QuantizeError>>(
    graph: &Graph,
    ranges: &Ranges,
    options: &QuantizeOptions,
    probe: Probe,
    mut error: impl FnMut(&Graph) -> Result<f64, E>,
) -> Result<Vec<LayerSensitivity>, E> {
    let prepared = prepare(graph, ranges)?;
    let points = points_of(&prepared, options)?;
    let layers: Vec<&Node> = prepared
        .nodes
        .iter()
        .zip(&points.forms)
        .filter(|(_, form)| **form == NodeForm::Integer)
        .map(|(node, _)| node)
        .collect();
    let mut ranked = Vec::with_capacity(layers.len());
    for layer in &layers {
        let mut probed = options.clone();
        let kept = layers.iter().filter(|other| match probe {
            Probe::Alone => other.label() != layer.label(),
            Probe::Spared => other.label() == layer.label(),
        });
        probed
            .keep_float
            .extend(kept.map(|node| node.label().to_owned()));
        // A model of one layer is float when that one is spared.
        let found = match quantize(graph, ranges, &probed) {
            Ok(quantized) => error(&quantized)?,
            Err(QuantizeError::NothingToQuantize) => error(graph)?,
            Err(fault) => return Err(fault.into()),
        };
        ranked.push(LayerSensitivity {
            node: layer.label().to_owned(),
            operator: layer.op.clone(),
            error: found,
        });
    }
    ranked.sort_by(|a, b| match probe {
        Probe::Alone => b.error.total_cmp(&a.error),
        Probe::Spared => a.error.total_cmp(&b.error),
    });
    Ok(ranked)
}
