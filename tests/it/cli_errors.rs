//! Bad input through the command line: the message names the file and what is wrong with it, the exit code is the
//! promised one, and nothing half-written is left.

use crate::{int8_models, tiny_model};
use facemark::{frame::Frame, picture};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const FACEMARK: &str = env!("CARGO_BIN_EXE_facemark");

/// A folder with one good model of each task, and bad files of every kind.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        desk.write("landmarks.onnx", &tiny_model::landmarks());
        desk.write("detector.onnx", &tiny_model::detector());
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("written");
    }

    fn write_picture(&self, name: &str) {
        let bytes = (0..64 * 48 * 3).map(|index| (index % 251) as u8).collect();
        let frame = Frame::from_rgb(64, 48, bytes).expect("a frame");
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        picture::save(&frame, &path).expect("written");
    }

    /// Runs `program` with `arguments` (words between spaces) in the folder.
    fn run(&self, program: &str, arguments: &str) -> Output {
        Command::new(program)
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .env_remove("DISPLAY")
            .output()
            .expect("the program starts")
    }

    fn names(&self) -> Vec<String> {
        fn walk(folder: &Path, names: &mut Vec<String>) {
            for entry in fs::read_dir(folder).expect("a readable folder") {
                let path = entry.expect("an entry").path();
                names.push(path.display().to_string());
                if path.is_dir() {
                    walk(&path, names);
                }
            }
        }
        let mut names = Vec::new();
        walk(self.folder.path(), &mut names);
        names.sort();
        names
    }
}

/// A command that must fail with exit code 2, words that its message must have, and files that must not appear.
struct Case {
    arguments: &'static str,
    words: &'static [&'static str],
}

fn check(desk: &Desk, program: &str, cases: &[Case]) {
    let mut wrong = Vec::new();
    let before = desk.names();
    for case in cases {
        let output = desk.run(program, case.arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        let missing: Vec<&&str> = case
            .words
            .iter()
            .filter(|word| !said.contains(**word))
            .collect();
        if output.status.code() != Some(2) || !missing.is_empty() || said.contains("panicked") {
            wrong.push(format!(
                "{}\n  exit code {:?}, words not said {missing:?}, standard error:\n{said}",
                case.arguments,
                output.status.code()
            ));
        }
        let left = desk.names();
        if left != before {
            wrong.push(format!(
                "{}\n  left {left:?}\n  there was {before:?}",
                case.arguments
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A record with a face in the middle of the 64x48 picture, changed by `change`.
fn record(image: &str, change: impl FnOnce(&mut Vec<String>)) -> String {
    let mut points: Vec<String> = (0..68)
        .flat_map(|index| {
            let angle = index as f32 * std::f32::consts::TAU / 68.0;
            [32.0 + 12.0 * angle.cos(), 24.0 + 12.0 * angle.sin()].map(|value| value.to_string())
        })
        .collect();
    change(&mut points);
    format!(
        r#"{{"image": "{image}", "dataset": "bad", "split": "train", "id": "a", "width": 64, "height": 48, "box": [20, 12, 24, 24], "scheme": "ibug68", "points": [{}]}}"#,
        points.join(", ")
    )
}

/// Sets of which nothing can be used, each for another reason.
fn write_bad_sets(desk: &Desk) {
    let sets = [
        (
            "out_of_range",
            record("a.jpg", |points| points[6] = "900".to_owned()),
        ),
        (
            "nan",
            record("a.jpg", |points| points[6] = "NaN".to_owned()),
        ),
        ("too_few", record("a.jpg", |points| points.truncate(100))),
        ("no_such_picture", record("b.jpg", |_| ())),
        ("cut_picture", record("cut.jpg", |_| ())),
        ("empty_picture", record("empty.jpg", |_| ())),
        ("no_json", "a face, somewhere".to_owned()),
        ("no_records", String::new()),
    ];
    desk.write_picture("picture.jpg");
    let picture = fs::read(desk.path("picture.jpg")).expect("read");
    for (name, line) in sets {
        desk.write(
            &format!("{name}/annotations.jsonl"),
            format!("{line}\n").as_bytes(),
        );
        desk.write(&format!("{name}/a.jpg"), &picture);
        desk.write(&format!("{name}/cut.jpg"), &picture[..picture.len() / 2]);
        desk.write(&format!("{name}/empty.jpg"), b"");
    }
}

/// Model files that cannot be used, beside the good ones.
fn write_bad_models(desk: &Desk) {
    desk.write("int8_scale.onnx", &int8_models::with_scale_zero());
    let model = tiny_model::landmarks();
    desk.write("cut.onnx", &model[..model.len() / 2]);
    desk.write("empty.onnx", b"");
    desk.write("text.onnx", b"a model, somewhere");
    desk.write(
        "foreign.onnx",
        &tiny_model::with_metadata(&model, |metadata| metadata.clear()),
    );
    let without_margin = |metadata: &mut BTreeMap<String, String>| {
        metadata.remove("facemark.crop_margin");
    };
    desk.write(
        "no_margin.onnx",
        &tiny_model::with_metadata(&model, without_margin),
    );
    let other_size = |metadata: &mut BTreeMap<String, String>| {
        metadata.insert("facemark.input_width".to_owned(), "48".to_owned());
    };
    desk.write(
        "other_size.onnx",
        &tiny_model::with_metadata(&model, other_size),
    );
    desk.write(
        "unknown_operator.onnx",
        &tiny_model::with_unknown_operator(&model),
    );
}

#[test]
fn models_that_cannot_be_used_are_named() {
    let desk = Desk::new();
    write_bad_models(&desk);
    desk.write(
        "set/annotations.jsonl",
        format!("{}\n", record("a.jpg", |_| ())).as_bytes(),
    );
    desk.write_picture("set/a.jpg");
    let with = |arguments, words| Case { arguments, words };
    check(
        &desk,
        FACEMARK,
        &[
            with("inspect cut.onnx", &["cut.onnx", "expected an ONNX model"]),
            with(
                "inspect empty.onnx",
                &["empty.onnx", "expected an ONNX model"],
            ),
            with(
                "inspect text.onnx",
                &["text.onnx", "expected an ONNX model"],
            ),
            with("inspect no_such.onnx", &["no_such.onnx"]),
            with(
                "inspect unknown_operator.onnx",
                &["unknown_operator.onnx", "Frobnicate", "make_presence"],
            ),
            with("bench foreign.onnx", &["foreign.onnx", "facemark."]),
            with("bench cut.onnx", &["cut.onnx"]),
            with(
                "eval --data set --split train --model foreign.onnx",
                &["foreign.onnx", "facemark.", "missing"],
            ),
            with(
                "eval --data set --split train --model no_margin.onnx",
                &["no_margin.onnx", "facemark.crop_margin"],
            ),
            with(
                "eval --data set --split train --model other_size.onnx",
                &["other_size.onnx", "48", "32"],
            ),
            with(
                "eval --data set --split train --model detector.onnx",
                &["detector.onnx", "landmarks"],
            ),
            with(
                "eval --data set --split train --model cut.onnx",
                &["cut.onnx"],
            ),
            with(
                "detect-eval --data set --split train --model landmarks.onnx",
                &["landmarks.onnx", "face-detection"],
            ),
            with(
                "run --input set --json out.jsonl --model foreign.onnx --detector detector.onnx",
                &["foreign.onnx"],
            ),
            with(
                "bench landmarks.onnx --kernels turbo",
                &["--kernels", "turbo", "portable"],
            ),
            with("bench landmarks.onnx --threads 0", &["--threads", "1..=16"]),
            with(
                "inspect int8_scale.onnx",
                &["int8_scale.onnx", "QLinearAdd", "positive"],
            ),
        ],
    );
}

#[test]
fn labels_that_cannot_be_used_are_named() {
    let desk = Desk::new();
    write_bad_sets(&desk);
    let with = |arguments, words| Case { arguments, words };
    check(
        &desk,
        FACEMARK,
        &[
            with(
                "eval --model landmarks.onnx --split train --data out_of_range",
                &["out_of_range", ":1: ", "point 3", "900"],
            ),
            with(
                "eval --model landmarks.onnx --split train --data nan",
                &["nan", ":1: ", "not a record"],
            ),
            with(
                "eval --model landmarks.onnx --split train --data too_few",
                &["too_few", "expected 68", "found 50"],
            ),
            with(
                "eval --model landmarks.onnx --split train --data no_such_picture",
                &["b.jpg"],
            ),
            with(
                "eval --model landmarks.onnx --split train --data cut_picture",
                &["cut.jpg"],
            ),
            with(
                "eval --model landmarks.onnx --split train --data empty_picture",
                &["empty.jpg"],
            ),
            with(
                "eval --model landmarks.onnx --split train --data no_json",
                &["no_json", ":1: ", "not a record"],
            ),
            with(
                "eval --model landmarks.onnx --split train --data no_records",
                &["no_records"],
            ),
            with(
                "eval --model landmarks.onnx --split train --data nowhere",
                &["nowhere"],
            ),
            with(
                "eval --model landmarks.onnx --split tests --data nan",
                &["tests", "train, val or test"],
            ),
            with(
                "detect-eval --model detector.onnx --split train --data nan",
                &["nan", ":1: "],
            ),
        ],
    );
}

#[test]
fn tensors_that_cannot_be_used_are_named() {
    let desk = Desk::new();
    desk.write("empty.npy", b"");
    desk.write("text.npy", b"a tensor, somewhere");
    let mut header = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    header.extend(
        format!(
            "{:<117}\n",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 32, 32), }"
        )
        .bytes(),
    );
    desk.write("cut.npy", &[header.as_slice(), &[0; 400]].concat());
    let small = String::from_utf8_lossy(&header).into_owned();
    assert!(small.contains("(1, 3, 32, 32)"));
    let other: Vec<u8> = header
        .iter()
        .map(|&byte| if byte == b'3' { b'4' } else { byte })
        .collect();
    desk.write(
        "other_shape.npy",
        &[other.as_slice(), &vec![0; 4 * 4 * 42 * 42]].concat(),
    );
    let with = |arguments, words| Case { arguments, words };
    check(
        &desk,
        FACEMARK,
        &[
            with(
                "infer landmarks.onnx --input empty.npy --output y.npy",
                &["empty.npy"],
            ),
            with(
                "infer landmarks.onnx --input text.npy --output y.npy",
                &["text.npy"],
            ),
            with(
                "infer landmarks.onnx --input cut.npy --output y.npy",
                &["cut.npy"],
            ),
            with(
                "infer landmarks.onnx --input other_shape.npy --output y.npy",
                &["[1, 3, 32, 32]", "[1, 4, 42, 42]"],
            ),
            with(
                "infer landmarks.onnx --input no_such.npy --output y.npy",
                &["no_such.npy"],
            ),
            with("infer landmarks.onnx --output y.npy", &["--input"]),
        ],
    );
}

#[test]
fn pictures_and_sources_that_cannot_be_used_are_named() {
    let desk = Desk::new();
    desk.write_picture("good.jpg");
    let picture = fs::read(desk.path("good.jpg")).expect("read");
    desk.write("cut.jpg", &picture[..picture.len() / 2]);
    desk.write("empty.jpg", b"");
    desk.write("empty.y4m", b"");
    desk.write("text.y4m", b"YUV4MPEG2 W0 H0 F25:1\n");
    desk.write("no_pictures/notes.txt", b"none");
    let with = |arguments, words| Case { arguments, words };
    check(
        &desk,
        FACEMARK,
        &[
            with(
                "run --no-window --model landmarks.onnx --detector detector.onnx --json o.jsonl --input cut.jpg",
                &["cut.jpg"],
            ),
            with(
                "run --no-window --model landmarks.onnx --detector detector.onnx --json o.jsonl --input empty.jpg",
                &["empty.jpg"],
            ),
            with(
                "run --no-window --model landmarks.onnx --detector detector.onnx --json o.jsonl --input no_pictures",
                &["no_pictures"],
            ),
            with(
                "run --no-window --model landmarks.onnx --detector detector.onnx --json o.jsonl --input nowhere",
                &["nowhere"],
            ),
            with(
                "run --no-window --model landmarks.onnx --detector detector.onnx --json o.jsonl --input empty.y4m",
                &["empty.y4m"],
            ),
            with(
                "run --no-window --model landmarks.onnx --detector detector.onnx --json o.jsonl --input text.y4m",
                &["text.y4m"],
            ),
            with(
                "run --no-window --model no_such.onnx --detector detector.onnx --input good.jpg",
                &["no_such.onnx"],
            ),
            with("run --frobnicate", &["--frobnicate"]),
            with("", &["Usage"]),
        ],
    );
}

#[cfg(feature = "train")]
mod training {
    use super::*;

    const FACEMARK_TRAIN: &str = env!("CARGO_BIN_EXE_facemark-train");

    #[test]
    fn labels_that_cannot_be_used_are_named() {
        let desk = Desk::new();
        write_bad_sets(&desk);
        desk.write("recipe.toml", b"epochs = \"many\"\n");
        desk.write("whole.toml", b"batch = 0\n");
        desk.write("cut.onnx", &tiny_model::landmarks()[..900]);
        let fit = |data, words| Case {
            arguments: data,
            words,
        };
        check(
            &desk,
            FACEMARK_TRAIN,
            &[
                fit(
                    "fit --output out --data out_of_range",
                    &["out_of_range", ":1: ", "point 3", "900"],
                ),
                fit(
                    "fit --output out --data nan",
                    &["nan", ":1", "not a record"],
                ),
                fit(
                    "fit --output out --data too_few",
                    &["too_few", "expected 68", "found 50"],
                ),
                fit("fit --output out --data no_such_picture", &["b.jpg"]),
                fit("fit --output out --data cut_picture", &["cut.jpg"]),
                fit("fit --output out --data empty_picture", &["empty.jpg"]),
                fit(
                    "fit --output out --data no_json",
                    &["no_json", ":1", "not a record"],
                ),
                fit("fit --output out --data no_records", &["no_records"]),
                fit("fit --output out --data nowhere", &["nowhere"]),
                fit("fit --output out --data synthetic:x", &["synthetic:x"]),
                fit("fit --output out recipe.toml", &["recipe.toml", "epochs"]),
                fit("fit --output out whole.toml --data synthetic:1", &["batch"]),
                fit("fit --output out missing.toml", &["missing.toml"]),
                fit(
                    "fit --output out --data synthetic:1 --init cut.onnx",
                    &["cut.onnx"],
                ),
                fit(
                    "fit --output out --data synthetic:1 --scheme ibug99",
                    &["ibug99"],
                ),
                fit("fit --data synthetic:1", &["--output"]),
                fit("fit --resume nowhere", &["nowhere"]),
                fit("export --checkpoint nowhere --output m.onnx", &["nowhere"]),
                fit(
                    "evaluate --model cut.onnx --data synthetic:1",
                    &["cut.onnx"],
                ),
                fit("frobnicate", &["frobnicate"]),
            ],
        );
    }

    #[test]
    fn a_missing_onnx_runtime_names_the_command_that_fetches_it() {
        let desk = Desk::new();
        // Away from the project, so that its own library is not found.
        let program = desk.path("facemark-train");
        fs::copy(FACEMARK_TRAIN, &program).expect("copied");
        desk.write("not_a_library.so", b"no library");
        let program = program.to_str().expect("UTF-8");
        let output = desk.run(program, "fit --output out --data synthetic:1");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("make onnxruntime"), "{said}");
        let output = desk.run(
            program,
            "fit --output out --data synthetic:1 --onnxruntime not_a_library.so",
        );
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("not_a_library.so"), "{said}");
        assert!(!desk.path("out").exists(), "nothing was begun");
    }
}
