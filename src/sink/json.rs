//! JSON lines: one object a frame, in the order of the frames.

use super::{SinkError, publish, temporary_beside};
use crate::tracker::TrackedFace;
use serde::Serialize;
use std::{
    io::{BufWriter, Write},
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
}

/// Writes frames' lines to a file.
pub struct JsonLines {
    path: PathBuf,
    writer: BufWriter<tempfile::NamedTempFile>,
}

impl JsonLines {
    /// Starts a file.
    ///
    /// # Errors
    /// When its folder cannot be written.
    pub fn create(path: &Path) -> Result<Self, SinkError> {
        Ok(Self {
            path: path.to_owned(),
            writer: BufWriter::new(temporary_beside(path, ".jsonl")?),
        })
    }

    /// Writes a line.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write(&mut self, record: &FrameRecord<'_>) -> Result<(), SinkError> {
        serde_json::to_writer(&mut self.writer, record)
            .map_err(std::io::Error::from)
            .and_then(|()| self.writer.write_all(b"\n"))
            .map_err(|source| SinkError::Write {
                path: self.path.clone(),
                source,
            })
    }

    /// Completes the file; says what was written.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(self) -> Result<String, SinkError> {
        let file = self.writer.into_inner().map_err(|error| SinkError::Write {
            path: self.path.clone(),
            source: error.into_error(),
        })?;
        publish(file, &self.path)?;
        Ok(self.path.display().to_string())
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
            };
            lines.write(&record).expect("line");
        }
        assert!(!path.exists(), "half a file has no name");
        lines.finish().expect("finish");
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
