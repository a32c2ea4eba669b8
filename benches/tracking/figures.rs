//! Jitter and lag of landmarks over time.

use crate::clip::Clip;
use facemark::{
    geometry::Point,
    live::KnownMotion,
    metrics::{Percentiles, mean},
    scheme::Scheme,
    smoothing::OneEuroConfig,
    source::demo,
};
use serde::Serialize;
use std::fmt;

/// Eye corners, nose tip, mouth corners.
const STEADY: [usize; 7] = [36, 39, 42, 45, 30, 48, 54];

/// Jitter and lag of one way to smooth.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Figures {
    /// Mean length of the second difference of eye corners, nose tip and mouth corners over the distance of the outer eye
    /// corners, in percent.
    pub(crate) jitter_percent: Option<f64>,
    /// By how many frames the landmarks are behind the known motion; negative: before it.
    pub(crate) lag_frames: Option<f64>,
    /// Mean distance from the known motion's places over the distance of the outer eye corners, in percent.
    pub(crate) error_percent: Option<f64>,
}

impl Figures {
    pub(crate) fn of(clip: &Clip, smoothing: Option<OneEuroConfig>) -> Self {
        let landmarks = clip.filtered(smoothing);
        let known = lag(clip, &landmarks);
        Self {
            jitter_percent: jitter(&landmarks),
            lag_frames: known.map(|(lag, _)| lag),
            error_percent: known.map(|(_, error)| error),
        }
    }
}

fn jitter(frames: &[Vec<Point>]) -> Option<f64> {
    let mut values = Vec::new();
    for three in frames.windows(3) {
        let [before, now, after] = three else {
            continue;
        };
        if [before, now, after]
            .iter()
            .any(|landmarks| landmarks.is_empty())
        {
            continue;
        }
        let unit = Scheme::Ibug68.inter_ocular_distance(now)?;
        values.extend(STEADY.map(|index| {
            let (before, now, after) = (before[index], now[index], after[index]);
            let second = (after.x - 2.0 * now.x + before.x).hypot(after.y - 2.0 * now.y + before.y);
            100.0 * f64::from(second / unit)
        }));
    }
    mean(&values)
}

/// Lag in frames by least squares: the delay at which the known motion is closest to the landmarks; and the mean error
/// without a delay, in percent of the eye distance.
fn lag(clip: &Clip, landmarks: &[Vec<Point>]) -> Option<(f64, f64)> {
    let motion = clip.motion?;
    let mut known = KnownMotion::new(motion, Scheme::Ibug68);
    for (time_secs, raw) in &clip.frames {
        known.add(*time_secs, (!raw.is_empty()).then_some(raw.as_slice()));
    }
    let reference = known.reference();
    // The filter starts with the first frame, where it has no lag.
    let later = || {
        clip.frames
            .iter()
            .zip(landmarks)
            .skip(15)
            .filter(|(_, found)| !found.is_empty())
    };
    let distances = |delay: f64| -> Vec<(f64, f64)> {
        let mut all = Vec::new();
        for ((time_secs, _), found) in later() {
            let map = motion(time_secs - delay / demo::FRAME_RATE);
            let unit = f64::from((map * reference[36]).distance(map * reference[45]));
            all.extend(STEADY.map(|index| {
                (
                    f64::from(found[index].distance(map * reference[index])),
                    unit,
                )
            }));
        }
        all
    };
    let squares = |delay: f64| {
        distances(delay)
            .iter()
            .map(|(distance, _)| distance * distance)
            .sum::<f64>()
    };
    let best = (-100..=300)
        .map(|hundredths| f64::from(hundredths) / 100.0)
        .map(|delay| (squares(delay), delay))
        .min_by(|a, b| a.0.total_cmp(&b.0))?;
    let errors: Vec<f64> = distances(0.0)
        .iter()
        .map(|(distance, unit)| 100.0 * distance / unit)
        .collect();
    Some((best.1, mean(&errors)?))
}

/// What is known of one source.
#[derive(Serialize)]
pub(crate) struct Report {
    source: String,
    frames: usize,
    frames_with_face: usize,
    /// Time of the process on processors for one frame, in milliseconds, without decoding.
    cpu_ms: Percentiles,
    raw: Figures,
    smoothed: Figures,
}

impl Report {
    pub(crate) fn of(source: &str, clip: &Clip) -> Self {
        Self {
            source: source.to_owned(),
            frames: clip.frames.len(),
            frames_with_face: clip
                .frames
                .iter()
                .filter(|(_, face)| !face.is_empty())
                .count(),
            cpu_ms: Percentiles::of(&clip.cpu_ms).unwrap_or_default(),
            raw: Figures::of(clip, None),
            smoothed: Figures::of(clip, Some(OneEuroConfig::default())),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_dash = |value: Option<f64>, unit| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}{unit}"))
        };
        writeln!(
            out,
            "{}: {} frames, {} with a face, CPU p50 {:.3} ms, p95 {:.3} ms, mean {:.3} ms",
            self.source,
            self.frames,
            self.frames_with_face,
            self.cpu_ms.p50,
            self.cpu_ms.p95,
            self.cpu_ms.mean
        )?;
        for (name, figures) in [("raw", self.raw), ("smoothed", self.smoothed)] {
            writeln!(
                out,
                "  {name:<9} jitter {}, lag {}, error {}",
                or_dash(figures.jitter_percent, " %"),
                or_dash(figures.lag_frames, " frames"),
                or_dash(figures.error_percent, " %")
            )?;
        }
        Ok(())
    }
}
