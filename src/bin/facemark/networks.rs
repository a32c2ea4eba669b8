//! Opens the networks that commands ask for, with the released ones as defaults.

use crate::{detector_size::DetectorSize, failure::Failure, models};
use facemark::{
    detector::{Detector, InputSize},
    engine::{Engine, EngineOptions},
    landmarker::Landmarker,
    model::{Infer, Task, WrongTask},
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

/// The face detector at `given`, or the released one. It sees pictures as `size` says, or `default` when that says
/// nothing; boxes count from `score_threshold` on, or from the usual one.
pub(crate) fn open_detector(
    given: Option<&Path>,
    (size, default): (&DetectorSize, InputSize),
    score_threshold: Option<f32>,
    options: &EngineOptions,
) -> Result<Detector<Engine>, Failure> {
    let path = models::model_path(given, models::DETECTOR)?;
    let mut engine = Engine::load_with(&path, options)?;
    let (mut config, edges) = size.resolve(default);
    config.score_threshold = score_threshold.unwrap_or(config.score_threshold);
    // A landmark network keeps its size, so that the error is about its task.
    if let (Some((width, height)), Task::FaceDetection { .. }) = (edges, &engine.card().task) {
        engine
            .set_input_size(width, height)
            .map_err(Failure::input)?;
    }
    Detector::new(engine, config).map_err(|error| unfit(&path, error))
}

/// A model of another task: the error names the model, this its file.
fn unfit(path: &Path, error: WrongTask) -> Failure {
    Failure::input(anyhow::Error::new(error).context(path.display().to_string()))
}
