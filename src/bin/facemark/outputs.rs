//! The options that say where results go and what is drawn, and the outputs that follow from them.

use crate::failure::Failure;
use clap::{Args, ValueEnum};
use facemark::{
    live::{Output, Painting},
    overlay::OverlayKind,
    sink::{self, BlendNames, JsonDatagrams, JsonLines, Snapshots, VmcSender},
};
use std::path::{Path, PathBuf};

/// Outputs; all of them can run together, beside the window.
#[derive(Args)]
pub(crate) struct OutputArguments {
    /// Write one JSON object a frame; `-`: to standard output, the summary then goes to standard error
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
    /// Send each frame's JSON object in a UDP datagram; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    udp: Vec<String>,
    /// Send head rotation and expressions of one face as OSC (VMC protocol, port 39539 or 39540 by custom); may be given
    /// several times
    #[arg(long, value_name = "HOST:PORT")]
    osc: Vec<String>,
    /// Names of the expressions for --osc
    #[arg(long, value_name = "NAMES", requires = "osc", default_value = "vrm")]
    osc_names: Names,
    /// Write annotated frames: a video (.mp4, .mkv, .mov, .webm, .avi, .y4m), a picture, or a folder of pictures
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Record annotated frames: a video (without ffmpeg as .y4m), or a folder of PNG files
    #[arg(long, value_name = "PATH")]
    record: Option<PathBuf>,
    /// Folder for snapshots (key s in the window) [default: the current one]
    #[arg(long, value_name = "FOLDER")]
    snapshot_dir: Option<PathBuf>,
    /// Take a snapshot each so many seconds, with or without a window
    #[arg(long, value_name = "SECONDS", requires = "snapshot_dir", value_parser = crate::run::positive)]
    snapshot_every: Option<f64>,
    /// What is drawn of the landmarks
    #[arg(long, value_name = "KIND", default_value = "contours")]
    overlay: Overlay,
    /// Draw the head's axes, and how far eyes and mouth are open as bars (key d in the window)
    #[arg(long)]
    signals: bool,
    /// Hide the faces that are found behind coarse squares, in the window and in every picture and video
    #[arg(long)]
    pub(crate) blur: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Overlay {
    /// A disc a landmark
    Points,
    /// Contours and discs
    Contours,
    /// A net of triangles and discs
    Mesh,
    /// Nothing
    None,
}

#[derive(Clone, Copy, ValueEnum)]
enum Names {
    /// Presets of VRM 0: Blink_L, Blink_R, A
    Vrm,
    /// Blend shapes of ARKit: eyeBlinkLeft, eyeBlinkRight, jawOpen
    Arkit,
}

impl OutputArguments {
    /// What is drawn on frames.
    pub(crate) fn painting(&self) -> Painting {
        Painting {
            overlay: match self.overlay {
                Overlay::Points => OverlayKind::Points,
                Overlay::Contours => OverlayKind::Contours,
                Overlay::Mesh => OverlayKind::Mesh,
                Overlay::None => OverlayKind::None,
            },
            blur: self.blur,
            signals: self.signals,
        }
    }

    /// Whether standard output belongs to the JSON lines.
    pub(crate) fn take_stdout(&self) -> bool {
        self.json.as_deref().is_some_and(is_stdout)
    }

    /// Whether results go somewhere that somebody asked for, JSON lines aside: they are no pictures.
    pub(crate) fn show_something(&self) -> bool {
        self.output.is_some()
            || self.record.is_some()
            || self.snapshot_every.is_some()
            || !self.udp.is_empty()
            || !self.osc.is_empty()
    }

    /// The folder for snapshots, which exists then; empty for the current one.
    pub(crate) fn snapshot_folder(&self) -> Result<PathBuf, Failure> {
        let Some(folder) = &self.snapshot_dir else {
            return Ok(PathBuf::new());
        };
        std::fs::create_dir_all(folder).map_err(|error| {
            Failure::input(anyhow::Error::new(error).context(folder.display().to_string()))
        })?;
        Ok(folder.clone())
    }

    /// Opens what was asked for. Videos have `frame_rate`.
    pub(crate) fn open(&self, frame_rate: f64) -> Result<Vec<Output>, Failure> {
        let name = |path: &Path| path.display().to_string();
        let mut outputs = Vec::new();
        if let Some(path) = &self.json {
            outputs.push(if is_stdout(path) {
                Output::records("standard output", JsonLines::to_stdout())
            } else {
                let lines = JsonLines::create(path).map_err(Failure::input)?;
                Output::records(name(path), lines)
            });
        }
        for address in &self.udp {
            let datagrams = JsonDatagrams::open(address).map_err(Failure::input)?;
            outputs.push(Output::records(format!("UDP {address}"), datagrams));
        }
        let names = match self.osc_names {
            Names::Vrm => BlendNames::Vrm,
            Names::Arkit => BlendNames::Arkit,
        };
        for address in &self.osc {
            let sender = VmcSender::open(address, names).map_err(Failure::input)?;
            outputs.push(Output::records(format!("OSC {address}"), sender));
        }
        if let Some(path) = &self.output {
            let sink = sink::open(path, frame_rate).map_err(Failure::input)?;
            outputs.push(Output::frames(name(path), sink, 1));
        }
        if let Some(path) = &self.record {
            let (sink, target) = sink::record(path, frame_rate).map_err(Failure::input)?;
            outputs.push(Output::frames(name(&target), sink, 1));
        }
        if let (Some(folder), Some(every_secs)) = (&self.snapshot_dir, self.snapshot_every) {
            let sink = Snapshots::create(folder, every_secs).map_err(Failure::input)?;
            outputs.push(Output::frames(name(folder), Box::new(sink), 1));
        }
        Ok(outputs)
    }
}

fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}
