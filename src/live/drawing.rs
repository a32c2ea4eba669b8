//! What is drawn of the faces on a frame, alike in the window and for every output.

use super::stage::Inferred;
use crate::{
    frame::Frame,
    overlay::{self, FaceBlur, Mesh, OverlayKind, Style},
    scheme::Scheme,
};

/// What is drawn on frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Painting {
    /// What is drawn of the landmarks.
    pub overlay: OverlayKind,
    /// Hide the faces themselves; what is drawn lies over that.
    pub blur: bool,
}

/// Draws the faces of one frame after the other.
pub(super) struct Drawing {
    scheme: Scheme,
    overlay: OverlayKind,
    style: Style,
    mesh: Mesh,
    blur: Option<FaceBlur>,
}

impl Drawing {
    pub(super) fn new(scheme: Scheme, painting: Painting) -> Self {
        Self {
            scheme,
            overlay: painting.overlay,
            style: Style {
                contours: painting.overlay == OverlayKind::Contours,
                ..Style::default()
            },
            mesh: Mesh::of(scheme),
            blur: painting.blur.then(FaceBlur::default),
        }
    }

    /// Draws the faces of `inferred` on its picture.
    pub(super) fn draw(&mut self, picture: &mut Frame, inferred: &Inferred) {
        if let Some(blur) = &mut self.blur {
            let faces = inferred.faces.iter().map(|face| (face.id, face.face_box));
            blur.hide(picture, faces, inferred.stamp.time_secs);
        }
        if self.overlay == OverlayKind::None {
            return;
        }
        for face in &inferred.faces {
            let color = overlay::face_color(face.id);
            overlay::draw_face_box(picture, &face.face_box, color);
            if inferred.faces.len() > 1 {
                overlay::draw_face_id(picture, &face.face_box, face.id, color);
            }
            if self.overlay == OverlayKind::Mesh {
                self.mesh.draw(picture, &face.landmarks, overlay::SKY_BLUE);
            }
            overlay::draw_uncertain_landmarks(
                picture,
                &face.landmarks,
                &face.expected_errors_px,
                self.scheme,
                &self.style,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        geometry::{FaceBox, Point},
        source::FrameStamp,
        tracker::TrackedFace,
    };

    fn seen(scheme: Scheme) -> Inferred {
        let landmarks: Vec<Point> = scheme
            .mean_shape()
            .iter()
            .map(|&[x, y]| Point::new(80.0 + 0.5 * f32::from(x), 50.0 + 0.5 * f32::from(y)))
            .collect();
        Inferred {
            frame: Frame::from_rgb(160, 140, vec![90; 160 * 140 * 3]).expect("bytes"),
            stamp: FrameStamp::default(),
            faces: vec![TrackedFace {
                id: 1,
                face_box: FaceBox::around(&landmarks).expect("points"),
                score: 0.9,
                landmarks,
                confidence: 0.9,
                expected_errors_px: Vec::new(),
                pose: None,
                signals: None,
            }],
            ..Inferred::default()
        }
    }

    #[test]
    fn each_kind_draws_something_else_and_none_draws_nothing() {
        let inferred = seen(Scheme::Ibug68);
        let drawn = |overlay| {
            let mut picture = inferred.frame.clone();
            let painting = Painting {
                overlay,
                blur: false,
            };
            Drawing::new(Scheme::Ibug68, painting).draw(&mut picture, &inferred);
            let changed = picture.rgb().iter().zip(inferred.frame.rgb());
            changed.filter(|(a, b)| a != b).count()
        };
        let points = drawn(OverlayKind::Points);
        assert!(points > 0);
        assert!(drawn(OverlayKind::Contours) > points);
        assert!(drawn(OverlayKind::Mesh) > drawn(OverlayKind::Contours));
        assert_eq!(drawn(OverlayKind::None), 0);
    }

    #[test]
    fn blurring_comes_before_the_overlay_and_outlasts_the_face() {
        let mut inferred = seen(Scheme::Ibug68);
        for (index, byte) in inferred.frame.rgb_mut().iter_mut().enumerate() {
            *byte = (index * 7919 % 251) as u8;
        }
        let painting = Painting {
            overlay: OverlayKind::None,
            blur: true,
        };
        let mut drawing = Drawing::new(Scheme::Ibug68, painting);
        for faces in [1, 0] {
            inferred.faces.truncate(faces);
            inferred.stamp.time_secs += 0.04;
            let mut picture = inferred.frame.clone();
            drawing.draw(&mut picture, &inferred);
            // Two neighbours in one square of the pixelation.
            assert_eq!(picture.pixel(80, 80), picture.pixel(81, 80), "{faces}");
            assert_eq!(picture.pixel(0, 0), inferred.frame.pixel(0, 0));
        }
        inferred = seen(Scheme::Ibug68);
        let painting = Painting {
            blur: true,
            ..Painting::default()
        };
        let mut picture = inferred.frame.clone();
        Drawing::new(Scheme::Ibug68, painting).draw(&mut picture, &inferred);
        assert!(picture != inferred.frame, "the overlay lies over it");
    }
}
