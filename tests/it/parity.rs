//! The released models give the same in ONNX Runtime and in the engine: on noise, and on faces when the data are there.

use crate::fixtures::{root, shared};
use facemark::{
    annotation::LandmarkRecord,
    crop::{Crop, CropRegion},
    engine::Engine,
    model::{Infer, Outputs, Task},
    picture,
    train::{
        graph::Graph,
        session::{Device, SessionModel, load_library},
    },
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::PathBuf;

/// Greatest difference that is allowed.
const TOLERANCE: f32 = 1e-4;
const CROPS: usize = 20;

/// Whether the test can run. On a CI machine a missing library is a failure, not an excuse.
fn has_onnxruntime() -> bool {
    match load_library(None) {
        Ok(_) => true,
        Err(error) if std::env::var_os("CI").is_some() => panic!("{error}"),
        Err(error) => {
            println!("skipped: {error}");
            false
        }
    }
}

fn released_models() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("models")).expect("models/ is there");
    let mut models: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "onnx"))
        .collect();
    models.sort();
    assert!(!models.is_empty(), "models/ holds no ONNX file");
    models
}

fn open(path: &PathBuf) -> (Engine, SessionModel) {
    let engine = Engine::load(path).unwrap_or_else(|error| panic!("{error}"));
    let bytes = std::fs::read(path).expect("readable");
    let graph = Graph::from_onnx(&bytes, path).unwrap_or_else(|error| panic!("{error}"));
    let session = SessionModel::new(&graph, engine.card().clone(), Device::Cpu, 1)
        .unwrap_or_else(|error| panic!("{error}"));
    (engine, session)
}

fn greatest_difference(engine: &mut Engine, session: &mut SessionModel, crop: &Crop) -> f32 {
    let (mut ours, mut theirs) = (Outputs::default(), Outputs::default());
    engine.infer(crop, &mut ours).expect("the engine runs");
    session.infer(crop, &mut theirs).expect("ONNX Runtime runs");
    assert_eq!(ours.iter().count(), theirs.iter().count());
    let mut greatest = 0.0f32;
    for output in ours.iter() {
        let other = theirs.get(&output.name).expect("the same outputs");
        assert_eq!(output.shape, other.shape, "{}", output.name);
        for (a, b) in output.values.iter().zip(&other.values) {
            assert!(a.is_finite() && b.is_finite(), "{}", output.name);
            greatest = greatest.max((a - b).abs());
        }
    }
    greatest
}

#[test]
fn released_models_agree_on_noise() {
    if !has_onnxruntime() {
        return;
    }
    for path in released_models() {
        let (mut engine, mut session) = open(&path);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut crop = engine.card().new_crop();
        for _ in 0..CROPS {
            crop.bytes_mut().fill_with(|| random.random());
            let difference = greatest_difference(&mut engine, &mut session, &crop);
            assert!(difference <= TOLERANCE, "{}: {difference}", path.display());
        }
    }
}

#[test]
fn released_models_agree_on_faces() {
    let Some(folder) = shared("data/helen") else {
        return;
    };
    if !has_onnxruntime() {
        return;
    }
    let labels = std::fs::read_to_string(folder.join("annotations.jsonl")).expect("labels");
    let records: Vec<LandmarkRecord> = labels
        .lines()
        .take(CROPS)
        .map(|line| LandmarkRecord::from_json(line).expect("a record"))
        .collect();
    for path in released_models() {
        let (mut engine, mut session) = open(&path);
        let mut crop = engine.card().new_crop();
        for record in &records {
            let frame = picture::load(&folder.join(&record.image)).expect("a picture");
            let region = match engine.card().task {
                Task::Landmarks { crop, .. } => {
                    crop.region(&record.face_box, (frame.width(), frame.height()))
                }
                Task::FaceDetection { .. } => CropRegion::whole(&frame),
            };
            crop.fill(&frame, &region.crop_from_frame(crop.width(), crop.height()));
            let difference = greatest_difference(&mut engine, &mut session, &crop);
            let (model, image) = (path.display(), &record.image);
            assert!(difference <= TOLERANCE, "{model} on {image}: {difference}");
        }
    }
}

/// A detector's weights serve any input size: the engine re-declares it as training does, and what a picture gave at the
/// first size it gives again afterwards.
#[test]
fn detectors_take_other_sizes() {
    if !has_onnxruntime() {
        return;
    }
    for path in released_models() {
        let mut engine = Engine::load(&path).expect("loads");
        let card = engine.card().clone();
        if !matches!(card.task, Task::FaceDetection { .. }) {
            assert!(engine.set_input_size(128, 128).is_err());
            assert_eq!(engine.card(), &card);
            continue;
        }
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let mut first = card.new_crop();
        first.bytes_mut().fill_with(|| random.random());
        let mut before = Outputs::default();
        engine.infer(&first, &mut before).expect("the engine runs");
        let bytes = std::fs::read(&path).expect("readable");
        let graph = Graph::from_onnx(&bytes, &path).expect("a graph of ours");
        for (width, height) in [(320, 96), (64, 224)] {
            engine
                .set_input_size(width, height)
                .expect("multiples of 32");
            assert_eq!(
                (engine.card().input_width, engine.card().input_height),
                (width, height)
            );
            let graph = graph.with_image_size(width, height).expect("convolutions");
            let mut session = SessionModel::new(&graph, engine.card().clone(), Device::Cpu, 1)
                .unwrap_or_else(|error| panic!("{error}"));
            let mut crop = engine.card().new_crop();
            crop.bytes_mut().fill_with(|| random.random());
            let difference = greatest_difference(&mut engine, &mut session, &crop);
            assert!(difference <= TOLERANCE, "{}: {difference}", path.display());
        }
        assert!(engine.set_input_size(100, 96).is_err());
        assert!(engine.set_input_size(0, 96).is_err());
        engine
            .set_input_size(card.input_width, card.input_height)
            .expect("its own size");
        let mut after = Outputs::default();
        engine.infer(&first, &mut after).expect("the engine runs");
        for output in before.iter() {
            assert_eq!(Some(output), after.get(&output.name));
        }
    }
}
