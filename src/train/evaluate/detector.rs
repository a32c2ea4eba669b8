//! Detection quality on a split, through the runtime's own detector.

use super::{EvaluateError, spread_evenly};
use crate::{
    detector::{Detector, DetectorConfig},
    finder::Acceptance,
    frame::Frame,
    geometry::FaceBox,
    metrics::{DetectionSummary, JudgedImage},
    model::Infer,
    train::{
        dataset::{Dataset, Label},
        progress::DetectorValidation,
    },
};
use std::sync::Arc;

/// Boxes below this score are not looked at, not even for average precision.
const SCORE_FLOOR: f32 = 0.05;

/// The pictures of a split, decoded and ready to be run again and again.
pub struct DetectorCases {
    pictures: Vec<PictureCase>,
}

struct PictureCase {
    example: usize,
    frame: Arc<Frame>,
    faces: Vec<FaceBox>,
    ignore: Vec<FaceBox>,
}

/// What a network found in one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct PictureResult {
    /// Index into the data set's examples.
    pub example: usize,
    /// Labels and detections, in the example's picture.
    pub judged: JudgedImage,
}

/// What a network found in a split.
#[derive(Clone, Debug)]
pub struct DetectorResult {
    /// The figures.
    pub validation: DetectorValidation,
    /// Each picture, in the order of the examples.
    pub pictures: Vec<PictureResult>,
}

impl DetectorCases {
    /// Decodes at most `limit` (0: all) pictures of `dataset`, spread evenly.
    ///
    /// # Errors
    /// There is no picture with boxes, or a picture can no longer be read.
    pub fn prepare(dataset: &Dataset, limit: usize) -> Result<Self, EvaluateError> {
        let wanted: Vec<usize> = (0..dataset.examples.len())
            .filter(|&index| matches!(dataset.examples[index].label, Label::Detection { .. }))
            .collect();
        let pictures: Vec<PictureCase> = spread_evenly(&wanted, limit)
            .into_iter()
            .map(|example| picture_case(dataset, example))
            .collect::<Result<_, _>>()?;
        if pictures.is_empty() {
            return Err(EvaluateError::NoCases {
                expected: "pictures with face boxes".to_owned(),
            });
        }
        Ok(Self { pictures })
    }

    /// Pictures.
    pub fn count(&self) -> usize {
        self.pictures.len()
    }

    /// Runs the runtime's detector around `model` on every picture.
    ///
    /// # Errors
    /// The model is for something else, fails, or its outputs do not fit its card.
    pub fn evaluate(&self, model: impl Infer) -> Result<DetectorResult, EvaluateError> {
        let config = DetectorConfig {
            score_threshold: SCORE_FLOOR,
            ..DetectorConfig::default()
        };
        let mut detector = Detector::new(model, config)?;
        let mut pictures = Vec::with_capacity(self.pictures.len());
        for picture in &self.pictures {
            pictures.push(PictureResult {
                example: picture.example,
                judged: JudgedImage {
                    faces: picture.faces.clone(),
                    ignore: picture.ignore.clone(),
                    detections: detector.detect(&picture.frame)?.to_vec(),
                },
            });
        }
        let judged = pictures.iter().map(|picture| &picture.judged);
        Ok(DetectorResult {
            validation: DetectorValidation {
                summary: DetectionSummary::of(judged, Acceptance::SCORE_ALONE),
            },
            pictures,
        })
    }
}

fn picture_case(dataset: &Dataset, index: usize) -> Result<PictureCase, EvaluateError> {
    let example = &dataset.examples[index];
    let Label::Detection { boxes, ignore } = &example.label else {
        unreachable!("only detection examples are chosen");
    };
    let frame = example
        .picture
        .load()
        .map_err(|reason| EvaluateError::Picture {
            picture: example.picture.name(),
            reason,
        })?;
    Ok(PictureCase {
        example: index,
        frame,
        faces: boxes.clone(),
        ignore: ignore.clone(),
    })
}
