//! Runs ONNX files on the CPU with tract, whose only user this is.
//!
//! [`Engine`] is a model of ours behind [`crate::model::Infer`]; [`RawModel`] runs any file on raw tensors, for parity
//! checks; [`Inspection`] says what a file becomes. Everything runs on the calling thread.

mod float_ops;
mod inspection;
mod kernels;
mod network;
mod plan;
mod raw;
#[cfg(test)]
mod tests;

pub use inspection::{InspectedNode, Inspection, Port};
pub use kernels::{KernelSet, UnknownKernelSet};
pub use network::Engine;
pub use raw::{RawModel, RawTensor};

/// Threads that a network runs on.
pub const THREADS: usize = 1;
