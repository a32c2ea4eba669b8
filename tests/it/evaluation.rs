//! `facemark eval`, `detect-eval`, `infer`, `inspect` and `bench` through the command line, on models whose answers are
//! known, so that every figure can be computed by hand.

use crate::{fixtures::root, tiny_model};
use facemark::{finder::Acceptance, frame::Frame, picture};
use serde_json::{Value, json};
use std::{
    path::Path,
    process::{Command, Output},
};
use tempfile::TempDir;

fn facemark(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_facemark"))
        .args(arguments)
        .output()
        .expect("facemark starts")
}

fn json_of(arguments: &[&str]) -> Value {
    let output = facemark(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).expect("one JSON object on standard output")
}

fn assert_near(value: &Value, expected: f64, what: &str) {
    let found = value.as_f64().unwrap_or_else(|| panic!("{what}: {value}"));
    assert!(
        (found - expected).abs() < 1e-3,
        "{what}: {found}, not {expected}"
    );
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// A folder with models, and a picture of 64 x 64 and one of 32 x 32.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("images")).expect("a folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes);
    write("landmarks.onnx", &tiny_model::landmarks()).expect("written");
    write("detector.onnx", &tiny_model::detector()).expect("written");
    write("images/cut.png", b"\x89PNG\r\n\x1a\n").expect("written");
    for side in [64, 32] {
        let path = folder.path().join(format!("images/{side}.png"));
        picture::save(&Frame::new(side, side), &path).expect("written");
    }
    folder
}

fn write_lines(folder: &TempDir, records: &[Value]) {
    let lines: Vec<String> = records.iter().map(Value::to_string).collect();
    std::fs::write(folder.path().join("annotations.jsonl"), lines.join("\n")).expect("written");
}

/// The tiny model answers a circle of 0.3 crop sides around the box's middle, and the crop has 1.3 x 32 pixels.
const RADIUS: f64 = 0.3 * 1.3 * 32.0;

/// A face in the box (16, 16, 32, 32) whose labels are the circle moved by `shift` pixels to the left.
fn landmark_record(image: &str, shift: f64) -> Value {
    let points: Vec<f64> = (0..68)
        .flat_map(|index| {
            let angle = f64::from(index) * std::f64::consts::TAU / 68.0;
            [
                32.0 + RADIUS * angle.cos() - shift,
                32.0 + RADIUS * angle.sin(),
            ]
        })
        .collect();
    json!({"image": image, "dataset": "circles", "split": "test", "width": 64, "height": 64, "orig_width": 128,
        "box": [16.0, 16.0, 32.0, 32.0], "scheme": "ibug68", "points": points})
}

#[test]
fn eval_gives_the_errors_that_were_put_in() {
    let folder = folder();
    write_lines(
        &folder,
        &[
            landmark_record("images/64.png", 0.0),
            landmark_record("images/64.png", 1.5),
            landmark_record("images/cut.png", 0.0),
            json!({"image": "images/64.png"}),
        ],
    );
    let model = folder.path().join("landmarks.onnx");
    let data = text(folder.path());
    let report = json_of(&["eval", "--data", data, "--model", text(&model), "--json"]);
    // Points 36 and 45 are nine steps of 68 apart on the circle.
    let eyes = 2.0 * RADIUS * (9.0 * std::f64::consts::PI / 68.0).sin();
    let error = 1.5 / eyes * 100.0;
    assert!(error > 8.0, "the second face is a failure");
    for (key, expected) in [
        ("images", 1.0),
        ("faces", 2.0),
        ("missed", 0.0),
        ("nme_mean", error / 2.0),
        ("nme_median", error / 2.0),
        ("nme_inner51_mean", error / 2.0),
        ("fr8", 0.5),
        ("auc8", 0.5),
        // 1.5 pixels in x, none in y, two source pixels a pixel, over two faces.
        ("mae_px", 0.75),
        ("prediction_variance_ratio", 0.0),
    ] {
        assert_near(&report[key], expected, key);
    }
    assert_eq!(report["scheme"], "ibug68");
    assert_eq!(report["model"], "tiny-landmarks");
    assert_eq!(report["box"], "gt");
    assert_eq!(report["normalizer"], "outer eye corners");
    assert_eq!(report["sets"]["circles"]["faces"], 2);
    assert_eq!(report["damaged"].as_array().map(Vec::len), Some(2));
    let output = facemark(&["eval", "--data", data, "--model", text(&model)]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("images/cut.png") && errors.contains("annotations.jsonl:4"),
        "{errors}"
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("circles"));
}

#[test]
fn eval_with_a_detector_counts_missed_faces() {
    let folder = folder();
    write_lines(&folder, &[landmark_record("images/64.png", 0.0)]);
    let (model, detector) = (
        folder.path().join("landmarks.onnx"),
        folder.path().join("detector.onnx"),
    );
    let evaluate = |size: &str| {
        json_of(&[
            "eval",
            "--detector-size",
            size,
            "--data",
            text(folder.path()),
            "--model",
            text(&model),
            "--detector",
            text(&detector),
            "--box",
            "detector",
            "--json",
        ])
    };
    // The detector's boxes are as large as the frame and centred on quarters of it: the nearest overlaps the labelled
    // box by a quarter (576 of 1024 pixels each side of 24: 576 / (4096 + 1024 - 576) is too little).
    let report = evaluate("model");
    assert_eq!(
        (&report["faces"], &report["missed"]),
        (&json!(1), &json!(1))
    );
    // In the frame's own size they are half as large: one lies around the middle of each of 16 cells, and overlaps the
    // label enough.
    assert_eq!(evaluate("auto")["missed"], 0);
    assert_eq!(evaluate("64x64")["missed"], 0);
    assert_eq!(
        (&report["nme_mean"], &report["fr8"]),
        (&Value::Null, &json!(1.0))
    );
    assert_eq!(report["detector"], "tiny-detector");
    let mut record = landmark_record("images/64.png", 0.0);
    record["box"] = json!([-16.5, -16.5, 64.0, 64.0]);
    write_lines(&folder, &[record]);
    assert_eq!(evaluate("model")["missed"], 0);
    let arguments = ["detect-eval", "--data", text(folder.path()), "--model"];
    for size in ["40x40", "0x16", "large"] {
        let output =
            facemark(&[&arguments[..], &[text(&detector), "--detector-size", size]].concat());
        assert_eq!(output.status.code(), Some(2), "{size}");
    }
}

#[test]
fn detect_eval_gives_the_figures_that_were_put_in() {
    let folder = folder();
    let record = |dataset: &str, boxes: Value, ignore: Value| {
        json!({"image": "images/32.png", "dataset": dataset, "split": "test", "width": 32, "height": 32,
            "boxes": boxes, "ignore": ignore, "box_kind": "landmark_tight"})
    };
    // In a frame of its input's size the detector says four boxes as large as the frame, around (7.5 or 23.5, 7.5 or
    // 23.5). The labelled face is the first of them; the ignored box covers more than half of each.
    write_lines(
        &folder,
        &[
            record("faces", json!([[-8.5, -8.5, 32.0, 32.0]]), json!([])),
            record("free", json!([]), json!([])),
            record("free", json!([]), json!([[0.0, 0.0, 32.0, 32.0]])),
        ],
    );
    let model = folder.path().join("detector.onnx");
    let data = text(folder.path());
    let arguments = [
        "detect-eval",
        "--data",
        data,
        "--model",
        text(&model),
        "--json",
    ];
    let report = json_of(&arguments);
    for (key, expected) in [
        ("images", 3.0),
        ("faces", 1.0),
        ("recall50", 1.0),
        ("recall30", 1.0),
        // The middle of one box lies in the label, those of two more on its edge or in it too: any takes it.
        ("recall_center", 1.0),
        ("precision", 1.0 / 8.0),
        ("false_positives_per_image", 7.0 / 3.0),
        ("false_positives_per_face_free_image", 2.0),
        // All scores are equal, so there is one point: recall 1 at precision 1/8.
        ("ap50", 1.0 / 8.0),
        ("score_threshold", Acceptance::SCORE_ALONE.into()),
    ] {
        assert_near(&report[key], expected, key);
    }
    assert_near(&report["sets"]["faces"]["precision"], 0.25, "faces");
    assert_near(
        &report["box_kinds"]["landmark_tight"]["precision"],
        0.25,
        "tight",
    );
    assert_eq!(report["intervals95"]["recall50"], json!([1.0, 1.0]));
    assert_eq!(report["sets"]["free"]["recall50"], Value::Null);
    let strict = [&arguments[..], &["--threshold", "0.99"]].concat();
    let report = json_of(&strict);
    assert_near(&report["recall50"], 0.0, "above every score");
    assert_near(&report["ap50"], 1.0 / 8.0, "all scores");
    assert_eq!(report["landmarks"], Value::Null);
}

#[test]
fn detect_eval_has_detections_confirmed_by_the_landmark_network_as_run_does() {
    let folder = folder();
    let portrait = root().join("samples/astronaut.jpg");
    std::fs::copy(portrait, folder.path().join("images/portrait.jpg")).expect("a copy");
    let record = |image: &str, side: usize, boxes: Value| {
        json!({"image": format!("images/{image}"), "dataset": image, "split": "test", "width": side, "height": side,
            "boxes": boxes, "ignore": [], "box_kind": "landmark_tight"})
    };
    write_lines(
        &folder,
        &[
            record("portrait.jpg", 512, json!([[185.0, 90.0, 85.0, 85.0]])),
            record("32.png", 32, json!([])),
        ],
    );
    let data = text(folder.path());
    let report = json_of(&["detect-eval", "--data", data, "--json"]);
    assert_eq!(report["landmarks"], "landmarks68");
    let threshold = f64::from(Acceptance::STILLS.probability);
    assert_near(&report["score_threshold"], threshold, "threshold");
    assert_near(&report["recall50"], 1.0, "recall");
    assert_near(&report["false_positives_per_image"], 0.0, "false");
    // A detector that sees faces everywhere has two in the empty picture, none of which the landmark network confirms.
    let model = folder.path().join("detector.onnx");
    let mut arguments = vec![
        "detect-eval",
        "--data",
        data,
        "--json",
        "--model",
        text(&model),
    ];
    let alone = json_of(&arguments);
    let landmarks = root().join("models/landmarks68-int8.onnx");
    arguments.extend(["--landmarks", text(&landmarks)]);
    let confirmed = json_of(&arguments);
    let free = |report: &Value| report["sets"]["32.png"]["false_positives_per_image"].clone();
    assert!(free(&alone).as_f64() >= Some(1.0), "{alone}");
    assert_near(&free(&confirmed), 0.0, "confirmed");
}

#[test]
fn infer_reads_and_writes_tensors() {
    let folder = folder();
    let model = folder.path().join("landmarks.onnx");
    let (input, output) = (folder.path().join("x.npy"), folder.path().join("y.npy"));
    write_npy(&input, &[1, 3, 32, 32]);
    let run = |extra: &[&str]| {
        let arguments = [
            "infer",
            text(&model),
            "--input",
            text(&input),
            "--output",
            text(&output),
        ];
        facemark(&[&arguments[..], extra].concat())
    };
    assert!(run(&["--output-name", "presence"]).status.success());
    assert_eq!(read_npy(&output), (vec![1, 1], vec![4.0]));
    assert!(run(&[]).status.success());
    let (shape, values) = read_npy(&folder.path().join("y.landmarks.npy"));
    assert_eq!(shape, [1, 136]);
    assert!((values[0] - 0.3).abs() < 1e-6);
    assert!(folder.path().join("y.presence.npy").is_file());
    write_npy(&input, &[1, 3, 32, 31]);
    let failed = run(&[]);
    assert_eq!(failed.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&failed.stderr);
    assert!(
        errors.contains("[1, 3, 32, 32]") && errors.contains("[1, 3, 32, 31]"),
        "{errors}"
    );
    std::fs::write(&input, "no tensor").expect("written");
    assert_eq!(run(&[]).status.code(), Some(2));
    assert_eq!(run(&["--output-name", "nose"]).status.code(), Some(2));
}

fn write_npy(path: &Path, shape: &[u64]) {
    use npyz::WriterBuilder;
    let count = shape.iter().product::<u64>();
    let mut bytes = Vec::new();
    let options = npyz::WriteOptions::new().default_dtype().shape(shape);
    let mut writer = options.writer(&mut bytes).begin_nd().expect("a header");
    writer.extend((0..count).map(|i| i as f32)).expect("values");
    writer.finish().expect("an end");
    std::fs::write(path, bytes).expect("written");
}

fn read_npy(path: &Path) -> (Vec<u64>, Vec<f32>) {
    let bytes = std::fs::read(path).expect("the output is there");
    let npy = npyz::NpyFile::new(&bytes[..]).expect("a tensor");
    (npy.shape().to_vec(), npy.into_vec().expect("floats"))
}

#[test]
fn inspect_shows_card_nodes_and_work() {
    let folder = folder();
    let model = folder.path().join("detector.onnx");
    let report = json_of(&["inspect", text(&model), "--json"]);
    assert_eq!(report["metadata"]["facemark.name"], "tiny-detector");
    assert_eq!(report["operators"]["Conv"], 2);
    // Two convolutions of 16 x 16 x 3 to 1 and 4 channels, at 4 places.
    assert_eq!(report["parameters"], 5 * 768 + 5);
    assert_near(&report["mmac"], 4.0 * 5.0 * 768.0 / 1e6, "mmac");
    let output = facemark(&["inspect", text(&model)]);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(
        shown.contains("score_16") && shown.contains("MMAC"),
        "{shown}"
    );
}

#[test]
fn bench_times_a_model() {
    let folder = folder();
    let model = folder.path().join("landmarks.onnx");
    let report = json_of(&["bench", text(&model), "--json", "--iterations", "20"]);
    let wall = &report["stages"]["model"]["wall_ms"];
    let value = |key: &str| wall[key].as_f64().expect("a time");
    assert!(value("p50") > 0.0 && value("p50") <= value("p95") && value("p95") <= value("p99"));
    assert!(
        report["load_ms"]["model"]
            .as_f64()
            .is_some_and(|load| load > 0.0)
    );
    assert_eq!(
        (&report["iterations"], &report["threads"]),
        (&json!(20), &json!(1))
    );
    if cfg!(target_os = "linux") {
        assert!(
            report["peak_rss_bytes"]
                .as_u64()
                .is_some_and(|bytes| bytes > 1 << 20)
        );
    }
    assert_eq!(facemark(&["bench"]).status.code(), Some(2));
}

#[test]
fn bench_follows_a_recorded_source() {
    let report = json_of(&["bench", "--pipeline", "samples", "--json"]);
    let frames = report["frames"].as_u64().expect("frames");
    assert!(frames > 0 && report["frames_with_face"].as_u64() > Some(0));
    let stage = |name: &str, value: &str| report["stages"][name]["wall_ms"][value].as_f64();
    assert!(stage("decode", "p50") > Some(0.0));
    assert!(stage("frame", "p50") > Some(0.0) && stage("frame", "p50") <= stage("frame", "p99"));
    assert!(report["detector_runs"].as_u64() <= Some(frames));
    assert!(report["landmark_runs"].as_u64() > Some(0));
    let missing = facemark(&["bench", "--pipeline", "no-such-clip.mp4"]);
    assert_eq!(missing.status.code(), Some(2));
}
