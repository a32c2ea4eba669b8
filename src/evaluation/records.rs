//! The labels of a folder and the pictures they name.

use super::EvaluationError;
use crate::{
    annotation::{DetectionRecord, LabelError, LandmarkRecord, Split},
    frame::Frame,
    picture,
    scheme::Scheme,
};
use serde::Serialize;
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A picture or label that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damaged {
    /// The file, with the line for a label.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Damaged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Errors of files begin with the file's name.
        match self.reason.strip_prefix(&self.name) {
            Some(rest) => write!(formatter, "{}{rest}", self.name),
            None => write!(formatter, "{}: {}", self.name, self.reason),
        }
    }
}

/// A folder in the project's data format: pictures, and their labels in `annotations.jsonl`, a record a line.
#[derive(Clone, Debug)]
pub struct LabelledFolder {
    path: PathBuf,
}

/// Records of one split, and the lines that are none.
pub(super) struct Records<R> {
    pub(super) records: Vec<R>,
    pub(super) damaged: Vec<Damaged>,
}

impl LabelledFolder {
    /// The folder at `path`; nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn annotation_path(&self) -> PathBuf {
        self.path.join("annotations.jsonl")
    }

    /// Landmark records of `split` with the given scheme.
    pub(super) fn landmark_records(
        &self,
        split: Split,
        scheme: Scheme,
    ) -> Result<Records<LandmarkRecord>, EvaluationError> {
        let mut records = self.records(split, LandmarkRecord::from_json, |record| record.split)?;
        let found = records.records[0].scheme;
        records.records = records
            .records
            .into_iter()
            .filter_map(|record| record.in_scheme(scheme))
            .collect();
        if records.records.is_empty() {
            return Err(EvaluationError::OtherScheme {
                path: self.annotation_path(),
                expected: scheme,
                found,
            });
        }
        Ok(records)
    }

    /// Detection records of `split`.
    pub(super) fn detection_records(
        &self,
        split: Split,
    ) -> Result<Records<DetectionRecord>, EvaluationError> {
        self.records(split, DetectionRecord::from_json, |record| record.split)
    }

    /// At least one record, or an error.
    fn records<R>(
        &self,
        split: Split,
        parse: impl Fn(&str) -> Result<R, LabelError>,
        split_of: impl Fn(&R) -> Split,
    ) -> Result<Records<R>, EvaluationError> {
        let path = self.annotation_path();
        let bytes = std::fs::read(&path).map_err(|source| EvaluationError::Labels {
            path: path.clone(),
            source,
        })?;
        let (mut records, mut damaged, mut lines) = (Vec::new(), Vec::new(), 0);
        for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            lines += 1;
            let parsed = match std::str::from_utf8(line) {
                Ok(line) => parse(line).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match parsed {
                Ok(record) if split_of(&record) == split => records.push(record),
                Ok(_) => (),
                Err(reason) => damaged.push(Damaged {
                    name: format!("{}:{}", path.display(), index + 1),
                    reason,
                }),
            }
        }
        if records.is_empty() {
            return Err(EvaluationError::NoRecords {
                path,
                split,
                lines,
                damaged: damaged.len(),
                first: damaged.into_iter().next(),
            });
        }
        Ok(Records { records, damaged })
    }

    /// Decodes a picture that a record names, and holds it to the size that the record says.
    pub(super) fn picture(
        &self,
        name: &str,
        width: usize,
        height: usize,
    ) -> Result<Frame, Damaged> {
        let path = self.path.join(name);
        let damaged = |reason: String| Damaged {
            name: path.display().to_string(),
            reason,
        };
        let frame = picture::load(&path).map_err(|error| damaged(error.to_string()))?;
        if (frame.width(), frame.height()) != (width, height) {
            return Err(damaged(format!(
                "expected {width}x{height} pixels as labelled, found {}x{}",
                frame.width(),
                frame.height()
            )));
        }
        Ok(frame)
    }
}
