//! The calibration file: what a quantisation took from pictures and how to do it again. With the float model it
//! rebuilds the quantised one bit for bit, without the pictures.

use super::{QuantizeOptions, Ranges};
use serde::{Deserialize, Serialize};
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Value of [`Calibration::format`].
const FORMAT: &str = "facemark calibration 1";

/// What `calibration/NAME.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Which format this is.
    format: String,
    /// Name of the model.
    pub model: String,
    /// SHA-256 of the float model's file.
    pub float_model_sha256: String,
    /// The command that makes the quantised model and this file from the float model and the pictures.
    pub command: String,
    /// What the command made of its arguments.
    pub options: QuantizeOptions,
    /// Which pictures gave the ranges; absent when they were not measured (quantisation-aware training).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pictures: Option<PictureList>,
    /// What they gave.
    pub ranges: Ranges,
}

/// The pictures of a calibration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PictureList {
    /// The data sets, as given.
    pub data: Vec<String>,
    /// Their split; absent: all.
    pub split: Option<String>,
    /// Seed of the crops' displacement.
    pub seed: u64,
    /// What computed the float values: another ONNX Runtime or processor gives other last bits.
    pub arithmetic: String,
    /// Crops that were looked at; a picture with several faces gives several.
    pub crops: usize,
    /// SHA-256 of each picture's file by its path from the folder that holds the data set.
    pub sha256: BTreeMap<String, String>,
}

/// Why a calibration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read.
    #[error("{path}: cannot read the calibration file: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no calibration file.
    #[error("{path}: expected a calibration file: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is that of another model.
    #[error(
        "{path}: the ranges are those of model {expected:?} with SHA-256 {expected_sha256}, not of {found:?} with \
         {found_sha256}"
    )]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The model that it is for.
        expected: String,
        /// That model's hash.
        expected_sha256: String,
        /// The model given.
        found: String,
        /// Its hash.
        found_sha256: String,
    },
}

impl Calibration {
    /// A new one.
    pub fn new(
        model: &str,
        float_model_sha256: String,
        command: String,
        options: QuantizeOptions,
        pictures: Option<PictureList>,
        ranges: Ranges,
    ) -> Self {
        Self {
            format: FORMAT.to_owned(),
            model: model.to_owned(),
            float_model_sha256,
            command,
            options,
            pictures,
            ranges,
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read or is no calibration file.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let text = std::fs::read_to_string(path).map_err(|source| ManifestError::Read {
            path: path.to_owned(),
            source,
        })?;
        let content = |reason: String| ManifestError::Content {
            path: path.to_owned(),
            reason,
        };
        let calibration: Self =
            serde_json::from_str(&text).map_err(|error| content(error.to_string()))?;
        if calibration.format != FORMAT {
            return Err(content(format!(
                "format {:?}, not {FORMAT:?}",
                calibration.format
            )));
        }
        Ok(calibration)
    }

    /// Checks that the file belongs to a float model; `path` is this file.
    ///
    /// # Errors
    /// The model has another hash.
    pub fn check_model(&self, path: &Path, name: &str, sha256: &str) -> Result<(), ManifestError> {
        if self.float_model_sha256 == sha256 {
            return Ok(());
        }
        Err(ManifestError::OtherModel {
            path: path.to_owned(),
            expected: self.model.clone(),
            expected_sha256: self.float_model_sha256.clone(),
            found: name.to_owned(),
            found_sha256: sha256.to_owned(),
        })
    }

    /// The file's bytes: JSON, a line for each value.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut serializer =
            serde_json::Serializer::with_formatter(&mut bytes, LineFormatter::default());
        self.serialize(&mut serializer)
            .expect("texts and finite numbers always serialise");
        bytes.push(b'\n');
        bytes
    }
}

/// Objects and lists are indented down to this depth; what is deeper stands on one line.
const INDENTED_DEPTH: usize = 3;

/// Lays JSON out so that each value of a calibration has a line.
#[derive(Default)]
struct LineFormatter {
    depth: usize,
    pretty: PrettyFormatter<'static>,
    compact: CompactFormatter,
}

/// Passes a formatter's method on to the layout of the depth.
macro_rules! by_depth {
    ($($method:ident ( $($argument:ident : $of:ty),* ) $change:literal;)*) => {
        $(fn $method<W: ?Sized + Write>(&mut self, writer: &mut W $(, $argument: $of)*) -> io::Result<()> {
            if $change > 0 {
                self.depth += 1;
            }
            let indented = self.depth <= INDENTED_DEPTH;
            if $change < 0 {
                self.depth -= 1;
            }
            match indented {
                true => self.pretty.$method(writer $(, $argument)*),
                false => self.compact.$method(writer $(, $argument)*),
            }
        })*
    };
}

impl Formatter for LineFormatter {
    by_depth! {
        begin_array() 1;
        end_array() -1;
        begin_array_value(first: bool) 0;
        end_array_value() 0;
        begin_object() 1;
        end_object() -1;
        begin_object_key(first: bool) 0;
        begin_object_value() 0;
        end_object_value() 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::quantize::Range;

    fn calibration() -> Calibration {
        let mut ranges = Ranges::default();
        for (value, max) in [("a", 0.1), ("b", 3.7)] {
            ranges
                .values
                .insert(value.to_owned(), Range::new(-1.0, max).unwrap());
        }
        ranges
            .bias_corrections
            .insert("a".to_owned(), vec![0.1, -1e-9, 3e7]);
        let pictures = PictureList {
            data: vec!["faces".to_owned()],
            split: Some("train".to_owned()),
            seed: 7,
            arithmetic: "by hand".to_owned(),
            crops: 2,
            sha256: BTreeMap::from([("faces/a.jpg".to_owned(), "00ff".to_owned())]),
        };
        Calibration::new(
            "tiny",
            "abc".to_owned(),
            "facemark-train quantize".to_owned(),
            QuantizeOptions::default(),
            Some(pictures),
            ranges,
        )
    }

    #[test]
    fn a_file_comes_back_and_has_a_line_a_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.json");
        let bytes = calibration().to_json();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Calibration::read(&path).unwrap(), calibration());
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert!(lines.contains(&r#""a": [0.1,-1e-9,30000000.0]"#), "{text}");
        assert!(lines.contains(&r#""faces/a.jpg": "00ff""#), "{text}");
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with(r#""b": {"min":-1.0,"max":3.7,"#)),
            "{text}"
        );
    }

    #[test]
    fn what_is_no_calibration_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.json");
        let other_format = String::from_utf8(calibration().to_json())
            .unwrap()
            .replace("calibration 1", "calibration 9");
        for (text, part) in [
            ("{}", "missing field"),
            ("not JSON", "expected"),
            (&other_format, "calibration 9"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Calibration::read(&path).unwrap_err().to_string();
            assert!(
                error.contains("other.json") && error.contains(part),
                "{error}"
            );
        }
        let error = calibration().check_model(&path, "big", "def").unwrap_err();
        for part in ["other.json", "tiny", "abc", "big", "def"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
