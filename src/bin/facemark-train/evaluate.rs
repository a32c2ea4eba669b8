//! `facemark-train evaluate`: how good a model or a checkpoint is on a split, by ONNX Runtime.

use crate::{failure::Failure, runtime::RuntimeArguments};
use anyhow::anyhow;
use clap::Args;
use facemark::{
    annotation::Split,
    model::{ModelCard, ModelError, Task},
    train::{
        dataset::{DataSource, Dataset, OpenOptions},
        evaluate::{Cases, Evaluation, MeanShape},
        fit::restore,
        graph::Graph,
        progress::{Validation, trouble_in_words},
        report::Report,
    },
};
use serde_json::json;
use std::{io::Write, path::PathBuf};

/// Measures a model on a split with true boxes: the accuracy of the network alone. `facemark eval` measures the whole
/// runtime.
#[derive(Args)]
pub(crate) struct Arguments {
    /// ONNX model.
    #[arg(long, value_name = "FILE", required_unless_present = "checkpoint")]
    model: Option<PathBuf>,
    /// Checkpoint file, or the folder of a training: its best checkpoint.
    #[arg(long, value_name = "PATH", conflicts_with = "model")]
    checkpoint: Option<PathBuf>,
    /// Labelled pictures: a folder, a label file or synthetic:SEED; may be repeated.
    #[arg(long, value_name = "PATH", required = true)]
    data: Vec<String>,
    /// train, val or test.
    #[arg(long, default_value = "test")]
    split: Split,
    /// Pictures for crops without a face, to measure presence; may be repeated.
    #[arg(long, value_name = "PATH")]
    backgrounds: Vec<String>,
    /// Measure at most so many faces or pictures, spread evenly; 0: all.
    #[arg(long, default_value_t = 0)]
    limit: usize,
    /// Write curves and pictures into this folder.
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

/// What is measured.
struct Subject {
    graph: Graph,
    card: ModelCard,
    mean_shape: Option<MeanShape>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let subject = arguments.subject()?;
    arguments.runtime.load()?;
    let dataset = arguments.open(&arguments.data, &subject.card, arguments.split)?;
    let backgrounds = if arguments.backgrounds.is_empty() {
        None
    } else {
        Some(arguments.open(&arguments.backgrounds, &subject.card, arguments.split)?)
    };
    let mean_shape = match subject.mean_shape {
        Some(shape) => Some(shape),
        None => arguments.mean_shape(&subject.card)?,
    };
    let cases = Cases::prepare(
        &dataset,
        backgrounds.as_ref(),
        &subject.card,
        mean_shape,
        arguments.limit,
    )?;
    let evaluation = cases.evaluate(
        &subject.graph,
        &subject.card,
        arguments.runtime.device(),
        arguments.runtime.threads(),
    )?;
    if let Some(folder) = &arguments.report {
        let report = Report {
            folder: folder.clone(),
            title: format!(
                "{} on {} ({})",
                subject.card.name,
                arguments.data.join(", "),
                arguments.split.name()
            ),
            card: &subject.card,
            evaluation: &evaluation,
            dataset: &dataset,
            history: &[],
            sample: None,
        };
        eprintln!("report: {}", report.write()?.display());
    }
    arguments.print(&subject.card, &evaluation, dataset.skipped.len())
}

impl Arguments {
    fn subject(&self) -> Result<Subject, Failure> {
        match (&self.checkpoint, &self.model) {
            (Some(path), _) => {
                let trained = restore(path, None)?;
                Ok(Subject {
                    graph: trained.graph,
                    card: trained.card,
                    mean_shape: trained.mean_shape,
                })
            }
            (None, Some(path)) => {
                let bytes = std::fs::read(path).map_err(|source| ModelError::Read {
                    path: path.clone(),
                    source,
                })?;
                let graph = Graph::from_onnx(&bytes, path)?;
                let card = ModelCard::from_metadata(&graph.metadata, path)?;
                Ok(Subject {
                    graph,
                    card,
                    mean_shape: None,
                })
            }
            (None, None) => Err(Failure::input(anyhow!("name a --model or a --checkpoint"))),
        }
    }

    fn open(&self, paths: &[String], card: &ModelCard, split: Split) -> Result<Dataset, Failure> {
        let sources: Vec<DataSource> = paths.iter().map(DataSource::new).collect();
        let scheme = match card.task {
            Task::Landmarks { scheme, .. } => Some(scheme),
            Task::FaceDetection { .. } => None,
        };
        let options = OpenOptions {
            split: Some(split),
            scheme,
            ..OpenOptions::default()
        };
        Ok(Dataset::open_all(&sources, &options)?)
    }

    /// The mean shape of the training split of the same sets: a model file does not carry its own. Sets without a
    /// training split have no baseline.
    fn mean_shape(&self, card: &ModelCard) -> Result<Option<MeanShape>, Failure> {
        let Task::Landmarks { scheme, crop } = card.task else {
            return Ok(None);
        };
        let options = OpenOptions {
            split: Some(Split::Train),
            scheme: Some(scheme),
            check_pictures: false,
            ..OpenOptions::default()
        };
        let sources: Vec<DataSource> = self.data.iter().map(DataSource::new).collect();
        match Dataset::open_all(&sources, &options) {
            Ok(train) => Ok(MeanShape::of(&train, scheme, crop)),
            Err(reason) => {
                eprintln!("no mean-shape baseline: {reason}");
                Ok(None)
            }
        }
    }

    fn print(
        &self,
        card: &ModelCard,
        evaluation: &Evaluation,
        skipped: usize,
    ) -> Result<(), Failure> {
        let validation = evaluation.validation();
        let warning = trouble_in_words(&validation, 1.0);
        let text = if self.json {
            let mut object = serde_json::to_value(&validation).map_err(Failure::running)?;
            if let Some(fields) = object.as_object_mut() {
                fields.insert("model".to_owned(), json!(card.name));
                fields.insert("split".to_owned(), json!(self.split.name()));
                fields.insert("data".to_owned(), json!(self.data));
                fields.insert("skipped".to_owned(), json!(skipped));
                fields.insert("warning".to_owned(), json!(warning));
                if let Task::Landmarks { scheme, .. } = &card.task {
                    fields.insert("scheme".to_owned(), json!(scheme));
                }
            }
            object.to_string()
        } else {
            self.in_words(card, &validation, skipped, warning.as_deref())
        };
        match writeln!(std::io::stdout(), "{text}") {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::running(
                anyhow::Error::new(error).context("cannot write to standard output"),
            )),
            _ => Ok(()),
        }
    }

    fn in_words(
        &self,
        card: &ModelCard,
        validation: &Validation,
        skipped: usize,
        warning: Option<&str>,
    ) -> String {
        let mut lines = vec![format!(
            "{} on {} ({}): {}",
            card.name,
            self.data.join(", "),
            self.split.name(),
            validation.in_words()
        )];
        if let Validation::Landmarks(result) = validation {
            for (what, table) in [("set", &result.sets), ("region", &result.summary.regions)] {
                for (name, nme) in table {
                    lines.push(format!("  {what} {name}: NME {nme:.2} %"));
                }
            }
        }
        if skipped > 0 {
            lines.push(format!("  {skipped} records skipped"));
        }
        lines.extend(warning.map(|warning| format!("warning: {warning}")));
        lines.join("\n")
    }
}
