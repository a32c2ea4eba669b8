//! A picture in memory: 8-bit RGB, rows from top to bottom. It knows nothing of where it came from.

/// An 8-bit RGB picture, interleaved, without row padding.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Frame {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

/// Written by hand for the sake of `clone_from`, which keeps the buffer.
impl Clone for Frame {
    fn clone(&self) -> Self {
        Self {
            width: self.width,
            height: self.height,
            rgb: self.rgb.clone(),
        }
    }

    fn clone_from(&mut self, source: &Self) {
        self.width = source.width;
        self.height = source.height;
        self.rgb.clone_from(&source.rgb);
    }
}

impl Frame {
    /// A black picture.
    pub fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            rgb: vec![0; width * height * 3],
        }
    }

    /// Takes `rgb`, which must hold `width * height * 3` bytes; `None` otherwise.
    pub fn from_rgb(width: usize, height: usize, rgb: Vec<u8>) -> Option<Self> {
        (rgb.len() == width.checked_mul(height)?.checked_mul(3)?).then_some(Self {
            width,
            height,
            rgb,
        })
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes, `[height, width, 3]`.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The bytes, `[height, width, 3]`, to draw on.
    pub fn rgb_mut(&mut self) -> &mut [u8] {
        &mut self.rgb
    }

    /// The pixel at column `x`, row `y`. Panics outside the picture.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let start = (y * self.width + x) * 3;
        [self.rgb[start], self.rgb[start + 1], self.rgb[start + 2]]
    }

    /// Sets the pixel at column `x`, row `y`. Panics outside the picture.
    pub fn set_pixel(&mut self, x: usize, y: usize, rgb: [u8; 3]) {
        let start = (y * self.width + x) * 3;
        self.rgb[start..start + 3].copy_from_slice(&rgb);
    }

    /// Mirrors x: column `x` becomes column `width - 1 - x`.
    pub fn mirror(&mut self) {
        let row_bytes = 3 * self.width.max(1);
        for row in self.rgb.chunks_exact_mut(row_bytes) {
            let (pixels, _) = row.as_chunks_mut::<3>();
            pixels.reverse();
        }
    }

    /// Becomes `width` x `height`, keeping the buffer when it is large enough; the content is unspecified.
    pub fn reshape(&mut self, width: usize, height: usize) {
        self.width = width;
        self.height = height;
        self.rgb.resize(width * height * 3, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirroring_swaps_whole_pixels() {
        for width in [1, 2, 5] {
            let pixel = |x: usize| [10 * x as u8, 10 * x as u8 + 1, 10 * x as u8 + 2];
            let mut frame = Frame::new(width, 2);
            for y in 0..2 {
                (0..width).for_each(|x| frame.set_pixel(x, y, pixel(x)));
            }
            frame.mirror();
            for x in 0..width {
                assert_eq!(frame.pixel(x, 1), pixel(width - 1 - x));
            }
        }
        Frame::new(0, 0).mirror();
    }
}
