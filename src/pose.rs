//! Head pose from ibug68 landmarks: a scaled orthographic (weak perspective) camera is fitted to a rigid mean face by
//! least squares, as POS in DeMenthon and Davis, "Model-based object pose in 25 lines of code", 1995.

use crate::{geometry::Point, scheme::Scheme};
use serde::{Deserialize, Serialize};

/// How a head is turned, in degrees. All are 0 for a face that looks straight into the camera. The head first nods, then
/// turns, then rolls; signs are as seen in the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pose {
    /// Positive: the nose points to the right edge of the picture. -90 to 90.
    pub yaw: f32,
    /// Positive: the nose points up. -180 to 180; beyond some 60 the fit is not to be trusted.
    pub pitch: f32,
    /// Positive: the head is turned clockwise in the picture. -180 to 180.
    pub roll: f32,
}

/// ibug68 index and place of the points that hardly move with expression. x right, y down, z away from the camera, in
/// units of the distance of the outer eye corners, whose middle is the origin. The figures are the project's own rounded
/// estimate of an adult's proportions, made symmetric; they are no measurement of anybody. One face for everybody means
/// that a person's angles may be off by a constant of some degrees, in pitch most.
const MEAN_FACE: [(usize, [f32; 3]); 12] = [
    (36, [-0.50, 0.00, 0.00]),
    (45, [0.50, 0.00, 0.00]),
    (39, [-0.20, 0.01, -0.08]),
    (42, [0.20, 0.01, -0.08]),
    (27, [0.00, -0.02, -0.20]),
    (30, [0.00, 0.36, -0.46]),
    (31, [-0.16, 0.45, -0.22]),
    (35, [0.16, 0.45, -0.22]),
    (33, [0.00, 0.48, -0.32]),
    (48, [-0.29, 0.74, -0.16]),
    (54, [0.29, 0.74, -0.16]),
    (51, [0.00, 0.66, -0.32]),
];

impl Pose {
    /// Estimates the pose from the landmarks of one face. `None` for another scheme than ibug68, or when the landmarks
    /// lie on a line.
    pub fn estimate(scheme: Scheme, landmarks: &[Point]) -> Option<Self> {
        if scheme != Scheme::Ibug68 || landmarks.len() != scheme.landmark_count() {
            return None;
        }
        let count = MEAN_FACE.len() as f32;
        let mut center = [0.0f32; 3];
        // Relative to one of the points, so that landmarks in one place are exactly that, wherever it is.
        let origin = landmarks[MEAN_FACE[0].0];
        let offset = |index: usize| [landmarks[index].x - origin.x, landmarks[index].y - origin.y];
        let mut center_seen = [0.0f32; 2];
        for (index, place) in MEAN_FACE {
            for (total, coordinate) in center.iter_mut().zip(place) {
                *total += coordinate / count;
            }
            for (total, coordinate) in center_seen.iter_mut().zip(offset(index)) {
                *total += coordinate / count;
            }
        }
        // Least squares of (x, y) = [m0; m1] place: M = (sum xy place^T) (sum place place^T)^-1.
        let (mut products, mut rows) = ([[0.0f32; 3]; 3], [[0.0f32; 3]; 2]);
        for (index, place) in MEAN_FACE {
            let place: [f32; 3] = std::array::from_fn(|axis| place[axis] - center[axis]);
            let [x, y] = offset(index);
            let seen = [x - center_seen[0], y - center_seen[1]];
            for axis in 0..3 {
                for (row, seen) in rows.iter_mut().zip(seen) {
                    row[axis] += seen * place[axis];
                }
                for other in 0..3 {
                    products[axis][other] += place[axis] * place[other];
                }
            }
        }
        let inverse = inverse(&products)?;
        let [right, down] = rows.map(|row| std::array::from_fn(|axis| dot(&row, &inverse[axis])));
        Self::from_axes(right, down)
    }

    /// From the rows of the camera matrix: the face's axes as seen along the picture's x and y, of any length.
    fn from_axes(right: [f32; 3], down: [f32; 3]) -> Option<Self> {
        let (right, down) = (unit(right)?, unit(down)?);
        // The nearest pair of perpendicular axes turns both by the same angle.
        let half = 0.5 * dot(&right, &down);
        if half.abs() > 0.499 {
            return None;
        }
        let right_turned = unit(std::array::from_fn(|axis| right[axis] - half * down[axis]))?;
        let down_turned: [f32; 3] = std::array::from_fn(|axis| down[axis] - half * right[axis]);
        let rest = dot(&right_turned, &down_turned);
        let down_turned = unit(std::array::from_fn(|axis| {
            down_turned[axis] - rest * right_turned[axis]
        }))?;
        let away = cross(&right_turned, &down_turned);
        // R = Rz(roll) Ry(-yaw) Rx(-pitch), so its last row is (sin yaw, -cos yaw sin pitch, cos yaw cos pitch).
        Some(Self {
            yaw: away[0].clamp(-1.0, 1.0).asin().to_degrees(),
            pitch: (-away[1]).atan2(away[2]).to_degrees(),
            roll: down_turned[0].atan2(right_turned[0]).to_degrees(),
        })
    }
}

fn dot(a: &[f32; 3], b: &[f32; 3]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn cross(a: &[f32; 3], b: &[f32; 3]) -> [f32; 3] {
    [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]
}

fn unit(vector: [f32; 3]) -> Option<[f32; 3]> {
    let length = dot(&vector, &vector).sqrt();
    (length > 0.0 && length.is_finite()).then(|| vector.map(|value| value / length))
}

/// Of a symmetric matrix, by cofactors; `None` when it is singular.
fn inverse(matrix: &[[f32; 3]; 3]) -> Option<[[f32; 3]; 3]> {
    let [a, b, c] = matrix;
    let columns = [cross(b, c), cross(c, a), cross(a, b)];
    let determinant = dot(a, &columns[0]);
    (determinant != 0.0 && determinant.is_finite())
        .then(|| columns.map(|column| column.map(|value| value / determinant)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Projects the mean face, turned by `pose`, with 80 pixels an eye distance.
    fn project(pose: &Pose) -> Vec<Point> {
        let [yaw, pitch, roll] = [pose.yaw, pose.pitch, pose.roll].map(f32::to_radians);
        let mut landmarks = vec![Point::default(); 68];
        for (index, [x, y, z]) in MEAN_FACE {
            // Nod: up is positive, so the nose (negative z) goes to negative y.
            let (y, z) = (
                y * pitch.cos() + z * pitch.sin(),
                z * pitch.cos() - y * pitch.sin(),
            );
            // Turn: the nose goes to positive x.
            let x = x * yaw.cos() - z * yaw.sin();
            let (x, y) = (
                x * roll.cos() - y * roll.sin(),
                x * roll.sin() + y * roll.cos(),
            );
            landmarks[index] = Point::new(300.0 + 80.0 * x, 200.0 + 80.0 * y);
        }
        landmarks
    }

    #[test]
    fn a_known_pose_is_found() {
        for yaw in [-50.0, -20.0, 0.0, 35.0] {
            for pitch in [-30.0, 0.0, 25.0] {
                for roll in [-120.0, -15.0, 0.0, 40.0] {
                    let pose = Pose { yaw, pitch, roll };
                    let found = Pose::estimate(Scheme::Ibug68, &project(&pose)).unwrap();
                    let error = (found.yaw - yaw).abs()
                        + (found.pitch - pitch).abs()
                        + (found.roll - roll).abs();
                    assert!(error < 0.05, "{pose:?} {found:?}");
                }
            }
        }
    }

    #[test]
    fn signs_are_as_documented() {
        let nose_from_eyes = |pose: Pose| {
            let points = project(&pose);
            let eyes = points[36].midpoint(points[45]);
            Point::new(points[30].x - eyes.x, points[30].y - eyes.y)
        };
        let straight = nose_from_eyes(Pose::default());
        let turned = nose_from_eyes(Pose {
            yaw: 20.0,
            ..Pose::default()
        });
        let raised = nose_from_eyes(Pose {
            pitch: 20.0,
            ..Pose::default()
        });
        assert!(turned.x > straight.x + 1.0, "right");
        assert!(raised.y < straight.y - 1.0, "up");
        let rolled = project(&Pose {
            roll: 20.0,
            ..Pose::default()
        });
        assert!(
            rolled[45].y > rolled[36].y + 1.0,
            "clockwise: the right eye sinks"
        );
    }

    #[test]
    fn size_and_place_do_not_matter() {
        let pose = Pose {
            yaw: 12.0,
            pitch: -7.0,
            roll: 3.0,
        };
        let moved: Vec<Point> = project(&pose)
            .iter()
            .map(|point| Point::new(3.0 * point.x - 900.0, 3.0 * point.y + 10.0))
            .collect();
        let found = Pose::estimate(Scheme::Ibug68, &moved).unwrap();
        assert!((found.yaw - 12.0).abs() < 0.05 && (found.pitch + 7.0).abs() < 0.05);
    }

    #[test]
    fn what_has_no_pose_is_none() {
        assert_eq!(Pose::estimate(Scheme::Mtfl5, &[Point::default(); 5]), None);
        assert_eq!(
            Pose::estimate(Scheme::Ibug68, &[Point::new(4.0, 4.0); 68]),
            None
        );
        let line: Vec<Point> = (0..68u8)
            .map(|index| Point::new(f32::from(index) + 0.1, 2.0 * f32::from(index)))
            .collect();
        assert_eq!(Pose::estimate(Scheme::Ibug68, &line), None);
        assert_eq!(Pose::estimate(Scheme::Ibug68, &[Point::default(); 5]), None);
    }
}
