//! Detection quality on a folder that mixes data sets.

use super::{Damaged, EvaluationError, LabelledFolder};
use crate::{
    annotation::Split,
    detector::Detector,
    finder::{Acceptance, confirm, is_same_face},
    frame::Frame,
    geometry::FaceBox,
    landmarker::Landmarker,
    metrics::{Detection, DetectionIntervals, DetectionSummary, JudgedImage},
    model::{Infer, InferError},
};
use serde::Serialize;
use std::collections::BTreeMap;

/// Detection quality on the pictures of one or more folders.
#[derive(Clone, Debug, Serialize)]
pub struct DetectionReport {
    /// Name of the model.
    pub model: String,
    /// Name of the landmark model that confirmed its detections; `None`: the detector was on its own.
    pub landmarks: Option<String>,
    /// Part of the data.
    pub split: &'static str,
    /// All pictures together.
    #[serde(flatten)]
    pub figures: DetectionFigures,
    /// Each data set on its own.
    pub sets: BTreeMap<String, DetectionFigures>,
    /// The pictures with faces of each kind of box, as the labels name it: what is loose in one kind is not in another.
    pub box_kinds: BTreeMap<String, DetectionFigures>,
    /// Pictures and labels that could not be used.
    pub damaged: Vec<Damaged>,
}

/// Figures of some pictures.
#[derive(Clone, Debug, Serialize)]
pub struct DetectionFigures {
    /// The figures.
    #[serde(flatten)]
    pub summary: DetectionSummary,
    /// 95 % intervals of some of them.
    pub intervals95: DetectionIntervals,
}

impl DetectionFigures {
    fn of(images: &[&JudgedImage], score_threshold: f32) -> Self {
        Self {
            summary: DetectionSummary::of(images.iter().copied(), score_threshold),
            intervals95: DetectionIntervals::of(images, score_threshold),
        }
    }
}

/// Who says what is a face.
pub enum Judge<'a, L> {
    /// The detector alone; its own threshold should be low: what lies below the threshold of the figures shapes the average
    /// precision.
    Detector,
    /// The landmark network confirms each detection, as for the live program: scores are the probabilities of both.
    Landmarker(&'a mut Landmarker<L>),
}

/// Evaluates `detector` on `split` of `folders`, with detections from a score of `threshold` on. `on_damaged` hears of each
/// picture and label that is skipped.
///
/// # Errors
/// A folder has no usable label or picture, or a network failed.
pub fn evaluate_detector<D: Infer, L: Infer>(
    folders: &[LabelledFolder],
    split: Split,
    detector: &mut Detector<D>,
    mut judge: Judge<'_, L>,
    threshold: f32,
    mut on_damaged: impl FnMut(&Damaged),
) -> Result<DetectionReport, EvaluationError> {
    let mut judged: Vec<(String, String, JudgedImage)> = Vec::new();
    let mut damaged = Vec::new();
    for folder in folders {
        let records = folder.detection_records(split)?;
        records.damaged.iter().for_each(&mut on_damaged);
        damaged.extend(records.damaged);
        let (mut usable, mut first_damaged) = (0, None);
        for record in &records.records {
            let frame = match folder.picture(&record.image, record.width, record.height) {
                Ok(frame) => frame,
                Err(broken) => {
                    on_damaged(&broken);
                    first_damaged.get_or_insert(broken.clone());
                    damaged.push(broken);
                    continue;
                }
            };
            usable += 1;
            let detections = detector.detect(&frame)?;
            let image = JudgedImage {
                faces: record.boxes.clone(),
                ignore: record.ignore.clone(),
                detections: match &mut judge {
                    Judge::Detector => detections.to_vec(),
                    Judge::Landmarker(landmarker) => {
                        confirmed(detections, &frame, landmarker, threshold)?
                    }
                },
            };
            judged.push((record.dataset.clone(), record.box_kind.clone(), image));
        }
        if let (0, Some(first)) = (usable, first_damaged) {
            return Err(EvaluationError::NoPicture {
                path: folder.path().to_owned(),
                pictures: records.records.len(),
                first,
            });
        }
    }
    let mut sets: BTreeMap<String, Vec<&JudgedImage>> = BTreeMap::new();
    let mut box_kinds: BTreeMap<String, Vec<&JudgedImage>> = BTreeMap::new();
    for (set, box_kind, image) in &judged {
        sets.entry(set.clone()).or_default().push(image);
        if !image.faces.is_empty() && !box_kind.is_empty() {
            box_kinds.entry(box_kind.clone()).or_default().push(image);
        }
    }
    let all: Vec<&JudgedImage> = judged.iter().map(|(_, _, image)| image).collect();
    let figures = |groups: &BTreeMap<String, Vec<&JudgedImage>>| {
        groups
            .iter()
            .map(|(name, images)| (name.clone(), DetectionFigures::of(images, threshold)))
            .collect()
    };
    Ok(DetectionReport {
        model: detector.model().card().name.clone(),
        landmarks: match judge {
            Judge::Detector => None,
            Judge::Landmarker(landmarker) => Some(landmarker.model().card().name.clone()),
        },
        split: split.name(),
        figures: DetectionFigures::of(&all, threshold),
        sets: figures(&sets),
        box_kinds: figures(&box_kinds),
        damaged,
    })
}

/// The detections that a landmark network has looked at, each with the probability of both networks as its score. One that
/// lies on a face that was accepted before is left out, as the tracker does.
fn confirmed<L: Infer>(
    detections: &[Detection],
    frame: &Frame,
    landmarker: &mut Landmarker<L>,
    threshold: f32,
) -> Result<Vec<Detection>, InferError> {
    let acceptance = Acceptance {
        probability: threshold,
        ..Acceptance::STILLS
    };
    let mut landmarks = Vec::new();
    let mut known: Vec<FaceBox> = Vec::new();
    let mut kept = Vec::new();
    for detection in detections {
        let is_known = |face_box| known.iter().any(|face| is_same_face(face, face_box));
        if is_known(&detection.face_box) {
            continue;
        }
        let confirmation = confirm(landmarker, frame, detection, &mut landmarks)?;
        if !confirmation.is_in_frame || is_known(&confirmation.face_box) {
            continue;
        }
        if acceptance.accepts(&confirmation) {
            known.push(confirmation.face_box);
        }
        kept.push(Detection {
            score: confirmation.probability,
            ..*detection
        });
    }
    Ok(kept)
}
