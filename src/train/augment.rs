//! Random changes to what a network sees: where the crop is taken (one affine map, so that the frame is resampled once)
//! and what happens to its bytes afterwards. Every choice comes from the generator that is passed in.

mod pixels;

pub use pixels::{change_pixels, hide_part_of_face};

use crate::{
    crop::{CropRegion, CropRule},
    geometry::{Affine, FaceBox, Point},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::f32::consts::TAU;

/// Strengths of the augmentation. A probability of 0 switches a change off; see [`AugmentConfig::NONE`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Standard deviation of the crop's shift, in sides of the face box: how far off a detector's or tracker's box is.
    pub shift_sigma: f32,
    /// Standard deviation of the natural logarithm of the crop's size.
    pub scale_sigma: f32,
    /// Standard deviation of the roll of landmark crops, in degrees.
    pub rotation_sigma_deg: f32,
    /// Largest roll of landmark crops, in degrees.
    pub rotation_limit_deg: f32,
    /// How often a picture is mirrored.
    pub flip_probability: f32,
    /// Largest brightness shift, in bytes.
    pub brightness: f32,
    /// Largest relative change of contrast.
    pub contrast: f32,
    /// Largest natural logarithm of the gamma exponent.
    pub gamma: f32,
    /// Largest relative change of one colour channel against the others.
    pub tint: f32,
    /// How often colour is taken away.
    pub grey_probability: f32,
    /// How often a Gaussian blur is applied.
    pub blur_probability: f32,
    /// Largest standard deviation of the blur, in crop pixels.
    pub blur_sigma_max: f32,
    /// How often the crop is shrunk and enlarged again, as a far face in a small frame would be.
    pub low_resolution_probability: f32,
    /// Smallest side of the shrunk crop over the crop's side.
    pub low_resolution_min: f32,
    /// How often tones become few, as in print or in a picture of a small palette.
    pub dither_probability: f32,
    /// How often Gaussian noise is added.
    pub noise_probability: f32,
    /// Largest standard deviation of the noise, in bytes.
    pub noise_sigma_max: f32,
    /// How often the crop is encoded as a JPEG of poor quality and decoded again.
    pub jpeg_probability: f32,
    /// Lowest JPEG quality, 1 to 100.
    pub jpeg_quality_min: u8,
    /// How often a rectangle of one colour or of noise hides a part.
    pub occlusion_probability: f32,
    /// Largest side of that rectangle over the crop's side.
    pub occlusion_max: f32,
    /// Smallest face of a detection picture: square root of the box area over the input's height.
    pub face_size_min: f32,
    /// Largest face of a detection picture, in the same unit.
    pub face_size_max: f32,
    /// Faces below this size are neither right nor wrong to find, in the same unit.
    pub face_size_ignored: f32,
    /// Standard deviation of the roll of detection pictures, in degrees.
    pub detection_rotation_sigma_deg: f32,
    /// Largest roll of detection pictures, in degrees.
    pub detection_rotation_limit_deg: f32,
    /// How often a detection input is put together from 2 x 2 pictures, which is where small faces come from.
    pub mosaic_probability: f32,
    /// How often a tile of such an input is put together from 2 x 2 pictures again, as long as tiles are not too small.
    pub mosaic_again_probability: f32,
    /// How often something covers a part of a face of a detection picture.
    pub face_occlusion_probability: f32,
    /// How often a picture is darkened as by too little light.
    pub dark_probability: f32,
    /// What is left of the light of the darkest pictures.
    pub dark_min: f32,
}

impl AugmentConfig {
    /// Nothing changes: the crop of the label's own box.
    pub const NONE: Self = Self {
        shift_sigma: 0.0,
        scale_sigma: 0.0,
        rotation_sigma_deg: 0.0,
        rotation_limit_deg: 0.0,
        flip_probability: 0.0,
        brightness: 0.0,
        contrast: 0.0,
        gamma: 0.0,
        tint: 0.0,
        grey_probability: 0.0,
        blur_probability: 0.0,
        blur_sigma_max: 0.0,
        low_resolution_probability: 0.0,
        low_resolution_min: 1.0,
        dither_probability: 0.0,
        noise_probability: 0.0,
        noise_sigma_max: 0.0,
        jpeg_probability: 0.0,
        jpeg_quality_min: 100,
        occlusion_probability: 0.0,
        occlusion_max: 0.0,
        face_size_min: 0.3,
        face_size_max: 0.8,
        face_size_ignored: 0.0,
        detection_rotation_sigma_deg: 0.0,
        detection_rotation_limit_deg: 0.0,
        mosaic_probability: 0.0,
        mosaic_again_probability: 0.0,
        face_occlusion_probability: 0.0,
        dark_probability: 0.0,
        dark_min: 1.0,
    };
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            shift_sigma: 0.05,
            scale_sigma: 0.1,
            rotation_sigma_deg: 18.0,
            rotation_limit_deg: 50.0,
            flip_probability: 0.5,
            brightness: 28.0,
            contrast: 0.35,
            gamma: 0.3,
            tint: 0.15,
            grey_probability: 0.25,
            blur_probability: 0.2,
            blur_sigma_max: 1.8,
            low_resolution_probability: 0.12,
            low_resolution_min: 0.25,
            dither_probability: 0.0,
            noise_probability: 0.3,
            noise_sigma_max: 12.0,
            jpeg_probability: 0.1,
            jpeg_quality_min: 15,
            occlusion_probability: 0.35,
            occlusion_max: 0.4,
            face_size_min: 0.045,
            face_size_max: 1.1,
            face_size_ignored: 0.035,
            detection_rotation_sigma_deg: 22.0,
            detection_rotation_limit_deg: 65.0,
            mosaic_probability: 0.65,
            mosaic_again_probability: 0.4,
            face_occlusion_probability: 0.2,
            dark_probability: 0.0,
            dark_min: 0.15,
        }
    }
}

/// A generator for one drawn example: equal arguments give equal draws.
pub fn generator(seed: u64, epoch: usize, index: usize, purpose: u64) -> ChaCha8Rng {
    let mut bytes = [0; 32];
    for (part, value) in bytes
        .chunks_exact_mut(8)
        .zip([seed, epoch as u64, index as u64, purpose])
    {
        part.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(bytes)
}

/// A draw from the standard normal distribution (Box and Muller 1958).
pub(super) fn normal(generator: &mut ChaCha8Rng) -> f32 {
    let radius: f32 = generator.random_range(f32::EPSILON..1.0);
    (-2.0 * radius.ln()).sqrt() * (TAU * generator.random::<f32>()).cos()
}

/// A draw from -`limit` to `limit`.
pub(super) fn symmetric(generator: &mut ChaCha8Rng, limit: f32) -> f32 {
    limit * (2.0 * generator.random::<f32>() - 1.0)
}

/// True with `probability`; draws one number whatever the probability, so that later draws stay the same.
pub(super) fn chance(generator: &mut ChaCha8Rng, probability: f32) -> bool {
    generator.random::<f32>() < probability
}

/// A draw whose logarithm is uniform between the logarithms of `low` and `high`, both positive.
pub(super) fn log_uniform(generator: &mut ChaCha8Rng, low: f32, high: f32) -> f32 {
    let (low, high) = (low.ln(), high.max(low).ln());
    (low + (high - low) * generator.random::<f32>()).exp()
}

/// How a crop is taken from a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The map of pixels and labels.
    pub crop_from_frame: Affine,
    /// Whether the map mirrors: landmarks then change places.
    pub mirrored: bool,
}

impl View {
    /// The view of `region`, `width` x `height` crop pixels, mirrored or not.
    pub fn new(region: &CropRegion, width: usize, height: usize, mirrored: bool) -> Self {
        let upright = region.crop_from_frame(width, height);
        Self {
            crop_from_frame: if mirrored {
                Affine::mirror_x(width) * upright
            } else {
                upright
            },
            mirrored,
        }
    }

    /// Landmarks in the crop; `mirror_permutation` is the scheme's.
    pub fn landmarks(&self, points_in_frame: &[Point], mirror_permutation: &[usize]) -> Vec<Point> {
        let map = |point: Point| self.crop_from_frame * point;
        if self.mirrored {
            mirror_permutation
                .iter()
                .map(|&source| map(points_in_frame[source]))
                .collect()
        } else {
            points_in_frame.iter().map(|&point| map(point)).collect()
        }
    }

    /// A face box in the crop. It stays upright and keeps its aspect ratio: a box turned by a few degrees and enclosed
    /// again would grow away from the face.
    pub fn face_box(&self, box_in_frame: &FaceBox) -> FaceBox {
        let center = self.crop_from_frame * box_in_frame.center();
        let scale = self.crop_from_frame.scale();
        let (width, height) = (box_in_frame.width * scale, box_in_frame.height * scale);
        FaceBox::new(
            center.x - 0.5 * width,
            center.y - 0.5 * height,
            width,
            height,
        )
    }
}

/// Where a face is and what of its frame a network sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// What the network sees.
    pub rule: CropRule,
    /// The face.
    pub face_box: FaceBox,
    /// Width and height of the frame.
    pub frame_size: (usize, usize),
}

impl Place {
    /// The region without error, and the length that shifts are measured in.
    fn region(&self) -> (CropRegion, f32) {
        let edge = self.face_box.width.max(self.face_box.height);
        (self.rule.region(&self.face_box, self.frame_size), edge)
    }
}

/// The view of a face as a detector or tracker with some error would crop it; of a whole frame, as a camera that is not
/// quite level would see it.
pub fn landmark_view(
    place: &Place,
    (width, height): (usize, usize),
    config: &AugmentConfig,
    generator: &mut ChaCha8Rng,
) -> View {
    let (mut region, edge) = place.region();
    region.center.x += config.shift_sigma * edge * normal(generator);
    region.center.y += config.shift_sigma * edge * normal(generator);
    let growth = (config.scale_sigma * normal(generator)).exp();
    region.width *= growth;
    region.height *= growth;
    let limit = config.rotation_limit_deg.abs();
    region.roll_rad = (config.rotation_sigma_deg * normal(generator))
        .clamp(-limit, limit)
        .to_radians();
    View::new(
        &region,
        width,
        height,
        chance(generator, config.flip_probability),
    )
}

/// A view in which the face is too far from the middle, too small or too large to be followed: nothing like
/// [`landmark_view`] with its usual strengths.
pub fn misplaced_view(
    place: &Place,
    (width, height): (usize, usize),
    config: &AugmentConfig,
    generator: &mut ChaCha8Rng,
) -> View {
    let (mut region, edge) = place.region();
    let growth = match generator.random_range(0..4) {
        0 => log_uniform(generator, 2.2, 3.5),
        1 => log_uniform(generator, 0.25, 0.42),
        _ => {
            let direction = TAU * generator.random::<f32>();
            let distance = edge * generator.random_range(0.55f32..1.1);
            region.center.x += distance * direction.cos();
            region.center.y += distance * direction.sin();
            log_uniform(generator, 0.6, 1.6)
        }
    };
    region.width *= growth;
    region.height *= growth;
    region.roll_rad = (config.rotation_sigma_deg * normal(generator)).to_radians();
    View::new(
        &region,
        width,
        height,
        chance(generator, config.flip_probability),
    )
}

/// The view of a picture for the detector, `width` x `height` crop pixels: one of its faces gets a size within
/// `face_sizes` (square root of the box area, in crop pixels) and any place where its middle is inside. Without faces
/// the crop shows between the whole picture and a third of it.
pub fn detection_view(
    boxes: &[FaceBox],
    frame_size: (usize, usize),
    (width, height): (usize, usize),
    face_sizes: (f32, f32),
    config: &AugmentConfig,
    generator: &mut ChaCha8Rng,
) -> View {
    let limit = config.detection_rotation_limit_deg.abs();
    let roll_rad = (config.detection_rotation_sigma_deg * normal(generator))
        .clamp(-limit, limit)
        .to_radians();
    let mirrored = chance(generator, config.flip_probability);
    let (crop_width, crop_height) = (width as f32, height as f32);
    let (frame_width, frame_height) = (frame_size.0 as f32, frame_size.1 as f32);
    let whole = (crop_width / frame_width).min(crop_height / frame_height);
    let (scale, center) = if boxes.is_empty() {
        let scale = whole * log_uniform(generator, 1.0, 3.0);
        let place = |generator: &mut ChaCha8Rng, frame: f32, crop: f32| {
            let hidden = (frame - crop / scale).max(0.0);
            0.5 * (frame - 1.0) + 0.5 * symmetric(generator, hidden)
        };
        let x = place(generator, frame_width, crop_width);
        let y = place(generator, frame_height, crop_height);
        (scale, Point::new(x, y))
    } else {
        let face = boxes[generator.random_range(0..boxes.len())];
        let size = log_uniform(generator, face_sizes.0, face_sizes.1);
        let scale = size / face.area().sqrt();
        // A large face is kept mostly inside: its middle moves less.
        let room = |crop: f32| (crop - 0.8 * size).max(0.15 * crop) / (2.0 * scale);
        let (dx, dy) = (
            symmetric(generator, room(crop_width)),
            symmetric(generator, room(crop_height)),
        );
        // The room is the crop's, whose axes are rolled.
        let (sin, cos) = roll_rad.sin_cos();
        let middle = face.center();
        let center = Point::new(
            middle.x + cos * dx - sin * dy,
            middle.y + sin * dx + cos * dy,
        );
        // Mostly the crop stays on the picture where it can: otherwise padding would tell where faces are.
        let inside = Point::new(
            keep_inside(center.x, frame_width, crop_width / scale),
            keep_inside(center.y, frame_height, crop_height / scale),
        );
        let (x, y) = (middle.x - inside.x, middle.y - inside.y);
        let shows_face = (cos * x + sin * y).abs() < 0.49 * crop_width / scale
            && (cos * y - sin * x).abs() < 0.49 * crop_height / scale;
        let stays = chance(generator, 0.7) && shows_face;
        (scale, if stays { inside } else { center })
    };
    let region = CropRegion {
        center,
        width: crop_width / scale,
        height: crop_height / scale,
        roll_rad,
    };
    View::new(&region, width, height, mirrored)
}

/// The place nearest to `center` where a window of `window` pixels stays within `frame` pixels, or, where the window is
/// the larger one, the frame within the window.
fn keep_inside(center: f32, frame: f32, window: f32) -> f32 {
    let (low, high) = (0.5 * (window - 1.0), frame - 0.5 * (window + 1.0));
    center.clamp(low.min(high), high.max(low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crop::{Color, Crop},
        frame::Frame,
        scheme::Scheme,
    };
    use proptest::prelude::*;

    const FACE: FaceBox = FaceBox::new(80.0, 70.0, 90.0, 100.0);
    const PLACE: Place = Place {
        rule: CropRule::AroundFace { margin: 1.3 },
        face_box: FACE,
        frame_size: (256, 256),
    };

    /// 68 places within the face, each far from the others.
    fn grid() -> Vec<Point> {
        (0..68)
            .map(|i| Point::new(84.0 + 10.0 * (i % 9) as f32, 75.0 + 12.0 * (i / 9) as f32))
            .collect()
    }

    #[test]
    fn landmarks_stay_on_the_same_picture_content() {
        let permutation = Scheme::Ibug68.mirror_permutation();
        for index in 0..40 {
            let points = grid();
            let (marked, mut generator) = (index % 68, generator(3, 0, index, 0));
            let mut frame = Frame::new(256, 256);
            let center = points[marked];
            for dy in -1i32..=1 {
                for dx in -1i32..=1 {
                    let (x, y) = (center.x as i32 + dx, center.y as i32 + dy);
                    frame.set_pixel(x as usize, y as usize, [255, 255, 255]);
                }
            }
            let view = landmark_view(
                &PLACE,
                (112, 112),
                &AugmentConfig::default(),
                &mut generator,
            );
            let mut crop = Crop::new(112, 112, Color::Gray);
            crop.fill(&frame, &view.crop_from_frame);
            let place = if view.mirrored {
                permutation[marked]
            } else {
                marked
            };
            let expected = view.landmarks(&points, &permutation)[place];
            // Black frame, grey padding: the marker is what is brighter than both.
            let (mut sum, mut x_sum, mut y_sum) = (0.0, 0.0, 0.0);
            for (at, &byte) in crop.bytes().iter().enumerate() {
                let (x, y) = ((at % 112) as f32, (at / 112) as f32);
                if Point::new(x, y).distance(expected) < 5.0 {
                    sum += f32::from(byte);
                    x_sum += x * f32::from(byte);
                    y_sum += y * f32::from(byte);
                }
            }
            assert!(sum > 100.0, "{index}: no marker at {expected:?}");
            let found = Point::new(x_sum / sum, y_sum / sum);
            assert!(
                found.distance(expected) < 0.2,
                "{index}: {found:?} {expected:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn mirroring_twice_is_the_identity(x in 0f32..300.0, y in 0f32..300.0, seed in 0u64..1000) {
            let permutation = Scheme::Ibug68.mirror_permutation();
            let points: Vec<Point> = (0..68).map(|i| Point::new(x + i as f32, y + (i * seed as usize % 17) as f32)).collect();
            let region = CropRegion { center: Point::new(55.5, 55.5), width: 112.0, height: 112.0, roll_rad: 0.0 };
            let mirror = View::new(&region, 112, 112, true);
            let twice = mirror.landmarks(&mirror.landmarks(&points, &permutation), &permutation);
            for (before, after) in points.iter().zip(twice) {
                prop_assert!(before.distance(after) < 1e-2);
            }
        }

        #[test]
        fn a_detection_view_gives_its_face_the_wanted_size(seed in 0u64..500) {
            let mut generator = generator(seed, 0, 0, 0);
            let view = detection_view(&[FACE], (384, 300), (192, 160), (16.0, 170.0), &AugmentConfig::default(), &mut generator);
            let seen = view.face_box(&FACE);
            let size = seen.area().sqrt();
            prop_assert!((15.9..=170.1).contains(&size), "{size}");
            let middle = seen.center();
            prop_assert!((0.0..192.0).contains(&middle.x) && (0.0..160.0).contains(&middle.y), "{middle:?}");
        }

        #[test]
        fn a_misplaced_face_is_far_from_what_is_tracked(seed in 0u64..500) {
            let mut generator = generator(seed, 0, 0, 0);
            let view = misplaced_view(&PLACE, (112, 112), &AugmentConfig::default(), &mut generator);
            let seen = view.face_box(&FACE);
            let usual = FaceBox::new(12.9, 12.9, 77.5, 86.2);
            prop_assert!(seen.iou(&usual) < 0.45, "{seen:?}");
        }
    }

    #[test]
    fn no_augmentation_is_the_plain_crop() {
        let view = landmark_view(
            &PLACE,
            (112, 112),
            &AugmentConfig::NONE,
            &mut generator(9, 1, 2, 0),
        );
        let plain = CropRegion::around_box(&FACE, 1.3).crop_from_frame(112, 112);
        assert_eq!((view.crop_from_frame, view.mirrored), (plain, false));
    }

    #[test]
    fn a_whole_frame_is_seen_wherever_the_face_is() {
        let place = Place {
            rule: CropRule::WholeFrame,
            ..PLACE
        };
        let view = |config: &AugmentConfig, seed| {
            landmark_view(&place, (80, 60), config, &mut generator(seed, 0, 0, 0))
        };
        let plain = view(&AugmentConfig::NONE, 1).crop_from_frame;
        // 256 x 256 pixels fit 60 x 60 of the 80 x 60.
        let corner = plain * Point::new(-0.5, -0.5);
        assert!(corner.distance(Point::new(9.5, -0.5)) < 1e-3, "{corner:?}");
        let turned = AugmentConfig {
            rotation_sigma_deg: 20.0,
            rotation_limit_deg: 15.0,
            ..AugmentConfig::NONE
        };
        for seed in 0..50 {
            let map = view(&turned, seed).crop_from_frame;
            let angle = map.rows[1][0].atan2(map.rows[0][0]).to_degrees();
            assert!(angle.abs() <= 15.001, "{angle}");
            // The frame's middle stays where it is.
            let middle = map * Point::new(127.5, 127.5);
            assert!(middle.distance(Point::new(39.5, 29.5)) < 1e-3, "{middle:?}");
        }
    }
}
