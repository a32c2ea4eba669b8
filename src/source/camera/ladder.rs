//! The order in which a camera's modes are tried. The networks see small crops, so VGA is enough; a smooth rate matters
//! more than size; uncompressed pictures cost the least, but from 720p up they do not fit through USB 2 at a smooth rate.

use super::{Mode, PixelFormat, Rate};
use std::cmp::Ordering;

/// Sizes that are tried where a camera offers a range.
pub(super) const SIZES: [(u32, u32); 7] = [
    (640, 480),
    (640, 360),
    (800, 600),
    (960, 540),
    (1280, 720),
    (320, 240),
    (1920, 1080),
];

/// Rates that are tried where a camera offers a range.
pub(super) const RATES: [u32; 6] = [30, 25, 60, 20, 15, 10];

/// The rate that is best, in frames a second.
const BEST_RATE: f64 = 30.0;

/// The modes, best first.
pub fn ranked(modes: &[Mode]) -> Vec<Mode> {
    let mut ranked: Vec<Mode> = Vec::with_capacity(modes.len());
    for mode in modes {
        if !ranked.contains(mode) {
            ranked.push(*mode);
        }
    }
    ranked.sort_by(compare);
    ranked
}

/// Why `mode`, the first of [`ranked`], is the best of `modes`, in words.
pub fn reason(mode: &Mode, modes: &[Mode]) -> String {
    let rate = match rate_class(mode.rate) {
        0 => "a smooth rate",
        1 => "faster than needed, but no smooth slower rate is offered",
        _ => "slow, but no faster rate is offered in a format that is read",
    };
    let size = match size_distance(mode) {
        0.0 => "VGA is all that the networks see of a face",
        _ if modes.iter().any(|other| size_distance(other) == 0.0) => {
            "VGA is offered only at a worse rate"
        }
        _ => "the size nearest to VGA that is offered at that rate",
    };
    let format = match mode.format {
        PixelFormat::Mjpeg if is_large(mode) => "compressed, as this size needs it over USB",
        PixelFormat::Mjpeg => "not offered uncompressed",
        PixelFormat::Grey => "without colour, as nothing else is offered",
        _ => "uncompressed, nothing to decode",
    };
    format!("{rate}; {size}; {format}")
}

fn compare(a: &Mode, b: &Mode) -> Ordering {
    let far = |mode: &Mode| {
        mode.rate
            .map_or(0.0, |rate| (rate.hertz() - BEST_RATE).abs())
    };
    rate_class(a.rate)
        .cmp(&rate_class(b.rate))
        .then(size_distance(a).total_cmp(&size_distance(b)))
        .then(format_rank(a).cmp(&format_rank(b)))
        .then(far(a).total_cmp(&far(b)))
}

/// 0 smooth, 1 faster than any use, 2 and more the slower the worse.
fn rate_class(rate: Option<Rate>) -> u32 {
    // A camera that does not say its rate gives what it gives.
    let Some(rate) = rate else { return 0 };
    match rate.hertz() {
        rate if rate > 61.0 => 1,
        rate if rate >= 23.9 => 0,
        rate if rate >= 14.9 => 2,
        rate if rate >= 9.9 => 3,
        rate if rate >= 4.9 => 4,
        _ => 5,
    }
}

/// 0 for VGA, else the factor between the areas as a logarithm; what is smaller than VGA is twice as far.
fn size_distance(mode: &Mode) -> f64 {
    let vga = (640.0 * 480.0_f64).ln();
    let area = (f64::from(mode.width.max(1)) * f64::from(mode.height.max(1))).ln();
    if (mode.width, mode.height) == (640, 480) {
        0.0
    } else if area < vga {
        1e-3 + 2.0 * (vga - area)
    } else {
        1e-3 + area - vga
    }
}

fn is_large(mode: &Mode) -> bool {
    mode.height >= 720
}

fn format_rank(mode: &Mode) -> usize {
    match (mode.format, is_large(mode)) {
        (PixelFormat::Yuyv, false) | (PixelFormat::Mjpeg, true) => 0,
        (PixelFormat::Nv12, _) => 1,
        (PixelFormat::Uyvy | PixelFormat::Yvyu | PixelFormat::Nv21 | PixelFormat::Yu12, _) => 2,
        (PixelFormat::Rgb | PixelFormat::Bgr, _) => 3,
        (PixelFormat::Yuyv, true) | (PixelFormat::Mjpeg, false) => 4,
        (PixelFormat::Grey, _) => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(format: PixelFormat, width: u32, height: u32, rate: u32) -> Mode {
        Mode {
            format,
            width,
            height,
            rate: Some(Rate::whole(rate)),
        }
    }

    #[test]
    fn the_best_mode_of_usual_cameras() {
        use PixelFormat::{Grey, Mjpeg, Nv12, Rgb, Yuyv};
        for (modes, best, why) in [
            // A USB 2 webcam.
            (
                vec![
                    mode(Mjpeg, 1920, 1080, 30),
                    mode(Mjpeg, 640, 480, 30),
                    mode(Yuyv, 1280, 720, 10),
                    mode(Yuyv, 640, 480, 15),
                    mode(Yuyv, 640, 480, 30),
                ],
                4,
                "uncompressed",
            ),
            // Uncompressed VGA is slow: smoothness wins.
            (
                vec![mode(Yuyv, 640, 480, 15), mode(Mjpeg, 640, 480, 30)],
                1,
                "not offered uncompressed",
            ),
            // From 720p up MJPEG, whatever else there is.
            (
                vec![mode(Yuyv, 1280, 720, 30), mode(Mjpeg, 1280, 720, 30)],
                1,
                "compressed",
            ),
            (
                vec![mode(Mjpeg, 640, 480, 5), mode(Mjpeg, 1280, 720, 30)],
                1,
                "VGA is offered only at a worse rate",
            ),
            (
                vec![mode(Grey, 640, 480, 30), mode(Nv12, 640, 480, 30)],
                1,
                "uncompressed",
            ),
            (vec![mode(Grey, 640, 480, 30)], 0, "without colour"),
            (
                vec![mode(Rgb, 640, 480, 120), mode(Rgb, 640, 480, 60)],
                1,
                "smooth",
            ),
            (vec![mode(Yuyv, 3840, 2160, 2)], 0, "slow"),
        ] {
            let ranked = ranked(&modes);
            assert_eq!(ranked[0], modes[best], "{modes:?}");
            assert_eq!(ranked.len(), modes.len());
            let reason = reason(&ranked[0], &modes);
            assert!(reason.contains(why), "{reason}");
        }
    }

    #[test]
    fn fractions_are_rates_too() {
        let mut ntsc = mode(PixelFormat::Yuyv, 640, 480, 1);
        ntsc.rate = Rate::new(30_000, 1001);
        let slow = mode(PixelFormat::Yuyv, 640, 480, 15);
        assert_eq!(ranked(&[slow, ntsc])[0], ntsc);
        assert_eq!(ntsc.to_string(), "640x480 YUYV at 29.97 fps");
        assert_eq!(slow.to_string(), "640x480 YUYV at 15 fps");
        assert!(Rate::new(25, 2).expect("rate").is_fraction());
        assert!(!Rate::new(50, 2).expect("rate").is_fraction());
        assert_eq!(Rate::new(0, 1), None);
    }

    #[test]
    fn modes_are_tried_once() {
        let twice = [mode(PixelFormat::Yuyv, 640, 480, 30); 2];
        assert_eq!(ranked(&twice).len(), 1);
    }
}
