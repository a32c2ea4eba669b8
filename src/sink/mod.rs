//! Where results go: JSON lines, annotated pictures, annotated videos, a window. Files appear under their names whole, when
//! they are finished; until then they are temporary files beside them.

mod json;
mod pictures;
mod video;
#[cfg_attr(not(feature = "window"), path = "no_window.rs")]
mod window;

pub use json::{FrameRecord, JsonLines};
pub use pictures::PictureFolder;
pub use video::{VideoFile, ffmpeg_is_installed};
pub use window::Window;

use crate::{frame::Frame, picture, picture::PictureError};
use std::path::{Path, PathBuf};

/// Why results cannot be written or shown.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The file or folder cannot be written.
    #[error("{path}: cannot write: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A picture cannot be written.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// Encoding needs ffmpeg, which is not installed.
    #[error(
        "{path}: writing this video needs the program `ffmpeg`, which was not found; install it (Debian, Ubuntu: \
         `apt-get install ffmpeg`) or name a .y4m file or a folder"
    )]
    FfmpegMissing {
        /// The video.
        path: PathBuf,
    },
    /// ffmpeg refused.
    #[error("{path}: ffmpeg cannot write the video: {reason}")]
    Video {
        /// The video.
        path: PathBuf,
        /// What it says.
        reason: String,
    },
    /// A video's frames have one size.
    #[error(
        "{path}: the video's frames are {expected}, frame {frame} is {found}; write pictures of different sizes into a \
         folder"
    )]
    SizeChanged {
        /// The video.
        path: PathBuf,
        /// Size of the first frame.
        expected: String,
        /// Index of the other one.
        frame: u64,
        /// Its size.
        found: String,
    },
    /// The reader of standard output went away, which is no failure.
    #[error("nobody reads the output any more")]
    ReaderGone,
    /// The output took nothing for too long.
    #[error("{name}: took nothing for {} s; it was given up", limit.as_secs_f64())]
    Stuck {
        /// The output.
        name: String,
        /// How long it was waited for.
        limit: std::time::Duration,
    },
    /// The output's own code failed.
    #[error("{name}: its thread panicked")]
    Panicked {
        /// The output.
        name: String,
    },
    /// There is nothing to open a window on.
    #[error("no window: {reason}")]
    NoDisplay {
        /// What the window system says.
        reason: String,
    },
}

/// What a key in the window asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyCommand {
    /// q, Escape: end.
    Quit,
    /// Space: stop or go on.
    Pause,
    /// s: write what is shown to a picture.
    Snapshot,
    /// m: show the mirror image.
    Mirror,
    /// d: show more.
    Debug,
    /// h: list the keys.
    Help,
}

/// A drawn frame on its way out.
#[derive(Clone, Copy, Debug)]
pub struct DrawnFrame<'a> {
    /// The pixels, overlay included.
    pub frame: &'a Frame,
    /// The source's frame index.
    pub index: u64,
    /// Time of the frame, in seconds from the source's first one.
    pub time_secs: f64,
    /// The frame's own name, where it has one.
    pub name: Option<&'a str>,
}

/// Takes drawn frames.
pub trait FrameSink: Send {
    /// Takes one frame.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn write(&mut self, drawn: DrawnFrame<'_>) -> Result<(), SinkError>;

    /// Completes the output; says what was written, `None` when there was no frame.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn finish(self: Box<Self>) -> Result<Option<String>, SinkError>;
}

/// Takes what was found in frames.
pub trait RecordSink: Send {
    /// Takes one frame's record.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn write(&mut self, record: &FrameRecord<'_>) -> Result<(), SinkError>;

    /// Completes the output; says what was written, `None` when there was no record.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn finish(self: Box<Self>) -> Result<Option<String>, SinkError>;
}

/// Opens an output by its name: `.mp4`, `.mkv`, `.mov`, `.webm`, `.avi`, `.y4m` are videos, a picture's ending is one
/// picture (the last frame), anything else a folder of pictures.
///
/// # Errors
/// See [`SinkError`].
pub fn open(path: &Path, frame_rate: f64) -> Result<Box<dyn FrameSink>, SinkError> {
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase());
    Ok(match ending.as_deref() {
        Some("mp4" | "mkv" | "mov" | "webm" | "avi" | "y4m") if !path.is_dir() => {
            Box::new(VideoFile::create(path, frame_rate)?)
        }
        _ if picture::is_picture_name(path) && !path.is_dir() => {
            Box::new(pictures::SinglePicture::create(path)?)
        }
        _ => Box::new(PictureFolder::create(path)?),
    })
}

/// The folder that holds `path`.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Refuses a file whose folder does not exist or cannot be written, before any work is done.
fn temporary_beside(path: &Path, suffix: &str) -> Result<tempfile::NamedTempFile, SinkError> {
    tempfile::Builder::new()
        .prefix(".facemark-")
        .suffix(suffix)
        .tempfile_in(folder_of(path))
        .map_err(|source| SinkError::Write {
            path: path.to_owned(),
            source,
        })
}

/// Gives a finished temporary file its name and the permissions of an ordinary new file.
fn publish(file: tempfile::NamedTempFile, path: &Path) -> Result<(), SinkError> {
    let failed = |source| SinkError::Write {
        path: path.to_owned(),
        source,
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file()
            .set_permissions(std::fs::Permissions::from_mode(0o644))
            .map_err(failed)?;
    }
    file.persist(path)
        .map(drop)
        .map_err(|error| failed(error.error))
}
