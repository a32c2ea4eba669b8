//! What a person looks at after a training or an evaluation: curves, pictures of what went in and came out, figures.
//! Everything lies in one folder, with a page (`index.html`) that shows it.

mod charts;
pub mod course;
mod document;
mod page;
mod sheets;

pub use charts::Chart;
pub use document::Document;
pub(in crate::train) use page::escape;

use super::{
    dataset::Dataset,
    evaluate::Evaluation,
    progress::{EpochRecord, trouble_in_words},
    target::Batch,
    whole_file::write_whole,
};
use crate::{
    model::ModelCard,
    picture::{self, PictureError},
};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Why a report cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file cannot be written.
    #[error("{path}: cannot write the report: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A picture cannot be written.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// A curve cannot be drawn.
    #[error("{path}: cannot draw the curve: {reason}")]
    Draw {
        /// The file.
        path: PathBuf,
        /// What the drawing library says.
        reason: String,
    },
}

/// What a report is about.
#[derive(Debug)]
pub struct Report<'a> {
    /// Folder to write to; made when missing.
    pub folder: PathBuf,
    /// What was done, for the page's heading.
    pub title: String,
    /// The model.
    pub card: &'a ModelCard,
    /// What was measured.
    pub evaluation: &'a Evaluation,
    /// What it was measured on.
    pub dataset: &'a Dataset,
    /// The training's epochs; empty for an evaluation.
    pub history: &'a [EpochRecord],
    /// A batch as the network sees it; only of a training.
    pub sample: Option<&'a Batch>,
}

impl Report<'_> {
    /// Writes curves, pictures, `summary.json` and the page, and returns the page's path.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self) -> Result<PathBuf, ReportError> {
        std::fs::create_dir_all(&self.folder).map_err(|source| ReportError::Write {
            path: self.folder.clone(),
            source,
        })?;
        let mut page = page::Page::new(&self.title);
        let validation = self.evaluation.validation();
        page.paragraph(&validation.in_words());
        let warning = trouble_in_words(&validation, 1.0);
        if let Some(warning) = &warning {
            page.warning(warning);
        }
        for finding in self.history.iter().flat_map(|record| &record.findings) {
            page.warning(&finding.words);
        }
        page.figures(&validation);
        for chart in charts::all(self) {
            let path = self.folder.join(chart.file);
            let svg = chart.draw().map_err(|reason| ReportError::Draw {
                path: path.clone(),
                reason,
            })?;
            write(&path, svg.as_bytes())?;
            page.picture(chart.file, &chart.caption);
        }
        for sheet in sheets::all(self) {
            picture::save(&sheet.frame, &self.folder.join(sheet.file))?;
            page.picture(sheet.file, sheet.caption);
        }
        let summary = json!({
            "title": self.title,
            "model": self.card.name,
            "training_data": self.card.training_data,
            "warning": warning,
            "result": validation,
            "epochs": self.history,
        });
        let text = serde_json::to_string_pretty(&summary).expect("a summary has text keys");
        write(&self.folder.join("summary.json"), text.as_bytes())?;
        let index = self.folder.join("index.html");
        write(&index, page.html().as_bytes())?;
        Ok(index)
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    write_whole(path, bytes).map_err(|source| ReportError::Write {
        path: path.to_owned(),
        source,
    })
}
