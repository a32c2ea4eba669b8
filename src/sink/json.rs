//! JSON lines: one object a frame, in the order of the frames.

use super::{RecordSink, SinkError, publish, temporary_beside};
use crate::tracker::TrackedFace;
use serde::Serialize;
use std::{
    io::{BufWriter, ErrorKind, Write},
    path::{Path, PathBuf},
};

/// A frame's line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FrameRecord<'a> {
    /// The source's frame index.
    pub frame: u64,
    /// Time of the frame, in seconds from the first one.
    pub time_secs: f64,
    /// The faces; none: empty.
    pub faces: &'a [TrackedFace],
    /// Frames of the source that were dropped so far.
    pub dropped: u64,
    /// Faces that are missing at the end of `faces`, because there was no room for them; in JSON only when there are any.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Writes frames' lines to a file or to standard output.
pub struct JsonLines {
    target: Target,
    lines: u64,
}

enum Target {
    File {
        path: PathBuf,
        writer: BufWriter<tempfile::NamedTempFile>,
    },
    /// Flushed after each line: whoever reads it does so now.
    Pipe(Box<dyn Write + Send>),
}

impl JsonLines {
    /// Starts a file.
    ///
    /// # Errors
    /// When its folder cannot be written.
    pub fn create(path: &Path) -> Result<Self, SinkError> {
        let writer = BufWriter::new(temporary_beside(path, ".jsonl")?);
        Ok(Self {
            target: Target::File {
                path: path.to_owned(),
                writer,
            },
            lines: 0,
        })
    }

    /// Writes to standard output.
    pub fn to_stdout() -> Self {
        Self::to_pipe(Box::new(std::io::stdout()))
    }

    fn to_pipe(pipe: Box<dyn Write + Send>) -> Self {
        Self {
            target: Target::Pipe(pipe),
            lines: 0,
        }
    }
}

impl RecordSink for JsonLines {
    fn write(&mut self, record: &FrameRecord<'_>) -> Result<(), SinkError> {
        self.lines += 1;
        match &mut self.target {
            Target::File { path, writer } => serde_json::to_writer(&mut *writer, record)
                .map_err(std::io::Error::from)
                .and_then(|()| writer.write_all(b"\n"))
                .map_err(|source| SinkError::Write {
                    path: path.clone(),
                    source,
                }),
            Target::Pipe(pipe) => {
                // In one piece, so that a reader never waits for the rest of a line.
                let mut line =
                    serde_json::to_vec(record).map_err(|error| pipe_error(error.into()))?;
                line.push(b'\n');
                pipe.write_all(&line)
                    .and_then(|()| pipe.flush())
                    .map_err(pipe_error)
            }
        }
    }

    /// A run without a frame, such as that of a broken picture, leaves no file.
    fn finish(self: Box<Self>) -> Result<Option<String>, SinkError> {
        let Target::File { path, writer } = self.target else {
            return Ok(None);
        };
        if self.lines == 0 {
            return Ok(None);
        }
        let file = writer.into_inner().map_err(|error| SinkError::Write {
            path: path.clone(),
            source: error.into_error(),
        })?;
        publish(file, &path)?;
        Ok(Some(path.display().to_string()))
    }
}

fn pipe_error(source: std::io::Error) -> SinkError {
    if source.kind() == ErrorKind::BrokenPipe {
        return SinkError::ReaderGone;
    }
    SinkError::Write {
        path: "standard output".into(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        geometry::{FaceBox, Point},
        pose::Pose,
        signals::Signals,
    };

    #[test]
    fn lines_follow_the_contract_and_appear_when_finished() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("out.jsonl");
        let face = TrackedFace {
            id: 7,
            face_box: FaceBox::new(1.0, 2.0, 3.0, 4.0),
            score: 0.5,
            landmarks: vec![Point::new(1.5, 2.0), Point::new(3.0, 4.0)],
            confidence: 0.25,
            expected_errors_px: vec![0.5, 1.5],
            pose: Some(Pose {
                yaw: 1.0,
                pitch: -2.0,
                roll: 3.0,
            }),
            signals: Some(Signals {
                left_eye: 0.25,
                right_eye: 0.5,
                mouth: 0.125,
                eyes_closed: false,
                blink: true,
                blinks: 2,
            }),
        };
        let mut lines = JsonLines::create(&path).expect("file");
        for (frame, faces) in [(0, &[][..]), (2, &[face][..])] {
            let record = FrameRecord {
                frame,
                time_secs: 0.5 * frame as f64,
                faces,
                dropped: frame / 2,
                left_out: 0,
            };
            lines.write(&record).expect("line");
        }
        assert!(!path.exists(), "half a file has no name");
        Box::new(lines).finish().expect("finish");
        let text = std::fs::read_to_string(&path).expect("text");
        let expected = concat!(
            r#"{"frame":0,"time_secs":0.0,"faces":[],"dropped":0}"#,
            "\n",
            r#"{"frame":2,"time_secs":1.0,"faces":[{"id":7,"box":[1.0,2.0,3.0,4.0],"score":0.5,"#,
            r#""landmarks":[[1.5,2.0],[3.0,4.0]],"confidence":0.25,"expected_errors_px":[0.5,1.5],"#,
            r#""pose":{"yaw":1.0,"pitch":-2.0,"roll":3.0},"signals":{"left_eye":0.25,"right_eye":0.5,"#,
            r#""mouth":0.125,"eyes_closed":false,"blink":true,"blinks":2}}],"dropped":1}"#,
            "\n",
        );
        assert_eq!(text, expected);
    }

    /// What a pipe's reader has got so far; once closed, it is broken.
    #[derive(Clone, Default)]
    struct Reader(std::sync::Arc<std::sync::Mutex<(Vec<u8>, bool)>>);

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let mut state = self.0.lock().expect("no panic");
            if state.1 {
                return Err(ErrorKind::BrokenPipe.into());
            }
            state.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_pipe_gets_whole_lines_at_once_and_its_end_is_no_failure() {
        let reader = Reader::default();
        let mut lines = JsonLines::to_pipe(Box::new(reader.clone()));
        let record = FrameRecord {
            frame: 3,
            time_secs: 0.5,
            faces: &[],
            dropped: 1,
            left_out: 0,
        };
        lines.write(&record).expect("line");
        let text = String::from_utf8(reader.0.lock().expect("text").0.clone()).expect("UTF-8");
        assert_eq!(
            text,
            "{\"frame\":3,\"time_secs\":0.5,\"faces\":[],\"dropped\":1}\n"
        );
        reader.0.lock().expect("text").1 = true;
        let gone = lines.write(&record).expect_err("broken pipe");
        assert!(matches!(gone, SinkError::ReaderGone), "{gone}");
        assert_eq!(Box::new(lines).finish().expect("no file"), None);
    }

    #[test]
    fn a_missing_folder_is_refused_at_once() {
        let error = JsonLines::create(Path::new("no/such/folder/out.jsonl"))
            .err()
            .expect("no folder");
        assert!(
            error.to_string().contains("no/such/folder/out.jsonl"),
            "{error}"
        );
    }
}
