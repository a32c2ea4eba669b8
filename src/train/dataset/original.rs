//! What the readers of original formats share: these have no record of their own, no splits and often no face box.

use super::{Example, Records};
use crate::{
    annotation::{LandmarkRecord, Split},
    geometry::{FaceBox, Point},
    picture::EXTENSIONS,
    scheme::Scheme,
};
use image::{ImageDecoder, ImageReader, metadata::Orientation};
use std::path::{Path, PathBuf};

/// Whether a file's name ends in `.ending`, in any case.
pub(super) fn has_ending(file: &Path, ending: &str) -> bool {
    file.extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(ending))
}

/// A name for a set: the folder's or the file's.
pub(super) fn set_name(path: &Path) -> String {
    path.file_stem()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// The layout with that many landmarks; every count occurs once.
pub(super) fn scheme_of(count: usize) -> Result<Scheme, String> {
    Scheme::ALL
        .into_iter()
        .find(|scheme| scheme.landmark_count() == count)
        .ok_or_else(|| {
            let known: Vec<String> = Scheme::ALL
                .iter()
                .map(|scheme| scheme.landmark_count().to_string())
                .collect();
            format!("expected {} landmarks, found {count}", known.join(", "))
        })
}

/// The picture beside a label file: the same name with a picture's ending.
pub(super) fn picture_beside(label: &Path) -> Option<PathBuf> {
    EXTENSIONS
        .iter()
        .flat_map(|ending| [(*ending).to_owned(), ending.to_uppercase()])
        .map(|ending| label.with_extension(ending))
        .find(|path| path.exists())
}

/// Which split an example is in when the format does not say: `test` or `val` in the name of the set's file or folder
/// makes it that; of a `train` set a tenth is for validation; any other set is parted 8 : 1 : 1. One `id` is never in
/// two parts, and the part of an id never changes.
pub(super) fn split_of(set: &Path, id: &str) -> Split {
    let name = set_name(set).to_lowercase();
    // FNV-1a (Fowler, Noll and Vo), 64 bit.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // Names that differ in a last digit differ in few bits still: the finaliser of MurmurHash3 (Appleby) spreads them.
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let tenth = (mixed ^ (mixed >> 33)) % 10;
    if name.contains("test") {
        Split::Test
    } else if name.contains("val") {
        Split::Val
    } else {
        match tenth {
            9 => Split::Val,
            8 if !name.contains("train") => Split::Test,
            _ => Split::Train,
        }
    }
}

/// Whether the name of a set says which split it is.
pub(super) fn names_a_split(set: &Path) -> bool {
    let name = set_name(set).to_lowercase();
    ["train", "val", "test"]
        .iter()
        .any(|split| name.contains(split))
}

/// Adds one labelled face, or says why it is skipped. `points` gets the picture's width and height.
pub(super) fn add_face(
    records: &mut Records,
    set: &Path,
    label: &str,
    picture: Option<PathBuf>,
    id: &str,
    points: impl FnOnce(usize, usize) -> Result<Vec<Point>, String>,
) {
    match face(set, picture, id, points) {
        Ok(example) => records.examples.push(example),
        Err(reason) => records.skip(label, reason),
    }
}

fn face(
    set: &Path,
    picture: Option<PathBuf>,
    id: &str,
    points: impl FnOnce(usize, usize) -> Result<Vec<Point>, String>,
) -> Result<Example, String> {
    let picture = picture.ok_or("no picture of that name is there")?;
    let (width, height) = size_of(&picture)?;
    let points = points(width, height)?;
    let record = LandmarkRecord {
        image: picture.display().to_string(),
        dataset: set_name(set),
        split: split_of(set, id),
        orig_split: String::new(),
        id: id.to_owned(),
        width,
        height,
        orig_width: None,
        orig_height: None,
        face_box: FaceBox::around(&points).ok_or("no landmarks")?,
        scheme: scheme_of(points.len())?,
        points,
        measured_by: None,
    };
    record.check().map_err(|error| error.to_string())?;
    Ok(Example::of_face(Path::new(""), record))
}

/// Width and height as the picture is decoded: upright, as its EXIF orientation says.
pub(super) fn size_of(picture: &Path) -> Result<(usize, usize), String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("{}: {error}", picture.display());
    let mut decoder = ImageReader::open(picture)
        .and_then(ImageReader::with_guessed_format)
        .map_err(|error| unreadable(&error))?
        .into_decoder()
        .map_err(|error| unreadable(&error))?;
    let (width, height) = decoder.dimensions();
    let turned = matches!(
        decoder.orientation(),
        Ok(Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH)
    );
    let (width, height) = (width as usize, height as usize);
    Ok(if turned {
        (height, width)
    } else {
        (width, height)
    })
}

/// A coordinate.
pub(super) fn number(text: &str) -> Result<f32, String> {
    match text.trim().parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(format!("expected a number, found {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_the_split_and_else_the_id() {
        let count = |name: &str, wanted: Split| {
            (0..1000)
                .filter(|id| split_of(Path::new(name), &format!("photo {id}")) == wanted)
                .count()
        };
        assert_eq!(count("a/testset", Split::Test), 1000);
        assert_eq!(count("labels_ibug_300W_train.xml", Split::Test), 0);
        for split in [Split::Val, Split::Test] {
            assert!(
                (60..140).contains(&count("faces", split)),
                "{}",
                split.name()
            );
        }
        assert!((860..940).contains(&count("a/trainset", Split::Train)));
    }

    #[test]
    fn the_number_of_landmarks_names_the_scheme() {
        for scheme in Scheme::ALL {
            assert_eq!(scheme_of(scheme.landmark_count()), Ok(scheme));
        }
        let reason = scheme_of(7).expect_err("no scheme");
        assert!(reason.contains("found 7"), "{reason}");
    }
}
