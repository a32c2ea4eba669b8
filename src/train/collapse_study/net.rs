//! The network of the study: the course's five convolutions, each with ReLU and max pooling, and two fully connected
//! layers, on small grey crops; with what is wrong about it.

use crate::{
    crop::{Color, CropRule, Normalization},
    model::{ModelCard, Task},
    scheme::Scheme,
    train::{
        augment::generator,
        graph::{Attribute, Graph, GraphError, Tensor, TensorData},
        nn::{Kernel, Layers},
    },
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Edge of the crop.
const SIZE: usize = 64;
/// What the crop shows.
pub(super) const RULE: CropRule = CropRule::AroundFace { margin: 1.3 };
/// Channels of the convolutions.
const CHANNELS: [usize; 5] = [8, 16, 32, 64, 128];
/// Units of the hidden fully connected layer.
const HIDDEN: usize = 128;
/// The last layer.
const OUTPUT: &str = "fc2";
/// A bias that no input outweighs.
const DEAD_BIAS: f32 = -100.0;

/// How weights are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Initial {
    /// Variance 2 / inputs, biases 0 (He et al. 2015): a ReLU keeps the size of the signal.
    He,
    /// Uniform within 1 / sqrt(inputs), biases too, as PyTorch does by default: a sixth of that variance a layer.
    SmallUniform,
}

/// What is particular about the network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct NetPlan {
    pub(super) normalized: bool,
    pub(super) initial: Initial,
    pub(super) input: Normalization,
    /// Part of each convolution's channels that are dead; one stays alive.
    pub(super) dead_relus: f32,
}

impl NetPlan {
    fn card(&self, name: &str) -> ModelCard {
        ModelCard {
            name: name.to_owned(),
            task: Task::Landmarks {
                scheme: Scheme::Ibug68,
                crop: RULE,
            },
            input_width: SIZE,
            input_height: SIZE,
            color: Color::Gray,
            normalization: self.input,
            training_data: String::new(),
        }
    }

    /// The forward graph with weights drawn from `seed`.
    pub(super) fn build(&self, name: &str, seed: u64) -> Result<Graph, GraphError> {
        const WEIGHTS: u64 = 40;
        let mut net = Layers::new(&self.card(name), seed)?;
        let mut random = generator(seed, 0, 0, WEIGHTS);
        let mut x = "image".to_owned();
        for (index, channels) in CHANNELS.into_iter().enumerate() {
            let layer = format!("conv{}", index + 1);
            let bias = if self.normalized {
                x = net.conv_bn_relu(&layer, &x, channels, Kernel::new(3, 1))?;
                format!("{layer}.bn.bias")
            } else {
                let inputs = net.graph.shape(&x)[1];
                let shape = [channels, inputs, 3, 3];
                let [weight, bias] = self.weights(&mut net.graph, &layer, &shape, &mut random)?;
                let attributes = [
                    ("kernel_shape", Attribute::Ints(vec![3; 2])),
                    ("pads", Attribute::Ints(vec![1; 4])),
                ];
                x = net
                    .graph
                    .apply("Conv", &[&x, &weight, &bias], &attributes)?;
                x = net.graph.unary("Relu", &x)?;
                bias
            };
            self.kill(&mut net.graph, &bias);
            let pool = [
                ("kernel_shape", Attribute::Ints(vec![2; 2])),
                ("strides", Attribute::Ints(vec![2; 2])),
            ];
            x = net.graph.apply("MaxPool", &[&x], &pool)?;
        }
        x = net
            .graph
            .apply("Flatten", &[&x], &[("axis", Attribute::Int(1))])?;
        let hidden = self.fully_connected(&mut net.graph, "fc1", &x, HIDDEN, &mut random)?;
        let hidden = net.graph.unary("Relu", &hidden)?;
        let points = 2 * Scheme::Ibug68.landmark_count();
        let landmarks =
            self.fully_connected(&mut net.graph, OUTPUT, &hidden, points, &mut random)?;
        net.output(&landmarks, "landmarks")?;
        Ok(net.graph)
    }

    fn fully_connected(
        &self,
        graph: &mut Graph,
        layer: &str,
        x: &str,
        width: usize,
        random: &mut ChaCha8Rng,
    ) -> Result<String, GraphError> {
        let shape = [width, graph.shape(x)[1]];
        let [weight, bias] = self.weights(graph, layer, &shape, random)?;
        graph.apply(
            "Gemm",
            &[x, &weight, &bias],
            &[("transB", Attribute::Int(1))],
        )
    }

    /// Weight and bias of a layer.
    fn weights(
        &self,
        graph: &mut Graph,
        layer: &str,
        shape: &[usize],
        random: &mut ChaCha8Rng,
    ) -> Result<[String; 2], GraphError> {
        let inputs: usize = shape[1..].iter().product();
        let small = (1.0 / inputs as f32).sqrt();
        // A uniform draw of He's variance 2 / inputs reaches sqrt(6 / inputs). The output begins near 0: else the first
        // steps, which all push it the same way, kill hidden units.
        let (weight, bias) = match self.initial {
            Initial::He if layer == OUTPUT => (0.1 * small, 0.0),
            Initial::He => (6f32.sqrt() * small, 0.0),
            Initial::SmallUniform => (small, small),
        };
        let mut draw = |count: usize, limit: f32| -> Vec<f32> {
            (0..count)
                .map(|_| limit * (2.0 * random.random::<f32>() - 1.0))
                .collect()
        };
        let values = draw(shape.iter().product(), weight);
        let weight = graph.parameter(&format!("{layer}.weight"), Tensor::f32(shape, values))?;
        let values = draw(shape[0], bias);
        let bias = graph.parameter(&format!("{layer}.bias"), Tensor::f32(&shape[..1], values))?;
        Ok([weight, bias])
    }

    /// Gives most channels a bias from which they never recover.
    fn kill(&self, graph: &mut Graph, bias: &str) {
        if let Some(TensorData::F32(values)) = graph
            .initializers
            .get_mut(bias)
            .map(|tensor| &mut tensor.data)
        {
            let dead = (self.dead_relus * values.len() as f32).round() as usize;
            let dead = dead.min(values.len() - 1);
            values[..dead].fill(DEAD_BIAS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_the_course_s_and_says_68_points() {
        for normalized in [false, true] {
            let plan = NetPlan {
                normalized,
                initial: Initial::He,
                input: Normalization::SYMMETRIC,
                dead_relus: 0.5,
            };
            let graph = plan.build("test", 1).unwrap();
            let count = |op: &str| graph.nodes.iter().filter(|node| node.op == op).count();
            assert_eq!(
                (
                    count("Conv"),
                    count("MaxPool"),
                    count("Gemm"),
                    count("Relu")
                ),
                (5, 5, 2, 6)
            );
            assert_eq!(count("BatchNormalization"), if normalized { 5 } else { 0 });
            assert_eq!(graph.shape("landmarks"), [1, 136]);
            let bias = if normalized {
                "conv2.bn.bias"
            } else {
                "conv2.bias"
            };
            let dead = graph.initializers[bias]
                .as_f32()
                .unwrap()
                .iter()
                .filter(|&&b| b == DEAD_BIAS)
                .count();
            assert_eq!(dead, 8);
        }
    }
}
