//! What eyes and mouth do, from ibug68 landmarks: openness as ratios of distances, and blinks as events in time. Time comes
//! in as an argument. Ratios need no unit and change neither with the face's size nor with its roll.

use crate::{geometry::Point, scheme::Scheme};
use serde::{Deserialize, Serialize};

/// What eyes and mouth of one face do in one frame. Left and right are as seen in the picture: a person's right eye is the
/// `left_eye` of a picture that is not mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Signals {
    /// Eye aspect ratio (Soukupova and Cech, "Real-time eye blink detection using facial landmarks", 2016, equation 1):
    /// the mean distance of the lids over the distance of the eye's corners. Some 0.3 open, below 0.15 closed.
    pub left_eye: f32,
    /// The same of the other eye.
    pub right_eye: f32,
    /// Mean distance of the inner edges of the lips over the distance of the inner corners of the mouth: 0 closed, from
    /// some 0.3 up open as in speech, 1 wide open.
    pub mouth: f32,
    /// Whether both eyes are closed.
    pub eyes_closed: bool,
    /// True in the one frame in which the eyes have opened again after a blink.
    pub blink: bool,
    /// Blinks since the face began to be followed.
    pub blinks: u32,
}

/// How far eyes and mouth are open in one picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Openness {
    /// [`Signals::left_eye`].
    pub left_eye: f32,
    /// [`Signals::right_eye`].
    pub right_eye: f32,
    /// [`Signals::mouth`].
    pub mouth: f32,
}

impl Openness {
    /// Measures landmarks. `None` for another scheme than ibug68, or when an eye or the mouth has no width.
    pub fn measure(scheme: Scheme, landmarks: &[Point]) -> Option<Self> {
        if scheme != Scheme::Ibug68 || landmarks.len() != scheme.landmark_count() {
            return None;
        }
        let distance = |(a, b): (usize, usize)| landmarks[a].distance(landmarks[b]);
        let ratio = |gaps: &[(usize, usize)], corners| {
            let mean = gaps.iter().copied().map(distance).sum::<f32>() / gaps.len() as f32;
            let ratio = mean / distance(corners);
            ratio.is_finite().then_some(ratio)
        };
        Some(Self {
            left_eye: ratio(&[(37, 41), (38, 40)], (36, 39))?,
            right_eye: ratio(&[(43, 47), (44, 46)], (42, 45))?,
            mouth: ratio(&[(61, 67), (62, 66), (63, 65)], (60, 64))?,
        })
    }

    /// Both eyes together.
    pub fn eyes(&self) -> f32 {
        0.5 * (self.left_eye + self.right_eye)
    }
}

/// Eyes are closed below this part of how far the same person's eyes are usually open, and open again above the second:
/// people's eyes differ more than an eye's states do.
const CLOSED: f32 = 0.62;
const OPEN_AGAIN: f32 = 0.78;
/// Eyes that are closed for longer, in seconds, do not blink: they rest. Blinks take 0.1 to 0.4 s.
const LONGEST_BLINK_SECS: f64 = 0.5;
/// The usual openness is never taken to be less: a face that is first seen with closed eyes has some.
const LEAST_USUAL: f32 = 0.2;
/// Time constants with which the usual openness follows the eyes, in seconds: up when they open wider, and down, slowly,
/// so that a blink does not lower it.
const RISE_SECS: f64 = 0.3;
const FALL_SECS: f64 = 4.0;
/// A longer pause between frames, in seconds, says nothing of what the eyes did meanwhile.
const LONGEST_PAUSE_SECS: f64 = 0.5;

/// Finds blinks of one face, with hysteresis.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlinkDetector {
    usual: f32,
    last_secs: Option<f64>,
    closed_since: Option<f64>,
    blinks: u32,
}

impl BlinkDetector {
    /// Takes how far the eyes are open at `time_secs`; whether a blink has just ended.
    pub fn update(&mut self, eyes: f32, time_secs: f64) -> bool {
        let step = self.last_secs.map(|last| time_secs - last);
        self.last_secs = Some(time_secs);
        let Some(step) = step.filter(|step| (0.0..=LONGEST_PAUSE_SECS).contains(step)) else {
            self.usual = self.usual.max(eyes).max(LEAST_USUAL);
            self.closed_since = None;
            return false;
        };
        let time_constant = if eyes > self.usual {
            RISE_SECS
        } else {
            FALL_SECS
        };
        let weight = (step / (step + time_constant)) as f32;
        self.usual = (self.usual + weight * (eyes - self.usual)).max(LEAST_USUAL);
        match self.closed_since {
            None if eyes < CLOSED * self.usual => self.closed_since = Some(time_secs),
            Some(since) if eyes > OPEN_AGAIN * self.usual => {
                self.closed_since = None;
                if time_secs - since <= LONGEST_BLINK_SECS {
                    self.blinks += 1;
                    return true;
                }
            }
            _ => (),
        }
        false
    }

    /// Whether the eyes are closed.
    pub fn eyes_closed(&self) -> bool {
        self.closed_since.is_some()
    }

    /// Blinks so far.
    pub fn blinks(&self) -> u32 {
        self.blinks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Landmarks with eyes of 30 pixels and a mouth of 40, as far open as said.
    fn face(left_eye: f32, right_eye: f32, mouth: f32) -> Vec<Point> {
        let mut points = vec![Point::default(); 68];
        let mut eye = |first: usize, x: f32, open: f32| {
            let half = 15.0 * open;
            let offsets = [
                (-15.0, 0.0),
                (-5.0, -half),
                (5.0, -half),
                (15.0, 0.0),
                (5.0, half),
                (-5.0, half),
            ];
            for (index, (dx, dy)) in offsets.into_iter().enumerate() {
                points[first + index] = Point::new(x + dx, 100.0 + dy);
            }
        };
        eye(36, 70.0, left_eye);
        eye(42, 130.0, right_eye);
        let half = 20.0 * mouth;
        let lips = [
            (-20.0, 0.0),
            (-10.0, -half),
            (0.0, -half),
            (10.0, -half),
            (20.0, 0.0),
            (10.0, half),
            (0.0, half),
            (-10.0, half),
        ];
        for (index, (dx, dy)) in lips.into_iter().enumerate() {
            points[60 + index] = Point::new(100.0 + dx, 160.0 + dy);
        }
        points
    }

    #[test]
    fn openness_is_the_documented_ratio_at_any_size_and_roll() {
        let points = face(0.3, 0.1, 0.5);
        let turned =
            crate::geometry::Affine::similarity(2.5, 0.6, Point::default(), Point::new(40.0, -7.0));
        let moved: Vec<Point> = points.iter().map(|&point| turned * point).collect();
        for points in [points, moved] {
            let found = Openness::measure(Scheme::Ibug68, &points).unwrap();
            for (found, expected) in [
                (found.left_eye, 0.3),
                (found.right_eye, 0.1),
                (found.mouth, 0.5),
                (found.eyes(), 0.2),
            ] {
                assert!((found - expected).abs() < 1e-4, "{found} {expected}");
            }
        }
    }

    #[test]
    fn what_has_no_eyes_or_no_width_has_no_openness() {
        assert_eq!(
            Openness::measure(Scheme::Mtfl5, &[Point::default(); 5]),
            None
        );
        assert_eq!(
            Openness::measure(Scheme::Ibug68, &[Point::default(); 68]),
            None
        );
    }

    /// Feeds openness at a rate; times of blinks in seconds.
    fn blinks_of(rate: f64, openness: impl Fn(f64) -> f32) -> Vec<f64> {
        let mut detector = BlinkDetector::default();
        let mut blinks = Vec::new();
        for frame in 0..(10.0 * rate) as u32 {
            let time_secs = f64::from(frame) / rate;
            if detector.update(openness(time_secs), time_secs) {
                blinks.push(time_secs);
            }
        }
        assert_eq!(blinks.len(), detector.blinks() as usize);
        blinks
    }

    #[test]
    fn blinks_are_counted_once_at_any_frame_rate_and_for_any_eyes() {
        for rate in [15.0, 30.0, 60.0] {
            for open in [0.22, 0.3, 0.4] {
                // Closed for 0.15 s each 2 s.
                let closes = |t: f64| (t + 1.0).rem_euclid(2.0) < 0.15;
                let blinks = blinks_of(rate, |t| if closes(t) { 0.3 * open } else { open });
                assert_eq!(blinks.len(), 5, "{rate} {open}: {blinks:?}");
                assert!((blinks[0] - 1.15).abs() < 1.5 / rate, "{blinks:?}");
            }
        }
    }

    #[test]
    fn an_eye_that_trembles_at_the_limit_blinks_at_most_once() {
        // Between closing and opening, now a little above and now a little below the lower limit.
        let blinks = blinks_of(30.0, |t| match t {
            ..2.0 => 0.3,
            2.0..2.3 if ((t * 30.0) as u32).is_multiple_of(2) => 0.17,
            2.0..2.3 => 0.2,
            _ => 0.3,
        });
        assert_eq!(blinks.len(), 1, "{blinks:?}");
    }

    #[test]
    fn resting_eyes_and_pauses_are_no_blinks() {
        let rest = |t: f64| if (2.0..3.0).contains(&t) { 0.08 } else { 0.3 };
        assert!(blinks_of(30.0, rest).is_empty());
        let mut detector = BlinkDetector::default();
        detector.update(0.3, 0.0);
        detector.update(0.05, 0.1);
        assert!(detector.eyes_closed());
        assert!(!detector.update(0.3, 5.0), "nobody saw them open");
        assert!(!detector.eyes_closed());
        assert!(!detector.update(0.3, 4.0), "a step back");
    }
}
