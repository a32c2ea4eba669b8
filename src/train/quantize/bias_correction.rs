//! Empirical bias correction (Nagel et al. 2019, section 4.2): rounding shifts the mean of each channel; the shift that
//! is measured on calibration crops is taken back by the bias.
//!
//! Layer by layer in order: each is measured behind layers that are quantised and corrected already, so that a shift
//! that comes from earlier layers is corrected once. The shift of a channel is taken picture by picture and its
//! interquartile mean is corrected: a few pictures that excite a channel far beyond its range, where it saturates, must
//! not move all others.

use super::{
    CalibrationCrops, QuantizeError, QuantizeOptions, Ranges, Watch,
    emit::{self, BYTES},
    observe::{Stage, typical},
    plan::Plan,
    points::NodeForm,
};
use crate::train::graph::{Graph, Node, Tensor};

/// Adds to `ranges` the corrections of every integer Conv and Gemm.
pub(super) fn bias_corrections(
    graph: &Graph,
    ranges: &mut Ranges,
    crops: &CalibrationCrops,
    options: &QuantizeOptions,
    watch: &mut Watch,
) -> Result<(), QuantizeError> {
    ranges.bias_corrections.clear();
    let plan = Plan::new(graph, ranges, options)?;
    let layers: Vec<Node> = plan
        .graph
        .nodes
        .iter()
        .zip(&plan.points.forms)
        .filter(|(node, form)| {
            **form == NodeForm::Integer && matches!(node.op.as_str(), "Conv" | "Gemm")
        })
        .map(|(node, _)| node.clone())
        .collect();
    let total = crops.crops.len() * (layers.len() + 1);
    let mut stage = Stage::new(watch, "correcting biases", total);
    let outputs: Vec<String> = layers.iter().map(|node| node.outputs[0].clone()).collect();
    let wanted = channel_means(&plan.graph, &outputs, crops, &mut stage)?;
    for (layer, wanted) in layers.iter().zip(wanted) {
        let plan = Plan::new(graph, ranges, options)?;
        let (probe, output) = probe(&plan, layer)?;
        let found = channel_means(&probe, &[output], crops, &mut stage)?.remove(0);
        let channels = plan.graph.shape(&layer.outputs[0])[1];
        let correction = (0..channels)
            .map(|channel| {
                let wanted = wanted[channel..].iter().step_by(channels);
                let found = found[channel..].iter().step_by(channels);
                typical(
                    wanted
                        .zip(found)
                        .map(|(wanted, found)| wanted - found)
                        .collect(),
                )
            })
            .collect();
        ranges
            .bias_corrections
            .insert(layer.outputs[0].clone(), correction);
    }
    Ok(())
}

/// A graph that computes what `layer` makes of its rounded input with its rounded weights, before its result is rounded.
fn probe(plan: &Plan, layer: &Node) -> Result<(Graph, String), QuantizeError> {
    let mut graph = emit::qoperator(plan)?;
    let grid = plan.grid_of(&layer.inputs[0]);
    let [scale, zero_point] = emit::grid_constants(&mut graph, grid);
    let bytes = format!("{}{BYTES}", layer.inputs[0]);
    let input = graph.apply("DequantizeLinear", &[&bytes, &scale, &zero_point], &[])?;
    let weights = plan.integer_weights(layer)?.dequantize(grid.scale);
    let weight = graph.constant(Tensor::f32(&weights.shape, weights.values));
    let bias = graph.constant(Tensor::f32(&weights.shape[..1], weights.bias));
    let mut node = layer.clone();
    node.name.clear();
    node.inputs = vec![input, weight, bias];
    node.outputs = vec![graph.fresh_name("probe")];
    if node.op == "Gemm" {
        let by_rows = crate::train::graph::Attribute::Int(1);
        node.attributes.insert("transB".to_owned(), by_rows);
    }
    let output = node.outputs[0].clone();
    graph.push(node)?;
    Ok((graph, output))
}

/// The mean over all positions of each channel of each value: `[crops, channels]` a value.
fn channel_means(
    graph: &Graph,
    values: &[String],
    crops: &CalibrationCrops,
    stage: &mut Stage,
) -> Result<Vec<Vec<f32>>, QuantizeError> {
    let channels: Vec<usize> = values.iter().map(|value| graph.shape(value)[1]).collect();
    let mut means = vec![Vec::new(); values.len()];
    crops.observe(graph, values, stage, |index, numbers| {
        let positions = numbers.len() / channels[index];
        means[index].extend(numbers.chunks_exact(positions).map(|channel| {
            let sum: f64 = channel.iter().map(|&number| f64::from(number)).sum();
            (sum / positions as f64) as f32
        }));
        Ok(())
    })?;
    Ok(means)
}
