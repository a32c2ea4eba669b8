//! Landmark accuracy, in the labelled boxes or in the detector's.

use super::{Damaged, EvaluationError, LabelledFolder};
use crate::{
    annotation::{LandmarkRecord, Split},
    detector::Detector,
    finder::{Acceptance, confirm},
    frame::Frame,
    geometry::Point,
    landmarker::Landmarker,
    metrics::{CedPoint, Detection, FAILURE_NME, FaceError, LandmarkSummary, PredictionSpread},
    model::{Infer, InferError},
};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};

/// Where the faces are said to be.
pub enum FaceBoxes<'a, D> {
    /// In the labelled box: the error is of the landmarks alone. One look, as in training's validation.
    Labelled,
    /// Where the detector finds them: the error of the whole program, which looks again around the landmarks. A face
    /// that no detection overlaps by [`FOUND_IOU`], or none that counts as a face ([`Acceptance::STILLS`]), is missed.
    Detected(&'a mut Detector<D>),
}

/// Intersection over union from which a detection is of the labelled face.
pub const FOUND_IOU: f32 = 0.3;

/// Points of the error curve, from 0 to 8 percent.
const CED_STEPS: usize = 32;

/// Landmark accuracy on the pictures of one or more folders.
#[derive(Clone, Debug, Serialize)]
pub struct LandmarkReport {
    /// Name of the model.
    pub model: String,
    /// Landmark scheme.
    pub scheme: &'static str,
    /// `gt` or `detector`.
    #[serde(rename = "box")]
    pub boxes: &'static str,
    /// Name of the detector.
    pub detector: Option<String>,
    /// Part of the data.
    pub split: &'static str,
    /// All folders together.
    #[serde(flatten)]
    pub summary: LandmarkSummary,
    /// Spread of the predictions over the spread of the labels, in the labelled crop; see
    /// [`PredictionSpread::ratio`].
    pub prediction_variance_ratio: Option<f64>,
    /// The curve of `summary` from 0 to 8 percent.
    pub ced: Vec<CedPoint>,
    /// Each data set on its own.
    pub sets: BTreeMap<String, LandmarkSummary>,
    /// Pictures and labels that could not be used.
    pub damaged: Vec<Damaged>,
}

/// Evaluates `landmarker` on `split` of `folders`; `on_damaged` hears of each picture and label that is skipped.
///
/// # Errors
/// A folder has no usable label or picture, or a network failed.
pub fn evaluate_landmarks<L: Infer, D: Infer>(
    folders: &[LabelledFolder],
    split: Split,
    landmarker: &mut Landmarker<L>,
    mut boxes: FaceBoxes<'_, D>,
    mut on_damaged: impl FnMut(&Damaged),
) -> Result<LandmarkReport, EvaluationError> {
    let mut sets: BTreeMap<String, SetErrors> = BTreeMap::new();
    let mut damaged = Vec::new();
    let mut spread = PredictionSpread::default();
    for folder in folders {
        let records = folder.landmark_records(split, landmarker.scheme())?;
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
            let predicted = predict(&frame, record, landmarker, &mut boxes)?;
            let set = sets.entry(record.dataset.clone()).or_default();
            set.images.insert(record.image.clone());
            match predicted {
                Some(predicted) => {
                    spread.push(
                        &in_crop(landmarker, record, &predicted),
                        &in_crop(landmarker, record, &record.points),
                    );
                    set.errors
                        .extend(record.normalizing_length().and_then(|length| {
                            FaceError::measure(
                                record.scheme,
                                &predicted,
                                &record.points,
                                length,
                                record.original_scale(),
                            )
                        }));
                }
                None => set.missed += 1,
            }
        }
        if let (0, Some(first)) = (usable, first_damaged) {
            return Err(EvaluationError::NoPicture {
                path: folder.path().to_owned(),
                pictures: records.records.len(),
                first,
            });
        }
    }
    let scheme = landmarker.scheme();
    let summarize =
        |set: &SetErrors| LandmarkSummary::of(scheme, &set.errors, set.images.len(), set.missed);
    let summaries: BTreeMap<String, LandmarkSummary> = sets
        .iter()
        .map(|(name, set)| (name.clone(), summarize(set)))
        .collect();
    let (errors, missed, images) = SetErrors::together(sets);
    let nmes: Vec<f64> = errors.iter().map(|error| error.nme).collect();
    Ok(LandmarkReport {
        model: landmarker.model().card().name.clone(),
        scheme: scheme.name(),
        boxes: match boxes {
            FaceBoxes::Labelled => "gt",
            FaceBoxes::Detected(_) => "detector",
        },
        detector: match &boxes {
            FaceBoxes::Labelled => None,
            FaceBoxes::Detected(detector) => Some(detector.model().card().name.clone()),
        },
        split: split.name(),
        summary: LandmarkSummary::of(scheme, &errors, images, missed),
        prediction_variance_ratio: spread.ratio(),
        ced: CedPoint::curve(&nmes, missed, FAILURE_NME, CED_STEPS),
        sets: summaries,
        damaged,
    })
}

/// What was measured on one data set.
#[derive(Default)]
struct SetErrors {
    errors: Vec<FaceError>,
    images: HashSet<String>,
    missed: usize,
}

impl SetErrors {
    /// Errors, missed faces and pictures of all sets.
    fn together(sets: BTreeMap<String, Self>) -> (Vec<FaceError>, usize, usize) {
        let (mut errors, mut missed, mut images) = (Vec::new(), 0, 0);
        for set in sets.into_values() {
            errors.extend(set.errors);
            missed += set.missed;
            images += set.images.len();
        }
        (errors, missed, images)
    }
}

/// The landmarks in the frame, or `None` when the detector misses the face.
fn predict<L: Infer, D: Infer>(
    frame: &Frame,
    record: &LandmarkRecord,
    landmarker: &mut Landmarker<L>,
    boxes: &mut FaceBoxes<'_, D>,
) -> Result<Option<Vec<Point>>, InferError> {
    let mut landmarks = Vec::new();
    match boxes {
        FaceBoxes::Labelled => {
            let region =
                landmarker.region_of_box(&record.face_box, (frame.width(), frame.height()));
            landmarker.locate(frame, &region, &mut landmarks)?;
        }
        FaceBoxes::Detected(detector) => {
            let overlap = |found: &Detection| found.face_box.iou(&record.face_box);
            let mut candidates = detector.detect(frame)?.to_vec();
            candidates.retain(|found| overlap(found) >= FOUND_IOU);
            candidates.sort_by(|a, b| overlap(b).total_cmp(&overlap(a)));
            for found in &candidates {
                let confirmation = confirm(landmarker, frame, found, &mut landmarks)?;
                if Acceptance::STILLS.accepts(&confirmation) {
                    return Ok(Some(landmarks));
                }
            }
            return Ok(None);
        }
    }
    Ok(Some(landmarks))
}

/// Flat coordinates in the labelled crop, in units of its size.
fn in_crop<L: Infer>(
    landmarker: &Landmarker<L>,
    record: &LandmarkRecord,
    landmarks: &[Point],
) -> Vec<f32> {
    let unit_from_frame = landmarker
        .region_of_box(&record.face_box, (record.width, record.height))
        .crop_from_frame(1, 1);
    landmarks
        .iter()
        .map(|&point| unit_from_frame * point)
        .flat_map(|point| [point.x, point.y])
        .collect()
}
