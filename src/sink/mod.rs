//! Where results go: JSON lines, datagrams, annotated pictures, annotated videos, a window. Files appear under their names
//! whole, when they are finished; until then they are temporary files beside them.

mod datagrams;
mod json;
mod osc;
mod pictures;
mod video;
#[cfg_attr(not(feature = "window"), path = "no_window.rs")]
mod window;

pub use datagrams::JsonDatagrams;
pub use json::{FrameRecord, JsonLines};
pub use osc::{BlendNames, VmcSender};
pub use pictures::{PictureFolder, Snapshots};
pub use video::{VideoFile, ffmpeg_is_installed};
pub use window::Window;

use crate::{
    frame::Frame,
    picture,
    picture::{Encoding, PictureError},
};
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
    /// An address that datagrams cannot be sent to.
    #[error("{address}: expected HOST:PORT that can be reached, such as 127.0.0.1:39539: {reason}")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A datagram cannot be sent.
    #[error("{address}: cannot send: {source}")]
    Send {
        /// The receiver.
        address: String,
        /// What the system says.
        source: std::io::Error,
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

const VIDEO_ENDINGS: [&str; 6] = ["mp4", "mkv", "mov", "webm", "avi", "y4m"];

fn is_video_name(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    VIDEO_ENDINGS.contains(&ending.to_lowercase().as_str())
}

/// Whether the name can only be a folder's: it ends with a separator, or there is such a folder.
fn is_folder_name(path: &Path) -> bool {
    let ends_with_separator = path
        .as_os_str()
        .as_encoded_bytes()
        .last()
        .is_some_and(|&byte| std::path::is_separator(byte.into()));
    ends_with_separator || path.is_dir()
}

/// Opens an output by its name: `.mp4`, `.mkv`, `.mov`, `.webm`, `.avi`, `.y4m` are videos, a picture's ending is one
/// picture (the last frame), anything else, and what ends with a slash, a folder of pictures.
///
/// # Errors
/// See [`SinkError`].
pub fn open(path: &Path, frame_rate: f64) -> Result<Box<dyn FrameSink>, SinkError> {
    Ok(if is_folder_name(path) {
        Box::new(PictureFolder::create(path, Encoding::Jpeg)?)
    } else if is_video_name(path) {
        Box::new(VideoFile::create(path, frame_rate)?)
    } else if picture::is_picture_name(path) {
        Box::new(pictures::SinglePicture::create(path)?)
    } else {
        Box::new(PictureFolder::create(path, Encoding::Jpeg)?)
    })
}

/// Opens a recording by its name: a video's ending is a video, through ffmpeg where it is installed and else as Y4M under
/// the name with `.y4m`; anything else is a folder of PNG files, which lose nothing. Says where it records to.
///
/// # Errors
/// See [`SinkError`].
pub fn record(path: &Path, frame_rate: f64) -> Result<(Box<dyn FrameSink>, PathBuf), SinkError> {
    record_with(path, frame_rate, ffmpeg_is_installed())
}

fn record_with(
    path: &Path,
    frame_rate: f64,
    ffmpeg: bool,
) -> Result<(Box<dyn FrameSink>, PathBuf), SinkError> {
    if is_folder_name(path) || !is_video_name(path) {
        let folder = PictureFolder::create(path, Encoding::Png)?;
        return Ok((Box::new(folder), path.to_owned()));
    }
    let target = if ffmpeg {
        path.to_owned()
    } else {
        path.with_extension("y4m")
    };
    if target != path {
        tracing::warn!(
            "ffmpeg was not found: recording to {} instead of {}",
            target.display(),
            path.display()
        );
    }
    Ok((Box::new(VideoFile::create(&target, frame_rate)?), target))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a red and a blue frame; the files that are there then.
    fn record_two(name: &str, ffmpeg: bool) -> (Option<String>, Vec<String>, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join(name);
        let (mut sink, target) = record_with(&path, 10.0, ffmpeg).expect("sink");
        assert!(target.starts_with(folder.path()));
        for (index, color) in [[200, 0, 0], [0, 0, 200]].into_iter().enumerate() {
            let frame = Frame::from_rgb(16, 8, color.repeat(128)).expect("bytes");
            sink.write(DrawnFrame {
                frame: &frame,
                index: index as u64,
                time_secs: index as f64 / 10.0,
                name: None,
            })
            .expect("frame");
        }
        let said = sink.finish().expect("finish");
        let listed = std::fs::read_dir(folder.path()).expect("folder");
        let names = listed
            .map(|entry| {
                entry
                    .expect("entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        (said, names, folder)
    }

    #[test]
    fn without_ffmpeg_a_recording_is_y4m_or_png_by_its_name() {
        let (said, names, _folder) = record_two("clip.mp4", false);
        assert_eq!(names, ["clip.y4m"]);
        assert!(said.expect("written").contains("clip.y4m (2 frames)"));

        for name in ["clip", "clip.mp4/"] {
            let (_, names, folder) = record_two(name, false);
            assert_eq!(names, [name.trim_end_matches('/')]);
            let last = folder.path().join(name).join("frame-000001.png");
            assert_eq!(picture::load(&last).expect("PNG").pixel(3, 3), [0, 0, 200]);
        }
    }

    #[test]
    fn with_ffmpeg_a_recording_has_the_name_that_was_asked_for() {
        if !ffmpeg_is_installed() {
            println!("skipped: ffmpeg is not installed");
            return;
        }
        let (_, names, folder) = record_two("clip.mp4", true);
        assert_eq!(names, ["clip.mp4"]);
        let path = folder.path().join("clip.mp4");
        let mut source = crate::source::open(&crate::source::Input::Path(path)).expect("video");
        let mut frame = Frame::default();
        assert!(source.next(&mut frame).expect("frame").is_some());
        assert_eq!((frame.width(), frame.height()), (16, 8));
    }

    #[test]
    fn a_name_with_a_slash_is_a_folder() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("NAME.mp4/");
        open(&path, 10.0).expect("a folder");
        assert!(path.is_dir());
        let file = folder.path().join("taken.mp4");
        std::fs::write(&file, b"a file").expect("file");
        let error = open(&folder.path().join("taken.mp4/"), 10.0).err();
        let error = error.expect("no folder").to_string();
        assert!(error.contains("taken.mp4/: cannot write"), "{error}");
    }
}
