//! What a quantisation costs, measured: landmark errors of a float model and of its int8 forms on the same faces, each
//! with a confidence interval and face by face against the float model; and where the rounding noise comes from.

mod noise;
mod page;
mod plot;

pub use noise::{LayerNoise, layer_noise};

use crate::{
    metrics::{bootstrap_mean_interval, mean, percentile, worst_decile_mean},
    model::ModelCard,
    train::{
        evaluate::{Cases, EvaluateError, Evaluation},
        graph::Graph,
        report::ReportError,
        session::Device,
        whole_file::write_whole,
    },
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Resamples and seed of the confidence intervals, fixed so that a report can be reproduced.
const BOOTSTRAP: (usize, u64) = (10_000, 1);

/// A model to measure.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// What it is called in the report.
    pub name: String,
    /// The float model it is compared with, by its name in the report; `None` for a float model.
    pub reference: Option<String>,
    /// The model.
    pub graph: &'a Graph,
    /// Size of its file.
    pub bytes: usize,
}

/// The errors of one model. All in percent of the distance of the outer eye corners (or what the scheme is normalised
/// by).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeasuredModel {
    /// Its name.
    pub name: String,
    /// Size of its file.
    pub bytes: usize,
    /// Mean NME.
    pub nme_mean: f64,
    /// 95 % bootstrap interval of `nme_mean`.
    pub nme_mean_interval95: [f64; 2],
    /// Median NME.
    pub nme_median: f64,
    /// Mean NME of the worst tenth of the faces.
    pub nme_worst_decile: f64,
    /// Share of faces with an NME above 8 %.
    pub fr8: Option<f64>,
    /// Mean NME a region of the face.
    pub regions: BTreeMap<String, f64>,
    /// The same faces against a float model.
    pub loss: Option<Loss>,
    /// NME of each face.
    #[serde(skip)]
    faces: Vec<f64>,
}

/// How much worse than a float model, face by face.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Loss {
    /// The float model.
    pub reference: String,
    /// Mean of NME minus the float model's NME.
    pub difference_mean: f64,
    /// 95 % bootstrap interval of `difference_mean`, of pairs.
    pub difference_interval95: [f64; 2],
    /// `difference_mean` over the float model's mean NME, in percent.
    pub relative_percent: f64,
}

/// A report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuantizationReport {
    /// Name of the model.
    pub model: String,
    /// The data, as given.
    pub data: Vec<String>,
    /// Part of the data.
    pub split: String,
    /// Faces measured.
    pub faces: usize,
    /// What errors are normalised by.
    pub normalizer: String,
    /// The models, float ones first.
    pub models: Vec<MeasuredModel>,
    /// The model whose layers `layers` are of.
    pub layers_of: Option<String>,
    /// Signal over rounding noise in its layers, in their order.
    pub layers: Vec<LayerNoise>,
}

/// Measures a model on the faces of `cases`; `measured` are earlier ones, among them its reference.
///
/// # Errors
/// The model is not of landmarks, has no measurable face, or does not run.
pub fn measure(
    subject: &Subject<'_>,
    card: &ModelCard,
    cases: &Cases,
    threads: usize,
    measured: &[MeasuredModel],
) -> Result<MeasuredModel, EvaluateError> {
    let evaluation = cases.evaluate(subject.graph, card, Device::Cpu, threads)?;
    let Evaluation::Landmarks(result) = evaluation else {
        return Err(EvaluateError::NoCases {
            expected: "faces of a landmark model".to_owned(),
        });
    };
    let summary = &result.validation.summary;
    let faces: Vec<f64> = result.faces.iter().map(|face| face.error.nme).collect();
    let no_faces = || EvaluateError::NoCases {
        expected: "faces with a measurable error".to_owned(),
    };
    let mut sorted = faces.clone();
    sorted.sort_by(f64::total_cmp);
    let (resamples, seed) = BOOTSTRAP;
    let reference = subject.reference.as_ref().and_then(|name| {
        let found = measured.iter().find(|model| model.name == *name)?;
        Loss::of(name, &faces, &found.faces)
    });
    Ok(MeasuredModel {
        name: subject.name.clone(),
        bytes: subject.bytes,
        nme_mean: mean(&faces).ok_or_else(no_faces)?,
        nme_mean_interval95: bootstrap_mean_interval(&faces, resamples, seed)
            .ok_or_else(no_faces)?,
        nme_median: percentile(&sorted, 50.0).ok_or_else(no_faces)?,
        nme_worst_decile: worst_decile_mean(&faces).ok_or_else(no_faces)?,
        fr8: summary.fr8,
        regions: summary.regions.clone(),
        loss: reference,
        faces,
    })
}

impl Loss {
    /// Of errors of the same faces in the same order; `None` without faces or when the numbers of faces differ.
    fn of(reference: &str, errors: &[f64], of_reference: &[f64]) -> Option<Self> {
        if errors.len() != of_reference.len() {
            return None;
        }
        let differences: Vec<f64> = errors
            .iter()
            .zip(of_reference)
            .map(|(a, b)| a - b)
            .collect();
        let (resamples, seed) = BOOTSTRAP;
        let difference_mean = mean(&differences)?;
        Some(Self {
            reference: reference.to_owned(),
            difference_mean,
            difference_interval95: bootstrap_mean_interval(&differences, resamples, seed)?,
            relative_percent: 100.0 * difference_mean / mean(of_reference)?,
        })
    }
}

impl QuantizationReport {
    /// Writes the report as `report.json` and as a page with the plots in it, `report.html`, and returns the page's path.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, ReportError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ReportError::Write { path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        let json = folder.join("report.json");
        let mut text = serde_json::to_string_pretty(self).expect("a report has text keys");
        text.push('\n');
        write_whole(&json, text.as_bytes()).map_err(failed(&json))?;
        let html = folder.join("report.html");
        let page = page::html(self).map_err(|reason| ReportError::Draw {
            path: html.clone(),
            reason,
        })?;
        write_whole(&html, page.as_bytes()).map_err(failed(&html))?;
        Ok(html)
    }

    /// The models as a table in plain text, a line each.
    pub fn table(&self) -> String {
        page::text(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_paired() {
        // Faces differ far more from each other than the two models do on one face.
        let float: Vec<f64> = (0..200).map(|face| 3.0 + 0.05 * f64::from(face)).collect();
        let int8: Vec<f64> = (0..200)
            .map(|face| float[face] + 0.1 + if face % 2 == 0 { 0.02 } else { -0.02 })
            .collect();
        let loss = Loss::of("f32", &int8, &float).expect("pairs");
        assert!((loss.difference_mean - 0.1).abs() < 1e-9);
        let [low, high] = loss.difference_interval95;
        assert!(low > 0.095 && high < 0.105 && low < high, "{low} {high}");
        let relative = 100.0 * 0.1 / mean(&float).expect("values");
        assert!((loss.relative_percent - relative).abs() < 1e-9);
        assert_eq!(Loss::of("f32", &int8[1..], &float), None);
    }
}
