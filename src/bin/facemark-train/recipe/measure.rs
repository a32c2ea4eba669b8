//! What a trained model is: its int8 form, its errors beside those of answers that do not look, its speed.

use super::course::Run;
use crate::{failure::Failure, quantize::command};
use anyhow::anyhow;
use facemark::{
    annotation::Split,
    crop::CropRule,
    engine::{Engine, EngineOptions, Inspection},
    metrics::{FaceError, Percentiles},
    model::{Infer, ModelCard, Outputs, Task},
    train::{
        dataset::{Dataset, OpenOptions},
        evaluate::{Cases, LandmarkResult, MeanShape},
        fit::Trained,
        graph::Graph,
        loader::{Loader, LoaderConfig},
        quantize::{
            Calibration, CalibrationCrops, CalibrationPictures, Form, Method, PictureList,
            QuantizeOptions, Ranges, calibrate, open_for_calibration, quantize, sha256,
        },
        recipe::Recipe,
        report::course::{Measured, Speed, landmark_result},
        session::{Device, arithmetic_in_words},
        target::Batch,
    },
};
use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

/// Crops that ranges are measured on.
const CALIBRATION_CROPS: usize = 256;

/// A model in its two forms, and their files.
#[derive(Clone)]
pub(super) struct Models {
    pub(super) card: ModelCard,
    pub(super) float: Graph,
    pub(super) int8: Graph,
    pub(super) float_path: PathBuf,
    pub(super) int8_path: PathBuf,
}

/// An int8 form and what it was made from.
pub(super) struct Quantized {
    pub(super) graph: Graph,
    pub(super) calibration: Calibration,
}

impl Quantized {
    /// With the ranges of a quantisation-aware training when there are some, else with ranges measured on the training
    /// pictures.
    pub(super) fn make(
        run: &Run<'_>,
        trained: &Trained,
        float: &Graph,
        ranges: Ranges,
    ) -> Result<Self, Failure> {
        let hash = sha256(&float.to_onnx());
        let name = &trained.card.name;
        let calibration = if ranges.values.is_empty() {
            measured_calibration(run, trained, float, hash)?
        } else {
            let how = trained.recipe.quantization.clone().unwrap_or_default();
            let options = QuantizeOptions {
                method: Method::Training,
                reduce_range: how.reduce_range,
                equalize: false,
                bias_correction: false,
                keep_float: how.keep_float,
                form: Form::QOperator,
            };
            Calibration::new(name, hash, command(), options, None, ranges)
        };
        Ok(Self {
            graph: quantize(float, &calibration.ranges, &calibration.options)?,
            calibration,
        })
    }
}

fn measured_calibration(
    run: &Run<'_>,
    trained: &Trained,
    float: &Graph,
    hash: String,
) -> Result<Calibration, Failure> {
    let (sources, seed) = (&trained.recipe.data, trained.recipe.seed);
    let dataset = open_for_calibration(sources, &trained.card, Some(Split::Train))?;
    let pictures =
        CalibrationPictures::take(&dataset, sources, &trained.card, CALIBRATION_CROPS, seed)?;
    let crops = CalibrationCrops {
        card: &trained.card,
        crops: &pictures.crops,
    };
    let options = QuantizeOptions::default();
    let mut watch = |_| !run.stop.load(Ordering::Relaxed);
    let ranges = calibrate(float, &crops, &options, &mut watch)?;
    let list = PictureList {
        data: sources.iter().map(|source| source.path.clone()).collect(),
        split: Some(Split::Train.name().to_owned()),
        seed,
        arithmetic: arithmetic_in_words()?,
        crops: pictures.crops.len(),
        sha256: pictures.hashes,
    };
    Ok(Calibration::new(
        &trained.card.name,
        hash,
        command(),
        options,
        Some(list),
        ranges,
    ))
}

/// The errors of a model on a split.
pub(super) struct MeasuredSet {
    pub(super) float: LandmarkResult,
    pub(super) int8: LandmarkResult,
    baselines: Vec<(String, Vec<FaceError>)>,
}

impl MeasuredSet {
    pub(super) fn view<'a>(
        &'a self,
        name: String,
        note: String,
        card: &'a ModelCard,
        dataset: &'a Dataset,
    ) -> Measured<'a> {
        Measured {
            name,
            note,
            card,
            dataset,
            float: &self.float,
            int8: &self.int8,
            baselines: self.baselines.clone(),
        }
    }
}

/// Measures both forms of a model on `dataset`, beside the mean shape of the training pictures of `recipe`.
pub(super) fn measure(
    run: &Run<'_>,
    models: &Models,
    dataset: &Dataset,
    recipe: &Recipe,
) -> Result<MeasuredSet, Failure> {
    let options = OpenOptions {
        split: Some(Split::Train),
        scheme: Some(recipe.scheme),
        check_pictures: false,
        ..OpenOptions::default()
    };
    let train = Dataset::open_all(&recipe.data, &options)?;
    let Task::Landmarks { crop, .. } = models.card.task else {
        return Err(Failure::input(anyhow!(
            "a recipe of these commands is for landmarks"
        )));
    };
    let shape = |rule| MeanShape::of(&train, recipe.scheme, rule);
    let cases = Cases::prepare(dataset, None, &models.card, shape(crop), 0)?;
    let threads = run.arguments.runtime.threads();
    let evaluate = |graph: &Graph, device| -> Result<LandmarkResult, Failure> {
        let evaluation = cases.evaluate(graph, &models.card, device, threads)?;
        landmark_result(evaluation).ok_or_else(|| Failure::input(anyhow!("not a landmark model")))
    };
    let mut baselines = Vec::new();
    if let Cases::Landmarks(cases) = &cases {
        let in_box = CropRule::AroundFace { margin: 1.0 };
        let answers = [
            (
                "mean position",
                CropRule::WholeFrame,
                !matches!(crop, CropRule::AroundFace { .. }),
            ),
            ("mean shape in the true box", in_box, true),
        ];
        for (name, rule, _) in answers.into_iter().filter(|answer| answer.2) {
            if let Some(shape) = shape(rule) {
                baselines.push((name.to_owned(), cases.errors_of_shape(&shape, rule)));
            }
        }
    }
    Ok(MeasuredSet {
        float: evaluate(&models.float, run.arguments.runtime.device())?,
        // The integer operators are the processor's.
        int8: evaluate(&models.int8, Device::Cpu)?,
        baselines,
    })
}

/// The first batch of a training.
pub(super) fn sample(trained: &Trained, threads: usize) -> Result<Batch, Failure> {
    let recipe = &trained.recipe;
    let options = OpenOptions {
        split: Some(Split::Train),
        scheme: Some(recipe.scheme),
        check_pictures: false,
        ..OpenOptions::default()
    };
    let dataset = Dataset::open_all(&recipe.data, &options)?;
    let card = &trained.card;
    let config = LoaderConfig {
        batches_per_epoch: Some(1),
        seed: recipe.seed,
        threads,
        ahead: 1,
        color: card.color,
        normalization: card.normalization,
        negative_share: 0.0,
        augment: recipe.augment.clone(),
        ..LoaderConfig::new(
            card.task.clone(),
            card.input_width,
            card.input_height,
            SAMPLES,
        )
    };
    let mut loader = Loader::new(Arc::new(dataset), None, config).map_err(Failure::input)?;
    loader.next_batch().map_err(Failure::running)
}

/// Training examples that a report shows.
const SAMPLES: usize = 18;

/// Runs before the clock, and the seconds and runs that the clock sees at most.
const WARM_UP: usize = 3;
const SECONDS: f64 = 3.0;
const RUNS: usize = 300;

/// The time of a run of each form in facemark's engine.
pub(super) fn speeds(models: &Models) -> Result<Vec<Speed>, Failure> {
    [&models.float_path, &models.int8_path]
        .into_iter()
        .map(|path| {
            let options = EngineOptions::default();
            let inspection = Inspection::of(path, &options)?;
            let mut engine = Engine::load_with(path, &options)?;
            let crop = models.card.new_crop();
            let mut outputs = Outputs::default();
            let mut milliseconds = Vec::new();
            let began = Instant::now();
            for index in 0..WARM_UP + RUNS {
                let start = Instant::now();
                engine
                    .infer(&crop, &mut outputs)
                    .map_err(Failure::running)?;
                if index >= WARM_UP {
                    milliseconds.push(start.elapsed().as_secs_f64() * 1000.0);
                    if began.elapsed().as_secs_f64() > SECONDS {
                        break;
                    }
                }
            }
            Ok(Speed {
                model: path
                    .file_name()
                    .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
                bytes: std::fs::metadata(path).map_err(Failure::running)?.len() as usize,
                mmac: inspection.mmac,
                milliseconds: Percentiles::of(&milliseconds)
                    .ok_or_else(|| Failure::running(anyhow!("no run was timed")))?,
                runs: milliseconds.len(),
            })
        })
        .collect()
}
