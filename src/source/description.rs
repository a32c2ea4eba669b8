//! A camera in words and as a record, for those who choose one.

use super::camera::{CameraError, Mode, Offer, Rate, Rates, Sizes, ladder, modes};
use serde::Serialize;
use std::{
    fmt::{self, Write},
    path::Path,
};

/// A device node that may be a camera's. As a record it has numbers for sizes and rates, and words for the rest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CameraDescription {
    /// Its number, as in `--camera N`.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Where it is: the system's path of the device.
    pub place: String,
    /// What it offers.
    pub formats: Vec<OfferRecord>,
    /// What would be chosen; `None` when nothing can be read.
    pub choice: Option<Choice>,
    /// What is unusual about it, and no obstacle.
    pub note: Option<String>,
    /// Why it cannot be used.
    pub problem: Option<String>,
}

/// A pixel format with a size and its rates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OfferRecord {
    /// The pixel format's four characters.
    pub format: String,
    /// Whether it can be read.
    pub readable: bool,
    /// Width in pixels; of a range, the largest.
    pub width: u32,
    /// Height in pixels; of a range, the largest.
    pub height: u32,
    /// Size in words, a range included.
    pub size: String,
    /// Rates in frames a second: listed ones, or lowest and highest of a range; empty where the camera does not say.
    pub rates: Vec<f64>,
    /// Rates in words.
    pub rates_text: String,
}

/// The mode that would be tried first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// The pixel format.
    pub format: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames a second, where the camera says.
    pub rate: Option<f64>,
    /// All of that in words.
    pub mode: String,
    /// Why it is the best of what there is.
    pub reason: String,
}

impl CameraDescription {
    /// Describes a camera by what it offers, or by what is wrong with it.
    pub fn new(
        index: u32,
        name: String,
        place: &Path,
        offers: Vec<Offer>,
        note: Option<String>,
        problem: Option<CameraError>,
    ) -> Self {
        let modes = modes(&offers);
        let choice = ladder::ranked(&modes)
            .first()
            .map(|mode| Choice::new(mode, ladder::reason(mode, &modes)));
        let unreadable = || {
            let found: Vec<&str> = offers.iter().map(|offer| offer.code.as_str()).collect();
            format!(
                "none of its pixel formats can be read: {}",
                found.join(", ")
            )
        };
        let problem = match problem {
            Some(error) => Some(error.to_string()),
            None => choice.is_none().then(unreadable),
        };
        Self {
            index,
            name,
            place: place.display().to_string(),
            formats: offers.into_iter().map(OfferRecord::from).collect(),
            choice,
            note,
            problem,
        }
    }
}

impl Choice {
    fn new(mode: &Mode, reason: String) -> Self {
        Self {
            format: mode.format.to_string(),
            width: mode.width,
            height: mode.height,
            rate: mode.rate.map(Rate::hertz),
            mode: mode.to_string(),
            reason,
        }
    }
}

impl From<Offer> for OfferRecord {
    fn from(offer: Offer) -> Self {
        let (width, height) = match offer.size {
            Sizes::One(width, height) => (width, height),
            Sizes::Range { most, .. } => most,
        };
        let rates = match &offer.rates {
            Rates::Listed(rates) => rates.iter().map(|rate| rate.hertz()).collect(),
            Rates::Range(least, most) => vec![least.hertz(), most.hertz()],
            Rates::Unsaid => Vec::new(),
        };
        Self {
            readable: offer.format.is_some(),
            width,
            height,
            size: offer.size.to_string(),
            rates,
            rates_text: offer.rates.to_string(),
            format: offer.code,
        }
    }
}

impl fmt::Display for CameraDescription {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}  {}  ({})", self.index, self.name, self.place)?;
        if let Some(choice) = &self.choice {
            writeln!(
                formatter,
                "   would use  {}: {}",
                choice.mode, choice.reason
            )?;
        }
        if let Some(problem) = &self.problem {
            writeln!(formatter, "   no use     {problem}")?;
        }
        if let Some(note) = &self.note {
            writeln!(formatter, "   note       {note}")?;
        }
        // Sizes of the same format and rates share a line.
        let mut offers = self.formats.iter().peekable();
        while let Some(offer) = offers.next() {
            let mut line = format!("   {:<9}  {}", offer.format, offer.size);
            while let Some(next) = offers
                .next_if(|next| next.format == offer.format && next.rates_text == offer.rates_text)
            {
                write!(line, ", {}", next.size)?;
            }
            let unread = if offer.readable { "" } else { " (not read)" };
            writeln!(formatter, "{line}  {}{unread}", offer.rates_text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::camera::PixelFormat;

    fn offer(code: &str, size: Sizes, rates: Rates) -> Offer {
        let bytes: [u8; 4] = code.as_bytes().try_into().expect("four characters");
        Offer {
            code: code.to_owned(),
            format: PixelFormat::from_code(bytes),
            size,
            rates,
        }
    }

    #[test]
    fn a_camera_is_described_in_few_lines() {
        let smooth = || Rates::Listed(vec![Rate::whole(30), Rate::new(25, 2).expect("rate")]);
        let offers = vec![
            offer("YUYV", Sizes::One(640, 480), smooth()),
            offer("YUYV", Sizes::One(320, 240), smooth()),
            offer("H264", Sizes::One(1920, 1080), Rates::Unsaid),
        ];
        let camera = CameraDescription::new(
            2,
            "Eye".to_owned(),
            Path::new("/sys/usb1"),
            offers,
            None,
            None,
        );
        let expected = "2  Eye  (/sys/usb1)\n   would use  640x480 YUYV at 30 fps: a smooth rate; VGA is all that the networks \
             see of a face; uncompressed, nothing to decode\n   YUYV       640x480, 320x240  30, 12.50 fps\n   H264       \
             1920x1080  no rate said (not read)\n";
        assert_eq!(camera.to_string(), expected);
        let json = serde_json::to_value(&camera).expect("JSON");
        assert_eq!(json["formats"][1]["rates"][1], 12.5);
        assert_eq!(json["choice"]["width"], 640);
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let place = Path::new("/sys/usb1");
        let h264 = offer("H264", Sizes::One(640, 480), Rates::Unsaid);
        let camera = CameraDescription::new(0, "A".to_owned(), place, vec![h264], None, None);
        assert!(camera.choice.is_none());
        assert!(camera.to_string().contains("H264"), "{camera}");
        let denied = Some(CameraError::Denied { number: 0 });
        let camera = CameraDescription::new(0, "A".to_owned(), place, Vec::new(), None, denied);
        assert!(camera.to_string().contains("group `video`"), "{camera}");
    }
}
