//! Pooling: global average with requantisation, and maximum.

use super::{
    KernelSet,
    arithmetic::requantize,
    convolution::MODERATE,
    layout::{LANES, Layout},
    simd::{Average, Instance},
};
use std::ops::Range;

/// `com.microsoft.QLinearGlobalAveragePool`.
#[derive(Clone, Debug)]
pub(crate) struct GlobalAveragePool {
    input: Layout,
    output: Layout,
    average: Average,
    instance: Option<&'static Instance>,
}

impl GlobalAveragePool {
    /// Prepares the pooling of `input` into the one pixel of `output`.
    ///
    /// # Panics
    /// When `output` is not one pixel of as many channels, or the map has 2^23 pixels or more (sums would overflow).
    pub(crate) fn new(
        set: KernelSet,
        input: Layout,
        output: Layout,
        (input_scale, input_zero): (f32, u8),
        (output_scale, output_zero): (f32, u8),
    ) -> Self {
        let pixels = input.height * input.width;
        assert!((output.height, output.width) == (1, 1) && output.channels == input.channels);
        assert!(pixels < 1 << 23, "{pixels} pixels to average");
        let average = Average {
            start: -(i32::from(input_zero) * pixels as i32),
            multiplier: input_scale / (output_scale * pixels as f32),
            zero: output_zero,
        };
        let greatest = 255.0 * pixels as f64 * f64::from(average.multiplier).abs();
        let is_for_vectors = greatest < MODERATE && have_lanes(&[input, output]);
        Self {
            input,
            output,
            average,
            instance: Instance::choose(set, true).filter(|_| is_for_vectors),
        }
    }

    /// The kernel in words.
    pub(crate) fn describe(&self) -> String {
        let kernel = self.instance.map_or("portable", |instance| instance.name);
        format!("global average {kernel}")
    }

    /// Averages the map in the whole buffer `input` into `output_row`, the one row of the output with its border.
    ///
    /// # Panics
    /// When a slice is too short.
    pub(crate) fn run(&self, input: &[u8], output_row: &mut [u8]) {
        self.input.check_input(input);
        self.output.check_output(&(0..1), output_row);
        let Average {
            start,
            multiplier,
            zero,
        } = self.average;
        self.output.fill_sides(zero, output_row);
        let at = self.output.left * self.output.channel_stride;
        let pixel = &mut output_row[at..][..self.output.channel_stride];
        if let Some(instance) = self.instance {
            let map = &input[self.input.offset(0, 0)..];
            let rows = (self.input.height, self.input.row_bytes());
            let columns = (self.input.width, self.input.channel_stride);
            let count = self.input.channels.next_multiple_of(LANES);
            // SAFETY: the instance was chosen because the processor has its instructions; the map was checked with its
            // slack, which is no shorter than a vector; the pixel has room for whole groups of 16 channels.
            unsafe {
                let output = pixel.as_mut_ptr();
                (instance.average)(&self.average, map.as_ptr(), rows, columns, output, count);
            }
            return;
        }
        let results = pixel.iter_mut().take(self.output.channels);
        for (channel, result) in results.enumerate() {
            let mut sum = start;
            for y in 0..self.input.height {
                for x in 0..self.input.width {
                    sum += i32::from(input[self.input.offset(y, x) + channel]);
                }
            }
            *result = requantize(sum, multiplier, zero);
        }
    }
}

/// Whether pixels of all maps are whole groups of 16 bytes.
fn have_lanes(maps: &[Layout]) -> bool {
    maps.iter()
        .all(|map| map.channel_stride.is_multiple_of(LANES))
}

/// Where the windows of a [`MaxPool`] lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolSpec {
    pub(crate) input: Layout,
    pub(crate) output: Layout,
    /// Height and width of a window.
    pub(crate) kernel: (usize, usize),
    pub(crate) stride: (usize, usize),
    /// Rows and columns that the first window begins before the map; no window lies wholly outside.
    pub(crate) pad_top: usize,
    pub(crate) pad_left: usize,
    /// Zero point of the map, for the border of the output.
    pub(crate) zero: u8,
}

/// `MaxPool` of bytes. Pixels outside the map do not count, whatever the border holds.
#[derive(Clone, Debug)]
pub(crate) struct MaxPool {
    spec: PoolSpec,
    instance: Option<&'static Instance>,
}

impl MaxPool {
    /// Prepares the pooling.
    ///
    /// # Panics
    /// When channels differ or a window would be empty.
    pub(crate) fn new(set: KernelSet, spec: PoolSpec) -> Self {
        let PoolSpec {
            input,
            output,
            kernel,
            stride,
            ..
        } = spec;
        assert_eq!(input.channels, output.channels);
        assert!(output.height > 0 && output.width > 0 && stride.0 > 0 && stride.1 > 0);
        assert!(spec.pad_top < kernel.0 && spec.pad_left < kernel.1);
        assert!((output.height - 1) * stride.0 < spec.pad_top + input.height);
        assert!((output.width - 1) * stride.1 < spec.pad_left + input.width);
        let is_for_vectors = have_lanes(&[input, output]);
        Self {
            spec,
            instance: Instance::choose(set, true).filter(|_| is_for_vectors),
        }
    }

    /// The kernel in words.
    pub(crate) fn describe(&self) -> String {
        let PoolSpec { kernel, .. } = self.spec;
        let name = self.instance.map_or("portable", |instance| instance.name);
        format!("max pool{}x{} {name}", kernel.0, kernel.1)
    }

    /// Pools into rows `rows`; `input` is the whole buffer, `output_rows` as in [`super::Convolution::run`].
    ///
    /// # Panics
    /// When a slice is too short or rows are none of the output's.
    pub(crate) fn run(&self, rows: Range<usize>, input: &[u8], output_rows: &mut [u8]) {
        let PoolSpec {
            input: layout,
            output,
            ..
        } = &self.spec;
        layout.check_input(input);
        output.check_output(&rows, output_rows);
        for (y, row) in rows.zip(output_rows.chunks_exact_mut(output.row_bytes())) {
            output.fill_sides(self.spec.zero, row);
            let ys = self.rows_of(y);
            for x in 0..output.width {
                let at = (output.left + x) * output.channel_stride;
                let pixel = &mut row[at..at + output.channel_stride];
                if let Some(instance) = self.instance {
                    let columns = self.columns_of(x);
                    let first = &input[layout.offset(ys.start, columns.start)..];
                    let rows = (ys.len(), layout.row_bytes());
                    let columns = (columns.len(), layout.channel_stride);
                    let count = output.channels.next_multiple_of(LANES);
                    // SAFETY: as in `GlobalAveragePool::run`; the window lies inside the map.
                    unsafe {
                        let output = pixel.as_mut_ptr();
                        (instance.greatest)(first.as_ptr(), rows, columns, output, count);
                    }
                    continue;
                }
                let pixel = &mut pixel[..output.channels];
                pixel.fill(0);
                for y in ys.clone() {
                    for x in self.columns_of(x) {
                        let inputs = &input[layout.offset(y, x)..];
                        for (result, &input) in pixel.iter_mut().zip(inputs) {
                            *result = input.max(*result);
                        }
                    }
                }
            }
        }
    }

    fn rows_of(&self, y: usize) -> Range<usize> {
        let spec = &self.spec;
        inside(
            y * spec.stride.0,
            spec.pad_top,
            spec.kernel.0,
            spec.input.height,
        )
    }

    fn columns_of(&self, x: usize) -> Range<usize> {
        let spec = &self.spec;
        inside(
            x * spec.stride.1,
            spec.pad_left,
            spec.kernel.1,
            spec.input.width,
        )
    }
}

/// What of the window that begins at `start - pad` lies in `0..length`.
fn inside(start: usize, pad: usize, kernel: usize, length: usize) -> Range<usize> {
    start.saturating_sub(pad)..(start + kernel - pad).min(length)
}
