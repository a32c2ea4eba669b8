//! Why a training "defaults to the average face": an experiment. One small network, one data set, one seed; each run has
//! one thing wrong, or several, and is measured for the symptoms: the training loss falls, the validation jumps about, the
//! predictions vary far less than the labels, the error is about the mean shape's.

mod cases;
mod net;
mod page;
mod run;

pub use cases::{CASES, Case, Group};
pub use run::{EpochFigures, RunResult, Symptoms};

use super::{fit::FitError, session::Device, whole_file::write_whole};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How the study is run.
#[derive(Clone, Debug)]
pub struct StudyOptions {
    /// Sets of faces with 68 points, trained on their `train` and measured on their `val` split.
    pub data: Vec<String>,
    /// Folder for the report; made when missing.
    pub output: PathBuf,
    /// Names of the runs that are wanted; empty: all.
    pub only: Vec<String>,
    /// Part of the usual number of steps, for a quick look.
    pub share_of_steps: f64,
    /// Seed of everything.
    pub seed: u64,
    /// Where to compute.
    pub device: Device,
    /// Threads of the training step and, separately, of the batch makers.
    pub threads: usize,
    /// The command that this is, for the report.
    pub command: String,
}

/// What the study found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Study {
    /// The command that made it.
    pub command: String,
    /// The data.
    pub data: Vec<String>,
    /// Where it was computed.
    pub device: String,
    /// Training faces.
    pub training_faces: usize,
    /// Validation faces.
    pub validation_faces: usize,
    /// Each run.
    pub runs: Vec<RunResult>,
}

/// Why there is no study.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// A training failed otherwise than by diverging.
    #[error("run {run}: {source}")]
    Fit {
        /// The run.
        run: String,
        /// Why.
        source: Box<FitError>,
    },
    /// No run has that name.
    #[error("no run is called {found:?}; expected one of {}", CASES.map(|case| case.name).join(", "))]
    UnknownRun {
        /// What was asked for.
        found: String,
    },
    /// A file cannot be written.
    #[error("{path}: cannot write: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl StudyError {
    /// Whether arguments or input files are at fault, and not the run.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Fit { source, .. } => source.is_bad_input(),
            Self::UnknownRun { .. } => true,
            Self::Write { .. } => false,
        }
    }
}

/// Runs the study and writes `report.html` and `results.json`; `observe` is told of each run before (`None`) and after it.
///
/// # Errors
/// See [`StudyError`]. What was measured before is lost: a study is one sitting.
pub fn collapse_study(
    options: &StudyOptions,
    observe: &mut dyn FnMut(&Case, Option<&RunResult>),
) -> Result<(Study, PathBuf), StudyError> {
    for name in &options.only {
        if CASES.iter().all(|case| case.name != name) {
            return Err(StudyError::UnknownRun {
                found: name.clone(),
            });
        }
    }
    let failed = |path: &PathBuf| {
        let path = path.clone();
        move |source| StudyError::Write { path, source }
    };
    std::fs::create_dir_all(&options.output).map_err(failed(&options.output))?;
    let folder = tempfile::tempdir_in(&options.output).map_err(failed(&options.output))?;
    let wanted =
        |case: &&Case| options.only.is_empty() || options.only.iter().any(|name| name == case.name);
    let mut study = Study {
        command: options.command.clone(),
        data: options.data.clone(),
        device: String::new(),
        training_faces: 0,
        validation_faces: 0,
        runs: Vec::new(),
    };
    for case in CASES.iter().filter(wanted) {
        observe(case, None);
        let (result, ready) =
            run::run(case, options, folder.path()).map_err(|source| StudyError::Fit {
                run: case.name.to_owned(),
                source: Box::new(source),
            })?;
        observe(case, Some(&result));
        study.runs.push(result);
        study.device = ready.device;
        study.training_faces = ready.sets.iter().map(|set| set.examples).sum();
        study.validation_faces = ready.validation_cases;
    }
    let json = serde_json::to_string_pretty(&study).expect("a study has text keys");
    let results = options.output.join("results.json");
    write_whole(&results, json.as_bytes()).map_err(failed(&results))?;
    let report = options.output.join("report.html");
    write_whole(&report, page::page(&study).as_bytes()).map_err(failed(&report))?;
    Ok((study, report))
}
