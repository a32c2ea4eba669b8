//! Raw RGB frames from a pipe: `width * height * 3` bytes each, nothing between them.

use super::{FrameStamp, Source, SourceError, SourceKind};
use crate::frame::Frame;
use std::io::{ErrorKind, Read};

/// Size and rate of raw frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameSize {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Frames a second.
    pub frame_rate: f64,
}

/// Raw RGB frames from a reader.
pub struct RawSource<R> {
    size: FrameSize,
    reader: R,
    frames: u64,
}

impl<R: Read + Send> RawSource<R> {
    /// Reads frames of `size` from `reader`.
    pub fn new(size: FrameSize, reader: R) -> Self {
        Self {
            size,
            reader,
            frames: 0,
        }
    }
}

impl<R: Read + Send> Source for RawSource<R> {
    fn kind(&self) -> SourceKind {
        SourceKind::Recorded
    }

    fn description(&self) -> String {
        format!(
            "raw RGB on standard input, {}x{}",
            self.size.width, self.size.height
        )
    }

    fn frame_rate(&self) -> Option<f64> {
        Some(self.size.frame_rate)
    }

    fn frame_size(&self) -> Option<(usize, usize)> {
        Some((self.size.width, self.size.height))
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Option<FrameStamp>, SourceError> {
        frame.reshape(self.size.width, self.size.height);
        let expected = frame.rgb().len();
        let failed = |found: String| SourceError::Raw {
            frame: self.frames,
            expected,
            found,
        };
        match fill(&mut self.reader, frame.rgb_mut()) {
            Ok(0) => return Ok(None),
            Ok(found) if found < expected => {
                return Err(failed(format!("{found} before the end")));
            }
            Ok(_) => {}
            Err(error) => return Err(failed(error.to_string())),
        }
        let index = self.frames;
        self.frames += 1;
        Ok(Some(FrameStamp {
            index,
            time_secs: index as f64 / self.size.frame_rate,
        }))
    }
}

/// Reads until `bytes` is full or the reader ends; returns how many bytes came.
pub(super) fn fill(reader: &mut impl Read, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match reader.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: FrameSize = FrameSize {
        width: 4,
        height: 2,
        frame_rate: 10.0,
    };

    #[test]
    fn frames_follow_each_other() {
        let bytes: Vec<u8> = (0..48).collect();
        let mut source = RawSource::new(SIZE, bytes.as_slice());
        let mut frame = Frame::default();
        for index in 0..2 {
            let stamp = source
                .next(&mut frame)
                .expect("frame")
                .expect("not at the end");
            assert_eq!(stamp.index, index);
            assert!((stamp.time_secs - 0.1 * index as f64).abs() < 1e-9);
            assert_eq!(frame.rgb(), &bytes[24 * index as usize..][..24]);
        }
        assert_eq!(source.next(&mut frame).expect("end"), None);
    }

    #[test]
    fn a_frame_that_is_cut_off_is_an_error() {
        let mut source = RawSource::new(SIZE, [7u8; 30].as_slice());
        let mut frame = Frame::default();
        assert!(source.next(&mut frame).expect("first").is_some());
        let error = source
            .next(&mut frame)
            .expect_err("6 of 24 bytes")
            .to_string();
        assert!(
            error.contains("frame 1: expected 24 bytes, found 6"),
            "{error}"
        );
    }
}
