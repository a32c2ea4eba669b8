//! The tracker with the released networks: things that are no faces are let go.

use crate::fixtures::{root, shared};
use facemark::{
    annotation::{DetectionRecord, Split},
    detector::{Detector, DetectorConfig},
    engine::Engine,
    frame::Frame,
    landmarker::Landmarker,
    picture,
    source::{Source, demo::DemoSource},
    tracker::{Tracker, TrackerConfig},
};
use std::path::Path;

/// A face that is none may be followed for so many frames.
const FRAMES_TO_DROP: usize = 5;
const FRAME_SECS: f64 = 1.0 / 30.0;

fn tracker() -> Tracker<Engine, Engine> {
    let load = |name: &str| Engine::load(&root().join("models").join(name)).expect("released");
    Tracker::new(
        Detector::new(load("face-detector-int8.onnx"), DetectorConfig::default()).unwrap(),
        Landmarker::new(load("landmarks68-int8.onnx")).unwrap(),
        TrackerConfig::default(),
    )
}

/// A grey wall with the edges of a light poster through a place, at `part` of its width and height.
fn poster(like: &Frame, (x, y, side): (f32, f32, f32), part: f32) -> Frame {
    let mut frame = Frame::new(like.width(), like.height());
    let (edge_x, edge_y) = ((x + part * side) as usize, (y + part * side) as usize);
    for row in 0..frame.height() {
        for column in 0..frame.width() {
            let border = column.abs_diff(edge_x) < 4 || row.abs_diff(edge_y) < 4;
            let on_poster = column > edge_x && row > edge_y;
            let stripe = (row / 9 + column / 31) % 2 == 0;
            let grain = ((row * 31 + column * 17) % 7) as u8;
            let value = match (border, on_poster, stripe) {
                (true, _, _) => 20,
                (_, true, true) => 220,
                (_, true, false) => 170,
                _ => 110,
            };
            frame.set_pixel(
                column,
                row,
                [value + grain, value, value.saturating_sub(10)],
            );
        }
    }
    frame
}

#[test]
fn the_edge_of_a_poster_in_place_of_a_face_is_dropped() {
    for part in [0.1, 0.35, 0.5, 0.65] {
        let mut tracker = tracker();
        let (mut camera, mut frame, mut time_secs) = (DemoSource::new(), Frame::default(), 0.0);
        for _ in 0..8 {
            camera.next(&mut frame).unwrap().expect("a frame");
            tracker.update(&frame, time_secs).unwrap();
            time_secs += FRAME_SECS;
        }
        let face = tracker.faces().first().expect("the demo's face");
        assert!(face.confidence > 0.9, "{}", face.confidence);
        let found = face.face_box;
        let place = (found.x, found.y, found.width.max(found.height));
        let picture = poster(&frame, place, part);
        let mut kept = 0;
        for _ in 0..3 * FRAMES_TO_DROP {
            kept += usize::from(!tracker.update(&picture, time_secs).unwrap().is_empty());
            time_secs += FRAME_SECS;
        }
        assert!(kept <= FRAMES_TO_DROP, "{part}: {kept} frames");
    }
}

#[test]
fn what_the_detector_takes_for_a_face_is_not_followed() {
    let Some(folder) = shared("data/det") else {
        return;
    };
    let (mut pictures, mut fakes) = (0, Vec::new());
    let mut tracker = tracker();
    for line in lines(&folder) {
        let record = DetectionRecord::from_json(&line).unwrap();
        if record.split != Split::Val || !record.boxes.is_empty() || !record.ignore.is_empty() {
            continue;
        }
        pictures += 1;
        let frame = picture::load(&folder.join(&record.image)).unwrap();
        tracker.reset();
        for index in 0..=FRAMES_TO_DROP {
            let followed = tracker.update(&frame, index as f64 * FRAME_SECS).unwrap();
            if followed.is_empty() {
                break;
            }
            if index == FRAMES_TO_DROP {
                fakes.push(record.image.clone());
            }
        }
    }
    assert!(pictures > 20, "{pictures} pictures without a face");
    assert!(fakes.is_empty(), "followed: {fakes:?}");
}

fn lines(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("annotations.jsonl")).expect("annotations");
    text.lines().map(str::to_owned).collect()
}
