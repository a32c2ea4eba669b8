//! Faults planted on purpose, for the collapse study and for the tests of the training's diagnosis: what goes wrong in
//! somebody's first training, switched on by name. A recipe that is to train a model has none of them.

use super::{
    augment::View,
    dataset::{Dataset, Label},
};
use crate::geometry::{Affine, FaceBox, Point};
use serde::{Deserialize, Serialize};

/// What is done wrongly: the table `[faults]` of a recipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// How the points are turned when the picture is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationFault>,
    /// How the face boxes are wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boxes: Option<BoxFault>,
}

/// The picture of a landmark crop is turned about the crop's middle; the points are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotationFault {
    /// The points are turned by the same angle the other way round.
    OppositeSense,
    /// The points are turned by the same angle about the crop's left-top corner.
    OtherCenter,
}

/// Every face's box lies beside its face, by an amount and in a direction of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoxFault {
    /// In training and validation; points and crops both go by the wrong box, so that they still belong together.
    Displaced,
    /// In training; crops are cut by the wrong box, points are put into the crop by the true one.
    CropOnly,
}

impl Faults {
    /// Moves the boxes of `dataset` when the fault is in the labels.
    pub fn spoil_labels(&self, dataset: &mut Dataset) {
        if self.boxes != Some(BoxFault::Displaced) {
            return;
        }
        for (index, example) in dataset.examples.iter_mut().enumerate() {
            if let Label::Landmarks { face_box, .. } = &mut example.label {
                *face_box = displaced(index, face_box);
            }
        }
    }

    /// The box by which example `index` is cropped.
    pub fn crop_box(&self, index: usize, face_box: &FaceBox) -> FaceBox {
        match self.boxes {
            Some(BoxFault::CropOnly) => displaced(index, face_box),
            Some(BoxFault::Displaced) | None => *face_box,
        }
    }

    /// The view by which points come into a crop of `width` x `height` pixels whose pixels come by `pixels`.
    pub fn points_view(&self, pixels: View, (width, height): (usize, usize)) -> View {
        let Some(fault) = self.rotation else {
            return pixels;
        };
        let mirror = if pixels.mirrored {
            Affine::mirror_x(width)
        } else {
            Affine::IDENTITY
        };
        let upright = mirror * pixels.crop_from_frame;
        let turn_rad = upright.rows[1][0].atan2(upright.rows[0][0]);
        let middle = Point::new(0.5 * (width as f32 - 1.0), 0.5 * (height as f32 - 1.0));
        let turned =
            |angle_rad: f32, about: Point| Affine::similarity(1.0, angle_rad, about, about);
        let wrong = match fault {
            RotationFault::OppositeSense => turned(-2.0 * turn_rad, middle),
            RotationFault::OtherCenter => {
                turned(turn_rad, Point::default()) * turned(-turn_rad, middle)
            }
        };
        View {
            crop_from_frame: mirror * wrong * upright,
            mirrored: pixels.mirrored,
        }
    }
}

/// A box moved by a third to two thirds of its edge, the same way for the same index.
fn displaced(index: usize, face_box: &FaceBox) -> FaceBox {
    // Multiples of the golden angle: neighbours go different ways, and all directions come equally often.
    let angle = 2.399_963 * index as f32;
    let distance = face_box.width.max(face_box.height) * (0.33 + 0.11 * (index % 4) as f32);
    FaceBox::new(
        face_box.x + distance * angle.cos(),
        face_box.y + distance * angle.sin(),
        face_box.width,
        face_box.height,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crop::CropRegion;

    fn view(roll_deg: f32, mirrored: bool) -> View {
        let region = CropRegion {
            center: Point::new(70.0, 60.0),
            width: 80.0,
            height: 80.0,
            roll_rad: roll_deg.to_radians(),
        };
        View::new(&region, 64, 64, mirrored)
    }

    #[test]
    fn without_faults_points_go_where_pixels_go() {
        let view = view(12.0, true);
        assert_eq!(Faults::default().points_view(view, (64, 64)), view);
    }

    #[test]
    fn the_opposite_sense_is_the_view_of_the_opposite_roll() {
        let faults = Faults {
            rotation: Some(RotationFault::OppositeSense),
            ..Faults::default()
        };
        for mirrored in [false, true] {
            let found = faults.points_view(view(12.0, mirrored), (64, 64));
            let expected = view(-12.0, mirrored);
            for point in [Point::new(70.0, 60.0), Point::new(31.0, 88.0)] {
                let (a, b) = (
                    found.crop_from_frame * point,
                    expected.crop_from_frame * point,
                );
                assert!(a.distance(b) < 1e-3, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn another_centre_moves_all_points_alike_and_none_without_a_turn() {
        let faults = Faults {
            rotation: Some(RotationFault::OtherCenter),
            ..Faults::default()
        };
        let moved = |roll_deg: f32, point: Point| {
            let right = view(roll_deg, false);
            let wrong = faults.points_view(right, (64, 64));
            let (a, b) = (wrong.crop_from_frame * point, right.crop_from_frame * point);
            Point::new(a.x - b.x, a.y - b.y)
        };
        let (here, there) = (Point::new(70.0, 60.0), Point::new(31.0, 88.0));
        assert!(moved(15.0, here).distance(moved(15.0, there)) < 1e-3);
        // The chord of 15 degrees on a circle from the corner to the middle of the crop.
        let chord = 2.0 * 31.5 * 2f32.sqrt() * 7.5f32.to_radians().sin();
        assert!((moved(15.0, here).distance(Point::default()) - chord).abs() < 1e-2);
        assert!(moved(0.0, here).distance(Point::default()) < 1e-3);
    }

    #[test]
    fn displaced_boxes_keep_their_size_and_lose_their_face() {
        let face = FaceBox::new(10.0, 20.0, 40.0, 50.0);
        for index in 0..20 {
            let moved = displaced(index, &face);
            assert_eq!((moved.width, moved.height), (40.0, 50.0));
            assert!(moved.iou(&face) < 0.55, "{index}: {moved:?}");
        }
    }
}
