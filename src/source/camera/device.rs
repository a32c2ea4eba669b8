//! What the pipeline needs of a camera: [`Device`], and the words for what it gives. Nothing here knows a driver.

use super::CameraError;
use std::{
    fmt,
    time::{Duration, Instant},
};

/// A camera behind its driver. One thread owns it, opens it, reads it without a pause and, when it fails, closes it and
/// opens it again.
pub trait Device: Send {
    /// Finds the camera, opens it in the best mode that it takes and starts it.
    ///
    /// # Errors
    /// See [`CameraError`]. The device is then closed.
    fn open(&mut self) -> Result<Opened, CameraError>;

    /// Waits for the next picture, for about `limit` at most, and writes it into `picture`, whose buffer is kept; `false`
    /// when none came. The driver's own queue is first in, first out: whoever reads late reads old pictures.
    ///
    /// # Errors
    /// See [`CameraError`]. The device must then be closed.
    fn read(&mut self, picture: &mut Picture, limit: Duration) -> Result<bool, CameraError>;

    /// Stops the camera and gives it free; nothing when it is not open.
    fn close(&mut self);
}

/// A camera that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Number of the device node, which may change when the camera is plugged in again.
    pub number: u32,
    /// What the camera calls itself.
    pub name: String,
    /// What it gives.
    pub mode: Mode,
    /// Bytes from one row to the next, of the first plane; 0: no gaps between rows.
    pub stride: usize,
}

/// A picture as the driver gave it, still encoded.
#[derive(Debug, Default)]
pub struct Picture {
    /// The bytes that the driver filled.
    pub bytes: Vec<u8>,
    /// The driver's count of pictures since it was started; a jump says that pictures were lost before they were read.
    pub sequence: u32,
    /// When it was captured, by the driver's clock where that is ours, else when it was read.
    pub captured_at: Option<Instant>,
    /// The driver says that the picture is incomplete.
    pub damaged: bool,
}

/// How pixels are laid out in a driver's pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// Luma, blue, luma, red.
    Yuyv,
    /// Blue, luma, red, luma.
    Uyvy,
    /// Luma, red, luma, blue.
    Yvyu,
    /// A JPEG a picture.
    Mjpeg,
    /// A plane of luma, then one of blue and red at half the size.
    Nv12,
    /// A plane of luma, then one of red and blue at half the size.
    Nv21,
    /// A plane of luma, then one of blue and one of red at half the size.
    Yu12,
    /// Luma alone.
    Grey,
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

impl PixelFormat {
    /// Every format that is read.
    pub const ALL: [Self; 10] = [
        Self::Yuyv,
        Self::Mjpeg,
        Self::Nv12,
        Self::Grey,
        Self::Uyvy,
        Self::Yvyu,
        Self::Nv21,
        Self::Yu12,
        Self::Rgb,
        Self::Bgr,
    ];

    /// The format of Video4Linux's four characters.
    pub fn from_code(code: [u8; 4]) -> Option<Self> {
        if code == *b"JPEG" {
            return Some(Self::Mjpeg);
        }
        Self::ALL.into_iter().find(|format| format.code() == code)
    }

    /// Video4Linux's four characters.
    pub const fn code(self) -> [u8; 4] {
        *match self {
            Self::Yuyv => b"YUYV",
            Self::Uyvy => b"UYVY",
            Self::Yvyu => b"YVYU",
            Self::Mjpeg => b"MJPG",
            Self::Nv12 => b"NV12",
            Self::Nv21 => b"NV21",
            Self::Yu12 => b"YU12",
            Self::Grey => b"GREY",
            Self::Rgb => b"RGB3",
            Self::Bgr => b"BGR3",
        }
    }
}

impl fmt::Display for PixelFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Yuyv => "YUYV",
            Self::Uyvy => "UYVY",
            Self::Yvyu => "YVYU",
            Self::Mjpeg => "MJPEG",
            Self::Nv12 => "NV12",
            Self::Nv21 => "NV21",
            Self::Yu12 => "YU12",
            Self::Grey => "GREY",
            Self::Rgb => "RGB",
            Self::Bgr => "BGR",
        })
    }
}

/// Frames a second, as the fraction `frames / seconds`: some cameras give 25/2 or 30000/1001.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Frames.
    pub frames: u32,
    /// In so many seconds; not 0.
    pub seconds: u32,
}

impl Rate {
    /// A rate from the time between two frames, `seconds / frames`; `None` without a time.
    pub fn new(frames: u32, seconds: u32) -> Option<Self> {
        (frames > 0 && seconds > 0).then_some(Self { frames, seconds })
    }

    /// So many frames in one second.
    pub const fn whole(frames: u32) -> Self {
        Self { frames, seconds: 1 }
    }

    /// Frames a second.
    pub fn hertz(self) -> f64 {
        f64::from(self.frames) / f64::from(self.seconds)
    }

    /// Whether it is not a whole number of frames a second.
    pub fn is_fraction(self) -> bool {
        !self.frames.is_multiple_of(self.seconds)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_fraction() {
            write!(formatter, "{:.2}", self.hertz())
        } else {
            write!(formatter, "{}", self.frames / self.seconds)
        }
    }
}

/// A format, size and rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Layout of the pixels.
    pub format: PixelFormat,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames a second, where the camera says.
    pub rate: Option<Rate>,
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}x{} {}", self.width, self.height, self.format)?;
        match self.rate {
            Some(rate) => write!(formatter, " at {rate} fps"),
            None => Ok(()),
        }
    }
}
