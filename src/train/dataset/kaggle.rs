//! Reader for the training table of Kaggle's "Facial Keypoints Detection": columns of x and y, and a last column `Image`
//! with 96 x 96 grey values. Five of its fifteen points make the scheme mtfl5; a row that lacks one of them is skipped.

use super::{DatasetError, Example, Label, Picture, Records, original};
use crate::{
    frame::Frame,
    geometry::{FaceBox, Point},
    scheme::Scheme,
};
use std::{path::Path, sync::Arc};

const SIDE: usize = 96;

/// mtfl5 in the table's names. The table says left and right as the person would; our schemes say it as the picture
/// shows.
const COLUMNS: [&str; 5] = [
    "right_eye_center",
    "left_eye_center",
    "nose_tip",
    "mouth_right_corner",
    "mouth_left_corner",
];

/// Whether a file's first line is this table's.
pub(super) fn is_header(line: &str) -> bool {
    let mut names = line.split(',').map(str::trim);
    names.clone().any(|name| name == "Image") && names.any(|name| name.ends_with("_x"))
}

pub(super) fn read(file: &Path) -> Result<Records, DatasetError> {
    let malformed = |found: String| DatasetError::UnknownFormat {
        path: file.to_owned(),
        expected: format!(
            "a table with columns Image and {}_x to {}_y",
            COLUMNS[0], COLUMNS[4]
        ),
        found,
    };
    let mut table = csv::ReaderBuilder::new()
        .flexible(true)
        .from_path(file)
        .map_err(|error| malformed(error.to_string()))?;
    let header = table
        .headers()
        .map_err(|error| malformed(error.to_string()))?
        .clone();
    let column = |name: &str| {
        header
            .iter()
            .position(|found| found.trim() == name)
            .ok_or_else(|| malformed(format!("no column {name:?}")))
    };
    let image = column("Image")?;
    let mut places = Vec::new();
    for name in COLUMNS {
        places.push((column(&format!("{name}_x"))?, column(&format!("{name}_y"))?));
    }
    let mut records = Records {
        name: original::set_name(file),
        ..Records::default()
    };
    for (index, row) in table.records().enumerate() {
        // The header is line 1.
        let name = format!("{}:{}", file.display(), index + 2);
        let example = row
            .map_err(|error| error.to_string())
            .and_then(|row| example(file, &name, &row, image, &places));
        match example {
            Ok(example) => records.examples.push(example),
            Err(reason) => records.skip(name, reason),
        }
    }
    Ok(records)
}

fn example(
    file: &Path,
    name: &str,
    row: &csv::StringRecord,
    image: usize,
    places: &[(usize, usize)],
) -> Result<Example, String> {
    let points = places
        .iter()
        .zip(COLUMNS)
        .map(|(&(x, y), column)| {
            let field = |index: usize| {
                let text = row.get(index).unwrap_or_default();
                match original::number(text) {
                    Ok(value) if (-96.0..=192.0).contains(&value) => Ok(value),
                    _ => Err(format!("{column}: expected a coordinate, found {text:?}")),
                }
            };
            Ok(Point::new(field(x)?, field(y)?))
        })
        .collect::<Result<Vec<_>, String>>()?;
    let frame = picture(row.get(image).unwrap_or_default())?;
    Ok(Example {
        picture: Picture::Memory {
            name: name.to_owned(),
            frame: Arc::new(frame),
        },
        set: 0,
        split: original::split_of(file, name.rsplit(':').next().unwrap_or(name)),
        orig_split: String::new(),
        id: name.to_owned(),
        original_scale: 1.0,
        label: Label::Landmarks {
            scheme: Scheme::Mtfl5,
            face_box: box_of_five(&points).ok_or("eyes and mouth are in one place")?,
            points,
            measured_by: None,
        },
    })
}

fn picture(text: &str) -> Result<Frame, String> {
    let mut rgb = Vec::with_capacity(SIDE * SIDE * 3);
    for value in text.split_whitespace() {
        let grey: u8 = value
            .parse()
            .map_err(|_| format!("Image: expected grey values 0 to 255, found {value:?}"))?;
        rgb.extend([grey; 3]);
    }
    let found = rgb.len() / 3;
    Frame::from_rgb(SIDE, SIDE, rgb)
        .ok_or_else(|| format!("Image: expected {} grey values, found {found}", SIDE * SIDE))
}

/// The face box that goes with five points: a square half way between eyes and mouth, 2.3 times as large as the larger
/// of their distance and the eyes' distance.
fn box_of_five(points: &[Point]) -> Option<FaceBox> {
    let [left_eye, right_eye, _, left_mouth, right_mouth] = *points else {
        return None;
    };
    let (eyes, mouth) = (
        left_eye.midpoint(right_eye),
        left_mouth.midpoint(right_mouth),
    );
    let side = 2.3 * left_eye.distance(right_eye).max(eyes.distance(mouth));
    let center = eyes.midpoint(mouth);
    (side > 0.0).then(|| FaceBox::new(center.x - 0.5 * side, center.y - 0.5 * side, side, side))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_is_the_one_of_the_mtfl5_records() {
        let flat = [
            34.32, 34.8, 47.28, 36.24, 40.4, 46.0, 34.0, 50.8, 45.04, 52.08,
        ];
        let points: Vec<Point> = flat
            .chunks(2)
            .map(|pair| Point::new(pair[0], pair[1]))
            .collect();
        let found = box_of_five(&points).expect("box");
        let expected = FaceBox::new(21.8, 25.1, 36.7, 36.7);
        assert!(found.iou(&expected) > 0.99, "{found:?}");
    }
}
