//! `facemark eval`: landmark accuracy on a labelled folder.

use crate::{
    detector_size::DetectorSize,
    engine_arguments::EngineArguments,
    failure::Failure,
    networks::{open_detector, open_landmarker},
    output::{or_dash, print_json, print_line},
};
use clap::{Args, ValueEnum};
use facemark::{
    annotation::Split,
    detector::InputSize,
    evaluation::{EvaluationError, FaceBoxes, LabelledFolder, LandmarkReport, evaluate_landmarks},
    metrics::LandmarkSummary,
};
use std::path::PathBuf;

/// Measure landmark accuracy on a labelled folder
#[derive(Args)]
pub(crate) struct Arguments {
    /// Folder with images/ and annotations.jsonl; several for one figure over all
    #[arg(long, required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// Part of the data: train, val or test
    #[arg(long, default_value = "test")]
    split: Split,
    /// Landmark model [default: the released one]
    #[arg(long)]
    model: Option<PathBuf>,
    /// Where the faces are: in the labelled boxes, or where the detector finds them
    #[arg(long = "box", value_enum, default_value_t = Boxes::Gt)]
    boxes: Boxes,
    /// Face detector, for --box detector [default: the released one]
    #[arg(long)]
    detector: Option<PathBuf>,
    #[command(flatten)]
    detector_size: DetectorSize,
    #[command(flatten)]
    engine: EngineArguments,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Boxes {
    Gt,
    Detector,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let folders: Vec<LabelledFolder> = arguments.data.iter().map(LabelledFolder::new).collect();
    let options = arguments.engine.options();
    let mut landmarker = open_landmarker(arguments.model.as_deref(), &options)?;
    let mut detector = match arguments.boxes {
        Boxes::Gt => None,
        Boxes::Detector => Some(open_detector(
            arguments.detector.as_deref(),
            (&arguments.detector_size, InputSize::STILLS),
            None,
            &options,
        )?),
    };
    let boxes = detector
        .as_mut()
        .map_or(FaceBoxes::Labelled, FaceBoxes::Detected);
    let report = evaluate_landmarks(
        &folders,
        arguments.split,
        &mut landmarker,
        boxes,
        |damaged| eprintln!("skipped: {damaged}"),
    )
    .map_err(failure_of)?;
    if arguments.json {
        return print_json(&report);
    }
    print_report(&report)
}

/// Data that cannot be used are bad input; a network that fails does so while running.
pub(crate) fn failure_of(error: EvaluationError) -> Failure {
    match error {
        EvaluationError::Infer(error) => Failure::running(error),
        error => Failure::input(error),
    }
}

fn print_report(report: &LandmarkReport) -> Result<(), Failure> {
    let boxes = match &report.detector {
        Some(detector) => format!("boxes of {detector}"),
        None => "labelled boxes".to_owned(),
    };
    print_line(&format!(
        "{} ({}), split {}, {boxes}; NME in % of: {}",
        report.model, report.scheme, report.split, report.summary.normalizer
    ))?;
    print_line(&format!(
        "{:<14}{:>7}{:>8}{:>8}{:>8}{:>8}{:>9}{:>8}{:>8}{:>9}",
        "set", "faces", "missed", "NME", "median", "p95", "inner51", "FR@8%", "AUC@8%", "MAE px"
    ))?;
    for (name, summary) in &report.sets {
        print_row(name, summary)?;
    }
    if report.sets.len() > 1 {
        print_row("all", &report.summary)?;
    }
    for (region, nme) in &report.summary.regions {
        print_line(&format!("{region:<14}{nme:>31.2}"))?;
    }
    print_line(&format!(
        "prediction variance ratio {}; {} damaged pictures or labels skipped",
        or_dash(report.prediction_variance_ratio, 3),
        report.damaged.len()
    ))
}

fn print_row(name: &str, summary: &LandmarkSummary) -> Result<(), Failure> {
    print_line(&format!(
        "{name:<14}{:>7}{:>8}{:>8}{:>8}{:>8}{:>9}{:>8}{:>8}{:>9}",
        summary.faces,
        summary.missed,
        or_dash(summary.nme_mean, 2),
        or_dash(summary.nme_median, 2),
        or_dash(summary.nme_p95, 2),
        or_dash(summary.nme_inner51_mean, 2),
        or_dash(summary.fr8, 3),
        or_dash(summary.auc8, 3),
        or_dash(summary.mae_px, 2),
    ))
}
