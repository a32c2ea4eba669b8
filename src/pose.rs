//! Head pose from ibug68 landmarks: a rigid mean face is fitted to them by weighted least squares. A scaled orthographic
//! camera gives the beginning (POS in DeMenthon and Davis, "Model-based object pose in 25 lines of code", 1995), Gauss-Newton
//! on rotation, size and place under a perspective camera the rest.

mod mean_face;

use crate::{geometry::Point, scheme::Scheme};
use mean_face::MEAN_FACE;
use serde::{Deserialize, Serialize};

/// How a head is turned, in degrees. All are 0 for a face that looks straight into the camera, wherever in the picture it is.
/// The head first nods, then turns, then rolls; signs are as seen in the picture. A mirrored picture has the opposite yaw and
/// roll and the same pitch.
///
/// One face for everybody means that a person's angles may be off by a constant of some degrees, in pitch most: 0 is the
/// median of the training faces that look into the camera.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pose {
    /// Positive: the nose points to the right edge of the picture. -90 to 90.
    pub yaw: f32,
    /// Positive: the nose points up. -180 to 180; beyond some 60 the fit is not to be trusted.
    pub pitch: f32,
    /// Positive: the head is turned clockwise in the picture. -180 to 180.
    pub roll: f32,
}

/// Focal length of a camera that nothing is known of, over the width of its frames: a webcam's horizontal field of view of
/// 60 degrees.
pub const TYPICAL_FOCAL_LENGTH: f32 = 0.866;

/// A face closer than this, in eye distances, is none: it bounds what a hostile focal length can do.
const LEAST_DISTANCE: f64 = 2.5;
/// Steps of Gauss-Newton. The beginning is close, so that the last ones change nothing that can be seen.
const STEPS: usize = 4;

type Vector = [f64; 3];

/// Where the mean face is and how it is turned: a point of it is seen at `place` plus `scale` times x and y of the turned
/// point, over 1 plus its depth over the camera's distance.
struct View {
    /// Rows: the picture's x and y, and away from the camera, in the face's axes.
    rotation: [Vector; 3],
    /// Pixels an eye distance.
    scale: f64,
    place: [f64; 2],
}

impl Pose {
    /// Estimates the pose from the landmarks of one face, seen by a camera with `focal_length_px`: see
    /// [`TYPICAL_FOCAL_LENGTH`]; infinite for a camera far away. `None` for another scheme than ibug68, or when the landmarks
    /// lie on a line.
    pub fn estimate(scheme: Scheme, landmarks: &[Point], focal_length_px: f32) -> Option<Self> {
        if scheme != Scheme::Ibug68 || landmarks.len() != MEAN_FACE.len() {
            return None;
        }
        // Relative to one of the points, so that landmarks in one place are exactly that, wherever it is.
        let origin = landmarks[0];
        let seen = |index: usize| {
            let point: Point = landmarks[index];
            [f64::from(point.x - origin.x), f64::from(point.y - origin.y)]
        };
        let mut view = View::far(&seen)?;
        for _ in 0..STEPS {
            // The distance follows from the size; a smaller one than a face can have is none.
            let nearness = view.scale / f64::from(focal_length_px);
            view.step(&seen, nearness.clamp(0.0, 1.0 / LEAST_DISTANCE))?;
        }
        let [right, down, away] = view.rotation;
        // R = Rz(roll) Ry(-yaw) Rx(-pitch), so its last row is (sin yaw, -cos yaw sin pitch, cos yaw cos pitch).
        let pose = [
            away[0].clamp(-1.0, 1.0).asin(),
            (-away[1]).atan2(away[2]),
            down[0].atan2(right[0]),
        ];
        let [yaw, pitch, roll] = pose.map(|angle| angle.to_degrees() as f32);
        (yaw + pitch + roll)
            .is_finite()
            .then_some(Self { yaw, pitch, roll })
    }

    /// Turns a direction of the face (x right, y down, z away from the camera when it looks into it) into the camera's.
    pub fn rotate(&self, [x, y, z]: [f32; 3]) -> [f32; 3] {
        let [yaw, pitch, roll] = [self.yaw, self.pitch, self.roll].map(f32::to_radians);
        // Nod: up is positive, so the nose (negative z) goes to negative y.
        let (y, z) = (
            y * pitch.cos() + z * pitch.sin(),
            z * pitch.cos() - y * pitch.sin(),
        );
        // Turn: the nose goes to positive x.
        let (x, z) = (x * yaw.cos() - z * yaw.sin(), z * yaw.cos() + x * yaw.sin());
        [
            x * roll.cos() - y * roll.sin(),
            x * roll.sin() + y * roll.cos(),
            z,
        ]
    }
}

impl View {
    /// From a camera far away: the least-squares affine map of the mean face, and the rotation that is nearest to it.
    fn far(seen: &impl Fn(usize) -> [f64; 2]) -> Option<Self> {
        let (mut total, mut center, mut center_seen) = (0.0, [0.0; 3], [0.0; 2]);
        for (index, (place, weight)) in MEAN_FACE.iter().enumerate() {
            let weight = f64::from(*weight);
            total += weight;
            for (sum, coordinate) in center.iter_mut().zip(place) {
                *sum += weight * f64::from(*coordinate);
            }
            for (sum, coordinate) in center_seen.iter_mut().zip(seen(index)) {
                *sum += weight * coordinate;
            }
        }
        let center = center.map(|sum| sum / total);
        let center_seen = center_seen.map(|sum| sum / total);
        // Least squares of (x, y) = [m0; m1] place: M = (sum xy place^T) (sum place place^T)^-1.
        let (mut products, mut rows) = ([[0.0; 3]; 3], [[0.0; 3]; 2]);
        for (index, (place, weight)) in MEAN_FACE.iter().enumerate() {
            let weight = f64::from(*weight);
            let place: Vector = std::array::from_fn(|axis| f64::from(place[axis]) - center[axis]);
            let seen = seen(index);
            for axis in 0..3 {
                for (row, (seen, middle)) in rows.iter_mut().zip(seen.iter().zip(center_seen)) {
                    row[axis] += weight * (seen - middle) * place[axis];
                }
                for other in 0..3 {
                    products[axis][other] += weight * place[axis] * place[other];
                }
            }
        }
        let inverse = inverse(&products)?;
        let [right, down] = rows.map(|row| std::array::from_fn(|axis| dot(&row, &inverse[axis])));
        let scale = 0.5 * (dot(&right, &right).sqrt() + dot(&down, &down).sqrt());
        let rotation = rotation_of(right, down)?;
        let place =
            std::array::from_fn(|axis| center_seen[axis] - scale * dot(&rotation[axis], &center));
        Some(Self {
            rotation,
            scale,
            place,
        })
    }

    /// One step of Gauss-Newton on the rotation, the logarithm of the size and the place; `nearness` is one over the
    /// camera's distance in eye distances. `None` when the landmarks do not say which way to go.
    fn step(&mut self, seen: &impl Fn(usize) -> [f64; 2], nearness: f64) -> Option<()> {
        let (mut normal, mut gradient) = ([[0.0; 6]; 6], [0.0; 6]);
        for (index, (place, weight)) in MEAN_FACE.iter().enumerate() {
            let place = place.map(f64::from);
            let [x, y, z] = std::array::from_fn(|axis| dot(&self.rotation[axis], &place));
            let shrink = self.scale / (1.0 + nearness * z).max(0.1);
            let (u, v) = (shrink * x, shrink * y);
            let toward = nearness * shrink / self.scale;
            // Rows: the seen x and y; columns: small turns about x, y and z, log size, place.
            let slopes = [
                [
                    -u * toward * y,
                    shrink * z + u * toward * x,
                    -v,
                    u,
                    1.0,
                    0.0,
                ],
                [-shrink * z - v * toward * y, v * toward * x, u, v, 0.0, 1.0],
            ];
            let seen = seen(index);
            let residual = [seen[0] - self.place[0] - u, seen[1] - self.place[1] - v];
            for (slopes, residual) in slopes.iter().zip(residual) {
                for row in 0..6 {
                    let weighted = f64::from(*weight) * slopes[row];
                    gradient[row] += weighted * residual;
                    for (entry, slope) in normal[row].iter_mut().zip(slopes) {
                        *entry += weighted * slope;
                    }
                }
            }
        }
        let step = solve(normal, gradient)?;
        let turn = [step[0], step[1], step[2]];
        // A row for each of the picture's axes: R becomes (1 + [turn]) R, made a rotation again.
        let columns: [Vector; 3] = std::array::from_fn(|axis| self.rotation.map(|row| row[axis]));
        let turned = columns.map(|column| {
            let moved = cross(&turn, &column);
            std::array::from_fn::<f64, 3, _>(|axis| column[axis] + moved[axis])
        });
        let row = |axis: usize| turned.map(|column: Vector| column[axis]);
        self.rotation = rotation_of(row(0), row(1))?;
        self.scale *= step[3].clamp(-1.0, 1.0).exp();
        self.place[0] += step[4];
        self.place[1] += step[5];
        Some(())
    }
}

/// The rotation whose first two rows are nearest to these directions, of any length: the nearest pair of perpendicular axes
/// turns both by the same angle.
fn rotation_of(right: Vector, down: Vector) -> Option<[Vector; 3]> {
    let (right, down) = (unit(right)?, unit(down)?);
    let half = 0.5 * dot(&right, &down);
    if half.abs() > 0.499 {
        return None;
    }
    let right_turned = unit(std::array::from_fn(|axis| right[axis] - half * down[axis]))?;
    let down_turned: Vector = std::array::from_fn(|axis| down[axis] - half * right[axis]);
    let rest = dot(&right_turned, &down_turned);
    let down_turned = unit(std::array::from_fn(|axis| {
        down_turned[axis] - rest * right_turned[axis]
    }))?;
    let away = cross(&right_turned, &down_turned);
    Some([right_turned, down_turned, away])
}

fn dot(a: &Vector, b: &Vector) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn cross(a: &Vector, b: &Vector) -> Vector {
    [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]
}

fn unit(vector: Vector) -> Option<Vector> {
    let length = dot(&vector, &vector).sqrt();
    (length > 0.0 && length.is_finite()).then(|| vector.map(|value| value / length))
}

/// Of a symmetric matrix, by cofactors; `None` when it is singular.
fn inverse(matrix: &[Vector; 3]) -> Option<[Vector; 3]> {
    let [a, b, c] = matrix;
    let columns = [cross(b, c), cross(c, a), cross(a, b)];
    let determinant = dot(a, &columns[0]);
    (determinant != 0.0 && determinant.is_finite())
        .then(|| columns.map(|column| column.map(|value| value / determinant)))
}

/// Solves a symmetric positive definite system by Cholesky's decomposition; `None` when it is not one.
fn solve(mut matrix: [[f64; 6]; 6], mut right: [f64; 6]) -> Option<[f64; 6]> {
    for row in 0..6 {
        for column in 0..=row {
            let known: f64 = (0..column)
                .map(|index| matrix[row][index] * matrix[column][index])
                .sum();
            let rest = matrix[row][column] - known;
            if row == column {
                // What rounding leaves of a direction that nothing fixes is no number to divide by.
                if !(rest > 1e-9 * matrix[row][row] && rest.is_finite()) {
                    return None;
                }
                matrix[row][row] = rest.sqrt();
            } else {
                matrix[row][column] = rest / matrix[column][column];
            }
        }
    }
    for row in 0..6 {
        let known: f64 = (0..row)
            .map(|index| matrix[row][index] * right[index])
            .sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    for row in (0..6).rev() {
        let known: f64 = (row + 1..6)
            .map(|index| matrix[index][row] * right[index])
            .sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Projects the mean face, turned by `pose`, with 80 pixels an eye distance; the focal length gives the distance.
    fn project(pose: &Pose, focal_length_px: f32) -> Vec<Point> {
        let place = |(place, _): &([f32; 3], f32)| {
            let [x, y, z] = pose.rotate(*place);
            let shrink = 80.0 / (1.0 + z * 80.0 / focal_length_px);
            Point::new(300.0 + shrink * x, 200.0 + shrink * y)
        };
        MEAN_FACE.iter().map(place).collect()
    }

    fn found(landmarks: &[Point], focal_length_px: f32) -> Pose {
        Pose::estimate(Scheme::Ibug68, landmarks, focal_length_px).expect("a pose")
    }

    fn difference(a: &Pose, b: &Pose) -> f32 {
        (a.yaw - b.yaw).abs() + (a.pitch - b.pitch).abs() + (a.roll - b.roll).abs()
    }

    #[test]
    fn a_known_pose_is_found_whatever_the_distance() {
        // 300 px: 3.75 eye distances, a face that fills the picture of a webcam.
        for focal_length_px in [300.0, 550.0, f32::INFINITY] {
            for yaw in [-50.0, -20.0, 0.0, 35.0] {
                for pitch in [-30.0, 0.0, 25.0] {
                    for roll in [-120.0, -15.0, 0.0, 40.0] {
                        let pose = Pose { yaw, pitch, roll };
                        let found = found(&project(&pose, focal_length_px), focal_length_px);
                        assert!(
                            difference(&found, &pose) < 0.1,
                            "{focal_length_px}: {pose:?} {found:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn signs_are_as_documented() {
        let pose = |yaw, pitch, roll| Pose { yaw, pitch, roll };
        let project = |pose: Pose| project(&pose, f32::INFINITY);
        let nose_from_eyes = |pose: Pose| {
            let points = project(pose);
            let eyes = points[36].midpoint(points[45]);
            Point::new(points[30].x - eyes.x, points[30].y - eyes.y)
        };
        let straight = nose_from_eyes(Pose::default());
        assert!(
            nose_from_eyes(pose(20.0, 0.0, 0.0)).x > straight.x + 1.0,
            "right"
        );
        assert!(
            nose_from_eyes(pose(0.0, 20.0, 0.0)).y < straight.y - 1.0,
            "up"
        );
        let rolled = project(pose(0.0, 0.0, 20.0));
        assert!(
            rolled[45].y > rolled[36].y + 1.0,
            "clockwise: the right eye sinks"
        );
    }

    #[test]
    fn a_mirrored_face_has_the_opposite_yaw_and_roll_and_the_same_pitch() {
        let pose = Pose {
            yaw: 24.0,
            pitch: 11.0,
            roll: -9.0,
        };
        // Nobody's face is symmetric: landmarks off by up to 3 pixels, each by its own.
        let mut landmarks = project(&pose, 500.0);
        for (index, point) in landmarks.iter_mut().enumerate() {
            point.x += (index * 7 % 13) as f32 / 2.0 - 3.0;
            point.y += (index * 11 % 13) as f32 / 2.0 - 3.0;
        }
        let pairs = Scheme::Ibug68.mirror_permutation();
        let mirrored: Vec<Point> = pairs
            .iter()
            .map(|&index| Point::new(639.0 - landmarks[index].x, landmarks[index].y))
            .collect();
        let (one, other) = (found(&landmarks, 500.0), found(&mirrored, 500.0));
        let expected = Pose {
            yaw: -one.yaw,
            pitch: one.pitch,
            roll: -one.roll,
        };
        assert!(difference(&other, &expected) < 0.02, "{one:?} {other:?}");
        assert!(difference(&one, &pose) < 10.0, "{one:?}");
    }

    #[test]
    fn size_and_place_do_not_matter() {
        let pose = Pose {
            yaw: 12.0,
            pitch: -7.0,
            roll: 3.0,
        };
        let moved: Vec<Point> = project(&pose, 500.0)
            .iter()
            .map(|point| Point::new(3.0 * point.x - 900.0, 3.0 * point.y + 10.0))
            .collect();
        assert!(difference(&found(&moved, 1500.0), &pose) < 0.1);
    }

    #[test]
    fn the_mean_face_is_symmetric_and_of_unit_eye_distance() {
        for (index, &mirror) in Scheme::Ibug68.mirror_permutation().iter().enumerate() {
            let (([x, y, z], weight), other) = (MEAN_FACE[index], MEAN_FACE[mirror]);
            assert_eq!(([-x, y, z], weight), other, "{index}");
            assert!(weight > 0.0 && weight <= 1.0);
        }
        assert_eq!(MEAN_FACE[45].0, [0.5, 0.0, 0.0]);
    }

    #[test]
    fn what_has_no_pose_is_none() {
        let estimate = |scheme, landmarks: &[Point]| Pose::estimate(scheme, landmarks, 500.0);
        assert_eq!(estimate(Scheme::Mtfl5, &[Point::default(); 5]), None);
        assert_eq!(estimate(Scheme::Ibug68, &[Point::new(4.0, 4.0); 68]), None);
        let line: Vec<Point> = (0..68u8)
            .map(|index| Point::new(f32::from(index) + 0.1, 2.0 * f32::from(index)))
            .collect();
        assert_eq!(estimate(Scheme::Ibug68, &line), None);
        assert_eq!(estimate(Scheme::Ibug68, &[Point::default(); 5]), None);
        assert_eq!(
            estimate(Scheme::Ibug68, &[Point::new(f32::NAN, 1.0); 68]),
            None
        );
        // A focal length that is none does no harm.
        let face = project(&Pose::default(), 500.0);
        for focal_length_px in [0.0, -1.0, f32::NAN] {
            let pose = Pose::estimate(Scheme::Ibug68, &face, focal_length_px);
            assert!(pose.is_none_or(|pose| pose.yaw.is_finite()));
        }
    }
}
