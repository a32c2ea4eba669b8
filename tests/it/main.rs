//! facemark's integration tests, in one binary: each further one would link tract again.
//!
//! A module per subject. Modules that need the training side carry `#[cfg(feature = "train")]`.

#![allow(
    clippy::print_stdout,
    clippy::result_large_err,
    clippy::unwrap_used,
    reason = "a test may say that it is skipped, pass errors on as they are and stop at the first surprise"
)]

mod allocations;
mod architecture;
mod cli_errors;
#[cfg(feature = "train")]
mod diagnosis;
mod evaluation;
#[cfg(feature = "train")]
mod fit;
mod fixtures;
#[cfg(feature = "train")]
mod gradients;
#[cfg(feature = "train")]
mod graph;
mod int8_bundle;
mod int8_engine;
mod int8_hostile;
mod int8_models;
#[cfg(feature = "train")]
mod int8_parity;
mod live;
#[cfg(feature = "train")]
mod onnx_files;
mod outputs;
#[cfg(feature = "train")]
mod parity;
mod pose;
#[cfg(feature = "train")]
mod quantization_aware;
#[cfg(feature = "train")]
mod quantize;
#[cfg(feature = "train")]
mod recipe_program;
mod sockets;
mod tiny_model;
mod tracking;
#[cfg(feature = "train")]
mod train_program;
#[cfg(feature = "train")]
mod training;
#[cfg(feature = "window")]
mod window;
