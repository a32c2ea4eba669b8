//! What can be wrong with a camera, each in words that say what to do.

use super::Rate;
use std::io;

/// Why a camera cannot be opened or gives no pictures.
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    /// Nothing that could be the camera is plugged in.
    #[error("it is not plugged in")]
    Absent,
    /// It was there a moment ago.
    #[error("it was unplugged, or its driver ended")]
    Vanished,
    /// Another program streams from it.
    #[error("another program uses it (`fuser /dev/video{number}` says which)")]
    Busy {
        /// Number of the device node.
        number: u32,
    },
    /// The user may not open it.
    #[error(
        "no permission to open /dev/video{number}: cameras belong to the group `video`; join it (`sudo usermod -aG video \
         $USER`) and log in again"
    )]
    Denied {
        /// Number of the device node.
        number: u32,
    },
    /// It is open, and no picture comes.
    #[error("it gave no picture for {seconds:.0} s")]
    Silent {
        /// How long.
        seconds: f64,
    },
    /// Pictures come, and none can be decoded.
    #[error("it gives damaged pictures only: {found}")]
    Damaged {
        /// What is wrong with the last one.
        found: String,
    },
    /// The driver does not come back from a call.
    #[error("its driver has not answered for {seconds:.0} s")]
    Stuck {
        /// How long.
        seconds: f64,
    },
    /// A device node that is not a camera's, or not its pictures'.
    #[error("expected a camera, found {found}")]
    NoPictures {
        /// What it is.
        found: String,
    },
    /// None of its pixel formats can be read.
    #[error("expected pictures as {expected}, found {found}")]
    NoFormat {
        /// The formats that are read.
        expected: String,
        /// What it offers.
        found: String,
    },
    /// Its rate is a fraction and cannot be changed.
    #[error(
        "its rate is a fraction, {}/{} frames a second, and it takes no other: {reason}",
        rate.frames, rate.seconds
    )]
    FractionalRate {
        /// The rate.
        rate: Rate,
        /// Why the first mode was refused.
        reason: String,
    },
    /// It is set to a pixel format that cannot be read, and that cannot be changed.
    #[error(
        "it is set to the pixel format {code}, which cannot be read, and it takes no other: {reason}"
    )]
    UnknownFormat {
        /// The format's four characters.
        code: String,
        /// Why the first mode was refused.
        reason: String,
    },
    /// It takes none of the modes that it offers.
    #[error("it refused each of the {tried} modes that were tried, the first because: {reason}")]
    Refused {
        /// How many.
        tried: usize,
        /// Why the first was refused.
        reason: String,
    },
    /// Anything else that the system says.
    #[error("{doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The program's own thread failed.
    #[error("its thread failed: {reason}")]
    Thread {
        /// Why.
        reason: String,
    },
}

impl CameraError {
    /// Whether another mode of the same camera would fail alike.
    #[cfg(feature = "camera")]
    pub(super) fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Absent | Self::Vanished | Self::Busy { .. } | Self::Denied { .. }
        )
    }
}
