//! The runtime opens no socket but those of `--udp` and `--osc`. Windows are left out: the window system is behind a
//! socket of this machine.

#![cfg(target_os = "linux")]

use crate::live::{Desk, text};
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

/// The sockets that a process holds, as `/proc` names them.
fn sockets_of(process: &str) -> BTreeSet<String> {
    let folder = format!("/proc/{process}/fd");
    let descriptors = fs::read_dir(folder).expect("descriptors").flatten();
    descriptors
        // One may be closed between the two looks.
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .filter(|link| link.starts_with("socket:"))
        .collect()
}

/// Sockets that facemark held while it followed a stream with `options`, inherited ones aside.
fn sockets_while_running(options: &str) -> BTreeSet<String> {
    const FRAME: usize = 64 * 48 * 3;
    let desk = Desk::new();
    let mut child = desk
        .command(&format!(
            "run --input - --size 64x48 --fps 25 --no-window --json - {options}"
        ))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("facemark starts");
    let mut frames = child.stdin.take().expect("a pipe");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let inherited = sockets_of("self");
    let mut seen = BTreeSet::new();
    for _ in 0..10 {
        frames.write_all(&[99; FRAME]).expect("a frame");
        let mut line = String::new();
        lines.read_line(&mut line).expect("its line");
        assert!(line.starts_with('{'), "{line}");
        seen.extend(sockets_of(&child.id().to_string()));
    }
    drop(frames);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", text(&output.stderr));
    seen.difference(&inherited).cloned().collect()
}

#[test]
fn no_socket_is_held_unless_datagrams_are_asked_for() {
    let without = "--record record.y4m --output pictures --snapshot-dir shots --snapshot-every 0.1";
    assert_eq!(sockets_while_running(without), BTreeSet::new());
    for (with, count) in [
        ("--udp 127.0.0.1:9", 1),
        ("--osc 127.0.0.1:9 --udp 127.0.0.1:9", 2),
    ] {
        assert_eq!(sockets_while_running(with).len(), count, "{with}");
    }
}

/// What the system was asked for, of everything that has to do with networks, by a run with `options` and by whatever it
/// started.
fn network_calls(options: &str) -> Vec<String> {
    let desk = Desk::new();
    let command = desk.command(&format!(
        "run --input demo --no-window --frames 4 --json out.jsonl {options}"
    ));
    let trace = desk.path("trace");
    let output = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=network", "-e", "signal=none"])
        .arg("-o")
        .arg(&trace)
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(desk.path(""))
        .env_remove("DISPLAY")
        .stdin(Stdio::null())
        .output()
        .expect("strace starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let calls = fs::read_to_string(trace).expect("a trace");
    calls
        .lines()
        .filter(|line| !line.contains("+++ exited"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_system_is_asked_for_no_socket_unless_datagrams_are_asked_for() {
    let works = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !works {
        println!("skipped: strace is not installed, or may not trace here");
        return;
    }
    let without = "--record record.y4m --output pictures --snapshot-dir shots --blur";
    assert_eq!(network_calls(without), Vec::<String>::new());
    let calls = network_calls("--udp 127.0.0.1:9");
    assert!(
        calls.iter().any(|call| call.contains("socket(AF_INET")),
        "{calls:?}"
    );
    // By number: no names are asked for, and nothing but datagrams is sent.
    assert!(
        !calls.iter().any(|call| call.contains("SOCK_STREAM")),
        "{calls:?}"
    );
}
