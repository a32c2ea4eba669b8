//! The demo: a virtual camera that pans, zooms and rolls over a public-domain portrait, so that where each point of the
//! face is at each time is known exactly. The origin of the portrait: `samples/README.md`.

use super::{FrameStamp, Source, SourceError, SourceKind};
use crate::{
    crop::{Color, Crop},
    frame::Frame,
    geometry::{Affine, Point},
    picture,
};
use std::f64::consts::TAU;

/// Width of the demo's frames.
pub const WIDTH: usize = 640;
/// Height of the demo's frames.
pub const HEIGHT: usize = 480;
/// Frames a second.
pub const FRAME_RATE: f64 = 30.0;
/// Frames until the camera is back where it started, and the demo ends.
pub const FRAME_COUNT: u64 = 600;

/// The middle of the face in the portrait.
const FACE_CENTER: Point = Point::new(226.0, 138.0);

/// Pixels by which the portrait's outermost pixels are repeated around it, so that the camera may look past its edges.
const BORDER: usize = 192;

const PORTRAIT: &[u8] = include_bytes!("../../samples/astronaut.jpg");

/// The exact map from the portrait to the frame at `time_secs`.
pub fn frame_from_portrait(time_secs: f64) -> Affine {
    let turn = TAU * time_secs * FRAME_RATE / FRAME_COUNT as f64;
    // Zoom between 1.25 and 2.5: the face fills a third to two thirds of the frame's height.
    let scale = 1.77 * 2f64.powf(0.5 * (turn + 0.7).sin());
    let roll_rad = 18f64.to_radians() * (3.0 * turn).sin();
    let face_in_frame = Point::new(
        (0.5 * (WIDTH as f64 - 1.0) + 120.0 * (2.0 * turn).sin()) as f32,
        (0.5 * (HEIGHT as f64 - 1.0) + 40.0 * (3.0 * turn + 1.0).sin()) as f32,
    );
    Affine::similarity(scale as f32, roll_rad as f32, FACE_CENTER, face_in_frame)
}

/// The virtual camera.
pub struct DemoSource {
    bordered: Frame,
    view: Crop,
    frames: u64,
}

impl Default for DemoSource {
    fn default() -> Self {
        Self::new()
    }
}

impl DemoSource {
    /// The camera over the built-in portrait.
    pub fn new() -> Self {
        let portrait = picture::decode(PORTRAIT).expect("the built-in portrait is a whole JPEG");
        Self::over(&portrait)
    }

    /// The camera over another picture.
    pub fn over(portrait: &Frame) -> Self {
        Self {
            bordered: with_border(portrait),
            view: Crop::new(WIDTH, HEIGHT, Color::Rgb),
            frames: 0,
        }
    }

    /// What the camera sees at `time_secs`.
    pub fn render(&mut self, time_secs: f64, frame: &mut Frame) {
        let border = BORDER as f32;
        let portrait_from_bordered = Affine {
            rows: [[1.0, 0.0, -border], [0.0, 1.0, -border]],
        };
        let frame_from_bordered = frame_from_portrait(time_secs) * portrait_from_bordered;
        self.view.fill(&self.bordered, &frame_from_bordered);
        frame.reshape(WIDTH, HEIGHT);
        frame.rgb_mut().copy_from_slice(self.view.bytes());
    }
}

impl Source for DemoSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Recorded
    }

    fn description(&self) -> String {
        format!("demo: a virtual camera over a portrait, {WIDTH}x{HEIGHT}, {FRAME_RATE} fps")
    }

    fn frame_rate(&self) -> Option<f64> {
        Some(FRAME_RATE)
    }

    fn frame_size(&self) -> Option<(usize, usize)> {
        Some((WIDTH, HEIGHT))
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Option<FrameStamp>, SourceError> {
        if self.frames == FRAME_COUNT {
            return Ok(None);
        }
        let stamp = FrameStamp {
            index: self.frames,
            time_secs: self.frames as f64 / FRAME_RATE,
        };
        self.render(stamp.time_secs, frame);
        self.frames += 1;
        Ok(Some(stamp))
    }
}

fn with_border(portrait: &Frame) -> Frame {
    let mut bordered = Frame::new(
        portrait.width() + 2 * BORDER,
        portrait.height() + 2 * BORDER,
    );
    for y in 0..bordered.height() {
        let from_y = y.saturating_sub(BORDER).min(portrait.height() - 1);
        for x in 0..bordered.width() {
            let from_x = x.saturating_sub(BORDER).min(portrait.width() - 1);
            bordered.set_pixel(x, y, portrait.pixel(from_x, from_y));
        }
    }
    bordered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A black picture with a soft white spot.
    fn spot(center: Point) -> Frame {
        let mut frame = Frame::new(512, 512);
        for y in 0..512 {
            for x in 0..512 {
                let distance = center.distance(Point::new(x as f32, y as f32));
                let light = 255.0 * (-distance * distance / 18.0).exp();
                frame.set_pixel(x, y, [light.round() as u8; 3]);
            }
        }
        frame
    }

    fn centroid(frame: &Frame) -> Point {
        let (mut sum_x, mut sum_y, mut sum) = (0.0f64, 0.0f64, 0.0f64);
        for y in 0..frame.height() {
            for x in 0..frame.width() {
                let light = f64::from(frame.pixel(x, y)[1]);
                sum_x += light * x as f64;
                sum_y += light * y as f64;
                sum += light;
            }
        }
        Point::new((sum_x / sum) as f32, (sum_y / sum) as f32)
    }

    #[test]
    fn the_camera_moves_exactly_as_it_says() {
        let eye = Point::new(205.0, 110.0);
        let mut source = DemoSource::over(&spot(eye));
        let mut frame = Frame::default();
        for index in (0..FRAME_COUNT).step_by(53) {
            let time_secs = index as f64 / FRAME_RATE;
            source.render(time_secs, &mut frame);
            let expected = frame_from_portrait(time_secs) * eye;
            let found = centroid(&frame);
            assert!(
                found.distance(expected) < 0.1,
                "{index}: {found:?} {expected:?}"
            );
        }
    }

    #[test]
    fn frames_are_counted_and_the_lap_ends() {
        let mut source = DemoSource::new();
        let (mut frame, mut rendered) = (Frame::default(), Frame::default());
        for index in 0..3 {
            let stamp = source
                .next(&mut frame)
                .expect("frame")
                .expect("not at the end");
            assert_eq!(
                (stamp.index, stamp.time_secs),
                (index, index as f64 / FRAME_RATE)
            );
        }
        source.render(2.0 / FRAME_RATE, &mut rendered);
        assert_eq!(frame, rendered);
        source.frames = FRAME_COUNT;
        assert_eq!(source.next(&mut frame).expect("end"), None);
    }

    #[test]
    fn the_face_stays_in_the_frame_and_the_camera_comes_back() {
        for index in 0..FRAME_COUNT {
            let map = frame_from_portrait(index as f64 / FRAME_RATE);
            // The face from hair line to chin, ear to ear.
            for (x, y) in [(172.0, 70.0), (280.0, 70.0), (172.0, 195.0), (280.0, 195.0)] {
                let point = map * Point::new(x, y);
                let inside = (0.0..WIDTH as f32).contains(&point.x)
                    && (0.0..HEIGHT as f32).contains(&point.y);
                assert!(inside, "{index}: {point:?}");
            }
        }
        let (start, end) = (
            frame_from_portrait(0.0),
            frame_from_portrait(FRAME_COUNT as f64 / FRAME_RATE),
        );
        let corner = Point::new(500.0, 10.0);
        assert!((start * corner).distance(end * corner) < 1e-2);
    }
}
