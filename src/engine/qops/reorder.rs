//! Bytes into another shape in ONNX's order (channel, row, column): `Reshape`s that move something, which are rare.

use crate::engine::kernels::Layout;

/// Copies a map into one of another shape with as many values.
#[derive(Clone, Debug)]
pub(crate) struct Reorder {
    input: Layout,
    output: Layout,
    border: u8,
}

impl Reorder {
    pub(crate) fn new(input: Layout, output: Layout, border: u8) -> Self {
        Self {
            input,
            output,
            border,
        }
    }

    pub(crate) fn run(&self, input: &[u8], output: &mut [u8]) {
        crate::engine::kernels::fill_border(&self.output, self.border, output);
        for at in 0..self.output.height * self.output.width * self.output.channels {
            output[position(&self.output, at)] = input[position(&self.input, at)];
        }
    }
}

/// Copies planes `[channels, height, width]` of bytes into a map.
pub(crate) fn import(planes: &[u8], layout: &Layout, border: u8, output: &mut [u8]) {
    crate::engine::kernels::fill_border(layout, border, output);
    for (at, &byte) in planes.iter().enumerate() {
        output[position(layout, at)] = byte;
    }
}

/// Copies a map into planes `[channels, height, width]` of bytes.
pub(crate) fn export(input: &[u8], layout: &Layout, planes: &mut [u8]) {
    for (at, byte) in planes.iter_mut().enumerate() {
        *byte = input[position(layout, at)];
    }
}

/// Where the value with number `at` in ONNX's order lies.
fn position(layout: &Layout, at: usize) -> usize {
    let (row, x) = (at / layout.width, at % layout.width);
    let (channel, y) = (row / layout.height, row % layout.height);
    layout.offset(y, x) + channel
}
