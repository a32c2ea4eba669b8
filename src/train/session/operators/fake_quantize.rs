//! `facemark.FakeQuantize(x, range [2]) -> y, observed [2]`, `facemark.FakeQuantizeGrad(x, dy, range) -> dx` and
//! `facemark.FakeQuantizeWeight(w) -> y`: rounding as the int8 form does it, each in one pass. What they compute is said
//! where their type rules are.

use super::{fill_chunks, wrong};
use crate::train::quantize::grid::{Grid, SMALLEST_SCALE};
use ort::{
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::TensorElementType,
};
use std::sync::{Mutex, PoisonError};

/// Elements that one thread takes at a time.
const CHUNK: usize = 1 << 15;

/// Independent extremes, so that the compiler can keep them in vector registers.
const LANES: usize = 16;

/// Adding and taking away 1.5 * 2^23 rounds a float of at most 2^22 to the nearest whole number, ties to even, in two
/// vector instructions on every CPU.
const ROUNDER: f32 = 12_582_912.0;

/// The grid as the loops need it: whole steps below and above 0, and the step.
#[derive(Clone, Copy)]
struct Steps {
    scale: f32,
    lowest: f32,
    highest: f32,
}

impl Steps {
    /// Of a range; `None` when it has no width.
    fn of_range(range: &[f32]) -> Option<Self> {
        let &[low, high] = range else { return None };
        let width = high.max(0.0) - low.min(0.0);
        if width.is_nan() || width / 255.0 < SMALLEST_SCALE {
            return None;
        }
        let Grid { scale, zero_point } = Grid::of_range(low, high);
        Some(Self {
            scale,
            lowest: -f32::from(zero_point),
            highest: 255.0 - f32::from(zero_point),
        })
    }

    fn round(self, x: f32) -> f32 {
        let steps = (x / self.scale).clamp(self.lowest, self.highest);
        ((steps + ROUNDER) - ROUNDER) * self.scale
    }
}

/// The operator.
pub(super) struct FakeQuantize;

/// Its kernel.
pub(super) struct FakeQuantizeKernel {
    rectify: bool,
}

fn reads_rectify(context: &KernelContext<'_>) -> bool {
    context.get::<i64>("rectify").unwrap_or(0) != 0
}

impl Operator for FakeQuantize {
    type Kernel<'a> = FakeQuantizeKernel;

    fn name(&self) -> &str {
        "FakeQuantize"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [TensorElementType::Float32; 2].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [TensorElementType::Float32; 2].map(OperatorOutput::required)
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> ort::Result<FakeQuantizeKernel> {
        Ok(FakeQuantizeKernel {
            rectify: reads_rectify(context),
        })
    }
}

impl Kernel for FakeQuantizeKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let missing = || wrong("FakeQuantize", "an input or an output is missing");
        let x_value = context.input(0)?.ok_or_else(missing)?;
        let range_value = context.input(1)?.ok_or_else(missing)?;
        let (shape, x) = x_value.try_extract_tensor::<f32>()?;
        let (_, range) = range_value.try_extract_tensor::<f32>()?;
        let steps = Steps::of_range(range);
        let bottom = if self.rectify { 0.0 } else { f32::NEG_INFINITY };
        let extremes = Mutex::new([f32::INFINITY, f32::NEG_INFINITY]);
        let mut output = context.output(0, shape.to_vec())?.ok_or_else(missing)?;
        let (_, y) = output.try_extract_tensor_mut::<f32>()?;
        fill_chunks(context, y, CHUNK, |index, y| {
            let x = &x[index * CHUNK..][..y.len()];
            let [low, high] = least_and_greatest(x);
            match steps {
                Some(steps) => {
                    // A grid that begins at 0 clips what a ReLU would; others need the ReLU first.
                    if self.rectify && steps.lowest < 0.0 {
                        for (y, &x) in y.iter_mut().zip(x) {
                            *y = steps.round(x.max(0.0));
                        }
                    } else {
                        for (y, &x) in y.iter_mut().zip(x) {
                            *y = steps.round(x);
                        }
                    }
                }
                None => {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = if x < bottom { bottom } else { x };
                    }
                }
            }
            let mut all = extremes.lock().unwrap_or_else(PoisonError::into_inner);
            *all = [all[0].min(low), all[1].max(high)];
        })?;
        let [low, high] = extremes
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let mut output = context.output(1, vec![2usize])?.ok_or_else(missing)?;
        let (_, observed) = output.try_extract_tensor_mut::<f32>()?;
        observed.copy_from_slice(&[low.max(bottom), high.max(bottom)]);
        Ok(())
    }
}

fn least_and_greatest(x: &[f32]) -> [f32; 2] {
    let (lanes, rest) = x.as_chunks::<LANES>();
    let mut least = [f32::INFINITY; LANES];
    let mut greatest = [f32::NEG_INFINITY; LANES];
    for x in lanes {
        for lane in 0..LANES {
            least[lane] = if x[lane] < least[lane] {
                x[lane]
            } else {
                least[lane]
            };
            greatest[lane] = if x[lane] > greatest[lane] {
                x[lane]
            } else {
                greatest[lane]
            };
        }
    }
    let low = least
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::INFINITY, f32::min);
    let high = greatest.iter().chain(rest).copied();
    [low, high.fold(f32::NEG_INFINITY, f32::max)]
}

/// The gradient's operator.
pub(super) struct FakeQuantizeGrad;

/// Its kernel.
pub(super) struct FakeQuantizeGradKernel {
    rectify: bool,
}

impl Operator for FakeQuantizeGrad {
    type Kernel<'a> = FakeQuantizeGradKernel;

    fn name(&self) -> &str {
        "FakeQuantizeGrad"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [TensorElementType::Float32; 3].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(
        &self,
        context: &KernelContext<'a>,
    ) -> ort::Result<FakeQuantizeGradKernel> {
        Ok(FakeQuantizeGradKernel {
            rectify: reads_rectify(context),
        })
    }
}

impl Kernel for FakeQuantizeGradKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let missing = || wrong("FakeQuantizeGrad", "an input or the output is missing");
        let x_value = context.input(0)?.ok_or_else(missing)?;
        let dy_value = context.input(1)?.ok_or_else(missing)?;
        let range_value = context.input(2)?.ok_or_else(missing)?;
        let (shape, x) = x_value.try_extract_tensor::<f32>()?;
        let (_, dy) = dy_value.try_extract_tensor::<f32>()?;
        let (_, range) = range_value.try_extract_tensor::<f32>()?;
        if x.len() != dy.len() {
            return Err(wrong(
                "FakeQuantizeGrad",
                "x and dy are of different shapes",
            ));
        }
        let (mut lower, upper) = match Steps::of_range(range) {
            Some(steps) => (
                (steps.lowest - 0.5) * steps.scale,
                (steps.highest + 0.5) * steps.scale,
            ),
            None => (f32::NEG_INFINITY, f32::INFINITY),
        };
        if self.rectify {
            lower = 0.0;
        }
        let mut output = context.output(0, shape.to_vec())?.ok_or_else(missing)?;
        let (_, dx) = output.try_extract_tensor_mut::<f32>()?;
        fill_chunks(context, dx, CHUNK, |index, dx| {
            let from = index * CHUNK;
            let (x, dy) = (&x[from..][..dx.len()], &dy[from..][..dx.len()]);
            for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                *dx = if (x > lower) & (x < upper) { dy } else { 0.0 };
            }
        })
    }
}

/// The weights' operator.
pub(super) struct FakeQuantizeWeight;

/// Its kernel.
pub(super) struct FakeQuantizeWeightKernel {
    axis: usize,
    largest: f32,
}

impl Operator for FakeQuantizeWeight {
    type Kernel<'a> = FakeQuantizeWeightKernel;

    fn name(&self) -> &str {
        "FakeQuantizeWeight"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(TensorElementType::Float32)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(
        &self,
        context: &KernelContext<'a>,
    ) -> ort::Result<FakeQuantizeWeightKernel> {
        Ok(FakeQuantizeWeightKernel {
            axis: context.get::<i64>("axis").unwrap_or(0).max(0) as usize,
            largest: context.get::<i64>("largest").unwrap_or(127) as f32,
        })
    }
}

impl Kernel for FakeQuantizeWeightKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let missing = || wrong("FakeQuantizeWeight", "the input or the output is missing");
        let w_value = context.input(0)?.ok_or_else(missing)?;
        let (shape, w) = w_value.try_extract_tensor::<f32>()?;
        let sizes: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
        let Some(&channels) = sizes.get(self.axis) else {
            return Err(wrong("FakeQuantizeWeight", "the axis is out of range"));
        };
        let inner: usize = sizes[self.axis + 1..].iter().product();
        let mut output = context.output(0, shape.to_vec())?.ok_or_else(missing)?;
        let (_, y) = output.try_extract_tensor_mut::<f32>()?;
        round_weights(w, channels, inner, self.largest, y);
        Ok(())
    }
}

/// Rounds each channel to its own symmetric grid; the channel changes every `inner` weights.
fn round_weights(w: &[f32], channels: usize, inner: usize, largest: f32, y: &mut [f32]) {
    if w.is_empty() {
        return;
    }
    let mut sizes = vec![0.0f32; channels];
    for (index, row) in w.chunks_exact(inner).enumerate() {
        let size = &mut sizes[index % channels];
        *size = row.iter().fold(*size, |size, w| size.max(w.abs()));
    }
    let rows = w.chunks_exact(inner).zip(y.chunks_exact_mut(inner));
    for (index, (w, y)) in rows.enumerate() {
        let mut scale = sizes[index % channels] / largest;
        if scale < SMALLEST_SCALE {
            scale = 1.0;
        }
        for (y, &w) in y.iter_mut().zip(w) {
            *y = (((w / scale).clamp(-largest, largest) + ROUNDER) - ROUNDER) * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::quantize::grid::{WeightBits, quantize_weight, weight_scale};
    use rand::{RngExt, SeedableRng};

    #[test]
    fn the_loops_round_as_the_grid_does() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        for _ in 0..200 {
            let range = [rng.random_range(-3.0..0.5), rng.random_range(0.6..40.0f32)];
            let grid = Grid::of_range(range[0], range[1]);
            let steps = Steps::of_range(&range).expect("it has a width");
            for _ in 0..200 {
                let x = rng.random_range(-60.0..60.0f32);
                assert_eq!(
                    steps.round(x),
                    grid.dequantize(grid.quantize(x)),
                    "{x} in {range:?}"
                );
            }
        }
        assert!(Steps::of_range(&[0.0, 0.0]).is_none());
        assert!(Steps::of_range(&[f32::NAN, f32::NAN]).is_none());
    }

    #[test]
    fn weights_round_as_the_file_holds_them_on_either_axis() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(6);
        let w: Vec<f32> = (0..60).map(|_| rng.random_range(-2.0..2.0)).collect();
        for (channels, inner, bits) in [
            (5, 12, WeightBits::Eight),
            (12, 5, WeightBits::Seven),
            (4, 3, WeightBits::Eight),
        ] {
            let mut y = vec![f32::NAN; w.len()];
            round_weights(&w, channels, inner, f32::from(bits.largest()), &mut y);
            for channel in 0..channels {
                let own = || (0..w.len()).filter(|index| index / inner % channels == channel);
                let largest = own().fold(0.0f32, |size, index| size.max(w[index].abs()));
                let scale = weight_scale(largest, bits);
                for index in own() {
                    let expected = f32::from(quantize_weight(w[index], scale, bits)) * scale;
                    assert_eq!(y[index], expected, "weight {index} of channel {channel}");
                }
            }
        }
    }

    #[test]
    fn extremes_are_found_in_the_tail_too() {
        for place in [0, 15, 16, 33, 36] {
            let mut x = vec![0.5; 37];
            x[place] = -7.0;
            assert_eq!(least_and_greatest(&x), [-7.0, 0.5]);
            x[place] = 9.0;
            assert_eq!(least_and_greatest(&x), [0.5, 9.0]);
        }
    }
}
