//! Makes faces unrecognisable in a picture: coarse squares over each face, its margin, and the places where faces were a
//! moment ago. What the tracker does not find is not hidden.

use crate::{frame::Frame, geometry::FaceBox};

/// Side of the hidden square over the longer edge of the tight box of the landmarks: from above the hair line to below the
/// chin, however the head is rolled.
const SIDE: f32 = 1.9;
/// Squares along an edge of what is hidden: some four lie across a face, in which nobody is recognised.
const SQUARES: usize = 8;
/// A face that is not followed any more is hidden for so long, in seconds, in a square that grows meanwhile by `GROWTH` of
/// its side a second: it is likely still there.
const HOLD_SECS: f64 = 1.0;
const GROWTH: f32 = 0.5;
/// A held square that is so much the same as a face that is followed, as intersection over union, is that face.
const SAME_IOU: f32 = 0.4;

/// Hides the faces of one frame after the other.
#[derive(Clone, Debug, Default)]
pub struct FaceBlur {
    held: Vec<Held>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    id: u64,
    area: FaceBox,
    seen_secs: f64,
}

impl FaceBlur {
    /// Hides `faces`, each with its id and the tight box of its landmarks in the frame, and those that were there at most a
    /// second before `time_secs`. A box without a size says nothing of where its face ends: it hides the whole frame.
    pub fn hide(
        &mut self,
        frame: &mut Frame,
        faces: impl IntoIterator<Item = (u64, FaceBox)>,
        time_secs: f64,
    ) {
        // A source that begins anew has earlier times.
        self.held
            .retain(|held| (0.0..=HOLD_SECS).contains(&(time_secs - held.seen_secs)));
        for (id, tight) in faces {
            let area = area_of(&tight, frame);
            self.held
                .retain(|held| held.id != id && !is_same(held, &area, time_secs));
            self.held.push(Held {
                id,
                area,
                seen_secs: time_secs,
            });
        }
        for held in &self.held {
            let age = (time_secs - held.seen_secs) as f32;
            pixelate(frame, &grown(&held.area, 1.0 + GROWTH * age));
        }
    }
}

/// Faces of one frame stay apart, even when they overlap.
fn is_same(held: &Held, area: &FaceBox, time_secs: f64) -> bool {
    held.seen_secs < time_secs && held.area.iou(area) > SAME_IOU
}

fn area_of(tight: &FaceBox, frame: &Frame) -> FaceBox {
    let side = SIDE * tight.width.max(tight.height);
    let center = tight.center();
    if !(side >= 1.0 && side.is_finite() && center.x.is_finite() && center.y.is_finite()) {
        return FaceBox::new(-0.5, -0.5, frame.width() as f32, frame.height() as f32);
    }
    FaceBox::new(center.x - 0.5 * side, center.y - 0.5 * side, side, side)
}

fn grown(area: &FaceBox, factor: f32) -> FaceBox {
    let (width, height) = (factor * area.width, factor * area.height);
    let center = area.center();
    FaceBox::new(
        center.x - 0.5 * width,
        center.y - 0.5 * height,
        width,
        height,
    )
}

/// Replaces each of the squares that `area` is divided into by its mean colour.
fn pixelate(frame: &mut Frame, area: &FaceBox) {
    for row in 0..SQUARES {
        let rows = part(area.y, area.height, row, frame.height());
        for column in 0..SQUARES {
            let columns = part(area.x, area.width, column, frame.width());
            fill_with_mean(frame, rows.clone(), columns);
        }
    }
}

/// The pixels whose centres lie in the `index`-th of the equal parts of a stretch, cut to `0..size`.
fn part(start: f32, length: f32, index: usize, size: usize) -> std::ops::Range<usize> {
    let bound = |index: usize| {
        let place = start + length * index as f32 / SQUARES as f32;
        // Conversions saturate.
        (place.ceil().max(0.0) as usize).min(size)
    };
    bound(index)..bound(index + 1)
}

fn fill_with_mean(
    frame: &mut Frame,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
) {
    let count = (rows.len() * columns.len()) as u64;
    if count == 0 {
        return;
    }
    let stride = 3 * frame.width();
    let (left, right) = (3 * columns.start, 3 * columns.end);
    let mut sums = [0u64; 3];
    for y in rows.clone() {
        for pixel in frame.rgb()[y * stride + left..y * stride + right].chunks_exact(3) {
            for (sum, &byte) in sums.iter_mut().zip(pixel) {
                *sum += u64::from(byte);
            }
        }
    }
    let mean = sums.map(|sum| ((sum + count / 2) / count) as u8);
    for y in rows {
        let row = &mut frame.rgb_mut()[y * stride + left..y * stride + right];
        for pixel in row.chunks_exact_mut(3) {
            pixel.copy_from_slice(&mean);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture whose every pixel differs from its neighbours.
    fn noise(width: usize, height: usize) -> Frame {
        let mut state = 1u32;
        let rgb = (0..3 * width * height)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        Frame::from_rgb(width, height, rgb).expect("bytes")
    }

    /// Pixels that are as before, in a part of the picture.
    fn kept(
        before: &Frame,
        after: &Frame,
        rows: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
    ) -> usize {
        rows.flat_map(|y| columns.clone().map(move |x| (x, y)))
            .filter(|&(x, y)| before.pixel(x, y) == after.pixel(x, y))
            .count()
    }

    #[test]
    fn nothing_but_squares_of_one_colour_is_left_of_a_face() {
        let before = noise(200, 160);
        let mut frame = before.clone();
        let face = FaceBox::new(70.0, 50.0, 50.0, 60.0);
        FaceBlur::default().hide(&mut frame, [(1, face)], 0.0);
        // From 38 to 152 and from 23 to 137, in squares of 14.
        let mut colors = std::collections::BTreeSet::new();
        for y in 23..137 {
            for x in 38..152 {
                colors.insert(frame.pixel(x, y));
            }
        }
        assert!(colors.len() <= SQUARES * SQUARES, "{}", colors.len());
        assert!(kept(&before, &frame, 23..137, 38..152) < 3);
        assert_eq!(kept(&before, &frame, 0..20, 0..200), 20 * 200);
        assert_eq!(kept(&before, &frame, 0..160, 155..200), 160 * 45);
    }

    #[test]
    fn a_face_that_was_there_a_moment_ago_stays_hidden() {
        let before = noise(120, 120);
        let mut blur = FaceBlur::default();
        let face = FaceBox::new(40.0, 40.0, 30.0, 40.0);
        blur.hide(&mut before.clone(), [(1, face)], 2.0);
        for (time_secs, hidden) in [(2.033, true), (2.9, true), (3.1, false)] {
            let mut frame = before.clone();
            blur.hide(&mut frame, [], time_secs);
            let left = kept(&before, &frame, 25..95, 20..90);
            assert_eq!(left < 10, hidden, "{time_secs}: {left}");
        }
    }

    #[test]
    fn a_moved_face_is_hidden_where_it_is_and_two_stay_two() {
        let before = noise(300, 120);
        let mut blur = FaceBlur::default();
        let at = |x: f32| FaceBox::new(x, 40.0, 30.0, 40.0);
        blur.hide(&mut before.clone(), [(1, at(40.0))], 0.0);
        let mut frame = before.clone();
        blur.hide(&mut frame, [(1, at(60.0)), (2, at(200.0))], 0.1);
        assert_eq!(blur.held.len(), 2);
        assert!(kept(&before, &frame, 25..95, 40..110) < 5);
        assert!(kept(&before, &frame, 25..95, 180..250) < 5);
        // A new id for what is the same face.
        blur.hide(&mut before.clone(), [(3, at(61.0)), (2, at(200.0))], 0.2);
        assert_eq!(blur.held.len(), 2);
    }

    #[test]
    fn a_box_without_a_size_hides_the_whole_frame() {
        for odd in [
            FaceBox::new(5.0, 5.0, 0.0, 0.0),
            FaceBox::new(f32::NAN, 5.0, 10.0, 10.0),
            FaceBox::new(5.0, 5.0, f32::INFINITY, 10.0),
        ] {
            let before = noise(64, 48);
            let mut frame = before.clone();
            FaceBlur::default().hide(&mut frame, [(1, odd)], 0.0);
            assert!(kept(&before, &frame, 0..48, 0..64) < 3, "{odd:?}");
        }
        let mut outside = noise(64, 48);
        let far = FaceBox::new(1e30, -1e30, 50.0, 50.0);
        FaceBlur::default().hide(&mut outside, [(1, far)], 0.0);
        assert_eq!(outside, noise(64, 48));
    }
}
