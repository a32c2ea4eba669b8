//! facemark-train: from labelled faces to a model file. This file is the command line's dispatch; each subcommand is a
//! module.

mod evaluate;
mod export;
mod failure;
mod fit;
#[path = "../shared/logging.rs"]
mod logging;
mod quantization_report;
mod quantize;
mod recipe;
mod runtime;
mod synthesize;

use clap::{Parser, Subcommand};
use failure::Failure;
use std::process::ExitCode;

/// Trains, evaluates and exports the models that `facemark` runs.
#[derive(Parser)]
#[command(version, about)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Fit(fit::Arguments),
    Evaluate(evaluate::Arguments),
    Export(export::Arguments),
    QuantizationReport(quantization_report::Arguments),
    Quantize(quantize::Arguments),
    Recipe(recipe::Arguments),
    Synthesize(synthesize::Arguments),
}

fn main() -> ExitCode {
    logging::to_stderr("error");
    match run(CommandLine::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Fit(arguments) => fit::run(&arguments),
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::QuantizationReport(arguments) => quantization_report::run(&arguments),
        Command::Quantize(arguments) => quantize::run(&arguments),
        Command::Recipe(arguments) => recipe::run(&arguments),
        Command::Synthesize(arguments) => synthesize::run(&arguments),
    }
}
