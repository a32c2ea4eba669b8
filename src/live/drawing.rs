//! What is drawn of the faces on a frame, alike in the window and for every output.

use super::stage::Inferred;
use crate::{
    frame::Frame,
    overlay::{self, Style},
    scheme::Scheme,
};

/// What is drawn on frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Painting {}

/// Draws the faces of one frame after the other.
pub(super) struct Drawing {
    scheme: Scheme,
    style: Style,
}

impl Drawing {
    pub(super) fn new(scheme: Scheme, _painting: Painting) -> Self {
        Self {
            scheme,
            style: Style::default(),
        }
    }

    /// Draws the faces of `inferred` on its picture.
    pub(super) fn draw(&mut self, picture: &mut Frame, inferred: &Inferred) {
        for face in &inferred.faces {
            let color = if inferred.searched {
                overlay::ORANGE
            } else {
                overlay::PAPER
            };
            overlay::draw_face_box(picture, &face.face_box, color);
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
