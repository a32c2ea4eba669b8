//! The labels of a data set as records: one landmark record a face, one detection record a picture. Parsing only; the
//! readers that open files are built on it.

use crate::{
    geometry::{FaceBox, Point},
    metrics::NormalizingLength,
    scheme::Scheme,
};
use serde::{Deserialize, Serialize};

/// Which part of a data set a record belongs to: fit on `train`, choose on `val`, report `test`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Weights are fitted on it.
    Train,
    /// Choices are made on it.
    Val,
    /// Results are reported on it.
    Test,
}

impl Split {
    /// The name in files and arguments.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

impl std::str::FromStr for Split {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::Train, Self::Val, Self::Test]
            .into_iter()
            .find(|split| split.name() == name)
            .ok_or_else(|| format!("unknown split {name:?}; expected train, val or test"))
    }
}

/// One face with its landmarks: a line of a landmark set's `annotations.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LandmarkRecord {
    /// Picture file, relative to the set's folder.
    pub image: String,
    /// Name of the set.
    pub dataset: String,
    /// Split.
    pub split: Split,
    /// Part of the source set that the picture was in, as that set calls it; empty when unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub orig_split: String,
    /// Person or photo; splits never share one.
    #[serde(default)]
    pub id: String,
    /// Width of the stored picture, in pixels.
    pub width: usize,
    /// Height of the stored picture, in pixels.
    pub height: usize,
    /// Width of the source picture: errors in original pixels are scaled by `orig_width / width`.
    #[serde(default)]
    pub orig_width: Option<usize>,
    /// Height of the source picture.
    #[serde(default)]
    pub orig_height: Option<usize>,
    /// The face, in the stored picture.
    #[serde(rename = "box")]
    pub face_box: FaceBox,
    /// Landmark layout.
    pub scheme: Scheme,
    /// The landmarks in the stored picture, `[x0, y0, x1, y1, ...]`.
    #[serde(with = "flat_points")]
    pub points: Vec<Point>,
    /// What errors are divided by when the landmarks were taken out of a larger layout, which knows the eyes; `None`: what
    /// the scheme says.
    #[serde(skip)]
    pub measured_by: Option<NormalizingLength>,
}

/// One picture with its faces: a line of a detection set's `annotations.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectionRecord {
    /// Picture file, relative to the set's folder.
    pub image: String,
    /// Name of the set the picture is from.
    pub dataset: String,
    /// Split.
    pub split: Split,
    /// Width of the stored picture, in pixels.
    pub width: usize,
    /// Height of the stored picture, in pixels.
    pub height: usize,
    /// Faces; empty: the picture shows none.
    pub boxes: Vec<FaceBox>,
    /// Possible faces that nobody labelled: neither right nor wrong to find.
    #[serde(default)]
    pub ignore: Vec<FaceBox>,
    /// What the boxes enclose: `landmark_tight`, or the looser `cmumit_head`.
    #[serde(default)]
    pub box_kind: String,
}

/// Why a label cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LabelError {
    /// The line is not a record.
    #[error("not a record: {reason}")]
    Syntax {
        /// What the parser says.
        reason: String,
    },
    /// The number of points is not the scheme's.
    #[error("scheme {scheme}: expected {expected} points, found {found}")]
    PointCount {
        /// Landmark layout.
        scheme: Scheme,
        /// The scheme's number of points.
        expected: usize,
        /// The record's.
        found: usize,
    },
    /// A coordinate is not a number, or far outside the picture.
    #[error(
        "point {index} is at ({x}, {y}), outside the {width}x{height} picture by more than its size"
    )]
    OutOfRange {
        /// Index of the point; box corners count on from the points.
        index: usize,
        /// Its x.
        x: f32,
        /// Its y.
        y: f32,
        /// Picture width.
        width: usize,
        /// Picture height.
        height: usize,
    },
    /// The face box is empty.
    #[error("the face box {width}x{height} has no area")]
    EmptyBox {
        /// Box width.
        width: f32,
        /// Box height.
        height: f32,
    },
}

impl LandmarkRecord {
    /// Parses one line and checks it.
    ///
    /// # Errors
    /// See [`LabelError`].
    pub fn from_json(line: &str) -> Result<Self, LabelError> {
        let record: Self = serde_json::from_str(line).map_err(|error| LabelError::Syntax {
            reason: error.to_string(),
        })?;
        record.check()?;
        Ok(record)
    }

    /// Checks that the points are the scheme's and lie near the picture and that the box has an area.
    ///
    /// # Errors
    /// See [`LabelError`].
    pub fn check(&self) -> Result<(), LabelError> {
        let (expected, found) = (self.scheme.landmark_count(), self.points.len());
        if expected != found {
            return Err(LabelError::PointCount {
                scheme: self.scheme,
                expected,
                found,
            });
        }
        check_points(&self.points, self.width, self.height)?;
        check_boxes(&[self.face_box], self.width, self.height)
    }

    /// The record in `scheme`: as it is, or of a layout with a nose tip that landmark alone. `None`: it has no such
    /// landmarks.
    pub fn in_scheme(self, scheme: Scheme) -> Option<Self> {
        if self.scheme == scheme {
            return Some(self);
        }
        match (scheme, self.scheme.nose_tip()) {
            (Scheme::Nose1, Some(tip)) => self.with_landmark(tip),
            _ => None,
        }
    }

    /// The record with the landmark `index` alone, in scheme nose1; its error stays measured by what the layout has for
    /// that. `None`: there is no such landmark, or nothing to measure by.
    pub fn with_landmark(self, index: usize) -> Option<Self> {
        let measured_by = self.normalizing_length()?;
        Some(Self {
            points: vec![*self.points.get(index)?],
            scheme: Scheme::Nose1,
            measured_by: Some(measured_by),
            ..self
        })
    }

    /// What errors are divided by; `None` when the labels give no positive length.
    pub fn normalizing_length(&self) -> Option<NormalizingLength> {
        self.measured_by
            .or_else(|| NormalizingLength::of(self.scheme, &self.points, &self.face_box))
    }

    /// Pixels of the source picture in one pixel of the stored one.
    pub fn original_scale(&self) -> f32 {
        self.orig_width
            .map_or(1.0, |orig_width| orig_width as f32 / self.width as f32)
    }
}

impl DetectionRecord {
    /// Parses one line and checks it.
    ///
    /// # Errors
    /// See [`LabelError`].
    pub fn from_json(line: &str) -> Result<Self, LabelError> {
        let record: Self = serde_json::from_str(line).map_err(|error| LabelError::Syntax {
            reason: error.to_string(),
        })?;
        check_boxes(&record.boxes, record.width, record.height)?;
        Ok(record)
    }
}

fn check_points(points: &[Point], width: usize, height: usize) -> Result<(), LabelError> {
    let (far_x, far_y) = (width as f32, height as f32);
    for (index, point) in points.iter().enumerate() {
        let near =
            (-far_x..=2.0 * far_x).contains(&point.x) && (-far_y..=2.0 * far_y).contains(&point.y);
        if !near {
            return Err(LabelError::OutOfRange {
                index,
                x: point.x,
                y: point.y,
                width,
                height,
            });
        }
    }
    Ok(())
}

fn check_boxes(boxes: &[FaceBox], width: usize, height: usize) -> Result<(), LabelError> {
    for face in boxes {
        let corners = [
            Point::new(face.x, face.y),
            Point::new(face.x + face.width, face.y + face.height),
        ];
        check_points(&corners, width, height)?;
        if face.width <= 0.0 || face.height <= 0.0 {
            return Err(LabelError::EmptyBox {
                width: face.width,
                height: face.height,
            });
        }
    }
    Ok(())
}

mod flat_points {
    use super::Point;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        points: &[Point],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let flat: Vec<f32> = points.iter().flat_map(|point| [point.x, point.y]).collect();
        flat.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Point>, D::Error> {
        let flat = Vec::<f32>::deserialize(deserializer)?;
        if flat.len() % 2 != 0 {
            return Err(serde::de::Error::custom(format!(
                "points: expected pairs, found {} numbers",
                flat.len()
            )));
        }
        Ok(flat
            .chunks_exact(2)
            .map(|pair| Point::new(pair[0], pair[1]))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOSE: &str = r#"{"image":"images/a.jpg","dataset":"t","split":"val","id":"p","video":null,"width":80,
        "height":60,"orig_width":160,"box":[10.0,5.0,40.0,50.0],"scheme":"nose1","points":[40.5,30.25]}"#;

    #[test]
    fn a_record_is_read_with_its_scale() {
        let record = LandmarkRecord::from_json(NOSE).expect("record");
        assert_eq!(record.points, [Point::new(40.5, 30.25)]);
        assert_eq!((record.split, record.original_scale()), (Split::Val, 2.0));
    }

    #[test]
    fn broken_labels_are_named() {
        for (from, to, expected) in [
            (
                "[40.5,30.25]",
                "[40.5,30.25,1.0,2.0]",
                "expected 1 points, found 2",
            ),
            ("[40.5,30.25]", "[40.5]", "expected pairs"),
            (
                "[40.5,30.25]",
                "[400.5,30.25]",
                "point 0 is at (400.5, 30.25)",
            ),
            ("[40.5,30.25]", "[NaN,30.25]", "not a record"),
            ("40.0,50.0]", "0.0,50.0]", "no area"),
            ("nose1", "nose2", "not a record"),
        ] {
            let line = NOSE.replace(from, to);
            let error = LandmarkRecord::from_json(&line).expect_err(to).to_string();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }
}
