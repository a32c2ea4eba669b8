//! Which detections are faces: the detector proposes, the landmark network looks and confirms. Each sees what the other does
//! not, the one the surroundings and the other the face at full resolution, so that together they tell faces from what looks
//! like one far better than either alone.

use crate::{
    frame::Frame,
    geometry::{FaceBox, Point},
    landmarker::Landmarker,
    metrics::Detection,
    model::{Infer, InferError},
};

/// From when on a detection counts as a face.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Acceptance {
    /// [`Confirmation::probability`] from which it counts, 0 to 1. Higher: fewer false faces, more missed ones.
    pub probability: f32,
    /// [`Confirmation::confidence`] from which it counts, 0 to 1: below it landmarks are not worth showing.
    pub confidence: f32,
}

impl Acceptance {
    /// For streams: a face that is missed now is found in a later frame, and one that is followed by mistake stays for long.
    /// Nothing in the validation pictures without a face is followed.
    pub const STREAM: Self = Self {
        probability: 0.5,
        confidence: 0.7,
    };

    /// For pictures that are looked at one by one. Chosen on the released int8 networks' validation pictures, as they are and
    /// made small, grey and noisy: one picture in 32 without a face has a false one in either. At 0.8 two of the small faces in
    /// a hundred more are found, and one picture in 14 has a false one.
    pub const STILLS: Self = Self {
        probability: 0.9,
        confidence: 0.0,
    };

    /// The detector's score from which a detection counts where no landmark network has a say: one validation picture in 32
    /// without a face has a false one.
    pub const SCORE_ALONE: f32 = 0.45;

    /// Whether a detection counts as a face.
    pub fn accepts(&self, confirmation: &Confirmation) -> bool {
        let counts = match confirmation.confidence {
            Some(confidence) => {
                confidence >= self.confidence && confirmation.probability >= self.probability
            }
            None => confirmation.probability >= Self::SCORE_ALONE,
        };
        counts && confirmation.is_in_frame
    }
}

/// What a landmark network says of a detection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confirmation {
    /// Probability that there is a face, 0 to 1, of both networks: see [`joint_probability`]. How far off its landmarks may be
    /// has no part in it where the network says whether it sees a face at all: small and blurred faces have vague landmarks.
    /// The detector's score alone when the landmark network says neither.
    pub probability: f32,
    /// The landmark network's confidence, 0 to 1; `None` when it does not say.
    pub confidence: Option<f32>,
    /// Tight box of the landmarks, in the frame.
    pub face_box: FaceBox,
    /// Whether the landmarks are large enough to be a face, and enough of them are in the frame.
    pub is_in_frame: bool,
    /// Runs of the landmark network.
    pub runs: u64,
}

/// Looks at `detection` with the landmark network and leaves the landmarks there in `landmarks`, in the frame.
///
/// # Errors
/// The network failed.
pub fn confirm<L: Infer>(
    landmarker: &mut Landmarker<L>,
    frame: &Frame,
    detection: &Detection,
    landmarks: &mut Vec<Point>,
) -> Result<Confirmation, InferError> {
    let look = landmarker.locate_detected(frame, &detection.face_box, landmarks)?;
    let confidence = landmarker.says_confidence().then_some(look.confidence);
    Ok(Confirmation {
        probability: confidence.map_or(detection.score, |confidence| {
            joint_probability(detection.score, look.presence.unwrap_or(confidence))
        }),
        confidence,
        face_box: FaceBox::around(&*landmarks).unwrap_or_default(),
        is_in_frame: is_in_frame(landmarks, frame),
        runs: look.runs,
    })
}

/// The probability that two witnesses give together who see different things and each by itself would give `a` and `b`: their
/// odds multiplied (naive Bayes with even odds before). 0.5 when they contradict each other with certainty.
pub fn joint_probability(a: f32, b: f32) -> f32 {
    let (yes, no) = (a * b, (1.0 - a) * (1.0 - b));
    if yes + no > 0.0 {
        yes / (yes + no)
    } else {
        0.5
    }
}

/// A face that is more than this much the same as another, as intersection over union, is the same.
pub const SAME_FACE_IOU: f32 = 0.3;
/// So is one that lies in another to more than this part of the smaller: no face fits into a face.
const SAME_FACE_CONTAINMENT: f32 = 0.6;

/// Whether two boxes are of one face.
pub fn is_same_face(a: &FaceBox, b: &FaceBox) -> bool {
    a.iou(b) > SAME_FACE_IOU || a.containment(b) > SAME_FACE_CONTAINMENT
}

/// A face is lost when its longer edge is shorter than this, in pixels: nothing can be seen in it.
const MIN_FACE_PX: f32 = 12.0;
/// A face is lost when fewer of its landmarks than this lie in the frame, as a fraction.
const MIN_VISIBLE: f32 = 0.5;

/// Whether landmarks are large enough to be a face's, and enough of them are in the frame.
pub fn is_in_frame(landmarks: &[Point], frame: &Frame) -> bool {
    let picture = FaceBox::new(0.0, 0.0, frame.width() as f32, frame.height() as f32);
    let Some(face_box) = FaceBox::around(landmarks) else {
        return false;
    };
    let visible = landmarks.iter().filter(|&&point| picture.contains(point));
    face_box.width.max(face_box.height) >= MIN_FACE_PX
        && visible.count() as f32 >= MIN_VISIBLE * landmarks.len() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds_multiply() {
        for (a, b, expected) in [
            (0.5, 0.8, 0.8),
            (0.8, 0.8, 16.0 / 17.0),
            (0.2, 0.8, 0.5),
            (0.0, 0.9, 0.0),
            (1.0, 0.1, 1.0),
            (1.0, 0.0, 0.5),
        ] {
            let joint = joint_probability(a, b);
            assert!((joint - expected).abs() < 1e-6, "{a} and {b}: {joint}");
            assert_eq!(joint, joint_probability(b, a));
        }
    }

    #[test]
    fn a_network_that_says_nothing_leaves_it_to_the_detector() {
        let confirmation = |probability, confidence| Confirmation {
            probability,
            confidence,
            face_box: FaceBox::default(),
            is_in_frame: true,
            runs: 1,
        };
        let stream = Acceptance::STREAM;
        assert!(stream.accepts(&confirmation(0.45, None)));
        assert!(!stream.accepts(&confirmation(0.4, None)));
        assert!(stream.accepts(&confirmation(0.5, Some(0.7))));
        assert!(!stream.accepts(&confirmation(0.49, Some(0.9))));
        assert!(!stream.accepts(&confirmation(0.9, Some(0.69))));
        let outside = Confirmation {
            is_in_frame: false,
            ..confirmation(0.9, Some(0.9))
        };
        assert!(!stream.accepts(&outside));
        assert!(!Acceptance::STILLS.accepts(&confirmation(0.89, Some(1.0))));
        assert!(Acceptance::STILLS.accepts(&confirmation(0.9, Some(0.1))));
    }
}
