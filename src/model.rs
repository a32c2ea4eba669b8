//! What a model file says of itself (the model card in its ONNX metadata) and the seam behind which networks run.

use crate::{
    crop::{Color, Crop, CropRule, Normalization},
    scheme::Scheme,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What a network is for, with the facts that only that task has.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// One face in a crop to landmarks.
    ///
    /// Output `landmarks`: `[1, 2 n]`, x then y of each landmark in units of the crop's width and height with 0 in the
    /// middle: `pixel = (value + 0.5) * size - 0.5`. Output `presence` (optional): `[1, 1]`, the logit that the crop
    /// shows a face. Output `uncertainty` (optional): `[1, n]`, natural logarithm of each landmark's expected absolute
    /// error along an axis, in units of the crop's size.
    Landmarks {
        /// Landmark layout.
        scheme: Scheme,
        /// What part of a frame the network sees.
        crop: CropRule,
    },
    /// Faces in a letterboxed frame, one anchor-free head a stride.
    ///
    /// Output `score_S`: `[1, 1, height / S, width / S]`, logits. Output `box_S`: `[1, 4, height / S, width / S]`:
    /// middle of the box relative to the cell's middle (x, y) in cells, and natural logarithm of width and height in
    /// cells. The middle of cell (i, j) is pixel `((i + 0.5) S - 0.5, (j + 0.5) S - 0.5)`.
    FaceDetection {
        /// Strides of the heads, in input pixels, ascending.
        strides: Vec<usize>,
    },
}

impl Task {
    /// The name in model metadata.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Landmarks { .. } => LANDMARKS,
            Self::FaceDetection { .. } => FACE_DETECTION,
        }
    }
}

/// The facts about a model that travel in its ONNX file as `metadata_props` under `facemark.*`.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCard {
    /// `facemark.name`: the model's name.
    pub name: String,
    /// `facemark.task` with the task's own keys.
    pub task: Task,
    /// `facemark.input_width`, in pixels.
    pub input_width: usize,
    /// `facemark.input_height`, in pixels.
    pub input_height: usize,
    /// `facemark.input_color`.
    pub color: Color,
    /// `facemark.input_scale` and `facemark.input_zero_point`.
    pub normalization: Normalization,
    /// `facemark.training_data`: what the model was trained on, and under which terms, in a sentence.
    pub training_data: String,
}

/// Why a file is not a model of ours.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be read.
    #[error("{path}: cannot read the model: {source}")]
    Read {
        /// The model file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not an ONNX model.
    #[error("{path}: expected an ONNX model: {reason}")]
    NotOnnx {
        /// The model file.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// A metadata key is missing.
    #[error(
        "{path}: not a facemark model: metadata key `{key}` is missing; export it with `facemark-train export`, which \
         writes the key"
    )]
    MissingKey {
        /// The model file.
        path: PathBuf,
        /// The key.
        key: &'static str,
    },
    /// A metadata value cannot be used.
    #[error("{path}: metadata key `{key}`: expected {expected}, found {found:?}")]
    BadValue {
        /// The model file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What the key should hold.
        expected: &'static str,
        /// What it holds.
        found: String,
    },
    /// An operator that the engine cannot run.
    #[error("{path}: operator {operator} of node {node:?} is not supported: {reason}")]
    UnsupportedOperator {
        /// The model file.
        path: PathBuf,
        /// ONNX operator name.
        operator: String,
        /// Node name.
        node: String,
        /// What the engine says.
        reason: String,
    },
    /// A node of the int8 form that is broken.
    #[error("{path}: operator {operator} of node {node:?} cannot run: {reason}")]
    BadNode {
        /// The model file.
        path: PathBuf,
        /// ONNX operator name.
        operator: String,
        /// Node name.
        node: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The graph's inputs and outputs are not what its metadata promises.
    #[error("{path}: {what}: expected {expected}, found {found}")]
    Interface {
        /// The model file.
        path: PathBuf,
        /// Which input or output.
        what: String,
        /// What the metadata promises.
        expected: String,
        /// What the graph has.
        found: String,
    },
    /// The engine refused the graph.
    #[error("{path}: cannot prepare the model: {reason}")]
    Prepare {
        /// The model file.
        path: PathBuf,
        /// What the engine says.
        reason: String,
    },
}

/// Why a network could not run.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The crop has another size or colour than the model's input.
    #[error("model {model}: expected an input of {expected}, found {found}")]
    Input {
        /// Model name.
        model: String,
        /// The model's input.
        expected: String,
        /// What was given.
        found: String,
    },
    /// An output that the caller needs is not there or has another shape.
    #[error("model {model}: output {output:?}: expected {expected}, found {found}")]
    Output {
        /// Model name.
        model: String,
        /// Output name.
        output: String,
        /// What the caller needs.
        expected: String,
        /// What there is.
        found: String,
    },
    /// The engine failed.
    #[error("model {model} failed to run: {reason}")]
    Engine {
        /// Model name.
        model: String,
        /// What the engine says.
        reason: String,
    },
}

/// A model was given to something that needs one of another task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("model {model}: expected a model for {expected}, found one for {found}")]
pub struct WrongTask {
    /// Model name.
    pub model: String,
    /// The task that is needed.
    pub expected: &'static str,
    /// The model's.
    pub found: &'static str,
}

/// One named output of a network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// The ONNX output's name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row by row.
    pub values: Vec<f32>,
}

/// The outputs of one run; the buffers are kept from run to run.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    entries: Vec<Output>,
}

impl Outputs {
    /// Copies an output in, into the buffer of an earlier run when there is one.
    pub fn set(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let index = match self.entries.iter().position(|entry| entry.name == name) {
            Some(index) => index,
            None => {
                self.entries.push(Output {
                    name: name.to_owned(),
                    ..Output::default()
                });
                self.entries.len() - 1
            }
        };
        let entry = &mut self.entries[index];
        entry.shape.clear();
        entry.shape.extend_from_slice(shape);
        entry.values.clear();
        entry.values.extend_from_slice(values);
    }

    /// The output called `name`.
    pub fn get(&self, name: &str) -> Option<&Output> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Every output.
    pub fn iter(&self) -> impl Iterator<Item = &Output> {
        self.entries.iter()
    }
}

/// A network that runs: one crop in, named outputs out. Tests plug in fakes; `engine` and `train::session` are the
/// real ones.
pub trait Infer {
    /// What the model says of itself.
    fn card(&self) -> &ModelCard;

    /// Runs the network on `crop`, whose size and colour are the card's, and leaves its outputs in `outputs`.
    ///
    /// # Errors
    /// The crop does not fit the model, or the engine failed.
    fn infer(&mut self, crop: &Crop, outputs: &mut Outputs) -> Result<(), InferError>;

    /// Takes crops of `width` x `height` pixels from now on, with the same weights; the card then says that size. Only a
    /// fully convolutional network can, at multiples of its largest stride, and not behind every implementation.
    ///
    /// # Errors
    /// The network takes no other size than it has, or not this one.
    fn set_input_size(&mut self, width: usize, height: usize) -> Result<(), InferError> {
        let card = self.card();
        if (card.input_width, card.input_height) == (width, height) {
            return Ok(());
        }
        Err(InferError::Input {
            model: card.name.clone(),
            expected: format!("{}x{}", card.input_width, card.input_height),
            found: format!("{width}x{height}"),
        })
    }
}

impl<T: Infer + ?Sized> Infer for Box<T> {
    fn card(&self) -> &ModelCard {
        (**self).card()
    }

    fn infer(&mut self, crop: &Crop, outputs: &mut Outputs) -> Result<(), InferError> {
        (**self).infer(crop, outputs)
    }

    fn set_input_size(&mut self, width: usize, height: usize) -> Result<(), InferError> {
        (**self).set_input_size(width, height)
    }
}

const LANDMARKS: &str = "landmarks";
const FACE_DETECTION: &str = "face-detection";
const NAME: &str = "facemark.name";
const TASK: &str = "facemark.task";
const SCHEME: &str = "facemark.scheme";
const CROP: &str = "facemark.crop";
const WHOLE_FRAME: &str = "whole-frame";
const MIDDLE_OF_FRAME: &str = "middle-of-frame";
const CROP_MARGIN: &str = "facemark.crop_margin";
const STRIDES: &str = "facemark.strides";
const INPUT_WIDTH: &str = "facemark.input_width";
const INPUT_HEIGHT: &str = "facemark.input_height";
const INPUT_COLOR: &str = "facemark.input_color";
const INPUT_SCALE: &str = "facemark.input_scale";
const INPUT_ZERO_POINT: &str = "facemark.input_zero_point";
const TRAINING_DATA: &str = "facemark.training_data";

impl ModelCard {
    /// An empty crop of the model's input size and colour.
    pub fn new_crop(&self) -> Crop {
        Crop::new(self.input_width, self.input_height, self.color)
    }

    /// Reads the card from ONNX metadata; `path` names the file in errors.
    ///
    /// # Errors
    /// A key is missing or its value cannot be used.
    pub fn from_metadata(
        metadata: &BTreeMap<String, String>,
        path: &Path,
    ) -> Result<Self, ModelError> {
        let fields = Fields { metadata, path };
        let task = match fields.text(TASK)? {
            LANDMARKS => Task::Landmarks {
                scheme: fields.parse(SCHEME, "a landmark scheme")?,
                crop: fields.crop()?,
            },
            FACE_DETECTION => Task::FaceDetection {
                strides: fields.strides()?,
            },
            found => return Err(fields.bad(TASK, "landmarks or face-detection", found)),
        };
        let color = match fields.text(INPUT_COLOR)? {
            "rgb" => Color::Rgb,
            "gray" => Color::Gray,
            found => return Err(fields.bad(INPUT_COLOR, "rgb or gray", found)),
        };
        Ok(Self {
            name: fields.text(NAME)?.to_owned(),
            task,
            input_width: fields.size(INPUT_WIDTH)?,
            input_height: fields.size(INPUT_HEIGHT)?,
            color,
            normalization: Normalization {
                scale: fields.positive(INPUT_SCALE)?,
                zero_point: fields.parse(INPUT_ZERO_POINT, "a byte")?,
            },
            training_data: fields.text(TRAINING_DATA)?.to_owned(),
        })
    }

    /// The card as ONNX metadata.
    pub fn to_metadata(&self) -> BTreeMap<String, String> {
        let mut metadata = BTreeMap::from([
            (NAME.to_owned(), self.name.clone()),
            (INPUT_WIDTH.to_owned(), self.input_width.to_string()),
            (INPUT_HEIGHT.to_owned(), self.input_height.to_string()),
            (INPUT_COLOR.to_owned(), self.color.name().to_owned()),
            (INPUT_SCALE.to_owned(), self.normalization.scale.to_string()),
            (
                INPUT_ZERO_POINT.to_owned(),
                self.normalization.zero_point.to_string(),
            ),
            (TRAINING_DATA.to_owned(), self.training_data.clone()),
        ]);
        metadata.insert(TASK.to_owned(), self.task.name().to_owned());
        match &self.task {
            Task::Landmarks { scheme, crop } => {
                metadata.insert(SCHEME.to_owned(), scheme.name().to_owned());
                match crop {
                    CropRule::AroundFace { margin } => {
                        metadata.insert(CROP_MARGIN.to_owned(), margin.to_string());
                    }
                    CropRule::WholeFrame => {
                        metadata.insert(CROP.to_owned(), WHOLE_FRAME.to_owned());
                    }
                    CropRule::MiddleOfFrame { .. } => {
                        metadata.insert(CROP.to_owned(), MIDDLE_OF_FRAME.to_owned());
                    }
                }
            }
            Task::FaceDetection { strides } => {
                let strides: Vec<String> = strides.iter().map(usize::to_string).collect();
                metadata.insert(STRIDES.to_owned(), strides.join(","));
            }
        }
        metadata
    }
}

/// Typed access to metadata with errors that name file and key.
struct Fields<'a> {
    metadata: &'a BTreeMap<String, String>,
    path: &'a Path,
}

impl<'a> Fields<'a> {
    fn bad(&self, key: &'static str, expected: &'static str, found: &str) -> ModelError {
        ModelError::BadValue {
            path: self.path.to_owned(),
            key,
            expected,
            found: found.to_owned(),
        }
    }

    fn text(&self, key: &'static str) -> Result<&'a str, ModelError> {
        let missing = || ModelError::MissingKey {
            path: self.path.to_owned(),
            key,
        };
        self.metadata
            .get(key)
            .map(String::as_str)
            .ok_or_else(missing)
    }

    fn parse<T: std::str::FromStr>(
        &self,
        key: &'static str,
        expected: &'static str,
    ) -> Result<T, ModelError> {
        let text = self.text(key)?;
        text.parse().map_err(|_| self.bad(key, expected, text))
    }

    fn positive(&self, key: &'static str) -> Result<f32, ModelError> {
        const EXPECTED: &str = "a positive number";
        let value: f32 = self.parse(key, EXPECTED)?;
        if value > 0.0 && value.is_finite() {
            Ok(value)
        } else {
            Err(self.bad(key, EXPECTED, self.text(key)?))
        }
    }

    /// An edge of the input. The limit keeps a hostile file from asking for all memory.
    fn size(&self, key: &'static str) -> Result<usize, ModelError> {
        const EXPECTED: &str = "a size from 1 to 4096 pixels";
        let value: usize = self.parse(key, EXPECTED)?;
        if (1..=4096).contains(&value) {
            Ok(value)
        } else {
            Err(self.bad(key, EXPECTED, self.text(key)?))
        }
    }

    /// The whole frame or its middle when the metadata says so, else a square around the face, whose margin must be there.
    fn crop(&self) -> Result<CropRule, ModelError> {
        match self.metadata.get(CROP).map(String::as_str) {
            None => Ok(CropRule::AroundFace {
                margin: self.positive(CROP_MARGIN)?,
            }),
            Some(WHOLE_FRAME) => Ok(CropRule::WholeFrame),
            Some(MIDDLE_OF_FRAME) => {
                let (width, height) = (self.size(INPUT_WIDTH)?, self.size(INPUT_HEIGHT)?);
                Ok(CropRule::MiddleOfFrame {
                    aspect: width as f32 / height as f32,
                })
            }
            Some(found) => Err(self.bad(CROP, "whole-frame or middle-of-frame", found)),
        }
    }

    fn strides(&self) -> Result<Vec<usize>, ModelError> {
        const EXPECTED: &str = "ascending strides such as 8,16,32";
        let text = self.text(STRIDES)?;
        let strides: Result<Vec<usize>, _> = text.split(',').map(str::parse).collect();
        match strides {
            Ok(strides) if strides[0] > 0 && strides.is_sorted_by(|a, b| a < b) => Ok(strides),
            _ => Err(self.bad(STRIDES, EXPECTED, text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(task: Task) -> ModelCard {
        ModelCard {
            name: "test".to_owned(),
            task,
            input_width: 192,
            input_height: 160,
            color: Color::Rgb,
            normalization: Normalization::SYMMETRIC,
            training_data: "synthetic faces".to_owned(),
        }
    }

    #[test]
    fn a_card_survives_metadata() {
        for task in [
            Task::Landmarks {
                scheme: Scheme::Ibug68,
                crop: CropRule::AroundFace { margin: 1.3 },
            },
            Task::Landmarks {
                scheme: Scheme::Nose1,
                crop: CropRule::WholeFrame,
            },
            Task::Landmarks {
                scheme: Scheme::Nose1,
                crop: CropRule::MiddleOfFrame { aspect: 1.2 },
            },
            Task::FaceDetection {
                strides: vec![8, 16, 32],
            },
        ] {
            let card = card(task);
            assert_eq!(
                ModelCard::from_metadata(&card.to_metadata(), Path::new("a.onnx")).expect("card"),
                card
            );
        }
    }

    #[test]
    fn each_missing_key_is_named() {
        let full = card(Task::Landmarks {
            scheme: Scheme::Ibug68,
            crop: CropRule::AroundFace { margin: 1.3 },
        })
        .to_metadata();
        for key in full.keys() {
            let mut metadata = full.clone();
            metadata.remove(key);
            let error = ModelCard::from_metadata(&metadata, Path::new("a.onnx"))
                .expect_err("key is missing");
            assert!(
                error.to_string().contains(key.as_str()) && error.to_string().contains("a.onnx"),
                "{error}"
            );
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let full = card(Task::FaceDetection {
            strides: vec![8, 16],
        })
        .to_metadata();
        for (key, value) in [
            (INPUT_WIDTH, "0"),
            (INPUT_HEIGHT, "4294967296"),
            (INPUT_SCALE, "NaN"),
            (INPUT_SCALE, "-1"),
            (INPUT_ZERO_POINT, "256"),
            (STRIDES, "16,8"),
            (STRIDES, ""),
            (TASK, "dance"),
        ] {
            let mut metadata = full.clone();
            metadata.insert(key.to_owned(), value.to_owned());
            let error = ModelCard::from_metadata(&metadata, Path::new("a.onnx")).expect_err(value);
            assert!(error.to_string().contains(key), "{error}");
        }
    }
}
