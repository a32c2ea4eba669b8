//! Opens the networks that commands ask for, with the released ones as defaults.

use crate::{failure::Failure, models};
use facemark::{
    detector::{Detector, DetectorConfig},
    engine::{Engine, EngineOptions},
    landmarker::Landmarker,
    model::WrongTask,
};
use std::path::Path;

/// The landmark network at `given`, or the released one.
pub(crate) fn open_landmarker(
    given: Option<&Path>,
    options: &EngineOptions,
) -> Result<Landmarker<Engine>, Failure> {
    let path = models::model_path(given, models::LANDMARKS)?;
    Landmarker::new(Engine::load_with(&path, options)?).map_err(|error| unfit(&path, error))
}

/// The face detector at `given`, or the released one.
pub(crate) fn open_detector(
    given: Option<&Path>,
    config: DetectorConfig,
    options: &EngineOptions,
) -> Result<Detector<Engine>, Failure> {
    let path = models::model_path(given, models::DETECTOR)?;
    Detector::new(Engine::load_with(&path, options)?, config).map_err(|error| unfit(&path, error))
}

/// A model of another task: the error names the model, this its file.
fn unfit(path: &Path, error: WrongTask) -> Failure {
    Failure::input(anyhow::Error::new(error).context(path.display().to_string()))
}
