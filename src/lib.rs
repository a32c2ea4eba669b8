//! facemark: live facial landmarks on a CPU, from labelled faces to an overlay.
//!
#![doc = include_str!("ARCHITECTURE.md")]

pub mod annotation;
pub mod crop;
pub mod detector;
pub mod engine;
pub mod evaluation;
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
pub mod sink;
pub mod smoothing;
pub mod source;
pub mod tracker;
#[cfg(feature = "train")]
pub mod train;
