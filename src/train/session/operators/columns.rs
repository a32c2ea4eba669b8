//! `facemark.Columns(x [N, C, H, W]) -> [N, C KH KW, OH OW]`: for each tap of a convolution's kernel the elements of x that
//! it meets (im2col), with the attributes `kernel_shape`, `strides`, `pads` and `dilations` of the convolution.

use super::super::depthwise::{Window, take_every};
use super::{fill_chunks, wrong};
use ort::{
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::TensorElementType,
};

const NAME: &str = "Columns";

/// The operator.
pub(super) struct Columns;

/// Its kernel.
pub(super) struct ColumnsKernel {
    pub(super) window: Window,
    /// Padding behind the last row and column.
    pub(super) pads_after: [usize; 2],
}

impl Operator for Columns {
    type Kernel<'a> = ColumnsKernel;

    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(TensorElementType::Float32)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> ort::Result<ColumnsKernel> {
        let pads: Option<Vec<i64>> = context.get("pads");
        let pads_after = match pads.as_deref() {
            Some([_, _, bottom, right]) => [*bottom, *right].map(|size| size.max(0) as usize),
            _ => [0; 2],
        };
        Ok(ColumnsKernel {
            window: Window::read(NAME, context)?,
            pads_after,
        })
    }
}

impl Kernel for ColumnsKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let missing = || wrong(NAME, "the input or the output is missing");
        let x_value = context.input(0)?.ok_or_else(missing)?;
        let (shape, x) = x_value.try_extract_tensor::<f32>()?;
        let &[images, channels, height, width] = &shape[..] else {
            return Err(wrong(NAME, "x does not have four axes"));
        };
        let size = [height as usize, width as usize];
        let windows = self
            .windows(size)
            .ok_or_else(|| wrong(NAME, "x is smaller than the kernel"))?;
        let taps = self.window.kernel[0] * self.window.kernel[1];
        let places = windows[0] * windows[1];
        let output_shape = vec![images, channels * taps as i64, places as i64];
        let mut output = context.output(0, output_shape)?.ok_or_else(missing)?;
        let (_, columns) = output.try_extract_tensor_mut::<f32>()?;
        fill_chunks(context, columns, taps * places, |plane, columns| {
            let x = &x[plane * size[0] * size[1]..][..size[0] * size[1]];
            self.fill(x, size, windows, columns);
        })
    }
}

impl ColumnsKernel {
    /// Number of windows along each axis.
    pub(super) fn windows(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let window = &self.window;
        let along = |axis: usize| {
            let extent = (window.kernel[axis] - 1) * window.dilations[axis] + 1;
            let padded = size[axis] + window.pads[axis] + self.pads_after[axis];
            Some(padded.checked_sub(extent)? / window.strides[axis] + 1)
        };
        Some([along(0)?, along(1)?])
    }

    /// `columns[i, j, r, c] = x[r s + i d - p, c s + j d - p]`, 0 outside, for one plane x.
    pub(super) fn fill(
        &self,
        x: &[f32],
        [height, width]: [usize; 2],
        windows: [usize; 2],
        columns: &mut [f32],
    ) {
        let window = &self.window;
        let rows = columns.chunks_exact_mut(windows[1]);
        for (index, row) in rows.enumerate() {
            let (tap, r) = (index / windows[0], index % windows[0]);
            let (i, j) = (tap / window.kernel[1], tap % window.kernel[1]);
            let y = (r * window.strides[0] + i * window.dilations[0]).checked_sub(window.pads[0]);
            let Some(y) = y.filter(|&y| y < height) else {
                row.fill(0.0);
                continue;
            };
            let x = &x[y * width..][..width];
            let (stride, shift, pad) = (window.strides[1], j * window.dilations[1], window.pads[1]);
            // Columns c from `first` to before `end` lie inside: 0 <= c stride + shift - pad < width.
            let first = pad.saturating_sub(shift).div_ceil(stride).min(row.len());
            let end = (width + pad)
                .saturating_sub(shift)
                .div_ceil(stride)
                .clamp(first, row.len());
            row[..first].fill(0.0);
            row[end..].fill(0.0);
            if first == end {
                continue;
            }
            let from = &x[first * stride + shift - pad..];
            take_every(stride, from, &mut row[first..end]);
        }
    }
}
