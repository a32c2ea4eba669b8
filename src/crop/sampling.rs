//! Sums of bilinear samples along a line, in integers: exact, so that every target fills the same crop.

use super::{PADDING, POSITION_BITS, SUBPIXEL, SUBPIXEL_BITS};
use crate::frame::Frame;

/// Bits that a channel has in a packed sum of three.
const LANE_BITS: u32 = 21;
/// Samples whose sums fit a lane: 255 * `SUBPIXEL`^2 each.
#[cfg(any(test, not(target_arch = "x86_64")))]
const MAX_PACKED: usize = 8;

/// Sums red, green and blue, times `SUBPIXEL`^2, of `count` samples that begin at `start` (x, y) and lie whole steps apart,
/// and moves `start` behind them. Neighbours outside the frame count as [`PADDING`].
#[inline(always)]
pub(super) fn sum_of_line(
    frame: &Frame,
    start: &mut (i64, i64),
    step: (i64, i64),
    count: usize,
) -> [u32; 3] {
    #[cfg(target_arch = "x86_64")]
    return vector_sum(frame, start, step, count);
    #[cfg(not(target_arch = "x86_64"))]
    packed_sum(frame, start, step, count)
}

/// Four lanes at once, of which three are channels: a channel's two neighbours in a row are a pair of 16-bit numbers, and
/// so are then its two rows.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn vector_sum(
    frame: &Frame,
    (x, y): &mut (i64, i64),
    (step_x, step_y): (i64, i64),
    count: usize,
) -> [u32; 3] {
    use bytemuck::cast;
    use wide::{i16x8, i32x4, u8x16};

    let weights =
        |far: u64| -> i16x8 { cast(i32x4::splat(((far << 16) | (SUBPIXEL - far)) as i32)) };
    let mut sums = i32x4::splat(0);
    let mut at_edges = [0; 3];
    for _ in 0..count {
        let place = Place::of(*x, *y);
        if let Some([upper, lower]) = place.rows(frame) {
            let across = weights(place.right);
            let blend = |row: u64| -> i32x4 {
                let (left, right): (u8x16, u8x16) = (cast([row, 0]), cast([row >> 24, 0]));
                let pairs = u8x16::unpack_low(left, right);
                let pairs: i16x8 = cast(u8x16::unpack_low(pairs, u8x16::splat(0)));
                pairs.dot(across)
            };
            let rows: i16x8 = cast(blend(upper) | (blend(lower) << 16));
            sums += rows.dot(weights(place.lower));
        } else {
            for (sum, channel) in at_edges.iter_mut().zip(unpack(place.packed(frame))) {
                *sum += channel;
            }
        }
        *x += step_x;
        *y += step_y;
    }
    let [red, green, blue, _] = sums.to_array();
    [
        red as u32 + at_edges[0],
        green as u32 + at_edges[1],
        blue as u32 + at_edges[2],
    ]
}

/// Three channels in one 64-bit number.
#[cfg(any(test, not(target_arch = "x86_64")))]
#[inline(always)]
fn packed_sum(
    frame: &Frame,
    (x, y): &mut (i64, i64),
    (step_x, step_y): (i64, i64),
    count: usize,
) -> [u32; 3] {
    let mut sums = [0; 3];
    let mut left = count;
    while left > 0 {
        let some = left.min(MAX_PACKED);
        let mut packed = 0;
        for _ in 0..some {
            packed += Place::of(*x, *y).packed(frame);
            *x += step_x;
            *y += step_y;
        }
        for (sum, channel) in sums.iter_mut().zip(unpack(packed)) {
            *sum += channel;
        }
        left -= some;
    }
    sums
}

/// Where a sample lies: the pixel left of and above it, and how far right of and below that, in subpixels.
struct Place {
    column: i64,
    row: i64,
    right: u64,
    lower: u64,
}

impl Place {
    #[inline(always)]
    fn of(x: i64, y: i64) -> Self {
        const ROUND: i64 = 1 << (POSITION_BITS - SUBPIXEL_BITS - 1);
        let (x, y) = (x + ROUND, y + ROUND);
        let fraction = |value: i64| (value >> (POSITION_BITS - SUBPIXEL_BITS)) as u64 % SUBPIXEL;
        Self {
            column: x >> POSITION_BITS,
            row: y >> POSITION_BITS,
            right: fraction(x),
            lower: fraction(y),
        }
    }

    /// The bytes from the left neighbours on, of the upper and the lower row; `None` near the frame's edges: two neighbours are
    /// six bytes, eight are read, which the last pixels of the frame do not have behind them.
    #[inline(always)]
    fn rows(&self, frame: &Frame) -> Option<[u64; 2]> {
        let (width, rgb) = (frame.width(), frame.rgb());
        if self.column < 0 || self.row < 0 || self.column as usize >= width - 1 {
            return None;
        }
        let start = (self.row as usize * width + self.column as usize) * 3;
        let upper = rgb.get(start..)?.first_chunk::<8>()?;
        let lower = rgb.get(start + width * 3..)?.first_chunk::<8>()?;
        Some([u64::from_le_bytes(*upper), u64::from_le_bytes(*lower)])
    }

    /// The frame's colour here, times `SUBPIXEL`^2, packed.
    #[inline(always)]
    fn packed(&self, frame: &Frame) -> u64 {
        let weights = [
            (SUBPIXEL - self.right) * (SUBPIXEL - self.lower),
            self.right * (SUBPIXEL - self.lower),
            (SUBPIXEL - self.right) * self.lower,
            self.right * self.lower,
        ];
        if let Some([upper, lower]) = self.rows(frame) {
            return pack(upper as u32) * weights[0]
                + pack((upper >> 24) as u32) * weights[1]
                + pack(lower as u32) * weights[2]
                + pack((lower >> 24) as u32) * weights[3];
        }
        let (width, height) = (frame.width() as i64, frame.height() as i64);
        let mut sum = 0;
        for (corner, weight) in weights.into_iter().enumerate() {
            let column = self.column + (corner as i64 & 1);
            let row = self.row + (corner as i64 >> 1);
            let inside = column >= 0 && row >= 0 && column < width && row < height;
            let [red, green, blue] = if inside {
                frame.pixel(column as usize, row as usize)
            } else {
                [PADDING; 3]
            };
            sum += pack(u32::from_le_bytes([red, green, blue, 0])) * weight;
        }
        sum
    }
}

/// Three bytes in the lanes of a packed sum.
fn pack(rgb: u32) -> u64 {
    let rgb = u64::from(rgb);
    (rgb & 0xff) | (rgb & 0xff00) << (LANE_BITS - 8) | (rgb & 0xff_0000) << (2 * LANE_BITS - 16)
}

fn unpack(sum: u64) -> [u32; 3] {
    let lane = |index: u32| (sum >> (index * LANE_BITS)) as u32 & ((1 << LANE_BITS) - 1);
    [lane(0), lane(1), lane(2)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_sum_agree_in_every_bit_inside_and_across_the_edges() {
        let mut frame = Frame::new(23, 17);
        let mut state = 1u32;
        for byte in frame.rgb_mut() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Black and white among them: the largest sums are.
            *byte = match state >> 30 {
                0 => 255,
                1 => 0,
                _ => (state >> 16) as u8,
            };
        }
        let mut sums = 0;
        for case in 0..4000i64 {
            let start = (
                (case * 7_919 % 31 - 4) * (1 << 32) + case * 123_456_789 % (1 << 32),
                (case * 104_729 % 25 - 4) * (1 << 32) + case * 987_654_321 % (1 << 32),
            );
            let step = (
                case * 48_271 % (3 << 31) - (1 << 31),
                case * 69_621 % (1 << 32) - (1 << 31),
            );
            let count = 1 + case as usize % 16;
            let (mut one, mut other) = (start, start);
            let found = sum_of_line(&frame, &mut one, step, count);
            let expected = packed_sum(&frame, &mut other, step, count);
            assert_eq!((found, one), (expected, other), "case {case}");
            sums += u64::from(found[0]);
        }
        assert!(sums > 0);
        let white = {
            let mut frame = Frame::new(40, 4);
            frame.rgb_mut().fill(255);
            sum_of_line(&frame, &mut (1 << 32, 1 << 32), (1 << 32, 0), 16)
        };
        assert_eq!(white, [16 * 255 * 32 * 32; 3]);
    }
}
