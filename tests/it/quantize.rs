//! Quantisation against ONNX Runtime: the quantised graph stays near the float one, its two forms agree, channels scaled
//! between layers change nothing, a calibration file rebuilds its model bit for bit.

use crate::fixtures::{root, shared};
use facemark::{
    crop::Crop,
    model::ModelCard,
    scheme::Scheme,
    train::{
        dataset::DataSource,
        export::fold_batch_norm,
        graph::{Attribute, Graph, Tensor, TensorData, TensorType},
        nn::Architecture,
        quantize::{
            Calibration, CalibrationCrops, CalibrationPictures, Form, METADATA_KEY, Method,
            QuantizeError, QuantizeOptions, Range, Ranges, calibrate, open_for_calibration,
            prepare, quantize, sha256,
        },
        session::{Device, ForwardSession, arithmetic_in_words, load_library},
    },
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{path::Path, process::Command};

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

/// A small network with weights from a seed, batch statistics that normalise nothing away and a card.
fn network(architecture: Architecture) -> (Graph, ModelCard) {
    let card = ModelCard {
        training_data: "none: drawn weights for a test".to_owned(),
        ..architecture.card("drawn", Scheme::Ibug68, 1.3)
    };
    let mut graph = architecture.build(&card, 5).unwrap();
    // Biases and statistics that are not all 0 and 1, and channels of very different size.
    let mut random = ChaCha8Rng::seed_from_u64(6);
    for (name, tensor) in &mut graph.initializers {
        if let TensorData::F32(values) = &mut tensor.data
            && tensor.shape.len() == 1
            && !name.starts_with("constant_")
        {
            for value in values.iter_mut() {
                *value = match name {
                    name if name.ends_with("variance") => random.random_range(0.3..3.0),
                    name if name.ends_with("scale") => 2f32.powf(random.random_range(-3.0..1.5)),
                    _ => random.random_range(-0.3..0.3),
                };
            }
        }
    }
    (graph, card)
}

/// Crops of soft random colour fields: neighbouring pixels are alike, as in pictures.
fn crops(card: &ModelCard, count: usize, seed: u64) -> Vec<Crop> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count)
        .map(|_| {
            let mut crop = card.new_crop();
            let (width, channels) = (crop.width(), 3);
            let waves: Vec<[f32; 5]> = (0..channels * 3)
                .map(|_| std::array::from_fn(|_| random.random_range(-1.0..1.0)))
                .collect();
            for (index, byte) in crop.bytes_mut().iter_mut().enumerate() {
                let (pixel, channel) = (index / channels, index % channels);
                let (x, y) = ((pixel % width) as f32, (pixel / width) as f32);
                let sum: f32 = waves[channel * 3..channel * 3 + 3]
                    .iter()
                    .map(|[a, b, c, d, e]| {
                        60.0 * a * (0.4 * b * x + 0.4 * c * y + 9.0 * d).sin() + 20.0 * e
                    })
                    .sum();
                *byte = (128.0 + sum).clamp(0.0, 255.0) as u8;
            }
            crop
        })
        .collect()
}

/// Every output of `graph` on every crop, one after the other.
fn outputs(graph: &Graph, card: &ModelCard, crops: &[Crop]) -> Vec<Vec<f32>> {
    let mut session = ForwardSession::new(graph, Device::Cpu, 1).unwrap();
    let shape = graph.inputs[0].1.shape.clone();
    let mut planes = vec![0.0; shape.iter().product()];
    let mut all = vec![Vec::new(); graph.outputs.len()];
    for crop in crops {
        card.normalization.write_planes(crop, &mut planes);
        let found = session.run(&[("image", &shape, &planes)]).unwrap();
        for (values, name) in all.iter_mut().zip(&graph.outputs) {
            values.extend(&found[name].1);
        }
    }
    all
}

/// The root mean square of the difference over that of the spread of `wanted`.
fn relative_error(wanted: &[f32], found: &[f32]) -> f64 {
    let mean = wanted.iter().map(|&v| f64::from(v)).sum::<f64>() / wanted.len() as f64;
    let (mut error, mut spread) = (0.0, 0.0);
    for (&wanted, &found) in wanted.iter().zip(found) {
        error += f64::from(wanted - found).powi(2);
        spread += (f64::from(wanted) - mean).powi(2);
    }
    (error / spread).sqrt()
}

fn watched(
    graph: &Graph,
    card: &ModelCard,
    crops: &[Crop],
    options: &QuantizeOptions,
) -> Result<Ranges, QuantizeError> {
    calibrate(
        graph,
        &CalibrationCrops { card, crops },
        options,
        &mut |_| true,
    )
}

#[test]
fn quantised_networks_stay_near_the_float_ones_in_both_forms() {
    if !has_onnxruntime() {
        return;
    }
    for architecture in [Architecture::TinyLandmarks, Architecture::TinyDetector] {
        let (graph, card) = network(architecture);
        let (learnt, seen) = (crops(&card, 12, 1), crops(&card, 6, 2));
        let float = outputs(&graph, &card, &seen);
        for (method, reduce_range, plain, limit) in [
            (Method::MinMax, false, true, 0.10),
            (Method::MinMax, true, true, 0.15),
            (Method::MinMax, false, false, 0.10),
            (Method::Entropy, false, false, 0.12),
            (Method::Mse, false, false, 0.10),
            (Method::Percentile(99.99), false, false, 0.10),
        ] {
            let options = QuantizeOptions {
                method,
                reduce_range,
                equalize: !plain,
                bias_correction: !plain,
                ..QuantizeOptions::default()
            };
            let ranges = watched(&graph, &card, &learnt, &options).unwrap();
            let quantized = quantize(&graph, &ranges, &options).unwrap();
            assert!(quantized.metadata[METADATA_KEY].contains(&method.to_string()));
            assert_eq!(quantized.outputs, graph.outputs);
            let found = outputs(&quantized, &card, &seen);
            let qdq = QuantizeOptions {
                form: Form::Qdq,
                ..options.clone()
            };
            let qdq = quantize(&graph, &ranges, &qdq).unwrap();
            let of_qdq = outputs(&qdq, &card, &seen);
            let case = format!("{} {method} {plain}", architecture.name());
            let error = relative_error(&float.concat(), &found.concat());
            assert!(error < limit, "{case}: {error}");
            assert!(error > 1e-5, "{case} is not quantised: {error}");
            let apart = relative_error(&found.concat(), &of_qdq.concat());
            assert!(apart < 0.02, "{case}: the forms are {apart} apart");
            for (form, graph) in [("qoperator", &quantized), ("qdq", &qdq)] {
                let read = Graph::from_onnx(&graph.to_onnx(), form.as_ref()).unwrap();
                assert_eq!(read, *graph, "{form}");
            }
            let bits = if reduce_range { 63 } else { 127 };
            let weights = quantized
                .initializers
                .values()
                .filter_map(|tensor| match &tensor.data {
                    TensorData::I8(values) => Some(values),
                    _ => None,
                });
            let largest = weights.flatten().map(|q| q.unsigned_abs()).max();
            assert_eq!(largest, Some(bits));
        }
    }
}

/// The operators of a graph, each once.
fn operators(graph: &Graph) -> Vec<&str> {
    let mut operators: Vec<&str> = graph.nodes.iter().map(|node| node.op.as_str()).collect();
    operators.sort_unstable();
    operators.dedup();
    operators
}

#[test]
fn only_the_mean_of_heat_maps_stays_float_in_the_released_networks() {
    for (architecture, others) in [
        (
            Architecture::LandmarksBase,
            // The chain that the engine takes in as one step begins with DequantizeLinear.
            &[
                "DequantizeLinear",
                "Flatten",
                "MatMul",
                "QGemm",
                "QLinearGlobalAveragePool",
                "Reshape",
                "Resize",
                "Softmax",
            ][..],
        ),
        (Architecture::FaceDetector, &["DequantizeLinear", "Resize"]),
    ] {
        let (graph, _) = network(architecture);
        let mut ranges = Ranges::default();
        let folded = fold_batch_norm(&graph).unwrap();
        for point in facemark::train::quantize::points_of(&folded, &QuantizeOptions::default())
            .unwrap()
            .points
        {
            for member in point.members {
                ranges.values.insert(member, Range::new(-1.0, 3.0).unwrap());
            }
        }
        let quantized = quantize(&graph, &ranges, &QuantizeOptions::default()).unwrap();
        let mut expected = [&["QLinearAdd", "QLinearConv", "QuantizeLinear"], others].concat();
        expected.sort_unstable();
        assert_eq!(operators(&quantized), expected, "{}", architecture.name());
    }
}

#[test]
fn scaled_channels_compute_the_same() {
    if !has_onnxruntime() {
        return;
    }
    for architecture in [Architecture::LandmarksBase, Architecture::TinyDetector] {
        let (graph, card) = network(architecture);
        let seen = crops(&card, 4, 3);
        let options = QuantizeOptions {
            bias_correction: false,
            ..QuantizeOptions::default()
        };
        let ranges = watched(&graph, &card, &seen, &options).unwrap();
        let factors: Vec<f32> = ranges.equalization.values().flatten().copied().collect();
        assert!(factors.len() > 50, "{} factors", factors.len());
        assert!(
            factors.iter().any(|&factor| factor < 0.5),
            "nothing is scaled"
        );
        let scaled = prepare(&graph, &ranges).unwrap();
        let (before, after) = (
            outputs(&graph, &card, &seen),
            outputs(&scaled, &card, &seen),
        );
        for (before, after) in before.iter().flatten().zip(after.iter().flatten()) {
            assert!(
                (before - after).abs() <= 1e-4 * before.abs().max(1.0),
                "{before} {after}"
            );
        }
    }
}

/// Every operator that stays float and every way in and out of it.
fn mixed() -> (Graph, ModelCard) {
    let card = ModelCard {
        training_data: "none".to_owned(),
        ..Architecture::TinyLandmarks.card("mixed", Scheme::Ibug68, 1.3)
    };
    let mut graph = Graph::new("mixed");
    graph.metadata = card.to_metadata();
    graph
        .input("image", TensorType::f32(&[1, 3, 48, 48]))
        .unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let mut weight = |graph: &mut Graph, name: &str, shape: &[usize]| {
        let count = shape.iter().product();
        let reach = (3.0 / shape[1..].iter().product::<usize>() as f32).sqrt();
        let values = (0..count)
            .map(|_| random.random_range(-reach..reach))
            .collect();
        graph.parameter(name, Tensor::f32(shape, values)).unwrap();
    };
    for (name, shape) in [
        ("w1", &[8, 3, 3, 3][..]),
        ("w2", &[8, 8, 1, 1]),
        ("w3", &[8, 1, 5, 5]),
        ("w4", &[8, 24, 1, 1]),
        ("m1", &[8, 24]),
        ("m2", &[136, 24]),
    ] {
        weight(&mut graph, name, shape);
    }
    let six = graph.scalar(6.0);
    let zero = graph.scalar(0.0);
    let sizes = graph.ints(&[1, 8]);
    let ints = |name, values: &[i64]| (name, Attribute::Ints(values.to_vec()));
    /// Operator, inputs, attributes, output.
    type Step<'a> = (&'a str, Vec<&'a str>, Vec<(&'a str, Attribute)>, &'a str);
    let steps: Vec<Step> = vec![
        (
            "Conv",
            vec!["image", "w1"],
            vec![ints("strides", &[2, 2])],
            "c1",
        ),
        ("Clip", vec!["c1", &zero, &six], vec![], "r1"),
        ("Conv", vec!["r1", "w2"], vec![], "c2"),
        ("Sigmoid", vec!["c2"], vec![], "gate"),
        ("Mul", vec!["r1", "gate"], vec![], "gated"),
        (
            "Conv",
            vec!["gated", "w3"],
            vec![("group", Attribute::Int(8)), ints("pads", &[2, 2, 2, 2])],
            "c3",
        ),
        ("Relu", vec!["c3"], vec![], "r3"),
        ("Add", vec!["gated", "r3"], vec![], "sum"),
        (
            "MaxPool",
            vec!["c2"],
            vec![ints("kernel_shape", &[1, 1])],
            "p2",
        ),
        (
            "Concat",
            vec!["p2", "sum", "c2"],
            vec![("axis", Attribute::Int(1))],
            "joined",
        ),
        ("Conv", vec!["joined", "w4"], vec![], "c4"),
        ("HardSwish", vec!["c4"], vec![], "h4"),
        ("GlobalAveragePool", vec!["h4"], vec![], "mean"),
        ("Reshape", vec!["mean", &sizes], vec![], "row"),
        ("Gemm", vec!["row", "m1"], vec![], "hidden"),
        ("Relu", vec!["hidden"], vec![], "active"),
        (
            "Gemm",
            vec!["active", "m2"],
            vec![("transB", Attribute::Int(1))],
            "landmarks",
        ),
    ];
    // Gemm by columns takes [8, 24], by rows [136, 24].
    for (op, inputs, attributes, output) in steps {
        graph.apply_named(op, &inputs, &attributes, output).unwrap();
    }
    graph.outputs = vec!["landmarks".to_owned(), "gated".to_owned(), "r3".to_owned()];
    (graph, card)
}

#[test]
fn operators_without_a_form_on_bytes_stay_float_between_roundings() {
    if !has_onnxruntime() {
        return;
    }
    let (graph, card) = mixed();
    let (learnt, seen) = (crops(&card, 10, 1), crops(&card, 4, 2));
    let float = outputs(&graph, &card, &seen);
    for keep_float in [vec![], vec!["c3"], vec!["c1", "landmarks"]] {
        for form in [Form::QOperator, Form::Qdq] {
            let options = QuantizeOptions {
                method: Method::MinMax,
                keep_float: keep_float.iter().map(|&name| name.to_owned()).collect(),
                form,
                ..QuantizeOptions::default()
            };
            let ranges = watched(&graph, &card, &learnt, &options).unwrap();
            let quantized = quantize(&graph, &ranges, &options).unwrap();
            for op in ["Sigmoid", "Mul", "HardSwish"] {
                assert!(operators(&quantized).contains(&op), "{op}");
            }
            let convs = |op: &str| quantized.nodes.iter().filter(|node| node.op == op).count();
            if form == Form::QOperator {
                let kept = keep_float
                    .iter()
                    .filter(|name| name.starts_with('c'))
                    .count();
                assert_eq!((convs("Conv"), convs("QLinearConv")), (kept, 4 - kept));
            }
            let found = outputs(&quantized, &card, &seen);
            for (index, name) in graph.outputs.iter().enumerate() {
                let error = relative_error(&float[index], &found[index]);
                assert!(error < 0.1, "{name} {form} {keep_float:?}: {error}");
            }
        }
    }
}

#[test]
fn what_cannot_be_quantised_is_an_error_that_says_why() {
    if !has_onnxruntime() {
        return;
    }
    let (graph, card) = network(Architecture::TinyLandmarks);
    let crops = crops(&card, 3, 1);
    let options = QuantizeOptions {
        bias_correction: false,
        ..QuantizeOptions::default()
    };
    let ranges = watched(&graph, &card, &crops, &options).unwrap();
    let quantized = quantize(&graph, &ranges, &options).unwrap();
    let error = |graph: &Graph, ranges: &Ranges, options: &QuantizeOptions| {
        quantize(graph, ranges, options).unwrap_err().to_string()
    };
    assert!(error(&quantized, &ranges, &options).contains("quantised already"));
    let mut fewer = ranges.clone();
    let (first, _) = fewer.values.pop_first().unwrap();
    assert!(error(&graph, &fewer, &options).contains(&first));
    let (other, _) = network(Architecture::TinyDetector);
    assert!(error(&other, &ranges, &options).contains("not of this model"));
    let kept = QuantizeOptions {
        keep_float: vec!["nonsense".to_owned()],
        ..options.clone()
    };
    assert!(error(&graph, &ranges, &kept).contains("nonsense"));
    let mut broken = graph.clone();
    let weight = broken.initializers.get_mut("stem.weight").unwrap();
    *weight = Tensor::f32(&weight.shape.clone(), vec![f32::NAN; weight.data.len()]);
    assert!(error(&broken, &ranges, &options).contains("stem.weight"));
    let mut empty = Graph::new("empty");
    empty
        .input("image", TensorType::f32(&[1, 3, 4, 4]))
        .unwrap();
    assert!(error(&empty, &Ranges::default(), &options).contains("nothing to quantise"));
    let nothing = watched(&graph, &card, &[], &options).unwrap_err();
    assert!(matches!(nothing, QuantizeError::NoPictures));
    let set = CalibrationCrops {
        card: &card,
        crops: &crops,
    };
    let stopped = calibrate(&graph, &set, &options, &mut |_| false).unwrap_err();
    assert!(matches!(stopped, QuantizeError::Interrupted));
}

fn program(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_facemark-train"))
        .args(arguments)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), errors)
}

#[test]
fn the_program_writes_a_model_and_the_file_that_rebuilds_it() {
    if !has_onnxruntime() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (graph, _) = network(Architecture::TinyLandmarks);
    let (model, int8, file) = (path("m.onnx"), path("m8.onnx"), path("m8.json"));
    std::fs::write(&model, graph.to_onnx()).unwrap();
    let measure = |output: &str, ranges: &str| {
        let images = ["--images", "12", "--seed", "3"];
        let files = ["--ranges-output", ranges, "--output", output];
        let start = ["quantize", &model, "--calibration", "synthetic:4"];
        let (code, errors) = program(&[&start[..], &images, &files].concat());
        assert_eq!(code, Some(0), "{errors}");
        assert!(errors.contains("12 crops"), "{errors}");
    };
    measure(&int8, &file);
    let (again, again_file) = (path("again.onnx"), path("again.json"));
    measure(&again, &again_file);
    let bytes = |path: &str| std::fs::read(path).unwrap();
    assert!(
        bytes(&int8) == bytes(&again),
        "the same pictures give another model"
    );

    let rebuilt = path("rebuilt.onnx");
    let (code, errors) = program(&["quantize", &model, "--ranges", &file, "--output", &rebuilt]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        bytes(&int8) == bytes(&rebuilt),
        "the file gives another model"
    );

    let other = path("other.onnx");
    let (changed, _) = network(Architecture::TinyDetector);
    std::fs::write(&other, changed.to_onnx()).unwrap();
    let empty = path("empty");
    std::fs::create_dir(&empty).unwrap();
    let no_card = path("no_card.onnx");
    let mut bare = graph.clone();
    bare.metadata.clear();
    std::fs::write(&no_card, bare.to_onnx()).unwrap();
    let out = path("never.onnx");
    for (arguments, part) in [
        (
            vec!["quantize", &int8, "--ranges", &file],
            "quantised already",
        ),
        (vec!["quantize", &other, "--ranges", &file], "SHA-256"),
        (vec!["quantize", &model, "--ranges", &model], "m.onnx"),
        (
            vec!["quantize", &model, "--ranges", "nowhere.json"],
            "nowhere.json",
        ),
        (
            vec!["quantize", &model, "--calibration", &empty],
            "an empty folder",
        ),
        (
            vec!["quantize", &no_card, "--calibration", "synthetic:1"],
            "facemark.task",
        ),
        (
            vec!["quantize", &empty, "--calibration", "synthetic:1"],
            "cannot read",
        ),
        (
            vec![
                "quantize",
                &model,
                "--calibration",
                "synthetic:1",
                "--keep-float",
                "x",
                "--images",
                "2",
            ],
            "\"x\"",
        ),
        (
            vec![
                "quantize",
                &model,
                "--calibration",
                "synthetic:1",
                "--method",
                "best",
            ],
            "minmax",
        ),
        (vec!["quantize", &model], "--calibration"),
    ] {
        let arguments = [&arguments[..], &["--output", &out]].concat();
        let (code, errors) = program(&arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains(part), "{arguments:?}: {errors}");
        assert!(!Path::new(&out).exists());
    }
}

/// The calibration files of the released models: (file, its content, name of the quantised model).
fn released() -> Vec<(String, Calibration)> {
    let entries = std::fs::read_dir(root().join("calibration")).expect("calibration/ is there");
    let mut files: Vec<(String, Calibration)> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, Calibration::read(&path).unwrap())
        })
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!files.is_empty(), "calibration/ holds no file");
    files
}

/// The released float model that a calibration is for.
fn float_model(calibration: &Calibration) -> Graph {
    let entries = std::fs::read_dir(root().join("models")).expect("models/ is there");
    for entry in entries {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "onnx") {
            let bytes = std::fs::read(&path).unwrap();
            if sha256(&bytes) == calibration.float_model_sha256 {
                return Graph::from_onnx(&bytes, &path).unwrap();
            }
        }
    }
    panic!(
        "models/ does not hold the float model of {}",
        calibration.model
    );
}

#[test]
fn calibration_files_rebuild_the_released_models_bit_for_bit() {
    for (name, calibration) in released() {
        let graph = float_model(&calibration);
        let quantized = quantize(&graph, &calibration.ranges, &calibration.options).unwrap();
        let wanted = std::fs::read(root().join(format!("models/{name}.onnx"))).unwrap();
        assert!(quantized.to_onnx() == wanted, "{name}: another model");
    }
}

#[test]
fn the_pictures_give_the_released_calibration_files() {
    if shared("data").is_none() || !has_onnxruntime() {
        return;
    }
    for (name, calibration) in released() {
        let Some(list) = &calibration.pictures else {
            continue;
        };
        let graph = float_model(&calibration);
        let card = ModelCard::from_metadata(&graph.metadata, name.as_ref()).unwrap();
        let sources: Vec<DataSource> = list
            .data
            .iter()
            .map(|path| DataSource::new(root().join(path).display().to_string()))
            .collect();
        let split = list.split.as_deref().map(|split| split.parse().unwrap());
        let dataset = open_for_calibration(&sources, &card, split).unwrap();
        let pictures =
            CalibrationPictures::take(&dataset, &sources, &card, list.crops, list.seed).unwrap();
        assert_eq!(pictures.hashes, list.sha256, "{name}: other pictures");
        let found = watched(&graph, &card, &pictures.crops, &calibration.options).unwrap();
        if list.arithmetic == arithmetic_in_words().unwrap() {
            assert!(found == calibration.ranges, "{name}: other ranges");
            continue;
        }
        println!(
            "{name} was calibrated by {}: last bits may differ",
            list.arithmetic
        );
        for (value, range) in &found.values {
            let released = calibration.ranges.values[value];
            let apart = (range.max() - released.max()).abs() + (range.min() - released.min()).abs();
            let span = released.max() - released.min();
            assert!(
                apart <= 0.05 * span,
                "{name} {value}: {range:?}, not {released:?}"
            );
        }
    }
}
