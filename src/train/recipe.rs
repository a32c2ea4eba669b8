//! A training recipe: a TOML file that says everything a training depends on, so that recipe and seed make the model
//! again. Command-line flags override single fields; the checkpoint keeps the result.

use super::{
    augment::AugmentConfig,
    dataset::DataSource,
    faults::Faults,
    loss::LossKind,
    optimizer::OptimizerConfig,
    quantize::qat::QuantizationAware,
    schedule::{Decay, Schedule},
};
use crate::{crop::Color, scheme::Scheme};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// A face crop to landmarks and presence.
    Landmarks,
    /// A frame to face boxes.
    Detector,
}

/// Everything a training depends on. Every field has a default, so that a recipe says only what it changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// What is trained: `landmarks` or `detector`.
    pub task: TaskKind,
    /// Name in the model card.
    pub name: String,
    /// What the model is trained on and under which terms, in a sentence, for the model card.
    pub training_data: String,
    /// Architecture by name, one of [`Architecture::ALL`](super::nn::Architecture::ALL).
    pub architecture: String,
    /// Start from the weights AND the graph of this ONNX file instead of from `architecture`; any supported forward
    /// graph with our metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Start from the weights of this ONNX file in the graph of `architecture`, which may have another input size; each of
    /// the graph's weights must be there in its shape, but for an output layer of another number of landmarks, which is
    /// learnt anew. A file of `facemark-train export --keep-batch-norm` is normalised on; a released one goes on without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// The layers that learn, by the beginnings of their weights' names up to a dot; all when empty. The others stay what
    /// `init` or `weights` gives them, so that what they answer stays the same; `weights` need not have those that learn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub learns: Vec<String>,
    /// Round weights and activations in training as the int8 form will (see `train::quantize::qat`): batch normalisation
    /// is folded first, so that this is for `init` with a trained model and a small learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<QuantizationAware>,
    /// Landmark layout; records of other layouts are left out.
    pub scheme: Scheme,
    /// Side of a landmark crop over the longer edge of the face box.
    pub crop_margin: f32,
    /// What a landmark network sees.
    pub sees: Sees,
    /// Width and height of the network's input instead of the architecture's own or the `init` file's; with `init` for
    /// fully convolutional networks, which the detectors are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_size: Option<[usize; 2]>,
    /// Colour of the network's input, `rgb` or `gray`, instead of the architecture's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_color: Option<Color>,
    /// The network begins with the answer that is best without looking, the mean of the training labels, and small
    /// weights before it: the first steps are not spent on finding that. For architectures whose output `landmarks` is a
    /// fully connected layer.
    pub start_at_mean: bool,
    /// Where the labelled pictures are, and how much each set counts.
    pub data: Vec<DataSource>,
    /// Pictures without faces, for the presence output (landmarks) or as backgrounds (detector).
    pub backgrounds: Vec<DataSource>,
    /// Sets that are validated on after each epoch; empty: those of `data`.
    pub validation: Vec<String>,
    /// At most so many validation faces or pictures, spread evenly; 0: all.
    pub validation_limit: usize,
    /// Share of a batch that shows no face (landmarks only), 0 to 1; needs `backgrounds`, or uses the surroundings of
    /// faces when there are none.
    pub negative_share: f32,
    /// Random changes of the training pictures.
    pub augment: AugmentConfig,
    /// What is minimised.
    pub loss: LossConfig,
    /// How the gradient changes the weights.
    pub optimizer: OptimizerConfig,
    /// The learning rate over the steps.
    pub schedule: Schedule,
    /// Samples in a step.
    pub batch: usize,
    /// Passes; an epoch is `steps_per_epoch` steps.
    pub epochs: usize,
    /// Steps of an epoch; 0: as many as show each training sample about once.
    pub steps_per_epoch: usize,
    /// Seed of the initial weights, of the order and of the augmentation.
    pub seed: u64,
    /// Mistakes made on purpose: for the collapse study and for tests alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faults: Option<Faults>,
}

/// What is minimised: coefficients of the terms and the kind of the regression.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Loss of the landmarks, in units of the crop's size.
    pub landmarks: LossKind,
    /// Its factor.
    pub landmarks_coefficient: f32,
    /// Factor of the presence logit's binary cross-entropy; 0 leaves the output untrained.
    pub presence_coefficient: f32,
    /// Factor of the Laplace likelihood of the `uncertainty` output; 0 leaves the output untrained.
    pub uncertainty_coefficient: f32,
    /// Loss of the detector's boxes, in cells and natural logarithms.
    pub boxes: LossKind,
    /// Its factor.
    pub boxes_coefficient: f32,
    /// Loss of the detector's scores.
    pub scores: LossKind,
    /// Its factor: the term is a mean over the cells of all heads, of which few show a face, so that some hundreds are
    /// a good factor.
    pub scores_coefficient: f32,
}

impl Default for LossConfig {
    /// Wing width and curvature are Feng et al.'s 10 and 2 pixels in a crop of 112; focal numbers are Lin et al.'s.
    fn default() -> Self {
        Self {
            landmarks: LossKind::Wing {
                width: 0.09,
                curvature: 0.018,
            },
            landmarks_coefficient: 10.0,
            presence_coefficient: 0.2,
            uncertainty_coefficient: 0.02,
            boxes: LossKind::SmoothL1 { beta: 0.1 },
            boxes_coefficient: 1.0,
            scores: LossKind::Focal {
                alpha: 0.25,
                gamma: 2.0,
            },
            scores_coefficient: 200.0,
        }
    }
}

/// What part of a picture a landmark network sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sees {
    /// A square around the face box, of `crop_margin`.
    #[default]
    Face,
    /// The whole picture, fitted into its input.
    WholeFrame,
    /// The largest rectangle of its input's shape in the middle of the picture.
    MiddleOfFrame,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            task: TaskKind::Landmarks,
            name: "landmarks68".to_owned(),
            training_data: "not stated".to_owned(),
            architecture: "landmarks-base".to_owned(),
            init: None,
            weights: None,
            learns: Vec::new(),
            quantization: None,
            scheme: Scheme::Ibug68,
            crop_margin: 1.3,
            sees: Sees::Face,
            input_size: None,
            input_color: None,
            start_at_mean: false,
            data: Vec::new(),
            backgrounds: Vec::new(),
            validation: Vec::new(),
            validation_limit: 1000,
            negative_share: 0.1,
            augment: AugmentConfig::default(),
            loss: LossConfig::default(),
            optimizer: OptimizerConfig::default(),
            schedule: Schedule {
                base_learning_rate: 2e-3,
                warmup_steps: 100,
                decay: Decay::Cosine {
                    final_fraction: 0.01,
                },
            },
            batch: 64,
            epochs: 40,
            steps_per_epoch: 0,
            seed: 1,
            faults: None,
        }
    }
}

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("{path}: cannot read the recipe: {source}")]
    Read {
        /// The recipe file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not a recipe.
    #[error("{path}: not a recipe: {reason}")]
    Syntax {
        /// The recipe file.
        path: PathBuf,
        /// What the parser says, with line and column.
        reason: String,
    },
    /// A value is out of range.
    #[error("recipe: {field}: expected {expected}, found {found}")]
    Value {
        /// The field.
        field: String,
        /// What it should hold.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// A checkpoint was made with another recipe.
    #[error(
        "{path}: the checkpoint was made with another recipe (it differs in: {differs}); leave recipe and options out to \
         go on with its own"
    )]
    Other {
        /// The checkpoint.
        path: PathBuf,
        /// Fields that differ.
        differs: String,
    },
    /// A setting of a loss or the optimizer makes no sense.
    #[error("recipe: {field}: {fault}")]
    Fault {
        /// The field.
        field: String,
        /// What is wrong, in words.
        fault: String,
    },
}

impl Recipe {
    /// Reads a recipe file. Values are checked by [`Recipe::check`], after flags have had their say.
    ///
    /// # Errors
    /// The file cannot be read or is not a recipe.
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        let text = fs::read_to_string(path).map_err(|source| RecipeError::Read {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|error| RecipeError::Syntax {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Whether the weights `name` learn: see [`Recipe::learns`].
    pub fn learns(&self, name: &str) -> bool {
        let is_of = |layer: &String| {
            let rest = name.strip_prefix(layer.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.learns.is_empty() || self.learns.iter().any(is_of)
    }

    /// Checks that `self`, the recipe of the checkpoint `path`, is the one that was asked for.
    ///
    /// # Errors
    /// [`RecipeError::Other`] with the names of the fields that differ.
    pub fn check_same(&self, expected: &Self, path: &Path) -> Result<(), RecipeError> {
        if self == expected {
            return Ok(());
        }
        let fields = |recipe| toml::Table::try_from(recipe).unwrap_or_default();
        let (left, right) = (fields(self), fields(expected));
        let mut names: Vec<&str> = left
            .keys()
            .chain(right.keys())
            .map(String::as_str)
            .filter(|name| left.get(*name) != right.get(*name))
            .collect();
        names.sort_unstable();
        names.dedup();
        Err(RecipeError::Other {
            path: path.to_owned(),
            differs: names.join(", "),
        })
    }

    /// Checks every value that nothing else checks.
    ///
    /// # Errors
    /// [`RecipeError::Value`] for the first that is out of range.
    pub fn check(&self) -> Result<(), RecipeError> {
        const COUNT: &str = "a number from 1 to 65536";
        const FACTOR: &str = "a number from 0";
        let count = |value: usize| (1..=65536).contains(&value);
        let factor = |value: f32| value >= 0.0 && value.is_finite();
        let found = |value: f32| value.to_string();
        let rate = self.schedule.base_learning_rate;
        let checks = [
            (
                !self.data.is_empty(),
                "data",
                "at least one set (for instance `--data synthetic:1`)",
                "none".to_owned(),
            ),
            (
                self.data.iter().all(|source| source.detector.is_none()),
                "detector",
                "it with [[backgrounds]], whose false alarms are learnt",
                "it with [[data]]".to_owned(),
            ),
            (count(self.batch), "batch", COUNT, self.batch.to_string()),
            (count(self.epochs), "epochs", COUNT, self.epochs.to_string()),
            (
                (0.0..1.0).contains(&self.negative_share),
                "negative_share",
                "0 or more and below 1",
                found(self.negative_share),
            ),
            (
                self.input_size
                    .is_none_or(|size| size.iter().all(|edge| (1..=4096).contains(edge))),
                "input_size",
                "a width and a height from 1 to 4096 pixels",
                format!("{:?}", self.input_size.unwrap_or_default()),
            ),
            (
                self.crop_margin > 0.0 && self.crop_margin.is_finite(),
                "crop_margin",
                "more than 0",
                found(self.crop_margin),
            ),
            (
                factor(rate),
                "schedule.base_learning_rate",
                FACTOR,
                found(rate),
            ),
        ];
        for (holds, field, expected, found) in checks {
            if !holds {
                return Err(RecipeError::Value {
                    field: field.to_owned(),
                    expected: expected.to_owned(),
                    found,
                });
            }
        }
        for (field, kind, coefficient) in [
            (
                "landmarks",
                self.loss.landmarks,
                self.loss.landmarks_coefficient,
            ),
            ("boxes", self.loss.boxes, self.loss.boxes_coefficient),
            ("scores", self.loss.scores, self.loss.scores_coefficient),
            (
                "presence",
                LossKind::BinaryCrossEntropy,
                self.loss.presence_coefficient,
            ),
            (
                "uncertainty",
                LossKind::Laplace,
                self.loss.uncertainty_coefficient,
            ),
        ] {
            if !factor(coefficient) {
                return Err(RecipeError::Value {
                    field: format!("loss.{field}_coefficient"),
                    expected: FACTOR.to_owned(),
                    found: found(coefficient),
                });
            }
            if let Some(fault) = kind.fault() {
                return Err(RecipeError::Fault {
                    field: format!("loss.{field}"),
                    fault,
                });
            }
        }
        match self.optimizer.fault() {
            Some(fault) => Err(RecipeError::Fault {
                field: "optimizer".to_owned(),
                fault,
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_survives_toml() {
        let recipe = Recipe {
            data: vec![DataSource::new("synthetic:7")],
            ..Recipe::default()
        };
        let text = toml::to_string(&recipe).unwrap();
        assert_eq!(toml::from_str::<Recipe>(&text).unwrap(), recipe);
    }

    #[test]
    fn every_committed_recipe_is_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        let mut count = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            Recipe::read(&path).unwrap().check().unwrap();
            count += 1;
        }
        assert!(count >= 3, "{count} recipes");
    }

    #[test]
    fn a_detector_belongs_to_pictures_without_faces() {
        let with_detector = DataSource {
            detector: Some("detector.onnx".into()),
            ..DataSource::new("synthetic:7")
        };
        let mut recipe = Recipe {
            data: vec![DataSource::new("synthetic:7")],
            backgrounds: vec![with_detector.clone()],
            ..Recipe::default()
        };
        recipe.check().unwrap();
        recipe.data.push(with_detector);
        let message = recipe.check().unwrap_err().to_string();
        assert!(message.contains("detector"), "{message}");
    }

    #[test]
    fn misspelt_fields_and_bad_values_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        for (text, expected) in [
            ("bach = 3", "bach"),
            ("task = \"landmark\"", "landmark"),
            (
                "[loss]\nlandmarks = { kind = \"wing\", with = 1.0 }",
                "with",
            ),
            ("batch = -1", "batch"),
        ] {
            fs::write(&path, text).unwrap();
            let error = Recipe::read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        for (text, expected) in [
            ("", "data"),
            ("batch = 0", "batch"),
            ("crop_margin = 0.0", "crop_margin"),
            ("[loss]\nboxes_coefficient = nan", "boxes_coefficient"),
            ("[optimizer]\nweight_decay = -1.0", "weight_decay"),
        ] {
            let mut recipe: Recipe = toml::from_str(text).unwrap();
            if !text.is_empty() {
                recipe.data.push(DataSource::new("synthetic:1"));
            }
            let error = recipe.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
