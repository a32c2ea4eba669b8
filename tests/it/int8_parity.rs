//! Random int8 networks give in the engine what they give in ONNX Runtime, bit for bit, on every kernel set.

use crate::{
    fixtures::shared,
    int8_bundle::{Case, FILE, FOLDER, difference, run},
    int8_engine::released_int8,
    int8_models::{RandomModel, random_model},
};
use facemark::{
    annotation::LandmarkRecord,
    crop::{Crop, CropRegion},
    engine::{Engine, EngineOptions, KernelSet},
    model::{Infer, ModelCard, Output, Outputs, Task},
    onnx::decode_model,
    picture,
    train::session::{FileSession, NamedValues, load_library},
};
use std::collections::BTreeMap;

/// Number of networks, in place of [`USUAL`].
const COUNT: &str = "FACEMARK_INT8_MODELS";
const USUAL: u64 = 60;

/// Faces, or pictures with some, on which the released models are compared.
const REAL_CROPS: usize = 200;

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

fn number(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().expect("a number"))
}

/// What ONNX Runtime makes of a network, in the order of the network's outputs.
fn reference(model: &RandomModel, name: &str) -> Vec<Output> {
    let mut session =
        FileSession::new(&model.file, name, 1).unwrap_or_else(|error| panic!("{error}"));
    let input = model.input.tensor();
    let found = session.run(&[("image", &input.shape, &input.values)]);
    let found = found.unwrap_or_else(|error| panic!("{error}"));
    in_order(&model.file, found)
}

/// Named outputs in the order of the file.
fn in_order(file: &[u8], mut found: NamedValues) -> Vec<Output> {
    let file = facemark::onnx::decode_model(file).expect("a model");
    let outputs = file.graph.expect("a graph").output;
    outputs
        .into_iter()
        .map(|output| {
            let name = output.name.expect("a name");
            let (shape, values) = found.remove(&name).expect("every output");
            Output {
                name,
                shape,
                values,
            }
        })
        .collect()
}

#[test]
fn random_networks_give_what_onnx_runtime_gives_on_every_kernel_set() {
    if !has_onnxruntime() {
        return;
    }
    let (first, count) = (number("FACEMARK_INT8_SEED", 1), number(COUNT, USUAL));
    let mut operators: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for seed in first..first + count {
        let model = random_model(seed, false);
        let name = format!("random {seed}");
        for operator in &model.operators {
            *operators.entry(operator.clone()).or_default() += 1;
        }
        let expected = reference(&model, &name);
        for kernels in KernelSet::available() {
            let wrong = match run(&model.file, &name, &model.input, kernels, 1) {
                Ok(found) => difference(&expected, &found),
                Err(error) => Some(error),
            };
            if let Some(wrong) = wrong {
                failures.push(format!("{name} with {kernels}: {wrong}"));
            }
        }
    }
    println!(
        "{count} networks, {:?}: {operators:?}",
        KernelSet::available()
    );
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
    for operator in [
        "QLinearConv",
        "QLinearAdd",
        "QLinearGlobalAveragePool",
        "QGemm",
        "QLinearMatMul",
        "QuantizeLinear",
        "DequantizeLinear",
        "MaxPool",
        "Concat",
        "Resize",
        "Flatten",
        "Reshape",
    ] {
        assert!(
            count < USUAL || operators.contains_key(operator),
            "no {operator}"
        );
    }
}

/// Crops of labelled faces, or whole pictures for a detector, as the card wants them.
fn real_crops(card: &ModelCard, count: usize) -> Option<Vec<Crop>> {
    let mut crops = Vec::new();
    for set in ["helen", "lfpw", "afw"] {
        let folder = shared(&format!("data/{set}"))?;
        let labels = std::fs::read_to_string(folder.join("annotations.jsonl")).expect("labels");
        for line in labels.lines().take(count.div_ceil(3)) {
            let record = LandmarkRecord::from_json(line).expect("a record");
            let frame = picture::load(&folder.join(&record.image)).expect("a picture");
            let region = match card.task {
                Task::Landmarks { crop, .. } => {
                    crop.region(&record.face_box, (frame.width(), frame.height()))
                }
                Task::FaceDetection { .. } => CropRegion::whole(&frame),
            };
            let mut crop = card.new_crop();
            crop.fill(&frame, &region.crop_from_frame(crop.width(), crop.height()));
            crops.push(crop);
        }
    }
    Some(crops)
}

/// The greatest distance of the output `landmarks`.
fn landmarks_apart(expected: &[Output], found: &[Output]) -> f32 {
    let values = |outputs: &[Output]| -> Vec<f32> {
        let landmarks = outputs.iter().find(|output| output.name == "landmarks");
        landmarks.expect("landmarks").values.clone()
    };
    let (expected, found) = (values(expected), values(found));
    assert_eq!(expected.len(), found.len());
    let apart = expected.iter().zip(&found).map(|(a, b)| (a - b).abs());
    apart.fold(0.0, f32::max)
}

#[test]
fn released_int8_models_give_what_onnx_runtime_gives_on_faces() {
    if !has_onnxruntime() {
        return;
    }
    // The portable kernels take their time in a build that is not optimised.
    let portable = number("FACEMARK_INT8_PORTABLE_CROPS", 15) as usize;
    for path in released_int8() {
        let card = Engine::load(&path).expect("loads").card().clone();
        let Some(crops) = real_crops(&card, REAL_CROPS) else {
            return;
        };
        let file = std::fs::read(&path).expect("readable");
        let name = path.display().to_string();
        // The mean of a heat map is float arithmetic: right to rounding, where all else is right to the bit.
        let with_heat_maps = decode_model(&file).is_ok_and(|model| {
            let graph = model.graph.unwrap_or_default();
            graph
                .node
                .iter()
                .any(|node| node.op_type.as_deref() == Some("Softmax"))
        });
        let mut session =
            FileSession::new(&file, &name, 1).unwrap_or_else(|error| panic!("{error}"));
        let shape = [
            1,
            card.color.channels(),
            card.input_height,
            card.input_width,
        ];
        let mut planes = vec![0.0; shape.iter().product()];
        let expected: Vec<Vec<Output>> = crops
            .iter()
            .map(|crop| {
                card.normalization.write_planes(crop, &mut planes);
                let found = session.run(&[("image", &shape, &planes)]);
                in_order(&file, found.unwrap_or_else(|error| panic!("{error}")))
            })
            .collect();
        for kernels in KernelSet::available() {
            let count = match kernels {
                KernelSet::Portable => portable.min(crops.len()),
                _ => crops.len(),
            };
            let options = EngineOptions {
                kernels: Some(kernels),
                threads: 1,
            };
            let mut engine = Engine::load_with(&path, &options).expect("loads");
            let mut outputs = Outputs::default();
            let mut apart = 0f32;
            for (index, (crop, expected)) in crops.iter().zip(&expected).take(count).enumerate() {
                engine.infer(crop, &mut outputs).expect("runs");
                let found: Vec<Output> = outputs.iter().cloned().collect();
                let wrong = if with_heat_maps {
                    let exact = |outputs: &[Output]| -> Vec<Output> {
                        let others = outputs.iter().filter(|output| output.name != "landmarks");
                        others.cloned().collect()
                    };
                    apart = apart.max(landmarks_apart(expected, &found));
                    difference(&exact(expected), &exact(&found))
                } else {
                    difference(expected, &found)
                };
                assert_eq!(wrong, None, "{name} with {kernels}, crop {index}");
            }
            // Sums of some hundred floats in another order.
            assert!(
                apart <= 5e-6,
                "{name} with {kernels}: landmarks differ by {apart}"
            );
            println!("{name}: {count} crops with {kernels}");
        }
    }
}

/// Writes networks with ONNX Runtime's results where the environment asks for it; see `int8_bundle`.
#[test]
fn a_bundle_is_written_when_asked_for() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        println!("skipped: {FOLDER} is not set");
        return;
    };
    let path = std::path::PathBuf::from(folder).join(FILE);
    if path.exists() {
        println!("skipped: {} is there", path.display());
        return;
    }
    assert!(has_onnxruntime());
    let small = number("FACEMARK_INT8_SMALL", 0) == 1;
    let count = number(COUNT, if small { 25 } else { USUAL }) as usize;
    let mut cases = Vec::new();
    for seed in 1_000_001.. {
        let model = random_model(seed, small);
        let case = Case::new(seed, &model, &reference(&model, &format!("random {seed}")));
        if !small || case.len() < 11_000 {
            cases.push(case);
        }
        if cases.len() == count {
            break;
        }
    }
    let text = serde_json::to_string(&cases).expect("cases");
    std::fs::write(&path, text.replace("},{\"seed\"", "},\n{\"seed\"")).expect("written");
}
