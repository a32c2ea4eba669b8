//! `facemark run` and `facemark live`: a source through the tracker into a window and files.

use crate::{
    detector_size::DetectorSize,
    engine_arguments::EngineArguments,
    failure::Failure,
    networks::{open_detector, open_landmarker},
    output::print_line,
    outputs::OutputArguments,
};
use clap::Args;
use facemark::{
    detector::InputSize,
    finder::Acceptance,
    live::{self, Output, RunConfig, RunError},
    sink::{self, Window},
    source::{self, FrameSize, Input, Source, SourceError, SourceKind, SourceOptions, demo},
    tracker::{Tracker, TrackerConfig},
};
use std::{
    path::{Path, PathBuf},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Folder for results that were not asked for by name.
const DEFAULT_FOLDER: &str = "out";

/// Without ffmpeg a recorded source leaves pictures: one of so many frames, which keeps the folder small.
const PICTURE_EVERY: u64 = 15;

/// Follow faces through a source.
#[derive(Args)]
pub(crate) struct RunArguments {
    /// `demo`, `camera`, `camera:N`, `-` (raw RGB), a picture, a folder of pictures or a video
    #[arg(long, value_name = "SOURCE")]
    input: String,
    /// Size of the frames of `--input -`
    #[arg(long, value_name = "WxH", requires = "fps")]
    size: Option<Edges>,
    /// Rate of the frames of `--input -`
    #[arg(long, value_name = "RATE", requires = "size", value_parser = positive)]
    fps: Option<f64>,
    /// Play a recorded source at its own speed and drop frames when inference is slower, as a camera would
    #[arg(long)]
    realtime: bool,
    #[command(flatten)]
    shared: SharedArguments,
}

/// Follow faces in front of a camera.
#[derive(Args)]
pub(crate) struct LiveArguments {
    /// Number of the camera, as `facemark cameras` lists it
    #[arg(long, value_name = "N", default_value_t = 0)]
    camera: u32,
    #[command(flatten)]
    shared: SharedArguments,
}

#[derive(Args)]
struct SharedArguments {
    #[command(flatten)]
    outputs: OutputArguments,
    /// Open no window
    #[arg(long)]
    no_window: bool,
    /// Wait so long for a camera that is gone, then fail [default: wait for ever]
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    give_up_after: Option<f64>,
    /// End after so many analysed frames
    #[arg(long, value_name = "N")]
    frames: Option<u64>,
    /// Faces to follow at a time [default: 4; with --blur 16]
    #[arg(long, alias = "max-faces", value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    faces: Option<u64>,
    /// Landmark model [default: the released one]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Face detector [default: the released one]
    #[arg(long, value_name = "FILE")]
    detector: Option<PathBuf>,
    #[command(flatten)]
    detector_size: DetectorSize,
    #[command(flatten)]
    engine: EngineArguments,
}

/// Width and height, as `640x480`.
#[derive(Clone, Copy)]
struct Edges {
    width: usize,
    height: usize,
}

impl FromStr for Edges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let edge = |text: &str| {
            text.parse::<usize>()
                .ok()
                .filter(|size| (1..=16_384).contains(size))
        };
        text.split_once('x')
            .and_then(|(width, height)| {
                Some(Self {
                    width: edge(width)?,
                    height: edge(height)?,
                })
            })
            .ok_or_else(|| "expected WIDTHxHEIGHT in pixels, such as 640x480".to_owned())
    }
}

pub(crate) fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate: &f64| *rate > 0.0 && rate.is_finite())
        .ok_or_else(|| "expected a positive number".to_owned())
}

pub(crate) fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let size = arguments.size.zip(arguments.fps);
    let size = size.map(|(Edges { width, height }, frame_rate)| FrameSize {
        width,
        height,
        frame_rate,
    });
    let input = Input::parse(&arguments.input, size);
    follow(&input, arguments.realtime, &arguments.shared)
}

pub(crate) fn live(arguments: &LiveArguments) -> Result<(), Failure> {
    follow(&Input::Camera(arguments.camera), false, &arguments.shared)
}

fn follow(input: &Input, realtime: bool, shared: &SharedArguments) -> Result<(), Failure> {
    let options = shared.engine.options();
    let give_up_after = shared.give_up_after.map(|seconds| {
        // More than a duration can hold is for ever.
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    });
    let source = source::open_with(input, SourceOptions { give_up_after })
        .map_err(|error| source_failure(error, input))?;
    let (size, acceptance) = match source.kind() {
        SourceKind::Stills => (InputSize::STILLS, Acceptance::STILLS),
        SourceKind::Live | SourceKind::Recorded => (InputSize::Card, Acceptance::STREAM),
    };
    let tracker = Tracker::new(
        open_detector(
            shared.detector.as_deref(),
            (&shared.detector_size, size),
            None,
            &options,
        )?,
        open_landmarker(shared.model.as_deref(), &options)?,
        tracker_config(shared, acceptance),
    );
    let window = if shared.no_window {
        None
    } else {
        open_window(source.as_ref())
    };
    let unseen = window.is_none() && !shared.no_window && !shared.outputs.show_something();
    let rate = output_rate(source.as_ref());
    let mut config = RunConfig {
        engine: format!(
            "{}, {} {}",
            options.kernel_set().name(),
            options.threads,
            if options.threads == 1 {
                "thread"
            } else {
                "threads"
            }
        ),
        outputs: shared.outputs.open(rate)?,
        painting: shared.outputs.painting(),
        snapshot_folder: shared.outputs.snapshot_folder()?,
        realtime,
        frame_limit: shared.frames,
        known_motion: (*input == Input::Demo).then_some(demo::frame_from_portrait),
        window,
        stop: stop_on_interrupt()?,
        ..RunConfig::default()
    };
    if unseen {
        let (path, every) = default_output(input, source.kind());
        eprintln!("writing annotated frames to {}", path.display());
        std::fs::create_dir_all(DEFAULT_FOLDER).map_err(Failure::running)?;
        let sink = sink::open(&path, rate).map_err(Failure::running)?;
        let output = Output::frames(path.display().to_string(), sink, every);
        config.outputs.push(output);
    }
    let (summary, error) = live::run(source, Box::new(tracker), config);
    if summary.frames > 0 {
        let summary = summary.to_string();
        if shared.outputs.take_stdout() {
            eprint!("{summary}");
        } else {
            print_line(summary.trim_end())?;
        }
    }
    match error {
        None => Ok(()),
        Some(RunError::Source(error)) => Err(source_failure(error, input)),
        Some(error) => Err(Failure::running(error)),
    }
}

/// Who hides faces wants none to be missed: more of them, doubtful ones too, and the detector looks for new ones in every
/// frame.
fn tracker_config(shared: &SharedArguments, acceptance: Acceptance) -> TrackerConfig {
    let usual = TrackerConfig::default();
    let (faces, acceptance, search_pause_secs) = if shared.outputs.blur {
        (16, Acceptance::STILLS, (0.0, 0.0))
    } else {
        (usual.max_faces, acceptance, usual.search_pause_secs)
    };
    TrackerConfig {
        max_faces: shared.faces.map_or(faces, |faces| faces as usize),
        acceptance,
        search_pause_secs,
        ..usual
    }
}

/// A bad file is the user's; a missing camera or program is the machine's.
fn source_failure(error: SourceError, input: &Input) -> Failure {
    match error {
        SourceError::NoCamera { .. } | SourceError::CameraFeatureMissing => Failure::running(
            anyhow::anyhow!("{error}; without a camera try `facemark run --input demo`"),
        ),
        SourceError::Camera { .. } | SourceError::FfmpegMissing { .. } => Failure::running(error),
        SourceError::Read { .. } if matches!(input, Input::Path(path) if !path.exists()) => {
            Failure::input(anyhow::anyhow!(
                "{error}; --input takes demo, camera, camera:N, - or a path"
            ))
        }
        _ => Failure::input(error),
    }
}

fn open_window(source: &dyn Source) -> Option<Window> {
    // Larger frames are shown in a window that fits most screens.
    let (width, height) = source.frame_size().unwrap_or((800, 600));
    let shrink = (1280.0 / width as f64).min(800.0 / height as f64).min(1.0);
    let fitted = |edge: usize| ((edge as f64 * shrink) as usize).max(64);
    match Window::open("facemark", fitted(width), fitted(height)) {
        Ok(window) => Some(window),
        Err(error) => {
            eprintln!("{error}; going on without one");
            None
        }
    }
}

fn output_rate(source: &dyn Source) -> f64 {
    let fallback = match source.kind() {
        SourceKind::Stills => 1.0,
        SourceKind::Live | SourceKind::Recorded => 30.0,
    };
    source.frame_rate().unwrap_or(fallback)
}

/// Where frames go that nobody sees, and how many of them: each n-th.
fn default_output(input: &Input, kind: SourceKind) -> (PathBuf, u64) {
    let stem = match input {
        Input::Camera(index) => format!("camera-{index}"),
        Input::Demo => "demo".to_owned(),
        Input::Stdin(_) => "stdin".to_owned(),
        Input::Path(path) => path.file_stem().map_or_else(
            || "pictures".to_owned(),
            |stem| stem.to_string_lossy().into_owned(),
        ),
    };
    let path = Path::new(DEFAULT_FOLDER).join(stem);
    match kind {
        SourceKind::Stills => (path, 1),
        _ if sink::ffmpeg_is_installed() => (format!("{}.mp4", path.display()).into(), 1),
        _ => (path, PICTURE_EVERY),
    }
}

/// Ctrl-C and SIGTERM end the run as if the source had ended; a second one ends the program.
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
