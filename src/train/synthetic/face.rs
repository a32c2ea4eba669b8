//! A parametric head: shape, expression and pose of one drawn face, and where its 68 landmarks are.

use crate::{
    geometry::{FaceBox, Point},
    train::augment::{chance, normal, symmetric},
};
use rand_chacha::ChaCha8Rng;
use std::f32::consts::PI;

/// A place on the head: right, down and towards the viewer, in half widths of the head, 0 between the eyes and the
/// mouth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) right: f32,
    pub(super) down: f32,
    pub(super) near: f32,
}

pub(super) const fn place(right: f32, down: f32, near: f32) -> Place {
    Place { right, down, near }
}

/// One drawn face.
#[derive(Clone, Debug)]
pub struct Face {
    center: Point,
    /// Pixels of a half width of the head.
    pub(super) unit: f32,
    roll_rad: f32,
    yaw_rad: f32,
    pitch_rad: f32,
    chin: f32,
    jaw_width: f32,
    eye_distance: f32,
    eye_width: f32,
    eye_open: f32,
    brow_height: f32,
    nose_length: f32,
    nose_width: f32,
    mouth_width: f32,
    lip: f32,
    mouth_open: f32,
    smile: f32,
    /// Where the pupils look, in eye widths.
    pub(super) gaze: Point,
}

impl Face {
    /// A face whose head is about `size` pixels high, with its middle at `center`.
    pub(super) fn new(center: Point, size: f32, generator: &mut ChaCha8Rng) -> Self {
        let mut vary = |middle: f32, spread: f32| middle * (1.0 + symmetric(generator, spread));
        let mut face = Self {
            center,
            unit: size / 2.0,
            roll_rad: 0.0,
            yaw_rad: 0.0,
            pitch_rad: 0.0,
            chin: vary(1.2, 0.1),
            jaw_width: vary(0.9, 0.08),
            eye_distance: vary(0.43, 0.1),
            eye_width: vary(0.19, 0.15),
            eye_open: vary(0.075, 0.5),
            brow_height: vary(0.26, 0.25),
            nose_length: vary(0.55, 0.12),
            nose_width: vary(0.22, 0.2),
            mouth_width: vary(0.36, 0.2),
            lip: vary(0.09, 0.3),
            mouth_open: 0.0,
            smile: 0.0,
            gaze: Point::default(),
        };
        face.roll_rad = (12.0 * normal(generator)).clamp(-40.0, 40.0).to_radians();
        face.yaw_rad = (15.0 * normal(generator)).clamp(-38.0, 38.0).to_radians();
        face.pitch_rad = (7.0 * normal(generator)).clamp(-18.0, 18.0).to_radians();
        face.smile = symmetric(generator, 0.08);
        if chance(generator, 0.4) {
            face.mouth_open = 0.02 + symmetric(generator, 0.09).abs();
        }
        face.gaze = Point::new(symmetric(generator, 0.35), symmetric(generator, 0.2));
        face
    }

    /// The 68 landmarks of scheme ibug68, in the picture.
    pub fn landmarks(&self) -> Vec<Point> {
        self.places()
            .into_iter()
            .map(|place| self.project(place))
            .collect()
    }

    /// The tight box of the landmarks.
    pub fn face_box(&self) -> FaceBox {
        FaceBox::around(self.landmarks()).expect("a face has 68 landmarks")
    }

    /// Where a place on the head is in the picture: turned, seen from far away, rolled.
    pub(super) fn project(&self, place: Place) -> Point {
        let (sin_yaw, cos_yaw) = self.yaw_rad.sin_cos();
        let (sin_pitch, cos_pitch) = self.pitch_rad.sin_cos();
        let right = place.right * cos_yaw + place.near * sin_yaw;
        let near = place.near * cos_yaw - place.right * sin_yaw;
        let down = place.down * cos_pitch + near * sin_pitch;
        let (sin, cos) = self.roll_rad.sin_cos();
        Point::new(
            self.center.x + self.unit * (cos * right - sin * down),
            self.center.y + self.unit * (sin * right + cos * down),
        )
    }

    /// The lower outline from one ear to the other; `turn` runs from 0 to pi.
    fn jaw(&self, turn: f32) -> Place {
        let (sin, cos) = turn.sin_cos();
        // Between an ellipse and a box: how square the jaw is.
        let square = self.jaw_width + (1.0 - self.jaw_width) * cos.abs();
        place(
            -cos * (square + 0.12 * sin * cos.abs()),
            -0.2 + (self.chin + 0.2) * sin.max(0.0).powf(0.85),
            -0.55 + 0.75 * sin,
        )
    }

    /// The skull from the right ear over the top to the left one, `grown` times as large as the head.
    pub(super) fn skull(&self, grown: f32) -> Vec<Place> {
        (0..=24)
            .map(|step| {
                let (sin, cos) = (PI * step as f32 / 24.0).sin_cos();
                place(grown * cos, -0.2 - grown * 0.95 * sin, -0.55 + 0.4 * sin)
            })
            .collect()
    }

    /// The middle of an eye; `side` is -1 for the one on the left of the picture and 1 for the other.
    pub(super) fn eye(&self, side: f32) -> Place {
        place(side * self.eye_distance, -0.2, 0.22)
    }

    pub(super) fn eye_width(&self) -> f32 {
        self.eye_width
    }

    pub(super) fn eye_open(&self) -> f32 {
        self.eye_open
    }

    pub(super) fn mouth_open(&self) -> f32 {
        self.mouth_open
    }

    fn places(&self) -> Vec<Place> {
        let mut places: Vec<Place> = (0..17)
            .map(|step| self.jaw(PI * step as f32 / 16.0))
            .collect();
        for side in [-1.0f32, 1.0] {
            places.extend((0..5).map(|step| {
                // Left to right in the picture on both sides.
                let along = if side < 0.0 { step } else { 4 - step } as f32 / 4.0;
                let arch = (PI * (0.15 + 0.75 * along)).sin();
                place(
                    side * (self.eye_distance + 0.27 - 0.5 * along),
                    -0.2 - self.brow_height - 0.1 * arch + 0.05,
                    0.12 + 0.18 * along,
                )
            }));
        }
        let tip = -0.2 + self.nose_length;
        places.extend((0..4).map(|step| {
            let along = step as f32 / 3.0;
            place(0.0, -0.2 + self.nose_length * along, 0.32 + 0.3 * along)
        }));
        places.extend((-2i8..=2).map(|step| {
            let across = f32::from(step) / 2.0;
            place(
                self.nose_width * across,
                tip + 0.12 + 0.05 * (1.0 - across.abs()),
                0.42 - 0.14 * across.abs(),
            )
        }));
        for side in [-1.0f32, 1.0] {
            let Place { right, down, near } = self.eye(side);
            let (across, open) = (self.eye_width, self.eye_open);
            for (x, y) in [
                (-1.0, 0.0),
                (-0.38, -1.0),
                (0.38, -1.0),
                (1.0, 0.0),
                (0.38, 0.9),
                (-0.38, 0.9),
            ] {
                let curve = 0.06 * (x * side).max(0.0);
                places.push(place(right + across * x, down + open * y, near - curve));
            }
        }
        self.add_mouth(&mut places);
        places
    }

    fn add_mouth(&self, places: &mut Vec<Place>) {
        let middle = -0.2 + self.nose_length + 0.42;
        let mut add = |x: f32, y: f32| {
            let bend = -self.smile * x * x;
            let near = 0.4 - 0.22 * x * x;
            places.push(place(self.mouth_width * x, middle + bend + y, near));
        };
        let (upper, lower) = (self.lip, 1.25 * self.lip);
        let (top, bottom) = (-self.mouth_open, self.mouth_open);
        for (x, y) in [
            (-1.0, 0.0),
            (-0.62, 0.75 * (top - upper)),
            (-0.22, top - upper),
            (0.0, top - 0.88 * upper),
            (0.22, top - upper),
            (0.62, 0.75 * (top - upper)),
            (1.0, 0.0),
            (0.62, 0.8 * (bottom + lower)),
            (0.25, bottom + lower),
            (0.0, 1.04 * (bottom + lower)),
            (-0.25, bottom + lower),
            (-0.62, 0.8 * (bottom + lower)),
            (-0.88, 0.0),
            (-0.3, top),
            (0.0, top),
            (0.3, top),
            (0.88, 0.0),
            (0.3, bottom),
            (0.0, bottom),
            (-0.3, bottom),
        ] {
            add(x, y);
        }
    }
}
