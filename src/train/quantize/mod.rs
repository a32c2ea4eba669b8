//! From a trained float graph to the int8 form that the runtime runs: static quantisation with ranges measured on
//! pictures.
//!
//! Activations are unsigned bytes with a scale and a zero point a tensor, weights signed bytes with a scale an output
//! channel, biases 32-bit integers. See [`Ranges`] for what calibration finds and [`QuantizeOptions`] for the choices.

mod error;
pub mod grid;
mod options;
pub mod points;
pub mod qat;
mod ranges;

pub use error::QuantizeError;
pub use options::{DEFAULT_PERCENTILE, Form, Method, QuantizeOptions};
pub use ranges::{Range, Ranges};
