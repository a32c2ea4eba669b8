//! The addition of two maps (QLinearAdd), where it is not fused to a convolution.

use super::{
    KernelSet,
    arithmetic::{AddSpec, AddTerms},
    layout::{LANES, Layout},
    simd::Instance,
};
use std::ops::Range;

/// `QLinearAdd` of two maps. An operand may be smaller than the output by whole factors in height and width: then it is
/// enlarged on the way as [`super::ResizeNearest`] does.
#[derive(Clone, Debug)]
pub(crate) struct Add {
    a: Layout,
    b: Layout,
    output: Layout,
    terms: AddTerms,
    zero: u8,
    /// Of each operand: output rows and columns that show one of its own.
    factors: [(usize, usize); 2],
    instance: Option<&'static Instance>,
}

impl Add {
    /// Prepares an addition.
    ///
    /// # Panics
    /// When the maps' sizes or channels do not fit.
    pub(crate) fn new(
        set: KernelSet,
        a: Layout,
        b: Layout,
        output: Layout,
        spec: &AddSpec,
    ) -> Self {
        let factors = [a, b].map(|operand| {
            let factors = (output.height / operand.height, output.width / operand.width);
            let height = operand.height * factors.0;
            assert_eq!(
                (height, operand.width * factors.1),
                (output.height, output.width)
            );
            assert_eq!(operand.channels, output.channels);
            factors
        });
        let terms = AddTerms::new(spec);
        let is_for_vectors = terms.is_moderate()
            && output.channel_stride.is_multiple_of(LANES)
            && [a, b]
                .iter()
                .all(|map| map.channel_stride == output.channel_stride);
        Self {
            a,
            b,
            output,
            terms,
            zero: spec.output_zero,
            factors,
            instance: Instance::choose(set, true).filter(|_| is_for_vectors),
        }
    }

    /// The kernel in words.
    pub(crate) fn describe(&self) -> String {
        let kernel = self.instance.map_or("portable", |instance| instance.name);
        format!("add {kernel}")
    }

    /// Adds rows `rows` of whole buffers `a` and `b` into `output_rows`, as [`super::Convolution::run`] writes them.
    ///
    /// # Panics
    /// When a slice is too short or rows are none of the output's.
    pub(crate) fn run(&self, rows: Range<usize>, a: &[u8], b: &[u8], output_rows: &mut [u8]) {
        self.a.check_input(a);
        self.b.check_input(b);
        self.output.check_output(&rows, output_rows);
        for (y, row) in rows.zip(output_rows.chunks_exact_mut(self.output.row_bytes())) {
            self.output.fill_sides(self.zero, row);
            let [from_a, from_b] = self.factors;
            let a = &a[self.a.offset(y / from_a.0, 0)..];
            let b = &b[self.b.offset(y / from_b.0, 0)..];
            let inside = self.output.left * self.output.channel_stride;
            match self.instance {
                Some(instance) => self.add_vectors(instance, a, b, &mut row[inside..]),
                None => self.add_bytes(a, b, &mut row[inside..]),
            }
        }
    }

    /// One row, from its first pixels on.
    fn add_vectors(&self, instance: &Instance, a: &[u8], b: &[u8], row: &mut [u8]) {
        let Layout {
            width,
            channel_stride,
            ..
        } = self.output;
        let [(_, from_a), (_, from_b)] = self.factors;
        // Neighbouring pixels lie one after the other in all maps unless one is enlarged.
        let (pieces, bytes) = match (from_a, from_b) {
            (1, 1) => (1, width * channel_stride),
            _ => (width, channel_stride),
        };
        assert!(row.len() >= pieces * bytes);
        for piece in 0..pieces {
            let a = &a[piece / from_a * channel_stride..];
            let b = &b[piece / from_b * channel_stride..];
            let output = &mut row[piece * bytes..];
            // SAFETY: the instance was chosen because the processor has its instructions; the maps were checked with their
            // slack, which is no shorter than a vector, and the row just now.
            unsafe {
                (instance.add)(
                    &self.terms,
                    a.as_ptr(),
                    b.as_ptr(),
                    output.as_mut_ptr(),
                    bytes,
                );
            }
        }
    }

    fn add_bytes(&self, a: &[u8], b: &[u8], row: &mut [u8]) {
        let [(_, from_a), (_, from_b)] = self.factors;
        let pixels = row.chunks_exact_mut(self.output.channel_stride);
        for (x, pixel) in pixels.enumerate().take(self.output.width) {
            let a = &a[x / from_a * self.a.channel_stride..];
            let b = &b[x / from_b * self.b.channel_stride..];
            let sums = pixel.iter_mut().take(self.output.channels);
            for ((sum, &a), &b) in sums.zip(a).zip(b) {
                *sum = self.terms.add(a, b);
            }
        }
    }
}
