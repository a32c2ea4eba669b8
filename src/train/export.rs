//! From a trained graph to the file that ships: batch normalisation folded into the layers before it.

use crate::train::graph::{Graph, GraphError, Node, Tensor};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// ONNX's default epsilon of BatchNormalization.
const DEFAULT_EPSILON: f32 = 1e-5;

/// Folds each inference-form BatchNormalization that alone follows a Conv, or a Gemm with a transposed weight, into the
/// weight and bias of that layer:
/// `w' = w * scale / sqrt(variance + epsilon)`, `b' = (b - mean) * scale / sqrt(variance + epsilon) + bias`, per output
/// channel, computed in f64. Constants that nothing reads any more are dropped. A normalisation after anything else
/// stays as it is.
///
/// # Errors
/// The graph does not type-check, which a graph that was built or read by this crate does.
pub fn fold_batch_norm(graph: &Graph) -> Result<Graph, GraphError> {
    let folds = find_folds(graph);
    let mut folded = Graph::new(&graph.name);
    folded.metadata = graph.metadata.clone();
    for (name, of) in &graph.inputs {
        folded.input(name, of.clone())?;
    }
    let mut nodes = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if folds.removed.contains(&index) {
            continue;
        }
        let mut node = node.clone();
        if let Some(fold) = folds.by_layer.get(&index) {
            folded.parameter(&node.inputs[1], fold.weight.clone())?;
            folded.parameter(&fold.bias_name, fold.bias.clone())?;
            node.inputs.truncate(2);
            node.inputs.push(fold.bias_name.clone());
            node.outputs.clone_from(&fold.outputs);
        }
        nodes.push(node);
    }
    let read: BTreeSet<&String> = nodes
        .iter()
        .flat_map(|node| &node.inputs)
        .chain(&graph.outputs)
        .collect();
    for (name, tensor) in &graph.initializers {
        if read.contains(name) && folded.find_type(name).is_none() {
            folded.parameter(name, tensor.clone())?;
        }
    }
    for node in nodes {
        folded.push(node)?;
    }
    folded.outputs.clone_from(&graph.outputs);
    Ok(folded)
}

/// A layer that takes up the normalisation after it.
struct Fold {
    weight: Tensor,
    bias: Tensor,
    bias_name: String,
    outputs: Vec<String>,
}

struct Folds {
    by_layer: BTreeMap<usize, Fold>,
    removed: BTreeSet<usize>,
}

fn find_folds(graph: &Graph) -> Folds {
    let mut readers: HashMap<&str, usize> = HashMap::new();
    for name in graph
        .nodes
        .iter()
        .flat_map(|node| &node.inputs)
        .chain(&graph.outputs)
    {
        *readers.entry(name).or_default() += 1;
    }
    let producers: HashMap<&str, usize> = graph
        .nodes
        .iter()
        .enumerate()
        .flat_map(|(index, node)| {
            node.outputs
                .iter()
                .map(move |output| (output.as_str(), index))
        })
        .collect();
    let mut folds = Folds {
        by_layer: BTreeMap::new(),
        removed: BTreeSet::new(),
    };
    for (index, norm) in graph
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| node.op == "BatchNormalization")
    {
        let Some(&layer_index) = norm.input(0).and_then(|input| producers.get(input)) else {
            continue;
        };
        let layer = &graph.nodes[layer_index];
        if !is_foldable(layer)
            || readers[layer.outputs[0].as_str()] != 1
            || readers[layer.inputs[1].as_str()] != 1
        {
            continue;
        }
        let Some((weight, bias)) = folded_weights(graph, layer, norm) else {
            continue;
        };
        let bias_name = match layer.input(2) {
            Some(name) => name.to_owned(),
            None => format!(
                "{}.bias",
                layer.inputs[1]
                    .strip_suffix(".weight")
                    .unwrap_or(&layer.inputs[1])
            ),
        };
        folds.by_layer.insert(
            layer_index,
            Fold {
                weight,
                bias,
                bias_name,
                outputs: norm.outputs[..1].to_vec(),
            },
        );
        folds.removed.insert(index);
    }
    folds
}

/// Whether each output channel of a layer has the weights of one index of the first axis, and no other factor.
fn is_foldable(layer: &Node) -> bool {
    match layer.op.as_str() {
        "Conv" => true,
        "Gemm" => {
            layer.int("transB") == Some(1)
                && layer.int("transA").unwrap_or(0) == 0
                && [layer.float("alpha"), layer.float("beta")]
                    .iter()
                    .all(|factor| factor.is_none_or(|factor| factor == 1.0))
        }
        _ => false,
    }
}

/// The layer's weight and bias with the normalisation in them; `None` when a tensor is not a float constant.
fn folded_weights(graph: &Graph, layer: &Node, norm: &Node) -> Option<(Tensor, Tensor)> {
    let floats = |name: &str| graph.initializers.get(name).and_then(Tensor::as_f32);
    let shape = &graph.initializers.get(&layer.inputs[1])?.shape;
    let taps = floats(&layer.inputs[1])?;
    let channels = shape[0];
    let old_bias = match layer.input(2) {
        Some(name) => floats(name)?.to_vec(),
        None => vec![0.0; channels],
    };
    if old_bias.len() != channels {
        return None;
    }
    let (scale, shift) = (floats(&norm.inputs[1])?, floats(&norm.inputs[2])?);
    let (mean, variance) = (floats(&norm.inputs[3])?, floats(&norm.inputs[4])?);
    let epsilon = f64::from(norm.float("epsilon").unwrap_or(DEFAULT_EPSILON));
    let mut new_taps = Vec::with_capacity(taps.len());
    let mut bias = Vec::with_capacity(channels);
    for (channel, channel_taps) in taps.chunks_exact(taps.len() / channels).enumerate() {
        let factor = f64::from(scale[channel]) / (f64::from(variance[channel]) + epsilon).sqrt();
        new_taps.extend(
            channel_taps
                .iter()
                .map(|&tap| (f64::from(tap) * factor) as f32),
        );
        let centered = f64::from(old_bias[channel]) - f64::from(mean[channel]);
        bias.push((centered * factor + f64::from(shift[channel])) as f32);
    }
    Some((Tensor::f32(shape, new_taps), Tensor::f32(&[channels], bias)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::graph::{Attribute, TensorType};

    fn graph(extra_reader: bool) -> Graph {
        let mut graph = Graph::new("fold");
        graph
            .input("image", TensorType::f32(&[1, 1, 2, 2]))
            .unwrap();
        for (name, shape, values) in [
            ("conv.weight", vec![2, 1, 1, 1], vec![2.0, -3.0]),
            ("scale", vec![2], vec![0.5, 4.0]),
            ("shift", vec![2], vec![1.0, -1.0]),
            ("mean", vec![2], vec![3.0, 0.0]),
            ("variance", vec![2], vec![3.0, 15.0]),
        ] {
            graph.parameter(name, Tensor::f32(&shape, values)).unwrap();
        }
        let conv = graph.apply("Conv", &["image", "conv.weight"], &[]).unwrap();
        let epsilon = [("epsilon", Attribute::Float(1.0))];
        let norm = graph
            .apply(
                "BatchNormalization",
                &[&conv, "scale", "shift", "mean", "variance"],
                &epsilon,
            )
            .unwrap();
        graph.outputs.push(norm);
        if extra_reader {
            graph.outputs.push(conv);
        }
        graph
    }

    #[test]
    fn normalisation_moves_into_weight_and_bias() {
        let folded = fold_batch_norm(&graph(false)).unwrap();
        assert_eq!(folded.nodes.len(), 1);
        // w' = w * scale / sqrt(variance + 1); b' = -mean * scale / sqrt(variance + 1) + shift
        assert_eq!(
            folded.initializers["conv.weight"].as_f32(),
            Some(&[0.5, -3.0][..])
        );
        assert_eq!(
            folded.initializers["conv.bias"].as_f32(),
            Some(&[0.25, -1.0][..])
        );
        assert_eq!(
            folded.initializers.len(),
            2,
            "{:?}",
            folded.initializers.keys()
        );
    }

    #[test]
    fn normalisation_moves_into_a_fully_connected_layer() {
        let mut graph = Graph::new("fold");
        graph.input("x", TensorType::f32(&[1, 2])).unwrap();
        for (name, shape, values) in [
            ("weight", vec![2, 2], vec![2.0, 4.0, -3.0, 1.0]),
            ("bias", vec![2], vec![5.0, 1.0]),
            ("scale", vec![2], vec![0.5, 4.0]),
            ("shift", vec![2], vec![1.0, -1.0]),
            ("mean", vec![2], vec![3.0, 0.0]),
            ("variance", vec![2], vec![3.0, 15.0]),
        ] {
            graph.parameter(name, Tensor::f32(&shape, values)).unwrap();
        }
        let transposed = [("transB", Attribute::Int(1))];
        let product = graph
            .apply("Gemm", &["x", "weight", "bias"], &transposed)
            .unwrap();
        let inputs = [&product, "scale", "shift", "mean", "variance"];
        let epsilon = [("epsilon", Attribute::Float(1.0))];
        let norm = graph
            .apply("BatchNormalization", &inputs, &epsilon)
            .unwrap();
        graph.outputs.push(norm);
        let folded = fold_batch_norm(&graph).unwrap();
        assert_eq!(folded.nodes.len(), 1);
        // Rows of the weight are output channels: times 0.5 / 2 and 4 / 4.
        let floats = |name: &str| folded.initializers[name].as_f32().unwrap().to_vec();
        assert_eq!(floats("weight"), [0.5, 1.0, -3.0, 1.0]);
        assert_eq!(floats("bias"), [1.5, 0.0]);
    }

    #[test]
    fn a_convolution_that_others_read_is_left_alone() {
        let graph = graph(true);
        assert_eq!(fold_batch_norm(&graph).unwrap().nodes, graph.nodes);
    }
}
