//! Curves as SVG: loss and validation over the epochs, the cumulative error distribution.

use super::Report;
use crate::{
    metrics::{CedPoint, FAILURE_NME},
    train::{
        evaluate::Evaluation,
        progress::{EpochRecord, Validation},
    },
};
use plotters::{
    chart::ChartBuilder,
    drawing::IntoDrawingArea,
    prelude::{LineSeries, PathElement, RGBColor, SVGBackend},
    style::{Color, WHITE},
};
use std::fmt::Display;

const SIZE: (u32, u32) = (900, 420);

/// Steps of the cumulative error distribution.
const CED_STEPS: usize = 160;

/// Okabe and Ito's, which colour-blind readers can tell apart.
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(110, 110, 110),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// A picture of one or more curves.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// Name of the file, where it becomes one.
    pub file: &'static str,
    /// What it shows.
    pub caption: String,
    /// What the abscissa is.
    pub x: &'static str,
    /// What the ordinate is.
    pub y: &'static str,
    /// The curves with their names.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// The charts of a report; those without points are left out.
pub(super) fn all(report: &Report<'_>) -> Vec<Chart> {
    of_history(report.history)
        .into_iter()
        .chain(ced(report).filter(has_a_line))
        .collect()
}

/// Loss and validation over the epochs, where there are several.
pub(super) fn of_history(history: &[EpochRecord]) -> Vec<Chart> {
    [loss(history), validation(history)]
        .into_iter()
        .flatten()
        .filter(has_a_line)
        .collect()
}

fn has_a_line(chart: &Chart) -> bool {
    chart.lines.iter().any(|(_, points)| points.len() > 1)
}

fn loss(history: &[EpochRecord]) -> Option<Chart> {
    let points = history
        .iter()
        .map(|record| (record.epoch as f64, record.loss))
        .collect();
    Some(Chart {
        file: "loss.svg",
        caption: "Mean training loss of each epoch".to_owned(),
        x: "epoch",
        y: "loss",
        lines: vec![("loss".to_owned(), points)],
    })
}

fn validation(history: &[EpochRecord]) -> Option<Chart> {
    let results: Vec<(f64, &Validation)> = history
        .iter()
        .filter_map(|record| Some((record.epoch as f64, record.validation.as_ref()?)))
        .collect();
    let curve = |value: &dyn Fn(&Validation) -> Option<f64>| -> Vec<(f64, f64)> {
        results
            .iter()
            .filter_map(|&(epoch, result)| Some((epoch, value(result)?)))
            .filter(|(_, value)| value.is_finite())
            .collect()
    };
    Some(match results.first()?.1 {
        Validation::Landmarks(_) => Chart {
            file: "nme.svg",
            caption: "Validation NME after each epoch, in percent, beside the mean shape, which does not look"
                .to_owned(),
            x: "epoch",
            y: "NME in percent",
            lines: vec![
                (
                    "mean".to_owned(),
                    curve(&|result| landmarks(result)?.summary.nme_mean),
                ),
                (
                    "median".to_owned(),
                    curve(&|result| landmarks(result)?.summary.nme_median),
                ),
                (
                    "mean shape".to_owned(),
                    curve(&|result| landmarks(result)?.baseline_nme_mean),
                ),
            ],
        },
        Validation::Detector(_) => Chart {
            file: "detection.svg",
            caption: "Recall and precision at IoU 0.5 and false positives a face-free picture after each epoch"
                .to_owned(),
            x: "epoch",
            y: "",
            lines: vec![
                ("recall".to_owned(), curve(&|result| detector(result)?.recall50)),
                ("precision".to_owned(), curve(&|result| detector(result)?.precision)),
                (
                    "false positives a face-free picture".to_owned(),
                    curve(&|result| detector(result)?.false_positives_per_face_free_image),
                ),
            ],
        },
    })
}

fn landmarks(result: &Validation) -> Option<&crate::train::progress::LandmarkValidation> {
    match result {
        Validation::Landmarks(result) => Some(result),
        Validation::Detector(_) => None,
    }
}

fn detector(result: &Validation) -> Option<&crate::metrics::DetectionSummary> {
    match result {
        Validation::Detector(result) => Some(&result.summary),
        Validation::Landmarks(_) => None,
    }
}

fn ced(report: &Report<'_>) -> Option<Chart> {
    let Evaluation::Landmarks(result) = report.evaluation else {
        return None;
    };
    let errors: Vec<f64> = result.faces.iter().map(|face| face.error.nme).collect();
    let missed = result.validation.summary.missed;
    let limit = 2.0 * FAILURE_NME;
    let points = CedPoint::curve(&errors, missed, limit, CED_STEPS)
        .into_iter()
        .map(|point| (point.nme, point.fraction))
        .collect();
    Some(Chart {
        file: "ced.svg",
        caption: format!(
            "Cumulative error distribution of {} faces: the part whose NME (over {}) is at most the abscissa",
            result.validation.summary.faces, result.validation.summary.normalizer
        ),
        x: "NME in percent",
        y: "part of the faces",
        lines: vec![("faces".to_owned(), points)],
    })
}

impl Chart {
    /// The chart as SVG.
    ///
    /// # Errors
    /// In the drawing library's words.
    pub fn draw(&self) -> Result<String, String> {
        fn words(error: impl Display) -> String {
            error.to_string()
        }
        let values = || self.lines.iter().flat_map(|(_, points)| points);
        let x_range = range(values().map(|&(x, _)| x));
        let mut y_range = range(values().map(|&(_, y)| y));
        y_range.start = y_range.start.min(0.0);
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            area.fill(&WHITE).map_err(words)?;
            let mut chart = ChartBuilder::on(&area)
                .margin(12)
                .x_label_area_size(40)
                .y_label_area_size(60)
                .build_cartesian_2d(x_range, y_range)
                .map_err(words)?;
            chart
                .configure_mesh()
                .x_desc(self.x)
                .y_desc(self.y)
                .light_line_style(WHITE)
                .bold_line_style(RGBColor(225, 225, 225))
                .label_style(("sans-serif", 15))
                .axis_desc_style(("sans-serif", 16))
                .draw()
                .map_err(words)?;
            for ((name, points), color) in self.lines.iter().zip(COLORS.into_iter().cycle()) {
                let style = color.stroke_width(2);
                chart
                    .draw_series(LineSeries::new(points.iter().copied(), style))
                    .map_err(words)?
                    .label(name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
            }
            chart
                .configure_series_labels()
                .label_font(("sans-serif", 16))
                .background_style(WHITE.mix(0.8))
                .border_style(COLORS[2])
                .draw()
                .map_err(words)?;
            area.present().map_err(words)?;
        }
        Ok(svg)
    }
}

/// From the smallest to the largest value, with some width even for one value.
fn range(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low < high {
        low..high
    } else if low.is_finite() {
        low..low + 1.0
    } else {
        0.0..1.0
    }
}
