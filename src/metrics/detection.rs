//! Quality of face detection: which found box is right, and how many are, over a set of pictures.

use crate::geometry::FaceBox;
use serde::{Deserialize, Serialize};

/// A face that a detector found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// The box, in the frame.
    #[serde(rename = "box")]
    pub face_box: FaceBox,
    /// The detector's belief that it is a face, 0 to 1.
    pub score: f32,
}

/// What became of a detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It matches a labelled face that no detection with a higher score matches.
    Right,
    /// It matches no labelled face, or one that is taken: a false positive.
    Wrong,
    /// It lies on a box of which nobody knows whether it is a face.
    Ignored,
}

/// An overlap with an `ignore` box from which a detection is neither right nor wrong: intersection over union, lower
/// than for faces, since nobody drew those boxes with care.
const IGNORE_IOU: f32 = 0.3;

/// Judges the detections of one picture, in their order. From the highest score down, each takes the free face with
/// the greatest intersection over union, if that is at least `iou`. One that takes none is [`Outcome::Ignored`] when it
/// overlaps an `ignore` box by 0.3, or lies in one by half of its own area, and [`Outcome::Wrong`] else.
pub fn judge_detections(
    detections: &[Detection],
    faces: &[FaceBox],
    ignore: &[FaceBox],
    iou: f32,
) -> Vec<Outcome> {
    let mut order: Vec<usize> = (0..detections.len()).collect();
    order.sort_by(|&a, &b| detections[b].score.total_cmp(&detections[a].score));
    let mut taken = vec![false; faces.len()];
    let mut outcomes = vec![Outcome::Wrong; detections.len()];
    for index in order {
        let found = &detections[index].face_box;
        let best = (0..faces.len())
            .filter(|&face| !taken[face])
            .map(|face| (face, faces[face].iou(found)))
            .filter(|&(_, overlap)| overlap >= iou)
            .max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((face, _)) = best {
            taken[face] = true;
            outcomes[index] = Outcome::Right;
        } else if ignore.iter().any(|area| is_covered(found, area)) {
            outcomes[index] = Outcome::Ignored;
        }
    }
    outcomes
}

fn is_covered(found: &FaceBox, area: &FaceBox) -> bool {
    let overlap = found.iou(area);
    // From I / U = overlap and U = A + B - I follows I = overlap (A + B) / (1 + overlap).
    let intersection = overlap * (found.area() + area.area()) / (1.0 + overlap);
    overlap >= IGNORE_IOU || intersection >= 0.5 * found.area()
}

/// Average precision: the area under the precision-recall curve after precision has been made to fall with recall
/// (all-point interpolation, PASCAL VOC since 2010). `judged` holds score and whether the detection is right, in any
/// order, over all pictures; detections of equal score enter together. `None` without `faces`.
pub fn average_precision(judged: &[(f32, bool)], faces: usize) -> Option<f64> {
    if faces == 0 {
        return None;
    }
    let mut sorted = judged.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut curve: Vec<(f64, f64)> = Vec::new();
    let (mut right, mut all) = (0, 0);
    for group in sorted.chunk_by(|a, b| a.0 == b.0) {
        right += group.iter().filter(|(_, is_right)| *is_right).count();
        all += group.len();
        curve.push((right as f64 / faces as f64, right as f64 / all as f64));
    }
    let (mut area, mut ceiling, mut upper_recall) = (0.0, 0.0f64, None);
    for &(recall, precision) in curve.iter().rev() {
        if let Some(upper) = upper_recall {
            area += (upper - recall) * ceiling;
        }
        ceiling = ceiling.max(precision);
        upper_recall = Some(recall);
    }
    Some(area + upper_recall.unwrap_or(0.0) * ceiling)
}

/// One picture with its labels and what was found in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JudgedImage {
    /// Labelled faces.
    pub faces: Vec<FaceBox>,
    /// Boxes that are neither right nor wrong to find.
    pub ignore: Vec<FaceBox>,
    /// Everything the detector found, also below the score threshold: average precision needs it.
    pub detections: Vec<Detection>,
}

impl JudgedImage {
    /// (right, wrong) among the detections from `threshold` up.
    fn count(&self, threshold: f32, iou: f32) -> (usize, usize) {
        let kept: Vec<Detection> = self
            .detections
            .iter()
            .filter(|detection| detection.score >= threshold)
            .copied()
            .collect();
        let outcomes = judge_detections(&kept, &self.faces, &self.ignore, iou);
        let count = |wanted| {
            outcomes
                .iter()
                .filter(|&&outcome| outcome == wanted)
                .count()
        };
        (count(Outcome::Right), count(Outcome::Wrong))
    }
}

/// Detection quality over pictures. Recall, precision and false positives are of the detections whose score is at
/// least `score_threshold`; average precision is over all. A quotient without a denominator is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DetectionSummary {
    /// Pictures.
    pub images: usize,
    /// Labelled faces in them.
    pub faces: usize,
    /// Pictures without a labelled face.
    pub face_free_images: usize,
    /// Fraction of the faces found at an intersection over union of 0.5.
    pub recall50: Option<f64>,
    /// Fraction of the faces found at 0.3.
    pub recall30: Option<f64>,
    /// Right ones among right and wrong ones at 0.5.
    pub precision: Option<f64>,
    /// Right ones among right and wrong ones at 0.3: for labels that are looser than what the detector was taught.
    pub precision30: Option<f64>,
    /// False positives at 0.5 over pictures.
    pub false_positives_per_image: Option<f64>,
    /// False positives over pictures, of the pictures without a labelled face.
    pub false_positives_per_face_free_image: Option<f64>,
    /// Average precision at 0.5.
    pub ap50: Option<f64>,
    /// Scores below it count as not found.
    pub score_threshold: f32,
}

impl DetectionSummary {
    /// Sums up `images` at `score_threshold`.
    pub fn of<'a>(images: impl IntoIterator<Item = &'a JudgedImage>, score_threshold: f32) -> Self {
        let mut summary = Self {
            score_threshold,
            ..Self::default()
        };
        let (mut at50, mut at30) = ((0, 0), (0, 0));
        let mut wrong_in_face_free = 0;
        let mut judged = Vec::new();
        for image in images {
            summary.images += 1;
            summary.faces += image.faces.len();
            let (right50, wrong50) = image.count(score_threshold, 0.5);
            let (right30, wrong30) = image.count(score_threshold, 0.3);
            at50 = (at50.0 + right50, at50.1 + wrong50);
            at30 = (at30.0 + right30, at30.1 + wrong30);
            if image.faces.is_empty() {
                summary.face_free_images += 1;
                wrong_in_face_free += wrong50;
            }
            let outcomes = judge_detections(&image.detections, &image.faces, &image.ignore, 0.5);
            judged.extend(
                image
                    .detections
                    .iter()
                    .zip(outcomes)
                    .filter(|(_, outcome)| *outcome != Outcome::Ignored)
                    .map(|(detection, outcome)| (detection.score, outcome == Outcome::Right)),
            );
        }
        let over = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        summary.recall50 = over(at50.0, summary.faces);
        summary.recall30 = over(at30.0, summary.faces);
        summary.precision = over(at50.0, at50.0 + at50.1);
        summary.precision30 = over(at30.0, at30.0 + at30.1);
        summary.false_positives_per_image = over(at50.1, summary.images);
        summary.false_positives_per_face_free_image =
            over(wrong_in_face_free, summary.face_free_images);
        summary.ap50 = average_precision(&judged, summary.faces);
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(x: f32, score: f32) -> Detection {
        Detection {
            face_box: FaceBox::new(x, 0.0, 10.0, 10.0),
            score,
        }
    }

    fn face(x: f32) -> FaceBox {
        FaceBox::new(x, 0.0, 10.0, 10.0)
    }

    #[test]
    fn detections_are_judged_from_the_highest_score_down() {
        use Outcome::{Ignored, Right, Wrong};
        struct Case {
            name: &'static str,
            detections: Vec<Detection>,
            faces: Vec<FaceBox>,
            ignore: Vec<FaceBox>,
            iou: f32,
            expected: Vec<Outcome>,
        }
        let cases = [
            Case {
                name: "a second box on a face is wrong",
                detections: vec![found(1.0, 0.6), found(0.0, 0.9)],
                faces: vec![face(0.0)],
                ignore: vec![],
                iou: 0.5,
                expected: vec![Wrong, Right],
            },
            Case {
                name: "the nearer of two faces is taken",
                // 2 of 10 pixels off face 0: IoU 8 / 12; 3 off face 1: 7 / 13.
                detections: vec![found(2.0, 0.9), found(0.0, 0.5)],
                faces: vec![face(5.0), face(0.0)],
                ignore: vec![],
                iou: 0.5,
                expected: vec![Right, Wrong],
            },
            Case {
                name: "half overlap is a third and counts at 0.3 alone",
                detections: vec![found(5.0, 0.9)],
                faces: vec![face(0.0)],
                ignore: vec![],
                iou: 0.3,
                expected: vec![Right],
            },
            Case {
                name: "half overlap is wrong at 0.5",
                detections: vec![found(5.0, 0.9)],
                faces: vec![face(0.0)],
                ignore: vec![],
                iou: 0.5,
                expected: vec![Wrong],
            },
            Case {
                name: "on an ignored box, in a large ignored box, beside both",
                detections: vec![found(105.0, 0.9), found(215.0, 0.9), found(300.0, 0.9)],
                faces: vec![],
                ignore: vec![face(100.0), FaceBox::new(200.0, 0.0, 90.0, 90.0)],
                iou: 0.5,
                expected: vec![Ignored, Ignored, Wrong],
            },
            Case {
                name: "a face wins over an ignored box",
                detections: vec![found(0.0, 0.9)],
                faces: vec![face(1.0)],
                ignore: vec![face(0.0)],
                iou: 0.5,
                expected: vec![Right],
            },
        ];
        for case in cases {
            let outcomes = judge_detections(&case.detections, &case.faces, &case.ignore, case.iou);
            assert_eq!(outcomes, case.expected, "{}", case.name);
        }
    }

    #[test]
    fn average_precision_is_as_computed_by_hand() {
        // Right, wrong, right, wrong of three faces: points (1/3, 1), (1/3, 1/2), (2/3, 2/3), (2/3, 1/2).
        // Envelope: 1 up to 1/3, 2/3 up to 2/3, nothing beyond: 1/3 + 2/9.
        let judged = [(0.9, true), (0.8, false), (0.7, true), (0.6, false)];
        type Case<'a> = (&'a str, &'a [(f32, bool)], usize, Option<f64>);
        let cases: [Case<'_>; 6] = [
            ("by hand", &judged, 3, Some(1.0 / 3.0 + 2.0 / 9.0)),
            ("nothing found", &[], 3, Some(0.0)),
            ("no faces", &judged, 0, None),
            ("all right", &[(0.5, true), (0.4, true)], 2, Some(1.0)),
            ("all wrong", &[(0.5, false)], 2, Some(0.0)),
            // Equal scores enter together: one point (1, 1/2), whatever the order.
            ("tie", &[(0.5, true), (0.5, false)], 1, Some(0.5)),
        ];
        for (name, judged, faces, expected) in cases {
            let area = average_precision(judged, faces);
            let near = match (area, expected) {
                (Some(area), Some(expected)) => (area - expected).abs() < 1e-9,
                (area, expected) => area == expected,
            };
            assert!(near, "{name}: {area:?} {expected:?}");
        }
    }

    #[test]
    fn a_summary_is_as_computed_by_hand() {
        let images = [
            // Two faces: one found at IoU 1, one at a third; one false positive; one detection below the threshold.
            JudgedImage {
                faces: vec![face(0.0), face(50.0)],
                ignore: vec![],
                detections: vec![found(0.0, 0.9), found(55.0, 0.8), found(200.0, 0.2)],
            },
            // No face: one false positive and one that is ignored.
            JudgedImage {
                faces: vec![],
                ignore: vec![face(400.0)],
                detections: vec![found(0.0, 0.7), found(400.0, 0.95)],
            },
        ];
        let summary = DetectionSummary::of(&images, 0.5);
        assert_eq!(
            summary,
            DetectionSummary {
                images: 2,
                faces: 2,
                face_free_images: 1,
                recall50: Some(0.5),
                recall30: Some(1.0),
                precision: Some(1.0 / 3.0),
                precision30: Some(2.0 / 3.0),
                false_positives_per_image: Some(1.0),
                false_positives_per_face_free_image: Some(1.0),
                // Right at 0.9, wrong at 0.8, 0.7, 0.2: recall 1/2 at precision 1.
                ap50: Some(0.5),
                score_threshold: 0.5,
            }
        );
        let none = DetectionSummary::of(&[], 0.5);
        assert_eq!(
            (none.recall50, none.precision, none.ap50),
            (None, None, None)
        );
    }
}
