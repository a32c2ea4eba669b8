//! Weights and biases as integers.

use super::{
    QuantizeError,
    grid::{SMALLEST_SCALE, WeightBits, quantize_weight, weight_scale},
};
use crate::train::graph::{Graph, Node, Tensor, TensorData};

/// The weight and bias of a Conv or Gemm as integers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct IntegerWeights {
    /// Shape of the weight, output channels first; a Gemm's is `[outputs, inputs]`.
    pub(super) shape: Vec<usize>,
    /// The weight in steps of its channel's scale.
    pub(super) values: Vec<i8>,
    /// One an output channel.
    pub(super) scales: Vec<f32>,
    /// One an output channel, in steps of the input's scale times the channel's.
    pub(super) bias: Vec<i32>,
}

/// The weight and bias of a Conv or Gemm as floats, output channels first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FloatWeights {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// The largest bias in steps: sums of products must still fit beside it in 32 bits.
const LARGEST_BIAS: f64 = (1u32 << 30) as f64;
/// Steps of the bias of a channel whose weights are all 0, where only the bias asks for a scale.
const LONE_BIAS_STEPS: f64 = (1u32 << 20) as f64;

impl FloatWeights {
    /// Those of a node; `None` when they are no 32-bit float constants or the bias is not one number an output channel.
    pub(super) fn of(graph: &Graph, node: &Node) -> Option<Self> {
        let weight = graph.initializers.get(node.input(1)?)?;
        let values = weight.as_f32()?;
        let (shape, values) = match node.op.as_str() {
            "Conv" => (weight.shape.clone(), values.to_vec()),
            "Gemm" if node.int("transB").unwrap_or(0) != 0 => {
                (weight.shape.clone(), values.to_vec())
            }
            "Gemm" => {
                let (depth, columns) = (weight.shape[0], weight.shape[1]);
                let transposed = (0..columns)
                    .flat_map(|column| (0..depth).map(move |row| values[row * columns + column]))
                    .collect();
                (vec![columns, depth], transposed)
            }
            _ => return None,
        };
        let channels = shape[0];
        let bias = match node.input(2) {
            None => vec![0.0; channels],
            Some(name) => match graph.initializers.get(name)?.as_f32()? {
                [single] => vec![*single; channels],
                bias if bias.len() == channels => bias.to_vec(),
                _ => return None,
            },
        };
        Some(Self {
            shape,
            values,
            bias,
        })
    }

    /// The weights of each output channel.
    pub(super) fn channels(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values
            .chunks_exact((self.values.len() / self.shape[0].max(1)).max(1))
    }

    /// As integers, for an input with the scale `input_scale`; `name` is for errors.
    pub(super) fn quantize(
        &self,
        input_scale: f32,
        bits: WeightBits,
        name: &str,
    ) -> Result<IntegerWeights, QuantizeError> {
        if let Some(&value) = self
            .values
            .iter()
            .chain(&self.bias)
            .find(|value| !value.is_finite())
        {
            return Err(QuantizeError::BadWeight {
                name: name.to_owned(),
                value,
            });
        }
        let mut integers = IntegerWeights {
            shape: self.shape.clone(),
            values: Vec::with_capacity(self.values.len()),
            scales: Vec::with_capacity(self.shape[0]),
            bias: Vec::with_capacity(self.shape[0]),
        };
        for (weights, &bias) in self.channels().zip(&self.bias) {
            let scale = channel_scale(weights, bias, input_scale, bits);
            integers.scales.push(scale);
            integers.values.extend(
                weights
                    .iter()
                    .map(|&weight| quantize_weight(weight, scale, bits)),
            );
            let step = f64::from(input_scale) * f64::from(scale);
            integers
                .bias
                .push((f64::from(bias) / step).round_ties_even() as i32);
        }
        Ok(integers)
    }
}

/// The step of a channel's weights: the largest weight is the last level, unless the bias would need more than 30 bits.
fn channel_scale(weights: &[f32], bias: f32, input_scale: f32, bits: WeightBits) -> f32 {
    let largest = weights
        .iter()
        .fold(0.0f32, |most, weight| most.max(weight.abs()));
    let for_bias = |steps: f64| (f64::from(bias.abs()) / (f64::from(input_scale) * steps)) as f32;
    if largest / f32::from(bits.largest()) < SMALLEST_SCALE {
        return match for_bias(LONE_BIAS_STEPS) {
            scale if scale >= f32::MIN_POSITIVE => scale,
            _ => 1.0,
        };
    }
    weight_scale(largest, bits).max(for_bias(LARGEST_BIAS))
}

impl IntegerWeights {
    /// The weight as a tensor.
    pub(super) fn tensor(&self) -> Tensor {
        Tensor::new(&self.shape, TensorData::I8(self.values.clone()))
    }

    /// What the integers stand for, with the bias at the resolution that it has beside an input of `input_scale`.
    pub(super) fn dequantize(&self, input_scale: f32) -> FloatWeights {
        let taps = (self.values.len() / self.shape[0].max(1)).max(1);
        FloatWeights {
            shape: self.shape.clone(),
            values: self
                .values
                .chunks_exact(taps)
                .zip(&self.scales)
                .flat_map(|(values, &scale)| values.iter().map(move |&q| f32::from(q) * scale))
                .collect(),
            bias: self
                .bias
                .iter()
                .zip(&self.scales)
                .map(|(&q, &scale)| {
                    (f64::from(q) * f64::from(input_scale) * f64::from(scale)) as f32
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(values: Vec<f32>, bias: Vec<f32>) -> FloatWeights {
        FloatWeights {
            shape: vec![bias.len(), values.len() / bias.len()],
            values,
            bias,
        }
    }

    #[test]
    fn weights_and_biases_are_off_by_half_a_step_at_most() {
        let mut bits = 1u32;
        let mut random = || {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (bits >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let channels = 40;
        let values: Vec<f32> = (0..channels * 9)
            .map(|index| random() * 10f32.powi(index / 9 % 8 - 6))
            .collect();
        let float = weights(values, (0..channels).map(|_| random() * 3.0).collect());
        let input_scale = 0.013;
        for wide in [WeightBits::Seven, WeightBits::Eight] {
            let integers = float.quantize(input_scale, wide, "w").unwrap();
            assert!(
                integers
                    .values
                    .iter()
                    .all(|q| q.unsigned_abs() <= wide.largest() as u8)
            );
            let back = integers.dequantize(input_scale);
            for (index, scale) in integers.scales.iter().enumerate() {
                let span = index * 9..index * 9 + 9;
                for (a, b) in back.values[span.clone()].iter().zip(&float.values[span]) {
                    assert!((a - b).abs() <= 0.5001 * scale, "{index}: {a} {b} {scale}");
                }
                let error = (back.bias[index] - float.bias[index]).abs();
                let rounding = float.bias[index].abs() * f32::EPSILON;
                assert!(
                    error <= 0.5001 * scale * input_scale + rounding,
                    "{index}: {error}"
                );
            }
        }
    }

    #[test]
    fn dead_and_tiny_channels_keep_their_bias() {
        let float = weights(
            vec![0.0, 0.0, 1e-30, -1e-30, 0.0, 0.0, 1e-42, 0.0],
            vec![0.7, -1.5, 0.0, 2.0],
        );
        for input_scale in [1e-6, 0.01, 300.0] {
            let integers = float.quantize(input_scale, WeightBits::Eight, "w").unwrap();
            assert!(
                integers
                    .scales
                    .iter()
                    .all(|&scale| scale >= f32::MIN_POSITIVE)
            );
            // The scale's last bit moves a bias of 30 bits by up to 64.
            let largest = integers.bias.iter().map(|bias| bias.unsigned_abs()).max();
            assert!(largest <= Some((1 << 30) + 64), "{largest:?}");
            let back = integers.dequantize(input_scale);
            for (a, b) in back.bias.iter().zip(&float.bias) {
                assert!((a - b).abs() <= 1e-5 * b.abs(), "{input_scale}: {a} {b}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_named() {
        let float = weights(vec![1.0, f32::NAN], vec![0.0]);
        let error = float
            .quantize(0.1, WeightBits::Eight, "stem.weight")
            .unwrap_err();
        assert!(error.to_string().contains("stem.weight"), "{error}");
    }
}
