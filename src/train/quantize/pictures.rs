//! Which pictures a quantisation learns from, cropped as the runtime crops them.

use super::QuantizeError;
use crate::{
    crop::{Crop, CropRegion},
    frame::Frame,
    model::{ModelCard, Task},
    train::{
        augment::{AugmentConfig, Place, generator, landmark_view},
        dataset::{DataSource, Dataset, DatasetError, Label, Picture, Skipped},
    },
};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt::Write, path::Path};

/// How far a tracker's crop is off the true box, and how the head is held: see the fields of [`AugmentConfig`].
const JITTER: AugmentConfig = AugmentConfig {
    shift_sigma: 0.04,
    scale_sigma: 0.08,
    rotation_sigma_deg: 6.0,
    rotation_limit_deg: 20.0,
    ..AugmentConfig::NONE
};
/// Which random numbers of a seed are the calibration's.
const PURPOSE: u64 = 0x63_61_6c_69;

/// Crops to calibrate on, and where they come from.
#[derive(Clone, Debug, Default)]
pub struct CalibrationPictures {
    /// As the network sees them.
    pub crops: Vec<Crop>,
    /// SHA-256 of each picture's file by its path from the folder that holds the data set; of a picture without a file,
    /// of its pixels.
    pub hashes: BTreeMap<String, String>,
    /// Pictures that could not be read.
    pub damaged: Vec<Skipped>,
}

impl CalibrationPictures {
    /// Takes at most `count` examples of `dataset` that suit the model's task, spread evenly: each face in its true box,
    /// displaced as a tracker would be by `seed`; of a detector, whole frames. `sources` are what `dataset` was opened
    /// from.
    ///
    /// # Errors
    /// No example suits the task, or none of them can be read.
    pub fn take(
        dataset: &Dataset,
        sources: &[DataSource],
        card: &ModelCard,
        count: usize,
        seed: u64,
    ) -> Result<Self, QuantizeError> {
        let suitable: Vec<usize> = (0..dataset.examples.len())
            .filter(|&index| suits(card, &dataset.examples[index].label))
            .collect();
        let chosen: Vec<usize> = match suitable.len() {
            total if total <= count => suitable,
            total => (0..count)
                .map(|step| suitable[step * total / count])
                .collect(),
        };
        let taken: Vec<Result<(Crop, String, String), Skipped>> = chosen
            .par_iter()
            .map(|&index| {
                let example = &dataset.examples[index];
                let skipped = |reason: String| Skipped {
                    item: example.picture.name(),
                    reason,
                };
                let frame = example.picture.load().map_err(skipped)?;
                let hash = hash_of(&example.picture, &frame).map_err(skipped)?;
                let name = name_of(&example.picture, &sources[example.set].path);
                Ok((crop(&frame, &example.label, card, seed, index), name, hash))
            })
            .collect();
        let mut pictures = Self::default();
        for result in taken {
            match result {
                Ok((crop, name, hash)) => {
                    pictures.crops.push(crop);
                    pictures.hashes.insert(name, hash);
                }
                Err(skipped) => {
                    tracing::warn!(item = %skipped.item, reason = %skipped.reason, "skipped");
                    pictures.damaged.push(skipped);
                }
            }
        }
        match pictures.crops.is_empty() {
            true => Err(QuantizeError::NoPictures),
            false => Ok(pictures),
        }
    }
}

fn suits(card: &ModelCard, label: &Label) -> bool {
    match (&card.task, label) {
        (Task::Landmarks { scheme, .. }, Label::Landmarks { scheme: found, .. }) => found == scheme,
        (Task::FaceDetection { .. }, _) => true,
        _ => false,
    }
}

fn crop(frame: &Frame, label: &Label, card: &ModelCard, seed: u64, index: usize) -> Crop {
    let mut crop = card.new_crop();
    let (width, height) = (crop.width(), crop.height());
    let map = match (&card.task, label) {
        (Task::Landmarks { crop: rule, .. }, Label::Landmarks { face_box, .. }) => {
            let mut random = generator(seed, 0, index, PURPOSE);
            let place = Place {
                rule: *rule,
                face_box: *face_box,
                frame_size: (frame.width(), frame.height()),
            };
            landmark_view(&place, (width, height), &JITTER, &mut random).crop_from_frame
        }
        _ => CropRegion::whole(frame).crop_from_frame(width, height),
    };
    crop.fill(frame, &map);
    crop
}

/// SHA-256 in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn hash_of(picture: &Picture, frame: &Frame) -> Result<String, String> {
    match picture {
        Picture::Memory { .. } | Picture::Drawn { .. } => Ok(sha256(frame.rgb())),
        Picture::File { path, .. } => std::fs::read(path)
            .map(|bytes| sha256(&bytes))
            .map_err(|error| error.to_string()),
    }
}

/// The picture's path from the folder that holds its data set.
fn name_of(picture: &Picture, source: &str) -> String {
    let name = picture.name();
    let root = Path::new(source).parent().unwrap_or(Path::new(""));
    match Path::new(&name).strip_prefix(root) {
        Ok(relative) => relative.display().to_string(),
        Err(_) => name,
    }
}

/// Opens data sets for calibration: pictures are decoded when they are taken, not all of them at once.
///
/// # Errors
/// As [`Dataset::open_all`].
pub fn open_for_calibration(
    sources: &[DataSource],
    card: &ModelCard,
    split: Option<crate::annotation::Split>,
) -> Result<Dataset, DatasetError> {
    let scheme = match card.task {
        Task::Landmarks { scheme, .. } => Some(scheme),
        Task::FaceDetection { .. } => None,
    };
    Dataset::open_all(
        sources,
        &crate::train::dataset::OpenOptions {
            split,
            scheme,
            check_pictures: false,
            ..Default::default()
        },
    )
}
