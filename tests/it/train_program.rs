//! `facemark-train` as a program: interrupt and resume, damaged checkpoints, exit codes.

use facemark::train::checkpoint::{Checkpoint, LATEST};
use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_facemark-train"))
}

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().expect("it runs")
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn fit_arguments(folder: &str) -> Vec<&str> {
    vec![
        "fit",
        "--data",
        "synthetic:3",
        "--architecture",
        "tiny-landmarks",
        "--batch",
        "4",
        "--epochs",
        "100",
        "--steps-per-epoch",
        "40",
        "--device",
        "cpu",
        "--no-report",
        "--output",
        folder,
    ]
}

#[test]
fn an_interrupt_leaves_a_checkpoint_that_resumes() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    let folder = folder.to_str().unwrap();
    let child = program()
        .args(fit_arguments(folder))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = Path::new(folder).join("log.jsonl");
    let began = Instant::now();
    while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains("\"kind\":\"step\"")) {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "no step is logged"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert!(errors(&output).contains("--resume"), "{}", errors(&output));
    let stopped = Checkpoint::read(Path::new(folder)).unwrap().progress;
    assert!(stopped.step > 0 && stopped.epoch < 100);

    let output = run(&[
        "fit",
        "--resume",
        folder,
        "--stop-after",
        "1",
        "--device",
        "cpu",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let resumed = Checkpoint::read(Path::new(folder)).unwrap().progress;
    assert_eq!(
        (resumed.epoch, resumed.step_in_epoch),
        (stopped.epoch + 1, 0)
    );
    assert_eq!(resumed.step, 40 * resumed.epoch as u64);

    damaged_checkpoints_are_refused(Path::new(folder), scratch.path());
}

/// Uses the checkpoint of a training, so that no second one is needed.
fn damaged_checkpoints_are_refused(trained: &Path, scratch: &Path) {
    let bytes = std::fs::read(trained.join(LATEST)).expect("scratch files");
    let folder = scratch.join("cut");
    std::fs::create_dir(&folder).expect("scratch files");
    let cut = folder.join(LATEST);
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).expect("scratch files");
    let (cut, folder) = (
        cut.to_str().expect("scratch files"),
        folder.to_str().expect("scratch files"),
    );
    let model = scratch.join("model.onnx");
    let model = model.to_str().expect("scratch files");
    for arguments in [
        vec!["fit", "--resume", folder],
        vec!["export", "--checkpoint", cut, "--output", model],
        vec!["evaluate", "--checkpoint", cut, "--data", "synthetic:3"],
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let message = errors(&output);
        assert!(
            message.contains(LATEST) && message.contains("damaged"),
            "{message}"
        );
    }
    assert!(!Path::new(model).exists());
}

#[test]
fn bad_arguments_and_files_are_named_with_exit_code_2() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("misspelt.toml"), "bach = 3").unwrap();
    std::fs::write(path("not.onnx"), b"no model").unwrap();
    let output_folder = path("run");
    for (arguments, expected) in [
        (
            vec![
                "fit".to_owned(),
                path("misspelt.toml"),
                "--output".to_owned(),
                output_folder.clone(),
            ],
            "bach",
        ),
        (
            vec![
                "fit".to_owned(),
                "--output".to_owned(),
                output_folder.clone(),
            ],
            "nothing to train",
        ),
        (
            vec!["fit".to_owned(), "--resume".to_owned(), path("nowhere")],
            "nowhere",
        ),
        (
            ["fit", "--data", "synthetic:x", "--output", &output_folder]
                .map(str::to_owned)
                .to_vec(),
            "synthetic:x",
        ),
        (
            vec![
                "fit".to_owned(),
                "--data".to_owned(),
                "synthetic:1".to_owned(),
                "--init".to_owned(),
                path("not.onnx"),
                "--output".to_owned(),
                output_folder.clone(),
            ],
            "not.onnx",
        ),
        (
            vec![
                "evaluate".to_owned(),
                "--model".to_owned(),
                path("missing.onnx"),
                "--data".to_owned(),
                "synthetic:1".to_owned(),
            ],
            "missing.onnx",
        ),
        (
            vec![
                "fit".to_owned(),
                "--data".to_owned(),
                "synthetic:1".to_owned(),
                "--onnxruntime".to_owned(),
                path("libonnxruntime.so"),
                "--output".to_owned(),
                output_folder.clone(),
            ],
            "libonnxruntime.so",
        ),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = run(&arguments);
        let message = errors(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
}

#[test]
fn drawn_faces_are_written_as_a_data_set_that_can_be_measured() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().to_str().unwrap();
    let output = run(&["synthesize", folder, "--seed", "5", "--most", "3"]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    for kind in ["landmarks", "detection"] {
        let labels =
            std::fs::read_to_string(scratch.path().join(kind).join("annotations.jsonl")).unwrap();
        assert_eq!(labels.lines().count(), 9, "{kind}");
    }
}

#[test]
fn the_collapse_study_writes_one_page_with_curves_and_no_pictures() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("study");
    let study = |arguments: &[&str]| {
        let mut all = vec!["recipe", "collapse-study", "--data", "synthetic:3"];
        all.extend(["--device", "cpu", "--output", folder.to_str().unwrap()]);
        all.extend(arguments);
        run(&all)
    };
    let unknown = study(&["--only", "nothing"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", errors(&unknown));
    assert!(
        errors(&unknown).contains("one-pass-batch-5"),
        "{}",
        errors(&unknown)
    );

    let quick = [
        "--only",
        "usual",
        "--only",
        "dead-relus",
        "--share-of-steps",
        "0.02",
    ];
    let output = study(&quick);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let page = std::fs::read_to_string(folder.join("report.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 6, "three curves a run");
    assert!(
        !page.contains("<img") && !page.contains("data:"),
        "no pictures"
    );
    assert!(page.contains("dead ReLUs: "), "what fit said");
    let results = std::fs::read(folder.join("results.json")).unwrap();
    let results: serde_json::Value = serde_json::from_slice(&results).unwrap();
    let names: Vec<&str> = results["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["dead-relus", "usual"]);
    assert_eq!(results["runs"][0]["epochs"].as_array().unwrap().len(), 12);
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
    assert_eq!(left.len(), 2, "the trainings themselves are gone");
}
