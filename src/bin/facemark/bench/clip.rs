//! `facemark bench --pipeline SOURCE`: the live path on a recorded source, frame by frame on one thread, without a window.

use super::{Arguments, Stage, print_stages};
use crate::{
    failure::Failure,
    measure::{peak_rss_bytes, process_cpu_secs},
    networks::{open_detector, open_landmarker},
    output::{or_dash, print_json, print_line},
};
use anyhow::anyhow;
use facemark::{
    detector::InputSize,
    frame::Frame,
    metrics::Percentiles,
    source::{self, Input, SourceKind},
    tracker::{Tracker, TrackerConfig},
};
use serde::Serialize;
use std::{collections::BTreeMap, time::Instant};

#[derive(Serialize)]
struct Report {
    source: String,
    frames: u64,
    frames_with_face: u64,
    detector_runs: u64,
    landmark_runs: u64,
    /// `decode`: the next frame from the source; `tracking`: a frame on which the detector rested, `searching`: one on
    /// which it ran; `frame`: both, which is all that is done for a frame between its decoding and its display.
    stages: BTreeMap<&'static str, Stage>,
    /// From the first model file to the first frame's landmarks, decoding left out, in milliseconds.
    cold_start_ms: Option<f64>,
    kernels: &'static str,
    threads: usize,
    faces: usize,
    peak_rss_bytes: Option<u64>,
}

/// Times of a stage on the clock and on processors, in milliseconds.
#[derive(Default)]
struct Times {
    wall_ms: Vec<f64>,
    cpu_ms: Vec<f64>,
}

impl Times {
    fn add(&mut self, wall_ms: f64, cpu_ms: Option<f64>) {
        self.wall_ms.push(wall_ms);
        self.cpu_ms.extend(cpu_ms);
    }

    fn stage(&self) -> Option<Stage> {
        let cpu = Percentiles::of(&self.cpu_ms);
        Some(Stage {
            wall_ms: Percentiles::of(&self.wall_ms)?,
            cpu_ms: cpu.map(|times| times.mean),
            cpu_p50_ms: cpu.map(|times| times.p50),
        })
    }
}

/// `work`'s value with its time on the clock and on processors, in milliseconds.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64, Option<f64>) {
    let (cpu, wall) = (process_cpu_secs(), Instant::now());
    let value = work();
    let wall_ms = 1e3 * wall.elapsed().as_secs_f64();
    let cpu_ms = process_cpu_secs()
        .zip(cpu)
        .map(|(end, start)| 1e3 * (end - start));
    (value, wall_ms, cpu_ms)
}

pub(super) fn run(source: &str, arguments: &Arguments) -> Result<(), Failure> {
    let input = Input::parse(source, None);
    let mut source = source::open(&input).map_err(Failure::input)?;
    if source.kind() == SourceKind::Live {
        return Err(Failure::input(anyhow!(
            "{}: expected something recorded (demo, a video, a folder), found a camera: its frames cannot be had again",
            source.description()
        )));
    }
    let options = arguments.engine.options();
    let start = Instant::now();
    let mut tracker = Tracker::new(
        open_detector(
            None,
            (&arguments.detector_size, InputSize::Card),
            None,
            &options,
        )?,
        open_landmarker(None, &options)?,
        TrackerConfig {
            max_faces: arguments.faces,
            ..TrackerConfig::default()
        },
    );
    let load_ms = 1e3 * start.elapsed().as_secs_f64();
    let mut times: BTreeMap<&'static str, Times> = BTreeMap::new();
    let mut frame = Frame::default();
    let (mut frames, mut frames_with_face) = (0, 0);
    let mut cold_start_ms = None;
    loop {
        let (next, wall_ms, cpu_ms) = timed(|| source.next(&mut frame));
        let Some(stamp) = next.map_err(Failure::input)? else {
            break;
        };
        times.entry("decode").or_default().add(wall_ms, cpu_ms);
        let searches = tracker.counts().detector_runs;
        let (faces, wall_ms, cpu_ms) =
            timed(|| tracker.update(&frame, stamp.time_secs).map(<[_]>::len));
        let faces = faces.map_err(Failure::running)?;
        frames += 1;
        frames_with_face += u64::from(faces > 0);
        if frames == 1 && faces > 0 {
            cold_start_ms = Some(load_ms + wall_ms);
        }
        let doing = match tracker.counts().detector_runs > searches {
            true => "searching",
            false => "tracking",
        };
        for name in [doing, "frame"] {
            times.entry(name).or_default().add(wall_ms, cpu_ms);
        }
    }
    let counts = tracker.counts();
    let report = Report {
        source: source.description(),
        frames,
        frames_with_face,
        detector_runs: counts.detector_runs,
        landmark_runs: counts.landmark_runs,
        stages: times
            .iter()
            .filter_map(|(&name, times)| Some((name, times.stage()?)))
            .collect(),
        cold_start_ms,
        kernels: options.kernel_set().name(),
        threads: options.threads,
        faces: arguments.faces,
        peak_rss_bytes: peak_rss_bytes(),
    };
    if arguments.json {
        return print_json(&report);
    }
    print_line(&format!(
        "{}: {} frames, {} with a face; the detector ran {} times, the landmark network {} times",
        report.source,
        report.frames,
        report.frames_with_face,
        report.detector_runs,
        report.landmark_runs
    ))?;
    print_stages(&report.stages)?;
    let mebibytes = |bytes: u64| bytes as f64 / 1_048_576.0;
    print_line(&format!(
        "first landmarks {} ms after the models' files were opened, integer kernels {}, peak memory {} MiB",
        or_dash(report.cold_start_ms, 1),
        report.kernels,
        or_dash(report.peak_rss_bytes.map(mebibytes), 1)
    ))
}
