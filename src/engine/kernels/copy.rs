//! Moves bytes between layouts: other borders or strides, concatenation, nearest-neighbour enlargement. All kernel sets do
//! this alike.

use super::{KernelSet, layout::Layout};
use std::ops::Range;

/// Copies a map into channels `first_channel..first_channel + input.channels` of a map with as many rows and columns and
/// leaves its other channels alone. A `Concat` is one copy an input, in any order; a change of border or stride is one
/// copy with `first_channel` 0.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    input: Layout,
    output: Layout,
    first_channel: usize,
    zero: u8,
}

impl Copy {
    /// Prepares a copy; `zero` fills the border of the output.
    ///
    /// # Panics
    /// When the sizes differ or the channels do not fit.
    pub(crate) fn new(
        _set: KernelSet,
        input: Layout,
        output: Layout,
        first_channel: usize,
        zero: u8,
    ) -> Self {
        assert_eq!((input.height, input.width), (output.height, output.width));
        assert!(first_channel + input.channels <= output.channels);
        Self {
            input,
            output,
            first_channel,
            zero,
        }
    }

    /// The kernel in words.
    pub(crate) fn describe(&self) -> String {
        "copy".to_owned()
    }

    /// Copies rows `rows` of the whole buffer `input` into `output_rows`, as [`super::Convolution::run`] takes them.
    ///
    /// # Panics
    /// When a slice is too short or rows are none of the output's.
    pub(crate) fn run(&self, rows: Range<usize>, input: &[u8], output_rows: &mut [u8]) {
        let Self {
            input: from,
            output: to,
            ..
        } = self;
        assert!(
            input.len() >= from.len(),
            "{} bytes of {}",
            input.len(),
            from.len()
        );
        to.check_output(&rows, output_rows);
        let whole = from.channels == to.channels && from.channel_stride == to.channel_stride;
        for (y, row) in rows.zip(output_rows.chunks_exact_mut(to.row_bytes())) {
            to.fill_sides(self.zero, row);
            if whole {
                let bytes = from.width * from.channel_stride;
                let source = &input[from.offset(y, 0)..][..bytes];
                row[to.left * to.channel_stride..][..bytes].copy_from_slice(source);
                continue;
            }
            for x in 0..from.width {
                let source = &input[from.offset(y, x)..][..from.channels];
                let at = (to.left + x) * to.channel_stride + self.first_channel;
                copy(source, &mut row[at..]);
            }
        }
    }
}

/// `Resize` of bytes: nearest, asymmetric, floor, by whole factors, so output pixel (y, x) is input pixel
/// (y / factor y, x / factor x).
#[derive(Clone, Debug)]
pub(crate) struct ResizeNearest {
    input: Layout,
    output: Layout,
    factors: (usize, usize),
    zero: u8,
}

impl ResizeNearest {
    /// Prepares the enlargement by the whole factors that the sizes give; `zero` fills the border of the output.
    ///
    /// # Panics
    /// When the factors are not whole or the channels differ.
    pub(crate) fn new(_set: KernelSet, input: Layout, output: Layout, zero: u8) -> Self {
        let factors = (output.height / input.height, output.width / input.width);
        assert_eq!(input.channels, output.channels);
        assert_eq!(input.height * factors.0, output.height);
        assert_eq!(input.width * factors.1, output.width);
        Self {
            input,
            output,
            factors,
            zero,
        }
    }

    /// The kernel in words.
    pub(crate) fn describe(&self) -> String {
        format!("resize x{}x{}", self.factors.0, self.factors.1)
    }

    /// Writes rows `rows`; `input` is the whole buffer, `output_rows` as in [`super::Convolution::run`].
    ///
    /// # Panics
    /// When a slice is too short or rows are none of the output's.
    pub(crate) fn run(&self, rows: Range<usize>, input: &[u8], output_rows: &mut [u8]) {
        let Self {
            input: from,
            output: to,
            ..
        } = self;
        from.check_input(input);
        to.check_output(&rows, output_rows);
        for (y, row) in rows.zip(output_rows.chunks_exact_mut(to.row_bytes())) {
            to.fill_sides(self.zero, row);
            let pixels = row[to.left * to.channel_stride..].chunks_exact_mut(to.channel_stride);
            for (x, pixel) in pixels.enumerate().take(to.width) {
                let at = from.offset(y / self.factors.0, x / self.factors.1);
                copy(&input[at..at + to.channels], pixel);
            }
        }
    }
}

/// Copies a pixel's channels, in groups of 16 as long as there are: a call of `memcpy` costs more than a pixel.
fn copy(from: &[u8], to: &mut [u8]) {
    let (groups, rest) = from.as_chunks::<16>();
    let (to_groups, _) = to.as_chunks_mut::<16>();
    for (from, to) in groups.iter().zip(to_groups) {
        *to = *from;
    }
    to[from.len() - rest.len()..][..rest.len()].copy_from_slice(rest);
}
