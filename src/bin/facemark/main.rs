//! facemark: find faces and their landmarks. This file is the command line's dispatch; each subcommand is a module.

mod bench;
mod cameras;
mod detect_eval;
mod detector_size;
mod engine_arguments;
mod eval;
mod failure;
mod infer;
mod inspect;
#[path = "../shared/logging.rs"]
mod logging;
mod measure;
mod models;
mod networks;
mod output;
mod outputs;
mod run;

use clap::{Parser, Subcommand};
use failure::Failure;
use std::process::ExitCode;

/// Live facial landmarks on a CPU.
#[derive(Parser)]
#[command(version, about)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Eval(eval::Arguments),
    DetectEval(detect_eval::Arguments),
    Infer(infer::Arguments),
    Inspect(inspect::Arguments),
    Bench(bench::Arguments),
    /// Follow faces through a source: demo, camera, picture, folder, video, raw pixels on standard input
    Run(run::RunArguments),
    /// Follow faces in front of a camera
    Live(run::LiveArguments),
    /// List the cameras, what they offer and which mode would be chosen
    Cameras(cameras::Arguments),
}

fn main() -> ExitCode {
    logging::to_stderr("warn,tract=error");
    match run(CommandLine::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Eval(arguments) => eval::run(&arguments),
        Command::DetectEval(arguments) => detect_eval::run(&arguments),
        Command::Infer(arguments) => infer::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Live(arguments) => run::live(&arguments),
        Command::Cameras(arguments) => cameras::list(&arguments),
    }
}
