//! A net of triangles over a face's landmarks: the Delaunay triangulation (1934) of the scheme's mean shape, so that it is
//! the same net in every frame.

use super::{INK, Rgb, draw_line, stroke_unit};
use crate::{frame::Frame, geometry::Point, scheme::Scheme};
use delaunator::triangulate;

/// The edges of a scheme's net.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mesh {
    edges: Vec<(usize, usize)>,
}

impl Mesh {
    /// Triangulates the mean shape; without edges for a scheme that has none.
    pub fn of(scheme: Scheme) -> Self {
        let places: Vec<delaunator::Point> = scheme
            .mean_shape()
            .iter()
            .map(|&[x, y]| delaunator::Point {
                x: f64::from(x),
                y: f64::from(y),
            })
            .collect();
        let mut edges: Vec<(usize, usize)> = triangulate(&places)
            .triangles
            .chunks_exact(3)
            .flat_map(|corners| {
                let [a, b, c] = [corners[0], corners[1], corners[2]];
                [(a, b), (b, c), (c, a)]
            })
            .map(|(a, b)| (a.min(b), a.max(b)))
            .collect();
        edges.sort_unstable();
        edges.dedup();
        Self { edges }
    }

    /// Pairs of landmark indices, the smaller one first, each pair once.
    pub fn edges(&self) -> &[(usize, usize)] {
        &self.edges
    }

    /// Draws the net over landmarks in the frame; edges whose points are missing are left out.
    pub fn draw(&self, frame: &mut Frame, landmarks: &[Point], color: Rgb) {
        let unit = 0.7 * stroke_unit(frame, landmarks);
        for (widening, color, opacity) in [(0.8, INK, 0.3), (0.0, color, 0.75)] {
            for &(from, to) in &self.edges {
                if let (Some(&from), Some(&to)) = (landmarks.get(from), landmarks.get(to)) {
                    draw_line(frame, from, to, unit + widening, color, opacity);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twice the signed area of a triangle.
    fn turn(a: [i64; 2], b: [i64; 2], c: [i64; 2]) -> i64 {
        (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    }

    #[test]
    fn every_landmark_is_in_the_net_and_no_two_edges_cross() {
        for scheme in Scheme::ALL {
            let mesh = Mesh::of(scheme);
            let shape: Vec<[i64; 2]> = scheme
                .mean_shape()
                .iter()
                .map(|place| place.map(i64::from))
                .collect();
            if shape.is_empty() {
                assert!(mesh.edges().is_empty());
                continue;
            }
            for index in 0..scheme.landmark_count() {
                let used = mesh.edges().iter().any(|&(a, b)| a == index || b == index);
                assert!(used, "{scheme} {index}");
            }
            for (number, &(a, b)) in mesh.edges().iter().enumerate() {
                for &(c, d) in &mesh.edges()[number + 1..] {
                    let [a, b, c, d] = [a, b, c, d].map(|index| shape[index]);
                    let crossing = turn(a, b, c).signum() * turn(a, b, d).signum() < 0
                        && turn(c, d, a).signum() * turn(c, d, b).signum() < 0;
                    assert!(!crossing, "{scheme}: {a:?} {b:?} {c:?} {d:?}");
                }
            }
        }
        // Euler: 3 n - 3 - h edges for n points of which h lie on the hull.
        let count = Mesh::of(Scheme::Ibug68).edges().len();
        assert!(
            (3 * 68 - 3 - 30..3 * 68 - 3 - 3).contains(&count),
            "{count}"
        );
    }
}
