//! Signal over rounding noise, layer by layer: what a quantised model computes against what the float model computes from
//! the same pictures.

use crate::{
    crop::Crop,
    model::ModelCard,
    train::{
        evaluate::EvaluateError,
        graph::{Graph, Node},
        quantize::emit::BYTES,
        session::{Device, ForwardSession},
    },
};
use serde::Serialize;

/// Crops a run.
const BATCH: usize = 8;

/// The noise of a layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerNoise {
    /// The value, by its name in the float model.
    pub value: String,
    /// The operator on bytes that makes it.
    pub operator: String,
    /// `10 log10(sum of squares of the float value / sum of squares of the difference)`; absent when there is none.
    pub signal_to_noise_db: Option<f64>,
}

/// A value to compare: its name in the float graph, in the other one, and who makes it there.
struct Probe {
    float: String,
    rounded: String,
    operator: String,
}

/// Compares each result of an integer operator of `quantized`, and its float outputs, with the value of the same name of
/// `float`, the prepared graph that it was made of, over `crops`. All noise that came in before is included.
///
/// # Errors
/// A graph does not run.
pub fn layer_noise(
    float: &Graph,
    quantized: &Graph,
    card: &ModelCard,
    crops: &[Crop],
    threads: usize,
) -> Result<Vec<LayerNoise>, EvaluateError> {
    let mut rounded = quantized.clone();
    let probes = add_probes(&mut rounded, float)?;
    let mut plain = float.clone();
    plain.outputs = probes.iter().map(|probe| probe.float.clone()).collect();
    rounded.outputs = probes.iter().map(|probe| probe.rounded.clone()).collect();
    let [(input, _)] = plain
        .inputs
        .clone()
        .try_into()
        .map_err(|_| EvaluateError::Inputs {
            model: card.name.clone(),
            found: float.inputs.len(),
        })?;
    let mut sessions = [
        ForwardSession::new(&plain.with_batch(BATCH)?, Device::Cpu, threads)?,
        ForwardSession::new(&rounded.with_batch(BATCH)?, Device::Cpu, threads)?,
    ];
    let shape = [
        BATCH,
        card.color.channels(),
        card.input_height,
        card.input_width,
    ];
    let values = shape[1] * shape[2] * shape[3];
    let mut images = vec![0.0; BATCH * values];
    let mut sums = vec![[0.0f64; 2]; probes.len()];
    for group in crops.chunks_exact(BATCH) {
        for (planes, crop) in images.chunks_exact_mut(values).zip(group) {
            card.normalization.write_planes(crop, planes);
        }
        let [exact, found] = sessions
            .each_mut()
            .map(|session| session.run(&[(&input, &shape, &images)]));
        let (exact, found) = (exact?, found?);
        for (probe, sums) in probes.iter().zip(&mut sums) {
            let (_, exact) = &exact[&probe.float];
            let (_, found) = &found[&probe.rounded];
            for (&exact, &found) in exact.iter().zip(found) {
                sums[0] += f64::from(exact).powi(2);
                sums[1] += (f64::from(found) - f64::from(exact)).powi(2);
            }
        }
    }
    Ok(probes
        .into_iter()
        .zip(sums)
        .map(|(probe, [signal, noise])| LayerNoise {
            value: probe.float,
            operator: probe.operator,
            signal_to_noise_db: (signal > 0.0 && noise > 0.0)
                .then(|| 10.0 * (signal / noise).log10()),
        })
        .collect())
}

/// Dequantises the results of integer operators.
fn add_probes(graph: &mut Graph, float: &Graph) -> Result<Vec<Probe>, EvaluateError> {
    let nodes: Vec<Node> = graph.nodes.clone();
    let mut probes = Vec::new();
    for node in &nodes {
        let output = &node.outputs[0];
        let grid = match node.op.as_str() {
            "QLinearConv" | "QLinearAdd" => Some((6, 7)),
            "QLinearGlobalAveragePool" => Some((3, 4)),
            "QGemm" => (node.inputs.len() > 8).then_some((7, 8)),
            _ => continue,
        };
        let (value, rounded) = match (grid, output.strip_suffix(BYTES)) {
            (Some((scale, zero_point)), Some(value)) => {
                let inputs = [
                    output.as_str(),
                    node.inputs[scale].as_str(),
                    node.inputs[zero_point].as_str(),
                ];
                let rounded = graph.apply("DequantizeLinear", &inputs, &[])?;
                (value, rounded)
            }
            _ => (output.as_str(), output.clone()),
        };
        if float.find_type(value).is_some() {
            probes.push(Probe {
                float: value.to_owned(),
                rounded,
                operator: node.op.clone(),
            });
        }
    }
    Ok(probes)
}
