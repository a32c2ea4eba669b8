//! What the live path allocates a frame once it is warm: its own code nothing, and a network what tract needs, which is
//! held to a number.

use crate::{fixtures::root, int8_engine::released_int8, int8_models::landmark_model};
use facemark::{
    crop::Crop,
    detector::{Detector, DetectorConfig},
    engine::Engine,
    finder::Acceptance,
    frame::Frame,
    landmarker::Landmarker,
    model::{Infer, InferError, ModelCard, Outputs},
    tracker::{Tracker, TrackerConfig},
};
use prost::Message;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    path::Path,
};

/// Counts the allocations of each thread, so that tests beside this one do not matter.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends allocates after its counter is gone.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

#[allow(
    unsafe_code,
    reason = "the trait is unsafe; every call is passed on as it is"
)]
// SAFETY: the system's allocator does the work; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that are asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Answers like a network that is sure, without one.
struct Fixed {
    card: ModelCard,
    outputs: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl Infer for Fixed {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn infer(&mut self, _: &Crop, outputs: &mut Outputs) -> Result<(), InferError> {
        for (name, shape, values) in &self.outputs {
            outputs.set(name, shape, values);
        }
        Ok(())
    }
}

/// The released model of that name, and what it says of a blank crop, to be said again by a [`Fixed`].
fn released(name: &str) -> (Engine, Fixed) {
    let mut engine = Engine::load(&root().join("models").join(name)).expect("a released model");
    let mut outputs = Outputs::default();
    let crop = engine.card().new_crop();
    engine.infer(&crop, &mut outputs).expect("runs");
    let outputs = outputs
        .iter()
        .map(|output| {
            (
                output.name.clone(),
                output.shape.clone(),
                output.values.clone(),
            )
        })
        .collect();
    let card = engine.card().clone();
    (engine, Fixed { card, outputs })
}

/// So many places are taken for faces: nothing is searched for beside them.
const FOLLOWED: usize = 2;

/// Keeps whatever it finds: on a picture without a face the path is the same as with one.
fn follow_anything() -> TrackerConfig {
    TrackerConfig {
        max_faces: FOLLOWED,
        acceptance: Acceptance {
            probability: 0.0,
            confidence: 0.0,
        },
        keep_confidence: 0.0,
        ..TrackerConfig::default()
    }
}

fn find_anything() -> DetectorConfig {
    DetectorConfig {
        score_threshold: 0.0,
        ..DetectorConfig::default()
    }
}

/// Allocations of each of 20 frames, after 10 to get warm.
fn of_frames(mut update: impl FnMut(&Frame, f64)) -> Vec<u64> {
    let mut frame = Frame::new(640, 480);
    (0..30)
        .map(|index| {
            frame.rgb_mut().fill(100 + index);
            let time_secs = f64::from(index) / 30.0;
            allocations_of(|| update(&frame, time_secs))
        })
        .skip(10)
        .collect()
}

/// Has a detector say that there are two faces, of three cells each way, far from each other, and be less sure of all others.
fn two_faces(detector: &mut Fixed) {
    for (name, shape, values) in &mut detector.outputs {
        let columns = shape[3];
        if name.starts_with("score_") {
            values.fill(-6.0);
        } else {
            values.fill(0.0);
            let plane = values.len() / 4;
            values[2 * plane..].fill(3f32.ln());
        }
        if name == "score_16" {
            values[3 * columns + 3] = 4.0;
            values[8 * columns + 12] = 4.0;
        }
    }
}

#[test]
fn our_own_code_allocates_nothing_a_frame() {
    let (_, mut detector) = released("face-detector.onnx");
    two_faces(&mut detector);
    let (_, mut landmarks) = released("landmarks68.onnx");
    // The landmarks of a face in the middle of its crop, which stays where it is.
    for (name, _, values) in &mut landmarks.outputs {
        if name == "landmarks" {
            for (index, pair) in values.chunks_exact_mut(2).enumerate() {
                let angle = index as f32 * 0.5;
                pair.copy_from_slice(&[0.38 * angle.cos(), 0.38 * angle.sin()]);
            }
        }
    }
    let mut tracker = Tracker::new(
        Detector::new(detector, find_anything()).expect("a detector"),
        Landmarker::new(landmarks).expect("landmarks"),
        follow_anything(),
    );
    let mut followed = 0;
    let counts = of_frames(|frame, time_secs| {
        followed += tracker.update(frame, time_secs).expect("runs").len();
    });
    assert_eq!(followed, 30 * FOLLOWED, "faces are followed in every frame");
    assert_eq!(counts, [0; 20]);
    let (_, detector) = released("face-detector.onnx");
    let mut detector = Detector::new(detector, find_anything()).expect("a detector");
    let counts = of_frames(|frame, _| {
        detector.detect(frame).expect("runs");
    });
    assert_eq!(counts, [0; 20]);
}

/// tract allocates each intermediate result, so the number grows with the nodes: 360 and 250 a run for the released
/// float models; more is a step back.
const FLOAT_LIMIT: u64 = 400;

/// An int8 network is one operator with buffers of its own. What is left is tract's: lists of more than four outputs.
const INT8_LIMIT: u64 = 4;

fn check(path: &Path, limit: u64, failures: &mut Vec<String>) {
    let mut engine = Engine::load(path).expect("a model");
    let crop = engine.card().new_crop();
    let mut outputs = Outputs::default();
    let counts = of_frames(|_, _| engine.infer(&crop, &mut outputs).expect("runs"));
    println!("{}: {} allocations a run", path.display(), counts[0]);
    if counts[0] > limit || counts.iter().any(|&count| count != counts[0]) {
        failures.push(format!("{} (at most {limit}): {counts:?}", path.display()));
    }
}

#[test]
fn a_warm_network_allocates_no_more_than_documented_and_does_not_grow() {
    let mut failures = Vec::new();
    for name in ["face-detector.onnx", "landmarks68.onnx"] {
        check(
            &root().join("models").join(name),
            FLOAT_LIMIT,
            &mut failures,
        );
    }
    for path in released_int8() {
        check(&path, INT8_LIMIT, &mut failures);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("int8.onnx");
    std::fs::write(&path, landmark_model().encode_to_vec()).expect("written");
    check(&path, 0, &mut failures);
    assert!(failures.is_empty(), "{failures:?}");
}
