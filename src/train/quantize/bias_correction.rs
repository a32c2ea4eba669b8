//! Empirical bias correction (Nagel et al. 2019, section 4.2): rounding shifts the mean of each channel; the shift that
//! is measured on calibration crops is taken back by the bias.
//!
//! Layer by layer in order: each is measured behind layers that are quantised and corrected already, so that a shift
//! that comes from earlier layers is corrected once.

use super::{
    CalibrationCrops, QuantizeError, QuantizeOptions, Ranges, Watch,
    emit::{self, BYTES},
    observe::Stage,
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
        let found = channel_means(&probe, &[output], crops, &mut stage)?;
        let correction = wanted
            .iter()
            .zip(&found[0])
            .map(|(wanted, found)| (wanted - found) as f32)
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

/// The mean of each channel of each value over all crops and positions.
fn channel_means(
    graph: &Graph,
    values: &[String],
    crops: &CalibrationCrops,
    stage: &mut Stage,
) -> Result<Vec<Vec<f64>>, QuantizeError> {
    let mut sums: Vec<Vec<f64>> = values
        .iter()
        .map(|value| vec![0.0; graph.shape(value)[1]])
        .collect();
    crops.observe(graph, values, stage, |index, numbers| {
        let sums = &mut sums[index];
        let positions = numbers.len() / sums.len();
        for (sum, channel) in sums.iter_mut().zip(numbers.chunks_exact(positions)) {
            let mean = channel.iter().map(|&number| f64::from(number)).sum::<f64>();
            *sum += mean / positions as f64;
        }
        Ok(())
    })?;
    for sums in &mut sums {
        for sum in sums {
            *sum /= crops.crops.len() as f64;
        }
    }
    Ok(sums)
}
