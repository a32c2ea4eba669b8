//! facemark's integration tests, in one binary: each further one would link tract again.
//!
//! A module per subject. Modules that need the training side carry `#[cfg(feature = "train")]`.

#![allow(clippy::print_stdout, reason = "a test says when it is skipped")]

mod allocations;
mod architecture;
mod cli_errors;
mod evaluation;
#[cfg(feature = "train")]
mod fit;
mod fixtures;
#[cfg(feature = "train")]
mod gradients;
mod live;
#[cfg(feature = "train")]
mod onnx_files;
#[cfg(feature = "train")]
mod parity;
mod tiny_model;
#[cfg(feature = "train")]
mod train_program;
#[cfg(feature = "train")]
mod training;
