//! Reader for the AAM shape files (`.asf`) of the IMM face databases (Stegmann 2002) beside their pictures. Coordinates
//! are parts of the picture's width and height; `part * size` is taken as the coordinate of a pixel's middle, as in the
//! JSON-lines records of the same pictures.

use super::{Label, Records, original};
use crate::{annotation::Split, geometry::Point, scheme::Scheme};
use std::path::{Path, PathBuf};

/// Reads one face a file.
pub(super) fn read(folder: &Path, files: &[PathBuf]) -> Records {
    let mut records = Records {
        name: original::set_name(folder),
        ..Records::default()
    };
    for file in files {
        let shape = std::fs::read_to_string(file)
            .map_err(|error| error.to_string())
            .and_then(|text| parse(&text));
        let host = shape.as_ref().ok().and_then(|shape| {
            let host = folder.join(shape.host.as_deref()?);
            host.is_file().then_some(host)
        });
        let stem = original::set_name(file);
        original::add_face(
            &mut records,
            folder,
            &file.display().to_string(),
            // The files of the database name a host picture that is often another one's.
            original::picture_beside(file).or(host),
            person(&stem),
            |width, height| {
                let scale = |part: Point| Point::new(part.x * width as f32, part.y * height as f32);
                Ok(shape?.parts.into_iter().map(scale).collect())
            },
        );
    }
    if !original::names_a_split(folder) {
        for example in &mut records.examples {
            if let Label::Landmarks { scheme, .. } = example.label
                && let Some(split) = split_of_the_course(scheme, &example.id)
            {
                example.split = split;
            }
        }
    }
    records
}

/// The IMM face database (imm58) has 40 people: the course trained on 1 to 32 and validated on 33 to 40. `None` for other
/// sets.
fn split_of_the_course(scheme: Scheme, person: &str) -> Option<Split> {
    match (scheme, person.parse::<usize>()) {
        (Scheme::Imm58, Ok(1..=32)) => Some(Split::Train),
        (Scheme::Imm58, Ok(33..=40)) => Some(Split::Val),
        _ => None,
    }
}

/// `04-1m` and `01_03` are pictures of persons 04 and 01.
fn person(stem: &str) -> &str {
    stem.split(['-', '_']).next().unwrap_or(stem)
}

struct Shape {
    /// In parts of the picture.
    parts: Vec<Point>,
    host: Option<String>,
}

fn parse(text: &str) -> Result<Shape, String> {
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let count = lines
        .next()
        .ok_or("expected a number of points, found nothing")?;
    let count: usize = count
        .parse()
        .map_err(|_| format!("expected a number of points, found {count:?}"))?;
    let parts = lines
        .by_ref()
        .take(count)
        .map(|line| {
            // path, type, x, y, point, neighbours.
            let fields: Vec<&str> = line.split_whitespace().collect();
            match fields.as_slice() {
                [_, _, x, y, _, ..] => Ok(Point::new(original::number(x)?, original::number(y)?)),
                _ => Err(format!("expected a point, found {line:?}")),
            }
        })
        .collect::<Result<Vec<_>, String>>()?;
    if parts.len() != count {
        return Err(format!("expected {count} points, found {}", parts.len()));
    }
    Ok(Shape {
        parts,
        host: lines.next().map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_and_broken_ones_named() {
        let text = "# comment\n2\n#\n0 4 0.25 0.5 0 0 1\n0\t4 \t0.75\t0.125\t1\t0\t0\n# host image\nface.bmp\n";
        let shape = parse(text).expect("shape");
        assert_eq!(
            shape.parts,
            [Point::new(0.25, 0.5), Point::new(0.75, 0.125)]
        );
        assert_eq!(shape.host.as_deref(), Some("face.bmp"));
        for (text, reason) in [
            ("", "found nothing"),
            ("many", "number of points"),
            ("2\n0 4 0.25 0.5 0 0 1\n", "expected 2 points, found 1"),
            ("1\n0 4 x 0.5 0 0 1\n", "expected a number"),
            ("1\nface.bmp\n", "expected a point"),
        ] {
            let found = parse(text).err().unwrap_or_default();
            assert!(found.contains(reason), "{text:?}: {found}");
        }
        assert_eq!((person("04-1m"), person("01_03")), ("04", "01"));
    }
}
