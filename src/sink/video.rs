//! Annotated videos: through an installed `ffmpeg` as a child process, or as plain Y4M, which needs none.

use super::{DrawnFrame, FrameSink, SinkError, publish, temporary_beside};
use crate::{frame::Frame, source::y4m::Y4mWriter};
use std::{
    fs::File,
    io::{BufWriter, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Whether `ffmpeg` can be started.
pub fn ffmpeg_is_installed() -> bool {
    Command::new("ffmpeg")
        .arg("-version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

enum Encoder {
    /// Before the first frame says the size.
    Waiting,
    Y4m(Y4mWriter<BufWriter<File>>),
    Ffmpeg {
        child: EndedChild,
        messages: File,
    },
}

/// A child process that is ended when nobody needs it any more; its half-written file goes with its temporary name.
struct EndedChild(Child);

impl Drop for EndedChild {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A video file of one frame rate; its size is the first frame's.
pub struct VideoFile {
    path: PathBuf,
    file: tempfile::NamedTempFile,
    frame_rate: f64,
    plain: bool,
    size: (usize, usize),
    encoder: Encoder,
    frames: u64,
    start_secs: Option<f64>,
    last: Frame,
}

impl VideoFile {
    /// Starts a video: Y4M where the name says so, else what ffmpeg takes the name for.
    ///
    /// # Errors
    /// [`SinkError::FfmpegMissing`] and [`SinkError::Write`].
    pub fn create(path: &Path, frame_rate: f64) -> Result<Self, SinkError> {
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        let plain = ending.eq_ignore_ascii_case("y4m");
        if !plain && !ffmpeg_is_installed() {
            return Err(SinkError::FfmpegMissing {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            path: path.to_owned(),
            file: temporary_beside(path, &format!(".{ending}"))?,
            frame_rate,
            plain,
            size: (0, 0),
            encoder: Encoder::Waiting,
            frames: 0,
            start_secs: None,
            last: Frame::default(),
        })
    }

    fn start(&mut self, frame: &Frame) -> Result<Encoder, SinkError> {
        self.size = (frame.width(), frame.height());
        let failed = |source| SinkError::Write {
            path: self.path.clone(),
            source,
        };
        if self.plain {
            let file = self.file.reopen().map_err(failed)?;
            let (width, height) = self.size;
            let writer = Y4mWriter::new(BufWriter::new(file), width, height, self.frame_rate);
            return Ok(Encoder::Y4m(writer.map_err(failed)?));
        }
        let messages = tempfile::tempfile().map_err(failed)?;
        let errors = messages.try_clone().map_err(failed)?;
        let mut command = Command::new("ffmpeg");
        command
            .args([
                "-v",
                "error",
                "-y",
                "-f",
                "rawvideo",
                "-pixel_format",
                "rgb24",
            ])
            .args(["-video_size", &format!("{}x{}", self.size.0, self.size.1)])
            .args(["-framerate", &format!("{:.6}", self.frame_rate)])
            // Most encoders and players want even edges and halved chroma.
            .args(["-i", "-", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"])
            .args(["-pix_fmt", "yuv420p"])
            .arg(self.file.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(errors);
        // Ctrl-C is for us: ffmpeg completes the file when its pipe closes.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => SinkError::FfmpegMissing {
                path: self.path.clone(),
            },
            _ => failed(error),
        })?;
        Ok(Encoder::Ffmpeg {
            child: EndedChild(child),
            messages,
        })
    }

    /// Encodes the last frame (again).
    fn encode_last(&mut self) -> Result<(), SinkError> {
        self.frames += 1;
        match &mut self.encoder {
            Encoder::Waiting => Ok(()),
            Encoder::Y4m(writer) => writer.write(&self.last).map_err(|source| SinkError::Write {
                path: self.path.clone(),
                source,
            }),
            Encoder::Ffmpeg { child, messages } => {
                let pipe = child.0.stdin.as_mut().expect("the command pipes its input");
                pipe.write_all(self.last.rgb()).map_err(|_| {
                    let _ = child.0.wait();
                    SinkError::Video {
                        path: self.path.clone(),
                        reason: complaint(messages),
                    }
                })
            }
        }
    }
}

fn complaint(messages: &mut File) -> String {
    let mut text = Vec::new();
    // What cannot be read cannot be quoted.
    let _ = messages.seek(SeekFrom::Start(0));
    let _ = messages.take(1 << 16).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let first = text.lines().find(|line| !line.trim().is_empty());
    first.unwrap_or("it ended without a word").trim().to_owned()
}

impl FrameSink for VideoFile {
    fn write(&mut self, drawn: DrawnFrame<'_>) -> Result<(), SinkError> {
        if matches!(self.encoder, Encoder::Waiting) {
            self.encoder = self.start(drawn.frame)?;
        }
        let size = (drawn.frame.width(), drawn.frame.height());
        if size != self.size {
            return Err(SinkError::SizeChanged {
                path: self.path.clone(),
                expected: format!("{}x{}", self.size.0, self.size.1),
                frame: drawn.index,
                found: format!("{}x{}", size.0, size.1),
            });
        }
        // Frames come at one rate in a video: dropped ones are made up for by showing the one before for longer, and of
        // two within one frame's time the second is left out.
        let start = *self.start_secs.get_or_insert(drawn.time_secs);
        let due = ((drawn.time_secs - start) * self.frame_rate).round() as u64;
        while self.frames < due {
            self.encode_last()?;
        }
        if self.frames == due {
            self.last.clone_from(drawn.frame);
            self.encode_last()?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Option<String>, SinkError> {
        let failed = |source| SinkError::Write {
            path: self.path.clone(),
            source,
        };
        match std::mem::replace(&mut self.encoder, Encoder::Waiting) {
            Encoder::Waiting => return Ok(None),
            Encoder::Y4m(writer) => drop(writer.finish().map_err(failed)?),
            Encoder::Ffmpeg {
                mut child,
                mut messages,
            } => {
                drop(child.0.stdin.take());
                if !child.0.wait().map_err(failed)?.success() {
                    return Err(SinkError::Video {
                        path: self.path.clone(),
                        reason: complaint(&mut messages),
                    });
                }
            }
        }
        let said = format!("{} ({} frames)", self.path.display(), self.frames);
        publish(self.file, &self.path)?;
        Ok(Some(said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source;

    fn frames() -> Vec<Frame> {
        let gray = |value: u8| Frame::from_rgb(33, 21, vec![value; 33 * 21 * 3]).expect("bytes");
        vec![gray(40), gray(120), gray(200)]
    }

    /// Writes the frames, reads them back with the source of that format, compares.
    fn round_trip(name: &str, tolerance: u8) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join(name);
        let mut sink = crate::sink::open(&path, 10.0).expect("sink");
        for (index, frame) in frames().iter().enumerate() {
            let drawn = DrawnFrame {
                frame,
                index: index as u64,
                time_secs: index as f64 / 10.0,
                name: None,
            };
            sink.write(drawn).expect("frame");
        }
        assert!(!path.exists(), "half a file has no name");
        let said = sink.finish().expect("finish").expect("written");
        assert!(said.contains("3 frames"), "{said}");
        let mut source = source::open(&source::Input::Path(path)).expect("source");
        assert_eq!(source.frame_rate(), Some(10.0));
        let mut back = Frame::default();
        for frame in frames() {
            source
                .next(&mut back)
                .expect("frame")
                .expect("three frames");
            let (found, expected) = (back.pixel(10, 10)[1], frame.pixel(10, 10)[1]);
            assert!(found.abs_diff(expected) <= tolerance, "{found} {expected}");
        }
        assert_eq!(source.next(&mut back).expect("end"), None);
        assert!(source.skipped().is_empty(), "{:?}", source.skipped());
    }

    #[test]
    fn a_y4m_video_comes_back() {
        round_trip("out.y4m", 2);
    }

    #[test]
    fn a_video_through_ffmpeg_comes_back() {
        if !ffmpeg_is_installed() {
            println!("skipped: ffmpeg is not installed");
            return;
        }
        round_trip("out.mp4", 4);
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("broken.mp4");
        std::fs::write(&path, b"no video at all").expect("file");
        let error = source::open(&source::Input::Path(path))
            .err()
            .expect("no video");
        assert!(
            error.to_string().contains("broken.mp4: expected a video"),
            "{error}"
        );
    }

    #[test]
    fn dropped_frames_are_made_up_for() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.y4m");
        let mut sink = crate::sink::open(&path, 10.0).expect("sink");
        for (index, tenths) in [3, 4, 8, 8, 9].into_iter().enumerate() {
            let frame = Frame::from_rgb(2, 2, vec![20 * tenths; 12]).expect("bytes");
            let drawn = DrawnFrame {
                frame: &frame,
                index: index as u64,
                time_secs: 0.1 * f64::from(tenths) + 0.001,
                name: None,
            };
            sink.write(drawn).expect("frame");
        }
        sink.finish().expect("finish");
        let mut source = source::open(&source::Input::Path(path)).expect("source");
        let (mut back, mut seen) = (Frame::default(), Vec::new());
        while source.next(&mut back).expect("frame").is_some() {
            seen.push((f32::from(back.pixel(0, 0)[1]) / 20.0).round() as u8);
        }
        assert_eq!(seen, [3, 4, 4, 4, 4, 8, 9]);
    }

    #[test]
    fn another_size_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let mut sink = VideoFile::create(&folder.path().join("a.y4m"), 5.0).expect("sink");
        for (index, frame) in [Frame::new(4, 4), Frame::new(6, 4)].iter().enumerate() {
            let drawn = DrawnFrame {
                frame,
                index: index as u64,
                time_secs: index as f64 / 10.0,
                name: None,
            };
            let result = sink.write(drawn);
            if index == 1 {
                let error = result.expect_err("another size").to_string();
                assert!(
                    error.contains("4x4") && error.contains("frame 1 is 6x4"),
                    "{error}"
                );
            }
        }
    }
}
