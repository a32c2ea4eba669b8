//! Landmark errors on a split with true boxes, beside the errors of the mean shape.

use super::{BatchForward, EvaluateError, batches, spread_evenly};
use crate::{
    crop::{Crop, CropRule},
    geometry::{Affine, FaceBox, Point},
    metrics::{FaceError, LandmarkSummary, NormalizingLength, PredictionSpread, mean},
    model::{ModelCard, Output, Task, WrongTask},
    scheme::Scheme,
    train::{
        dataset::{Dataset, Label},
        progress::{LandmarkValidation, PresenceValidation},
        target::write_landmarks,
    },
};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// The mean of the training landmarks in units of a box: (0, 0) its left-top corner, (1, 1) the other. The box is what a
/// network knows before it looks ([`CropRule::known_box`]): the face's, or the whole frame.
#[derive(Clone, Debug, PartialEq)]
pub struct MeanShape {
    points: Vec<Point>,
}

impl MeanShape {
    /// Of every example of `scheme` in `dataset`; `None` when there is none.
    pub fn of(dataset: &Dataset, scheme: Scheme, rule: CropRule) -> Option<Self> {
        let mut sums = vec![(0.0f64, 0.0f64); scheme.landmark_count()];
        let mut count = 0;
        for example in &dataset.examples {
            if let Label::Landmarks {
                scheme: found,
                points,
                face_box,
                ..
            } = &example.label
                && *found == scheme
            {
                let face_box = rule.known_box(face_box, example.picture.size());
                count += 1;
                for (sum, point) in sums.iter_mut().zip(points) {
                    sum.0 += f64::from((point.x - face_box.x) / face_box.width);
                    sum.1 += f64::from((point.y - face_box.y) / face_box.height);
                }
            }
        }
        let share = |sum: f64| (sum / f64::from(count)) as f32;
        (count > 0).then(|| Self {
            points: sums
                .iter()
                .map(|&(x, y)| Point::new(share(x), share(y)))
                .collect(),
        })
    }

    /// The mean label of a data set as a network with that card would say it: units of the crop, 0 in the middle.
    pub fn as_answer(dataset: &Dataset, card: &ModelCard) -> Option<Vec<f32>> {
        let Task::Landmarks { scheme, crop } = card.task else {
            return None;
        };
        let mut sums = vec![0.0f64; 2 * scheme.landmark_count()];
        let mut count = 0;
        for example in &dataset.examples {
            if let Label::Landmarks {
                scheme: found,
                points,
                face_box,
                ..
            } = &example.label
                && *found == scheme
            {
                count += 1;
                let crop_from_frame = crop
                    .region(face_box, example.picture.size())
                    .crop_from_frame(card.input_width, card.input_height);
                let in_crop: Vec<Point> = points.iter().map(|&p| crop_from_frame * p).collect();
                let mut answer = vec![0.0; sums.len()];
                write_landmarks(&in_crop, card.input_width, card.input_height, &mut answer);
                for (sum, value) in sums.iter_mut().zip(answer) {
                    *sum += f64::from(value);
                }
            }
        }
        (count > 0).then(|| {
            sums.iter()
                .map(|sum| (sum / f64::from(count)) as f32)
                .collect()
        })
    }

    /// From flat coordinates as [`MeanShape::flat`] gives them.
    pub fn from_flat(flat: &[f32]) -> Self {
        Self {
            points: flat
                .chunks_exact(2)
                .map(|pair| Point::new(pair[0], pair[1]))
                .collect(),
        }
    }

    /// `[x0, y0, x1, y1, ...]`, to be stored.
    pub fn flat(&self) -> Vec<f32> {
        self.points
            .iter()
            .flat_map(|point| [point.x, point.y])
            .collect()
    }

    /// The shape in a box, in the box's picture.
    pub fn in_box(&self, face_box: &FaceBox) -> Vec<Point> {
        self.points
            .iter()
            .map(|point| {
                Point::new(
                    face_box.x + point.x * face_box.width,
                    face_box.y + point.y * face_box.height,
                )
            })
            .collect()
    }
}

/// The faces of a split, cropped and ready to be run again and again.
pub struct LandmarkCases {
    card: ModelCard,
    scheme: Scheme,
    sets: Vec<String>,
    faces: Vec<FaceCase>,
    mean_shape: Option<MeanShape>,
    backgrounds: Vec<Crop>,
}

struct FaceCase {
    example: usize,
    set: usize,
    crop: Crop,
    crop_from_frame: Affine,
    points_in_frame: Vec<Point>,
    /// `None`: the labels do not say how long anything is.
    length: Option<NormalizingLength>,
    face_box: FaceBox,
    frame_size: (usize, usize),
    original_scale: f32,
}

/// What a network said of one face.
#[derive(Clone, Debug, PartialEq)]
pub struct FaceResult {
    /// Index into the data set's examples.
    pub example: usize,
    /// The prediction, in the example's picture.
    pub predicted_in_frame: Vec<Point>,
    /// Its error.
    pub error: FaceError,
    /// The presence logit, when the network has that output.
    pub presence: Option<f32>,
}

/// What a network said of a split.
#[derive(Clone, Debug)]
pub struct LandmarkResult {
    /// The figures.
    pub validation: LandmarkValidation,
    /// Each face, in the order of the examples.
    pub faces: Vec<FaceResult>,
}

impl LandmarkCases {
    /// Crops at most `limit` (0: all) faces of `dataset`, spread evenly, as the runtime crops around a true box.
    ///
    /// # Errors
    /// The card is of another task, no face is of its scheme, or a picture can no longer be read.
    pub fn prepare(
        dataset: &Dataset,
        backgrounds: Option<&Dataset>,
        card: &ModelCard,
        mean_shape: Option<MeanShape>,
        limit: usize,
    ) -> Result<Self, EvaluateError> {
        let Task::Landmarks { scheme, crop: rule } = card.task else {
            return Err(EvaluateError::Task(WrongTask {
                model: card.name.clone(),
                expected: "landmarks",
                found: card.task.name(),
            }));
        };
        let wanted: Vec<usize> = (0..dataset.examples.len())
            .filter(|&index| {
                matches!(&dataset.examples[index].label, Label::Landmarks { scheme: found, .. } if *found == scheme)
            })
            .collect();
        let faces: Vec<FaceCase> = spread_evenly(&wanted, limit)
            .into_par_iter()
            .map(|example| face_case(dataset, example, card, rule))
            .collect::<Result<_, _>>()?;
        if faces.is_empty() {
            return Err(EvaluateError::NoCases {
                expected: format!("faces with {scheme} landmarks"),
            });
        }
        let backgrounds = match backgrounds {
            Some(dataset) => background_crops(dataset, card)?,
            None => Vec::new(),
        };
        Ok(Self {
            card: card.clone(),
            scheme,
            sets: dataset.sets.iter().map(|set| set.name.clone()).collect(),
            faces,
            mean_shape,
            backgrounds,
        })
    }

    /// Faces.
    pub fn count(&self) -> usize {
        self.faces.len()
    }

    /// Runs `network` on every face and background.
    ///
    /// # Errors
    /// The network fails or has no usable `landmarks` output.
    pub fn evaluate(
        &self,
        network: &mut dyn BatchForward,
    ) -> Result<LandmarkResult, EvaluateError> {
        let crops: Vec<&Crop> = self.faces.iter().map(|face| &face.crop).collect();
        let mut spread = PredictionSpread::default();
        let mut faces = Vec::with_capacity(crops.len());
        let mut index = 0;
        batches(network, &self.card, &crops, |outputs, count| {
            let landmarks = rows(outputs, "landmarks", 2 * self.scheme.landmark_count())?;
            let presence = rows(outputs, "presence", 1).ok();
            for row in 0..count {
                let predicted = landmarks[row];
                let face = &self.faces[index];
                spread.push(predicted, &face.labelled_in_crop_units(&self.card));
                if let Some(result) =
                    self.measure(face, predicted, presence.as_ref().map(|rows| rows[row][0]))
                {
                    faces.push(result);
                }
                index += 1;
            }
            Ok(())
        })?;
        let has_presence = faces.first().is_some_and(|face| face.presence.is_some());
        let presence = if has_presence {
            Some(PresenceValidation {
                faces: share(faces.iter().map(|face| face.presence > Some(0.0))).unwrap_or(0.0),
                backgrounds: self.evaluate_backgrounds(network)?,
            })
        } else {
            None
        };
        Ok(LandmarkResult {
            validation: self.sum_up(&faces, spread.ratio(), presence),
            faces,
        })
    }

    /// The errors of a shape that is put into what `rule` says is known of each face: an answer that does not look. Faces
    /// whose error cannot be measured are left out.
    pub fn errors_of_shape(&self, shape: &MeanShape, rule: CropRule) -> Vec<FaceError> {
        let faces = self.faces.iter().filter_map(|face| {
            FaceError::measure(
                self.scheme,
                &shape.in_box(&rule.known_box(&face.face_box, face.frame_size)),
                &face.points_in_frame,
                face.length?,
                face.original_scale,
            )
        });
        faces.collect()
    }

    fn measure(
        &self,
        face: &FaceCase,
        predicted: &[f32],
        presence: Option<f32>,
    ) -> Option<FaceResult> {
        let frame_from_crop = face.crop_from_frame.inverse()?;
        let (width, height) = (self.card.input_width as f32, self.card.input_height as f32);
        let predicted_in_frame: Vec<Point> = predicted
            .chunks_exact(2)
            .map(|pair| {
                frame_from_crop
                    * Point::new(
                        (pair[0] + 0.5) * width - 0.5,
                        (pair[1] + 0.5) * height - 0.5,
                    )
            })
            .collect();
        let error = FaceError::measure(
            self.scheme,
            &predicted_in_frame,
            &face.points_in_frame,
            face.length?,
            face.original_scale,
        )?;
        Some(FaceResult {
            example: face.example,
            predicted_in_frame,
            error,
            presence,
        })
    }

    fn evaluate_backgrounds(
        &self,
        network: &mut dyn BatchForward,
    ) -> Result<Option<f64>, EvaluateError> {
        let crops: Vec<&Crop> = self.backgrounds.iter().collect();
        let mut right = Vec::with_capacity(crops.len());
        batches(network, &self.card, &crops, |outputs, count| {
            let presence = rows(outputs, "presence", 1)?;
            right.extend(presence[..count].iter().map(|row| row[0] <= 0.0));
            Ok(())
        })?;
        Ok(share(right.into_iter()))
    }

    fn sum_up(
        &self,
        faces: &[FaceResult],
        prediction_variance_ratio: Option<f64>,
        presence: Option<PresenceValidation>,
    ) -> LandmarkValidation {
        let errors: Vec<FaceError> = faces.iter().map(|face| face.error.clone()).collect();
        let set_of: BTreeMap<usize, usize> = self
            .faces
            .iter()
            .map(|face| (face.example, face.set))
            .collect();
        let mut by_set: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for face in faces {
            let set = self.sets[set_of[&face.example]].clone();
            by_set.entry(set).or_default().push(face.error.nme);
        }
        LandmarkValidation {
            summary: LandmarkSummary::of(
                self.scheme,
                &errors,
                self.faces.len(),
                self.faces.len() - faces.len(),
            ),
            baseline_nme_mean: self.baseline(),
            prediction_variance_ratio,
            sets: by_set
                .into_iter()
                .filter_map(|(set, nmes)| Some((set, mean(&nmes)?)))
                .collect(),
            presence,
        }
    }

    /// Mean NME of the mean shape in what is known of each face.
    fn baseline(&self) -> Option<f64> {
        let Task::Landmarks { crop: rule, .. } = self.card.task else {
            return None;
        };
        let errors = self.errors_of_shape(self.mean_shape.as_ref()?, rule);
        let nmes: Vec<f64> = errors.iter().map(|error| error.nme).collect();
        mean(&nmes)
    }
}

impl FaceCase {
    /// The labels as the network would say them.
    fn labelled_in_crop_units(&self, card: &ModelCard) -> Vec<f32> {
        self.points_in_frame
            .iter()
            .flat_map(|&point| {
                let in_crop = self.crop_from_frame * point;
                [
                    (in_crop.x + 0.5) / card.input_width as f32 - 0.5,
                    (in_crop.y + 0.5) / card.input_height as f32 - 0.5,
                ]
            })
            .collect()
    }
}

fn face_case(
    dataset: &Dataset,
    index: usize,
    card: &ModelCard,
    rule: CropRule,
) -> Result<FaceCase, EvaluateError> {
    let example = &dataset.examples[index];
    let Label::Landmarks {
        points, face_box, ..
    } = &example.label
    else {
        unreachable!("only landmark examples are chosen");
    };
    let frame = example
        .picture
        .load()
        .map_err(|reason| EvaluateError::Picture {
            picture: example.picture.name(),
            reason,
        })?;
    let frame_size = (frame.width(), frame.height());
    let crop_from_frame = rule
        .region(face_box, frame_size)
        .crop_from_frame(card.input_width, card.input_height);
    let mut crop = card.new_crop();
    crop.fill(&frame, &crop_from_frame);
    Ok(FaceCase {
        example: index,
        set: example.set,
        crop,
        crop_from_frame,
        points_in_frame: points.clone(),
        length: example.normalizing_length(),
        face_box: *face_box,
        frame_size,
        original_scale: example.original_scale,
    })
}

/// One crop a picture that shows no labelled or possible face: the largest of a fixed grid of squares. Pictures that
/// are full of faces give none.
fn background_crops(dataset: &Dataset, card: &ModelCard) -> Result<Vec<Crop>, EvaluateError> {
    let crops: Vec<Option<Crop>> = dataset
        .examples
        .par_iter()
        .map(|example| {
            let frame = example
                .picture
                .load()
                .map_err(|reason| EvaluateError::Picture {
                    picture: example.picture.name(),
                    reason,
                })?;
            let faces: Vec<FaceBox> = match &example.label {
                Label::Detection { boxes, ignore } => boxes.iter().chain(ignore).copied().collect(),
                Label::Landmarks { face_box, .. } => vec![*face_box],
            };
            let (width, height) = (frame.width() as f32, frame.height() as f32);
            Ok(empty_square(width, height, &faces).map(|square| {
                let mut crop = card.new_crop();
                let region = crate::crop::CropRegion::around_box(&square, 1.0);
                crop.fill(
                    &frame,
                    &region.crop_from_frame(card.input_width, card.input_height),
                );
                crop
            }))
        })
        .collect::<Result<_, EvaluateError>>()?;
    Ok(crops.into_iter().flatten().collect())
}

fn empty_square(width: f32, height: f32, faces: &[FaceBox]) -> Option<FaceBox> {
    const POSITIONS: usize = 5;
    let touches = |square: &FaceBox| faces.iter().any(|face| face.iou(square) > 0.0);
    [1.0, 0.7, 0.5, 0.35]
        .into_iter()
        .flat_map(|part| {
            let side = part * width.min(height);
            (0..POSITIONS * POSITIONS).map(move |cell| {
                let at = |step: usize, room: f32| room * step as f32 / (POSITIONS - 1) as f32;
                FaceBox::new(
                    at(cell % POSITIONS, width - side),
                    at(cell / POSITIONS, height - side),
                    side,
                    side,
                )
            })
        })
        .find(|square| !touches(square))
}

/// The rows of an output of `columns` values a picture.
fn rows<'a>(
    outputs: &'a [Output],
    name: &'static str,
    columns: usize,
) -> Result<Vec<&'a [f32]>, EvaluateError> {
    let output =
        outputs
            .iter()
            .find(|output| output.name == name)
            .ok_or(EvaluateError::Output {
                output: name.to_owned(),
                expected: format!("{columns} values a picture"),
                found: "no such output".to_owned(),
            })?;
    if output.shape.len() != 2 || output.shape[1] != columns {
        return Err(EvaluateError::Output {
            output: name.to_owned(),
            expected: format!("{columns} values a picture"),
            found: format!("shape {:?}", output.shape),
        });
    }
    Ok(output.values.chunks_exact(columns).collect())
}

fn share(values: impl Iterator<Item = bool>) -> Option<f64> {
    let values: Vec<f64> = values.map(f64::from).collect();
    mean(&values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_square_is_found_beside_a_face() {
        let face = FaceBox::new(0.0, 0.0, 60.0, 80.0);
        let square = empty_square(200.0, 100.0, &[face]).expect("room at the right");
        assert_eq!(square.iou(&face), 0.0);
        assert_eq!(square.width, 100.0);
        assert_eq!(
            empty_square(100.0, 100.0, &[FaceBox::new(0.0, 0.0, 100.0, 100.0)]),
            None
        );
    }

    #[test]
    fn a_mean_shape_follows_its_box() {
        let shape = MeanShape::from_flat(&[0.5, 0.25]);
        assert_eq!(
            shape.in_box(&FaceBox::new(10.0, 20.0, 40.0, 80.0)),
            [Point::new(30.0, 40.0)]
        );
        assert_eq!(MeanShape::from_flat(&shape.flat()), shape);
    }
}
