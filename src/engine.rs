//! Runs ONNX files on the CPU with tract, whose only user this is.
//!
//! [`Engine`] is a model of ours behind [`crate::model::Infer`]; [`RawModel`] runs any file on raw tensors, for parity
//! checks; [`Inspection`] says what a file becomes. [`EngineOptions`] choose kernels and threads.

mod float_ops;
mod inspection;
mod kernels;
mod network;
mod options;
mod plan;
mod qops;
mod raw;
#[cfg(test)]
mod tests;
mod timing;
mod translate;

pub use inspection::{InspectedNode, Inspection, Port};
pub use kernels::{KernelSet, UnknownKernelSet};
pub use network::Engine;
pub use options::EngineOptions;
pub use raw::{RawModel, RawTensor};
pub use timing::LayerTime;
