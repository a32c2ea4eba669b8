//! The weight gradient of a depthwise convolution on the CPU.
//!
//! `facemark.DepthwiseGradW(x [N, C, H, W], dy [N, C m, OH, OW]) -> dw [C m, 1, KH, KW]` with the attributes
//! `kernel_shape`, `strides`, `pads` (top, left, bottom, right) and `dilations` of the convolution. ONNX has no operator
//! for it, and every way to write it with standard ones passes over the activations many times.

use ort::{
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::TensorElementType,
};
use std::sync::atomic::{AtomicU32, Ordering};

/// Independent sums of a dot product, so that the compiler can keep them in vector registers.
const LANES: usize = 16;

/// Geometry of a depthwise convolution.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) kernel: [usize; 2],
    pub(super) strides: [usize; 2],
    /// Padding before the first row and column. What lies behind the last is whatever the output's size reaches.
    pub(super) pads: [usize; 2],
    pub(super) dilations: [usize; 2],
}

/// The operator, to be registered in the domain `facemark`.
pub(super) struct DepthwiseGradW;

impl Operator for DepthwiseGradW {
    type Kernel<'a> = Window;

    fn name(&self) -> &str {
        "DepthwiseGradW"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [
            OperatorInput::required(TensorElementType::Float32),
            OperatorInput::required(TensorElementType::Float32),
        ]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> ort::Result<Window> {
        Window::read("DepthwiseGradW", context)
    }
}

impl Kernel for Window {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let missing = || ort::Error::new("DepthwiseGradW: an input is missing");
        let x_value = context.input(0)?.ok_or_else(missing)?;
        let dy_value = context.input(1)?.ok_or_else(missing)?;
        let (x_shape, x) = x_value.try_extract_tensor::<f32>()?;
        let (dy_shape, dy) = dy_value.try_extract_tensor::<f32>()?;
        let (x_shape, dy_shape) = match (sizes(x_shape), sizes(dy_shape)) {
            (Some(x), Some(dy)) if x[0] == dy[0] && x[1] > 0 && dy[1] % x[1] == 0 => (x, dy),
            _ => {
                return Err(ort::Error::new(format!(
                    "DepthwiseGradW: expected x [N, C, H, W] and dy [N, C m, OH, OW], found {x_shape} and {dy_shape}"
                )));
            }
        };
        let taps = self.kernel[0] * self.kernel[1];
        // Threads write disjoint channels; atomic cells let them do so without unsafe code, at no cost beside the sums.
        let sums: Vec<AtomicU32> = (0..dy_shape[1] * taps).map(|_| AtomicU32::new(0)).collect();
        context.par_for(dy_shape[1], 0, |channel| {
            let gradient = self.channel_gradient(x, x_shape, dy, dy_shape, channel);
            for (sum, value) in sums[channel * taps..].iter().zip(gradient) {
                sum.store(value.to_bits(), Ordering::Relaxed);
            }
        })?;
        let shape = [dy_shape[1], 1, self.kernel[0], self.kernel[1]].map(|size| size as i64);
        let mut output = context
            .output(0, shape.to_vec())?
            .ok_or_else(|| ort::Error::new("DepthwiseGradW: the output is missing"))?;
        let (_, dw) = output.try_extract_tensor_mut::<f32>()?;
        for (value, sum) in dw.iter_mut().zip(&sums) {
            *value = f32::from_bits(sum.load(Ordering::Relaxed));
        }
        Ok(())
    }
}

fn sizes(shape: &[i64]) -> Option<[usize; 4]> {
    let sizes: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
    sizes.try_into().ok()
}

impl Window {
    /// The attributes of a node of `operator`.
    pub(super) fn read(operator: &str, context: &KernelContext<'_>) -> ort::Result<Self> {
        let pair = |name: &str, default: Option<usize>| -> ort::Result<[usize; 2]> {
            let found: Option<Vec<i64>> = context.get(name);
            match (found.as_deref(), default) {
                (Some([first, second, ..]), _) if *first >= 0 && *second >= 0 => {
                    Ok([*first as usize, *second as usize])
                }
                (None | Some([]), Some(default)) => Ok([default; 2]),
                (found, _) => Err(ort::Error::new(format!(
                    "{operator}: attribute {name}: expected sizes of two axes, found {found:?}"
                ))),
            }
        };
        Ok(Window {
            kernel: pair("kernel_shape", None)?,
            strides: pair("strides", Some(1))?.map(|stride| stride.max(1)),
            pads: pair("pads", Some(0))?,
            dilations: pair("dilations", Some(1))?.map(|dilation| dilation.max(1)),
        })
    }

    /// `dw[i, j] = sum over n, r, c of x[n, r s + i d - p, c s + j d - p] dy[n, r, c]` of one channel.
    ///
    /// The padded picture is laid out as one plane a phase of the stride, with rows of the same length as the rows of
    /// `dy` (zeros in between). A tap is then a shift of a plane, and its sum one long dot product.
    fn channel_gradient(
        &self,
        x: &[f32],
        [batch, channels, height, width]: [usize; 4],
        dy: &[f32],
        [_, dy_channels, dy_height, dy_width]: [usize; 4],
        channel: usize,
    ) -> Vec<f32> {
        let x_channel = channel / (dy_channels / channels);
        let [stride_y, stride_x] = self.strides;
        // How far the last tap shifts a plane.
        let reach =
            |axis: usize| (self.kernel[axis] - 1) * self.dilations[axis] / self.strides[axis];
        let row = dy_width + reach(1);
        let length = (dy_height * row).next_multiple_of(LANES);
        let plane = (reach(0) * row + reach(1) + length).next_multiple_of(LANES);
        let mut planes = vec![0.0f32; stride_y * stride_x * plane];
        let mut rows = vec![0.0f32; length];
        let mut sums = vec![[0.0f32; LANES]; self.kernel[0] * self.kernel[1]];
        for n in 0..batch {
            let picture = &x[(n * channels + x_channel) * height * width..][..height * width];
            for y in 0..height {
                let padded_y = y + self.pads[0];
                let place_y = padded_y / stride_y;
                if place_y >= dy_height + reach(0) {
                    break;
                }
                let phase_y = padded_y % stride_y;
                let source = &picture[y * width..][..width];
                for phase_x in 0..stride_x {
                    let target = &mut planes
                        [(phase_y * stride_x + phase_x) * plane + place_y * row..][..row];
                    // First column of this phase, and where it lands.
                    let first = (phase_x + stride_x - self.pads[1] % stride_x) % stride_x;
                    if first >= width {
                        continue;
                    }
                    let place_x = (first + self.pads[1]) / stride_x;
                    if place_x < row {
                        take_every(stride_x, &source[first..], &mut target[place_x..]);
                    }
                }
            }
            let dy_picture =
                &dy[(n * dy_channels + channel) * dy_height * dy_width..][..dy_height * dy_width];
            for (to, from) in rows
                .chunks_exact_mut(row)
                .zip(dy_picture.chunks_exact(dy_width))
            {
                to[..dy_width].copy_from_slice(from);
            }
            for i in 0..self.kernel[0] {
                for j in 0..self.kernel[1] {
                    let (down, right) = (i * self.dilations[0], j * self.dilations[1]);
                    let phase = (down % stride_y) * stride_x + right % stride_x;
                    let shift = (down / stride_y) * row + right / stride_x;
                    let shifted = &planes[phase * plane + shift..][..length];
                    add_products(&mut sums[i * self.kernel[1] + j], shifted, &rows);
                }
            }
        }
        sums.iter().map(|lanes| lanes.iter().sum()).collect()
    }
}

/// `to[i] = from[i stride]` as far as both reach.
pub(super) fn take_every(stride: usize, from: &[f32], to: &mut [f32]) {
    match stride {
        1 => {
            let count = to.len().min(from.len());
            to[..count].copy_from_slice(&from[..count]);
        }
        // The case of nearly all networks, in a form that the compiler turns into shuffles.
        2 => {
            let (pairs, last) = from.as_chunks::<2>();
            for (to, pair) in to.iter_mut().zip(pairs) {
                *to = pair[0];
            }
            if let (Some(to), Some(last)) = (to.get_mut(pairs.len()), last.first()) {
                *to = *last;
            }
        }
        _ => {
            for (to, from) in to.iter_mut().zip(from.iter().step_by(stride)) {
                *to = *from;
            }
        }
    }
}

/// `sums[l] += a[k LANES + l] b[k LANES + l]` over all k.
fn add_products(sums: &mut [f32; LANES], a: &[f32], b: &[f32]) {
    let mut lanes = *sums;
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    *sums = lanes;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, one product at a time, in f64.
    fn reference(
        window: &Window,
        x: &[f32],
        xs: [usize; 4],
        dy: &[f32],
        ds: [usize; 4],
        channel: usize,
    ) -> Vec<f64> {
        let mut dw = vec![0.0; window.kernel[0] * window.kernel[1]];
        let x_channel = channel / (ds[1] / xs[1]);
        for n in 0..xs[0] {
            for r in 0..ds[2] {
                for c in 0..ds[3] {
                    let gradient = dy[((n * ds[1] + channel) * ds[2] + r) * ds[3] + c];
                    for i in 0..window.kernel[0] {
                        for j in 0..window.kernel[1] {
                            let y = (r * window.strides[0] + i * window.dilations[0])
                                .checked_sub(window.pads[0]);
                            let x_at = (c * window.strides[1] + j * window.dilations[1])
                                .checked_sub(window.pads[1]);
                            let (Some(y), Some(x_at)) = (y, x_at) else {
                                continue;
                            };
                            if y < xs[2] && x_at < xs[3] {
                                let value = x[((n * xs[1] + x_channel) * xs[2] + y) * xs[3] + x_at];
                                dw[i * window.kernel[1] + j] +=
                                    f64::from(value) * f64::from(gradient);
                            }
                        }
                    }
                }
            }
        }
        dw
    }

    #[test]
    fn equals_the_definition_for_odd_sizes_strides_pads_and_dilations() {
        use rand::{RngExt, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        for case in 0..300 {
            let mut pick = |low: usize, high: usize| rng.random_range(low..=high);
            let window = Window {
                kernel: [pick(1, 5), pick(1, 5)],
                strides: [pick(1, 3), pick(1, 3)],
                pads: [pick(0, 3), pick(0, 3)],
                dilations: [pick(1, 2), pick(1, 2)],
            };
            let end_pads = [pick(0, 3), pick(0, 3)];
            let multiplier = pick(1, 2);
            let xs = [pick(1, 3), pick(1, 3), pick(1, 19), pick(1, 37)];
            let out = |axis: usize| {
                let reach = (window.kernel[axis] - 1) * window.dilations[axis] + 1;
                (xs[axis + 2] + window.pads[axis] + end_pads[axis])
                    .checked_sub(reach)
                    .map(|left| left / window.strides[axis] + 1)
            };
            let (Some(height), Some(width)) = (out(0), out(1)) else {
                continue;
            };
            let ds = [xs[0], xs[1] * multiplier, height, width];
            let mut random = |count: usize| -> Vec<f32> {
                (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
            };
            let x = random(xs.iter().product());
            let dy = random(ds.iter().product());
            for channel in 0..ds[1] {
                let found = window.channel_gradient(&x, xs, &dy, ds, channel);
                let expected = reference(&window, &x, xs, &dy, ds, channel);
                for (found, expected) in found.iter().zip(&expected) {
                    assert!(
                        (f64::from(*found) - expected).abs() < 1e-3,
                        "case {case} {window:?} x {xs:?} dy {ds:?}: expected {expected}, found {found}"
                    );
                }
            }
        }
    }
}
