//! From a frame to face boxes: letterbox, one run of the network, decoding, and of overlapping boxes the best one.

use crate::{
    crop::{Crop, CropRegion},
    frame::Frame,
    geometry::{Affine, FaceBox, Point},
    metrics::Detection,
    model::{Infer, InferError, Output, Outputs, Task, WrongTask},
};

/// How a detector chooses among its boxes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetectorConfig {
    /// Boxes with a score below it are dropped, 0 to 1. Low, since a landmark network has the last word (see
    /// [`crate::finder`]); higher: fewer of its runs, more missed faces.
    pub score_threshold: f32,
    /// Of two boxes with a greater intersection over union the one with the lower score is dropped, 0 to 1. Lower:
    /// fewer double boxes on one face, but of two faces close together one may go.
    pub overlap_threshold: f32,
    /// A box that stays becomes the mean, weighted by their scores, of all boxes with at least this intersection over union
    /// with it: neighbouring cells and strides see the same face with errors of their own (Gidaris and Komodakis 2015,
    /// section 4.2). Above 1: it stays as it is.
    pub voting_threshold: f32,
    /// Boxes that are looked at, from the highest score down: bounds the time a noisy picture can take.
    pub max_candidates: usize,
    /// How large the network sees a frame.
    pub input: InputSize,
}

/// How large a detector's network sees a frame. Cost grows with the area, and so does the reach to small faces: the
/// released network finds faces from about ten pixels in its input up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputSize {
    /// As its model card said when the detector was made: for frames that come in a stream.
    Card,
    /// As the card says and then at the picture's own size, or shrunk until its longer edge has at most these pixels: for
    /// pictures that are looked at one by one. The first look finds faces that are larger than the network's field of
    /// view in the second one. Each new size takes as long as loading the model.
    Picture {
        /// Longest edge in pixels.
        longest_edge: usize,
    },
}

impl InputSize {
    /// For still pictures: their own size up to 800 pixels.
    pub const STILLS: Self = Self::Picture { longest_edge: 800 };
}

impl Default for DetectorConfig {
    /// [`DetectorConfig::for_input`] of a stream.
    fn default() -> Self {
        Self::for_input(InputSize::Card)
    }
}

impl DetectorConfig {
    /// The usual choices for a way of looking at frames. A frame without faces has some two candidates with such a score; a
    /// picture that is looked at once has the time for more.
    /// Faces of different people rarely overlap by more than a third.
    pub fn for_input(input: InputSize) -> Self {
        Self {
            score_threshold: match input {
                InputSize::Card => 0.1,
                InputSize::Picture { .. } => 0.05,
            },
            overlap_threshold: 0.35,
            voting_threshold: 0.5,
            max_candidates: 512,
            input,
        }
    }
}

/// Finds faces. After the first frame it allocates nothing of its own.
pub struct Detector<M> {
    model: M,
    heads: Vec<Head>,
    config: DetectorConfig,
    card_size: (usize, usize),
    crop: Crop,
    outputs: Outputs,
    candidates: Vec<Detection>,
    found: Vec<Detection>,
}

/// The outputs of one stride.
struct Head {
    stride: usize,
    score: String,
    boxes: String,
}

impl<M: Infer> Detector<M> {
    /// Around a network for face detection.
    ///
    /// # Errors
    /// The network is for something else.
    pub fn new(model: M, config: DetectorConfig) -> Result<Self, WrongTask> {
        let card = model.card();
        let Task::FaceDetection { strides } = &card.task else {
            return Err(WrongTask {
                model: card.name.clone(),
                expected: "face-detection",
                found: card.task.name(),
            });
        };
        let heads = strides
            .iter()
            .map(|&stride| Head {
                stride,
                score: format!("score_{stride}"),
                boxes: format!("box_{stride}"),
            })
            .collect();
        Ok(Self {
            card_size: (card.input_width, card.input_height),
            heads,
            config,
            crop: card.new_crop(),
            outputs: Outputs::default(),
            candidates: Vec::new(),
            found: Vec::new(),
            model,
        })
    }

    /// The network.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Its choices.
    pub fn config(&self) -> &DetectorConfig {
        &self.config
    }

    /// Finds the faces of `frame`: boxes in the frame, from the highest score down. A box may reach over the edge.
    ///
    /// # Errors
    /// The network failed, or its outputs do not fit its card.
    pub fn detect(&mut self, frame: &Frame) -> Result<&[Detection], InferError> {
        self.candidates.clear();
        match self.config.input {
            InputSize::Card => self.look(frame, self.card_size)?,
            InputSize::Picture { longest_edge } => {
                self.look(frame, self.card_size)?;
                let own = self.own_size(frame, longest_edge);
                if own.0 > self.card_size.0 || own.1 > self.card_size.1 {
                    self.look(frame, own)?;
                }
            }
        }
        self.candidates
            .sort_unstable_by(|a, b| b.score.total_cmp(&a.score));
        self.candidates.truncate(self.config.max_candidates);
        keep_best(
            &self.candidates,
            self.config.overlap_threshold,
            self.config.voting_threshold,
            &mut self.found,
        );
        Ok(&self.found)
    }

    /// The smallest input that shows `frame` at its own size, its longer edge shrunk to `longest_edge` if need be.
    fn own_size(&self, frame: &Frame, longest_edge: usize) -> (usize, usize) {
        let stride = self.heads.last().map_or(1, |head| head.stride);
        let longest = frame.width().max(frame.height()).max(1);
        let shrink = (longest_edge as f32 / longest as f32).min(1.0);
        let edge = |edge: usize| {
            let pixels = (edge as f32 * shrink).round() as usize;
            pixels.max(1).next_multiple_of(stride)
        };
        (edge(frame.width()), edge(frame.height()))
    }

    /// Runs the network on `frame` in an input of `size` and adds what it finds to the candidates, in the frame.
    fn look(&mut self, frame: &Frame, size: (usize, usize)) -> Result<(), InferError> {
        if (self.crop.width(), self.crop.height()) != size {
            self.model.set_input_size(size.0, size.1)?;
            self.crop = self.model.card().new_crop();
        }
        let crop_from_frame = CropRegion::whole(frame).crop_from_frame(size.0, size.1);
        // A frame without pixels has no map.
        let Some(frame_from_crop) = crop_from_frame.inverse() else {
            return Ok(());
        };
        self.crop.fill(frame, &crop_from_frame);
        self.model.infer(&self.crop, &mut self.outputs)?;
        let first = self.candidates.len();
        for head in &self.heads {
            head.decode(
                &self.outputs,
                size,
                self.config.score_threshold,
                &mut self.candidates,
            )
            .map_err(|(output, expected, found)| InferError::Output {
                model: self.model.card().name.clone(),
                output: output.to_owned(),
                expected,
                found,
            })?;
        }
        for detection in &mut self.candidates[first..] {
            detection.face_box = map_box(&frame_from_crop, &detection.face_box);
        }
        Ok(())
    }
}

/// Output, what was expected of it, and what was found.
type BadOutput<'a> = (&'a str, String, String);

impl Head {
    /// Appends the boxes whose score is at least `threshold`, in crop pixels.
    fn decode(
        &self,
        outputs: &Outputs,
        (crop_width, crop_height): (usize, usize),
        threshold: f32,
        candidates: &mut Vec<Detection>,
    ) -> Result<(), BadOutput<'_>> {
        let (columns, rows) = (crop_width / self.stride, crop_height / self.stride);
        let cells = columns * rows;
        let scores = values(outputs, &self.score, &[1, 1, rows, columns])?;
        let boxes = values(outputs, &self.boxes, &[1, 4, rows, columns])?;
        let logit_threshold = (threshold / (1.0 - threshold)).ln();
        let stride = self.stride as f32;
        for (cell, &logit) in scores.iter().enumerate() {
            if logit < logit_threshold || logit.is_nan() {
                continue;
            }
            let [dx, dy, log_width, log_height] =
                std::array::from_fn(|channel| boxes[channel * cells + cell]);
            let (column, row) = ((cell % columns) as f32, (cell / columns) as f32);
            let (width, height) = (log_width.exp() * stride, log_height.exp() * stride);
            let center = Point::new(
                (column + 0.5 + dx) * stride - 0.5,
                (row + 0.5 + dy) * stride - 0.5,
            );
            let face_box = box_around(center, width, height);
            if face_box.area().is_finite() && center.x.is_finite() && center.y.is_finite() {
                candidates.push(Detection {
                    face_box,
                    score: sigmoid(logit),
                });
            }
        }
        Ok(())
    }
}

fn values<'a, 'b>(
    outputs: &'a Outputs,
    name: &'b str,
    shape: &[usize],
) -> Result<&'a [f32], BadOutput<'b>> {
    let wrong = |found: String| (name, format!("{shape:?}"), found);
    let output: &Output = outputs
        .get(name)
        .ok_or_else(|| wrong("no such output".to_owned()))?;
    if output.shape == shape && output.values.len() == shape.iter().product::<usize>() {
        Ok(&output.values)
    } else {
        Err(wrong(format!("{:?}", output.shape)))
    }
}

/// From a logit to a probability.
pub(crate) fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

fn box_around(center: Point, width: f32, height: f32) -> FaceBox {
    FaceBox::new(
        center.x - 0.5 * width,
        center.y - 0.5 * height,
        width,
        height,
    )
}

/// A letterbox does not turn, so a box stays a box.
fn map_box(target_from_source: &Affine, face_box: &FaceBox) -> FaceBox {
    let scale = target_from_source.scale();
    box_around(
        *target_from_source * face_box.center(),
        face_box.width * scale,
        face_box.height * scale,
    )
}

/// Greedy non-maximum suppression of boxes that are sorted from the highest score down; those that overlap a kept one by
/// `voting_threshold` have a say in where it is.
fn keep_best(
    candidates: &[Detection],
    overlap_threshold: f32,
    voting_threshold: f32,
    kept: &mut Vec<Detection>,
) {
    kept.clear();
    for candidate in candidates {
        // Kept ones have their best box here, not yet the mean: a mean that drifts must not let doubles through.
        let is_double = kept
            .iter()
            .any(|better| better.face_box.iou(&candidate.face_box) > overlap_threshold);
        if !is_double {
            kept.push(*candidate);
        }
    }
    for detection in kept {
        let best = detection.face_box;
        let (mut total, mut sums) = (0.0, [0.0; 4]);
        for voter in candidates {
            if voter.face_box.iou(&best) >= voting_threshold {
                total += voter.score;
                let FaceBox {
                    x,
                    y,
                    width,
                    height,
                } = voter.face_box;
                for (sum, value) in sums.iter_mut().zip([x, y, width, height]) {
                    *sum += voter.score * value;
                }
            }
        }
        if total > 0.0 {
            let [x, y, width, height] = sums.map(|sum| sum / total);
            detection.face_box = FaceBox::new(x, y, width, height);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crop::{Color, CropRule, Normalization},
        model::ModelCard,
        scheme::Scheme,
    };

    /// Says the same whatever it sees: cells of stride 8 in a 32x16 input, 4 columns and 2 rows.
    struct Fixed {
        card: ModelCard,
        scores: [f32; 8],
        boxes: [f32; 32],
    }

    impl Infer for Fixed {
        fn card(&self) -> &ModelCard {
            &self.card
        }

        fn infer(&mut self, _: &Crop, outputs: &mut Outputs) -> Result<(), InferError> {
            outputs.set("score_8", &[1, 1, 2, 4], &self.scores);
            outputs.set("box_8", &[1, 4, 2, 4], &self.boxes);
            Ok(())
        }
    }

    fn fixed(task: Task) -> Fixed {
        Fixed {
            card: ModelCard {
                name: "fixed".to_owned(),
                task,
                input_width: 32,
                input_height: 16,
                color: Color::Rgb,
                normalization: Normalization::SYMMETRIC,
                training_data: String::new(),
            },
            scores: [-9.0; 8],
            boxes: [0.0; 32],
        }
    }

    fn stride8() -> Task {
        Task::FaceDetection { strides: vec![8] }
    }

    #[test]
    fn a_cell_becomes_a_box_in_the_frame() {
        let mut model = fixed(stride8());
        // Column 2, row 1: its middle is pixel (19.5, 11.5). A quarter cell right, half a cell up: (21.5, 7.5).
        let cell = 6;
        model.scores[cell] = 3.0f32.ln(); // probability 3/4
        for (channel, value) in [0.25, -0.5, 2f32.ln(), 0.5f32.ln()].into_iter().enumerate() {
            model.boxes[channel * 8 + cell] = value;
        }
        let mut detector = Detector::new(model, DetectorConfig::default()).unwrap();
        // The frame is twice the input in width and four times in height: the letterbox shrinks by 4 and centres it,
        // so that x' = 4 (x + 0.5 - 8) - 0.5 for the 16 pixels in the middle, and y' = 4 (y + 0.5) - 0.5.
        let found = detector.detect(&Frame::new(64, 64)).unwrap();
        assert_eq!(found.len(), 1);
        assert!((found[0].score - 0.75).abs() < 1e-6);
        let face = found[0].face_box;
        let center = face.center();
        assert!((center.x - 55.5).abs() < 1e-3, "{face:?}");
        assert!((center.y - 31.5).abs() < 1e-3, "{face:?}");
        assert!((face.width - 64.0).abs() < 1e-3 && (face.height - 16.0).abs() < 1e-3);
    }

    #[test]
    fn of_overlapping_boxes_the_best_one_stays_and_weak_ones_go() {
        let mut model = fixed(stride8());
        // Boxes 3 cells wide in columns 0 and 1 overlap by a half; a weak one in column 3 is below the threshold.
        model.scores = [1.0, 2.0, -9.0, -4.0, -9.0, -9.0, -9.0, f32::NAN];
        model.boxes[16..24].fill(3f32.ln());
        let mut detector = Detector::new(model, DetectorConfig::default()).unwrap();
        detector.config.voting_threshold = 0.45;
        let frame = Frame::new(32, 16);
        let found = detector.detect(&frame).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        // Both are at half the width of the other: they vote with logits 1 and 2, and the middles are 3.5 and 11.5.
        let (weak, strong) = (sigmoid(1.0), sigmoid(2.0));
        let expected = (3.5 * weak + 11.5 * strong) / (weak + strong);
        assert!((found[0].face_box.center().x - expected).abs() < 1e-4);
        detector.config.voting_threshold = 2.0;
        let alone = detector.detect(&frame).unwrap()[0].face_box;
        assert!((alone.center().x - 11.5).abs() < 1e-4);
        detector.config.overlap_threshold = 0.6;
        detector.config.score_threshold = 0.01;
        let scores: Vec<f32> = detector
            .detect(&frame)
            .unwrap()
            .iter()
            .map(|detection| detection.score)
            .collect();
        assert_eq!(scores.len(), 3);
        assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    }

    /// Finds a face in the first cell, whatever its size, and notes the sizes that it was given.
    struct Resizable {
        card: ModelCard,
        seen: Vec<(usize, usize)>,
    }

    impl Infer for Resizable {
        fn card(&self) -> &ModelCard {
            &self.card
        }

        fn infer(&mut self, crop: &Crop, outputs: &mut Outputs) -> Result<(), InferError> {
            self.seen.push((crop.width(), crop.height()));
            let (columns, rows) = (crop.width() / 8, crop.height() / 8);
            let mut scores = vec![-9.0; columns * rows];
            scores[0] = 3.0;
            outputs.set("score_8", &[1, 1, rows, columns], &scores);
            let boxes = vec![0.0; 4 * columns * rows];
            outputs.set("box_8", &[1, 4, rows, columns], &boxes);
            Ok(())
        }

        fn set_input_size(&mut self, width: usize, height: usize) -> Result<(), InferError> {
            (self.card.input_width, self.card.input_height) = (width, height);
            Ok(())
        }
    }

    #[test]
    fn pictures_are_looked_at_twice_when_they_are_larger_than_the_input() {
        let cases = [
            // Frame, the sizes that the network sees it in, and the widths of the faces found in the frame.
            ((30, 14), vec![(32, 16)], vec![7.5]),
            ((64, 32), vec![(32, 16), (64, 32)], vec![16.0, 8.0]),
            ((60, 30), vec![(32, 16), (64, 32)], vec![15.0, 7.5]),
            // The longer edge is shrunk to 96.
            ((192, 48), vec![(32, 16), (96, 24)], vec![48.0, 16.0]),
        ];
        for ((width, height), sizes, widths) in cases {
            let config = DetectorConfig {
                input: InputSize::Picture { longest_edge: 96 },
                ..DetectorConfig::default()
            };
            let model = Resizable {
                card: fixed(stride8()).card,
                seen: Vec::new(),
            };
            let mut detector = Detector::new(model, config).unwrap();
            let found = detector.detect(&Frame::new(width, height)).unwrap();
            let mut found: Vec<f32> = found.iter().map(|found| found.face_box.width).collect();
            found.sort_by(|a, b| b.total_cmp(a));
            assert_eq!(detector.model().seen, sizes, "{width}x{height}");
            assert_eq!(found.len(), widths.len(), "{found:?}");
            for (found, expected) in found.iter().zip(widths) {
                assert!((found - expected).abs() < 1e-3, "{width}x{height}: {found}");
            }
        }
    }

    #[test]
    fn a_network_of_one_size_refuses_another() {
        let mut model = fixed(stride8());
        assert!(model.set_input_size(32, 16).is_ok());
        let error = model.set_input_size(64, 16).unwrap_err().to_string();
        assert!(
            error.contains("32x16") && error.contains("64x16"),
            "{error}"
        );
    }

    #[test]
    fn sizes_that_overflow_are_dropped() {
        let mut model = fixed(stride8());
        model.scores[0] = 5.0;
        model.boxes[16] = 500.0;
        let mut detector = Detector::new(model, DetectorConfig::default()).unwrap();
        assert_eq!(detector.detect(&Frame::new(32, 16)).unwrap(), []);
    }

    #[test]
    fn a_frame_without_pixels_has_no_faces() {
        let mut model = fixed(stride8());
        model.scores[0] = 5.0;
        let mut detector = Detector::new(model, DetectorConfig::default()).unwrap();
        assert_eq!(detector.detect(&Frame::default()).unwrap(), []);
    }

    #[test]
    fn another_task_or_other_outputs_are_refused() {
        let landmarks = fixed(Task::Landmarks {
            scheme: Scheme::Nose1,
            crop: CropRule::AroundFace { margin: 1.0 },
        });
        let error = Detector::new(landmarks, DetectorConfig::default())
            .err()
            .unwrap();
        assert_eq!(
            (error.expected, error.found),
            ("face-detection", "landmarks")
        );
        let strides = fixed(Task::FaceDetection { strides: vec![4] });
        let mut detector = Detector::new(strides, DetectorConfig::default()).unwrap();
        let error = detector.detect(&Frame::new(32, 16)).unwrap_err();
        assert!(error.to_string().contains("score_4"), "{error}");
    }
}
