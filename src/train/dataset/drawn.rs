//! Reader for `synthetic:SEED`: faces that are drawn and not stored, landmark and detection pictures both.

use super::{DatasetError, Example, Label, Picture, Records};
use crate::{
    scheme::Scheme,
    train::synthetic::{Face, Kind, SET_NAME, SIZES, Scene},
};
use std::sync::{Arc, OnceLock};

/// What a source of drawn faces begins with.
pub(super) const PREFIX: &str = "synthetic:";

/// Every example of the drawn set; `seed` is the text after [`PREFIX`].
pub(super) fn read(seed: &str) -> Result<Records, DatasetError> {
    let seed: u64 = seed.parse().map_err(|_| DatasetError::BadSource {
        data: format!("{PREFIX}{seed}"),
        expected: "synthetic:SEED with a whole number that is not negative".to_owned(),
        found: format!("{seed:?}"),
    })?;
    let mut records = Records {
        name: SET_NAME.to_owned(),
        ..Records::default()
    };
    for (split, landmark_pictures, detection_pictures) in SIZES {
        for (kind, count) in [
            (Kind::Landmarks, landmark_pictures),
            (Kind::Detection, detection_pictures),
        ] {
            for index in 0..count {
                let scene = Scene::new(seed, kind, split, index);
                let label = match (kind, scene.faces().first()) {
                    (Kind::Landmarks, Some(face)) => Label::Landmarks {
                        scheme: Scheme::Ibug68,
                        points: face.landmarks(),
                        face_box: face.face_box(),
                        measured_by: None,
                    },
                    _ => Label::Detection {
                        boxes: scene.faces().iter().map(Face::face_box).collect(),
                        ignore: Vec::new(),
                    },
                };
                let name = format!("{PREFIX}{seed}/{}/{index}", split.name());
                records.examples.push(Example {
                    picture: Picture::Drawn {
                        name: name.clone(),
                        scene: Arc::new(scene),
                        painted: Arc::new(OnceLock::new()),
                    },
                    set: 0,
                    split,
                    orig_split: String::new(),
                    id: name,
                    original_scale: 1.0,
                    label,
                });
            }
        }
    }
    Ok(records)
}
