//! Between float tensors (planes, NCHW) and maps of bytes.

use super::{arithmetic::quantize, layout::Layout};
use std::ops::Range;

/// `QuantizeLinear` of a tensor `[1, channels, height, width]` into a map.
#[derive(Clone, Debug)]
pub(crate) struct QuantizePlanes {
    output: Layout,
    scale: f32,
    zero: u8,
}

impl QuantizePlanes {
    /// Prepares the quantisation into `output`.
    pub(crate) const fn new(output: Layout, scale: f32, zero: u8) -> Self {
        Self {
            output,
            scale,
            zero,
        }
    }

    /// The kernel in words.
    pub(crate) fn describe(&self) -> String {
        "quantize planes".to_owned()
    }

    /// Quantises rows `rows` of the whole tensor `planes` into `output_rows`, as [`super::Convolution::run`] takes them.
    ///
    /// # Panics
    /// When a slice is too short or rows are none of the output's.
    pub(crate) fn run(&self, rows: Range<usize>, planes: &[f32], output_rows: &mut [u8]) {
        let to = &self.output;
        to.check_output(&rows, output_rows);
        assert!(planes.len() >= to.channels * to.height * to.width);
        for (y, row) in rows.zip(output_rows.chunks_exact_mut(to.row_bytes())) {
            to.fill_sides(self.zero, row);
            for channel in 0..to.channels {
                let plane = &planes[(channel * to.height + y) * to.width..][..to.width];
                for (x, value) in plane.iter().enumerate() {
                    row[(to.left + x) * to.channel_stride + channel] =
                        quantize(value / self.scale, self.zero);
                }
            }
        }
    }
}

/// `DequantizeLinear` of a map into a tensor `[1, channels, height, width]`.
#[derive(Clone, Debug)]
pub(crate) struct Dequantize {
    input: Layout,
    scale: f32,
    zero: u8,
}

impl Dequantize {
    /// Prepares the conversion of `input`.
    pub(crate) const fn new(input: Layout, scale: f32, zero: u8) -> Self {
        Self { input, scale, zero }
    }

    /// The kernel in words.
    pub(crate) fn describe(&self) -> String {
        "dequantize".to_owned()
    }

    /// Converts the map in the whole buffer `input` into `planes`.
    ///
    /// # Panics
    /// When a slice is too short.
    pub(crate) fn run(&self, input: &[u8], planes: &mut [f32]) {
        let from = &self.input;
        from.check_input(input);
        assert!(planes.len() >= from.channels * from.height * from.width);
        for y in 0..from.height {
            for channel in 0..from.channels {
                let plane = &mut planes[(channel * from.height + y) * from.width..][..from.width];
                for (x, value) in plane.iter_mut().enumerate() {
                    let byte = input[from.offset(y, x) + channel];
                    *value = (i32::from(byte) - i32::from(self.zero)) as f32 * self.scale;
                }
            }
        }
    }
}
