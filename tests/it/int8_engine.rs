//! What the engine promises of int8 networks beside the numbers: bytes go straight in, threads change nothing, no
//! convolution runs in float, and what runs is shown.

use crate::{
    fixtures::root,
    int8_bundle::{difference, run},
    int8_models::{landmark_model, landmark_model_with, random_model},
};
use facemark::{
    engine::{Engine, EngineOptions, Inspection, KernelSet, RawModel, RawTensor},
    model::{Infer, Outputs},
};
use prost::Message;
use std::path::PathBuf;

fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, bytes).expect("written");
    (folder, path)
}

/// The int8 models among the released ones.
pub(crate) fn released_int8() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("models")).expect("models/ is there");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.to_string_lossy().ends_with("-int8.onnx"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn a_crops_bytes_give_what_its_float_image_gives() {
    let (_folder, path) = written(&landmark_model().encode_to_vec());
    let (_other_folder, mixed) = written(&landmark_model_with(true).encode_to_vec());
    for path in released_int8().into_iter().chain([path, mixed]) {
        for kernels in KernelSet::available() {
            let options = EngineOptions {
                kernels: Some(kernels),
                threads: 1,
            };
            let mut engine = Engine::load_with(&path, &options).expect("loads");
            let mut raw = RawModel::load_with(&path, &options).expect("loads");
            let inspection = Inspection::of(&path, &options).expect("loads");
            assert_eq!(inspection.nodes[0].kernel, "image bytes");
            let mut crop = engine.card().new_crop();
            for (index, byte) in crop.bytes_mut().iter_mut().enumerate() {
                *byte = (index * index % 253) as u8;
            }
            let mut planes = vec![0.0; crop.bytes().len()];
            engine.card().normalization.write_planes(&crop, &mut planes);
            let shape = raw.inputs()[0].shape.clone();
            let expected = raw.run(&[RawTensor {
                shape,
                values: planes,
            }]);
            let expected = expected.expect("runs");
            let mut outputs = Outputs::default();
            for _ in 0..3 {
                engine.infer(&crop, &mut outputs).expect("runs");
                let found: Vec<_> = outputs.iter().cloned().collect();
                let wrong = difference(&expected, &found);
                assert_eq!(wrong, None, "{} with {kernels}", path.display());
            }
        }
    }
}

#[test]
fn another_normalisation_goes_through_a_float_image_and_gives_the_same() {
    let mut model = landmark_model();
    for entry in &mut model.metadata_props {
        if entry.key.as_deref() == Some("facemark.input_scale") {
            entry.value = Some("0.015625".to_owned());
        }
    }
    let (_folder, path) = written(&model.encode_to_vec());
    let inspection = Inspection::of(&path, &EngineOptions::default()).expect("loads");
    assert_eq!(inspection.nodes[0].kernel, "quantize planes");
    let mut engine = Engine::load(&path).expect("loads");
    let mut raw = RawModel::load(&path).expect("loads");
    let mut crop = engine.card().new_crop();
    for (index, byte) in crop.bytes_mut().iter_mut().enumerate() {
        *byte = (index * 31 % 255) as u8;
    }
    let mut planes = vec![0.0; crop.bytes().len()];
    engine.card().normalization.write_planes(&crop, &mut planes);
    let input = RawTensor {
        shape: raw.inputs()[0].shape.clone(),
        values: planes,
    };
    let expected = raw.run(&[input]).expect("runs");
    let mut outputs = Outputs::default();
    engine.infer(&crop, &mut outputs).expect("runs");
    let found: Vec<_> = outputs.iter().cloned().collect();
    assert_eq!(difference(&expected, &found), None);
}

#[test]
fn threads_change_nothing() {
    let mut models: Vec<_> = (1..=12).map(|seed| random_model(seed, false)).collect();
    models.truncate(12);
    for (index, model) in models.iter().enumerate() {
        let name = format!("random {}", index + 1);
        let run = |threads| {
            let best = KernelSet::best();
            run(&model.file, &name, &model.input, best, threads).expect("runs")
        };
        let one = run(1);
        for threads in [2, 3] {
            assert_eq!(difference(&one, &run(threads)), None, "{name} on {threads}");
        }
    }
    // Large enough for every convolution to be split.
    for path in released_int8() {
        let results: Vec<Vec<_>> = [1, 2, 3]
            .into_iter()
            .map(|threads| {
                let options = EngineOptions {
                    kernels: None,
                    threads,
                };
                let mut engine = Engine::load_with(&path, &options).expect("loads");
                let mut crop = engine.card().new_crop();
                for (index, byte) in crop.bytes_mut().iter_mut().enumerate() {
                    *byte = (index * index % 251) as u8;
                }
                let mut outputs = Outputs::default();
                engine.infer(&crop, &mut outputs).expect("runs");
                outputs.iter().cloned().collect()
            })
            .collect();
        for result in &results[1..] {
            assert_eq!(difference(&results[0], result), None, "{}", path.display());
        }
    }
}

#[test]
fn no_convolution_of_an_int8_network_runs_in_float() {
    let (_folder, path) = written(&landmark_model().encode_to_vec());
    for path in released_int8().into_iter().chain([path]) {
        let inspection = Inspection::of(&path, &EngineOptions::default()).expect("loads");
        let integer = inspection.nodes.iter().filter(|node| node.integer);
        let in_kernels: u64 = integer.clone().map(|node| node.multiply_adds).sum();
        assert!(
            inspection.nodes.iter().all(|node| node.integer),
            "{}: {:?}",
            path.display(),
            inspection.nodes.iter().find(|node| !node.integer)
        );
        let convolutions = integer
            .filter(|node| node.kernel.contains("conv") || node.kernel.contains("depthwise"));
        assert_eq!(
            convolutions.count(),
            inspection.operators["QLinearConv"],
            "{}",
            path.display()
        );
        assert!((inspection.mmac * 1e6 - in_kernels as f64).abs() < 1.0);
    }
}

#[test]
fn a_float_operator_between_int8_ones_leaves_two_int8_regions() {
    let (_folder, path) = written(&landmark_model_with(true).encode_to_vec());
    let inspection = Inspection::of(&path, &EngineOptions::default()).expect("loads");
    let kinds: Vec<bool> = inspection.nodes.iter().map(|node| node.integer).collect();
    let changes = kinds.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!(changes, 2, "{kinds:?}");
    let convolutions = inspection
        .nodes
        .iter()
        .filter(|node| node.kernel.contains("conv"));
    assert!(convolutions.clone().count() > 0);
    assert!(convolutions.clone().all(|node| node.integer));
}

#[test]
fn the_work_of_an_int8_network_is_counted() {
    let (_folder, path) = written(&landmark_model().encode_to_vec());
    let inspection = Inspection::of(&path, &EngineOptions::default()).expect("loads");
    let names: Vec<&str> = inspection
        .nodes
        .iter()
        .map(|node| node.name.as_str())
        .collect();
    // Two convolutions before, one in, the addition.
    assert!(
        names.iter().any(|name| name.contains(" + QLinearAdd")),
        "{names:?}"
    );
    let dense = inspection.nodes.last().expect("a node");
    assert!(dense.name.starts_with("QGemm"), "{names:?}");
    assert_eq!(
        (dense.element.as_str(), dense.shape.join("x")),
        ("f32", "1x2".to_owned())
    );
    let channels = inspection.nodes[inspection.nodes.len() - 2].shape[1].clone();
    let channels: u64 = channels.parse().expect("a number");
    assert_eq!(dense.multiply_adds, 2 * channels);
}

#[test]
fn each_step_has_a_time() {
    let (_folder, path) = written(&landmark_model().encode_to_vec());
    let mut engine = Engine::load(&path).expect("loads");
    let crop = engine.card().new_crop();
    let times = engine.time_layers(&crop, 5).expect("runs");
    let inspection = Inspection::of(&path, &EngineOptions::default()).expect("loads");
    let layers: Vec<_> = times.iter().map(|time| time.layer.clone()).collect();
    assert_eq!(layers, inspection.nodes);
    assert!(times.iter().all(|time| time.median_secs > 0.0));
    // The timing leaves no trace in later runs.
    engine.infer(&crop, &mut Outputs::default()).expect("runs");
}
