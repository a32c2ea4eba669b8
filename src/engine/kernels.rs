//! Integer kernels of the int8 runtime: packed once for one instruction set, run without allocating. Independent of tract.
//!
//! A kernel object (`Convolution`, `FullyConnected`, `Add`, ...) is built from fixed geometry and quantisation for one
//! [`KernelSet`] and then `run` on byte slices. Maps are channels-last with a border ([`Layout`]); whoever produces a map
//! fills its border, so no kernel looks at edges. Every kernel that writes a map writes a range of its rows into the slice
//! that holds just those rows ([`Layout::row_range`]), so rows can be spread over threads with `split_at_mut` alone; it
//! fills the left and right border of those rows, and [`fill_border`] fills the rows above and below once.
//!
//! `portable` is the reference: plain scalar code to be read against the formulas in `arithmetic`. All other sets give the
//! same bytes.
#![allow(
    unsafe_code,
    reason = "SIMD intrinsics and the pointers they load through"
)]
#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "`simd` has instances for x86-64 alone")
)]

mod add;
mod arithmetic;
mod convolution;
mod copy;
mod float;
pub(super) mod float_depthwise;
mod fully_connected;
mod heat_map;
mod layout;
#[cfg(any(target_arch = "aarch64", all(target_arch = "arm", facemark_arm_neon)))]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_dot;
mod packing;
mod peak;
mod pool;
mod portable;
mod simd;
#[cfg(test)]
mod tests;
mod threads;

use std::{fmt, str::FromStr};

pub(crate) use self::{
    add::Add,
    arithmetic::AddSpec,
    convolution::{ConvSpec, Convolution, ResidualSpec},
    copy::{Copy, ResizeNearest},
    float::{Dequantize, QuantizePlanes},
    fully_connected::{FullyConnected, FullyOutput, FullySpec},
    heat_map::{HeatMapMean, MOST_AXES},
    layout::{Buffer, Layout, fill_border},
    peak::peak_gmacs,
    pool::{GlobalAveragePool, MaxPool, PoolSpec},
    threads::{MOST_PARTS, Pool},
};

/// An instruction set that the integer kernels are written for. All give the same bytes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum KernelSet {
    /// Plain Rust, any machine.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// AVX2 with the byte dot product in its VEX form.
    AvxVnni,
    /// AVX-512 with the byte dot product.
    Avx512Vnni,
    /// ARM with NEON.
    Neon,
    /// 64-bit ARM with the byte dot product.
    NeonDot,
}

impl KernelSet {
    /// Every set, slowest first on each architecture.
    pub const ALL: [Self; 6] = [
        Self::Portable,
        Self::Avx2,
        Self::AvxVnni,
        Self::Avx512Vnni,
        Self::Neon,
        Self::NeonDot,
    ];

    /// The fastest set that this machine can run.
    pub fn best() -> Self {
        let available = Self::available();
        available.last().copied().unwrap_or(Self::Portable)
    }

    /// The sets that this machine can run, slowest first.
    pub fn available() -> Vec<Self> {
        let runs = |set: &Self| set.is_available();
        Self::ALL.into_iter().filter(runs).collect()
    }

    /// Whether this machine can run the set.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => Self::Avx2.is_available() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(all(target_arch = "arm", facemark_arm_neon))]
            Self::Neon => std::arch::is_arm_feature_detected!("neon"),
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot => {
                Self::Neon.is_available() && std::arch::is_aarch64_feature_detected!("dotprod")
            }
            _ => false,
        }
    }

    /// The name on the command line: portable, avx2, avx-vnni, avx512-vnni, neon, neon-dot.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Neon => "neon",
            Self::NeonDot => "neon-dot",
        }
    }
}

impl fmt::Display for KernelSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A name that is no kernel set, or one that this machine cannot run.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no kernels `{name}` on this machine: it runs {}", names(available))]
pub struct UnknownKernelSet {
    /// What was asked for.
    pub name: String,
    /// What this machine runs.
    pub available: Vec<KernelSet>,
}

fn names(sets: &[KernelSet]) -> String {
    let names: Vec<&str> = sets.iter().map(|set| set.name()).collect();
    names.join(", ")
}

impl FromStr for KernelSet {
    type Err = UnknownKernelSet;

    /// A set by its name.
    ///
    /// # Errors
    /// The name of no set, or of one that this machine cannot run.
    fn from_str(name: &str) -> Result<Self, UnknownKernelSet> {
        let available = Self::available();
        let found = available.iter().find(|set| set.name() == name).copied();
        found.ok_or_else(|| UnknownKernelSet {
            name: name.to_owned(),
            available,
        })
    }
}
