//! From a frame to a network's input: the one implementation that training, calibration, evaluation and the live path
//! share. A crop is 8-bit; normalisation is an affine map of the byte, so that the byte IS the quantised input.

mod sampling;

use crate::{
    frame::Frame,
    geometry::{Affine, FaceBox, Point},
};
use serde::{Deserialize, Serialize};

/// An upright or turned rectangle of a frame that a network is to see.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CropRegion {
    /// The rectangle's middle, in the frame.
    pub center: Point,
    /// Its width, in frame pixels.
    pub width: f32,
    /// Its height, in frame pixels.
    pub height: f32,
    /// How far the rectangle is turned clockwise on the screen, in radians: a face that rolls with it looks upright in
    /// the crop.
    pub roll_rad: f32,
}

impl CropRegion {
    /// The upright square around a face box: side = longer edge of the box times `margin`.
    pub fn around_box(face: &FaceBox, margin: f32) -> Self {
        let side = face.width.max(face.height) * margin;
        Self {
            center: face.center(),
            width: side,
            height: side,
            roll_rad: 0.0,
        }
    }

    /// The square around the landmarks' tight box as seen in a picture turned upright by `roll_rad`, so that a face
    /// gets the same crop whatever its roll. `None` without landmarks.
    pub fn around_landmarks(
        landmarks_in_frame: &[Point],
        roll_rad: f32,
        margin: f32,
    ) -> Option<Self> {
        let upright_from_frame =
            Affine::similarity(1.0, -roll_rad, Point::default(), Point::default());
        let frame_from_upright =
            Affine::similarity(1.0, roll_rad, Point::default(), Point::default());
        let upright = landmarks_in_frame
            .iter()
            .map(|&point| upright_from_frame * point);
        let tight = FaceBox::around(upright)?;
        let side = tight.width.max(tight.height) * margin;
        Some(Self {
            center: frame_from_upright * tight.center(),
            width: side,
            height: side,
            roll_rad,
        })
    }

    /// The whole frame.
    pub fn whole(frame: &Frame) -> Self {
        Self::of_frame_size((frame.width(), frame.height()))
    }

    /// The whole of a frame of that width and height.
    pub fn of_frame_size((width, height): (usize, usize)) -> Self {
        let (width, height) = (width as f32, height as f32);
        Self {
            center: Point::new(0.5 * (width - 1.0), 0.5 * (height - 1.0)),
            width,
            height,
            roll_rad: 0.0,
        }
    }

    /// The map into a crop of `crop_width` x `crop_height` pixels. The region is fitted inside and centred: where the
    /// aspect ratios differ, the crop shows more of the frame (or [`PADDING`]) on two sides.
    pub fn crop_from_frame(&self, crop_width: usize, crop_height: usize) -> Affine {
        let scale = (crop_width as f32 / self.width).min(crop_height as f32 / self.height);
        let middle = Point::new(
            0.5 * (crop_width as f32 - 1.0),
            0.5 * (crop_height as f32 - 1.0),
        );
        Affine::similarity(scale, -self.roll_rad, self.center, middle)
    }
}

/// What part of a frame a landmark network sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CropRule {
    /// The upright square around the face box, at first; then around the landmarks of the frame before.
    AroundFace {
        /// Side of the square over the longer edge of the face box.
        margin: f32,
    },
    /// The whole frame, fitted into the input; where the face is does not matter.
    WholeFrame,
    /// The largest rectangle of the input's shape in the middle of the frame, for frames in which the face is somewhere in
    /// the middle: of what it sees it sees more than of a whole frame of another shape.
    MiddleOfFrame {
        /// Width over height.
        aspect: f32,
    },
}

impl CropRule {
    /// The region that shows a face of a frame of `frame_size` (width, height).
    pub fn region(&self, face_box: &FaceBox, frame_size: (usize, usize)) -> CropRegion {
        match *self {
            Self::AroundFace { margin } => CropRegion::around_box(face_box, margin),
            Self::WholeFrame => CropRegion::of_frame_size(frame_size),
            Self::MiddleOfFrame { aspect } => {
                let mut region = CropRegion::of_frame_size(frame_size);
                region.width = region.width.min(region.height * aspect);
                region.height = region.width / aspect;
                region
            }
        }
    }

    /// The rectangle that a network knows before it looks, in the frame: the face box, or all of the frame. Mean shapes
    /// are in units of it.
    pub fn known_box(&self, face_box: &FaceBox, frame_size: (usize, usize)) -> FaceBox {
        match self {
            Self::AroundFace { .. } => *face_box,
            Self::WholeFrame | Self::MiddleOfFrame { .. } => {
                FaceBox::new(-0.5, -0.5, frame_size.0 as f32, frame_size.1 as f32)
            }
        }
    }
}

/// Colour of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Color {
    /// Three channels: red, green, blue.
    Rgb,
    /// One channel: ITU-R BT.601 luma.
    Gray,
}

impl Color {
    /// Channels of the crop.
    pub const fn channels(self) -> usize {
        match self {
            Self::Rgb => 3,
            Self::Gray => 1,
        }
    }

    /// The name in model metadata.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rgb => "rgb",
            Self::Gray => "gray",
        }
    }
}

/// Byte that stands for pixels outside the frame: the zero point of the usual normalisation.
pub const PADDING: u8 = 128;

/// A network's input as bytes, `[height, width, channels]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crop {
    width: usize,
    height: usize,
    color: Color,
    bytes: Vec<u8>,
}

impl Crop {
    /// A crop filled with [`PADDING`].
    pub fn new(width: usize, height: usize, color: Color) -> Self {
        Self {
            width,
            height,
            color,
            bytes: vec![PADDING; width * height * color.channels()],
        }
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Colour.
    pub fn color(&self) -> Color {
        self.color
    }

    /// The bytes, `[height, width, channels]`.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, `[height, width, channels]`, for augmentation.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Fills the crop from `frame` by bilinear sampling at `crop_from_frame`'s inverse. When the frame is shrunk more
    /// than 1.5 times, each crop pixel is the mean of an n x n grid of samples, which keeps fine patterns from aliasing.
    /// Samples are taken at positions rounded to 1/32 of a frame pixel.
    ///
    /// A singular map leaves [`PADDING`] everywhere.
    pub fn fill(&mut self, frame: &Frame, crop_from_frame: &Affine) {
        let Some(frame_from_crop) = crop_from_frame.inverse() else {
            self.bytes.fill(PADDING);
            return;
        };
        let shrink = frame_from_crop.scale();
        let samples = if shrink > 1.5 {
            (shrink.round() as usize).clamp(2, MAX_SAMPLES)
        } else {
            1
        };
        match self.color {
            Color::Rgb => self.sample::<3>(frame, &frame_from_crop, samples, |rgb| rgb),
            Color::Gray => self.sample::<1>(frame, &frame_from_crop, samples, |rgb| [luma(rgb)]),
        }
    }

    fn sample<const CHANNELS: usize>(
        &mut self,
        frame: &Frame,
        frame_from_crop: &Affine,
        samples: usize,
        convert: impl Fn([f32; 3]) -> [f32; CHANNELS],
    ) {
        let [[a, b, tx], [c, d, ty]] = frame_from_crop.rows;
        let step = 1.0 / samples as f32;
        let weight = step * step / (SUBPIXEL * SUBPIXEL) as f32;
        let (step_x, step_y) = (fixed(a * step), fixed(c * step));
        for (y, row) in self
            .bytes
            .chunks_exact_mut(self.width * CHANNELS)
            .enumerate()
        {
            // Where each of the row's sample lines starts; further samples lie whole steps on.
            let mut starts = [(0, 0); MAX_SAMPLES];
            for (sub_y, start) in starts[..samples].iter_mut().enumerate() {
                let u = 0.5 * step - 0.5;
                let v = y as f32 + (sub_y as f32 + 0.5) * step - 0.5;
                *start = (fixed(a * u + b * v + tx), fixed(c * u + d * v + ty));
            }
            for pixel in row.chunks_exact_mut(CHANNELS) {
                let mut sums = [0; 3];
                for start in &mut starts[..samples] {
                    let line = sampling::sum_of_line(frame, start, (step_x, step_y), samples);
                    for (sum, channel) in sums.iter_mut().zip(line) {
                        *sum += channel;
                    }
                }
                let color = convert(sums.map(|sum| sum as f32 * weight));
                for (byte, value) in pixel.iter_mut().zip(color) {
                    *byte = (value + 0.5) as u8;
                }
            }
        }
    }
}

/// Most samples along an edge of a crop pixel.
const MAX_SAMPLES: usize = 16;
/// Sample positions are rounded to 1 / `SUBPIXEL` of a frame pixel, so that weights are small integers.
const SUBPIXEL: u64 = 1 << SUBPIXEL_BITS;
const SUBPIXEL_BITS: u32 = 5;
/// Fraction bits of a position while it is stepped along a row: the steps' rounding stays far below a subpixel.
const POSITION_BITS: u32 = 32;

/// A coordinate as a fixed-point number; far outside any frame it saturates.
fn fixed(value: f32) -> i64 {
    const LIMIT: f64 = (1u64 << 24) as f64;
    (f64::from(value).clamp(-LIMIT, LIMIT) * (1u64 << POSITION_BITS) as f64) as i64
}

fn luma([red, green, blue]: [f32; 3]) -> f32 {
    0.299 * red + 0.587 * green + 0.114 * blue
}

/// How a byte becomes a number: `(byte - zero_point) * scale`, the same for every channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalization {
    /// Value of one step of the byte.
    pub scale: f32,
    /// Byte that becomes 0.
    pub zero_point: u8,
}

impl Normalization {
    /// -1 to 1: scale 1/128, zero point 128.
    pub const SYMMETRIC: Self = Self {
        scale: 1.0 / 128.0,
        zero_point: 128,
    };

    /// -0.5 to 0.5: scale 1/255, zero point 128.
    pub const HALF: Self = Self {
        scale: 1.0 / 255.0,
        zero_point: 128,
    };

    /// Writes the crop as `[channels, height, width]` into `planes`, which must hold exactly that many values.
    pub fn write_planes(&self, crop: &Crop, planes: &mut [f32]) {
        assert_eq!(
            planes.len(),
            crop.bytes.len(),
            "a plane buffer holds channels x height x width values"
        );
        let value = |byte: u8| (f32::from(byte) - f32::from(self.zero_point)) * self.scale;
        let plane_len = crop.width * crop.height;
        match crop.color {
            Color::Gray => {
                for (to, &byte) in planes.iter_mut().zip(&crop.bytes) {
                    *to = value(byte);
                }
            }
            Color::Rgb => {
                let (red, rest) = planes.split_at_mut(plane_len);
                let (green, blue) = rest.split_at_mut(plane_len);
                let pixels = crop.bytes.as_chunks::<3>().0;
                for (((red, green), blue), pixel) in red.iter_mut().zip(green).zip(blue).zip(pixels)
                {
                    (*red, *green, *blue) = (value(pixel[0]), value(pixel[1]), value(pixel[2]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(width: usize, height: usize) -> Frame {
        let mut frame = Frame::new(width, height);
        for y in 0..height {
            for x in 0..width {
                frame.set_pixel(x, y, [x as u8, y as u8, 77]);
            }
        }
        frame
    }

    #[test]
    fn a_crop_of_the_whole_frame_at_its_own_size_is_the_frame() {
        let frame = gradient(40, 30);
        let mut crop = Crop::new(40, 30, Color::Rgb);
        crop.fill(&frame, &CropRegion::whole(&frame).crop_from_frame(40, 30));
        assert_eq!(crop.bytes(), frame.rgb());
    }

    #[test]
    fn pixels_land_where_the_map_says() {
        let frame = gradient(200, 200);
        let face = FaceBox::new(60.0, 50.0, 80.0, 70.0);
        for roll_rad in [0.0, 0.4, -1.2] {
            let region = CropRegion {
                roll_rad,
                ..CropRegion::around_box(&face, 1.25)
            };
            let crop_from_frame = region.crop_from_frame(112, 112);
            let mut crop = Crop::new(112, 112, Color::Rgb);
            crop.fill(&frame, &crop_from_frame);
            let frame_from_crop = crop_from_frame.inverse().expect("regular");
            for (x, y) in [(20, 30), (56, 56), (90, 70)] {
                let expected = frame_from_crop * Point::new(x as f32, y as f32);
                let start = (y * 112 + x) * 3;
                let (red, green) = (
                    f32::from(crop.bytes()[start]),
                    f32::from(crop.bytes()[start + 1]),
                );
                assert!(
                    (red - expected.x).abs() <= 0.51 && (green - expected.y).abs() <= 0.51,
                    "{roll_rad} {x} {y}"
                );
            }
        }
    }

    #[test]
    fn landmarks_of_a_rolled_face_give_the_same_crop() {
        let upright = [
            Point::new(10.0, 10.0),
            Point::new(50.0, 12.0),
            Point::new(30.0, 60.0),
            Point::new(22.0, 40.0),
        ];
        let region = CropRegion::around_landmarks(&upright, 0.0, 1.3).expect("points");
        let roll = Affine::similarity(1.0, 0.7, Point::new(30.0, 30.0), Point::new(80.0, 90.0));
        let rolled = upright.map(|point| roll * point);
        let rolled_region = CropRegion::around_landmarks(&rolled, 0.7, 1.3).expect("points");
        for (&before, after) in upright.iter().zip(rolled) {
            let in_crop = region.crop_from_frame(96, 96) * before;
            assert!((rolled_region.crop_from_frame(96, 96) * after).distance(in_crop) < 1e-2);
        }
    }

    #[test]
    fn shrinking_averages_instead_of_skipping() {
        let mut frame = Frame::new(64, 64);
        for (index, byte) in frame.rgb_mut().iter_mut().enumerate() {
            *byte = if (index / 3) % 2 == 0 { 0 } else { 255 };
        }
        let mut crop = Crop::new(16, 16, Color::Gray);
        crop.fill(&frame, &CropRegion::whole(&frame).crop_from_frame(16, 16));
        assert!(
            crop.bytes().iter().all(|&byte| (126..=129).contains(&byte)),
            "{:?}",
            &crop.bytes()[..16]
        );
    }

    #[test]
    fn outside_the_frame_is_padding_and_padding_is_zero() {
        let frame = Frame::new(8, 8);
        let mut crop = Crop::new(8, 8, Color::Rgb);
        crop.fill(
            &frame,
            &Affine::similarity(1.0, 0.0, Point::new(500.0, 500.0), Point::default()),
        );
        let mut planes = vec![1.0; 192];
        Normalization::SYMMETRIC.write_planes(&crop, &mut planes);
        assert!(planes.iter().all(|&value| value == 0.0));
    }
}
