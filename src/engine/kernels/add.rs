//! The addition of two maps (QLinearAdd), where it is not fused to a convolution.

#[cfg(target_arch = "aarch64")]
use super::neon;
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
    kernel: Kernel,
}

#[derive(Clone, Copy, Debug)]
enum Kernel {
    Portable,
    Vectors(&'static Instance),
    /// 32-bit ARM may have no fused multiply-add.
    #[cfg(target_arch = "aarch64")]
    Neon,
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
        let has_lanes = output.channel_stride.is_multiple_of(LANES)
            && [a, b]
                .iter()
                .all(|map| map.channel_stride == output.channel_stride);
        let is_for_vectors = terms.is_moderate() && has_lanes;
        let instance = Instance::choose(set, true).filter(|_| is_for_vectors);
        let kernel = match set {
            #[cfg(target_arch = "aarch64")]
            KernelSet::Neon | KernelSet::NeonDot if set.is_available() && has_lanes => Kernel::Neon,
            _ => instance.map_or(Kernel::Portable, Kernel::Vectors),
        };
        Self {
            a,
            b,
            output,
            terms,
            zero: spec.output_zero,
            factors,
            kernel,
        }
    }

    /// The kernel in words.
    pub(crate) fn describe(&self) -> String {
        let kernel = match self.kernel {
            Kernel::Portable => "portable",
            Kernel::Vectors(instance) => instance.name,
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => "neon",
        };
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
            let row = &mut row[inside..];
            match self.kernel {
                Kernel::Portable => self.add_bytes(a, b, row),
                Kernel::Vectors(instance) => {
                    self.add_pieces(a, b, row, |a, b, sums| {
                        // SAFETY: the instance was chosen because the processor has its instructions; the maps were checked
                        // with their slack, which is no shorter than a vector; each slice holds what `sums` does.
                        unsafe {
                            let count = sums.len();
                            let sums = sums.as_mut_ptr();
                            (instance.add)(&self.terms, a.as_ptr(), b.as_ptr(), sums, count);
                        }
                    });
                }
                #[cfg(target_arch = "aarch64")]
                Kernel::Neon => {
                    self.add_pieces(a, b, row, |a, b, sums| {
                        neon::add_blocks(&self.terms, a, b, sums);
                    });
                }
            }
        }
    }

    /// One row, from its first pixels on, in as long pieces as lie one after the other in all maps. `add` gets slices of the
    /// operands that are at least as long as that of the sums.
    fn add_pieces(
        &self,
        a: &[u8],
        b: &[u8],
        row: &mut [u8],
        add: impl Fn(&[u8], &[u8], &mut [u8]),
    ) {
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
        for (piece, sums) in row.chunks_exact_mut(bytes).enumerate().take(pieces) {
            let a = &a[piece / from_a * channel_stride..];
            let b = &b[piece / from_b * channel_stride..];
            assert!(a.len() >= bytes && b.len() >= bytes);
            add(a, b, sums);
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
