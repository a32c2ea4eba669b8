//! Reader for 300-W `.pts` files (Sagonas et al. 2013) beside their pictures. Coordinates there count from 1, with the
//! middle of the first pixel at (1, 1); the header may be missing.

use super::{Records, original};
use crate::geometry::Point;
use std::path::{Path, PathBuf};

/// Reads one face a file.
pub(super) fn read(folder: &Path, files: &[PathBuf]) -> Records {
    let mut records = Records {
        name: original::set_name(folder),
        ..Records::default()
    };
    for file in files {
        let stem = original::set_name(file);
        original::add_face(
            &mut records,
            folder,
            &file.display().to_string(),
            original::picture_beside(file),
            photo(&stem),
            |_, _| {
                let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
                parse(&text)
            },
        );
    }
    records
}

/// The photo's name without the number of the face in it: `100040721_2` is a face of `100040721`.
fn photo(stem: &str) -> &str {
    match stem.rsplit_once('_') {
        Some((photo, face))
            if face.len() == 1 && face.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            photo
        }
        _ => stem,
    }
}

fn parse(text: &str) -> Result<Vec<Point>, String> {
    let mut promised = None;
    let mut points = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some((key, value)) = line.split_once(':') {
            if key.trim() == "n_points" {
                let count = value.trim().parse::<usize>();
                promised = Some(count.map_err(|_| format!("n_points: found {value:?}"))?);
            }
        } else if !line.is_empty() && !line.starts_with(['{', '}']) {
            let numbers: Vec<&str> = line.split_whitespace().collect();
            let [x, y] = numbers.as_slice() else {
                return Err(format!("expected x and y, found {line:?}"));
            };
            let (x, y) = (original::number(x)?, original::number(y)?);
            points.push(Point::new(x - 1.0, y - 1.0));
        }
    }
    match promised {
        Some(count) if count != points.len() => Err(format!(
            "n_points promises {count} points, found {}",
            points.len()
        )),
        _ => Ok(points),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_optional_and_the_count_must_hold() {
        let expected = Ok(vec![Point::new(0.0, 1.5), Point::new(10.0, 19.25)]);
        assert_eq!(parse("1 2.5\n11.0 20.25\n"), expected);
        let with_header = "version: 1\nn_points:  2\n{\n1 2.5\n11 20.25\n}\n";
        assert_eq!(parse(with_header), expected);
        for (text, reason) in [
            ("n_points: 3\n1 2\n", "promises 3 points, found 1"),
            ("n_points: many\n", "n_points"),
            ("1 2 3\n", "expected x and y"),
            ("1 two\n", "expected a number"),
        ] {
            let found = parse(text).expect_err(text);
            assert!(found.contains(reason), "{found}");
        }
    }

    #[test]
    fn faces_of_one_photo_share_an_id() {
        assert_eq!(photo("100040721_2"), "100040721");
        assert_eq!(photo("image_0001"), "image_0001");
        assert_eq!(photo("plain"), "plain");
    }
}
