//! `facemark.DepthwiseGradX(dy [N, C, OH, OW], w [C, 1, KH, KW]) -> dx [N, C, H, W]`: the input gradient of a depthwise
//! convolution with the attributes `kernel_shape`, `strides`, `pads` and `dilations`; `input_shape` is (H, W).

use super::super::depthwise::Window;
use super::{fill_chunks, wrong};
use ort::{
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::TensorElementType,
};

const NAME: &str = "DepthwiseGradX";

/// Sums that are made at once, so that the compiler can keep them in vector registers.
const LANES: usize = 16;

/// The operator.
pub(super) struct DepthwiseGradX;

/// Its kernel.
pub(super) struct DepthwiseGradXKernel {
    window: Window,
    input: [usize; 2],
}

impl Operator for DepthwiseGradX {
    type Kernel<'a> = DepthwiseGradXKernel;

    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [TensorElementType::Float32; 2].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> ort::Result<DepthwiseGradXKernel> {
        let shape: Option<Vec<i64>> = context.get("input_shape");
        let (height, width) = match shape.as_deref() {
            Some(&[height, width]) if height > 0 && width > 0 => (height, width),
            _ => return Err(wrong(NAME, format!("attribute input_shape: {shape:?}"))),
        };
        Ok(DepthwiseGradXKernel {
            window: Window::read(NAME, context)?,
            input: [height as usize, width as usize],
        })
    }
}

impl Kernel for DepthwiseGradXKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let missing = || wrong(NAME, "an input or the output is missing");
        let dy_value = context.input(0)?.ok_or_else(missing)?;
        let w_value = context.input(1)?.ok_or_else(missing)?;
        let (dy_shape, dy) = dy_value.try_extract_tensor::<f32>()?;
        let (w_shape, w) = w_value.try_extract_tensor::<f32>()?;
        let taps = self.window.kernel[0] * self.window.kernel[1];
        let (images, channels, windows) = match &dy_shape[..] {
            &[images, channels, height, width] if w.len() == channels as usize * taps => {
                (images, channels, [height as usize, width as usize])
            }
            _ => {
                return Err(wrong(
                    NAME,
                    format!("dy {dy_shape} and w {w_shape} do not fit"),
                ));
            }
        };
        let [height, width] = self.input;
        let output_shape = vec![images, channels, height as i64, width as i64];
        let mut output = context.output(0, output_shape)?.ok_or_else(missing)?;
        let (_, dx) = output.try_extract_tensor_mut::<f32>()?;
        let (plane, dy_plane) = (height * width, windows[0] * windows[1]);
        fill_chunks(context, dx, channels as usize * plane, |image, dx| {
            let dy = &dy[image * channels as usize * dy_plane..];
            let mut planes = Planes::new(&self.window, windows);
            let of_channels = dx
                .chunks_exact_mut(plane)
                .zip(dy.chunks_exact(dy_plane))
                .zip(w.chunks_exact(taps));
            for ((dx, dy), w) in of_channels {
                planes.fill(dy, w);
                planes.take(self.input, dx);
            }
        })
    }
}

/// The padded gradient of one channel as one plane a phase of the stride.
///
/// With `Y = y + p` the convolution gives `dX[Y, X] = sum of w[i, j] dy[r, c]` over `Y = r s + i d`, `X = c s + j d`. In the
/// plane of the phases (Y mod s, X mod s) tap (i, j) is therefore dy shifted by (i d / s, j d / s); with rows as long as
/// the largest shift allows it is a shift along one line, and the sum over the taps runs over whole lines.
pub(super) struct Planes<'a> {
    window: &'a Window,
    windows: [usize; 2],
    /// Length of a row.
    row: usize,
    /// Rows of dy, with zeros before for the largest shift and behind.
    line: Vec<f32>,
    /// Zeros before the first element of dy.
    before: usize,
    planes: Vec<f32>,
    plane: usize,
    /// For each phase its taps: index of the weight and shift.
    taps: Vec<Vec<(usize, usize)>>,
}

impl<'a> Planes<'a> {
    pub(super) fn new(window: &'a Window, windows: [usize; 2]) -> Self {
        let reach =
            |axis: usize| (window.kernel[axis] - 1) * window.dilations[axis] / window.strides[axis];
        let row = windows[1] + reach(1);
        let before = reach(0) * row + reach(1);
        let plane = ((windows[0] + reach(0)) * row).next_multiple_of(LANES);
        let mut taps = vec![vec![]; window.strides[0] * window.strides[1]];
        for i in 0..window.kernel[0] {
            for j in 0..window.kernel[1] {
                let (down, right) = (i * window.dilations[0], j * window.dilations[1]);
                let phase =
                    (down % window.strides[0]) * window.strides[1] + right % window.strides[1];
                let shift = (down / window.strides[0]) * row + right / window.strides[1];
                taps[phase].push((i * window.kernel[1] + j, shift));
            }
        }
        Self {
            window,
            windows,
            row,
            line: vec![0.0; before + plane],
            before,
            planes: vec![0.0; taps.len() * plane],
            plane,
            taps,
        }
    }

    /// Computes the planes of one channel.
    pub(super) fn fill(&mut self, dy: &[f32], w: &[f32]) {
        let rows = self.line[self.before..].chunks_mut(self.row);
        for (to, from) in rows.zip(dy.chunks_exact(self.windows[1])) {
            to[..from.len()].copy_from_slice(from);
        }
        for (taps, plane) in self
            .taps
            .iter()
            .zip(self.planes.chunks_exact_mut(self.plane))
        {
            for (index, sums) in plane.chunks_exact_mut(LANES).enumerate() {
                let mut lanes = [0.0f32; LANES];
                for &(tap, shift) in taps {
                    let from = &self.line[self.before + index * LANES - shift..][..LANES];
                    for lane in 0..LANES {
                        lanes[lane] += w[tap] * from[lane];
                    }
                }
                sums.copy_from_slice(&lanes);
            }
        }
    }

    /// Copies what lies inside the padding to `dx`.
    pub(super) fn take(&self, [_, width]: [usize; 2], dx: &mut [f32]) {
        let [stride_y, stride_x] = self.window.strides;
        let row_count = self.plane / self.row;
        for (y, to) in dx.chunks_exact_mut(width).enumerate() {
            let padded_y = y + self.window.pads[0];
            let (phase_y, place_y) = (padded_y % stride_y, padded_y / stride_y);
            if place_y >= row_count {
                to.fill(0.0);
                continue;
            }
            // Column x is element (x + p) / s of the row of phase (x + p) mod s, so that every s-th column comes from one row.
            let source = |first: usize| {
                let padded_x = first + self.window.pads[1];
                let phase = phase_y * stride_x + padded_x % stride_x;
                let row = &self.planes[phase * self.plane + place_y * self.row..][..self.row];
                row.get(padded_x / stride_x..).unwrap_or_default()
            };
            match stride_x {
                1 => {
                    let from = source(0);
                    let count = from.len().min(to.len());
                    to[..count].copy_from_slice(&from[..count]);
                    to[count..].fill(0.0);
                }
                // The case of nearly all networks, in a form that the compiler turns into shuffles.
                2 => {
                    let (even, odd) = (source(0), source(1));
                    let (pairs, last) = to.as_chunks_mut::<2>();
                    let count = pairs.len().min(even.len()).min(odd.len());
                    for (pair, (&a, &b)) in pairs.iter_mut().zip(even.iter().zip(odd)) {
                        *pair = [a, b];
                    }
                    let at = |row: &[f32], index: usize| row.get(index).copied().unwrap_or(0.0);
                    for (index, pair) in pairs.iter_mut().enumerate().skip(count) {
                        *pair = [at(even, index), at(odd, index)];
                    }
                    if let Some(last) = last.first_mut() {
                        *last = at(even, width / 2);
                    }
                }
                _ => {
                    for first in 0..stride_x.min(width) {
                        let from = source(first).iter().copied().chain(std::iter::repeat(0.0));
                        for (to, from) in to[first..].iter_mut().step_by(stride_x).zip(from) {
                            *to = from;
                        }
                    }
                }
            }
        }
    }
}
