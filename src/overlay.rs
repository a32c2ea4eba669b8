//! Drawing on a frame: antialiased discs and lines, face boxes, landmarks with their contours, text. Sizes follow the
//! picture and the face; colours are those of Okabe and Ito (2008), which colour-blind people can tell apart.

mod blur;
mod head;
mod mesh;

pub use blur::FaceBlur;
pub use head::{draw_pose_axes, draw_signal_bars};
pub use mesh::Mesh;

use crate::{
    frame::Frame,
    geometry::{FaceBox, Point},
    scheme::{Contour, Scheme},
};
use embedded_graphics::{
    Pixel,
    draw_target::DrawTarget,
    geometry::{OriginDimensions, Point as FontPoint, Size},
    mono_font::{MonoTextStyle, iso_8859_1::FONT_6X10},
    pixelcolor::BinaryColor,
    text::{Baseline, Text},
};

/// A colour: red, green, blue.
pub type Rgb = [u8; 3];

/// Nearly black: outlines and panels.
pub const INK: Rgb = [16, 16, 20];
/// Text.
pub const PAPER: Rgb = [245, 245, 240];
/// Orange.
pub const ORANGE: Rgb = [230, 159, 0];
/// Sky blue.
pub const SKY_BLUE: Rgb = [86, 180, 233];
/// Bluish green.
pub const GREEN: Rgb = [0, 158, 115];
/// Yellow.
pub const YELLOW: Rgb = [240, 228, 66];
/// Vermilion.
pub const VERMILION: Rgb = [213, 94, 0];
/// Reddish purple.
pub const PURPLE: Rgb = [204, 121, 167];

/// Width of a character of the built-in font at scale 1, in pixels.
pub const CHARACTER_WIDTH: usize = 6;
/// Height of a line of text at scale 1, in pixels.
pub const LINE_HEIGHT: usize = 10;

/// How landmarks are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Style {
    /// Factor on the sizes that follow from the face and the picture.
    pub size: f32,
    /// Draw the scheme's contours.
    pub contours: bool,
    /// Write each landmark's index beside it.
    pub indices: bool,
    /// One colour for everything; `None`: each region has its own.
    pub color: Option<Rgb>,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            size: 1.0,
            contours: true,
            indices: false,
            color: None,
        }
    }
}

impl Style {
    /// Everything in one colour, to lay several sets of landmarks over each other.
    pub fn in_color(color: Rgb) -> Self {
        Self {
            color: Some(color),
            ..Self::default()
        }
    }
}

/// What is drawn of a face's landmarks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverlayKind {
    /// A disc a landmark.
    Points,
    /// The scheme's contours and the discs.
    #[default]
    Contours,
    /// A net of triangles and the discs.
    Mesh,
    /// Nothing.
    None,
}

/// Colours that tell faces apart, by id.
const FACE_COLORS: [Rgb; 6] = [PAPER, ORANGE, SKY_BLUE, YELLOW, PURPLE, VERMILION];

/// The colour of a face's box: the same as long as it is followed, another than the next one's.
pub fn face_color(id: u64) -> Rgb {
    FACE_COLORS[(id.saturating_sub(1) % FACE_COLORS.len() as u64) as usize]
}

/// Writes a face's id above its box, or within it where there is no room above.
pub fn draw_face_id(frame: &mut Frame, face: &FaceBox, id: u64, color: Rgb) {
    let scale = text_scale(frame);
    let height = (LINE_HEIGHT * scale) as f32;
    let mut digits = [0u8; 3];
    let text = decimal((id % 1000) as usize, &mut digits);
    let top = face.y - height - 2.0 * scale as f32;
    let at = Point::new(face.x, if top < 0.0 { face.y + 2.0 } else { top });
    let shadow = Point::new(at.x + scale as f32, at.y + scale as f32);
    draw_text(frame, shadow, scale, INK, text);
    draw_text(frame, at, scale, color, text);
}

/// The width of a thin line on this picture, in pixels: 1 up to VGA, growing with the picture.
pub fn line_width(frame: &Frame) -> f32 {
    (frame.width().min(frame.height()) as f32 / 360.0).max(1.0)
}

/// The integer scale of text on this picture: 1 up to 640x480, growing with the picture.
pub fn text_scale(frame: &Frame) -> usize {
    (frame.width().min(frame.height()) / 360).max(1)
}

/// Draws landmarks (in the frame) and, where the style asks for it, the scheme's contours. Points that are not finite
/// are left out. Works with any number of points; contours whose points are missing are left out.
pub fn draw_landmarks(frame: &mut Frame, landmarks: &[Point], scheme: Scheme, style: &Style) {
    draw_uncertain_landmarks(frame, landmarks, &[], scheme, style);
}

/// [`draw_landmarks`], the fainter the points the further off they are expected to be: `expected_errors_px` has one value
/// a landmark, or none at all.
pub fn draw_uncertain_landmarks(
    frame: &mut Frame,
    landmarks: &[Point],
    expected_errors_px: &[f32],
    scheme: Scheme,
    style: &Style,
) {
    let Some(tight) = FaceBox::around(landmarks) else {
        return;
    };
    let unit = stroke_unit(frame, landmarks) * style.size;
    let color_of = |index| style.color.unwrap_or_else(|| region_color(scheme, index));
    if style.contours {
        // All outlines first, so that no outline lies over a neighbour's colour.
        for (widening, outline) in [(1.4, Some(INK)), (0.0, None)] {
            for contour in scheme.contours() {
                for (from, to) in contour_segments(contour) {
                    if let (Some(&from_point), Some(&to_point)) =
                        (landmarks.get(from), landmarks.get(to))
                    {
                        let color = outline.unwrap_or_else(|| color_of(from));
                        let opacity = if outline.is_some() { 0.45 } else { 0.9 };
                        let width = unit + widening;
                        draw_line(frame, from_point, to_point, width, color, opacity);
                    }
                }
            }
        }
    }
    let radius = 1.35 * unit;
    // A single point has no size.
    let face_size = tight.width.max(tight.height).max(1.0);
    for (index, &landmark) in landmarks.iter().enumerate() {
        let error = expected_errors_px.get(index).copied().unwrap_or(0.0);
        let opacity = opacity_of_error(error / face_size);
        draw_disc(frame, landmark, radius + 0.6, INK, 0.55 * opacity);
        draw_disc(frame, landmark, radius, color_of(index), opacity);
    }
    if style.indices {
        draw_indices(frame, landmarks);
    }
}

/// The width of a line on a face: a far face gets finer strokes than the picture alone would give it.
fn stroke_unit(frame: &Frame, landmarks: &[Point]) -> f32 {
    let size = FaceBox::around(landmarks).map_or(0.0, |tight| tight.width.max(tight.height));
    line_width(frame).min((size / 90.0).max(0.6))
}

/// Opaque up to an expected error of 2 % of the face's size, a quarter at 8 % and beyond.
fn opacity_of_error(relative_error: f32) -> f32 {
    const CERTAIN: f32 = 0.02;
    const LOST: f32 = 0.08;
    const FAINTEST: f32 = 0.25;
    let lost = ((relative_error - CERTAIN) / (LOST - CERTAIN)).clamp(0.0, 1.0);
    1.0 - (1.0 - FAINTEST) * lost
}

/// Writes each landmark's index beside it.
pub fn draw_indices(frame: &mut Frame, landmarks: &[Point]) {
    let mut digits = [0u8; 3];
    for (index, landmark) in landmarks.iter().enumerate() {
        let at = Point::new(landmark.x + 2.0, landmark.y - 8.0);
        draw_text(frame, at, 1, PAPER, decimal(index, &mut digits));
    }
}

/// Draws a face box as its four corners' brackets, which hide less of the face than a full rectangle.
pub fn draw_face_box(frame: &mut Frame, face: &FaceBox, color: Rgb) {
    let width = 1.5 * line_width(frame);
    let arm = 0.22 * face.width.min(face.height);
    let (left, top) = (face.x, face.y);
    let (right, bottom) = (face.x + face.width, face.y + face.height);
    for (widening, color, opacity) in [(1.4, INK, 0.45), (0.0, color, 0.95)] {
        for (x, y, toward_x, toward_y) in [
            (left, top, arm, arm),
            (right, top, -arm, arm),
            (left, bottom, arm, -arm),
            (right, bottom, -arm, -arm),
        ] {
            let corner = Point::new(x, y);
            for end in [Point::new(x + toward_x, y), Point::new(x, y + toward_y)] {
                draw_line(frame, corner, end, width + widening, color, opacity);
            }
        }
    }
}

/// Draws lines of text on a darkened panel whose left-top corner is at (`left`, `top`), cut off at the frame's edge.
pub fn draw_panel(frame: &mut Frame, left: usize, top: usize, scale: usize, lines: &[&str]) {
    let longest = lines
        .iter()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0);
    if longest == 0 {
        return;
    }
    let margin = 3 * scale;
    darken(
        frame,
        left,
        top,
        longest * CHARACTER_WIDTH * scale + 2 * margin,
        lines.len() * LINE_HEIGHT * scale + 2 * margin,
    );
    for (index, line) in lines.iter().enumerate() {
        let y = top + margin + index * LINE_HEIGHT * scale;
        let at = Point::new((left + margin) as f32, y as f32);
        draw_text(frame, at, scale, PAPER, line);
    }
}

/// Writes `text` (ISO 8859-1) with its left-top corner at `at`, each font pixel `scale` x `scale` frame pixels.
pub fn draw_text(frame: &mut Frame, at: Point, scale: usize, color: Rgb, text: &str) {
    if !(at.x.abs() < 1e6 && at.y.abs() < 1e6) {
        return;
    }
    let mut canvas = TextCanvas {
        frame,
        left: at.x.round() as i32,
        top: at.y.round() as i32,
        scale: scale.clamp(1, 64) as i32,
        color,
    };
    let style = MonoTextStyle::new(&FONT_6X10, BinaryColor::On);
    let text = Text::with_baseline(text, FontPoint::zero(), style, Baseline::Top);
    // The canvas cannot fail: its error has no values.
    let _ = embedded_graphics::Drawable::draw(&text, &mut canvas);
}

/// Draws a filled disc; `opacity` from 0 to 1.
pub fn draw_disc(frame: &mut Frame, center: Point, radius: f32, color: Rgb, opacity: f32) {
    draw_line(frame, center, center, 2.0 * radius, color, opacity);
}

/// Draws a line with round ends, `width` pixels wide; `opacity` from 0 to 1. A pixel's coverage follows from the
/// distance of its centre to the segment. Ends that are not finite draw nothing.
pub fn draw_line(frame: &mut Frame, from: Point, to: Point, width: f32, color: Rgb, opacity: f32) {
    let radius = 0.5 * width;
    let reach = radius + 0.5;
    let columns = covered(from.x, to.x, reach, frame.width());
    let rows = covered(from.y, to.y, reach, frame.height());
    let (along_x, along_y) = (to.x - from.x, to.y - from.y);
    let length_squared = along_x * along_x + along_y * along_y;
    if !length_squared.is_finite() {
        return;
    }
    for y in rows {
        for x in columns.clone() {
            let (dx, dy) = (x as f32 - from.x, y as f32 - from.y);
            let position = if length_squared > 0.0 {
                ((dx * along_x + dy * along_y) / length_squared).clamp(0.0, 1.0)
            } else {
                0.0
            };
            let distance = (dx - position * along_x).hypot(dy - position * along_y);
            let coverage = (reach - distance).clamp(0.0, 1.0);
            if coverage > 0.0 {
                blend(frame, x, y, color, coverage * opacity);
            }
        }
    }
}

/// The pixels within `reach` of the stretch from `a` to `b`, cut to `0..size`; none when a bound is not a number.
fn covered(a: f32, b: f32, reach: f32, size: usize) -> std::ops::Range<usize> {
    let low = (a.min(b) - reach).ceil().max(0.0);
    let high = (a.max(b) + reach).floor() + 1.0;
    if !(a.is_finite() && b.is_finite() && low < high) {
        return 0..0;
    }
    // Conversions saturate, and a range that ends before it starts is empty.
    low as usize..(high as usize).min(size)
}

fn blend(frame: &mut Frame, x: usize, y: usize, color: Rgb, opacity: f32) {
    let below = frame.pixel(x, y);
    let mixed = std::array::from_fn(|channel| {
        let (from, to) = (f32::from(below[channel]), f32::from(color[channel]));
        (from + (to - from) * opacity + 0.5) as u8
    });
    frame.set_pixel(x, y, mixed);
}

fn darken(frame: &mut Frame, left: usize, top: usize, width: usize, height: usize) {
    for y in top..(top + height).min(frame.height()) {
        for x in left..(left + width).min(frame.width()) {
            blend(frame, x, y, INK, 0.62);
        }
    }
}

fn contour_segments(contour: &Contour) -> impl Iterator<Item = (usize, usize)> + use<> {
    let closing = contour.closed.then_some((contour.last, contour.first));
    (contour.first..contour.last)
        .map(|index| (index, index + 1))
        .chain(closing)
}

fn region_color(scheme: Scheme, index: usize) -> Rgb {
    let region = scheme
        .regions()
        .iter()
        .find(|region| region.ranges.iter().any(|range| range.contains(&index)));
    match region.map(|region| region.name) {
        Some("jaw") => SKY_BLUE,
        Some("brows") => ORANGE,
        Some("nose") => GREEN,
        Some("mouth") => PURPLE,
        _ => YELLOW,
    }
}

/// `number` modulo 1000 as text, without an allocation.
fn decimal(number: usize, digits: &mut [u8; 3]) -> &str {
    let mut rest = number % 1000;
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    std::str::from_utf8(&digits[start..]).expect("digits are ASCII")
}

struct TextCanvas<'a> {
    frame: &'a mut Frame,
    left: i32,
    top: i32,
    scale: i32,
    color: Rgb,
}

impl OriginDimensions for TextCanvas<'_> {
    fn size(&self) -> Size {
        Size::new(self.frame.width() as u32, self.frame.height() as u32)
    }
}

impl DrawTarget for TextCanvas<'_> {
    type Color = BinaryColor;
    type Error = std::convert::Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Self::Error>
    where
        I: IntoIterator<Item = Pixel<BinaryColor>>,
    {
        let (width, height) = (self.frame.width() as i32, self.frame.height() as i32);
        for Pixel(at, _) in pixels {
            let (left, top) = (self.left + at.x * self.scale, self.top + at.y * self.scale);
            for y in top.max(0)..(top + self.scale).min(height) {
                for x in left.max(0)..(left + self.scale).min(width) {
                    self.frame.set_pixel(x as usize, y as usize, self.color);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHITE: Rgb = [255; 3];

    fn ink_sum(frame: &Frame) -> f32 {
        frame
            .rgb()
            .iter()
            .map(|&byte| f32::from(byte) / 255.0)
            .sum::<f32>()
            / 3.0
    }

    #[test]
    fn a_disc_covers_its_area_wherever_its_center_lies_between_pixels() {
        for (x, y) in [(20.0, 20.0), (20.5, 20.25), (19.7, 20.9)] {
            let mut frame = Frame::new(40, 40);
            draw_disc(&mut frame, Point::new(x, y), 6.0, WHITE, 1.0);
            let area = std::f32::consts::PI * 36.0;
            assert!(
                (ink_sum(&frame) - area).abs() < 0.03 * area,
                "{}",
                ink_sum(&frame)
            );
            assert_eq!(frame.pixel(20, 20), WHITE);
        }
    }

    #[test]
    fn a_line_is_as_wide_as_asked_and_clipped_at_the_edges() {
        let mut frame = Frame::new(60, 30);
        draw_line(
            &mut frame,
            Point::new(-50.0, 15.0),
            Point::new(500.0, 15.0),
            3.0,
            WHITE,
            1.0,
        );
        assert!((ink_sum(&frame) - 180.0).abs() < 2.0, "{}", ink_sum(&frame));
        assert_eq!((frame.pixel(0, 15), frame.pixel(30, 12)), (WHITE, [0; 3]));
    }

    #[test]
    fn hostile_coordinates_draw_nothing_and_do_not_panic() {
        let mut frame = Frame::new(16, 16);
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30];
        for x in odd {
            for y in odd {
                draw_line(
                    &mut frame,
                    Point::new(x, y),
                    Point::new(y, x),
                    2.0,
                    WHITE,
                    1.0,
                );
                draw_landmarks(
                    &mut frame,
                    &[Point::new(x, y); 68],
                    Scheme::Ibug68,
                    &Style {
                        indices: true,
                        ..Style::default()
                    },
                );
                draw_face_box(&mut frame, &FaceBox::new(x, y, x, y), WHITE);
                draw_text(&mut frame, Point::new(x, y), 3, WHITE, "x");
            }
        }
        draw_panel(&mut frame, 12, 14, 2, &["cut off at the edge", ""]);
        assert_eq!((frame.width(), frame.height()), (16, 16));
    }

    #[test]
    fn every_landmark_gets_a_mark_in_its_own_color() {
        for scheme in Scheme::ALL {
            let landmarks: Vec<Point> = (0..scheme.landmark_count())
                .map(|index| {
                    Point::new(
                        12.0 * (index % 10) as f32 + 20.0,
                        12.0 * (index / 10) as f32 + 20.0,
                    )
                })
                .collect();
            let mut frame = Frame::new(160, 130);
            let style = Style {
                contours: false,
                ..Style::default()
            };
            draw_landmarks(&mut frame, &landmarks, scheme, &style);
            for (index, landmark) in landmarks.iter().enumerate() {
                let pixel = frame.pixel(landmark.x as usize, landmark.y as usize);
                assert_eq!(pixel, region_color(scheme, index), "{scheme} {index}");
            }
        }
    }

    #[test]
    fn text_is_scaled_by_whole_factors() {
        let count = |scale: usize| {
            let mut frame = Frame::new(200, 80);
            draw_text(&mut frame, Point::new(2.0, 3.0), scale, WHITE, "68 fps");
            frame.rgb().iter().filter(|&&byte| byte == 255).count()
        };
        assert!(count(1) > 100);
        assert_eq!(count(3), 9 * count(1));
    }

    #[test]
    fn faces_that_follow_each_other_have_other_colors_and_their_ids() {
        for id in 1..20 {
            assert_ne!(face_color(id), face_color(id + 1));
            assert_eq!(face_color(id), face_color(id));
            for face in [
                FaceBox::new(20.0, 30.0, 40.0, 40.0),
                FaceBox::new(20.0, -3.0, 40.0, 40.0),
            ] {
                let mut frame = Frame::new(100, 100);
                draw_face_id(&mut frame, &face, id, WHITE);
                assert!(frame.rgb().contains(&255), "{id} at {face:?}");
            }
        }
    }

    #[test]
    fn numbers_are_written() {
        let mut digits = [0; 3];
        for (number, text) in [(0, "0"), (9, "9"), (67, "67"), (100, "100")] {
            assert_eq!(decimal(number, &mut digits), text);
        }
    }
}
