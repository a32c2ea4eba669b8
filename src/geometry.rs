//! Points, face boxes and affine maps. Pure arithmetic: no pixels, no I/O.
//!
//! Pixel convention everywhere: origin top-left, x right, y down, an integer coordinate is the CENTRE of a pixel.

use serde::{Deserialize, Serialize};
use std::{borrow::Borrow, ops::Mul};

/// A point in pixels of the space that its variable name says (`point_in_frame`, `point_in_crop`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Right.
    pub x: f32,
    /// Down.
    pub y: f32,
}

impl Point {
    /// A point at (`x`, `y`).
    pub const fn new(x: f32, y: f32) -> Self {
        Self { x, y }
    }

    /// Euclidean distance to `other`, in pixels.
    pub fn distance(self, other: Self) -> f32 {
        (self.x - other.x).hypot(self.y - other.y)
    }

    /// The point half way to `other`.
    pub fn midpoint(self, other: Self) -> Self {
        Self::new(0.5 * (self.x + other.x), 0.5 * (self.y + other.y))
    }
}

/// Points travel as `[x, y]` in JSON.
impl Serialize for Point {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.x, self.y].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [x, y] = <[f32; 2]>::deserialize(deserializer)?;
        Ok(Self::new(x, y))
    }
}

/// An axis-aligned box: left-top corner, width and height, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FaceBox {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width, not negative.
    pub width: f32,
    /// Height, not negative.
    pub height: f32,
}

impl FaceBox {
    /// A box from its left-top corner and size.
    pub const fn new(x: f32, y: f32, width: f32, height: f32) -> Self {
        Self {
            x,
            y,
            width,
            height,
        }
    }

    /// The tight box of `points`; `None` without points.
    pub fn around(points: impl IntoIterator<Item: Borrow<Point>>) -> Option<Self> {
        let mut points = points.into_iter();
        let first = *points.next()?.borrow();
        let (mut low, mut high) = (first, first);
        for point in points {
            let point = point.borrow();
            low = Point::new(low.x.min(point.x), low.y.min(point.y));
            high = Point::new(high.x.max(point.x), high.y.max(point.y));
        }
        Some(Self::new(low.x, low.y, high.x - low.x, high.y - low.y))
    }

    /// The middle of the box.
    pub fn center(&self) -> Point {
        Point::new(self.x + 0.5 * self.width, self.y + 0.5 * self.height)
    }

    /// Width times height, in square pixels.
    pub fn area(&self) -> f32 {
        self.width * self.height
    }

    /// Intersection over union, 0 to 1.
    pub fn iou(&self, other: &Self) -> f32 {
        let intersection = self.intersection(other);
        if intersection == 0.0 {
            return 0.0;
        }
        intersection / (self.area() + other.area() - intersection)
    }

    /// Intersection over the smaller area, 0 to 1: 1 when one box lies in the other.
    pub fn containment(&self, other: &Self) -> f32 {
        let intersection = self.intersection(other);
        if intersection == 0.0 {
            return 0.0;
        }
        intersection / self.area().min(other.area())
    }

    /// Area that both share.
    fn intersection(&self, other: &Self) -> f32 {
        let width = (self.x + self.width).min(other.x + other.width) - self.x.max(other.x);
        let height = (self.y + self.height).min(other.y + other.height) - self.y.max(other.y);
        width.max(0.0) * height.max(0.0)
    }

    /// Whether `point` lies in the box, its edges included.
    pub fn contains(&self, point: Point) -> bool {
        point.x >= self.x
            && point.y >= self.y
            && point.x <= self.x + self.width
            && point.y <= self.y + self.height
    }
}

/// Boxes travel as `[x, y, width, height]` in JSON.
impl Serialize for FaceBox {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.x, self.y, self.width, self.height].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FaceBox {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [x, y, width, height] = <[f32; 4]>::deserialize(deserializer)?;
        Ok(Self::new(x, y, width, height))
    }
}

/// An affine map of the plane. Name it by its spaces: `crop_from_frame * point_in_frame` is a point in the crop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Rows `[a, b, tx]` and `[c, d, ty]`: x' = a x + b y + tx, y' = c x + d y + ty.
    pub rows: [[f32; 3]; 2],
}

impl Affine {
    /// The map that changes nothing.
    pub const IDENTITY: Self = Self {
        rows: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
    };

    /// Scales by `scale` and turns by `angle_rad` (clockwise on the screen, since y points down), taking `from` to `to`.
    pub fn similarity(scale: f32, angle_rad: f32, from: Point, to: Point) -> Self {
        let (sin, cos) = angle_rad.sin_cos();
        let (a, b) = (scale * cos, scale * sin);
        Self {
            rows: [
                [a, -b, to.x - a * from.x + b * from.y],
                [b, a, to.y - b * from.x - a * from.y],
            ],
        }
    }

    /// Mirrors x within a picture of `width` pixels: x' = width - 1 - x.
    pub fn mirror_x(width: usize) -> Self {
        Self {
            rows: [[-1.0, 0.0, width as f32 - 1.0], [0.0, 1.0, 0.0]],
        }
    }

    /// The inverse map; `None` when the map is singular.
    pub fn inverse(&self) -> Option<Self> {
        let [[a, b, tx], [c, d, ty]] = self.rows;
        let determinant = a * d - b * c;
        if determinant == 0.0 || !determinant.is_finite() {
            return None;
        }
        let (ia, ib, ic, id) = (
            d / determinant,
            -b / determinant,
            -c / determinant,
            a / determinant,
        );
        Some(Self {
            rows: [
                [ia, ib, -(ia * tx + ib * ty)],
                [ic, id, -(ic * tx + id * ty)],
            ],
        })
    }

    /// Pixels of the target a pixel of the source becomes (square root of the area ratio).
    pub fn scale(&self) -> f32 {
        let [[a, b, _], [c, d, _]] = self.rows;
        (a * d - b * c).abs().sqrt()
    }
}

impl Mul<Point> for Affine {
    type Output = Point;

    fn mul(self, point: Point) -> Point {
        let [[a, b, tx], [c, d, ty]] = self.rows;
        Point::new(
            a * point.x + b * point.y + tx,
            c * point.x + d * point.y + ty,
        )
    }
}

/// `(left * right) * point == left * (right * point)`.
impl Mul for Affine {
    type Output = Self;

    fn mul(self, right: Self) -> Self {
        let mut rows = [[0.0; 3]; 2];
        for (row, [a, b, t]) in rows.iter_mut().zip(self.rows) {
            for (column, value) in row.iter_mut().enumerate() {
                *value = a * right.rows[0][column] + b * right.rows[1][column];
            }
            row[2] += t;
        }
        Self { rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_similarity_and_its_inverse_round_trip(
            scale in 0.1f32..8.0, angle in -3.2f32..3.2, x in -500f32..500.0, y in -500f32..500.0,
        ) {
            let map = Affine::similarity(scale, angle, Point::new(30.0, -20.0), Point::new(56.0, 55.5));
            let back = map.inverse().expect("a similarity is regular") * (map * Point::new(x, y));
            prop_assert!((back.x - x).abs() < 0.01 && (back.y - y).abs() < 0.01);
            prop_assert!((map.scale() - scale).abs() < 1e-3 * scale);
        }

        #[test]
        fn composition_applies_the_right_map_first(angle in -3.0f32..3.0, x in -50f32..50.0, y in -50f32..50.0) {
            let left = Affine::similarity(2.0, angle, Point::new(1.0, 2.0), Point::new(-3.0, 4.0));
            let right = Affine::mirror_x(640);
            let (once, twice) = ((left * right) * Point::new(x, y), left * (right * Point::new(x, y)));
            prop_assert!(once.distance(twice) < 1e-2);
        }
    }

    #[test]
    fn a_positive_angle_turns_clockwise_on_the_screen() {
        let turn = Affine::similarity(
            1.0,
            std::f32::consts::FRAC_PI_2,
            Point::default(),
            Point::default(),
        );
        assert!((turn * Point::new(1.0, 0.0)).distance(Point::new(0.0, 1.0)) < 1e-6);
    }

    #[test]
    fn iou_of_half_overlapping_boxes_is_a_third() {
        let left = FaceBox::new(0.0, 0.0, 10.0, 10.0);
        assert!((left.iou(&FaceBox::new(5.0, 0.0, 10.0, 10.0)) - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(left.iou(&FaceBox::new(10.0, 0.0, 5.0, 5.0)), 0.0);
        assert_eq!(left.containment(&FaceBox::new(5.0, 0.0, 20.0, 10.0)), 0.5);
        assert_eq!(left.containment(&FaceBox::new(2.0, 2.0, 3.0, 3.0)), 1.0);
        assert_eq!(left.containment(&FaceBox::new(10.0, 0.0, 5.0, 5.0)), 0.0);
    }
}
