//! Luma and chroma (ITU-R BT.601, 8 bits, limited range: luma 16 to 235, chroma 16 to 240) to RGB and back.

/// Luma, blue and red chroma to RGB.
pub fn rgb_from_yuv(luma: u8, blue: u8, red: u8) -> [u8; 3] {
    // Coefficients times 2^16; the sum starts with half a step, so that the shift rounds.
    let light = 76_309 * (i32::from(luma) - 16) + 32_768;
    let (blue, red) = (i32::from(blue) - 128, i32::from(red) - 128);
    [
        light + 104_597 * red,
        light - 25_675 * blue - 53_279 * red,
        light + 132_201 * blue,
    ]
    .map(|value| (value >> 16).clamp(0, 255) as u8)
}

/// RGB to luma, blue and red chroma.
pub fn yuv_from_rgb([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let (red, green, blue) = (i32::from(red), i32::from(green), i32::from(blue));
    [
        (16_829 * red + 33_039 * green + 6_416 * blue + 32_768 + (16 << 16)) >> 16,
        (-9_714 * red - 19_071 * green + 28_784 * blue + 32_768 + (128 << 16)) >> 16,
        (28_784 * red - 24_103 * green - 4_681 * blue + 32_768 + (128 << 16)) >> 16,
    ]
    .map(|value| value.clamp(0, 255) as u8)
}

/// Places of the first luma, the second luma, blue and red among the four bytes of two pixels.
pub type PackedOrder = [usize; 4];
/// Luma, blue, luma, red (also YUY2).
pub const YUYV: PackedOrder = [0, 2, 1, 3];
/// Blue, luma, red, luma.
pub const UYVY: PackedOrder = [1, 3, 0, 2];
/// Luma, red, luma, blue.
pub const YVYU: PackedOrder = [0, 2, 3, 1];

/// Pairs of pixels in four bytes, in the given order, to RGB; `rgb` takes as many pixels as it holds.
pub fn rgb_from_packed(packed: &[u8], [first, second, blue, red]: PackedOrder, rgb: &mut [u8]) {
    for (pair, pixels) in packed.chunks_exact(4).zip(rgb.chunks_mut(6)) {
        pixels[..3].copy_from_slice(&rgb_from_yuv(pair[first], pair[blue], pair[red]));
        if let Some(pixel) = pixels.get_mut(3..) {
            let colors = rgb_from_yuv(pair[second], pair[blue], pair[red]);
            pixel.copy_from_slice(&colors[..pixel.len()]);
        }
    }
}

/// A row of luma, with the blue and red chroma of column `x` from `chroma(x)`, to RGB.
pub fn rgb_from_planes(luma: &[u8], chroma: impl Fn(usize) -> (u8, u8), rgb: &mut [u8]) {
    for (x, (pixel, luma)) in rgb.chunks_exact_mut(3).zip(luma).enumerate() {
        let (blue, red) = chroma(x);
        pixel.copy_from_slice(&rgb_from_yuv(*luma, blue, red));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_survive_within_two_steps() {
        for red in (0..=255u8).step_by(17) {
            for green in (0..=255u8).step_by(17) {
                for blue in (0..=255u8).step_by(17) {
                    let [luma, u, v] = yuv_from_rgb([red, green, blue]);
                    let back = rgb_from_yuv(luma, u, v);
                    for (a, b) in [red, green, blue].into_iter().zip(back) {
                        assert!(a.abs_diff(b) <= 2, "{red} {green} {blue}: {back:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn known_colors() {
        for (rgb, yuv) in [
            ([0, 0, 0], [16, 128, 128]),
            ([255, 255, 255], [235, 128, 128]),
            ([255, 0, 0], [81, 90, 240]),
            ([0, 0, 255], [41, 240, 110]),
        ] {
            assert_eq!(yuv_from_rgb(rgb), yuv);
        }
        let mut rgb = [0; 6];
        rgb_from_packed(&[16, 128, 235, 128], YUYV, &mut rgb);
        assert_eq!(rgb, [0, 0, 0, 255, 255, 255]);
    }
}
