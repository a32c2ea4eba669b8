//! The argument that chooses how large the face detector sees a picture, the same for every command that detects.

use clap::Args;
use facemark::detector::{DetectorConfig, InputSize};
use std::str::FromStr;

#[derive(Args, Default)]
pub(crate) struct DetectorSize {
    /// How large the face detector sees a picture: `model` (as its file says), `auto` (so, and once more in the picture's
    /// own size up to 800 pixels: finds small faces) or WIDTHxHEIGHT, multiples of the largest stride [default: auto for
    /// pictures, model for streams]
    #[arg(long, value_name = "SIZE")]
    detector_size: Option<Choice>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Model,
    Auto,
    Edges(usize, usize),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let edge = |text: &str| text.parse().ok().filter(|edge| (1..=4096).contains(edge));
        match text {
            "model" => Ok(Self::Model),
            "auto" => Ok(Self::Auto),
            _ => text
                .split_once('x')
                .and_then(|(width, height)| Some(Self::Edges(edge(width)?, edge(height)?)))
                .ok_or_else(|| "expected model, auto or WIDTHxHEIGHT such as 640x480".to_owned()),
        }
    }
}

impl DetectorSize {
    /// How a detector looks at pictures, when nothing was said as `default`, and the size that its network has to take
    /// before.
    pub(crate) fn resolve(&self, default: InputSize) -> (DetectorConfig, Option<(usize, usize)>) {
        let (input, edges) = match self.detector_size {
            None => (default, None),
            Some(Choice::Model) => (InputSize::Card, None),
            Some(Choice::Auto) => (InputSize::STILLS, None),
            Some(Choice::Edges(width, height)) => (InputSize::Card, Some((width, height))),
        };
        (DetectorConfig::for_input(input), edges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        let cases = [
            ("auto", Some(Choice::Auto)),
            ("model", Some(Choice::Model)),
            ("640x480", Some(Choice::Edges(640, 480))),
            ("640", None),
            ("0x32", None),
            ("64x9999", None),
            ("axb", None),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }
}
