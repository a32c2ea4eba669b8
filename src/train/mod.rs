//! Training: from labelled faces to a float ONNX model. Never part of the runtime.

pub mod augment;
pub mod autodiff;
pub mod checkpoint;
pub mod collapse_study;
pub mod dataset;
pub mod evaluate;
pub mod export;
pub mod faults;
pub mod fit;
pub mod graph;
pub mod loader;
pub mod loss;
pub mod nn;
pub mod optimizer;
pub mod progress;
pub mod quantize;
pub mod recipe;
pub mod report;
pub mod schedule;
pub mod session;
pub mod step;
pub mod submission;
pub mod synthetic;
pub mod target;
pub mod whole_file;
