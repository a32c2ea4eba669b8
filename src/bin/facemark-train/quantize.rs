//! `facemark-train quantize`: from a float model to the int8 one.

use crate::{failure::Failure, runtime::RuntimeArguments};
use anyhow::anyhow;
use clap::Args;
use facemark::{
    annotation::Split,
    model::{ModelCard, ModelError, Task},
    train::{
        dataset::{DataSource, Dataset, OpenOptions},
        evaluate::Cases,
        graph::Graph,
        progress::Validation,
        quantize::{
            Calibration, CalibrationCrops, CalibrationPictures, Form, Method, PictureList,
            Progress, QuantizeError, QuantizeOptions, Ranges, calibrate, keep_fewest,
            open_for_calibration, quantize,
            sensitivity::{Probe, rank_layers},
            sha256,
        },
        session::{Device, arithmetic_in_words},
        whole_file::write_whole,
    },
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Makes the int8 model of a float one: ranges are measured on pictures (--calibration) or read from a file (--ranges).
#[derive(Args)]
pub(crate) struct Arguments {
    /// Float ONNX model.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Labelled pictures to measure ranges on: a folder, a label file or synthetic:SEED; may be repeated.
    #[arg(
        long,
        value_name = "PATH",
        num_args = 1..,
        required_unless_present = "ranges",
        conflicts_with = "ranges"
    )]
    calibration: Vec<String>,
    /// Make the model from this calibration file, without pictures: of an earlier run, or of `export --ranges` after
    /// quantisation-aware training.
    #[arg(long, value_name = "FILE")]
    ranges: Option<PathBuf>,
    /// Use this split of the pictures: train, val or test.
    #[arg(long, default_value = "train")]
    calibration_split: Split,
    /// Use at most so many faces or pictures, spread evenly.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=16384))]
    images: u32,
    /// Seed of the displacement of the crops.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How ranges are chosen: minmax, percentile, percentile:P, entropy or mse.
    #[arg(long, conflicts_with = "ranges")]
    method: Option<Method>,
    /// Weights of 7 bits, for CPUs without a dot product of bytes.
    #[arg(long)]
    reduce_range: bool,
    /// Leave the channels between layers as they are.
    #[arg(long, conflicts_with = "ranges")]
    no_equalize: bool,
    /// Leave biases as they are.
    #[arg(long, conflicts_with = "ranges")]
    no_bias_correction: bool,
    /// Name of a node, or of its output, that stays float; may be repeated.
    #[arg(long, value_name = "NODE")]
    keep_float: Vec<String>,
    /// Keep as few operators float as it takes to lose no more than this much of the error (landmarks: mean NME;
    /// detector: average precision), relative, in percent, on --data.
    #[arg(
        long,
        value_name = "PERCENT",
        requires = "data",
        conflicts_with = "ranges"
    )]
    max_nme_drop: Option<f64>,
    /// Labelled pictures for --max-nme-drop; may be repeated.
    #[arg(long, value_name = "PATH")]
    data: Vec<String>,
    /// Split of --data.
    #[arg(long, default_value = "val")]
    split: Split,
    /// qoperator (what facemark runs) or qdq (for other engines).
    #[arg(long)]
    form: Option<Form>,
    /// Write what the pictures gave into this file, for --ranges.
    #[arg(long, value_name = "FILE")]
    ranges_output: Option<PathBuf>,
    /// The model file to write.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

/// The float model.
struct Source {
    graph: Graph,
    card: ModelCard,
    sha256: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let source = Source::read(&arguments.model)?;
    let calibration = match &arguments.ranges {
        Some(path) => arguments.recalled(&source, path)?,
        None => arguments.measured(&source)?,
    };
    let quantized = quantize(&source.graph, &calibration.ranges, &calibration.options)?;
    let bytes = quantized.to_onnx();
    write(&arguments.output, &bytes)?;
    if let Some(path) = &arguments.ranges_output {
        write(path, &calibration.to_json())?;
    }
    eprintln!(
        "wrote {} ({} kB): {}",
        arguments.output.display(),
        bytes.len() / 1000,
        quantized.metadata[facemark::train::quantize::METADATA_KEY]
    );
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_whole(path, bytes).map_err(|error| {
        let context = format!("{}: cannot write", path.display());
        Failure::running(anyhow::Error::new(error).context(context))
    })
}

impl Source {
    fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = std::fs::read(path).map_err(|source| ModelError::Read {
            path: path.to_owned(),
            source,
        })?;
        let graph = Graph::from_onnx(&bytes, path)?;
        let card = ModelCard::from_metadata(&graph.metadata, path)?;
        // Before any picture is read.
        facemark::train::quantize::prepare(&graph, &Ranges::default()).map_err(|error| {
            Failure::input(anyhow::Error::new(error).context(path.display().to_string()))
        })?;
        Ok(Self {
            graph,
            card,
            sha256: sha256(&bytes),
        })
    }
}

impl Arguments {
    /// The calibration of a file, with what the arguments change.
    fn recalled(&self, source: &Source, path: &Path) -> Result<Calibration, Failure> {
        let mut calibration = Calibration::read(path).map_err(Failure::input)?;
        calibration
            .check_model(path, &source.card.name, &source.sha256)
            .map_err(Failure::input)?;
        let options = &mut calibration.options;
        options.reduce_range |= self.reduce_range;
        options.keep_float.extend(self.keep_float.iter().cloned());
        if let Some(form) = self.form {
            options.form = form;
        }
        Ok(calibration)
    }

    fn options(&self) -> QuantizeOptions {
        let usual = QuantizeOptions::default();
        QuantizeOptions {
            method: self.method.unwrap_or(usual.method),
            reduce_range: self.reduce_range,
            equalize: !self.no_equalize,
            bias_correction: !self.no_bias_correction,
            keep_float: self.keep_float.clone(),
            form: self.form.unwrap_or(usual.form),
        }
    }

    /// A calibration from pictures.
    fn measured(&self, source: &Source) -> Result<Calibration, Failure> {
        self.runtime.load()?;
        let sources: Vec<DataSource> = self.calibration.iter().map(DataSource::new).collect();
        let dataset = open_for_calibration(&sources, &source.card, Some(self.calibration_split))?;
        let pictures = CalibrationPictures::take(
            &dataset,
            &sources,
            &source.card,
            self.images as usize,
            self.seed,
        )?;
        for damaged in &pictures.damaged {
            eprintln!("skipped {}: {}", damaged.item, damaged.reason);
        }
        eprintln!(
            "{} crops of {} pictures, {} skipped",
            pictures.crops.len(),
            pictures.hashes.len(),
            pictures.damaged.len()
        );
        let crops = CalibrationCrops {
            card: &source.card,
            crops: &pictures.crops,
        };
        let stop = stop_on_interrupt()?;
        let mut options = self.options();
        let mut ranges = watched(source, &crops, &options, &stop)?;
        if let Some(percent) = self.max_nme_drop {
            let kept = self.choose(source, &ranges, &options, percent, &stop)?;
            if kept != options.keep_float {
                options.keep_float = kept;
                ranges = watched(source, &crops, &options, &stop)?;
            }
        }
        let list = PictureList {
            data: self.calibration.clone(),
            split: Some(self.calibration_split.name().to_owned()),
            seed: self.seed,
            arithmetic: arithmetic_in_words()?,
            crops: pictures.crops.len(),
            sha256: pictures.hashes,
        };
        Ok(Calibration::new(
            &source.card.name,
            source.sha256.clone(),
            command(),
            options,
            Some(list),
            ranges,
        ))
    }

    /// The operators to keep float, by measuring on --data.
    fn choose(
        &self,
        source: &Source,
        ranges: &Ranges,
        options: &QuantizeOptions,
        percent: f64,
        stop: &AtomicBool,
    ) -> Result<Vec<String>, Failure> {
        if !(percent.is_finite() && percent >= 0.0) {
            let message = format!("--max-nme-drop: expected a percentage from 0, found {percent}");
            return Err(Failure::input(anyhow!(message)));
        }
        let cases = self.cases(&source.card)?;
        let score = |graph: &Graph| -> Result<f64, Failure> {
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::from(QuantizeError::Interrupted));
            }
            let threads = self.runtime.threads();
            let evaluation = cases.evaluate(graph, &source.card, Device::Cpu, threads)?;
            Ok(score_of(&evaluation.validation()))
        };
        let float = score(&source.graph)?;
        let limit = float * (1.0 + percent / 100.0);
        let whole = score(&quantize(&source.graph, ranges, options)?)?;
        eprintln!("error: float {float:.4}, all int8 {whole:.4}, allowed {limit:.4}");
        if whole <= limit {
            return Ok(options.keep_float.clone());
        }
        let ranked = rank_layers(&source.graph, ranges, options, Probe::Alone, score)?;
        let ranked: Vec<String> = ranked.into_iter().map(|layer| layer.node).collect();
        let found = keep_fewest(&source.graph, ranges, options, &ranked, limit, score)?;
        let kept = found.keep_float.len();
        eprintln!("error {:.4} with {kept} operators in float", found.score);
        if found.score > limit {
            let message = "even with every operator in float the error is above what is allowed";
            return Err(Failure::running(anyhow!(message)));
        }
        Ok(found.keep_float)
    }

    fn cases(&self, card: &ModelCard) -> Result<Cases, Failure> {
        let sources: Vec<DataSource> = self.data.iter().map(DataSource::new).collect();
        let options = OpenOptions {
            split: Some(self.split),
            scheme: match card.task {
                Task::Landmarks { scheme, .. } => Some(scheme),
                Task::FaceDetection { .. } => None,
            },
            ..OpenOptions::default()
        };
        let dataset = Dataset::open_all(&sources, &options)?;
        Ok(Cases::prepare(&dataset, None, card, None, 0)?)
    }
}

/// An error that is smaller for better models, larger than 0.
fn score_of(validation: &Validation) -> f64 {
    match validation {
        Validation::Landmarks(result) => result.summary.nme_mean.unwrap_or(f64::INFINITY),
        Validation::Detector(result) => 1.0 / result.summary.ap50.unwrap_or(0.0).max(1e-6),
    }
}

/// Calibrates with a progress bar.
fn watched(
    source: &Source,
    crops: &CalibrationCrops,
    options: &QuantizeOptions,
    stop: &AtomicBool,
) -> Result<Ranges, Failure> {
    let bar = if std::io::stderr().is_terminal() {
        let style = ProgressStyle::with_template("{msg:20} {bar:30} {pos}/{len}, {eta} left");
        ProgressBar::no_length().with_style(style.expect("the template is valid"))
    } else {
        ProgressBar::hidden()
    };
    let mut watch = |progress: Progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        bar.set_message(progress.stage);
        !stop.load(Ordering::Relaxed)
    };
    let ranges = calibrate(&source.graph, crops, options, &mut watch);
    bar.finish_and_clear();
    Ok(ranges?)
}

/// A flag that the first Ctrl-C sets; the second ends the process. Nothing is written before everything is done.
fn stop_on_interrupt() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .map_err(Failure::running)?;
    Ok(stop)
}

/// This command, to be written into a calibration file.
pub(crate) fn command() -> String {
    let quoted = |argument: String| match argument.contains(char::is_whitespace) {
        true => format!("'{argument}'"),
        false => argument,
    };
    let arguments: Vec<String> = std::env::args().skip(1).map(quoted).collect();
    format!("facemark-train {}", arguments.join(" "))
}
