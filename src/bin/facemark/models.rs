//! Where the released models lie, so that the commands work without `--model`.

use crate::failure::Failure;
use std::path::{Path, PathBuf};

/// The released landmark model.
pub(crate) const LANDMARKS: &str = "landmarks68-int8.onnx";
/// The released face detector.
pub(crate) const DETECTOR: &str = "face-detector-int8.onnx";

/// `given`, or else `models/NAME` under the current directory, the program's folder or one of its parents, in this
/// order.
pub(crate) fn model_path(given: Option<&Path>, name: &str) -> Result<PathBuf, Failure> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let program = std::env::current_exe().unwrap_or_default();
    let folders = std::iter::once(Path::new("")).chain(program.ancestors().skip(1));
    let candidates: Vec<PathBuf> = folders
        .map(|folder| folder.join("models").join(name))
        .collect();
    if let Some(found) = candidates.iter().find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    let looked: Vec<String> = candidates
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    Err(Failure::input(anyhow::anyhow!(
        "no model was given and {name} was not found; looked for {}",
        looked.join(", ")
    )))
}
