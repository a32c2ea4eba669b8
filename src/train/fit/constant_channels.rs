//! Channels that fell silent while training: in training, batch normalisation gives such a channel its bias whatever
//! comes in; with running statistics it would divide by nearly nothing, so that one unusual picture that wakes the
//! channel throws the whole prediction off. They keep saying what they said in training.

use crate::train::graph::{Graph, TensorData};

/// Running variance below which a channel has been constant: one that varied has at least some 1e-5, and at the usual
/// momentum a hundred batches without any variation take it from there to here.
const CONSTANT_VARIANCE: f32 = 1e-10;

/// Sets the scale of each batch-normalised channel of `graph` to 0 whose running variance in `newest`, the same graph
/// with the newest statistics (the averaged ones lag behind), says that it is constant. Returns how many there are.
pub(super) fn silence(graph: &mut Graph, newest: &Graph) -> usize {
    let mut silenced = 0;
    for node in &newest.nodes {
        if node.op != "BatchNormalization" {
            continue;
        }
        let (Some(scale), Some(variance)) = (node.input(1), node.input(4)) else {
            continue;
        };
        let variance = newest.initializers.get(variance).map(|tensor| &tensor.data);
        let scale = graph
            .initializers
            .get_mut(scale)
            .map(|tensor| &mut tensor.data);
        if let (Some(TensorData::F32(variance)), Some(TensorData::F32(scale))) = (variance, scale) {
            for (scale, variance) in scale.iter_mut().zip(variance) {
                if *variance < CONSTANT_VARIANCE && *scale != 0.0 {
                    *scale = 0.0;
                    silenced += 1;
                }
            }
        }
    }
    silenced
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{graph::Tensor, nn::Architecture};

    #[test]
    fn only_a_channel_without_variance_is_silenced() {
        let architecture = Architecture::TinyLandmarks;
        let card = architecture.card("tiny", crate::scheme::Scheme::Ibug68, 1.3);
        let mut graph = architecture.build(&card, 1).expect("a graph");
        let mut newest = graph.clone();
        assert_eq!(silence(&mut graph, &newest), 0);

        let node = newest
            .nodes
            .iter()
            .find(|node| node.op == "BatchNormalization")
            .expect("one");
        let (scale, variance) = (node.inputs[1].clone(), node.inputs[4].clone());
        let channels = newest.initializers[&variance].shape[0];
        let mut values = vec![0.01; channels];
        values[2] = 1e-20;
        newest
            .initializers
            .insert(variance, Tensor::f32(&[channels], values));
        assert_eq!(silence(&mut graph, &newest), 1);
        let TensorData::F32(scales) = &graph.initializers[&scale].data else {
            panic!("floats");
        };
        let silent: Vec<usize> = (0..channels)
            .filter(|&channel| scales[channel] == 0.0)
            .collect();
        assert_eq!(silent, [2]);
    }
}
