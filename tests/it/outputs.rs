//! Several outputs of `facemark run` at once, as whoever reads them gets them; what one that ends or fails does to the
//! others; faces that are hidden.

use crate::{
    fixtures::root,
    live::{Desk, json_lines, text},
};
use facemark::{frame::Frame, picture};
use rosc::{OscPacket, OscType};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    net::UdpSocket,
    process::{Command, Stdio},
    time::Duration,
};

/// A socket that a program can send to, and its address.
fn receiver() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a limit");
    let address = socket.local_addr().expect("an address").to_string();
    (socket, address)
}

fn datagram(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 16];
    let length = socket.recv(&mut bytes).expect("a datagram");
    bytes.truncate(length);
    bytes
}

#[test]
fn all_outputs_run_together_and_agree() {
    let desk = Desk::new();
    let ((udp, udp_address), (osc, osc_address)) = (receiver(), receiver());
    let output = desk.run(&format!(
        "run --input demo --no-window --frames 8 --json - --udp {udp_address} --osc {osc_address} --osc-names arkit \
         --output pictures --record record.y4m --snapshot-dir shots --snapshot-every 0.1 --overlay mesh --blur"
    ));
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{err}");
    let lines: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("nothing but objects"))
        .collect();
    assert_eq!(lines.len(), 8);
    // The summary goes where it does not disturb.
    for words in [
        "8 analysed",
        &format!("{udp_address} (8 datagrams)"),
        &format!("{osc_address} (8 datagrams)"),
        "record.y4m (8 frames)",
        "3 snapshots in shots",
    ] {
        assert!(err.contains(words), "{words}: {err}");
    }
    for line in &lines {
        let sent: Value = serde_json::from_slice(&datagram(&udp)).expect("JSON");
        assert_eq!(sent, *line);
        let bytes = datagram(&osc);
        let (_, packet) = rosc::decoder::decode_udp(&bytes).expect("OSC");
        let OscPacket::Bundle(bundle) = packet else {
            panic!("a bundle: {packet:?}");
        };
        let OscPacket::Message(first) = &bundle.content[0] else {
            panic!("a message: {bundle:?}");
        };
        assert_eq!(first.addr, "/VMC/Ext/OK");
        let faces = line["faces"].as_array().expect("faces");
        assert_eq!(first.args, [OscType::Int((!faces.is_empty()).into())]);
    }
    let count = |folder: &str| fs::read_dir(desk.path(folder)).expect("a folder").count();
    assert_eq!((count("pictures"), count("shots")), (8, 3));
    desk.run_well("run --input record.y4m --no-window --json again.jsonl");
    assert_eq!(json_lines(&desk.path("again.jsonl")).len(), 8);
}

#[test]
fn an_output_that_fails_is_named_and_the_others_are_complete() {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).expect("a folder");
    for (name, width) in [("a", 64), ("b", 64), ("c", 96), ("d", 96)] {
        let path = desk.path("in").join(name).with_extension("png");
        picture::save(&Frame::new(width, 48), &path).expect("a picture");
    }
    let output = desk
        .run("run --input in --no-window --record one-size.y4m --output pictures --json out.jsonl");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert_eq!(json_lines(&desk.path("out.jsonl")).len(), 4);
    let pictures = fs::read_dir(desk.path("pictures")).expect("a folder");
    assert_eq!(pictures.count(), 4);
    // Whole or not at all.
    assert!(!desk.path("one-size.y4m").exists());
    assert!(
        out.contains("failed          output one-size.y4m") && out.contains("frame 2 is 96x48"),
        "{out}"
    );
    assert!(err.contains("output one-size.y4m is closed"), "{err}");
}

#[test]
fn a_reader_that_leaves_ends_a_run_that_nobody_else_needs() {
    let desk = Desk::new();
    let mut child = desk
        .command("run --input demo --no-window --json -")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("facemark starts");
    let mut reader = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    assert!(line.starts_with("{\"frame\":0"), "{line}");
    drop(reader);
    let output = child.wait_with_output().expect("it ends");
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{err}");
    // The whole demo has 600.
    assert!(!err.contains("600 analysed"), "{err}");
}

#[test]
fn addresses_and_kinds_are_checked_before_anything_runs() {
    let desk = Desk::new();
    for (option, words) in [
        ("--udp nowhere", "expected HOST:PORT"),
        ("--osc 127.0.0.1:0", "expected HOST:PORT"),
        ("--overlay lines", "points, contours, mesh, none"),
        ("--snapshot-every 1", "--snapshot-dir"),
        ("--snapshot-dir s --snapshot-every 0", "positive number"),
        ("--record no/such/folder/a.y4m", "no/such/folder/a.y4m"),
    ] {
        let output = desk.run(&format!("run --input demo --no-window {option}"));
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{option}: {err}");
        assert!(err.contains(words), "{option}: {err}");
    }
}

#[test]
fn a_name_with_a_slash_is_a_folder_of_pictures() {
    let desk = Desk::new();
    desk.run_well("run --input demo --no-window --frames 2 --output NAME.mp4/");
    assert!(desk.path("NAME.mp4/frame-000001.jpg").is_file());
}

/// With the released models, on a real face: after blurring, neither detector nor landmark network knows of it.
#[test]
fn a_blurred_face_is_found_by_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let portrait = root().join("samples/astronaut.jpg");
    let faces = |input: &std::path::Path, more: &[&str]| -> usize {
        let json = folder.path().join("out.jsonl");
        let output = Command::new(env!("CARGO_BIN_EXE_facemark"))
            .args(["run", "--no-window", "--overlay", "none", "--input"])
            .arg(input)
            .arg("--json")
            .arg(&json)
            .args(more)
            .current_dir(root())
            .output()
            .expect("facemark starts");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let lines = json_lines(&json);
        lines[0]["faces"].as_array().expect("faces").len()
    };
    let hidden = folder.path().join("hidden.png");
    let plain = folder.path().join("plain.png");
    let path = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    assert!(faces(&portrait, &["--blur", "--output", &path(&hidden)]) > 0);
    assert!(faces(&portrait, &["--output", &path(&plain)]) > 0);
    assert!(faces(&plain, &[]) > 0);
    assert_eq!(faces(&hidden, &[]), 0);
}
