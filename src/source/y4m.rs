//! YUV4MPEG2 (.y4m): the plain video format that needs no decoder. Reads 8-bit 4:2:0, 4:2:2, 4:4:4 and mono; writes 4:4:4.
//!
//! The format is described in yuv4mpeg(5) of mjpegtools: a header line of tagged parameters, then for each frame a line
//! that starts with `FRAME` and the planes.

use super::{FrameStamp, Source, SourceError, SourceKind, raw::fill, yuv};
use crate::frame::Frame;
use std::io::{BufRead, Read, Seek, SeekFrom, Write};

const MAGIC: &[u8] = b"YUV4MPEG2";

/// Longest line that is taken for a header.
const LINE_LIMIT: u64 = 1024;

/// Largest edge, so that a hostile header cannot ask for all memory.
const LARGEST_EDGE: usize = 16_384;

/// Why a stream is not Y4M that can be read.
#[derive(Debug, thiserror::Error)]
pub enum Y4mError {
    /// Reading failed.
    #[error("cannot read: {0}")]
    Read(#[from] std::io::Error),
    /// A header says something else than expected.
    #[error("{what}: expected {expected}, found {found:?}")]
    Header {
        /// Which part.
        what: &'static str,
        /// What it should say.
        expected: &'static str,
        /// What it says.
        found: String,
    },
    /// The stream ends inside a frame.
    #[error("frame {frame} is cut off: expected {expected} bytes, found {found}")]
    Cut {
        /// Index of the frame.
        frame: u64,
        /// Bytes of a frame.
        expected: usize,
        /// Bytes that came.
        found: usize,
    },
}

/// How the chroma planes are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chroma {
    Mono,
    /// Pixels of the picture to a chroma sample, across and down.
    Planes {
        across: usize,
        down: usize,
    },
}

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Header {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Frames a second.
    pub frame_rate: f64,
    chroma: Chroma,
}

impl Header {
    /// Reads the header line.
    ///
    /// # Errors
    /// See [`Y4mError`].
    pub fn read(reader: &mut impl BufRead) -> Result<Self, Y4mError> {
        let line = read_line(reader)?;
        let mut words = line.split(' ');
        if words.next().map(str::as_bytes) != Some(MAGIC) {
            return Err(refused(
                "header",
                "YUV4MPEG2",
                line.get(..20).unwrap_or(&line),
            ));
        }
        let mut header = Self {
            width: 0,
            height: 0,
            frame_rate: 25.0,
            chroma: Chroma::Planes { across: 2, down: 2 },
        };
        for word in words.filter(|word| !word.is_empty()) {
            let mut letters = word.chars();
            let tag = letters.next();
            let value = letters.as_str();
            match tag {
                Some('W') => header.width = edge("width", value)?,
                Some('H') => header.height = edge("height", value)?,
                Some('F') => header.frame_rate = rate(value)?,
                Some('C') => header.chroma = chroma(value)?,
                _ => {}
            }
        }
        // Without these tags the size is still 0.
        edge("width", &header.width.to_string())?;
        edge("height", &header.height.to_string())?;
        Ok(header)
    }

    fn chroma_size(&self) -> (usize, usize) {
        match self.chroma {
            Chroma::Mono => (0, 0),
            Chroma::Planes { across, down } => {
                (self.width.div_ceil(across), self.height.div_ceil(down))
            }
        }
    }

    fn frame_bytes(&self) -> usize {
        let (width, height) = self.chroma_size();
        self.width * self.height + 2 * width * height
    }
}

fn refused(what: &'static str, expected: &'static str, found: &str) -> Y4mError {
    Y4mError::Header {
        what,
        expected,
        found: found.to_owned(),
    }
}

fn edge(what: &'static str, value: &str) -> Result<usize, Y4mError> {
    match value.parse() {
        Ok(size @ 1..=LARGEST_EDGE) => Ok(size),
        _ => Err(refused(what, "1 to 16384 pixels", value)),
    }
}

fn rate(value: &str) -> Result<f64, Y4mError> {
    let fraction = value.split_once(':').and_then(|(over, under)| {
        Some(over.parse::<u32>().ok()? as f64 / under.parse::<u32>().ok()? as f64)
    });
    match fraction {
        // 0:0 means "unknown".
        Some(rate) if rate.is_nan() => Ok(25.0),
        Some(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
        _ => Err(refused("frame rate", "a fraction such as 30:1", value)),
    }
}

fn chroma(value: &str) -> Result<Chroma, Y4mError> {
    match value {
        "420" | "420jpeg" | "420mpeg2" | "420paldv" => Ok(Chroma::Planes { across: 2, down: 2 }),
        "422" => Ok(Chroma::Planes { across: 2, down: 1 }),
        "444" => Ok(Chroma::Planes { across: 1, down: 1 }),
        "mono" => Ok(Chroma::Mono),
        _ => Err(refused(
            "chroma",
            "8 bits: 420, 420jpeg, 420mpeg2, 420paldv, 422, 444 or mono",
            value,
        )),
    }
}

fn read_line(reader: &mut impl BufRead) -> Result<String, Y4mError> {
    let mut line = Vec::new();
    reader
        .by_ref()
        .take(LINE_LIMIT)
        .read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Whether a file starts like Y4M; leaves the file at its start.
///
/// # Errors
/// When the file cannot be read.
pub fn is_y4m(file: &mut (impl Read + Seek)) -> std::io::Result<bool> {
    let mut start = [0; MAGIC.len()];
    let count = fill(file, &mut start)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(&start[..count] == MAGIC)
}

/// Frames of a Y4M stream.
pub struct Y4mSource<R> {
    header: Header,
    reader: R,
    name: String,
    planes: Vec<u8>,
    frames: u64,
}

impl<R: BufRead + Send> Y4mSource<R> {
    /// Reads the header. `name` stands for the stream in messages.
    ///
    /// # Errors
    /// See [`Y4mError`].
    pub fn new(mut reader: R, name: String) -> Result<Self, Y4mError> {
        let header = Header::read(&mut reader)?;
        Ok(Self {
            header,
            reader,
            name,
            planes: Vec::new(),
            frames: 0,
        })
    }

    /// What the header says.
    pub fn header(&self) -> Header {
        self.header
    }

    /// Frames that were read so far.
    pub fn frames_read(&self) -> u64 {
        self.frames
    }

    /// As [`Source::next`], with this format's own error.
    ///
    /// # Errors
    /// See [`Y4mError`].
    pub fn read_frame(&mut self, frame: &mut Frame) -> Result<Option<FrameStamp>, Y4mError> {
        let line = read_line(&mut self.reader)?;
        if line.is_empty() {
            return Ok(None);
        }
        if !line.starts_with("FRAME") {
            return Err(refused(
                "frame header",
                "FRAME",
                line.get(..20).unwrap_or(&line),
            ));
        }
        let expected = self.header.frame_bytes();
        self.planes.resize(expected, 0);
        let found = fill(&mut self.reader, &mut self.planes)?;
        if found < expected {
            return Err(Y4mError::Cut {
                frame: self.frames,
                expected,
                found,
            });
        }
        convert(&self.header, &self.planes, frame);
        let index = self.frames;
        self.frames += 1;
        Ok(Some(FrameStamp {
            index,
            time_secs: index as f64 / self.header.frame_rate,
        }))
    }
}

impl<R: BufRead + Send> Source for Y4mSource<R> {
    fn kind(&self) -> SourceKind {
        SourceKind::Recorded
    }

    fn description(&self) -> String {
        let Header {
            width,
            height,
            frame_rate,
            ..
        } = self.header;
        format!("video {}, {width}x{height}, {frame_rate:.4} fps", self.name)
    }

    fn frame_rate(&self) -> Option<f64> {
        Some(self.header.frame_rate)
    }

    fn frame_size(&self) -> Option<(usize, usize)> {
        Some((self.header.width, self.header.height))
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Option<FrameStamp>, SourceError> {
        self.read_frame(frame).map_err(|error| SourceError::Video {
            path: self.name.clone().into(),
            found: error.to_string(),
        })
    }
}

fn convert(header: &Header, planes: &[u8], frame: &mut Frame) {
    frame.reshape(header.width, header.height);
    let (luma, chroma) = planes.split_at(header.width * header.height);
    let (chroma_width, chroma_height) = header.chroma_size();
    let (blue, red) = chroma.split_at(chroma_width * chroma_height);
    let rows = frame.rgb_mut().chunks_exact_mut(3 * header.width);
    for (y, (row, luma)) in rows.zip(luma.chunks_exact(header.width)).enumerate() {
        let pixels = row.chunks_exact_mut(3).zip(luma);
        match header.chroma {
            Chroma::Mono => {
                for (pixel, &luma) in pixels {
                    pixel.copy_from_slice(&yuv::rgb_from_yuv(luma, 128, 128));
                }
            }
            Chroma::Planes { across, down } => {
                let start = (y / down) * chroma_width;
                let (blue, red) = (
                    &blue[start..][..chroma_width],
                    &red[start..][..chroma_width],
                );
                for (x, (pixel, &luma)) in pixels.enumerate() {
                    let (blue, red) = (blue[x / across], red[x / across]);
                    pixel.copy_from_slice(&yuv::rgb_from_yuv(luma, blue, red));
                }
            }
        }
    }
}

/// Writes frames of one size as Y4M, 4:4:4.
pub struct Y4mWriter<W> {
    writer: W,
    width: usize,
    height: usize,
    planes: Vec<u8>,
}

impl<W: Write> Y4mWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// When writing fails.
    pub fn new(
        mut writer: W,
        width: usize,
        height: usize,
        frame_rate: f64,
    ) -> std::io::Result<Self> {
        // Thousandths hold every usual rate within a frame an hour.
        let thousandths = (frame_rate * 1000.0).round().max(1.0) as u64;
        writeln!(
            writer,
            "YUV4MPEG2 W{width} H{height} F{thousandths}:1000 Ip A1:1 C444"
        )?;
        Ok(Self {
            writer,
            width,
            height,
            planes: vec![0; 3 * width * height],
        })
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// When writing fails, or the frame has another size than the header says.
    pub fn write(&mut self, frame: &Frame) -> std::io::Result<()> {
        if (frame.width(), frame.height()) != (self.width, self.height) {
            return Err(std::io::Error::other(format!(
                "expected frames of {}x{}, found {}x{}",
                self.width,
                self.height,
                frame.width(),
                frame.height()
            )));
        }
        let size = self.width * self.height;
        for (index, pixel) in frame.rgb().chunks_exact(3).enumerate() {
            let yuv = yuv::yuv_from_rgb([pixel[0], pixel[1], pixel[2]]);
            for (plane, value) in yuv.into_iter().enumerate() {
                self.planes[plane * size + index] = value;
            }
        }
        self.writer.write_all(b"FRAME\n")?;
        self.writer.write_all(&self.planes)
    }

    /// Gives the writer back, flushed.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self) -> std::io::Result<W> {
        self.writer.flush()?;
        Ok(self.writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize, seed: usize) -> Frame {
        let mut frame = Frame::new(width, height);
        for y in 0..height {
            for x in 0..width {
                let value = |step: usize| ((x * step + y * 11 + seed * 29) % 256) as u8;
                frame.set_pixel(x, y, [value(3), value(7), value(13)]);
            }
        }
        frame
    }

    #[test]
    fn written_frames_are_read_back() {
        let frames = [picture(7, 5, 0), picture(7, 5, 1), picture(7, 5, 2)];
        let mut writer = Y4mWriter::new(Vec::new(), 7, 5, 30000.0 / 1001.0).expect("header");
        for frame in &frames {
            writer.write(frame).expect("frame");
        }
        let bytes = writer.finish().expect("bytes");
        let mut source = Y4mSource::new(bytes.as_slice(), "test".to_owned()).expect("source");
        assert!((source.header().frame_rate - 29.97).abs() < 1e-3);
        let mut back = Frame::default();
        for (index, frame) in frames.iter().enumerate() {
            let stamp = source
                .next(&mut back)
                .expect("frame")
                .expect("three frames");
            assert_eq!(stamp.index, index as u64);
            let worst = frame
                .rgb()
                .iter()
                .zip(back.rgb())
                .map(|(a, b)| a.abs_diff(*b))
                .max();
            assert!(worst <= Some(2), "{worst:?}");
        }
        assert_eq!(source.next(&mut back).expect("end"), None);
    }

    #[test]
    fn every_sampling_is_read_at_odd_sizes() {
        for (name, samples) in [
            ("420jpeg", 4 + 4),
            ("420", 4 + 4),
            ("422", 6 + 6),
            ("444", 9 + 9),
            ("mono", 0),
        ] {
            let mut bytes = format!("YUV4MPEG2 W3 H3 F10:1 C{name}\nFRAME\n").into_bytes();
            bytes.extend([81; 9]);
            bytes.extend(std::iter::repeat_n(90, samples / 2));
            bytes.extend(std::iter::repeat_n(240, samples / 2));
            let mut source = Y4mSource::new(bytes.as_slice(), name.to_owned()).expect(name);
            let mut frame = Frame::default();
            source.next(&mut frame).expect(name).expect("a frame");
            let [red, green, blue] = frame.pixel(2, 2);
            if samples == 0 {
                assert_eq!((red, green), (blue, blue));
            } else {
                assert!(
                    red > 250 && green < 5 && blue < 5,
                    "{name}: {red} {green} {blue}"
                );
            }
            assert_eq!(source.next(&mut frame).expect("end"), None);
        }
    }

    #[test]
    fn damage_is_named() {
        let cut = b"YUV4MPEG2 W4 H4 F10:1 Cmono\nFRAME\n1234567".as_slice();
        for (bytes, expected) in [
            (b"RIFF....".as_slice(), "YUV4MPEG2"),
            (b"YUV4MPEG2 H4".as_slice(), "width"),
            (b"YUV4MPEG2 W99999999 H4".as_slice(), "width"),
            (b"YUV4MPEG2 W4 H4 F1:0".as_slice(), "frame rate"),
            (b"YUV4MPEG2 W4 H4 C420p10".as_slice(), "420p10"),
            (cut, "expected 16 bytes, found 7"),
            (b"YUV4MPEG2 W4 H4\nGARBAGE".as_slice(), "GARBAGE"),
        ] {
            let error = Y4mSource::new(bytes, String::new())
                .and_then(|mut source| source.read_frame(&mut Frame::default()))
                .expect_err(expected)
                .to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
