//! The way that every part of the project goes: recipe, training, evaluation, quantisation, report.

use crate::{failure::Failure, fit, runtime::RuntimeArguments};
use anyhow::Context;
use clap::Args;
use facemark::train::{
    dataset::DataSource,
    fit::{FitOptions, Start},
    recipe::Recipe,
};
use std::path::PathBuf;

/// What all of these commands have in common.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Folder for checkpoints, models and the report [default: runs/NAME]. A training that is there already is gone on
    /// with.
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Edited copy of the recipe (TOML) instead of the one built in.
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Labelled pictures instead of the recipe's: a folder, a label file or synthetic:SEED; may be repeated.
    #[arg(long, value_name = "PATH")]
    data: Vec<String>,
    /// Passes.
    #[arg(long)]
    epochs: Option<usize>,
    /// Steps of an epoch.
    #[arg(long)]
    steps_per_epoch: Option<usize>,
    /// Seed of weights, order and augmentation.
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

/// One part of the project.
pub(crate) struct Course {
    /// Its name on the command line.
    name: &'static str,
    /// Its recipe.
    recipe: &'static str,
}

/// The released network.
pub(crate) const LIVE: Course = Course {
    name: "live",
    recipe: include_str!("../../../../recipes/landmarks68.toml"),
};

pub(crate) fn run(course: &Course, arguments: &Arguments) -> Result<(), Failure> {
    let recipe = arguments.recipe(course)?;
    arguments.runtime.load()?;
    let output = arguments
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from("runs").join(course.name));
    let options = FitOptions {
        output,
        device: arguments.runtime.device(),
        threads: arguments.runtime.threads(),
        loader_threads: arguments.runtime.threads(),
        sitting_epochs: None,
        report: true,
        stop: fit::stop_on_interrupt()?,
    };
    fit::train(Start::New(Box::new(recipe)), &options).map(drop)
}

impl Arguments {
    /// The recipe with what the options change.
    fn recipe(&self, course: &Course) -> Result<Recipe, Failure> {
        let mut recipe = match &self.recipe {
            Some(path) => Recipe::read(path).map_err(Failure::input)?,
            None => toml::from_str(course.recipe)
                .context("the built-in recipe")
                .map_err(Failure::running)?,
        };
        if !self.data.is_empty() {
            recipe.data = self.data.iter().map(DataSource::new).collect();
            recipe.validation.clear();
        }
        if let Some(epochs) = self.epochs {
            recipe.epochs = epochs;
        }
        if let Some(steps) = self.steps_per_epoch {
            recipe.steps_per_epoch = steps;
        }
        if let Some(seed) = self.seed {
            recipe.seed = seed;
        }
        Ok(recipe)
    }
}
