//! Videos through an installed `ffmpeg`: a child process decodes, turns and times the pictures and pipes them as Y4M, so
//! that size and rate come with the stream.

use super::{
    FrameStamp, Source, SourceError, SourceKind,
    y4m::{Y4mError, Y4mSource},
};
use crate::frame::Frame;
use std::{
    ffi::OsString,
    fs::File,
    io::{BufReader, ErrorKind, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

/// A video that ffmpeg decodes.
pub struct FfmpegSource {
    path: PathBuf,
    child: Child,
    messages: File,
    video: Y4mSource<BufReader<ChildStdout>>,
    skipped: Vec<String>,
}

impl FfmpegSource {
    /// Starts ffmpeg on a file.
    ///
    /// # Errors
    /// [`SourceError::FfmpegMissing`], and [`SourceError::Video`] when ffmpeg finds no picture in the file.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let refused = |found: String| SourceError::Video {
            path: path.to_owned(),
            found,
        };
        // A file, because a pipe that nobody reads would stop ffmpeg when it has much to complain about.
        let mut messages =
            tempfile::tempfile().map_err(|error| refused(format!("no temporary file: {error}")))?;
        let errors = messages
            .try_clone()
            .map_err(|error| refused(error.to_string()))?;
        let mut child =
            command(path)
                .stderr(errors)
                .spawn()
                .map_err(|error| match error.kind() {
                    ErrorKind::NotFound => SourceError::FfmpegMissing {
                        path: path.to_owned(),
                    },
                    _ => refused(format!("ffmpeg does not start: {error}")),
                })?;
        let pipe = child
            .stdout
            .take()
            .expect("the command pipes its standard output");
        match Y4mSource::new(BufReader::new(pipe), path.display().to_string()) {
            Ok(video) => Ok(Self {
                path: path.to_owned(),
                child,
                messages,
                video,
                skipped: Vec::new(),
            }),
            Err(error) => {
                let _ = child.wait();
                Err(refused(
                    complaint(&mut messages).unwrap_or_else(|| error.to_string()),
                ))
            }
        }
    }

    /// ffmpeg goes on after damage and ends early at worse damage; only a video without any picture is an error.
    fn end(&mut self) -> Result<Option<FrameStamp>, SourceError> {
        // The stream has ended, so the child is about to.
        let _ = self.child.wait();
        let said = complaint(&mut self.messages);
        if self.video.frames_read() == 0 {
            return Err(SourceError::Video {
                path: self.path.clone(),
                found: said.unwrap_or_else(|| "no pictures".to_owned()),
            });
        }
        if let Some(said) = said.filter(|said| !self.skipped.contains(said)) {
            tracing::warn!("{}: damaged: {said}", self.path.display());
            self.skipped
                .push(format!("{}: {said}", self.path.display()));
        }
        Ok(None)
    }

    fn failed(&mut self, error: &Y4mError) -> SourceError {
        SourceError::Video {
            path: self.path.clone(),
            found: complaint(&mut self.messages).unwrap_or_else(|| error.to_string()),
        }
    }
}

fn command(path: &Path) -> Command {
    let mut command = Command::new("ffmpeg");
    // `file:` keeps a name with a colon or a leading dash from being taken for a protocol or an option.
    let mut input = OsString::from("file:");
    input.push(path);
    command
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(input)
        .args(["-an", "-sn", "-dn", "-map", "0:v:0"])
        .args(["-vf", "scale=out_color_matrix=bt601:out_range=tv"])
        .args([
            "-pix_fmt",
            "yuv444p",
            "-strict",
            "-1",
            "-f",
            "yuv4mpegpipe",
            "-",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    // Ctrl-C is for us: the child goes when its pipe closes.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}

/// The last thing that ffmpeg said.
fn complaint(messages: &mut File) -> Option<String> {
    let mut text = Vec::new();
    messages.seek(SeekFrom::Start(0)).ok()?;
    messages.take(1 << 20).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().rfind(|line| !line.trim().is_empty())?;
    Some(format!("ffmpeg: {}", last.trim()))
}

impl Source for FfmpegSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Recorded
    }

    fn description(&self) -> String {
        self.video.description()
    }

    fn frame_rate(&self) -> Option<f64> {
        self.video.frame_rate()
    }

    fn frame_size(&self) -> Option<(usize, usize)> {
        self.video.frame_size()
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Option<FrameStamp>, SourceError> {
        match self.video.read_frame(frame) {
            Ok(Some(stamp)) => Ok(Some(stamp)),
            Ok(None) => self.end(),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn skipped(&self) -> &[String] {
        &self.skipped
    }
}

impl Drop for FfmpegSource {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
