//! Where frames come from: camera, pictures, a folder, a video, raw pixels on standard input, the demo. Each source is
//! read from one thread, frame by frame, into the caller's buffer.

pub mod camera;
pub mod demo;
mod description;
mod ffmpeg;
mod raw;
mod state;
mod stills;
pub mod y4m;
pub mod yuv;

pub use description::CameraDescription;
pub use ffmpeg::FfmpegSource;
pub use raw::{FrameSize, RawSource};
pub use state::{Outage, SourceState};
pub use stills::StillSource;

use crate::{frame::Frame, picture::PictureError};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Which frame this is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FrameStamp {
    /// Counts the frames that the source produced, from 0; a jump says that frames were dropped inside the source.
    pub index: u64,
    /// Time of the frame, in seconds from the first one.
    pub time_secs: f64,
}

/// How the frames of a source follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// Frames that nobody reads are lost (camera).
    Live,
    /// A sequence that waits for its reader (video file, pipe, demo).
    Recorded,
    /// Pictures that have nothing to do with each other.
    Stills,
}

/// A sequence of frames.
pub trait Source: Send {
    /// How the frames follow each other.
    fn kind(&self) -> SourceKind;

    /// The source in words, for messages.
    fn description(&self) -> String;

    /// Frames a second, where the source knows.
    fn frame_rate(&self) -> Option<f64> {
        None
    }

    /// Width and height of the frames, where the source knows before the first.
    fn frame_size(&self) -> Option<(usize, usize)> {
        None
    }

    /// Writes the next frame into `frame`, whose buffer is kept when it is large enough; `None` at the end.
    ///
    /// # Errors
    /// See [`SourceError`]. After an error the source is at its end.
    fn next(&mut self, frame: &mut Frame) -> Result<Option<FrameStamp>, SourceError>;

    /// The name of the frame that was read last, where it has one of its own (a picture's file name without its ending).
    fn frame_name(&self) -> Option<String> {
        None
    }

    /// When the frame that was read last was captured, where the source knows: later stages count latency from here.
    fn captured_at(&self) -> Option<Instant> {
        None
    }

    /// Whether frames come, and how to end a source that waits. A source that may be gone for a while gives the same
    /// cell every time and stays in [`Self::next`] until frames come again; others give one that never changes.
    fn state(&self) -> SourceState {
        SourceState::default()
    }

    /// What was left out so far, in words with the file's name.
    fn skipped(&self) -> &[String] {
        &[]
    }
}

/// Why a source cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file or folder cannot be read.
    #[error("{path}: cannot read: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A single picture is not one.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// A folder without a picture.
    #[error("{path}: expected pictures ({expected}), found none that can be decoded{found}")]
    NoPictures {
        /// The folder.
        path: PathBuf,
        /// Endings that are read.
        expected: String,
        /// What was found instead: empty, or how many damaged ones and the first of them.
        found: String,
    },
    /// A video needs ffmpeg, which is not installed.
    #[error(
        "{path}: reading this video needs the program `ffmpeg`, which was not found; install it (Debian, Ubuntu: \
         `apt-get install ffmpeg`) or convert the video to .y4m elsewhere"
    )]
    FfmpegMissing {
        /// The video.
        path: PathBuf,
    },
    /// The video cannot be decoded.
    #[error("{path}: expected a video, found {found}")]
    Video {
        /// The video.
        path: PathBuf,
        /// What ffmpeg or the reader says.
        found: String,
    },
    /// The stream of raw pixels ended inside a frame, or cannot be read.
    #[error("standard input: frame {frame}: expected {expected} bytes, found {found}")]
    Raw {
        /// Index of the frame.
        frame: u64,
        /// Bytes of a frame.
        expected: usize,
        /// Bytes before the end, or what the system says.
        found: String,
    },
    /// `--input -` without a size.
    #[error(
        "standard input carries raw RGB pixels: say their size and rate (--size 640x480 --fps 30)"
    )]
    SizeMissing,
    /// There is no such camera.
    #[error("no camera {index}: {found}")]
    NoCamera {
        /// The camera's number.
        index: u32,
        /// What was looked for and what there is.
        found: String,
    },
    /// The camera refuses or fails.
    #[error("camera {index}: {reason}")]
    Camera {
        /// The camera's number.
        index: u32,
        /// What is wrong with it.
        reason: camera::CameraError,
    },
    /// Built without cameras.
    #[error("this build has no camera support (cargo feature `camera`)")]
    CameraFeatureMissing,
}

/// What to open.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A camera, by its number.
    Camera(u32),
    /// The built-in demo.
    Demo,
    /// Raw RGB on standard input.
    Stdin(Option<FrameSize>),
    /// A picture, a folder of pictures or a video.
    Path(PathBuf),
}

impl Input {
    /// Reads an `--input` argument: `demo`, `camera`, `camera:N`, `-`, or a path. A file of that name wins over the words
    /// when it is written as a path (`./demo`).
    pub fn parse(argument: &str, size: Option<FrameSize>) -> Self {
        let camera = argument.strip_prefix("camera").and_then(|rest| {
            if rest.is_empty() {
                Some(0)
            } else {
                rest.strip_prefix(':')?.parse().ok()
            }
        });
        match (argument, camera) {
            ("demo", _) => Self::Demo,
            ("-", _) => Self::Stdin(size),
            (_, Some(index)) => Self::Camera(index),
            _ => Self::Path(PathBuf::from(argument)),
        }
    }
}

/// How a source is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceOptions {
    /// How long a camera may be gone before the source fails; `None`: it is waited for for ever. A camera that is not
    /// there at the beginning is an error at once.
    pub give_up_after: Option<Duration>,
}

/// Opens a source.
///
/// # Errors
/// See [`SourceError`].
pub fn open(input: &Input) -> Result<Box<dyn Source>, SourceError> {
    open_with(input, SourceOptions::default())
}

/// Opens a source in a certain way.
///
/// # Errors
/// See [`SourceError`].
pub fn open_with(input: &Input, options: SourceOptions) -> Result<Box<dyn Source>, SourceError> {
    Ok(match input {
        Input::Camera(index) => open_camera(*index, options)?,
        Input::Demo => Box::new(demo::DemoSource::new()),
        Input::Stdin(None) => return Err(SourceError::SizeMissing),
        Input::Stdin(Some(size)) => Box::new(RawSource::new(*size, std::io::stdin())),
        Input::Path(path) => open_path(path)?,
    })
}

fn open_path(path: &Path) -> Result<Box<dyn Source>, SourceError> {
    let unreadable = |source| SourceError::Read {
        path: path.to_owned(),
        source,
    };
    if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(Box::new(StillSource::folder(path)?));
    }
    if crate::picture::is_picture_name(path) {
        return Ok(Box::new(StillSource::picture(path)));
    }
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    if y4m::is_y4m(&mut file).map_err(unreadable)? {
        let name = path.display().to_string();
        return Ok(Box::new(
            y4m::Y4mSource::new(std::io::BufReader::new(file), name).map_err(|error| {
                SourceError::Video {
                    path: path.to_owned(),
                    found: error.to_string(),
                }
            })?,
        ));
    }
    Ok(Box::new(FfmpegSource::open(path)?))
}

#[cfg(feature = "camera")]
fn open_camera(index: u32, options: SourceOptions) -> Result<Box<dyn Source>, SourceError> {
    let source = camera::CameraSource::open(index, options.give_up_after)?;
    Ok(Box::new(source))
}

#[cfg(not(feature = "camera"))]
fn open_camera(_index: u32, _options: SourceOptions) -> Result<Box<dyn Source>, SourceError> {
    Err(SourceError::CameraFeatureMissing)
}

/// The cameras that the system knows; some of them may be metadata nodes that give no pictures.
///
/// # Errors
/// [`SourceError::CameraFeatureMissing`].
pub fn cameras() -> Result<Vec<CameraDescription>, SourceError> {
    #[cfg(feature = "camera")]
    return Ok(camera::list());
    #[cfg(not(feature = "camera"))]
    return Err(SourceError::CameraFeatureMissing);
}

/// Where cameras are looked for, for messages.
pub const CAMERA_PLACES: &str = "Video4Linux devices /dev/video*";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_sources() {
        for (argument, expected) in [
            ("demo", Input::Demo),
            ("./demo", Input::Path("./demo".into())),
            ("camera", Input::Camera(0)),
            ("camera:2", Input::Camera(2)),
            ("camera2", Input::Path("camera2".into())),
            ("-", Input::Stdin(None)),
            ("a.mp4", Input::Path("a.mp4".into())),
        ] {
            assert_eq!(Input::parse(argument, None), expected);
        }
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        let folder = tempfile::tempdir().expect("folder");
        for (input, expected) in [
            (Input::Path("no/such/file.mp4".into()), "no/such/file.mp4"),
            (Input::Stdin(None), "--size"),
            (Input::Path(folder.path().to_owned()), "expected pictures"),
        ] {
            let error = open(&input).err().expect(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
