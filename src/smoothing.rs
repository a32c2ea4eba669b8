//! Smoothing of landmarks over time: the One-Euro filter (Casiez, Roussel, Vogel: "1 € Filter", CHI 2012), which is slow
//! where a point rests, so that it does not tremble, and quick where it moves, so that it does not lag.

use crate::geometry::Point;

/// How strongly to smooth. Speeds are in face sizes a second, so that a face far away is treated like one close by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OneEuroConfig {
    /// Cutoff frequency of a resting point, in hertz. Lower: less trembling, more lag at the start of a movement.
    pub min_cutoff_hz: f32,
    /// Growth of the cutoff, in hertz a (face size a second). Higher: less lag in movement. The lag of a steady movement
    /// tends to 1 / (2 pi `speed_coefficient`) face sizes.
    pub speed_coefficient: f32,
    /// Cutoff frequency of the speed estimate, in hertz (the paper's choice: 1).
    pub speed_cutoff_hz: f32,
    /// A longer pause than this, in seconds, starts afresh.
    pub max_gap_secs: f64,
}

/// With these a steadily moving point lags by at most half a percent of the face's size.
impl Default for OneEuroConfig {
    fn default() -> Self {
        Self {
            min_cutoff_hz: 1.5,
            speed_coefficient: 32.0,
            speed_cutoff_hz: 1.0,
            max_gap_secs: 0.5,
        }
    }
}

/// The filter of one face's landmarks. Both coordinates of a landmark share a cutoff, that of its speed along its path.
#[derive(Clone, Debug)]
pub struct LandmarkFilter {
    config: OneEuroConfig,
    last_secs: f64,
    states: Vec<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// Filtered position.
    position: Point,
    /// Filtered velocity, in pixels a second.
    velocity: Point,
}

impl LandmarkFilter {
    /// A filter that has seen nothing.
    pub fn new(config: OneEuroConfig) -> Self {
        Self {
            config,
            last_secs: 0.0,
            states: Vec::new(),
        }
    }

    /// Forgets the past: the next landmarks pass unchanged.
    pub fn reset(&mut self) {
        self.states.clear();
    }

    /// Smooths `landmarks`, seen at `time_secs`, in place. `face_size` is the face's size in pixels. The first ones, and
    /// those after a pause or a step back in time, pass unchanged.
    pub fn smooth(&mut self, landmarks: &mut [Point], face_size: f32, time_secs: f64) {
        let step = time_secs - self.last_secs;
        self.last_secs = time_secs;
        let follows = step > 0.0 && step <= self.config.max_gap_secs;
        let fits = self.states.len() == landmarks.len() && face_size > 0.0;
        if !(follows && fits) {
            self.states.clear();
            self.states.extend(landmarks.iter().map(|&position| State {
                position,
                velocity: Point::default(),
            }));
            return;
        }
        let step = step as f32;
        let speed_alpha = alpha(self.config.speed_cutoff_hz, step);
        for (state, point) in self.states.iter_mut().zip(landmarks) {
            let velocity = Point::new(
                (point.x - state.position.x) / step,
                (point.y - state.position.y) / step,
            );
            state.velocity = mix(state.velocity, velocity, speed_alpha);
            let speed = state.velocity.x.hypot(state.velocity.y) / face_size;
            let cutoff = self.config.min_cutoff_hz + self.config.speed_coefficient * speed;
            state.position = mix(state.position, *point, alpha(cutoff, step));
            *point = state.position;
        }
    }
}

/// Weight of the NEW sample in a first-order low pass: 1 / (1 + tau / step) with tau = 1 / (2 pi cutoff).
fn alpha(cutoff_hz: f32, step_secs: f32) -> f32 {
    let turns = std::f32::consts::TAU * cutoff_hz * step_secs;
    turns / (1.0 + turns)
}

fn mix(old: Point, new: Point, alpha: f32) -> Point {
    Point::new(
        old.x + alpha * (new.x - old.x),
        old.y + alpha * (new.y - old.y),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> LandmarkFilter {
        LandmarkFilter::new(OneEuroConfig::default())
    }

    #[test]
    fn the_second_sample_is_as_computed_by_hand() {
        let config = OneEuroConfig {
            min_cutoff_hz: 1.0,
            speed_coefficient: 0.5,
            speed_cutoff_hz: 1.0,
            max_gap_secs: 1.0,
        };
        let mut filter = LandmarkFilter::new(config);
        let step = 0.1f32;
        let mut points = [Point::new(10.0, 20.0)];
        filter.smooth(&mut points, 50.0, 3.0);
        assert_eq!(points[0], Point::new(10.0, 20.0));
        points[0] = Point::new(13.0, 24.0);
        filter.smooth(&mut points, 50.0, 3.0 + f64::from(step));
        // 5 pixels in 0.1 s: 50 pixels a second, 1 face size a second, of which the speed filter lets alpha(1) through.
        let alpha_of = |cutoff: f32| 1.0 / (1.0 + 1.0 / (std::f32::consts::TAU * cutoff * step));
        let weight = alpha_of(1.0 + 0.5 * alpha_of(1.0));
        let expected = Point::new(10.0 + 3.0 * weight, 20.0 + 4.0 * weight);
        assert!(
            points[0].distance(expected) < 1e-4,
            "{points:?} {expected:?}"
        );
    }

    #[test]
    fn a_resting_point_trembles_less() {
        let mut filter = filter();
        let mut spread = 0.0f32;
        for frame in 0..90 {
            let noise = if frame % 2 == 0 { 0.5 } else { -0.5 };
            let mut points = [Point::new(100.0 + noise, 100.0)];
            filter.smooth(&mut points, 200.0, f64::from(frame) / 30.0);
            if frame > 30 {
                spread = spread.max((points[0].x - 100.0).abs());
            }
        }
        assert!(spread < 0.25, "{spread}");
    }

    #[test]
    fn a_moving_point_lags_no_more_than_promised() {
        let config = OneEuroConfig::default();
        let (mut filter, face_size, speed) = (filter(), 200.0f32, 300.0f32);
        let mut lag = 0.0;
        for frame in 0..60u8 {
            let x = speed * f32::from(frame) / 30.0;
            let mut points = [Point::new(x, 0.0)];
            filter.smooth(&mut points, face_size, f64::from(frame) / 30.0);
            lag = x - points[0].x;
        }
        let promised = face_size / (std::f32::consts::TAU * config.speed_coefficient);
        assert!(lag > 0.0 && lag < 1.05 * promised, "{lag} {promised}");
    }

    #[test]
    fn smoothing_does_not_depend_on_the_size_of_the_picture() {
        let (mut small, mut large) = (filter(), filter());
        for frame in 0..20u8 {
            let x = f32::from(frame) * f32::from(frame % 3);
            let time = f64::from(frame) / 25.0;
            let (mut near, mut far) = ([Point::new(x, 1.0)], [Point::new(4.0 * x, 4.0)]);
            small.smooth(&mut near, 50.0, time);
            large.smooth(&mut far, 200.0, time);
            assert!((4.0 * near[0].x - far[0].x).abs() < 1e-3);
        }
    }

    #[test]
    fn pauses_steps_back_and_other_counts_start_afresh() {
        let mut filter = filter();
        for (time, count) in [(0.0, 2), (0.6, 2), (0.5, 2), (0.5, 2), (0.52, 1)] {
            let mut points = vec![Point::new(time as f32 * 1000.0, 7.0); count];
            let before = points.clone();
            filter.smooth(&mut points, 10.0, time);
            assert_eq!(points, before, "at {time}");
        }
        filter.reset();
        let mut points = [Point::new(-50.0, 0.0)];
        filter.smooth(&mut points, 10.0, 0.53);
        assert_eq!(points[0], Point::new(-50.0, 0.0));
    }
}
