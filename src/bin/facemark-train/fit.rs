//! `facemark-train fit`: trains a model, or goes on with a training.

mod progress;

use crate::{failure::Failure, runtime::RuntimeArguments};
use anyhow::anyhow;
use clap::Args;
use facemark::{
    scheme::Scheme,
    train::{
        dataset::DataSource,
        fit::{FitOptions, Outcome, Start, fit},
        recipe::{Recipe, TaskKind},
    },
};
use progress::ProgressPrinter;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Trains a model by a recipe, writes a checkpoint after each epoch, and a report at the end.
///
/// Ctrl-C finishes the step and writes a checkpoint; `--resume` goes on exactly from there.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Recipe file (TOML); the other options override single fields of it.
    recipe: Option<PathBuf>,
    /// Go on with the training in this folder.
    #[arg(long, value_name = "FOLDER", conflicts_with = "output")]
    resume: Option<PathBuf>,
    /// Folder for checkpoints, log and report; made when missing.
    #[arg(long, value_name = "FOLDER", required_unless_present = "resume")]
    output: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    /// Stop after so many epochs of this sitting, to go on later with --resume.
    #[arg(long, value_name = "EPOCHS")]
    stop_after: Option<usize>,
    /// Leave out the report at the end.
    #[arg(long)]
    no_report: bool,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

/// Fields of the recipe that have an option.
#[derive(Args)]
struct Overrides {
    /// What to train: landmarks or detector.
    #[arg(long, value_parser = parse_task)]
    task: Option<TaskKind>,
    /// Name in the model card.
    #[arg(long)]
    name: Option<String>,
    /// Architecture by name.
    #[arg(long)]
    architecture: Option<String>,
    /// ONNX file to start from.
    #[arg(long, value_name = "MODEL")]
    init: Option<PathBuf>,
    /// ONNX file whose weights the architecture starts from.
    #[arg(long, value_name = "MODEL")]
    weights: Option<PathBuf>,
    /// Landmark layout.
    #[arg(long)]
    scheme: Option<Scheme>,
    /// Training data instead of the recipe's: a folder, a label file or synthetic:SEED; may be repeated.
    #[arg(long, value_name = "PATH")]
    data: Vec<String>,
    /// Pictures for crops without a face, instead of the recipe's; may be repeated.
    #[arg(long, value_name = "PATH")]
    backgrounds: Vec<String>,
    /// Samples in a step.
    #[arg(long)]
    batch: Option<usize>,
    /// Passes.
    #[arg(long)]
    epochs: Option<usize>,
    /// Steps of an epoch.
    #[arg(long)]
    steps_per_epoch: Option<usize>,
    /// The largest learning rate.
    #[arg(long)]
    learning_rate: Option<f32>,
    /// Seed of weights, order and augmentation.
    #[arg(long)]
    seed: Option<u64>,
}

fn parse_task(text: &str) -> Result<TaskKind, String> {
    match text {
        "landmarks" => Ok(TaskKind::Landmarks),
        "detector" => Ok(TaskKind::Detector),
        _ => Err("expected landmarks or detector".to_owned()),
    }
}

impl Overrides {
    fn any(&self) -> bool {
        self.task.is_some()
            || self.name.is_some()
            || self.architecture.is_some()
            || self.init.is_some()
            || self.weights.is_some()
            || self.scheme.is_some()
            || !self.data.is_empty()
            || !self.backgrounds.is_empty()
            || self.batch.is_some()
            || self.epochs.is_some()
            || self.steps_per_epoch.is_some()
            || self.learning_rate.is_some()
            || self.seed.is_some()
    }

    fn apply(&self, recipe: &mut Recipe) {
        fn set<T: Clone>(field: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                field.clone_from(value);
            }
        }
        set(&mut recipe.task, &self.task);
        set(&mut recipe.name, &self.name);
        set(&mut recipe.architecture, &self.architecture);
        set(&mut recipe.scheme, &self.scheme);
        set(&mut recipe.batch, &self.batch);
        set(&mut recipe.epochs, &self.epochs);
        set(&mut recipe.steps_per_epoch, &self.steps_per_epoch);
        set(&mut recipe.schedule.base_learning_rate, &self.learning_rate);
        set(&mut recipe.seed, &self.seed);
        if self.init.is_some() {
            recipe.init.clone_from(&self.init);
        }
        if self.weights.is_some() {
            recipe.weights.clone_from(&self.weights);
        }
        for (field, paths) in [
            (&mut recipe.data, &self.data),
            (&mut recipe.backgrounds, &self.backgrounds),
        ] {
            if !paths.is_empty() {
                *field = paths.iter().map(DataSource::new).collect();
            }
        }
        if !self.data.is_empty() {
            recipe.validation.clear();
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let recipe = arguments.recipe()?.map(Box::new);
    let (start, output) = match (&arguments.resume, &arguments.output) {
        (Some(folder), _) => (Start::Resume { expected: recipe }, folder.clone()),
        (None, Some(folder)) => {
            let recipe = recipe.ok_or_else(|| {
                Failure::input(anyhow!(
                    "nothing to train: name a recipe (recipes/landmarks68.toml) or data (--data synthetic:1)"
                ))
            })?;
            (Start::New(recipe), folder.clone())
        }
        (None, None) => unreachable!("clap asks for one of them"),
    };
    arguments.runtime.load()?;
    let options = FitOptions {
        output,
        device: arguments.runtime.device(),
        threads: arguments.runtime.threads(),
        loader_threads: arguments.runtime.threads(),
        sitting_epochs: arguments.stop_after,
        report: !arguments.no_report,
        stop: stop_on_interrupt()?,
    };
    train(start, &options).map(drop)
}

/// Trains and says how it goes.
pub(crate) fn train(start: Start, options: &FitOptions) -> Result<Outcome, Failure> {
    let mut printer = ProgressPrinter::new();
    let outcome = fit(start, options, &mut |event| printer.event(event));
    printer.finish();
    let outcome = outcome?;
    finish(options, &outcome);
    Ok(outcome)
}

impl Arguments {
    /// The recipe with its overrides; `None` when neither a file nor an option says anything.
    fn recipe(&self) -> Result<Option<Recipe>, Failure> {
        let mut recipe = match &self.recipe {
            Some(path) => Recipe::read(path).map_err(Failure::input)?,
            None if self.overrides.any() => Recipe::default(),
            None => return Ok(None),
        };
        self.overrides.apply(&mut recipe);
        Ok(Some(recipe))
    }
}

/// A flag that the first Ctrl-C sets; the second ends the process.
pub(crate) fn stop_on_interrupt() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nstopping after this step; Ctrl-C again stops at once, without a checkpoint");
    })
    .map_err(Failure::running)?;
    Ok(stop)
}

fn finish(options: &FitOptions, outcome: &Outcome) {
    let folder = options.output.display();
    if !outcome.complete {
        eprintln!(
            "stopped after epoch {} and {} steps; go on with: facemark-train fit --resume {folder}",
            outcome.progress.epoch, outcome.progress.step_in_epoch
        );
        return;
    }
    if let Some(warning) = &outcome.warning {
        eprintln!("warning: {warning}");
    }
    if let Some(page) = &outcome.report {
        eprintln!("report: {}", page.display());
    }
    eprintln!(
        "done in {:.0} s; export with: facemark-train export --checkpoint {folder} --output model.onnx",
        outcome.progress.seconds
    );
}
