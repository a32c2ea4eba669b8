//! Tracking error against a known motion: how well landmarks stay at one place of a face whose every move is known.
//!
//! Each frame's landmarks are mapped back to the still portrait by the exact inverse of the camera's motion. A perfect
//! tracker would give the same places in every frame. The reference of a landmark is the median over all frames of its
//! mapped-back places, x and y each for itself; the error of a frame is the mean distance of its landmarks to their
//! references, in percent of the inter-ocular distance of the references. So the figure holds jitter, lag of the
//! smoothing and every dependence on size, place and turn of the face, and does not hold what is wrong in the same way in
//! every frame (that is what the NME on labelled pictures measures).

use crate::{
    geometry::{Affine, Point},
    metrics::{Percentiles, percentile},
    scheme::Scheme,
};

/// Collects landmarks mapped back to the portrait.
#[derive(Clone, Debug)]
pub struct KnownMotion {
    frame_from_portrait: fn(f64) -> Affine,
    scheme: Scheme,
    frames: Vec<Vec<Point>>,
    missed: u64,
}

/// The error over all frames in which a face was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrackingError {
    /// Distribution over frames, in percent of the inter-ocular distance.
    pub percent: Percentiles,
    /// Frames that it is from.
    pub frames: usize,
    /// Frames in which no face was found; the portrait's face is in each.
    pub missed: u64,
}

impl KnownMotion {
    /// For landmarks of `scheme` under a motion, as a function of the time in seconds.
    pub fn new(frame_from_portrait: fn(f64) -> Affine, scheme: Scheme) -> Self {
        Self {
            frame_from_portrait,
            scheme,
            frames: Vec::new(),
            missed: 0,
        }
    }

    /// Takes the landmarks of one frame; `None` when no face was found.
    pub fn add(&mut self, time_secs: f64, landmarks: Option<&[Point]>) {
        let portrait_from_frame = (self.frame_from_portrait)(time_secs).inverse();
        match (landmarks, portrait_from_frame) {
            (Some(landmarks), Some(map)) => {
                self.frames
                    .push(landmarks.iter().map(|&landmark| map * landmark).collect());
            }
            _ => self.missed += 1,
        }
    }

    /// The median place of each landmark in the portrait; empty without frames.
    pub fn reference(&self) -> Vec<Point> {
        let count = self.frames.first().map_or(0, Vec::len);
        let median = |index: usize, coordinate: fn(&Point) -> f32| {
            let mut values: Vec<f64> = self
                .frames
                .iter()
                .filter_map(|landmarks| Some(f64::from(coordinate(landmarks.get(index)?))))
                .collect();
            values.sort_by(f64::total_cmp);
            percentile(&values, 50.0).unwrap_or_default() as f32
        };
        (0..count)
            .map(|index| Point::new(median(index, |p| p.x), median(index, |p| p.y)))
            .collect()
    }

    /// The tracking error; `None` without frames, or for a scheme without eyes.
    pub fn error(&self) -> Option<TrackingError> {
        let reference = self.reference();
        let unit = self.scheme.inter_ocular_distance(&reference)?;
        let errors: Vec<f64> = self
            .frames
            .iter()
            .map(|landmarks| {
                let distances = landmarks.iter().zip(&reference);
                let sum: f32 = distances.map(|(found, &place)| found.distance(place)).sum();
                100.0 * f64::from(sum / unit) / reference.len() as f64
            })
            .collect();
        Some(TrackingError {
            percent: Percentiles::of(&errors)?,
            frames: errors.len(),
            missed: self.missed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::demo::frame_from_portrait;

    fn landmarks_in_portrait() -> [Point; 5] {
        [
            Point::new(200.0, 110.0),
            Point::new(250.0, 110.0),
            Point::new(225.0, 130.0),
            Point::new(210.0, 150.0),
            Point::new(240.0, 150.0),
        ]
    }

    fn error_of(place: impl Fn(u64) -> [Point; 5]) -> TrackingError {
        let mut motion = KnownMotion::new(frame_from_portrait, Scheme::Mtfl5);
        for frame in 0..100 {
            let time_secs = frame as f64 / 7.0;
            let landmarks = place(frame).map(|point| frame_from_portrait(time_secs) * point);
            motion.add(time_secs, Some(&landmarks));
        }
        motion.error().expect("frames")
    }

    #[test]
    fn landmarks_that_move_with_the_face_have_no_error() {
        let error = error_of(|_| landmarks_in_portrait());
        assert!(error.percent.p99 < 1e-3, "{error:?}");
        assert_eq!((error.frames, error.missed), (100, 0));
    }

    #[test]
    fn jitter_is_measured_in_units_of_the_eyes_distance() {
        // Half a pixel to the left in even frames, to the right in odd ones: half a pixel of 50 off the median.
        let error = error_of(|frame| {
            let shift = if frame % 2 == 0 { -0.5 } else { 0.5 };
            landmarks_in_portrait().map(|point| Point::new(point.x + shift, point.y))
        });
        assert!((error.percent.mean - 1.0).abs() < 0.01, "{error:?}");
    }

    #[test]
    fn landmarks_that_stand_still_in_the_frame_are_far_off() {
        let mut motion = KnownMotion::new(frame_from_portrait, Scheme::Mtfl5);
        motion.add(0.0, None);
        for frame in 0..100 {
            motion.add(frame as f64 / 7.0, Some(&landmarks_in_portrait()));
        }
        let error = motion.error().expect("frames");
        assert!(error.percent.mean > 20.0 && error.missed == 1, "{error:?}");
    }

    #[test]
    fn nothing_gives_no_figure() {
        assert_eq!(
            KnownMotion::new(frame_from_portrait, Scheme::Mtfl5).error(),
            None
        );
    }
}
