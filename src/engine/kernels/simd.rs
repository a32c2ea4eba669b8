//! Vector kernels: written once for [`vector::Vector`] and compiled for each instruction set.
//!
//! An instruction set is a type that implements `Vector` and an [`Instance`]: the kernels compiled for it, as functions with
//! its target features. `Instance::choose` says which one serves a kernel set.
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "nearly every operation here is an instruction that the processor must have: the contract of the function"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled; iterator adapters are not inlined for certain"
)]
#![allow(
    clippy::too_many_arguments,
    reason = "the signatures that all instruction sets share"
)]

mod dense;
mod depthwise;
mod finish;
mod maps;
mod peak;
mod vector;
#[cfg(target_arch = "x86_64")]
mod ymm;
#[cfg(target_arch = "x86_64")]
mod zmm;

pub(super) use self::{dense::Dense, depthwise::Depthwise, maps::Average, peak::PEAK_MACS};

use super::{
    KernelSet,
    arithmetic::AddTerms,
    convolution::{ConvSpec, Epilogue, Geometry},
    packing::{DenseBlock, DenseWeights},
};
use std::{fmt, ops::Range};

type Pack<T> = fn(&ConvSpec<'_>, &Geometry, &Epilogue) -> T;
type Run<T> = unsafe fn(&T, &Geometry, &Epilogue, Range<usize>, &[u8], Option<&[u8]>, &mut [u8]);
type Extent = (usize, usize);

/// The kernels of one instruction set. The functions are unsafe as those they are compiled from are.
pub(super) struct Instance {
    pub(super) name: &'static str,
    /// Bytes of a vector.
    pub(super) bytes: usize,
    pub(super) pack_dense: Pack<Dense>,
    pub(super) dense: Run<Dense>,
    pub(super) pack_depthwise: fn(&ConvSpec<'_>, &Epilogue, Range<usize>) -> Depthwise,
    pub(super) depthwise: Run<Depthwise>,
    pub(super) sums: unsafe fn(&DenseWeights, &DenseBlock, &[i32], *const u8, &mut [i32; 64]),
    pub(super) add: unsafe fn(&AddTerms, *const u8, *const u8, *mut u8, usize),
    pub(super) greatest: unsafe fn(*const u8, Extent, Extent, *mut u8, usize),
    pub(super) average: unsafe fn(&Average, *const u8, Extent, Extent, *mut u8, usize),
    /// Runs dot products of the given words in registers.
    pub(super) peak: unsafe fn(i16),
    /// Half as long vectors, for what remains of channels.
    pub(super) narrow: Option<&'static Instance>,
}

impl fmt::Debug for Instance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// Compiles all kernels for a vector type and target features into an [`Instance`].
#[cfg(target_arch = "x86_64")]
macro_rules! instance {
    ($module:ident, $vector:ty, $features:literal, $narrow:expr) => {
        mod $module {
            use super::*;

            pub(in crate::engine::kernels) static INSTANCE: Instance = Instance {
                name: <$vector as vector::Vector>::NAME,
                bytes: <$vector as vector::Vector>::BYTES,
                pack_dense: Dense::new::<$vector>,
                dense,
                pack_depthwise: Depthwise::new::<$vector>,
                depthwise,
                sums,
                add,
                greatest,
                average,
                peak,
                narrow: $narrow,
            };

            #[target_feature(enable = $features)]
            unsafe fn dense(
                kernel: &Dense,
                geometry: &Geometry,
                epilogue: &Epilogue,
                rows: Range<usize>,
                input: &[u8],
                other: Option<&[u8]>,
                output_rows: &mut [u8],
            ) {
                kernel.run::<$vector>(geometry, epilogue, rows, input, other, output_rows);
            }

            #[target_feature(enable = $features)]
            unsafe fn depthwise(
                kernel: &Depthwise,
                geometry: &Geometry,
                epilogue: &Epilogue,
                rows: Range<usize>,
                input: &[u8],
                other: Option<&[u8]>,
                output_rows: &mut [u8],
            ) {
                kernel.run::<$vector>(geometry, epilogue, rows, input, other, output_rows);
            }

            #[target_feature(enable = $features)]
            unsafe fn sums(
                weights: &DenseWeights,
                block: &DenseBlock,
                start: &[i32],
                input: *const u8,
                sums: &mut [i32; 64],
            ) {
                dense::sums::<$vector>(weights, block, start, input, sums);
            }

            #[target_feature(enable = $features)]
            unsafe fn add(
                terms: &AddTerms,
                a: *const u8,
                b: *const u8,
                output: *mut u8,
                count: usize,
            ) {
                maps::add::<$vector>(terms, a, b, output, count);
            }

            #[target_feature(enable = $features)]
            unsafe fn greatest(
                input: *const u8,
                rows: Extent,
                columns: Extent,
                output: *mut u8,
                count: usize,
            ) {
                maps::greatest::<$vector>(input, rows, columns, output, count);
            }

            #[target_feature(enable = $features)]
            unsafe fn peak(seed: i16) {
                peak::peak::<$vector>(seed);
            }

            #[target_feature(enable = $features)]
            unsafe fn average(
                average: &Average,
                input: *const u8,
                rows: Extent,
                columns: Extent,
                output: *mut u8,
                count: usize,
            ) {
                maps::average::<$vector>(average, input, rows, columns, output, count);
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
instance!(
    avx512,
    zmm::Zmm,
    "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni",
    Some(&avx512_half::INSTANCE)
);
#[cfg(target_arch = "x86_64")]
instance!(
    avx512_half,
    ymm::Ymm<ymm::Evex>,
    "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni",
    None
);
#[cfg(target_arch = "x86_64")]
instance!(avx_vnni, ymm::Ymm<ymm::Vnni>, "avx2,fma,avxvnni", None);
#[cfg(target_arch = "x86_64")]
instance!(avx2_words, ymm::Ymm<ymm::Words>, "avx2,fma", None);
#[cfg(target_arch = "x86_64")]
instance!(avx2_saturating, ymm::Ymm<ymm::Saturating>, "avx2,fma", None);

impl Instance {
    /// The instance for a set that the machine has; `None` for [`KernelSet::Portable`] and sets without vector kernels.
    /// `is_safe_in_16_bits` says whether the weights allow saturating 16-bit sums.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(unused_variables, reason = "there is no instance to choose")
    )]
    pub(super) fn choose(set: KernelSet, is_safe_in_16_bits: bool) -> Option<&'static Self> {
        if !set.is_available() {
            return None;
        }
        match set {
            #[cfg(target_arch = "x86_64")]
            KernelSet::Avx512Vnni => Some(&avx512::INSTANCE),
            #[cfg(target_arch = "x86_64")]
            KernelSet::AvxVnni => Some(&avx_vnni::INSTANCE),
            #[cfg(target_arch = "x86_64")]
            KernelSet::Avx2 if is_safe_in_16_bits => Some(&avx2_saturating::INSTANCE),
            #[cfg(target_arch = "x86_64")]
            KernelSet::Avx2 => Some(&avx2_words::INSTANCE),
            _ => None,
        }
    }

    /// The 256-bit kernels with the AVX-512 form of the byte dot product: what AVX-VNNI runs but for the encoding.
    #[cfg(all(test, target_arch = "x86_64"))]
    pub(super) fn avx512_half() -> Option<&'static Self> {
        KernelSet::Avx512Vnni
            .is_available()
            .then_some(&avx512_half::INSTANCE)
    }
}
