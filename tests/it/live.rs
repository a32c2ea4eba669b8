//! `facemark run`, `live` and `cameras` as a user meets them, with tiny networks that always see the same face.

use crate::tiny_model;
use facemark::{frame::Frame, onnx::ModelProto, picture};
use prost::Message;
use serde_json::Value;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

pub(crate) struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let desk = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        fs::write(desk.path("landmarks.onnx"), tiny_model::landmarks()).expect("written");
        fs::write(desk.path("detector.onnx"), detector()).expect("written");
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `facemark` with `arguments` (words between spaces) and the tiny networks, in the folder, without a display.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_facemark"));
        command
            .args(arguments.split_whitespace())
            .args(["--model", "landmarks.onnx", "--detector", "detector.onnx"])
            .current_dir(self.folder.path())
            .env_remove("DISPLAY")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().expect("facemark starts")
    }

    /// As `run`; must end well. What it printed: standard output, standard error.
    pub(crate) fn run_well(&self, arguments: &str) -> (String, String) {
        let output = self.run(arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{arguments}: {out}{err}");
        (out, err)
    }
}

/// The tiny detector with boxes of a third of its input, which lie inside the frame.
fn detector() -> Vec<u8> {
    let mut model = ModelProto::decode(tiny_model::detector().as_slice()).expect("a model");
    let graph = model.graph.as_mut().expect("a graph");
    let bias = graph
        .initializer
        .iter_mut()
        .find(|tensor| tensor.name.as_deref() == Some("bb"))
        .expect("the bias of the boxes");
    // Logarithms of width and height in cells of half the input.
    let size = (2.0f32 / 3.0).ln();
    let values = [0.0, 0.0, size, size];
    bias.raw_data = Some(
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    );
    model.encode_to_vec()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn json_lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path)
        .expect("JSON lines")
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect()
}

fn keys(object: &Value) -> Vec<&str> {
    let map = object.as_object().expect("an object");
    let mut keys: Vec<&str> = map.keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn the_demo_gives_a_line_a_frame_and_a_summary() {
    let desk = Desk::new();
    let (out, _) = desk.run_well("run --input demo --no-window --frames 12 --json out.jsonl");
    let lines = json_lines(&desk.path("out.jsonl"));
    assert_eq!(lines.len(), 12);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(keys(line), ["dropped", "faces", "frame", "time_secs"]);
        assert_eq!(line["frame"], index);
        assert_eq!(line["dropped"], 0);
        let time_secs = line["time_secs"].as_f64().expect("a number");
        assert!((time_secs - index as f64 / 30.0).abs() < 1e-9);
        for face in line["faces"].as_array().expect("faces") {
            assert_eq!(
                keys(face),
                [
                    "box",
                    "confidence",
                    "expected_errors_px",
                    "id",
                    "landmarks",
                    "pose",
                    "score",
                    "signals"
                ]
            );
            assert!(face["id"].as_u64() >= Some(1));
            assert_eq!(face["box"].as_array().map(Vec::len), Some(4));
            assert_eq!(keys(&face["pose"]), ["pitch", "roll", "yaw"]);
            assert_eq!(
                keys(&face["signals"]),
                [
                    "blink",
                    "blinks",
                    "eyes_closed",
                    "left_eye",
                    "mouth",
                    "right_eye"
                ]
            );
            let landmarks = face["landmarks"].as_array().expect("landmarks");
            assert_eq!(landmarks.len(), 68);
            assert_eq!(landmarks[0].as_array().map(Vec::len), Some(2));
        }
    }
    // What the tiny networks see shrinks from frame to frame, so it is lost and found again later on.
    assert_eq!(lines[0]["faces"][0]["id"], 1);
    for words in [
        "12 analysed",
        "latency         p50",
        "tracking error  mean",
        "written         out.jsonl",
        "tiny-landmarks",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
}

#[test]
fn without_a_display_annotated_frames_are_written_and_named() {
    let desk = Desk::new();
    let (out, err) = desk.run_well("run --input demo --frames 3");
    assert!(err.contains("no window"), "{err}");
    let name = out
        .lines()
        .find_map(|line| line.strip_prefix("written"))
        .expect("what was written")
        .trim()
        .to_owned();
    let (video, pictures) = (desk.path("out/demo.mp4"), desk.path("out/demo"));
    assert!(
        name.contains("out/demo") && (video.is_file() || pictures.is_dir()),
        "{name}"
    );
}

#[test]
fn an_annotated_video_can_be_watched_again() {
    let desk = Desk::new();
    desk.run_well("run --input demo --no-window --frames 4 --output a.y4m");
    desk.run_well("run --input a.y4m --no-window --json b.jsonl --output pictures");
    assert_eq!(json_lines(&desk.path("b.jsonl")).len(), 4);
    let frame = picture::load(&desk.path("pictures/frame-000003.jpg")).expect("a picture");
    assert_eq!((frame.width(), frame.height()), (640, 480));
}

#[test]
fn raw_pixels_come_through_a_pipe() {
    let desk = Desk::new();
    for (bytes, code, lines) in [(3 * 48 * 40 * 3, 0, 3), (2 * 48 * 40 * 3 + 5, 2, 2)] {
        let mut child = desk
            .command("run --input - --size 48x40 --fps 5 --no-window --json out.jsonl")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("facemark starts");
        let mut pipe = child.stdin.take().expect("a pipe");
        pipe.write_all(&vec![99; bytes]).expect("written");
        drop(pipe);
        let output = child.wait_with_output().expect("it ends");
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{err}");
        // What was whole is kept.
        let found = json_lines(&desk.path("out.jsonl"));
        assert_eq!(found.len(), lines);
        if code == 2 {
            assert!(
                err.contains("frame 2: expected 5760 bytes, found 5"),
                "{err}"
            );
        } else {
            assert_eq!(found[2]["time_secs"], 0.4);
        }
    }
}

#[test]
fn damaged_pictures_of_a_folder_are_named_and_skipped() {
    let desk = Desk::new();
    fs::create_dir(desk.path("pictures")).expect("a folder");
    let frame = Frame::from_rgb(64, 48, vec![120; 64 * 48 * 3]).expect("bytes");
    for name in ["pictures/a.png", "pictures/c.jpg"] {
        picture::save(&frame, &desk.path(name)).expect("a picture");
    }
    let whole = fs::read(desk.path("pictures/c.jpg")).expect("bytes");
    fs::write(desk.path("pictures/b.jpg"), &whole[..whole.len() / 2]).expect("written");
    let (out, _) = desk.run_well("run --input pictures --no-window --output drawn");
    assert!(
        out.contains("2 analysed") && out.contains("pictures/b.jpg"),
        "{out}"
    );
    assert!(desk.path("drawn/a.jpg").is_file() && desk.path("drawn/c.jpg").is_file());
}

#[test]
fn a_missing_camera_is_said_with_what_was_looked_for_and_what_to_do() {
    let desk = Desk::new();
    let output = desk.run("live --camera 63");
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    if cfg!(feature = "camera") {
        assert!(
            err.contains("no camera 63") && err.contains("/dev/video"),
            "{err}"
        );
    }
    assert!(err.contains("facemark run --input demo"), "{err}");
}

/// Ctrl-C in the middle: the run ends well, with its summary and whole files.
#[cfg(unix)]
#[test]
fn an_interrupt_ends_with_the_summary() {
    let desk = Desk::new();
    let child = desk
        .command("run --input demo --realtime --no-window --json out.jsonl --output out.y4m")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("facemark starts");
    std::thread::sleep(std::time::Duration::from_secs(3));
    let interrupted = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .expect("kill starts");
    assert!(interrupted.success());
    let output = child.wait_with_output().expect("it ends");
    let out = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{out}{}",
        text(&output.stderr)
    );
    let lines = json_lines(&desk.path("out.jsonl"));
    // The demo has 600 frames in 20 seconds.
    assert!(!lines.is_empty() && lines.len() < 550, "{}", lines.len());
    assert!(out.contains(&format!("{} analysed", lines.len())), "{out}");
    assert!(desk.path("out.y4m").is_file());
}
