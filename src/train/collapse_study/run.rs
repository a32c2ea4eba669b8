//! One run: its training, its curves and its symptoms.

use super::{
    StudyOptions,
    cases::{Case, Group, Plan},
};
use crate::{
    annotation::Split,
    metrics::{FaceError, mean},
    train::{
        dataset::{Dataset, Label, OpenOptions},
        evaluate::MeanShape,
        fit::{Event, Evidence, Finding, FitError, FitOptions, Ready, Start, fit},
        progress::Validation,
        recipe::Recipe,
        whole_file::write_whole,
    },
};
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

/// Points of a loss curve.
const LOSS_POINTS: usize = 60;
/// Last loss over first below which the loss has fallen.
const FALLEN: f64 = 0.5;
/// Mean change between two validations, over their mean, from which the validation jumps about.
const JUMPING: f64 = 0.05;
/// Prediction variance ratio below which predictions vary far less than labels.
const LITTLE_VARIANCE: f64 = 0.25;
/// MAE over the mean shape's from which they are about the same.
const NEAR_MEAN_SHAPE: f64 = 0.85;

/// Figures after a stretch of steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochFigures {
    /// Steps done.
    pub step: u64,
    /// Mean training loss of the stretch.
    pub loss: f64,
    /// Mean NME on validation, in percent.
    pub nme: f64,
    /// MAE on validation, in pixels of the original pictures.
    pub mae_px: f64,
    /// Prediction variance ratio on validation.
    pub variance_ratio: f64,
}

/// The symptoms of the collapse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symptoms {
    /// The training loss falls.
    pub loss_falls: bool,
    /// The validation jumps about.
    pub validation_jumps: bool,
    /// Predictions vary far less than labels.
    pub little_variance: bool,
    /// The MAE is about the mean shape's.
    pub mean_shape_error: bool,
}

impl Symptoms {
    /// Whether the model says the average face.
    pub fn average_face(&self) -> bool {
        self.little_variance && self.mean_shape_error
    }
}

/// What a run gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub group: Group,
    /// What is wrong in it.
    pub words: String,
    /// Steps of the whole run.
    pub steps: u64,
    /// Batch.
    pub batch: usize,
    /// Step at which numbers stopped being finite.
    pub diverged_at: Option<u64>,
    /// Mean training loss of each of some stretches.
    pub loss_curve: Vec<f64>,
    /// The validations.
    pub epochs: Vec<EpochFigures>,
    /// NME of the mean shape in each box, in percent.
    pub mean_shape_nme: f64,
    /// MAE of the mean shape in each box, in pixels of the original pictures.
    pub mean_shape_mae_px: f64,
    /// Mean change between two validations of the second half, over their mean.
    pub validation_jump: f64,
    /// The symptoms.
    pub symptoms: Symptoms,
    /// What the training's diagnosis says.
    pub findings: Vec<Finding>,
    /// What was measured at the last look: dead channels, part of the last hidden layer that depends on the picture,
    /// longest step over the length of the weights.
    pub dead_channels: f64,
    /// See `dead_channels`.
    pub picture_share: f64,
    /// See `dead_channels`.
    pub relative_step: Option<f64>,
    /// Seconds.
    pub seconds: f64,
}

impl RunResult {
    /// The figures at the end.
    pub fn last(&self) -> Option<&EpochFigures> {
        self.epochs.last()
    }
}

/// Trains `case` below `folder`.
pub(super) fn run(
    case: &Case,
    options: &StudyOptions,
    folder: &Path,
) -> Result<(RunResult, Ready), FitError> {
    let mut plan = Plan::sound(&options.data, options.seed);
    (case.change)(&mut plan);
    let faults = plan.recipe.faults.unwrap_or_default();
    let open = |split| -> Result<Dataset, FitError> {
        let mut dataset = Dataset::open_all(
            &plan.recipe.data,
            &OpenOptions {
                split: Some(split),
                scheme: Some(plan.recipe.scheme),
                check_pictures: false,
                ..OpenOptions::default()
            },
        )?;
        faults.spoil_labels(&mut dataset);
        Ok(dataset)
    };
    let (training, validation) = (open(Split::Train)?, open(Split::Val)?);
    let (mean_shape_nme, mean_shape_mae_px) =
        mean_shape_errors(&plan.recipe, &training, &validation);
    let output = folder.join(case.name);
    let model = folder.join(format!("{}.onnx", case.name));
    let onnx = plan.net.build(&plan.recipe.name, options.seed)?.to_onnx();
    write_whole(&model, &onnx).map_err(|source| FitError::Write {
        path: model.clone(),
        source,
    })?;
    plan.recipe.init = Some(model);
    plan.recipe.steps_per_epoch =
        plan.steps_per_stretch(training.examples.len(), options.share_of_steps);

    let mut seen = Seen::default();
    let began = std::time::Instant::now();
    let outcome = fit(
        Start::New(Box::new(plan.recipe.clone())),
        &FitOptions {
            output,
            device: options.device,
            threads: options.threads,
            loader_threads: options.threads,
            sitting_epochs: None,
            report: false,
            stop: Arc::new(AtomicBool::new(false)),
        },
        &mut |event| seen.event(event),
    );
    let diverged_at = match outcome {
        Ok(_) => None,
        Err(FitError::NotFinite { step, .. }) => Some(step),
        Err(error) => return Err(error),
    };
    let ready = seen
        .ready
        .take()
        .unwrap_or_else(|| unreachable!("a training that runs was ready"));
    let last = seen.evidence.take().unwrap_or_default();
    let channels: usize = last.relus.iter().map(|relu| relu.channels).sum();
    let dead: f64 = last
        .relus
        .iter()
        .map(|relu| relu.dead * relu.channels as f64)
        .sum();
    let jump = validation_jump(&seen.epochs);
    Ok((
        RunResult {
            name: case.name.to_owned(),
            group: case.group,
            words: case.words.to_owned(),
            steps: ready.total_steps,
            batch: plan.recipe.batch,
            diverged_at,
            symptoms: symptoms(&seen, jump, mean_shape_mae_px),
            loss_curve: stretches(&seen.losses, LOSS_POINTS),
            epochs: seen.epochs,
            mean_shape_nme,
            mean_shape_mae_px,
            validation_jump: jump,
            findings: seen.findings,
            dead_channels: dead / channels.max(1) as f64,
            picture_share: last.relus.last().map_or(0.0, |relu| relu.picture_share),
            relative_step: last.relative_step,
            seconds: began.elapsed().as_secs_f64(),
        },
        ready,
    ))
}

/// What a run's events leave.
#[derive(Default)]
struct Seen {
    ready: Option<Ready>,
    losses: Vec<f64>,
    epochs: Vec<EpochFigures>,
    evidence: Option<Evidence>,
    findings: Vec<Finding>,
}

impl Seen {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Ready(ready) => self.ready = Some((*ready).clone()),
            Event::Step(step) => self.losses.push(step.loss),
            Event::Diagnosis { evidence, findings } => {
                self.evidence = Some((*evidence).clone());
                self.findings.extend_from_slice(findings);
            }
            Event::Epoch { record, .. } => {
                if let Some(Validation::Landmarks(result)) = &record.validation {
                    self.epochs.push(EpochFigures {
                        step: record.step,
                        loss: record.loss,
                        nme: result.summary.nme_mean.unwrap_or(f64::NAN),
                        mae_px: result.summary.mae_px.unwrap_or(f64::NAN),
                        variance_ratio: result.prediction_variance_ratio.unwrap_or(f64::NAN),
                    });
                }
            }
        }
    }
}

fn symptoms(seen: &Seen, jump: f64, mean_shape_mae_px: f64) -> Symptoms {
    let curve = stretches(&seen.losses, LOSS_POINTS);
    let falls = match (curve.first(), curve.last()) {
        (Some(first), Some(last)) => *last < FALLEN * first,
        _ => false,
    };
    let last = seen.epochs.last();
    Symptoms {
        loss_falls: falls,
        validation_jumps: jump > JUMPING,
        little_variance: last.is_some_and(|last| last.variance_ratio < LITTLE_VARIANCE),
        mean_shape_error: last
            .is_some_and(|last| last.mae_px > NEAR_MEAN_SHAPE * mean_shape_mae_px),
    }
}

/// Mean change between two validations of the second half, over their mean; 0 when there are too few.
fn validation_jump(epochs: &[EpochFigures]) -> f64 {
    let half: Vec<f64> = epochs[epochs.len() / 2..]
        .iter()
        .map(|figures| figures.nme)
        .collect();
    let changes: Vec<f64> = half
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).abs())
        .collect();
    match (mean(&changes), mean(&half)) {
        (Some(change), Some(level)) if level > 0.0 => change / level,
        _ => 0.0,
    }
}

/// Means of at most `count` stretches of about the same length.
fn stretches(values: &[f64], count: usize) -> Vec<f64> {
    let length = values.len().div_ceil(count).max(1);
    values.chunks(length).filter_map(mean).collect()
}

/// NME and MAE of the mean training shape in each validation box.
fn mean_shape_errors(recipe: &Recipe, training: &Dataset, validation: &Dataset) -> (f64, f64) {
    let Some(shape) = MeanShape::of(training, recipe.scheme, super::net::RULE) else {
        return (f64::NAN, f64::NAN);
    };
    let errors: Vec<FaceError> = validation
        .examples
        .iter()
        .filter_map(|example| {
            let Label::Landmarks {
                points, face_box, ..
            } = &example.label
            else {
                return None;
            };
            FaceError::measure(
                recipe.scheme,
                &shape.in_box(face_box),
                points,
                example.normalizing_length()?,
                example.original_scale,
            )
        })
        .collect();
    let of = |value: fn(&FaceError) -> f64| {
        mean(&errors.iter().map(value).collect::<Vec<f64>>()).unwrap_or(f64::NAN)
    };
    (of(|error| error.nme), of(|error| error.mae_px))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(nme: f64) -> EpochFigures {
        EpochFigures {
            step: 0,
            loss: 1.0,
            nme,
            mae_px: nme,
            variance_ratio: 0.1,
        }
    }

    #[test]
    fn a_validation_jumps_when_its_second_half_does() {
        let calm: Vec<EpochFigures> = [30.0, 9.0, 18.0, 10.0, 10.1, 10.0, 10.1]
            .map(figures)
            .to_vec();
        let wild: Vec<EpochFigures> = [10.0, 10.0, 10.0, 10.0, 14.0, 9.0, 13.0]
            .map(figures)
            .to_vec();
        assert!(
            validation_jump(&calm) < JUMPING,
            "{}",
            validation_jump(&calm)
        );
        assert!(validation_jump(&wild) > JUMPING);
        assert_eq!(validation_jump(&[]), 0.0);
    }

    #[test]
    fn symptoms_are_read_off_curves_and_figures() {
        let seen = Seen {
            losses: vec![1.0, 0.6, 0.3, 0.2],
            epochs: vec![figures(12.0), figures(11.0)],
            ..Seen::default()
        };
        let found = symptoms(&seen, 0.2, 12.0);
        assert!(found.loss_falls && found.validation_jumps && found.average_face());
        assert!(!symptoms(&seen, 0.2, 24.0).average_face());
    }
}
