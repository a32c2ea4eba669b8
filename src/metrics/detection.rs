//! Quality of face detection: which found box is right, and how many are, over a set of pictures.

use super::bootstrap_interval;
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

/// When a detection is on a face.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Match {
    /// Their intersection over union is at least this.
    Overlap(f32),
    /// The middle of the found box lies in the labelled one, and its size (square root of the area) is between 1/2.5 and
    /// 2.5 times the label's: for labels that draw another part of the head than what the detector was taught, as the
    /// head boxes of the CMU and MIT pictures do.
    Center,
}

/// How far sizes may differ where the middle decides.
const CENTER_SIZE_FACTOR: f32 = 2.5;

impl Match {
    /// How well `found` is on `face`, more is better; `None`: not at all.
    fn closeness(self, found: &FaceBox, face: &FaceBox) -> Option<f32> {
        match self {
            Self::Overlap(least) => {
                let overlap = face.iou(found);
                (overlap >= least).then_some(overlap)
            }
            Self::Center => {
                let (size, found_size) = (face.area().sqrt(), found.area().sqrt());
                let fits = found_size <= CENTER_SIZE_FACTOR * size
                    && size <= CENTER_SIZE_FACTOR * found_size
                    && face.contains(found.center());
                fits.then(|| -face.center().distance(found.center()) / size)
            }
        }
    }
}

/// Judges the detections of one picture, in their order. From the highest score down, each takes the free face that it
/// matches best by `rule`. One that takes none is [`Outcome::Ignored`] when it
/// overlaps an `ignore` box by 0.3, or lies in one by half of its own area, and [`Outcome::Wrong`] else.
pub fn judge_detections(
    detections: &[Detection],
    faces: &[FaceBox],
    ignore: &[FaceBox],
    rule: Match,
) -> Vec<Outcome> {
    let mut order: Vec<usize> = (0..detections.len()).collect();
    order.sort_by(|&a, &b| detections[b].score.total_cmp(&detections[a].score));
    let mut taken = vec![false; faces.len()];
    let mut outcomes = vec![Outcome::Wrong; detections.len()];
    for index in order {
        let found = &detections[index].face_box;
        let best = (0..faces.len())
            .filter(|&face| !taken[face])
            .filter_map(|face| Some((face, rule.closeness(found, &faces[face])?)))
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
    fn count(&self, threshold: f32, rule: Match) -> (usize, usize) {
        let kept: Vec<Detection> = self
            .detections
            .iter()
            .filter(|detection| detection.score >= threshold)
            .copied()
            .collect();
        let outcomes = judge_detections(&kept, &self.faces, &self.ignore, rule);
        let count = |wanted| {
            outcomes
                .iter()
                .filter(|&&outcome| outcome == wanted)
                .count()
        };
        (count(Outcome::Right), count(Outcome::Wrong))
    }

    /// Score of each detection that counts, and whether it is right.
    fn judged(&self, rule: Match) -> impl Iterator<Item = (f32, bool)> {
        let outcomes = judge_detections(&self.detections, &self.faces, &self.ignore, rule);
        let scores = self.detections.iter().map(|detection| detection.score);
        scores
            .zip(outcomes)
            .filter(|(_, outcome)| *outcome != Outcome::Ignored)
            .map(|(score, outcome)| (score, outcome == Outcome::Right))
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
    /// Fraction of the faces found by [`Match::Center`].
    #[serde(default)]
    pub recall_center: Option<f64>,
    /// Right ones among right and wrong ones at 0.5.
    pub precision: Option<f64>,
    /// Right ones among right and wrong ones at 0.3: for labels that are looser than what the detector was taught.
    pub precision30: Option<f64>,
    /// Right ones among right and wrong ones by [`Match::Center`].
    #[serde(default)]
    pub precision_center: Option<f64>,
    /// False positives at 0.5 over pictures.
    pub false_positives_per_image: Option<f64>,
    /// False positives over pictures, of the pictures without a labelled face.
    pub false_positives_per_face_free_image: Option<f64>,
    /// Average precision at 0.5.
    pub ap50: Option<f64>,
    /// Average precision by [`Match::Center`].
    #[serde(default)]
    pub ap_center: Option<f64>,
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
        let (mut at50, mut at30, mut centered) = ((0, 0), (0, 0), (0, 0));
        let mut wrong_in_face_free = 0;
        let (mut judged, mut judged_by_center) = (Vec::new(), Vec::new());
        for image in images {
            summary.images += 1;
            summary.faces += image.faces.len();
            let (right50, wrong50) = image.count(score_threshold, Match::Overlap(0.5));
            let (right30, wrong30) = image.count(score_threshold, Match::Overlap(0.3));
            let (right, wrong) = image.count(score_threshold, Match::Center);
            centered = (centered.0 + right, centered.1 + wrong);
            at50 = (at50.0 + right50, at50.1 + wrong50);
            at30 = (at30.0 + right30, at30.1 + wrong30);
            if image.faces.is_empty() {
                summary.face_free_images += 1;
                wrong_in_face_free += wrong50;
            }
            judged.extend(image.judged(Match::Overlap(0.5)));
            judged_by_center.extend(image.judged(Match::Center));
        }
        let over = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        summary.recall50 = over(at50.0, summary.faces);
        summary.recall30 = over(at30.0, summary.faces);
        summary.recall_center = over(centered.0, summary.faces);
        summary.precision_center = over(centered.0, centered.0 + centered.1);
        summary.precision = over(at50.0, at50.0 + at50.1);
        summary.precision30 = over(at30.0, at30.0 + at30.1);
        summary.false_positives_per_image = over(at50.1, summary.images);
        summary.false_positives_per_face_free_image =
            over(wrong_in_face_free, summary.face_free_images);
        summary.ap50 = average_precision(&judged, summary.faces);
        summary.ap_center = average_precision(&judged_by_center, summary.faces);
        summary
    }
}

/// 95 % intervals of some figures of a [`DetectionSummary`], by the percentile bootstrap over pictures (Efron 1979): the
/// faces of one picture are found or missed together. Absent where the figure is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DetectionIntervals {
    /// Of [`DetectionSummary::recall50`].
    pub recall50: Option<[f64; 2]>,
    /// Of [`DetectionSummary::recall_center`].
    pub recall_center: Option<[f64; 2]>,
    /// Of [`DetectionSummary::false_positives_per_face_free_image`].
    pub false_positives_per_face_free_image: Option<[f64; 2]>,
    /// Of [`DetectionSummary::ap50`].
    pub ap50: Option<[f64; 2]>,
    /// Of [`DetectionSummary::ap_center`].
    pub ap_center: Option<[f64; 2]>,
}

/// Resamples of average precision, which is slow, and their seed.
const RESAMPLES: (usize, u64) = (1000, 1);

impl DetectionIntervals {
    /// Of the figures that [`DetectionSummary::of`] gives for the same arguments.
    pub fn of(images: &[&JudgedImage], score_threshold: f32) -> Self {
        let recall = |rule| {
            let counts: Vec<(f64, f64)> = images
                .iter()
                .filter(|image| !image.faces.is_empty())
                .map(|image| {
                    let (right, _) = image.count(score_threshold, rule);
                    (right as f64, image.faces.len() as f64)
                })
                .collect();
            ratio_interval(&counts)
        };
        let average_precision = |rule| {
            let judged: Vec<(Vec<(f32, bool)>, usize)> = images
                .iter()
                .map(|image| (image.judged(rule).collect(), image.faces.len()))
                .collect();
            bootstrap_interval(judged.len(), RESAMPLES.0, RESAMPLES.1, |drawn| {
                let all: Vec<(f32, bool)> = drawn
                    .iter()
                    .flat_map(|&index| &judged[index].0)
                    .copied()
                    .collect();
                average_precision(&all, drawn.iter().map(|&index| judged[index].1).sum())
            })
        };
        let face_free: Vec<(f64, f64)> = images
            .iter()
            .filter(|image| image.faces.is_empty())
            .map(|image| {
                let (_, wrong) = image.count(score_threshold, Match::Overlap(0.5));
                (wrong as f64, 1.0)
            })
            .collect();
        Self {
            recall50: recall(Match::Overlap(0.5)),
            recall_center: recall(Match::Center),
            false_positives_per_face_free_image: ratio_interval(&face_free),
            ap50: average_precision(Match::Overlap(0.5)),
            ap_center: average_precision(Match::Center),
        }
    }
}

/// The interval of the sum of the first numbers over that of the second ones.
fn ratio_interval(counts: &[(f64, f64)]) -> Option<[f64; 2]> {
    bootstrap_interval(counts.len(), RESAMPLES.0, RESAMPLES.1, |drawn| {
        let sum = |number: fn(&(f64, f64)) -> f64| -> f64 {
            drawn.iter().map(|&index| number(&counts[index])).sum()
        };
        let whole = sum(|pair| pair.1);
        (whole > 0.0).then(|| sum(|pair| pair.0) / whole)
    })
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
            let rule = Match::Overlap(case.iou);
            let outcomes = judge_detections(&case.detections, &case.faces, &case.ignore, rule);
            assert_eq!(outcomes, case.expected, "{}", case.name);
        }
    }

    #[test]
    fn the_middle_decides_within_limits_of_size() {
        let head = FaceBox::new(0.0, 0.0, 40.0, 50.0);
        let around = |x: f32, y: f32, size: f32| Detection {
            face_box: FaceBox::new(x - 0.5 * size, y - 0.5 * size, size, size),
            score: 0.9,
        };
        for (name, detection, expected) in [
            (
                "the face in its head",
                around(20.0, 30.0, 26.0),
                Outcome::Right,
            ),
            ("a low part of it", around(20.0, 48.0, 26.0), Outcome::Right),
            ("below it", around(20.0, 52.0, 26.0), Outcome::Wrong),
            ("an eye", around(20.0, 25.0, 10.0), Outcome::Wrong),
            ("the whole body", around(20.0, 40.0, 120.0), Outcome::Wrong),
        ] {
            let outcomes = judge_detections(&[detection], &[head], &[], Match::Center);
            assert_eq!(outcomes, [expected], "{name}");
        }
        // Each takes the head whose middle is nearer, whatever their order.
        let heads = [head, FaceBox::new(30.0, 0.0, 40.0, 50.0)];
        let pair = [around(36.0, 25.0, 26.0), around(34.0, 25.0, 26.0)];
        let outcomes = judge_detections(&pair, &heads, &[], Match::Center);
        assert_eq!(outcomes, [Outcome::Right; 2]);
    }

    #[test]
    fn intervals_lie_around_their_figures_and_need_something_to_vary() {
        let hit = JudgedImage {
            faces: vec![face(0.0)],
            ignore: vec![],
            detections: vec![found(0.0, 0.9)],
        };
        let miss = JudgedImage {
            detections: vec![],
            ..hit.clone()
        };
        let alarm = JudgedImage {
            faces: vec![],
            ..hit.clone()
        };
        let all_hit = DetectionIntervals::of(&[&hit; 20], 0.5);
        assert_eq!(all_hit.recall50, Some([1.0, 1.0]));
        assert_eq!(all_hit.ap50, Some([1.0, 1.0]));
        assert_eq!(all_hit.false_positives_per_face_free_image, None);
        let mut mixed = vec![&hit; 15];
        mixed.extend([&miss; 5]);
        mixed.extend([&alarm; 4]);
        let mixed = DetectionIntervals::of(&mixed, 0.5);
        let [low, high] = mixed.recall50.unwrap();
        // Binomial with 20 draws at 3/4: the 2.5th and 97.5th percentile are 11 and 18.
        assert!(
            (0.5..=0.6).contains(&low) && (0.85..=0.95).contains(&high),
            "{low} {high}"
        );
        assert_eq!(mixed.recall_center, mixed.recall50);
        assert_eq!(mixed.false_positives_per_face_free_image, Some([1.0, 1.0]));
        let [low, high] = mixed.ap50.unwrap();
        assert!(low < high && low > 0.3 && high < 0.95, "{low} {high}");
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
                // The middle of the second box is half a face off: on the edge of the first face's label.
                recall_center: Some(1.0),
                precision_center: Some(2.0 / 3.0),
                // Right at 0.9 and 0.8, wrong at 0.7 and 0.2.
                ap_center: Some(1.0),
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
