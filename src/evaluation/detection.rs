//! Detection quality on a folder that mixes data sets.

use super::{Damaged, EvaluationError, LabelledFolder};
use crate::{
    annotation::Split,
    detector::Detector,
    metrics::{DetectionIntervals, DetectionSummary, JudgedImage},
    model::Infer,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// Detection quality on the pictures of one or more folders.
#[derive(Clone, Debug, Serialize)]
pub struct DetectionReport {
    /// Name of the model.
    pub model: String,
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

/// Evaluates `detector` on `split` of `folders` at `score_threshold`. The detector's own threshold should be low: what
/// lies between the two shapes the average precision. `on_damaged` hears of each picture and label that is skipped.
///
/// # Errors
/// A folder has no usable label or picture, or the network failed.
pub fn evaluate_detector<D: Infer>(
    folders: &[LabelledFolder],
    split: Split,
    detector: &mut Detector<D>,
    score_threshold: f32,
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
            let image = JudgedImage {
                faces: record.boxes.clone(),
                ignore: record.ignore.clone(),
                detections: detector.detect(&frame)?.to_vec(),
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
            .map(|(name, images)| (name.clone(), DetectionFigures::of(images, score_threshold)))
            .collect()
    };
    Ok(DetectionReport {
        model: detector.model().card().name.clone(),
        split: split.name(),
        figures: DetectionFigures::of(&all, score_threshold),
        sets: figures(&sets),
        box_kinds: figures(&box_kinds),
        damaged,
    })
}
