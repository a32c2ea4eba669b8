//! From a region of a frame to the landmarks of the face in it.

use crate::{
    crop::{Crop, CropRegion, CropRule},
    detector::sigmoid,
    frame::Frame,
    geometry::{FaceBox, Point},
    model::{Infer, InferError, Outputs, Task, WrongTask},
    scheme::Scheme,
};

/// Locates landmarks. After the first frame it allocates nothing of its own.
pub struct Landmarker<M> {
    model: M,
    scheme: Scheme,
    rule: CropRule,
    crop: Crop,
    outputs: Outputs,
    expected_errors_px: Vec<f32>,
}

impl<M: Infer> Landmarker<M> {
    /// Around a network for landmarks.
    ///
    /// # Errors
    /// The network is for something else.
    pub fn new(model: M) -> Result<Self, WrongTask> {
        let card = model.card();
        let Task::Landmarks { scheme, crop: rule } = card.task else {
            return Err(WrongTask {
                model: card.name.clone(),
                expected: "landmarks",
                found: card.task.name(),
            });
        };
        Ok(Self {
            scheme,
            rule,
            crop: card.new_crop(),
            outputs: Outputs::default(),
            expected_errors_px: Vec::new(),
            model,
        })
    }

    /// The network.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Layout of the landmarks.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The upright region that the network wants to see for a face box in a frame of `frame_size` (width, height).
    pub fn region_of_box(&self, face_box: &FaceBox, frame_size: (usize, usize)) -> CropRegion {
        self.rule.region(face_box, frame_size)
    }

    /// The region for a face whose landmarks in a frame of `frame_size` are roughly known, turned so that the eyes are
    /// level; of a network that sees frames, the frame or its middle. `None` when the landmarks enclose no area.
    pub fn region_of_landmarks(
        &self,
        landmarks_in_frame: &[Point],
        frame_size: (usize, usize),
    ) -> Option<CropRegion> {
        let margin = match self.rule {
            CropRule::AroundFace { margin } => margin,
            CropRule::WholeFrame | CropRule::MiddleOfFrame { .. } => {
                return Some(self.rule.region(&FaceBox::default(), frame_size));
            }
        };
        let roll_rad = eye_line_roll(self.scheme, landmarks_in_frame);
        CropRegion::around_landmarks(landmarks_in_frame, roll_rad, margin)
            .filter(|region| region.width > 0.0 && region.width.is_finite())
    }

    /// [`Landmarker::locate`] for a face that a detector has just found: looks into its box and, if the landmarks say
    /// that the face is turned or the box was not right, once more around them.
    ///
    /// # Errors
    /// As [`Landmarker::locate`].
    pub fn locate_detected(
        &mut self,
        frame: &Frame,
        face_box: &FaceBox,
        landmarks: &mut Vec<Point>,
    ) -> Result<FirstLook, InferError> {
        let frame_size = (frame.width(), frame.height());
        let first = self.region_of_box(face_box, frame_size);
        let mut look = FirstLook {
            confidence: self.locate(frame, &first, landmarks)?,
            presence: self.presence(),
            runs: 1,
        };
        let second = self.region_of_landmarks(landmarks, frame_size);
        if let Some(second) = second.filter(|second| !is_settled(&first, second)) {
            look.confidence = self.locate(frame, &second, landmarks)?;
            look.presence = self.presence();
            look.runs = 2;
        }
        Ok(look)
    }

    /// Whether the network said in its last run whether it saw a face; if not, its confidence is always 1.
    pub fn says_confidence(&self) -> bool {
        ["presence", "uncertainty"]
            .iter()
            .any(|output| self.outputs.get(output).is_some())
    }

    /// How far off each landmark that was located last is expected to be along an axis, in pixels of the frame; empty when
    /// the network does not say.
    pub fn expected_errors_px(&self) -> &[f32] {
        &self.expected_errors_px
    }

    /// Replaces the content of `landmarks` by the landmarks of the face in `region`, in the frame, and gives the
    /// confidence that the region shows a face: 0 to 1, and 1 from a network that says nothing of it. It is the probability
    /// in the `presence` output times that of the expected errors: a network that is pulled onto a face-like edge from frame
    /// to frame comes to take it for a face, but never to know where its points are.
    ///
    /// # Errors
    /// The network failed, or its outputs do not fit its card or are not numbers.
    pub fn locate(
        &mut self,
        frame: &Frame,
        region: &CropRegion,
        landmarks: &mut Vec<Point>,
    ) -> Result<f32, InferError> {
        let crop_from_frame = region.crop_from_frame(self.crop.width(), self.crop.height());
        self.crop.fill(frame, &crop_from_frame);
        self.model.infer(&self.crop, &mut self.outputs)?;
        let count = 2 * self.scheme.landmark_count();
        let wrong = |output: &str, expected: String, found: String| InferError::Output {
            model: self.model.card().name.clone(),
            output: output.to_owned(),
            expected,
            found,
        };
        let values = match self.outputs.get("landmarks") {
            Some(output) if output.values.len() == count => &output.values,
            Some(output) => {
                let found = format!("{:?}", output.shape);
                return Err(wrong("landmarks", format!("[1, {count}]"), found));
            }
            None => {
                let found = "no such output".to_owned();
                return Err(wrong("landmarks", format!("[1, {count}]"), found));
            }
        };
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(wrong("landmarks", "numbers".to_owned(), value.to_string()));
        }
        landmarks.clear();
        // A singular map comes from a region without area; there is nothing to see in it.
        let Some(frame_from_crop) = crop_from_frame.inverse() else {
            landmarks.resize(count / 2, region.center);
            return Ok(0.0);
        };
        let (width, height) = (self.crop.width() as f32, self.crop.height() as f32);
        landmarks.extend(values.chunks_exact(2).map(|pair| {
            let point_in_crop = Point::new(
                (pair[0] + 0.5) * width - 0.5,
                (pair[1] + 0.5) * height - 0.5,
            );
            frame_from_crop * point_in_crop
        }));
        self.expected_errors_px.clear();
        if let Some(output) = self.outputs.get("uncertainty") {
            let errors = output.values.iter().map(|scale| scale.exp() * region.width);
            self.expected_errors_px.extend(errors);
        }
        let presence = self.presence().unwrap_or(1.0);
        Ok(presence * certainty(&self.expected_errors_px, landmarks))
    }

    /// The probability that the region of the last run shows a face, 0 to 1; `None` when the network does not say.
    fn presence(&self) -> Option<f32> {
        let logit = *self.outputs.get("presence")?.values.first()?;
        Some(sigmoid(logit))
    }
}

/// Mean expected error, over the longer edge of the landmarks' tight box, at which a face and something else are equally
/// likely, and how quickly that changes with the logarithm of the error. Between what networks expect on faces of the
/// validation sets and on what their detector takes for faces in pictures without any: `cargo bench --bench tracking --
/// confidence` lists both.
const EVEN_ERROR: f32 = 0.032;
const ERROR_SLOPE: f32 = 10.0;

/// The probability, by the expected errors alone, that `landmarks` are a face's; 1 when there are none.
fn certainty(expected_errors_px: &[f32], landmarks: &[Point]) -> f32 {
    let Some(tight) = FaceBox::around(landmarks).filter(|_| !expected_errors_px.is_empty()) else {
        return 1.0;
    };
    let mean = expected_errors_px.iter().sum::<f32>() / expected_errors_px.len() as f32;
    let relative = mean / tight.width.max(tight.height);
    // Landmarks in one point have an infinite error, and an error of none a logarithm that is.
    sigmoid(ERROR_SLOPE * (EVEN_ERROR / relative).ln())
}

/// A crop shows a face as the network was taught when its middle and size are right to within this fraction of its
/// size, and its roll to within this many radians; a first look that was further off is repeated.
const SETTLED: f32 = 0.05;

/// The outcome of [`Landmarker::locate_detected`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FirstLook {
    /// Confidence of the last run, 0 to 1.
    pub confidence: f32,
    /// The probability in its `presence` output, 0 to 1; `None` when the network has none.
    pub presence: Option<f32>,
    /// Runs of the network, 1 or 2.
    pub runs: u64,
}

fn is_settled(seen: &CropRegion, wanted: &CropRegion) -> bool {
    (wanted.roll_rad - seen.roll_rad).abs() < SETTLED
        && wanted.center.distance(seen.center) < SETTLED * wanted.width
        && (wanted.width - seen.width).abs() < SETTLED * wanted.width
}

/// How far the line through the eyes is turned clockwise from level, in radians; 0 for a scheme without eyes.
pub fn eye_line_roll(scheme: Scheme, landmarks: &[Point]) -> f32 {
    let eyes = scheme
        .inter_ocular()
        .and_then(|(left, right, _)| Some((landmarks.get(left)?, landmarks.get(right)?)));
    match eyes {
        Some((left, right)) => (right.y - left.y).atan2(right.x - left.x),
        None => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crop::{Color, Normalization},
        model::ModelCard,
    };

    /// Says the same whatever it sees.
    struct Fixed {
        card: ModelCard,
        landmarks: Vec<f32>,
        presence: Option<f32>,
        uncertainty: Option<[f32; 5]>,
    }

    impl Infer for Fixed {
        fn card(&self) -> &ModelCard {
            &self.card
        }

        fn infer(&mut self, _: &Crop, outputs: &mut Outputs) -> Result<(), InferError> {
            outputs.set("landmarks", &[1, self.landmarks.len()], &self.landmarks);
            if let Some(logit) = self.presence {
                outputs.set("presence", &[1, 1], &[logit]);
            }
            if let Some(scales) = &self.uncertainty {
                outputs.set("uncertainty", &[1, 5], scales);
            }
            Ok(())
        }
    }

    fn fixed(landmarks: &[f32], presence: Option<f32>) -> Fixed {
        Fixed {
            card: ModelCard {
                name: "fixed".to_owned(),
                task: Task::Landmarks {
                    scheme: Scheme::Mtfl5,
                    crop: CropRule::AroundFace { margin: 1.5 },
                },
                input_width: 64,
                input_height: 64,
                color: Color::Gray,
                normalization: Normalization::SYMMETRIC,
                training_data: String::new(),
            },
            landmarks: landmarks.to_vec(),
            presence,
            uncertainty: None,
        }
    }

    const FACE: [f32; 10] = [-0.2, -0.1, 0.2, -0.1, 0.0, 0.1, -0.15, 0.25, 0.15, 0.25];

    #[test]
    fn landmarks_come_back_in_the_frame() {
        let mut landmarker = Landmarker::new(fixed(&FACE, Some(0.0))).unwrap();
        let frame = Frame::new(200, 150);
        let mut landmarks = vec![Point::default(); 99];
        // A 60 x 40 box gives a 90 pixel square around (80, 70); crop units are squares of it.
        let region = landmarker.region_of_box(&FaceBox::new(50.0, 50.0, 60.0, 40.0), (200, 150));
        let confidence = landmarker.locate(&frame, &region, &mut landmarks).unwrap();
        assert_eq!((landmarks.len(), confidence), (5, 0.5));
        assert!(landmarks[0].distance(Point::new(62.0, 61.0)) < 1e-3);
        assert!(landmarks[4].distance(Point::new(93.5, 92.5)) < 1e-3);
    }

    #[test]
    fn uncertainty_comes_back_in_pixels_of_the_frame() {
        let mut model = fixed(&FACE, None);
        model.uncertainty = Some([0.1f32, 0.02, 0.03, 0.04, 0.05].map(f32::ln));
        let mut landmarker = Landmarker::new(model).unwrap();
        let region = landmarker.region_of_box(&FaceBox::new(50.0, 50.0, 60.0, 40.0), (200, 150));
        let mut landmarks = Vec::new();
        landmarker
            .locate(&Frame::new(200, 150), &region, &mut landmarks)
            .unwrap();
        for (found, part) in landmarker
            .expected_errors_px()
            .iter()
            .zip([0.1, 0.02, 0.03, 0.04, 0.05])
        {
            assert!((found - part * 90.0).abs() < 1e-4, "{found}");
        }
        assert_eq!(landmarker.expected_errors_px().len(), 5);
    }

    #[test]
    fn who_does_not_know_where_the_points_are_sees_no_face() {
        // The landmarks span 0.4 of the crop.
        let mut last = 1.0;
        for (error, expected) in [
            (0.0, 0.99..=1.0),
            (0.005, 0.99..=1.0),
            (0.4 * EVEN_ERROR, 0.49..=0.51),
            (0.016, 0.0..=0.2),
            (0.1, 0.0..=0.01),
            (f32::INFINITY, 0.0..=0.0),
        ] {
            let mut model = fixed(&FACE, Some(20.0));
            model.uncertainty = Some([error.ln(); 5]);
            let mut landmarker = Landmarker::new(model).unwrap();
            let region =
                landmarker.region_of_box(&FaceBox::new(50.0, 50.0, 60.0, 40.0), (200, 150));
            let confidence = landmarker
                .locate(&Frame::new(200, 150), &region, &mut Vec::new())
                .unwrap();
            assert!(expected.contains(&confidence), "{error}: {confidence}");
            assert!(confidence <= last, "{error}: {confidence}");
            last = confidence;
        }
    }

    #[test]
    fn the_region_of_landmarks_turns_with_the_eyes() {
        let mut landmarker = Landmarker::new(fixed(&FACE, None)).unwrap();
        let frame = Frame::new(200, 150);
        let region = CropRegion {
            center: Point::new(80.0, 70.0),
            width: 90.0,
            height: 90.0,
            roll_rad: 0.5,
        };
        let mut landmarks = Vec::new();
        assert_eq!(
            landmarker.locate(&frame, &region, &mut landmarks).unwrap(),
            1.0
        );
        let next = landmarker
            .region_of_landmarks(&landmarks, (200, 200))
            .unwrap();
        assert!((next.roll_rad - 0.5).abs() < 1e-4);
        // The tight box is 0.4 x 0.35 of 90 pixels, so the square is 0.4 x 90 x 1.5.
        assert!((next.width - 54.0).abs() < 1e-3, "{next:?}");
        let nowhere = landmarker.region_of_landmarks(&[Point::default(); 5], (200, 200));
        assert_eq!(nowhere, None);
    }

    #[test]
    fn a_network_of_whole_frames_sees_the_frame_whatever_is_known() {
        let mut model = fixed(&FACE, None);
        model.card.task = Task::Landmarks {
            scheme: Scheme::Mtfl5,
            crop: CropRule::WholeFrame,
        };
        let mut landmarker = Landmarker::new(model).unwrap();
        let frame = Frame::new(200, 100);
        let mut landmarks = Vec::new();
        let somewhere = FaceBox::new(150.0, 20.0, 30.0, 30.0);
        let look = landmarker.locate_detected(&frame, &somewhere, &mut landmarks);
        assert_eq!(look.unwrap().runs, 1);
        // The frame fills the input's width: a unit is 200 pixels, 0 its middle.
        assert!(
            landmarks[0].distance(Point::new(59.5, 29.5)) < 1e-3,
            "{landmarks:?}"
        );
        let whole = CropRegion::whole(&frame);
        assert_eq!(
            landmarker.region_of_landmarks(&landmarks, (200, 100)),
            Some(whole)
        );
    }

    #[test]
    fn a_detected_face_is_looked_at_again_when_the_box_was_wrong() {
        let (frame, mut landmarks) = (Frame::new(200, 150), Vec::new());
        // The landmarks fill 0.4 of the crop: with the margin of 1.5 the next crop would be 0.6 of this one.
        let mut landmarker = Landmarker::new(fixed(&FACE, Some(0.0))).unwrap();
        let face_box = FaceBox::new(50.0, 50.0, 60.0, 60.0);
        let look = landmarker
            .locate_detected(&frame, &face_box, &mut landmarks)
            .unwrap();
        assert_eq!(
            look,
            FirstLook {
                confidence: 0.5,
                presence: Some(0.5),
                runs: 2
            }
        );
        // Landmarks that fill 1/1.5 of it in the middle say that the box was right.
        let settled = [
            -0.333, -0.333, 0.333, -0.333, 0.0, 0.0, -0.2, 0.333, 0.2, 0.333,
        ];
        let mut landmarker = Landmarker::new(fixed(&settled, None)).unwrap();
        let look = landmarker
            .locate_detected(&frame, &face_box, &mut landmarks)
            .unwrap();
        assert_eq!(
            look,
            FirstLook {
                confidence: 1.0,
                presence: None,
                runs: 1
            }
        );
    }

    #[test]
    fn outputs_that_do_not_fit_are_errors() {
        let mut nan = FACE;
        nan[3] = f32::NAN;
        for (values, word) in [(&FACE[..8], "[1, 8]"), (&nan[..], "NaN")] {
            let mut landmarker = Landmarker::new(fixed(values, None)).unwrap();
            let region = landmarker.region_of_box(&FaceBox::new(0.0, 0.0, 9.0, 9.0), (9, 9));
            let error = landmarker
                .locate(&Frame::new(9, 9), &region, &mut Vec::new())
                .unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn a_detector_is_no_landmarker() {
        let mut model = fixed(&FACE, None);
        model.card.task = Task::FaceDetection { strides: vec![8] };
        assert!(Landmarker::new(model).is_err());
    }
}
