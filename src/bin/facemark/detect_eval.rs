//! `facemark detect-eval`: how many faces the detector finds, and how many that are none.

use crate::{
    detector_size::DetectorSize,
    engine_arguments::EngineArguments,
    eval::failure_of,
    failure::Failure,
    networks::{open_detector, open_landmarker},
    output::{or_dash, print_json, print_line},
};
use clap::Args;
use facemark::{
    annotation::Split,
    detector::InputSize,
    evaluation::{DetectionFigures, DetectionReport, Judge, LabelledFolder, evaluate_detector},
    finder::Acceptance,
};
use std::path::{Path, PathBuf};

/// Scores below this do not change the average precision in the digits that are shown.
const LOWEST_SCORE: f32 = 0.02;
/// In the place of a landmark model: the detector alone.
const NONE: &str = "none";

/// Measure the face detector on a labelled folder
#[derive(Args)]
pub(crate) struct Arguments {
    /// Folder with images/ and annotations.jsonl, a record a picture; several for one figure over all
    #[arg(long, required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// Part of the data: train, val or test
    #[arg(long, default_value = "test")]
    split: Split,
    /// Face detector [default: the released one]
    #[arg(long)]
    model: Option<PathBuf>,
    /// Landmark model that confirms detections, as `run` has it, or `none`: then the scores are the detector's own, else
    /// the probabilities of both networks [default: the released one; with --model none]
    #[arg(long, value_name = "FILE|none")]
    landmarks: Option<PathBuf>,
    /// Score from which a detection counts, 0 to 1 [default: the one that `run` uses for pictures]
    #[arg(long, value_parser = score)]
    threshold: Option<f32>,
    #[command(flatten)]
    detector_size: DetectorSize,
    #[command(flatten)]
    engine: EngineArguments,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn score(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let folders: Vec<LabelledFolder> = arguments.data.iter().map(LabelledFolder::new).collect();
    let options = arguments.engine.options();
    let mut landmarker = match arguments.landmarks.as_deref() {
        Some(path) if path == Path::new(NONE) => None,
        None if arguments.model.is_some() => None,
        given => Some(open_landmarker(given, &options)?),
    };
    let threshold = arguments.threshold.unwrap_or(match landmarker {
        Some(_) => Acceptance::STILLS.probability,
        None => Acceptance::SCORE_ALONE,
    });
    let mut detector = open_detector(
        arguments.model.as_deref(),
        (&arguments.detector_size, InputSize::STILLS),
        landmarker.is_none().then_some(LOWEST_SCORE.min(threshold)),
        &options,
    )?;
    let judge = landmarker
        .as_mut()
        .map_or(Judge::Detector, Judge::Landmarker);
    let report = evaluate_detector(
        &folders,
        arguments.split,
        &mut detector,
        judge,
        threshold,
        |damaged| eprintln!("skipped: {damaged}"),
    )
    .map_err(failure_of)?;
    if arguments.json {
        return print_json(&report);
    }
    print_report(&report)
}

fn print_report(report: &DetectionReport) -> Result<(), Failure> {
    let confirmed = match &report.landmarks {
        Some(landmarks) => format!(" confirmed by {landmarks}"),
        None => String::new(),
    };
    print_line(&format!(
        "{}{confirmed}, split {}, score from {}; ct: by the box's middle; FP: false positives a picture; [95 % bootstrap interval]",
        report.model, report.split, report.figures.summary.score_threshold
    ))?;
    print_line(&format!(
        "{:<16}{:>7}{:>7}{:>22}{:>9}{:>22}{:>10}{:>7}{:>22}{:>22}{:>7}",
        "set",
        "images",
        "faces",
        "rec@0.5",
        "rec@0.3",
        "rec ct",
        "precision",
        "FP",
        "FP face-free",
        "AP@0.5",
        "AP ct"
    ))?;
    for (name, figures) in report.sets.iter().chain(&report.box_kinds) {
        print_row(name, figures)?;
    }
    print_row("all", &report.figures)?;
    print_line(&format!(
        "{} damaged pictures or labels skipped",
        report.damaged.len()
    ))
}

fn print_row(name: &str, figures: &DetectionFigures) -> Result<(), Failure> {
    let (summary, intervals) = (&figures.summary, &figures.intervals95);
    print_line(&format!(
        "{name:<16}{:>7}{:>7}{:>22}{:>9}{:>22}{:>10}{:>7}{:>22}{:>22}{:>7}",
        summary.images,
        summary.faces,
        with_interval(summary.recall50, intervals.recall50),
        or_dash(summary.recall30, 3),
        with_interval(summary.recall_center, intervals.recall_center),
        or_dash(summary.precision, 3),
        or_dash(summary.false_positives_per_image, 3),
        with_interval(
            summary.false_positives_per_face_free_image,
            intervals.false_positives_per_face_free_image
        ),
        with_interval(summary.ap50, intervals.ap50),
        or_dash(summary.ap_center, 3),
    ))
}

/// `0.950 [0.900, 0.980]`
fn with_interval(value: Option<f64>, interval: Option<[f64; 2]>) -> String {
    let value = or_dash(value, 3);
    match interval {
        Some([low, high]) => format!("{value} [{low:.3}, {high:.3}]"),
        None => value,
    }
}
