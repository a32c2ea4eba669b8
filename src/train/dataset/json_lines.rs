//! Reader for our own format: a folder with `annotations.jsonl`, one landmark record a face or one detection record a
//! picture, and the pictures that the records name.

use super::{DatasetError, Example, Records};
use crate::annotation::{DetectionRecord, LabelError, LandmarkRecord};
use std::path::Path;

/// The file that makes a folder a data set.
pub(super) const FILE_NAME: &str = "annotations.jsonl";

/// Reads every record; a line that is none is skipped.
pub(super) fn read(folder: &Path) -> Result<Records, DatasetError> {
    let file = folder.join(FILE_NAME);
    let bytes = std::fs::read(&file).map_err(|source| DatasetError::Read {
        path: file.clone(),
        source,
    })?;
    let text = String::from_utf8_lossy(&bytes);
    let mut records = Records {
        name: folder
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        ..Records::default()
    };
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match parse(folder, line) {
            Ok(example) => records.examples.push(example),
            Err(error) => records.skip(format!("{}:{}", file.display(), index + 1), error),
        }
    }
    Ok(records)
}

fn parse(folder: &Path, line: &str) -> Result<Example, LabelError> {
    // A detection record has `boxes` where a landmark record has `points`; the quotes keep a file name from matching.
    if line.contains("\"boxes\"") && !line.contains("\"points\"") {
        DetectionRecord::from_json(line).map(|record| Example::of_picture(folder, record))
    } else {
        LandmarkRecord::from_json(line).map(|record| Example::of_face(folder, record))
    }
}
