//! `facemark bench`: how long one run of a model takes, or each stage of the live path.

mod clip;

use crate::{
    detector_size::DetectorSize,
    engine_arguments::EngineArguments,
    failure::Failure,
    measure::{peak_rss_bytes, process_cpu_secs},
    networks::{open_detector, open_landmarker},
    output::{or_dash, print_json, print_line},
};
use clap::Args;
use facemark::{
    crop::{Crop, CropRegion},
    detector::InputSize,
    engine::{Engine, LayerTime},
    frame::Frame,
    geometry::FaceBox,
    metrics::Percentiles,
    model::{Infer, InferError, Outputs},
    picture,
};
use serde::Serialize;
use std::{collections::BTreeMap, path::PathBuf, time::Instant};

/// Runs before the clock starts: caches fill and buffers reach their size.
const WARM_UP: usize = 10;
/// The frame of `--pipeline`, a common webcam's.
const FRAME: (usize, usize) = (640, 480);

/// Measure latency, memory and load time
#[derive(Args)]
pub(crate) struct Arguments {
    /// Model to measure on its own
    #[arg(required_unless_present = "pipeline", conflicts_with = "pipeline")]
    model: Option<PathBuf>,
    /// Measure the live path with the released models: on a source (demo, a video, a folder) frame by frame, else each
    /// stage again and again on one picture
    #[arg(long, value_name = "SOURCE", num_args = 0..=1)]
    pipeline: Option<Option<String>>,
    /// Picture for --pipeline without a source [default: a drawn 640x480 pattern]
    #[arg(long, requires = "pipeline")]
    image: Option<PathBuf>,
    /// Faces to follow at a time with --pipeline SOURCE
    #[arg(long, default_value_t = 1, value_parser = faces)]
    faces: usize,
    #[command(flatten)]
    detector_size: DetectorSize,
    /// Timed runs of each stage
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    iterations: u32,
    /// Measure each kernel of the model
    #[arg(long, conflicts_with = "pipeline")]
    layers: bool,
    #[command(flatten)]
    engine: EngineArguments,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn faces(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=64).contains(count))
        .ok_or_else(|| "expected a number of faces, 1 to 64".to_owned())
}

/// Time of one stage.
#[derive(Serialize)]
struct Stage {
    /// Time on the clock, in milliseconds a run.
    wall_ms: Percentiles,
    /// Time of the process on processors, in milliseconds a run, mean; absent where the system does not tell.
    cpu_ms: Option<f64>,
    /// The same, median, where runs are measured one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_p50_ms: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    /// Models by what they are for.
    models: BTreeMap<&'static str, String>,
    /// From file to a network that is ready, in milliseconds, by model.
    load_ms: BTreeMap<&'static str, f64>,
    /// From file to the first result, in milliseconds, by model.
    cold_start_ms: BTreeMap<&'static str, f64>,
    stages: BTreeMap<&'static str, Stage>,
    iterations: u32,
    /// The integer kernels of int8 networks.
    kernels: &'static str,
    threads: usize,
    peak_rss_bytes: Option<u64>,
    /// With `--layers`: the kernels in the order they run.
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<LayerTable>,
}

#[derive(Serialize)]
struct LayerTable {
    /// Billions of multiply-adds a second on one core with everything in registers.
    peak_gmacs: f64,
    layers: Vec<Layer>,
    /// Sum of the layers' medians, in microseconds.
    sum_us: f64,
}

#[derive(Serialize)]
struct Layer {
    name: String,
    kernel: String,
    shape: Vec<String>,
    /// Median of the runs, in microseconds.
    us: f64,
    mmac: f64,
    gmacs: f64,
    /// Of the machine's peak with these kernels.
    peak_share: f64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let report = match (&arguments.model, &arguments.pipeline) {
        (_, Some(Some(source))) => return clip::run(source, arguments),
        (Some(path), _) => bench_model(path, arguments)?,
        (None, _) => bench_pipeline(arguments)?,
    };
    if arguments.json {
        return print_json(&report);
    }
    for (what, model) in &report.models {
        print_line(&format!(
            "{what}: {model}, loaded in {:.1} ms, first result after {:.1} ms",
            report.load_ms[what], report.cold_start_ms[what]
        ))?;
    }
    print_stages(&report.stages)?;
    if let Some(table) = &report.layers {
        print_layers(table)?;
    }
    print_line(&format!(
        "{} iterations on {} {}, integer kernels {}, peak memory {} MiB",
        report.iterations,
        report.threads,
        if report.threads == 1 {
            "thread"
        } else {
            "threads"
        },
        report.kernels,
        or_dash(
            report
                .peak_rss_bytes
                .map(|bytes| bytes as f64 / 1_048_576.0),
            1
        )
    ))
}

fn print_stages(stages: &BTreeMap<&'static str, Stage>) -> Result<(), Failure> {
    print_line(&format!(
        "{:<12}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "ms", "p50", "p95", "p99", "mean", "CPU", "CPU p50"
    ))?;
    for (name, stage) in stages {
        let wall = &stage.wall_ms;
        print_line(&format!(
            "{name:<12}{:>9.3}{:>9.3}{:>9.3}{:>9.3}{:>9}{:>9}",
            wall.p50,
            wall.p95,
            wall.p99,
            wall.mean,
            or_dash(stage.cpu_ms, 3),
            or_dash(stage.cpu_p50_ms, 3)
        ))?;
    }
    Ok(())
}

fn bench_model(path: &std::path::Path, arguments: &Arguments) -> Result<Report, Failure> {
    let options = arguments.engine.options();
    let (engine, load_ms) = timed(|| Engine::load_with(path, &options))?;
    let (name, mut engine) = (engine.card().name.clone(), engine);
    let mut crop = engine.card().new_crop();
    draw_pattern(crop.bytes_mut());
    let mut outputs = Outputs::default();
    let ((), first_ms) = timed(|| engine.infer(&crop, &mut outputs))?;
    let stage = time_stage(arguments.iterations, || engine.infer(&crop, &mut outputs))?;
    let layers = match arguments.layers {
        true => Some(time_layers(&mut engine, &crop, arguments.iterations)?),
        false => None,
    };
    Ok(Report {
        models: BTreeMap::from([("model", name)]),
        load_ms: BTreeMap::from([("model", load_ms)]),
        cold_start_ms: BTreeMap::from([("model", load_ms + first_ms)]),
        stages: BTreeMap::from([("model", stage)]),
        iterations: arguments.iterations,
        kernels: options.kernel_set().name(),
        threads: options.threads,
        peak_rss_bytes: peak_rss_bytes(),
        layers,
    })
}

fn time_layers(engine: &mut Engine, crop: &Crop, runs: u32) -> Result<LayerTable, Failure> {
    let peak_gmacs = engine.kernel_set().measured_peak_gmacs();
    let layer = |time: LayerTime| {
        let gmacs = time.layer.multiply_adds as f64 / time.median_secs.max(1e-9) / 1e9;
        Layer {
            name: time.layer.name,
            kernel: time.layer.kernel,
            shape: time.layer.shape,
            us: time.median_secs * 1e6,
            mmac: time.layer.multiply_adds as f64 / 1e6,
            gmacs,
            peak_share: gmacs / peak_gmacs,
        }
    };
    let times = engine.time_layers(crop, runs as usize)?;
    let layers: Vec<Layer> = times.into_iter().map(layer).collect();
    Ok(LayerTable {
        peak_gmacs,
        sum_us: layers.iter().map(|layer| layer.us).sum(),
        layers,
    })
}

fn print_layers(table: &LayerTable) -> Result<(), Failure> {
    print_line(&format!(
        "{:<52}{:<36}{:<18}{:>9}{:>9}{:>9}{:>7}",
        "layer", "kernel", "output", "us", "MMAC", "GMAC/s", "peak"
    ))?;
    for layer in &table.layers {
        print_line(&format!(
            "{:<52}{:<36}{:<18}{:>9.2}{:>9.3}{:>9.1}{:>6.0}%",
            layer.name,
            layer.kernel,
            layer.shape.join("x"),
            layer.us,
            layer.mmac,
            layer.gmacs,
            100.0 * layer.peak_share
        ))?;
    }
    print_line(&format!(
        "sum of the layers {:.1} us; the machine's peak with these kernels: {:.0} GMAC/s on one core",
        table.sum_us, table.peak_gmacs
    ))
}

fn bench_pipeline(arguments: &Arguments) -> Result<Report, Failure> {
    let iterations = arguments.iterations;
    let frame = match &arguments.image {
        Some(path) => picture::load(path).map_err(Failure::input)?,
        None => {
            let mut frame = Frame::new(FRAME.0, FRAME.1);
            draw_pattern(frame.rgb_mut());
            frame
        }
    };
    let options = arguments.engine.options();
    let (mut detector, detector_ms) = timed(|| {
        open_detector(
            None,
            (&arguments.detector_size, InputSize::Card),
            None,
            &options,
        )
    })?;
    let (mut landmarker, landmarks_ms) = timed(|| open_landmarker(None, &options))?;
    // A face of half the frame's height, turned a little, as in front of a webcam.
    let size = 0.5 * frame.height() as f32;
    let center = CropRegion::whole(&frame).center;
    let face_box = FaceBox::new(center.x - 0.5 * size, center.y - 0.5 * size, size, size);
    let region = CropRegion {
        roll_rad: 0.1,
        ..landmarker.region_of_box(&face_box, (frame.width(), frame.height()))
    };
    let mut crop: Crop = landmarker.model().card().new_crop();
    let crop_from_frame = region.crop_from_frame(crop.width(), crop.height());
    let mut landmarks = Vec::new();
    let (_, first_detector_ms) = timed(|| detector.detect(&frame).map(|_| ()))?;
    let (_, first_landmarks_ms) = timed(|| {
        let located = landmarker.locate(&frame, &region, &mut landmarks);
        located.map(|_| ())
    })?;
    let stages = BTreeMap::from([
        (
            "crop",
            time_stage(iterations, || {
                crop.fill(&frame, &crop_from_frame);
                Ok(())
            })?,
        ),
        (
            "detector",
            time_stage(iterations, || detector.detect(&frame).map(|_| ()))?,
        ),
        (
            "landmarks",
            time_stage(iterations, || {
                landmarker
                    .locate(&frame, &region, &mut landmarks)
                    .map(|_| ())
            })?,
        ),
    ]);
    Ok(Report {
        models: BTreeMap::from([
            ("detector", detector.model().card().name.clone()),
            ("landmarks", landmarker.model().card().name.clone()),
        ]),
        load_ms: BTreeMap::from([("detector", detector_ms), ("landmarks", landmarks_ms)]),
        cold_start_ms: BTreeMap::from([
            ("detector", detector_ms + first_detector_ms),
            ("landmarks", landmarks_ms + first_landmarks_ms),
        ]),
        stages,
        iterations,
        kernels: options.kernel_set().name(),
        threads: options.threads,
        peak_rss_bytes: peak_rss_bytes(),
        layers: None,
    })
}

/// The result of `work` and its time in milliseconds.
fn timed<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(T, f64), Failure>
where
    Failure: From<E>,
{
    let start = Instant::now();
    let value = work()?;
    Ok((value, start.elapsed().as_secs_f64() * 1e3))
}

fn time_stage(
    iterations: u32,
    mut work: impl FnMut() -> Result<(), InferError>,
) -> Result<Stage, Failure> {
    for _ in 0..WARM_UP {
        work()?;
    }
    let mut wall_ms = Vec::with_capacity(iterations as usize);
    let cpu_before = process_cpu_secs();
    for _ in 0..iterations {
        let start = Instant::now();
        work()?;
        wall_ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let cpu_secs = process_cpu_secs()
        .zip(cpu_before)
        .map(|(end, start)| end - start);
    Ok(Stage {
        wall_ms: Percentiles::of(&wall_ms).unwrap_or_default(),
        cpu_ms: cpu_secs.map(|secs| secs * 1e3 / f64::from(iterations)),
        cpu_p50_ms: None,
    })
}

/// Something with structure, the same in every run.
fn draw_pattern(bytes: &mut [u8]) {
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = (index * 7 % 251) as u8 ^ (index / 1920 % 256) as u8;
    }
}
