//! facemark: live facial landmarks on a CPU, from labelled faces to an overlay.
//!
#![doc = include_str!("ARCHITECTURE.md")]
// NEON is not stable in Rust for 32-bit ARM; scripts/arm.sh sets the flag with a compiler that may use it all the same.
#![cfg_attr(
    all(target_arch = "arm", facemark_arm_neon),
    feature(
        arm_target_feature,
        stdarch_arm_feature_detection,
        stdarch_arm_neon_intrinsics
    )
)]

pub mod annotation;
pub mod crop;
pub mod detector;
pub mod engine;
pub mod evaluation;
pub mod finder;
pub mod frame;
pub mod geometry;
pub mod landmarker;
pub mod live;
pub mod metrics;
pub mod model;
pub mod onnx;
pub mod overlay;
pub mod picture;
pub mod pose;
pub mod scheme;
pub mod signals;
pub mod sink;
pub mod smoothing;
pub mod source;
pub mod tracker;
#[cfg(feature = "train")]
pub mod train;
