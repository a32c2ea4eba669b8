//! What is drawn of the faces on a frame, alike in the window and for every output.

use super::stage::Inferred;
use crate::{
    frame::Frame,
    overlay::{self, FaceBlur, Mesh, OverlayKind, Style},
    scheme::Scheme,
    tracker::TrackedFace,
};

/// What is drawn on frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Painting {
    /// What is drawn of the landmarks.
    pub overlay: OverlayKind,
    /// Hide the faces themselves; what is drawn lies over that.
    pub blur: bool,
    /// Draw the head's axes, and openness of eyes and mouth as bars.
    pub signals: bool,
}

/// Draws the faces of one frame after the other.
pub(super) struct Drawing {
    scheme: Scheme,
    overlay: OverlayKind,
    style: Style,
    mesh: Mesh,
    blur: Option<FaceBlur>,
    pub(super) signals: bool,
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
            signals: painting.signals,
        }
    }

    /// Draws the faces of `inferred` on its picture, words aside: see [`Drawing::write`].
    pub(super) fn draw(&mut self, picture: &mut Frame, inferred: &Inferred) {
        if let Some(blur) = &mut self.blur {
            let faces = inferred.faces.iter().map(|face| (face.id, face.face_box));
            blur.hide(picture, faces, inferred.stamp.time_secs);
        }
        for face in &inferred.faces {
            if self.overlay != OverlayKind::None {
                self.draw_landmarks(picture, face);
            }
            if self.signals {
                self.draw_axes(picture, face);
            }
        }
    }

    fn draw_landmarks(&self, picture: &mut Frame, face: &TrackedFace) {
        let color = overlay::face_color(face.id);
        overlay::draw_face_box(picture, &face.face_box, color);
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

    /// Draws what has words in it. `mirrored`: the picture has been mirrored since the faces were drawn.
    pub(super) fn write(&self, picture: &mut Frame, inferred: &Inferred, mirrored: bool) {
        for face in &inferred.faces {
            let mut face_box = face.face_box;
            if mirrored {
                face_box.x = picture.width() as f32 - 1.0 - face_box.x - face_box.width;
            }
            if inferred.faces.len() > 1 && self.overlay != OverlayKind::None {
                let color = overlay::face_color(face.id);
                overlay::draw_face_id(picture, &face_box, face.id, color);
            }
            if let (true, Some(signals)) = (self.signals, &face.signals) {
                overlay::draw_signal_bars(picture, &face_box, signals);
            }
        }
    }

    fn draw_axes(&self, picture: &mut Frame, face: &TrackedFace) {
        let nose = self
            .scheme
            .nose_tip()
            .and_then(|index| face.landmarks.get(index));
        if let (Some(pose), Some(&nose)) = (&face.pose, nose) {
            let length = 0.5 * face.face_box.width.max(face.face_box.height);
            overlay::draw_pose_axes(picture, nose, length, pose);
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
                ..Painting::default()
            };
            let mut drawing = Drawing::new(Scheme::Ibug68, painting);
            drawing.draw(&mut picture, &inferred);
            drawing.write(&mut picture, &inferred, false);
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
            ..Painting::default()
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
