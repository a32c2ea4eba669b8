//! A driver's bytes to a frame. Only frames that are used are decoded; a damaged picture is an error, not a frame.

use super::{Opened, Picture, PixelFormat};
use crate::{frame::Frame, source::yuv};
use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

/// Pictures in a row that only a lenient decoder reads, after which the camera is taken to write them so.
const LOOSE_AFTER: u32 = 15;

/// Decodes the pictures of one camera.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// JPEGs in a row that a strict decoder refused and a lenient one read.
    loose: u32,
}

impl Decoder {
    /// Writes `picture` into `frame`, whose buffer is kept.
    ///
    /// # Errors
    /// In words: what is wrong with the picture. `frame` then holds nothing of use.
    pub(super) fn decode(
        &mut self,
        picture: &Picture,
        opened: &Opened,
        frame: &mut Frame,
    ) -> Result<(), String> {
        if picture.damaged {
            return Err("the driver marked it as incomplete".to_owned());
        }
        let (width, height) = (opened.mode.width as usize, opened.mode.height as usize);
        frame.reshape(width, height);
        if opened.mode.format == PixelFormat::Mjpeg {
            return self.decode_jpeg(&picture.bytes, width, height, frame.rgb_mut());
        }
        let format = opened.mode.format;
        let planes = Planes::new(format, width, height, opened.stride);
        if picture.bytes.len() < planes.bytes {
            return Err(format!(
                "{} bytes, expected {} for {}",
                picture.bytes.len(),
                planes.bytes,
                opened.mode
            ));
        }
        for (y, row) in frame.rgb_mut().chunks_exact_mut(3 * width).enumerate() {
            planes.read_row(&picture.bytes, y, row);
        }
        Ok(())
    }

    fn decode_jpeg(
        &mut self,
        bytes: &[u8],
        width: usize,
        height: usize,
        rgb: &mut [u8],
    ) -> Result<(), String> {
        if self.loose >= LOOSE_AFTER {
            return jpeg(bytes, width, height, false, rgb);
        }
        let refused = match jpeg(bytes, width, height, true, rgb) {
            Ok(()) => {
                self.loose = 0;
                return Ok(());
            }
            Err(refused) => refused,
        };
        // A strict decoder finds damage that a lenient one paints over; yet some cameras' every picture breaks a rule.
        if jpeg(bytes, width, height, false, rgb).is_err() {
            self.loose = 0;
            return Err(refused);
        }
        self.loose += 1;
        if self.loose == LOOSE_AFTER {
            tracing::warn!(
                "this camera's JPEGs break the standard ({refused}); damage is no longer told from that"
            );
        }
        Err(refused)
    }
}

fn jpeg(
    bytes: &[u8],
    width: usize,
    height: usize,
    strict: bool,
    rgb: &mut [u8],
) -> Result<(), String> {
    // A damaged header may claim any size.
    let options = DecoderOptions::default()
        .set_strict_mode(strict)
        .set_max_width(width)
        .set_max_height(height)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder
        .decode_headers()
        .map_err(|error| error.to_string())?;
    match decoder.dimensions() {
        Some(found) if found == (width, height) => {}
        found => {
            let (w, h) = found.unwrap_or_default();
            return Err(format!("a JPEG of {w}x{h}, expected {width}x{height}"));
        }
    }
    decoder.decode_into(rgb).map_err(|error| error.to_string())
}

/// Where the rows of an uncompressed picture are.
struct Planes {
    format: PixelFormat,
    width: usize,
    stride: usize,
    /// Where the first and the second plane of chroma begin, and the bytes between their rows.
    chroma: [usize; 2],
    chroma_stride: usize,
    /// Bytes of the whole picture; the last row needs no gap behind it.
    bytes: usize,
}

impl Planes {
    fn new(format: PixelFormat, width: usize, height: usize, stride: usize) -> Self {
        use PixelFormat::{Bgr, Grey, Mjpeg, Nv12, Nv21, Rgb, Uyvy, Yu12, Yuyv, Yvyu};
        let row = match format {
            Yuyv | Uyvy | Yvyu => 2 * width.next_multiple_of(2),
            Rgb | Bgr => 3 * width,
            Nv12 | Nv21 | Yu12 | Grey | Mjpeg => width,
        };
        let stride = stride.max(row);
        let rows = stride * height.saturating_sub(1) + row;
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let first = stride * height;
        let (chroma_stride, second, bytes) = match format {
            Nv12 | Nv21 => {
                let end = first + stride * (half_height - 1) + 2 * half_width;
                (stride, first, end)
            }
            Yu12 => {
                let chroma_stride = stride.div_ceil(2);
                let second = first + chroma_stride * half_height;
                let end = second + chroma_stride * (half_height - 1) + half_width;
                (chroma_stride, second, end)
            }
            _ => (0, 0, rows),
        };
        Self {
            format,
            width,
            stride,
            chroma: [first, second],
            chroma_stride,
            bytes,
        }
    }

    fn read_row(&self, bytes: &[u8], y: usize, rgb: &mut [u8]) {
        let row = &bytes[y * self.stride..];
        let chroma = |plane: usize| &bytes[self.chroma[plane] + y / 2 * self.chroma_stride..];
        match self.format {
            PixelFormat::Yuyv => yuv::rgb_from_packed(row, yuv::YUYV, rgb),
            PixelFormat::Uyvy => yuv::rgb_from_packed(row, yuv::UYVY, rgb),
            PixelFormat::Yvyu => yuv::rgb_from_packed(row, yuv::YVYU, rgb),
            PixelFormat::Nv12 => {
                yuv::rgb_from_planes(row, |x| (chroma(0)[x & !1], chroma(0)[x | 1]), rgb);
            }
            PixelFormat::Nv21 => {
                yuv::rgb_from_planes(row, |x| (chroma(0)[x | 1], chroma(0)[x & !1]), rgb);
            }
            PixelFormat::Yu12 => {
                yuv::rgb_from_planes(row, |x| (chroma(0)[x / 2], chroma(1)[x / 2]), rgb);
            }
            PixelFormat::Grey | PixelFormat::Mjpeg => {
                for (pixel, luma) in rgb.chunks_exact_mut(3).zip(row) {
                    pixel.fill(*luma);
                }
            }
            PixelFormat::Rgb => rgb.copy_from_slice(&row[..3 * self.width]),
            PixelFormat::Bgr => {
                for (pixel, bgr) in rgb.chunks_exact_mut(3).zip(row.chunks_exact(3)) {
                    pixel.copy_from_slice(&[bgr[2], bgr[1], bgr[0]]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        picture::{Encoding, encode},
        source::camera::Mode,
    };

    fn opened(format: PixelFormat, width: u32, height: u32, stride: usize) -> Opened {
        Opened {
            number: 0,
            name: "test".to_owned(),
            mode: Mode {
                format,
                width,
                height,
                rate: None,
            },
            stride,
        }
    }

    fn picture(bytes: Vec<u8>) -> Picture {
        Picture {
            bytes,
            ..Picture::default()
        }
    }

    /// Left half red, right half blue, in 4x2 pixels with `gap` bytes behind each row.
    fn colors(format: PixelFormat, gap: usize) -> Vec<u8> {
        let [red, blue] = [[255, 0, 0], [0, 0, 255]].map(yuv::yuv_from_rgb);
        let pixels = [red, red, blue, blue];
        let mut bytes = Vec::new();
        let luma: Vec<u8> = pixels.iter().map(|pixel| pixel[0]).collect();
        let rgb = [[255, 0, 0], [255, 0, 0], [0, 0, 255], [0, 0, 255]];
        let end_row = |bytes: &mut Vec<u8>, gap: usize| bytes.extend(std::iter::repeat_n(77, gap));
        for _ in 0..2 {
            for pair in pixels.chunks_exact(2) {
                let [y, u, v] = pair[0];
                match format {
                    PixelFormat::Yuyv => bytes.extend([y, u, y, v]),
                    PixelFormat::Uyvy => bytes.extend([u, y, v, y]),
                    PixelFormat::Yvyu => bytes.extend([y, v, y, u]),
                    _ => {}
                }
            }
            match format {
                PixelFormat::Rgb => bytes.extend(rgb.concat()),
                PixelFormat::Bgr => {
                    bytes.extend(rgb.map(|[r, g, b]| [b, g, r]).concat());
                }
                PixelFormat::Yuyv | PixelFormat::Uyvy | PixelFormat::Yvyu => {}
                _ => bytes.extend(&luma),
            }
            end_row(&mut bytes, gap);
        }
        let ([_, ru, rv], [_, bu, bv]) = (red, blue);
        match format {
            PixelFormat::Nv12 => bytes.extend([ru, rv, bu, bv]),
            PixelFormat::Nv21 => bytes.extend([rv, ru, bv, bu]),
            PixelFormat::Yu12 => {
                bytes.extend([ru, bu]);
                end_row(&mut bytes, gap / 2);
                bytes.extend([rv, bv]);
            }
            _ => {}
        }
        bytes
    }

    #[test]
    fn colors_come_through_every_format_with_and_without_gaps() {
        for format in PixelFormat::ALL {
            if matches!(format, PixelFormat::Mjpeg | PixelFormat::Grey) {
                continue;
            }
            let row = Planes::new(format, 4, 1, 0).stride;
            for gap in [0, 8] {
                let mut frame = Frame::default();
                let mut bytes = colors(format, gap);
                let opened = opened(format, 4, 2, row + gap);
                Decoder::default()
                    .decode(&picture(bytes.clone()), &opened, &mut frame)
                    .unwrap_or_else(|found| panic!("{format} with gaps of {gap}: {found}"));
                for (x, expected) in [(0, [255, 0, 0]), (1, [255, 0, 0]), (3, [0, 0, 255])] {
                    for (found, expected) in frame.pixel(x, 1).into_iter().zip(expected) {
                        assert!(found.abs_diff(expected) < 4, "{format}: {:?}", frame.rgb());
                    }
                }
                let needed = Planes::new(format, 4, 2, row + gap).bytes;
                bytes.truncate(needed - 1);
                let error = Decoder::default()
                    .decode(&picture(bytes), &opened, &mut frame)
                    .expect_err("a byte is missing");
                assert!(error.contains("expected"), "{error}");
            }
        }
    }

    #[test]
    fn grey_is_grey() {
        let mut frame = Frame::default();
        let opened = opened(PixelFormat::Grey, 3, 1, 0);
        Decoder::default()
            .decode(&picture(vec![1, 2, 3]), &opened, &mut frame)
            .expect("grey");
        assert_eq!(frame.rgb(), [1, 1, 1, 2, 2, 2, 3, 3, 3]);
    }

    fn jpeg_bytes(width: usize, height: usize) -> Vec<u8> {
        let mut frame = Frame::new(width, height);
        for (index, byte) in frame.rgb_mut().iter_mut().enumerate() {
            *byte = (index * index / 7) as u8;
        }
        encode(&frame, Encoding::Jpeg).expect("JPEG")
    }

    #[test]
    fn whole_jpegs_are_read_and_damaged_ones_are_not() {
        let whole = jpeg_bytes(64, 48);
        let opened = opened(PixelFormat::Mjpeg, 64, 48, 0);
        let mut padded = whole.clone();
        padded.extend([0; 500]);
        let mut garbled = whole.clone();
        let middle = whole.len() / 2;
        // A marker that must not be there, as when a packet of the stream is lost.
        garbled[middle..middle + 4].copy_from_slice(&[0xff, 0xc4, 0xff, 0xd8]);
        for (bytes, good) in [
            (whole.clone(), true),
            (padded, true),
            (whole[..whole.len() / 3].to_vec(), false),
            (whole[..whole.len() * 2 / 3].to_vec(), false),
            (garbled, false),
            (Vec::new(), false),
            (vec![0; 4000], false),
            (jpeg_bytes(32, 48), false),
        ] {
            let mut frame = Frame::default();
            let found = Decoder::default().decode(&picture(bytes), &opened, &mut frame);
            assert_eq!(found.is_ok(), good, "{found:?}");
        }
    }

    #[test]
    fn a_camera_whose_every_jpeg_breaks_a_rule_is_read_in_the_end() {
        let mut loose = jpeg_bytes(64, 48);
        // Stray bytes between two segments of the header.
        let length = usize::from(u16::from_be_bytes([loose[4], loose[5]]));
        loose.splice(4 + length..4 + length, [1, 2, 3, 4, 5, 6, 7, 8]);
        let opened = opened(PixelFormat::Mjpeg, 64, 48, 0);
        let loose = picture(loose);
        let mut decoder = Decoder::default();
        let read: Vec<bool> = (0..LOOSE_AFTER + 2)
            .map(|_| {
                decoder
                    .decode(&loose, &opened, &mut Frame::default())
                    .is_ok()
            })
            .collect();
        assert_eq!(
            read,
            [vec![false; LOOSE_AFTER as usize], vec![true; 2]].concat()
        );
    }

    #[test]
    fn pictures_cut_off_and_noise_in_turn_are_never_read() {
        let whole = jpeg_bytes(64, 48);
        let opened = opened(PixelFormat::Mjpeg, 64, 48, 0);
        let (cut, noise) = (whole[..whole.len() * 2 / 3].to_vec(), vec![0xa5; 4000]);
        let mut decoder = Decoder::default();
        for bytes in [cut, noise].iter().cycle().take(4 * LOOSE_AFTER as usize) {
            let found = decoder.decode(&picture(bytes.clone()), &opened, &mut Frame::default());
            assert!(found.is_err(), "{} bytes", bytes.len());
        }
    }

    #[test]
    fn a_picture_that_the_driver_marks_is_not_read() {
        let mut frame = Frame::default();
        let mut marked = picture(vec![1, 2, 3]);
        marked.damaged = true;
        let opened = opened(PixelFormat::Grey, 3, 1, 0);
        assert!(
            Decoder::default()
                .decode(&marked, &opened, &mut frame)
                .is_err()
        );
    }
}
