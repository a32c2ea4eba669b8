//! Tracking of one face on one thread: CPU time a frame, jitter and lag, raw and smoothed; the smoothing filter's parameters
//! against both; the landmark network's confidence in faces and in what is none. It is how the defaults of
//! `facemark::smoothing` and `facemark::landmarker` were chosen, and exists to catch a change that makes landmarks tremble
//! or lag, or a frame dear.
//!
//!     cargo bench --bench tracking -- measure SOURCE... [--json FILE]
//!     cargo bench --bench tracking -- sweep SOURCE... > benches/tracking/smoothing.csv
//!     cargo bench --bench tracking -- confidence DATA > confidence.csv

#![expect(clippy::print_stdout, reason = "a program that prints its tables")]

mod clip;
mod confidence;
mod figures;
mod sweep;

use anyhow::{Context, bail};
use facemark::{
    detector::{Detector, DetectorConfig},
    engine::{Engine, EngineOptions},
    landmarker::Landmarker,
};
use std::path::Path;

pub(crate) fn detector() -> anyhow::Result<Detector<Engine>> {
    let engine = load("face-detector-int8.onnx")?;
    Ok(Detector::new(engine, DetectorConfig::default())?)
}

pub(crate) fn landmarker() -> anyhow::Result<Landmarker<Engine>> {
    Ok(Landmarker::new(load("landmarks68-int8.onnx")?)?)
}

fn load(name: &str) -> anyhow::Result<Engine> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("models")
        .join(name);
    Engine::load_with(&path, &EngineOptions::default()).with_context(|| path.display().to_string())
}

fn main() -> anyhow::Result<()> {
    // `cargo bench` adds `--bench`.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    match arguments.split_first() {
        Some((command, rest)) if command == "measure" => measure(rest),
        Some((command, rest)) if command == "sweep" => sweep::run(rest),
        Some((command, [data])) if command == "confidence" => confidence::run(Path::new(data)),
        // `cargo test --benches` and `cargo bench` without arguments come by here.
        None => {
            eprintln!(
                "usage: tracking measure SOURCE... [--json FILE] | sweep SOURCE... | confidence DATA"
            );
            Ok(())
        }
        Some((command, _)) => bail!("unknown command {command:?}"),
    }
}

fn measure(arguments: &[String]) -> anyhow::Result<()> {
    let (sources, json) = match arguments {
        [sources @ .., flag, path] if flag == "--json" => (sources, Some(path)),
        sources => (sources, None),
    };
    let mut reports = Vec::new();
    for source in sources {
        let clip = clip::Clip::track(source)?;
        let report = figures::Report::of(source, &clip);
        println!("{report}");
        reports.push(report);
    }
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_string(&reports)?).with_context(|| path.clone())?;
    }
    Ok(())
}
