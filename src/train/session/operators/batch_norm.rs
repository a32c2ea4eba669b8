//! `facemark.BatchNormalizationGrad(x, dy, scale, mean, variance) -> dx, dscale, dbias`: the gradients of a batch
//! normalisation by the statistics of its batch, with the attribute `epsilon`.
//!
//! With r = 1 / sqrt(variance + epsilon) and m elements a channel: dbias = sum(dy), dscale = sum(dy (x - mean)) r and
//! dx = scale r (dy - dbias / m - (x - mean) r dscale / m) (Ioffe and Szegedy 2015, section 3).

use super::{fill_chunks, wrong};
use ort::{
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::TensorElementType,
};

const NAME: &str = "BatchNormalizationGrad";

/// Independent sums, so that the compiler can keep them in vector registers.
const LANES: usize = 16;

/// The operator.
pub(super) struct BatchNormalizationGrad;

/// Its kernel.
pub(super) struct BatchNormalizationGradKernel {
    epsilon: f32,
}

impl Operator for BatchNormalizationGrad {
    type Kernel<'a> = BatchNormalizationGradKernel;

    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [TensorElementType::Float32; 5].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [TensorElementType::Float32; 3].map(OperatorOutput::required)
    }

    fn create_kernel<'a>(
        &self,
        context: &KernelContext<'a>,
    ) -> ort::Result<BatchNormalizationGradKernel> {
        Ok(BatchNormalizationGradKernel {
            epsilon: context.get("epsilon").unwrap_or(1e-5),
        })
    }
}

impl Kernel for BatchNormalizationGradKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let missing = || wrong(NAME, "an input or an output is missing");
        let x_value = context.input(0)?.ok_or_else(missing)?;
        let dy_value = context.input(1)?.ok_or_else(missing)?;
        let scale_value = context.input(2)?.ok_or_else(missing)?;
        let mean_value = context.input(3)?.ok_or_else(missing)?;
        let variance_value = context.input(4)?.ok_or_else(missing)?;
        let (shape, x) = x_value.try_extract_tensor::<f32>()?;
        let (_, dy) = dy_value.try_extract_tensor::<f32>()?;
        let (_, scale) = scale_value.try_extract_tensor::<f32>()?;
        let (_, mean) = mean_value.try_extract_tensor::<f32>()?;
        let (_, variance) = variance_value.try_extract_tensor::<f32>()?;
        let channels = scale.len();
        let fits = shape.get(1) == Some(&(channels as i64))
            && dy.len() == x.len()
            && [mean.len(), variance.len()] == [channels; 2];
        if !fits || x.is_empty() {
            return Err(wrong(
                NAME,
                format!("x {shape} does not fit the other inputs"),
            ));
        }
        let images = shape[0] as usize;
        let count = x.len() / channels;
        let pixels = count / images;

        // sum(dy) and sum(dy (x - mean)) of each channel.
        let mut sums = vec![0.0f32; 2 * channels];
        fill_chunks(context, &mut sums, 2, |channel, sums| {
            let (mut sum, mut moment) = (0.0, 0.0);
            for image in 0..images {
                let from = (image * channels + channel) * pixels;
                let of_image = row_sums(&x[from..][..pixels], &dy[from..][..pixels], mean[channel]);
                sum += of_image[0];
                moment += of_image[1];
            }
            sums.copy_from_slice(&[sum as f32, moment as f32]);
        })?;
        // dx = factor dy + slope (x - mean) + level.
        let lines: Vec<[f32; 3]> = (0..channels)
            .map(|channel| {
                let r = 1.0 / (variance[channel] + self.epsilon).sqrt();
                let factor = scale[channel] * r;
                let share = -factor / count as f32;
                [
                    factor,
                    share * sums[2 * channel + 1] * r * r,
                    share * sums[2 * channel],
                ]
            })
            .collect();
        let mut output = context.output(0, shape.to_vec())?.ok_or_else(missing)?;
        let (_, dx) = output.try_extract_tensor_mut::<f32>()?;
        fill_chunks(context, dx, channels * pixels, |image, dx| {
            for (channel, dx) in dx.chunks_exact_mut(pixels).enumerate() {
                let from = (image * channels + channel) * pixels;
                let (x, dy) = (&x[from..][..pixels], &dy[from..][..pixels]);
                let ([factor, slope, level], mean) = (lines[channel], mean[channel]);
                for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                    *dx = factor * dy + slope * (x - mean) + level;
                }
            }
        })?;
        let of_channel = [channels as i64];
        let mut output = context
            .output(1, of_channel.to_vec())?
            .ok_or_else(missing)?;
        let (_, dscale) = output.try_extract_tensor_mut::<f32>()?;
        for (channel, dscale) in dscale.iter_mut().enumerate() {
            *dscale = sums[2 * channel + 1] / (variance[channel] + self.epsilon).sqrt();
        }
        let mut output = context
            .output(2, of_channel.to_vec())?
            .ok_or_else(missing)?;
        let (_, dbias) = output.try_extract_tensor_mut::<f32>()?;
        for (channel, dbias) in dbias.iter_mut().enumerate() {
            *dbias = sums[2 * channel];
        }
        Ok(())
    }
}

/// sum(dy) and sum(dy (x - mean)) of a row.
fn row_sums(x: &[f32], dy: &[f32], mean: f32) -> [f64; 2] {
    let (x_lanes, x_rest) = x.as_chunks::<LANES>();
    let (dy_lanes, dy_rest) = dy.as_chunks::<LANES>();
    let mut sum = [0.0f32; LANES];
    let mut moment = [0.0f32; LANES];
    for (x, dy) in x_lanes.iter().zip(dy_lanes) {
        for lane in 0..LANES {
            sum[lane] += dy[lane];
            moment[lane] += dy[lane] * (x[lane] - mean);
        }
    }
    for (lane, (x, dy)) in x_rest.iter().zip(dy_rest).enumerate() {
        sum[lane] += dy;
        moment[lane] += dy * (x - mean);
    }
    [sum, moment].map(|lanes| lanes.iter().map(|&value| f64::from(value)).sum())
}
