//! Labels from a network instead of the set's own (distillation after Hinton et al. 2015, with the answer alone): a network
//! that knows a layout gives it to pictures which were never labelled in it, and a good one is steadier than coarse labels.

use super::{DatasetError, Label, Records};
use crate::{
    annotation::Split,
    engine::Engine,
    frame::Frame,
    geometry::{Affine, FaceBox, Point},
    landmarker::Landmarker,
    model::InferError,
};
use rayon::prelude::*;
use std::path::Path;

/// A face of which the teacher is less sure than this is left out.
const LEAST_CONFIDENCE: f32 = 0.3;

/// Replaces the landmarks of every training face by those that the model `path` finds in its labelled box, in the model's layout,
/// and the box by the one around them. Faces that it is not sure of and pictures that cannot be read are skipped.
pub(super) fn relabel(records: &mut Records, data: &str, path: &Path) -> Result<(), DatasetError> {
    let unusable = |reason: String| DatasetError::Teacher {
        path: path.to_owned(),
        data: data.to_owned(),
        reason,
    };
    let open = || -> Result<Landmarker<Engine>, DatasetError> {
        Landmarker::new(Engine::load(path)?).map_err(|error| unusable(error.to_string()))
    };
    // What cannot teach is refused now, and not by each thread for each face.
    open()?;
    let examples = std::mem::take(&mut records.examples);
    let relabelled: Vec<_> = examples
        .into_par_iter()
        .map_init(open, |teacher, mut example| {
            let face_box = match &example.label {
                Label::Landmarks { face_box, .. } if example.split == Split::Train => face_box,
                _ => return Ok(Ok(example)),
            };
            let teacher = teacher
                .as_mut()
                .map_err(|error| unusable(error.to_string()))?;
            let answer = match example.picture.load() {
                Ok(frame) => ask(teacher, &frame, face_box)
                    .map_err(|error| unusable(format!("{}: {error}", example.picture.name())))?,
                Err(reason) => Err(reason),
            };
            Ok(match answer {
                Ok((points, face_box)) => {
                    example.label = Label::Landmarks {
                        scheme: teacher.scheme(),
                        points,
                        face_box,
                        measured_by: None,
                    };
                    Ok(example)
                }
                Err(reason) => Err((example.picture.name(), reason)),
            })
        })
        .collect::<Result<_, DatasetError>>()?;
    for outcome in relabelled {
        match outcome {
            Ok(example) => records.examples.push(example),
            Err((item, reason)) => records.skip(item, reason),
        }
    }
    Ok(())
}

/// The landmarks of a face and the box around them: the mean of what the teacher says of the picture and of its mirror
/// image. In words why not, when it is not sure of the face.
fn ask(
    teacher: &mut Landmarker<Engine>,
    frame: &Frame,
    face_box: &FaceBox,
) -> Result<Result<(Vec<Point>, FaceBox), String>, InferError> {
    let mirror = Affine::mirror_x(frame.width());
    let mirrored_box = FaceBox {
        x: frame.width() as f32 - 1.0 - face_box.x - face_box.width,
        ..*face_box
    };
    let (mut points, mut mirrored) = (Vec::new(), Vec::new());
    let plain = teacher.locate_detected(frame, face_box, &mut points)?;
    let mut image = frame.clone();
    image.mirror();
    let other = teacher.locate_detected(&image, &mirrored_box, &mut mirrored)?;
    let confidence = plain.confidence.min(other.confidence);
    if confidence < LEAST_CONFIDENCE {
        return Ok(Err(format!(
            "the teacher's confidence is {confidence:.2}, below {LEAST_CONFIDENCE}"
        )));
    }
    let permutation = teacher.scheme().mirror_permutation();
    for (point, &partner) in points.iter_mut().zip(&permutation) {
        *point = point.midpoint(mirror * mirrored[partner]);
    }
    Ok(FaceBox::around(&points)
        .filter(|tight| tight.area() > 0.0)
        .map(|tight| (points, tight))
        .ok_or_else(|| "the teacher's landmarks have no area".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::{DataSource, Dataset, OpenOptions};
    use crate::{annotation::Split, frame::Frame, geometry::Affine, picture, scheme::Scheme};
    use std::path::{Path, PathBuf};

    /// The face of the demo's portrait, roughly.
    const FACE: [f32; 4] = [180.0, 88.0, 92.0, 92.0];

    fn root(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
    }

    fn record(image: &str, split: &str, [x, y, width, height]: [f32; 4]) -> String {
        format!(
            r#"{{"image":"{image}","dataset":"t","split":"{split}","id":"p","width":512,"height":512,
               "box":[{x},{y},{width},{height}],"scheme":"nose1","points":[220.0,140.0]}}"#
        )
        .replace('\n', "")
    }

    /// The portrait, its mirror image and a place without a face, for training; the portrait for validation.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("folder");
        let mut portrait = picture::load(&root("samples/astronaut.jpg")).expect("portrait");
        picture::save(&portrait, &folder.path().join("a.png")).expect("png");
        portrait.mirror();
        picture::save(&portrait, &folder.path().join("b.png")).expect("png");
        picture::save(&Frame::new(512, 512), &folder.path().join("black.png")).expect("png");
        let mirrored = [511.0 - FACE[0] - FACE[2], FACE[1], FACE[2], FACE[3]];
        let lines = [
            record("a.png", "train", FACE),
            record("b.png", "train", mirrored),
            record("black.png", "train", FACE),
            record("a.png", "val", FACE),
        ];
        std::fs::write(folder.path().join("annotations.jsonl"), lines.join("\n")).expect("labels");
        folder
    }

    fn open(folder: &Path, teacher: PathBuf) -> Result<Dataset, super::DatasetError> {
        let source = DataSource {
            teacher: Some(teacher),
            ..DataSource::new(folder.display().to_string())
        };
        Dataset::open_all(&[source], &OpenOptions::default())
    }

    #[test]
    fn a_teacher_labels_training_faces_in_its_own_layout() {
        let folder = folder();
        let data = open(folder.path(), root("models/landmarks68-small-int8.onnx")).expect("data");
        let faces: Vec<_> = data
            .examples
            .iter()
            .map(|example| match &example.label {
                super::Label::Landmarks {
                    scheme,
                    points,
                    face_box,
                    ..
                } => (example.split, *scheme, points, *face_box),
                super::Label::Detection { .. } => panic!("a face"),
            })
            .collect();
        let schemes: Vec<_> = faces.iter().map(|face| (face.0, face.1)).collect();
        assert_eq!(
            schemes,
            [
                (Split::Train, Scheme::Ibug68),
                (Split::Train, Scheme::Ibug68),
                (Split::Val, Scheme::Nose1)
            ]
        );
        let [x, y, width, height] = FACE;
        let face = super::FaceBox::new(x, y, width, height);
        assert!(faces[0].3.iou(&face) > 0.7, "{:?}", faces[0].3);
        // It was asked about both mirror images of each.
        let mirror = Affine::mirror_x(512);
        let permutation = Scheme::Ibug68.mirror_permutation();
        for (index, &partner) in permutation.iter().enumerate() {
            let distance = faces[0].2[index].distance(mirror * faces[1].2[partner]);
            assert!(distance < 0.01, "{index}: {distance}");
        }
        assert_eq!(data.skipped.len(), 1);
        let skipped = &data.skipped[0];
        assert!(skipped.item.ends_with("black.png"), "{skipped:?}");
        assert!(skipped.reason.contains("confidence"), "{skipped:?}");
    }

    #[test]
    fn a_model_that_cannot_teach_is_named() {
        let folder = folder();
        let refusal = |teacher| {
            let refused = open(folder.path(), teacher);
            refused.expect_err("no teacher").to_string()
        };
        let message = refusal(root("models/face-detector-int8.onnx"));
        assert!(
            message.contains("face-detector-int8.onnx")
                && message.contains("a model for landmarks"),
            "{message}"
        );
        let message = refusal(root("models/nowhere.onnx"));
        assert!(message.contains("nowhere.onnx"), "{message}");
    }
}
