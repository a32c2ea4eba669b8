//! Hard negatives: places where a detector sees a face and there is none (bootstrapping, Sung and Poggio 1998). A network that
//! is to have the last word on a detector's boxes has to know what that detector takes for faces.

use super::{DatasetError, Example, Label};
use crate::{
    annotation::Split,
    detector::{Detector, DetectorConfig, InputSize},
    engine::Engine,
    geometry::FaceBox,
};
use rayon::prelude::*;
use std::path::Path;

/// Detections from this score on are looked at: some way below what a program does.
const LEAST_SCORE: f32 = 0.04;

/// A detection where no face is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FalseAlarm {
    /// Index into [`super::Dataset::examples`].
    pub example: usize,
    /// What the detector took for a face, in the picture.
    pub face_box: FaceBox,
}

/// The labelled faces of a picture and what may be one.
pub fn possible_faces(label: &Label) -> Vec<FaceBox> {
    match label {
        Label::Landmarks { face_box, .. } => vec![*face_box],
        Label::Detection { boxes, ignore } => boxes.iter().chain(ignore).copied().collect(),
    }
}

/// Whether none of `faces` is in `place`, of about its size.
pub fn is_empty(place: &FaceBox, faces: &[FaceBox]) -> bool {
    faces.iter().all(|face| {
        let much_smaller = face.area() < 0.1 * place.area();
        place.iou(face) < 0.1 && (much_smaller || !place.contains(face.center()))
    })
}

/// The false alarms of the detector `path` in the training pictures among `examples`; their indices begin at `first`. Pictures
/// with a label of one face alone are left out: there may be others in them. `data` names the set.
pub(super) fn find(
    examples: &[Example],
    first: usize,
    data: &str,
    path: &Path,
) -> Result<Vec<FalseAlarm>, DatasetError> {
    let unusable = |reason: String| DatasetError::Detector {
        path: path.to_owned(),
        data: data.to_owned(),
        reason,
    };
    let config = DetectorConfig {
        score_threshold: LEAST_SCORE,
        ..DetectorConfig::for_input(InputSize::STILLS)
    };
    let open = || -> Result<Detector<Engine>, DatasetError> {
        Detector::new(Engine::load(path)?, config).map_err(|error| unusable(error.to_string()))
    };
    let is_known = |example: &Example| {
        example.split == Split::Train && matches!(example.label, Label::Detection { .. })
    };
    if !examples.iter().any(is_known) {
        return Ok(Vec::new());
    }
    // What is no detector is refused now, and not by each thread.
    open()?;
    let alarms = examples
        .par_iter()
        .enumerate()
        .map_init(open, |detector, (index, example)| {
            if !is_known(example) {
                return Ok(Vec::new());
            }
            let detector = detector
                .as_mut()
                .map_err(|error| unusable(error.to_string()))?;
            // A picture that cannot be read is skipped, and counted, where it is used.
            let Ok(frame) = example.picture.load() else {
                return Ok(Vec::new());
            };
            let faces = possible_faces(&example.label);
            let found = detector
                .detect(&frame)
                .map_err(|error| unusable(format!("{}: {error}", example.picture.name())))?;
            Ok(found
                .iter()
                .map(|detection| detection.face_box)
                .filter(|face_box| is_empty(face_box, &faces))
                .map(|face_box| FalseAlarm {
                    example: first + index,
                    face_box,
                })
                .collect())
        })
        .collect::<Result<Vec<Vec<FalseAlarm>>, DatasetError>>()?;
    Ok(alarms.concat())
}

#[cfg(test)]
mod tests {
    use super::super::{DataSource, Dataset, OpenOptions};
    use super::*;
    use crate::{frame::Frame, picture};
    use std::path::PathBuf;

    fn root(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
    }

    /// The portrait, labelled as `boxes` says, and a black picture.
    fn open(boxes: &str, split: &str, detector: PathBuf) -> Result<Dataset, DatasetError> {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::copy(root("samples/astronaut.jpg"), folder.path().join("a.jpg")).expect("copy");
        picture::save(&Frame::new(512, 512), &folder.path().join("b.png")).expect("png");
        let record = |image: &str, boxes: &str| {
            format!(
                r#"{{"image":"{image}","dataset":"t","split":"{split}","width":512,"height":512,"boxes":[{boxes}],"ignore":[]}}"#
            )
        };
        let lines = [record("b.png", ""), record("a.jpg", boxes)].join("\n");
        std::fs::write(folder.path().join("annotations.jsonl"), lines).expect("labels");
        let source = DataSource {
            detector: Some(detector),
            ..DataSource::new(folder.path().display().to_string())
        };
        Dataset::open_all(&[source], &OpenOptions::default())
    }

    #[test]
    fn a_face_that_nobody_labelled_is_a_false_alarm_and_a_labelled_one_is_none() {
        let detector = || root("models/face-detector-int8.onnx");
        let face = FaceBox::new(180.0, 88.0, 92.0, 92.0);
        // A black picture may have false alarms too.
        let sees_face = |data: &Dataset| {
            data.false_alarms.iter().any(|alarm| {
                let picture = data.examples[alarm.example].picture.name();
                picture.ends_with("a.jpg") && alarm.face_box.iou(&face) > 0.4
            })
        };
        let unlabelled = open("", "train", detector()).expect("data");
        assert!(sees_face(&unlabelled));
        let labelled = open("[180,88,92,92]", "train", detector()).expect("data");
        assert!(!sees_face(&labelled));
        assert!(labelled.false_alarms.len() < unlabelled.false_alarms.len());
        let validation = open("", "val", detector()).expect("data");
        assert_eq!(validation.false_alarms, []);
    }

    #[test]
    fn what_is_no_detector_is_named() {
        let message = open("", "train", root("models/landmarks68-small-int8.onnx"))
            .expect_err("no detector")
            .to_string();
        assert!(
            message.contains("landmarks68-small-int8.onnx") && message.contains("detection"),
            "{message}"
        );
    }
}
