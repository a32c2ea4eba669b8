//! From a trained float graph to the int8 form that the runtime runs: static quantisation with ranges measured on
//! pictures.
//!
//! Activations are unsigned bytes with a scale and a zero point a tensor, weights signed bytes with a scale an output
//! channel, biases 32-bit integers. See [`Ranges`] for what calibration finds and [`QuantizeOptions`] for the choices.

mod bias_correction;
mod calibrate;
mod emit;
mod equalize;
mod error;
pub mod grid;
mod histogram;
mod manifest;
mod observe;
mod options;
mod pictures;
mod plan;
pub mod points;
pub mod qat;
mod qdq;
mod ranges;
pub mod report;
mod select;
pub mod sensitivity;
mod weights;

pub use calibrate::calibrate;
pub use error::QuantizeError;
pub use manifest::{Calibration, ManifestError, PictureList};
pub use observe::{CalibrationCrops, Progress, Watch};
pub use options::{DEFAULT_PERCENTILE, Form, Method, QuantizeOptions};
pub use pictures::{CalibrationPictures, open_for_calibration, sha256};
pub use plan::{points_of, prepare};
pub use ranges::{Range, Ranges};
pub use select::{Selection, keep_fewest};

use super::graph::Graph;
use plan::Plan;

/// The metadata key that says how a model was quantised; a float model has none.
pub const METADATA_KEY: &str = "facemark.quantization";

/// The quantised form of a float graph. It depends on nothing but the arguments.
///
/// # Errors
/// The graph is quantised already or has nothing to quantise, the ranges or the nodes to keep float are not its, or a
/// weight is not a finite number.
pub fn quantize(
    graph: &Graph,
    ranges: &Ranges,
    options: &QuantizeOptions,
) -> Result<Graph, QuantizeError> {
    let plan = Plan::new(graph, ranges, options)?;
    let mut quantized = match options.form {
        Form::QOperator => emit::qoperator(&plan)?,
        Form::Qdq => qdq::qdq(&plan)?,
    };
    quantized
        .metadata
        .insert(METADATA_KEY.to_owned(), describe(ranges, options));
    Ok(quantized)
}

/// The quantisation in a line of words.
fn describe(ranges: &Ranges, options: &QuantizeOptions) -> String {
    let mut words = format!(
        "int8 {}, ranges by {}, weights of {} bits",
        options.form,
        options.method,
        if options.reduce_range { 7 } else { 8 }
    );
    if !ranges.equalization.is_empty() {
        words += ", channels equalised";
    }
    if !ranges.bias_corrections.is_empty() {
        words += ", biases corrected";
    }
    if !options.keep_float.is_empty() {
        words += &format!(", in float: {}", options.keep_float.join(" "));
    }
    words
}
