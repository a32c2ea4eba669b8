//! The log of a training: JSON lines, one object an epoch and one every few steps, so that other programs can follow.

use super::{Evidence, Finding, FitError, StepEvent};
use crate::train::{progress::EpochRecord, session::StepReport, whole_file::write_whole};
use serde_json::json;
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

/// Name of the log in an output folder.
pub const LOG: &str = "log.jsonl";

/// Steps between two lines.
const STEP_INTERVAL: u64 = 20;

pub(super) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens the log of `folder` for a training that stands after `step` steps: lines of later steps, which a sitting
    /// that did not reach its next checkpoint left behind, are dropped.
    pub(super) fn open(folder: &Path, step: u64) -> Result<Self, FitError> {
        let path = folder.join(LOG);
        let failed = |source| FitError::Write {
            path: path.clone(),
            source,
        };
        let kept: String = match fs::read_to_string(&path) {
            Ok(text) if step > 0 => text
                .lines()
                .filter(|line| step_of(line).is_some_and(|found| found <= step))
                .flat_map(|line| [line, "\n"])
                .collect(),
            _ => String::new(),
        };
        write_whole(&path, kept.as_bytes()).map_err(failed)?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(failed)?;
        Ok(Self { path, file })
    }

    pub(super) fn step(&mut self, event: &StepEvent, report: &StepReport) -> Result<(), FitError> {
        if event.step % STEP_INTERVAL != 1 {
            return Ok(());
        }
        self.line(&json!({
            "kind": "step",
            "step": event.step,
            "epoch": event.epoch,
            "loss": event.loss,
            "terms": report.terms.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "gradient_norm": report.gradient_norm,
            "learning_rate": event.learning_rate,
            "pictures_per_second": event.pictures_per_second,
        }))
    }

    pub(super) fn diagnosis(
        &mut self,
        evidence: &Evidence,
        found: &[Finding],
    ) -> Result<(), FitError> {
        self.line(&json!({
            "kind": "diagnosis",
            "step": evidence.moment.steps,
            "evidence": evidence,
            "findings": found,
        }))
    }

    pub(super) fn epoch(
        &mut self,
        record: &EpochRecord,
        warning: Option<&str>,
    ) -> Result<(), FitError> {
        let mut line = json!({ "kind": "epoch", "warning": warning });
        let fields = serde_json::to_value(record).expect("a record has text keys");
        if let (Some(line), serde_json::Value::Object(fields)) = (line.as_object_mut(), fields) {
            line.extend(fields);
        }
        self.line(&line)
    }

    fn line(&mut self, value: &serde_json::Value) -> Result<(), FitError> {
        writeln!(self.file, "{value}").map_err(|source| FitError::Write {
            path: self.path.clone(),
            source,
        })
    }
}

fn step_of(line: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(line)
        .ok()?
        .get("step")?
        .as_u64()
}
