//! The addition of two maps (QLinearAdd), where it is not fused to a convolution.

use super::{
    KernelSet,
    arithmetic::{AddSpec, AddTerms},
    layout::Layout,
};
use std::ops::Range;

/// `QLinearAdd` of two maps of one size.
#[derive(Clone, Debug)]
pub(crate) struct Add {
    a: Layout,
    b: Layout,
    output: Layout,
    terms: AddTerms,
    zero: u8,
}

impl Add {
    /// Prepares an addition.
    ///
    /// # Panics
    /// When the maps have different sizes.
    pub(crate) fn new(
        set: KernelSet,
        a: Layout,
        b: Layout,
        output: Layout,
        spec: &AddSpec,
    ) -> Self {
        let _ = set;
        assert!(a.is_same_size(&output) && b.is_same_size(&output));
        Self {
            a,
            b,
            output,
            terms: AddTerms::new(spec),
            zero: spec.output_zero,
        }
    }

    /// The kernel in words.
    pub(crate) fn describe(&self) -> String {
        "add portable".to_owned()
    }

    /// Adds rows `rows` of whole buffers `a` and `b` into `output_rows`, as [`super::Convolution::run`] writes them.
    ///
    /// # Panics
    /// When a slice is too short or rows are none of the output's.
    pub(crate) fn run(&self, rows: Range<usize>, a: &[u8], b: &[u8], output_rows: &mut [u8]) {
        self.a.check_input(a);
        self.b.check_input(b);
        self.output.check_output(&rows, output_rows);
        let Layout {
            width, channels, ..
        } = self.output;
        for (y, row) in rows.zip(output_rows.chunks_exact_mut(self.output.row_bytes())) {
            self.output.fill_sides(self.zero, row);
            for x in 0..width {
                let a = &a[self.a.offset(y, x)..];
                let b = &b[self.b.offset(y, x)..];
                let at = (self.output.left + x) * self.output.channel_stride;
                let pixel = &mut row[at..at + channels];
                for ((sum, &a), &b) in pixel.iter_mut().zip(a).zip(b) {
                    *sum = self.terms.add(a, b);
                }
            }
        }
    }
}
