//! Drawn faces with exact labels: a data set without a data set. Every picture is a function of (seed, kind, split,
//! index); pixels are painted when they are first looked at.

mod face;
mod paint;

pub use face::Face;

use super::{
    augment::{chance, generator, log_uniform, symmetric},
    whole_file::write_whole,
};
use crate::{
    annotation::{DetectionRecord, LandmarkRecord, Split},
    frame::Frame,
    geometry::Point,
    picture::{self, PictureError},
    scheme::Scheme,
};
use rand::RngExt;
use std::path::{Path, PathBuf};

/// What a drawn picture is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One face with its surroundings, 128 x 128 pixels.
    Landmarks,
    /// None to three faces of all sizes, 240 x 200 pixels.
    Detection,
}

/// Name of the drawn set in records and reports.
pub const SET_NAME: &str = "synthetic";

/// Every split with its number of landmark and detection pictures.
pub const SIZES: [(Split, usize, usize); 3] = [
    (Split::Train, 2000, 600),
    (Split::Val, 200, 60),
    (Split::Test, 200, 60),
];

/// One drawn picture: its faces, and all that is needed to paint it.
#[derive(Clone, Debug)]
pub struct Scene {
    width: usize,
    height: usize,
    /// Seed of background, colours and noise.
    paint_seed: u64,
    faces: Vec<Face>,
}

impl Scene {
    /// The picture number `index` of a split.
    pub fn new(seed: u64, kind: Kind, split: Split, index: usize) -> Self {
        let purpose = 16 + 4 * kind as u64 + split as u64;
        let mut generator = generator(seed, 0, index, purpose);
        let paint_seed = generator.random();
        let (width, height) = match kind {
            Kind::Landmarks => (128, 128),
            Kind::Detection => (240, 200),
        };
        let mut faces: Vec<Face> = Vec::new();
        match kind {
            Kind::Landmarks => {
                let size = generator.random_range(48.0f32..74.0);
                let center = Point::new(
                    64.0 + symmetric(&mut generator, 7.0),
                    62.0 + symmetric(&mut generator, 7.0),
                );
                faces.push(Face::new(center, size, &mut generator));
            }
            Kind::Detection => {
                let wanted = if chance(&mut generator, 0.25) {
                    0
                } else {
                    generator.random_range(1..=3)
                };
                // Faces that would touch another one are given up.
                for _ in 0..wanted {
                    let size = log_uniform(&mut generator, 18.0, 150.0);
                    let center = Point::new(
                        generator.random_range(0.3 * size..240.0 - 0.3 * size),
                        generator.random_range(0.3 * size..200.0 - 0.3 * size),
                    );
                    let face = Face::new(center, size, &mut generator);
                    let clear = |other: &Face| {
                        let reach = 0.9 * (size + other.face_box().height);
                        other.face_box().center().distance(center) > reach
                    };
                    if faces.iter().all(clear) {
                        faces.push(face);
                    }
                }
            }
        }
        Self {
            width,
            height,
            paint_seed,
            faces,
        }
    }

    /// Width and height of the picture.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// The faces, with their 68 points and tight boxes.
    pub fn faces(&self) -> &[Face] {
        &self.faces
    }

    /// Paints the picture.
    pub fn paint(&self) -> Frame {
        paint::scene(self.width, self.height, &self.faces, self.paint_seed)
    }
}

/// Why drawn pictures could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteFolderError {
    /// A folder or a list of labels cannot be written.
    #[error("{path}: cannot write: {source}")]
    Write {
        /// File or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A picture cannot be written.
    #[error(transparent)]
    Picture(#[from] PictureError),
}

/// Writes the drawn set as two folders in our own format, `folder/landmarks` and `folder/detection`: PNG pictures in
/// `images/` and `annotations.jsonl`. At most `most` pictures a split and kind.
///
/// # Errors
/// See [`WriteFolderError`].
pub fn write_folder(seed: u64, folder: &Path, most: usize) -> Result<(), WriteFolderError> {
    for (kind, name) in [
        (Kind::Landmarks, "landmarks"),
        (Kind::Detection, "detection"),
    ] {
        let folder = folder.join(name);
        let images = folder.join("images");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| WriteFolderError::Write { path, source }
        };
        std::fs::create_dir_all(&images).map_err(failed(&images))?;
        let mut labels = Vec::new();
        for (split, landmark_pictures, detection_pictures) in SIZES {
            let count = match kind {
                Kind::Landmarks => landmark_pictures,
                Kind::Detection => detection_pictures,
            };
            for index in 0..count.min(most) {
                let scene = Scene::new(seed, kind, split, index);
                let image = format!("images/{}_{index:04}.png", split.name());
                picture::save(&scene.paint(), &folder.join(&image))?;
                let line = scene.record(kind, split, index, image);
                labels.extend_from_slice(line.as_bytes());
                labels.push(b'\n');
            }
        }
        let file = folder.join("annotations.jsonl");
        write_whole(&file, &labels).map_err(failed(&file))?;
    }
    Ok(())
}

impl Scene {
    /// The label as a line of `annotations.jsonl`.
    fn record(&self, kind: Kind, split: Split, index: usize, image: String) -> String {
        let line = match (kind, self.faces.first()) {
            (Kind::Landmarks, Some(face)) => serde_json::to_string(&LandmarkRecord {
                image,
                dataset: SET_NAME.to_owned(),
                split,
                orig_split: String::new(),
                id: format!("{}_{index}", split.name()),
                width: self.width,
                height: self.height,
                orig_width: None,
                orig_height: None,
                face_box: face.face_box(),
                scheme: Scheme::Ibug68,
                points: face.landmarks(),
                measured_by: None,
            }),
            _ => serde_json::to_string(&DetectionRecord {
                image,
                dataset: SET_NAME.to_owned(),
                split,
                width: self.width,
                height: self.height,
                boxes: self.faces.iter().map(Face::face_box).collect(),
                ignore: Vec::new(),
                box_kind: "landmark_tight".to_owned(),
            }),
        };
        line.expect("a record holds nothing that JSON cannot")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::dataset::{Dataset, Label, OpenOptions};

    #[test]
    fn a_picture_is_a_function_of_seed_kind_split_and_index() {
        let paint = |seed, kind, split, index| Scene::new(seed, kind, split, index).paint();
        let first = paint(7, Kind::Landmarks, Split::Train, 3);
        assert_eq!(first, paint(7, Kind::Landmarks, Split::Train, 3));
        for other in [
            paint(8, Kind::Landmarks, Split::Train, 3),
            paint(7, Kind::Landmarks, Split::Test, 3),
            paint(7, Kind::Landmarks, Split::Train, 4),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn landmarks_are_a_face_inside_the_picture() {
        for index in 0..200 {
            let scene = Scene::new(1, Kind::Landmarks, Split::Train, index);
            let points = scene.faces()[0].landmarks();
            assert_eq!(points.len(), 68);
            let inside =
                |point: &Point| (0.0..128.0).contains(&point.x) && (0.0..128.0).contains(&point.y);
            assert!(points.iter().all(inside), "{index}: {points:?}");
            let eyes = points[36].distance(points[45]);
            assert!(eyes > 12.0, "{index}: eyes {eyes} apart");
        }
    }

    #[test]
    fn pupils_are_dark_spots_between_their_landmarks() {
        let mut darker = 0;
        for index in 0..50 {
            let scene = Scene::new(2, Kind::Landmarks, Split::Val, index);
            let frame = scene.paint();
            let points = scene.faces()[0].landmarks();
            let luma = |point: Point| {
                let pixel = frame.pixel(point.x.round() as usize, point.y.round() as usize);
                pixel.into_iter().map(u32::from).sum::<u32>()
            };
            let eye = points[36].midpoint(points[39]);
            let cheek = points[41].midpoint(points[48]);
            darker += usize::from(luma(eye) < luma(cheek));
        }
        assert!(darker >= 40, "{darker} of 50");
    }

    #[test]
    fn detection_pictures_hold_none_to_three_separate_faces() {
        let mut counts = [0; 4];
        for index in 0..300 {
            let scene = Scene::new(3, Kind::Detection, Split::Train, index);
            counts[scene.faces().len()] += 1;
            for (number, face) in scene.faces().iter().enumerate() {
                for other in &scene.faces()[..number] {
                    assert_eq!(face.face_box().iou(&other.face_box()), 0.0, "{index}");
                }
            }
        }
        assert!(counts.iter().all(|&count| count > 5), "{counts:?}");
    }

    #[test]
    fn a_written_folder_reads_back_as_the_same_data() {
        let folder = tempfile::tempdir().expect("folder");
        write_folder(5, folder.path(), 3).expect("written");
        let drawn = Dataset::open("synthetic:5", &OpenOptions::default()).expect("drawn");
        for (name, kind) in [
            ("landmarks", Kind::Landmarks),
            ("detection", Kind::Detection),
        ] {
            let path = folder.path().join(name).display().to_string();
            let read = Dataset::open(&path, &OpenOptions::default()).expect("read");
            assert_eq!((read.examples.len(), read.skipped.len()), (9, 0), "{name}");
            let is_kind = |label: &Label| {
                matches!(label, Label::Landmarks { .. }) == (kind == Kind::Landmarks)
            };
            for split in [Split::Train, Split::Val, Split::Test] {
                let of_split = |data: &Dataset| -> Vec<_> {
                    data.examples
                        .iter()
                        .filter(|example| example.split == split && is_kind(&example.label))
                        .map(|example| {
                            let frame = example.picture.load().expect("picture");
                            (example.label.clone(), frame)
                        })
                        .take(3)
                        .collect()
                };
                assert_eq!(of_split(&read), of_split(&drawn), "{name} {}", split.name());
            }
        }
    }
}
