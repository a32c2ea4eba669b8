//! `facemark-train recipe` as a program: the parts of the project on drawn faces, a few steps each.

use facemark::{
    annotation::Split,
    crop::CropRule,
    engine::Engine,
    frame::Frame,
    landmarker::Landmarker,
    model::{Infer, Task},
    picture,
    scheme::Scheme,
    train::dataset::{Dataset, OpenOptions},
};
use std::{
    fmt::Write,
    path::Path,
    process::{Command, Output},
};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_facemark-train"))
        .arg("recipe")
        .args(arguments)
        .output()
        .expect("it runs")
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn figures(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(folder.join("summary.json")).unwrap()).unwrap()
}

#[test]
fn the_nose_is_learnt_measured_quantised_and_shown_in_one_file() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("nose");
    let arguments = [
        "nose",
        "--data",
        "synthetic:3",
        "--epochs",
        "2",
        "--steps-per-epoch",
        "4",
        "--device",
        "cpu",
        "--output",
        folder.to_str().unwrap(),
    ];
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let page = std::fs::read_to_string(folder.join("report.html")).unwrap();
    for part in [
        "Pictures and labels",
        "Network",
        "learnt filters of the first layer",
        "Training",
        "Results (test)",
        "mean position",
        "mean shape in the true box",
        "Cumulative error distribution",
        "region of the face",
        "6 best answers",
        "6 worst answers",
        "variance ratio",
        "int8",
        "p99 ms",
        "recipe nose --data synthetic:3",
        "landmarks_coefficient",
        "measured on this split 1 time,",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // Labels, samples, filters, best and worst.
    assert_eq!(page.matches("src=\"data:image/").count(), 5);
    assert_eq!(
        page.matches("src=").count(),
        5,
        "nothing lies beside the page"
    );
    for model in ["nose.onnx", "nose-int8.onnx"] {
        let engine = Engine::load(&folder.join(model)).unwrap();
        let middle = Task::Landmarks {
            scheme: Scheme::Nose1,
            crop: CropRule::MiddleOfFrame { aspect: 4.0 / 3.0 },
        };
        assert_eq!(engine.card().task, middle, "{model}");
        assert!(Landmarker::new(engine).is_ok());
    }
    let first = figures(&folder);
    assert_eq!(first["looks"], 1);
    assert!(
        first["results"][0]["answers"]["int8"]["summary"]["nme_mean"].as_f64() > Some(0.0),
        "{first}"
    );

    // What is trained is not trained again, and every look is counted.
    let log = folder.join("nose/log.jsonl");
    let trained = std::fs::read(&log).unwrap();
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let second = figures(&folder);
    assert_eq!(second["looks"], 2);
    assert_eq!(
        second["results"][0]["answers"],
        first["results"][0]["answers"]
    );
    assert_eq!(std::fs::read(&log).unwrap(), trained);
}

#[test]
fn stages_follow_each_other_and_predictions_become_the_contests_table() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let recipe = "architecture = \"tiny-landmarks\"\nvalidation_limit = 20\nnegative_share = 0.0\nbatch = 4\n\
                  epochs = 1\nsteps_per_epoch = 3\n[[data]]\npath = \"synthetic:4\"\n";
    for name in ["first.toml", "second.toml"] {
        std::fs::write(path(name), recipe).unwrap();
    }
    let (first, second, folder) = (path("first.toml"), path("second.toml"), path("wild"));
    let output = run(&[
        "in-the-wild",
        "--recipe",
        &first,
        "--recipe",
        &second,
        "--device",
        "cpu",
        "--output",
        &folder,
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let stage =
        std::fs::read_to_string(Path::new(&folder).join("in-the-wild/recipe.toml")).unwrap();
    assert!(stage.contains("weights = "), "{stage}");

    let table = std::fs::read_to_string(Path::new(&folder).join("submission.csv")).unwrap();
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("Id,Predicted"));
    let faces = figures(Path::new(&folder))["results"][0]["answers"]["int8"]["summary"]["faces"]
        .as_u64()
        .unwrap() as usize;
    let mut count = 0;
    for (index, line) in lines.enumerate() {
        let (id, value) = line.split_once(',').unwrap();
        assert_eq!(id.parse::<usize>().unwrap(), index);
        assert!(value.parse::<f32>().unwrap().is_finite());
        count += 1;
    }
    assert_eq!(count, faces * 136);
}

#[test]
fn bad_arguments_and_files_are_named_with_exit_code_2() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("misspelt.toml"), "bach = 3").unwrap();
    let (nowhere, misspelt, output) = (path("nowhere"), path("misspelt.toml"), path("run"));
    for (arguments, expected) in [
        (vec!["nose", "--data", &nowhere], "nowhere"),
        (vec!["full-face", "--recipe", &nowhere], "nowhere"),
        (
            vec!["full-face", "--recipe", &nowhere, "--recipe", &nowhere],
            "expected 1 file",
        ),
        (vec!["nose", "--recipe", &misspelt], "expected 2 files"),
        (
            vec!["live", "--recipe", &misspelt, "--recipe", &misspelt],
            "bach",
        ),
        (
            vec!["in-the-wild", "--recipe", &misspelt],
            "expected 2 files",
        ),
        (
            vec!["nose", "--data", "synthetic:1", "--epochs", "0"],
            "epochs",
        ),
    ] {
        let mut all = arguments.clone();
        all.extend(["--output", &output]);
        let output = run(&all);
        let message = errors(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
}

#[test]
fn the_imm_database_is_split_by_the_courses_people_and_its_noses_base_can_be_learnt() {
    let scratch = tempfile::tempdir().unwrap();
    for person in [1, 32, 33, 40] {
        let stem = scratch.path().join(format!("{person:02}-1m"));
        let mut shape = "58\n".to_owned();
        for point in 0..58 {
            let (x, y) = (0.2 + 0.01 * point as f32, 0.3 + 0.005 * point as f32);
            writeln!(shape, "0 0 {x} {y} {point} 0 0").unwrap();
        }
        std::fs::write(stem.with_extension("asf"), shape).unwrap();
        picture::save(&Frame::new(64, 48), &stem.with_extension("png")).unwrap();
    }
    let folder = scratch.path().to_str().unwrap();
    let ids = |split| {
        let options = OpenOptions {
            split: Some(split),
            ..OpenOptions::default()
        };
        let dataset = Dataset::open(folder, &options).unwrap();
        let mut ids: Vec<String> = dataset.examples.iter().map(|e| e.id.clone()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(Split::Train), ["01", "32"]);
    assert_eq!(ids(Split::Val), ["33", "40"]);
    // It has no nose tip: nothing is taken for one unless it is said.
    let options = OpenOptions {
        scheme: Some(Scheme::Nose1),
        ..OpenOptions::default()
    };
    let error = Dataset::open(folder, &options).unwrap_err().to_string();
    assert!(error.contains("nose1"), "{error}");
}
