//! `facemark-train quantization-report`: what quantisation costs a landmark model, by every method.

use crate::{failure::Failure, runtime::RuntimeArguments};
use anyhow::anyhow;
use clap::Args;
use facemark::{
    annotation::Split,
    crop::Crop,
    model::{ModelCard, ModelError, Task},
    train::{
        dataset::{DataSource, Dataset, OpenOptions},
        evaluate::Cases,
        graph::Graph,
        quantize::{
            CalibrationCrops, CalibrationPictures, DEFAULT_PERCENTILE, Method, QuantizeOptions,
            Ranges, calibrate, open_for_calibration, prepare, quantize,
            report::{
                LayerNoise, MeasuredModel, QuantizationReport, Subject, layer_noise, measure,
            },
        },
    },
};
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// Measures a float landmark model and its int8 forms by each calibration method, and when given the same of a fine-tuned
/// model and the int8 form with the ranges of its training, all on the same faces; writes report.html and report.json.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Float ONNX model that is quantised by each method.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The float model of a quantisation-aware training.
    #[arg(long, value_name = "FILE", requires = "fine_tuned_int8")]
    fine_tuned: Option<PathBuf>,
    /// Its int8 form.
    #[arg(long, value_name = "FILE", requires = "fine_tuned")]
    fine_tuned_int8: Option<PathBuf>,
    /// Labelled pictures to measure ranges on (their split train); may be repeated.
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    calibration: Vec<String>,
    /// Use at most so many faces for ranges, spread evenly.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(8..=16384))]
    images: u32,
    /// Seed of the displacement of the calibration crops.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave the channels between layers as they are.
    #[arg(long)]
    no_equalize: bool,
    /// Leave biases as they are.
    #[arg(long)]
    no_bias_correction: bool,
    /// Labelled faces to measure errors on; may be repeated.
    #[arg(long, value_name = "PATH", required = true)]
    data: Vec<String>,
    /// Their split: train, val or test.
    #[arg(long, default_value = "test")]
    split: Split,
    /// Folder of the report; made when missing.
    #[arg(long, value_name = "FOLDER")]
    output: PathBuf,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

/// Crops over which rounding noise is measured.
const NOISE_CROPS: usize = 64;

const FLOAT: &str = "f32";
const FINE_TUNED: &str = "fine-tuned f32";
const FINE_TUNED_INT8: &str = "fine-tuned int8, training";

/// A model file.
struct File {
    graph: Graph,
    card: ModelCard,
    bytes: usize,
}

impl File {
    fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = std::fs::read(path).map_err(|source| ModelError::Read {
            path: path.to_owned(),
            source,
        })?;
        let graph = Graph::from_onnx(&bytes, path)?;
        let card = ModelCard::from_metadata(&graph.metadata, path)?;
        if !matches!(card.task, Task::Landmarks { .. }) {
            let message = format!("{}: expected a landmark model", path.display());
            return Err(Failure::input(anyhow!(message)));
        }
        Ok(Self {
            graph,
            card,
            bytes: bytes.len(),
        })
    }
}

/// The models measured so far and what measuring takes.
struct Bench<'a> {
    card: &'a ModelCard,
    cases: Cases,
    threads: usize,
    measured: Vec<MeasuredModel>,
}

impl Bench<'_> {
    fn add(
        &mut self,
        name: &str,
        reference: Option<&str>,
        graph: &Graph,
        bytes: usize,
    ) -> Result<(), Failure> {
        let subject = Subject {
            name: name.to_owned(),
            reference: reference.map(str::to_owned),
            graph,
            bytes,
        };
        let model = measure(
            &subject,
            self.card,
            &self.cases,
            self.threads,
            &self.measured,
        )?;
        eprintln!("{name}: NME {:.3} %", model.nme_mean);
        self.measured.push(model);
        Ok(())
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let float = File::read(&arguments.model)?;
    let tuned = match (&arguments.fine_tuned, &arguments.fine_tuned_int8) {
        (Some(float), Some(int8)) => Some((File::read(float)?, File::read(int8)?)),
        _ => None,
    };
    arguments.runtime.load()?;
    let dataset = arguments.test_faces(&float.card)?;
    let pictures = arguments.calibration_pictures(&float.card)?;
    let crops = CalibrationCrops {
        card: &float.card,
        crops: &pictures.crops,
    };
    let mut bench = Bench {
        card: &float.card,
        cases: Cases::prepare(&dataset, None, &float.card, None, 0)?,
        threads: arguments.runtime.threads(),
        measured: Vec::new(),
    };
    let mut layers = arguments.by_each_method(&mut bench, &float, FLOAT, None, &crops)?;
    if let Some((tuned, int8)) = &tuned {
        arguments.by_each_method(&mut bench, tuned, FINE_TUNED, Some(FLOAT), &crops)?;
        bench.add(FINE_TUNED_INT8, Some(FINE_TUNED), &int8.graph, int8.bytes)?;
        let prepared = prepare(&tuned.graph, &Ranges::default())?;
        layers = Layers {
            of: FINE_TUNED_INT8.to_owned(),
            noise: layer_noise(
                &prepared,
                &int8.graph,
                &float.card,
                noise_crops(&crops),
                bench.threads,
            )?,
        };
    }
    let report = QuantizationReport {
        model: float.card.name.clone(),
        data: arguments.data.iter().map(|path| set_name(path)).collect(),
        split: arguments.split.name().to_owned(),
        faces: bench.cases.count(),
        normalizer: match float.card.task {
            Task::Landmarks { scheme, .. } => facemark::metrics::Normalizer::of(scheme).name(),
            Task::FaceDetection { .. } => unreachable!("only landmark models are read"),
        }
        .to_owned(),
        models: bench.measured,
        layers_of: Some(layers.of),
        layers: layers.noise,
    };
    let page = report.write(&arguments.output)?;
    eprintln!("report: {}", page.display());
    match writeln!(std::io::stdout(), "{}", report.table()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::running(
            anyhow::Error::new(error).context("cannot write to standard output"),
        )),
        _ => Ok(()),
    }
}

/// The noise in the layers of a model.
struct Layers {
    of: String,
    noise: Vec<LayerNoise>,
}

fn noise_crops<'a>(crops: &CalibrationCrops<'a>) -> &'a [Crop] {
    &crops.crops[..crops.crops.len().min(NOISE_CROPS)]
}

/// The last part of a data set's path: reports do not name the folders of one machine.
fn set_name(path: &str) -> String {
    match Path::new(path).file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => path.to_owned(),
    }
}

impl Arguments {
    /// Measures a float model and its int8 form by each method; the noise is of the last one.
    fn by_each_method(
        &self,
        bench: &mut Bench<'_>,
        float: &File,
        name: &str,
        reference: Option<&str>,
        crops: &CalibrationCrops<'_>,
    ) -> Result<Layers, Failure> {
        bench.add(name, reference, &float.graph, float.bytes)?;
        let mut layers = Layers {
            of: String::new(),
            noise: Vec::new(),
        };
        for method in [
            Method::MinMax,
            Method::Percentile(DEFAULT_PERCENTILE),
            Method::Entropy,
            Method::Mse,
        ] {
            let options = QuantizeOptions {
                method,
                equalize: !self.no_equalize,
                bias_correction: !self.no_bias_correction,
                ..QuantizeOptions::default()
            };
            let ranges = calibrate(&float.graph, crops, &options, &mut |_| true)?;
            let int8 = quantize(&float.graph, &ranges, &options)?;
            let of = format!("{}, {method}", name.replace("f32", "int8"));
            bench.add(&of, Some(name), &int8, int8.to_onnx().len())?;
            let prepared = prepare(&float.graph, &ranges)?;
            let crops = noise_crops(crops);
            let noise = layer_noise(&prepared, &int8, &float.card, crops, bench.threads)?;
            layers = Layers { of, noise };
        }
        Ok(layers)
    }

    fn test_faces(&self, card: &ModelCard) -> Result<Dataset, Failure> {
        let sources: Vec<DataSource> = self.data.iter().map(DataSource::new).collect();
        let options = OpenOptions {
            split: Some(self.split),
            scheme: match card.task {
                Task::Landmarks { scheme, .. } => Some(scheme),
                Task::FaceDetection { .. } => None,
            },
            ..OpenOptions::default()
        };
        Ok(Dataset::open_all(&sources, &options)?)
    }

    fn calibration_pictures(&self, card: &ModelCard) -> Result<CalibrationPictures, Failure> {
        let sources: Vec<DataSource> = self.calibration.iter().map(DataSource::new).collect();
        let dataset = open_for_calibration(&sources, card, Some(Split::Train))?;
        Ok(CalibrationPictures::take(
            &dataset,
            &sources,
            card,
            self.images as usize,
            self.seed,
        )?)
    }
}
