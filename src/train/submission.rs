//! Predictions as the table that the course's contest took: `Id,Predicted`, one coordinate a row.

use super::{dataset::Dataset, evaluate::FaceResult};
use std::fmt::Write;

/// The table of `faces`, in their order: x0, y0, x1, y1, ... of the first face, then the next. Coordinates are pixels of the
/// original picture, whose size may differ from the stored one's.
pub fn kaggle_csv(faces: &[FaceResult], dataset: &Dataset) -> String {
    let mut table = "Id,Predicted\n".to_owned();
    let mut id = 0;
    for face in faces {
        let scale = dataset
            .examples
            .get(face.example)
            .map_or(1.0, |example| example.original_scale);
        // The middle of the first pixel lies half a pixel from the edge, in either size.
        let original = |value: f32| (value + 0.5) * scale - 0.5;
        for value in face
            .predicted_in_frame
            .iter()
            .flat_map(|point| [point.x, point.y])
        {
            writeln!(table, "{id},{:.3}", original(value)).expect("text grows");
            id += 1;
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        annotation::Split,
        frame::Frame,
        geometry::{FaceBox, Point},
        metrics::{FaceError, NormalizingLength},
        scheme::Scheme,
        train::dataset::{Example, Label, Picture},
    };
    use std::sync::Arc;

    #[test]
    fn coordinates_are_those_of_the_original_picture() {
        let (points, face_box) = (
            vec![Point::new(9.5, 0.0)],
            FaceBox::new(0.0, 0.0, 20.0, 20.0),
        );
        let length = NormalizingLength::of(Scheme::Nose1, &points, &face_box).expect("a box");
        let error = FaceError::measure(Scheme::Nose1, &points, &points, length, 3.0);
        let dataset = Dataset {
            examples: vec![Example {
                picture: Picture::Memory {
                    name: "one".to_owned(),
                    frame: Arc::new(Frame::new(20, 20)),
                },
                set: 0,
                split: Split::Test,
                orig_split: String::new(),
                id: "one".to_owned(),
                original_scale: 3.0,
                label: Label::Landmarks {
                    scheme: Scheme::Nose1,
                    points: points.clone(),
                    face_box,
                    measured_by: None,
                },
            }],
            ..Dataset::default()
        };
        let face = FaceResult {
            example: 0,
            predicted_in_frame: points,
            error: error.expect("a point"),
            presence: None,
        };
        // The middle of a picture of 20 pixels is that of one of 60: 9.5 becomes 29.5.
        let table = kaggle_csv(&[face], &dataset);
        assert_eq!(table, "Id,Predicted\n0,29.500\n1,1.000\n");
    }
}
