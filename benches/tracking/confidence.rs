//! What the landmark network says of faces and of what is none, as a tracker would meet them: a table to choose the
//! confidence from. Faces begin in their true boxes; fakes in drawn boxes on pictures without a face, and in all boxes in which
//! the detector sees the least likeness to one.

use crate::{detector, landmarker, load};
use anyhow::Context;
use facemark::{
    annotation::{DetectionRecord, LandmarkRecord, Split},
    detector::{Detector, DetectorConfig},
    engine::Engine,
    frame::Frame,
    geometry::FaceBox,
    landmarker::Landmarker,
    picture,
};
use std::path::Path;

/// Drawn boxes on a picture.
const DRAWN: u64 = 12;
/// Frames for which a still face is followed.
const FRAMES: usize = 12;
/// The detector's score from which a box is looked at.
const SCORE: f32 = 0.02;

pub(crate) fn run(data: &Path) -> anyhow::Result<()> {
    let mut network = landmarker()?;
    println!("kind,case,frame,presence,relative_error");
    let mut case = 0u64;
    for set in ["helen", "lfpw", "afw", "ytfaces68"] {
        for line in lines(&data.join(set))? {
            let record = LandmarkRecord::from_json(&line)?;
            if record.split == Split::Val {
                let frame = picture::load(&data.join(set).join(&record.image))?;
                follow(set, case, &mut network, &frame, &record.face_box)?;
                case += 1;
            }
        }
    }
    let config = DetectorConfig {
        score_threshold: SCORE,
        ..*detector()?.config()
    };
    let mut eager = Detector::new(load("face-detector-int8.onnx")?, config)?;
    let folder = data.join("det");
    for line in lines(&folder)? {
        let record = DetectionRecord::from_json(&line)?;
        if record.split != Split::Val || !record.boxes.is_empty() || !record.ignore.is_empty() {
            continue;
        }
        let frame = picture::load(&folder.join(&record.image))?;
        let found: Vec<FaceBox> = eager
            .detect(&frame)?
            .iter()
            .map(|found| found.face_box)
            .collect();
        let first = case;
        let drawn = (0..DRAWN).map(|index| drawn_box(&frame, first + index));
        for (kind, face_box) in found
            .into_iter()
            .map(|face_box| ("detected", face_box))
            .chain(drawn.map(|face_box| ("drawn", face_box)))
        {
            follow(kind, case, &mut network, &frame, &face_box)?;
            case += 1;
        }
    }
    Ok(())
}

fn lines(folder: &Path) -> anyhow::Result<Vec<String>> {
    let path = folder.join("annotations.jsonl");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// A square of 0.1 to 0.7 of the shorter edge somewhere in the frame, by a multiplicative generator.
fn drawn_box(frame: &Frame, seed: u64) -> FaceBox {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut part = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let (width, height) = (frame.width() as f32, frame.height() as f32);
    let side = (0.1 + 0.6 * part()) * width.min(height);
    FaceBox::new(
        part() * (width - side),
        part() * (height - side),
        side,
        side,
    )
}

/// Prints what the network says from frame to frame of a still picture.
fn follow(
    kind: &str,
    case: u64,
    network: &mut Landmarker<Engine>,
    frame: &Frame,
    face_box: &FaceBox,
) -> anyhow::Result<()> {
    let size = (frame.width(), frame.height());
    let mut landmarks = Vec::new();
    let mut presence = network
        .locate_detected(frame, face_box, &mut landmarks)?
        .confidence;
    for index in 0..FRAMES {
        let tight = FaceBox::around(&landmarks).unwrap_or_default();
        let errors = network.expected_errors_px();
        let mean = errors.iter().sum::<f32>() / errors.len() as f32;
        println!(
            "{kind},{case},{index},{presence:.6},{:.5}",
            mean / tight.width.max(tight.height)
        );
        let Some(region) = network.region_of_landmarks(&landmarks, size) else {
            break;
        };
        presence = network.locate(frame, &region, &mut landmarks)?;
    }
    Ok(())
}
