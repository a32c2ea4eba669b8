//! Training: from labelled faces to a float ONNX model. Never part of the runtime.

pub mod augment;
pub mod dataset;
pub mod loader;
pub mod target;
