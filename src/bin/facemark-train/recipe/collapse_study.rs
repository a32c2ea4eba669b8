//! `facemark-train recipe collapse-study`: why a training defaults to the average face.

use crate::{failure::Failure, runtime::RuntimeArguments};
use clap::Args;
use facemark::train::collapse_study::{CASES, StudyError, StudyOptions, collapse_study};
use std::path::PathBuf;

/// Trains one small network again and again, each time with another mistake, and reports which mistakes lead to a network
/// that answers every face with the average face.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Faces with 68 points: a folder, a label file or synthetic:SEED; may be repeated.
    #[arg(
        long,
        value_name = "PATH",
        default_values = ["../shared/data/helen", "../shared/data/lfpw", "../shared/data/afw"]
    )]
    data: Vec<String>,
    /// Folder for the report.
    #[arg(long, value_name = "FOLDER", default_value = "runs/collapse-study")]
    output: PathBuf,
    /// Only the run of this name; may be repeated.
    #[arg(long, value_name = "RUN")]
    only: Vec<String>,
    /// Part of the usual number of steps, more than 0, for a quick look.
    #[arg(long, value_name = "PART", default_value_t = 1.0, value_parser = parse_share)]
    share_of_steps: f64,
    /// Seed of everything.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share <= 100.0 => Ok(share),
        _ => Err("expected a number above 0 and up to 100".to_owned()),
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    arguments.runtime.load()?;
    let options = StudyOptions {
        data: arguments.data.clone(),
        output: arguments.output.clone(),
        only: arguments.only.clone(),
        share_of_steps: arguments.share_of_steps,
        seed: arguments.seed,
        device: arguments.runtime.device(),
        threads: arguments.runtime.threads(),
        command: command(),
    };
    let count = match arguments.only.len() {
        0 => CASES.len(),
        some => some,
    };
    let mut done = 0;
    let (_, report) = collapse_study(&options, &mut |case, result| {
        let Some(result) = result else {
            eprintln!("{}/{count} {}: {}", done + 1, case.name, case.words);
            return;
        };
        done += 1;
        if let Some(step) = result.diverged_at {
            eprintln!("  not finite at step {step}");
        }
        if let Some(last) = result.last() {
            eprintln!(
                "  NME {:.2} % (mean shape {:.2}), prediction variance ratio {:.3}, {:.0} s{}",
                last.nme,
                result.mean_shape_nme,
                last.variance_ratio,
                result.seconds,
                if result.symptoms.average_face() {
                    ": the average face"
                } else {
                    ""
                }
            );
        }
        for finding in &result.findings {
            eprintln!("  {}: {}", finding.cause.name(), finding.words);
        }
    })?;
    eprintln!("report: {}", report.display());
    Ok(())
}

/// The command line as it was given, with the program's bare name.
fn command() -> String {
    let arguments = std::env::args_os().skip(1);
    let words = arguments.map(|word| word.to_string_lossy().into_owned());
    std::iter::once("facemark-train".to_owned())
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

impl From<StudyError> for Failure {
    fn from(error: StudyError) -> Self {
        if error.is_bad_input() {
            Self::input(error)
        } else {
            Self::running(error)
        }
    }
}
