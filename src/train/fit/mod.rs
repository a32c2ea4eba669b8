//! The training loop: batches through the training session, validation and a checkpoint after each epoch, and an exact
//! continuation from any checkpoint. It prints nothing: what happens goes to an observer as [`Event`]s and to the log.

mod constant_channels;
mod diagnosis;
mod error;
mod log;
mod restore;
mod setup;

pub use diagnosis::{
    BoxEvidence, Cause, Evidence, Finding, InputEvidence, LossEvidence, Memory, Moment,
    PredictionEvidence, ReluEvidence, Setting, ViewEvidence, diagnose,
};
pub use error::FitError;
pub use log::LOG;
pub use restore::{Trained, checkpoint_file, restore};
pub use setup::{SetSummary, loss_terms};

use super::{
    checkpoint::{BEST, Checkpoint, LATEST},
    dataset::Dataset,
    evaluate::{Cases, Evaluation, MeanShape},
    loader::Loader,
    progress::{EpochRecord, Progress, trouble_in_words},
    recipe::Recipe,
    report::Report,
    session::{Device, StepSettings, TrainingSession},
    step::{TrainingState, TrainingStep},
};
use crate::model::ModelCard;
use diagnosis::watch::{Place, Subject, Watch};
use log::Log;
use restore::trained_graph;
use setup::Setup;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// Where a training begins.
#[derive(Clone, Debug)]
pub enum Start {
    /// At the first step of a recipe.
    New(Box<Recipe>),
    /// Where the newest checkpoint of the output folder was written.
    Resume {
        /// When given, the recipe that the checkpoint must have been made with.
        expected: Option<Box<Recipe>>,
    },
}

/// How a sitting runs; none of it changes what is learnt.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// Folder for checkpoints, log and recipe; made when missing.
    pub output: PathBuf,
    /// Where the training step runs.
    pub device: Device,
    /// Threads of the training step; 0: one a core.
    pub threads: usize,
    /// Threads that make batches; 0: one a core.
    pub loader_threads: usize,
    /// Stop after so many epochs of this sitting.
    pub sitting_epochs: Option<usize>,
    /// Write the report (see `train::report`) into the folder `report` of `output` after the last epoch.
    pub report: bool,
    /// Set from outside: finish the step, write a checkpoint, return.
    pub stop: Arc<AtomicBool>,
}

/// What an observer is told.
#[derive(Debug)]
pub enum Event<'a> {
    /// Everything is ready.
    Ready(&'a Ready),
    /// A step is done.
    Step(&'a StepEvent),
    /// The training was looked at (see [`diagnose`]).
    Diagnosis {
        /// What was measured.
        evidence: &'a Evidence,
        /// What is likely wrong and was not said before.
        findings: &'a [Finding],
    },
    /// An epoch is done and validated; with a warning when something is wrong with the training.
    Epoch {
        /// The log's record.
        record: &'a EpochRecord,
        /// What is wrong, in words.
        warning: Option<&'a str>,
        /// Whether it is the best so far.
        best: bool,
    },
}

/// What is known before the first step.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The training sets.
    pub sets: Vec<SetSummary>,
    /// Records that were left out, with the first reasons.
    pub skipped: Vec<String>,
    /// Number of records that were left out.
    pub skipped_count: usize,
    /// Validation faces or pictures.
    pub validation_cases: usize,
    /// Trainable numbers.
    pub parameters: usize,
    /// Where the step runs, in words.
    pub device: String,
    /// Steps an epoch.
    pub steps_per_epoch: usize,
    /// Steps of the whole training.
    pub total_steps: u64,
    /// Steps done in earlier sittings.
    pub done_steps: u64,
}

/// A step, as an observer sees it.
#[derive(Clone, Debug)]
pub struct StepEvent {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Steps done in all, this one included.
    pub step: u64,
    /// Its loss.
    pub loss: f64,
    /// Its learning rate.
    pub learning_rate: f64,
    /// Pictures a second in this sitting, validation left out.
    pub pictures_per_second: f64,
}

/// How a sitting ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether the last epoch is done.
    pub complete: bool,
    /// How far the training is.
    pub progress: Progress,
    /// What is wrong with the result, in words.
    pub warning: Option<String>,
    /// The report's page, when one was written.
    pub report: Option<PathBuf>,
}

/// Trains until the recipe's last epoch, the sitting's end or a stop from outside.
///
/// # Errors
/// See [`FitError`]. The newest checkpoint is kept whatever happens.
pub fn fit(
    start: Start,
    options: &FitOptions,
    observe: &mut dyn FnMut(&Event<'_>),
) -> Result<Outcome, FitError> {
    let setup = Setup::prepare(start, options)?;
    let mut training = Training::begin(setup, options)?;
    observe(&Event::Ready(&training.ready()));
    training.run(options, observe)
}

/// A training under way.
struct Training {
    recipe: Recipe,
    card: ModelCard,
    forward_onnx: Vec<u8>,
    mean_shape: Option<MeanShape>,
    step: TrainingStep,
    session: TrainingSession,
    loader: Loader,
    cases: Cases,
    validation: Dataset,
    progress: Progress,
    log: Log,
    watch: Watch,
    output: PathBuf,
    threads: usize,
    sets: Vec<SetSummary>,
    skipped: Vec<String>,
    skipped_count: usize,
}

impl Training {
    fn begin(setup: Setup, options: &FitOptions) -> Result<Self, FitError> {
        let device = options.device.resolve()?;
        let terms = loss_terms(&setup.recipe, &setup.card, &setup.forward);
        let step = TrainingStep::build_part(
            &setup.forward,
            setup.recipe.batch,
            &terms,
            &setup.recipe.optimizer,
            device.backend(),
            &|name| setup.recipe.learns(name),
        )?;
        let state = match &setup.resumed {
            Some(checkpoint) => checkpoint.state(&step)?,
            None => step.initial_state(),
        };
        let session = TrainingSession::new(&step, device, options.threads, state)?;
        let log = Log::open(&options.output, setup.progress.step)?;
        let watch = Watch::new(
            &setup.recipe,
            &setup.card,
            &setup.forward,
            terms,
            setup.boxes,
            &setup.loader,
        );
        Ok(Self {
            recipe: setup.recipe,
            card: setup.card,
            forward_onnx: setup.forward_onnx,
            mean_shape: setup.mean_shape,
            step,
            session,
            loader: setup.loader,
            cases: setup.cases,
            validation: setup.validation,
            progress: setup.progress,
            log,
            watch,
            output: options.output.clone(),
            threads: options.threads,
            sets: setup.sets,
            skipped: setup.skipped,
            skipped_count: setup.skipped_count,
        })
    }

    fn ready(&self) -> Ready {
        Ready {
            sets: self.sets.clone(),
            skipped: self.skipped.clone(),
            skipped_count: self.skipped_count,
            validation_cases: self.cases.count(),
            parameters: self.step.parameter_count(),
            device: self.session.device().to_string(),
            steps_per_epoch: self.loader.batches_per_epoch(),
            total_steps: self.total_steps(),
            done_steps: self.progress.step,
        }
    }

    fn total_steps(&self) -> u64 {
        (self.recipe.epochs * self.loader.batches_per_epoch()) as u64
    }

    fn run(
        &mut self,
        options: &FitOptions,
        observe: &mut dyn FnMut(&Event<'_>),
    ) -> Result<Outcome, FitError> {
        let last_epoch = match options.sitting_epochs {
            Some(epochs) => self.recipe.epochs.min(self.progress.epoch + epochs),
            None => self.recipe.epochs,
        };
        if self.progress.step == 0 {
            self.look(observe)?;
        }
        let mut warning = None;
        let mut rate = Rate::default();
        while self.progress.epoch < last_epoch {
            while self.progress.step_in_epoch < self.loader.batches_per_epoch() {
                if options.stop.load(Ordering::Relaxed) {
                    self.write_checkpoint(LATEST)?;
                    return Ok(self.outcome(warning));
                }
                let event = self.train_step(&mut rate)?;
                observe(&Event::Step(&event));
            }
            warning = self.finish_epoch(observe)?;
        }
        let mut outcome = self.outcome(warning);
        if outcome.complete && options.report {
            outcome.report = Some(self.write_report()?);
        }
        Ok(outcome)
    }

    fn outcome(&self, warning: Option<String>) -> Outcome {
        Outcome {
            complete: self.progress.epoch >= self.recipe.epochs,
            progress: self.progress.clone(),
            warning,
            report: None,
        }
    }

    /// The report on the best checkpoint.
    fn write_report(&mut self) -> Result<PathBuf, FitError> {
        let best = restore(&self.output, None)?;
        let device = self.session.device();
        let evaluation = self
            .cases
            .evaluate(&best.graph, &self.card, device, self.threads)?;
        let sample = self.loader.next_batch()?;
        let report = Report {
            folder: self.output.join("report"),
            title: format!("Training of {}", self.card.name),
            card: &self.card,
            evaluation: &evaluation,
            dataset: &self.validation,
            history: &self.progress.history,
            sample: Some(&sample),
        };
        Ok(report.write()?)
    }

    fn train_step(&mut self, rate: &mut Rate) -> Result<StepEvent, FitError> {
        let began = Instant::now();
        let batch = self.loader.next_batch()?;
        let learning_rate = self
            .recipe
            .schedule
            .learning_rate(self.progress.step, self.total_steps());
        let before = self.state_before_step()?;
        let report = self.session.step(&batch, &StepSettings { learning_rate })?;
        if let Some(before) = before {
            let relative = Watch::relative_step(&before, &self.session.state()?);
            self.progress.memory.add_step(relative);
        }
        let loss = f64::from(report.loss);
        let event = StepEvent {
            epoch: self.progress.epoch + 1,
            step: self.progress.step + 1,
            loss,
            learning_rate: f64::from(learning_rate),
            pictures_per_second: rate.add(self.recipe.batch, began),
        };
        if !loss.is_finite() || !report.gradient_norm.is_finite() {
            return Err(FitError::NotFinite {
                loss,
                gradient_norm: f64::from(report.gradient_norm),
                step: event.step,
                epoch: event.epoch,
                learning_rate: event.learning_rate,
            });
        }
        self.progress.step += 1;
        self.progress.step_in_epoch += 1;
        self.progress.loss_sum += loss;
        let total_steps = self.total_steps();
        self.progress.memory.add_loss(loss, total_steps);
        for (name, value) in &report.terms {
            *self.progress.term_sums.entry(name.clone()).or_default() += f64::from(*value);
        }
        self.progress.seconds += began.elapsed().as_secs_f64();
        self.log.step(&event, &report)?;
        Ok(event)
    }

    /// The state, when the coming step is one that is measured.
    fn state_before_step(&self) -> Result<Option<TrainingState>, FitError> {
        let Progress {
            epoch,
            step_in_epoch,
            ..
        } = self.progress;
        if !Watch::measures_step(epoch, step_in_epoch, self.loader.batches_per_epoch()) {
            return Ok(None);
        }
        Ok(Some(self.session.state()?))
    }

    /// Looks for what is likely wrong. A network that cannot be looked into is no reason to stop.
    fn look(&mut self, observe: &mut dyn FnMut(&Event<'_>)) -> Result<(), FitError> {
        let place = Place {
            steps: self.progress.step,
            total_steps: self.total_steps(),
            epoch: self.progress.epoch,
            steps_per_pass: self.sets.iter().map(|set| set.examples).sum::<usize>() as f64
                / self.recipe.batch as f64,
        };
        if !Watch::is_due(&place, &mut self.progress.memory) {
            return Ok(());
        }
        let state = self.session.state()?;
        let subject = Subject {
            step: &self.step,
            state: &state,
            device: self.session.device(),
            threads: self.threads,
        };
        match self.watch.look(&subject, &place, &mut self.progress.memory) {
            Ok((evidence, findings)) => {
                self.log.diagnosis(&evidence, &findings)?;
                observe(&Event::Diagnosis {
                    evidence: &evidence,
                    findings: &findings,
                });
                self.progress.memory.pending.extend(findings);
            }
            Err(reason) => tracing::warn!(%reason, "the network could not be diagnosed"),
        }
        Ok(())
    }

    /// Validates, writes log and checkpoints, and says what is wrong, in words.
    fn finish_epoch(
        &mut self,
        observe: &mut dyn FnMut(&Event<'_>),
    ) -> Result<Option<String>, FitError> {
        let began = Instant::now();
        let validation = self.validate()?.validation();
        self.progress.epoch += 1;
        self.look(observe)?;
        self.progress.seconds += began.elapsed().as_secs_f64();
        let share_done = self.progress.step as f64 / self.total_steps() as f64;
        let warning = trouble_in_words(&validation, share_done);
        let score = validation.score();
        // Of equals the later one: layers may learn whose work the score does not see.
        let best = score.is_finite() && self.progress.best_score.is_none_or(|best| score <= best);
        if best {
            self.progress.best_score = Some(score);
        }
        let steps = self.progress.step_in_epoch.max(1) as f64;
        let term_sums = std::mem::take(&mut self.progress.term_sums);
        let learning_rate = self
            .recipe
            .schedule
            .learning_rate(self.progress.step.saturating_sub(1), self.total_steps());
        let record = EpochRecord {
            epoch: self.progress.epoch,
            step: self.progress.step,
            learning_rate: f64::from(learning_rate),
            loss: self.progress.loss_sum / steps,
            terms: term_sums
                .into_iter()
                .map(|(name, sum)| (name, sum / steps))
                .collect(),
            validation: Some(validation),
            seconds: self.progress.seconds,
            findings: std::mem::take(&mut self.progress.memory.pending),
        };
        self.progress.loss_sum = 0.0;
        self.progress.step_in_epoch = 0;
        self.progress.history.push(record.clone());
        self.log.epoch(&record, warning.as_deref())?;
        if best {
            self.write_checkpoint(BEST)?;
        }
        self.write_checkpoint(LATEST)?;
        observe(&Event::Epoch {
            record: &record,
            warning: warning.as_deref(),
            best,
        });
        Ok(warning)
    }

    fn validate(&mut self) -> Result<Evaluation, FitError> {
        let state = self.session.state()?;
        let trained = trained_graph(&self.step, &state)?;
        Ok(self
            .cases
            .evaluate(&trained, &self.card, self.session.device(), self.threads)?)
    }

    fn write_checkpoint(&self, name: &str) -> Result<(), FitError> {
        let state = self.session.state()?;
        Checkpoint {
            recipe: self.recipe.clone(),
            progress: self.progress.clone(),
            mean_shape: self.mean_shape.as_ref().map(MeanShape::flat),
            forward_onnx: self.forward_onnx.clone(),
            vectors: Checkpoint::vectors_of(&state),
        }
        .write(&self.output.join(name))?;
        Ok(())
    }
}

/// Pictures a second.
#[derive(Default)]
struct Rate {
    pictures: usize,
    seconds: f64,
}

impl Rate {
    fn add(&mut self, pictures: usize, began: Instant) -> f64 {
        self.pictures += pictures;
        self.seconds += began.elapsed().as_secs_f64();
        self.pictures as f64 / self.seconds.max(1e-9)
    }
}
