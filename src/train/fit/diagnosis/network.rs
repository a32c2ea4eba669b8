//! Looks into a network: one run over a batch in the form that training gives the network, with what the normal step
//! keeps to itself as outputs. The step's own graph stays as it is.

use super::{PredictionEvidence, ReluEvidence};
use crate::{
    metrics::PredictionSpread,
    train::{
        autodiff,
        fit::FitError,
        graph::{Graph, GraphError, operators::in_stock_operators},
        loss::LossTerm,
        session::{Device, ForwardSession, NamedValues},
        step::{TrainingState, TrainingStep},
        target::{Batch, BatchTensor},
    },
};
use std::collections::HashMap;

/// Pictures looked at, at least; batches that are smaller are put together.
pub(super) const PICTURES: usize = 32;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct NetworkEvidence {
    pub(super) relus: Vec<ReluEvidence>,
    pub(super) gradients: Vec<(String, f64)>,
    pub(super) predictions: Option<PredictionEvidence>,
}

/// Where the numbers of a ReLU come out.
struct Probe {
    name: String,
    largest: String,
    picture_share: String,
}

/// Runs the network of `step` with the weights of `state` on `batch`.
pub(super) fn look(
    step: &TrainingStep,
    state: &TrainingState,
    terms: &[LossTerm],
    batch: &Batch,
    device: Device,
    threads: usize,
) -> Result<NetworkEvidence, FitError> {
    let forward = step.write_back(state, false)?;
    let rows = batch
        .tensors
        .values()
        .next()
        .map_or(1, |tensor| tensor.shape[0]);
    let mut graph = forward.with_batch(rows)?;
    graph.outputs.retain(|output| output == LANDMARKS);
    autodiff::training_form(&mut graph)?;
    let mut total: Option<String> = None;
    for term in terms {
        let loss = term.emit(&mut graph)?;
        total = Some(match total {
            Some(sum) => graph.add(&sum, &loss)?,
            None => loss,
        });
    }
    let weights: Vec<String> = step
        .parameter_names()
        .filter(|name| {
            let shape = &forward.initializers[*name].shape;
            shape.iter().filter(|&&size| size > 1).count() > 1
        })
        .map(str::to_owned)
        .collect();
    let probes = relu_probes(&mut graph)?;
    let mut squares = Vec::new();
    if let Some(total) = &total
        && !weights.is_empty()
    {
        for gradient in autodiff::gradients(&mut graph, total, &weights, device.backend())? {
            let square = graph.mul(&gradient, &gradient)?;
            let sum = graph.reduce("ReduceSum", &square, &[], false)?;
            squares.push(output(&mut graph, &sum)?);
        }
    }
    if device == Device::Cuda {
        graph = in_stock_operators(&graph)?;
    }
    let inputs: Vec<(&str, &[usize], &[f32])> = graph
        .inputs
        .iter()
        .filter_map(|(name, _)| {
            let (name, BatchTensor { shape, values }) = batch.tensors.get_key_value(name)?;
            Some((name.as_str(), shape.as_slice(), values.as_slice()))
        })
        .collect();
    let mut session = ForwardSession::new(&graph, device, threads)?;
    let values = session.run(&inputs)?;
    let scalar = |name: &String| f64::from(values[name].1[0]);
    Ok(NetworkEvidence {
        relus: probes
            .into_iter()
            .map(|probe| {
                let largest = &values[&probe.largest].1;
                let dead = largest.iter().filter(|&&value| value <= 0.0).count();
                ReluEvidence {
                    name: probe.name,
                    channels: largest.len(),
                    dead: dead as f64 / largest.len().max(1) as f64,
                    picture_share: scalar(&probe.picture_share),
                }
            })
            .collect(),
        gradients: weights
            .iter()
            .zip(&squares)
            .map(|(name, square)| (layer_of(name), scalar(square).sqrt()))
            .collect(),
        predictions: predictions(&values, batch),
    })
}

const LANDMARKS: &str = "landmarks";

/// Adds, for each ReLU, each channel's largest value and the part of its mean square that depends on the picture.
fn relu_probes(graph: &mut Graph) -> Result<Vec<Probe>, GraphError> {
    let makers: HashMap<String, usize> = graph
        .nodes
        .iter()
        .enumerate()
        .flat_map(|(index, node)| {
            node.outputs
                .iter()
                .map(move |output| (output.clone(), index))
        })
        .collect();
    let weights: Vec<String> = graph.parameters();
    let mut found = Vec::new();
    for node in graph.nodes.iter().filter(|node| node.op == "Relu") {
        // The rewritten batch statistics use a ReLU too, on a vector.
        if graph.shape(&node.outputs[0]).len() < 2 {
            continue;
        }
        // Named after the weight that feeds it, through normalisation and the like.
        let mut name = node.outputs[0].clone();
        let mut at = node.inputs[0].as_str();
        for _ in 0..4 {
            let Some(maker) = makers.get(at).map(|&index| &graph.nodes[index]) else {
                break;
            };
            if let Some(weight) = maker.inputs.iter().find(|input| weights.contains(input)) {
                name = layer_of(weight);
                break;
            }
            at = &maker.inputs[0];
        }
        found.push((name, node.outputs[0].clone()));
    }
    let mut probes = Vec::new();
    for (name, value) in found {
        let axes: Vec<usize> = (0..graph.shape(&value).len())
            .filter(|&axis| axis != 1)
            .collect();
        let largest = graph.reduce("ReduceMax", &value, &axes, false)?;
        let mean_over_pictures = graph.reduce("ReduceMean", &value, &[0], true)?;
        let difference = graph.sub(&value, &mean_over_pictures)?;
        let of_pictures = mean_square(graph, &difference)?;
        let of_all = mean_square(graph, &value)?;
        let above_zero = graph.offset(&of_all, 1e-30)?;
        let share = graph.div(&of_pictures, &above_zero)?;
        probes.push(Probe {
            name,
            largest: output(graph, &largest)?,
            picture_share: output(graph, &share)?,
        });
    }
    Ok(probes)
}

fn mean_square(graph: &mut Graph, value: &str) -> Result<String, GraphError> {
    let square = graph.mul(value, value)?;
    graph.reduce("ReduceMean", &square, &[], false)
}

/// Makes a value an output.
fn output(graph: &mut Graph, value: &str) -> Result<String, GraphError> {
    graph.outputs.push(value.to_owned());
    Ok(value.to_owned())
}

/// `stage1.0` of `stage1.0.weight`.
fn layer_of(weight: &str) -> String {
    let name = weight
        .strip_suffix(".bias")
        .or_else(|| weight.strip_suffix(".weight"));
    let name = name
        .or_else(|| weight.strip_suffix(".scale"))
        .unwrap_or(weight);
    name.strip_suffix(".bn").unwrap_or(name).to_owned()
}

/// Predictions against labels, over the rows that have labels.
fn predictions(values: &NamedValues, batch: &Batch) -> Option<PredictionEvidence> {
    let (shape, predicted) = values.get(LANDMARKS)?;
    let target = batch.tensors.get("landmarks_target")?;
    let weight = batch.tensors.get("landmarks_weight")?;
    let [_, width] = *shape.as_slice() else {
        return None;
    };
    if target.shape != *shape {
        return None;
    }
    let rows: Vec<(&[f32], &[f32])> = predicted
        .chunks_exact(width)
        .zip(target.values.chunks_exact(width))
        .zip(&weight.values)
        .filter(|(_, weight)| **weight > 0.0)
        .map(|(pair, _)| pair)
        .collect();
    let count = rows.len() as f64;
    if rows.len() < 4 {
        return None;
    }
    let mut spread = PredictionSpread::default();
    let mut means = vec![0.0; width];
    let mut squared = 0.0;
    for (predicted, label) in &rows {
        spread.push(predicted, label);
        for ((mean, &p), &l) in means.iter_mut().zip(*predicted).zip(*label) {
            *mean += f64::from(l) / count;
            squared += f64::from(p - l).powi(2);
        }
    }
    let mean_squared: f64 = rows
        .iter()
        .flat_map(|(_, label)| label.iter().zip(&means))
        .map(|(&label, mean)| (f64::from(label) - mean).powi(2))
        .sum();
    let values = count * width as f64;
    Some(PredictionEvidence {
        variance_ratio: spread.ratio()?,
        mse: squared / values,
        mean_shape_mse: mean_squared / values,
    })
}

/// Batches put together along the first axis.
pub(super) fn joined(batches: Vec<Batch>) -> Batch {
    let mut batches = batches.into_iter();
    let mut all = batches.next().unwrap_or_default();
    for batch in batches {
        for (name, tensor) in batch.tensors {
            if let Some(whole) = all.tensors.get_mut(&name) {
                whole.shape[0] += tensor.shape[0];
                whole.values.extend(tensor.values);
            }
        }
    }
    all
}
