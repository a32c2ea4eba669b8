//! Changes to a crop's bytes: occlusion, resolution, blur, light and colour, noise, compression, in the order in which a
//! scene, a lens, a sensor and an encoder would make them.

use super::{AugmentConfig, chance, log_uniform, normal, symmetric};
use crate::{
    crop::{Crop, CropRegion},
    frame::Frame,
    geometry::FaceBox,
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::sync::OnceLock;

/// Applies a random selection of changes to `crop`.
pub fn change_pixels(crop: &mut Crop, config: &AugmentConfig, generator: &mut ChaCha8Rng) {
    if chance(generator, config.occlusion_probability) {
        hide_rectangle(crop, config.occlusion_max, generator);
    }
    // No draw where it is switched off: other changes stay as they were before there was this one.
    if config.dark_probability > 0.0 && chance(generator, config.dark_probability) {
        darken(crop, log_uniform(generator, config.dark_min, 0.7));
    }
    // As for the dark. Print is seen at a lower resolution than it has, a palette at that of the picture.
    let dithers = config.dither_probability > 0.0 && chance(generator, config.dither_probability);
    let mut tones = dithers.then(|| log_uniform(generator, 2.0, 20.0) as u8);
    let printed = tones.take_if(|_| chance(generator, 0.4));
    if let Some(tones) = printed {
        dither(crop, tones);
    }
    if chance(generator, config.low_resolution_probability) || dithers {
        let side = log_uniform(generator, config.low_resolution_min, 0.8);
        lower_resolution(crop, side, tones);
    }
    if chance(generator, config.blur_probability) {
        let sigma = generator.random_range(0.4..=config.blur_sigma_max.max(0.4));
        blur(crop, sigma);
    }
    change_light(crop, config, generator);
    if chance(generator, config.noise_probability) {
        let sigma = generator.random_range(1.0..=config.noise_sigma_max.max(1.0));
        add_noise(crop, sigma, generator);
    }
    if chance(generator, config.jpeg_probability) {
        let quality = generator.random_range(config.jpeg_quality_min.clamp(1, 70)..=70);
        compress(crop, quality);
    }
}

fn hide_rectangle(crop: &mut Crop, largest: f32, generator: &mut ChaCha8Rng) {
    let (width, height, channels) = (crop.width(), crop.height(), crop.color().channels());
    let mut side = |edge: usize| {
        let share = 0.08 + (largest - 0.08).max(0.0) * generator.random::<f32>();
        ((share * edge as f32) as usize).clamp(1, edge)
    };
    let (across, down) = (side(width), side(height));
    let left = generator.random_range(0..=width - across);
    let top = generator.random_range(0..=height - down);
    let noisy = chance(generator, 0.3);
    let colour: [u8; 3] = generator.random();
    let mut state = generator.random::<u64>() | 1;
    for row in crop
        .bytes_mut()
        .chunks_exact_mut(width * channels)
        .skip(top)
        .take(down)
    {
        for pixel in row[left * channels..(left + across) * channels].chunks_exact_mut(channels) {
            if noisy {
                state = xorshift(state);
                for (channel, byte) in pixel.iter_mut().enumerate() {
                    *byte = (state >> (8 * channel + 16)) as u8;
                }
            } else {
                pixel.copy_from_slice(&colour[..channels]);
            }
        }
    }
}

/// Covers a part of `face`, in crop pixels, with one colour from one of its sides, as a hand, a scarf, hair or the edge of
/// another head would: up to half of the face, and some of what is beside it.
pub fn hide_part_of_face(crop: &mut Crop, face: &FaceBox, generator: &mut ChaCha8Rng) {
    let share = generator.random_range(0.2f32..0.5);
    let side = generator.random_range(0..4);
    let colour: [u8; 3] = generator.random();
    let beyond = generator.random_range(0.05f32..0.4);
    let (mut left, mut top) = (face.x - 0.1 * face.width, face.y - 0.1 * face.height);
    let (mut right, mut bottom) = (face.x + 1.1 * face.width, face.y + 1.1 * face.height);
    match side {
        0 => (left, right) = (face.x - beyond * face.width, face.x + share * face.width),
        1 => {
            left = face.x + (1.0 - share) * face.width;
            right = face.x + (1.0 + beyond) * face.width;
        }
        2 => (top, bottom) = (face.y - beyond * face.height, face.y + share * face.height),
        _ => {
            top = face.y + (1.0 - share) * face.height;
            bottom = face.y + (1.0 + beyond) * face.height;
        }
    }
    let (width, height, channels) = (crop.width(), crop.height(), crop.color().channels());
    let inside = |value: f32, edge: usize| value.round().clamp(0.0, edge as f32) as usize;
    let (left, right) = (inside(left, width), inside(right, width));
    let (top, bottom) = (inside(top, height), inside(bottom, height));
    for row in crop
        .bytes_mut()
        .chunks_exact_mut(width * channels)
        .take(bottom)
        .skip(top)
    {
        for pixel in row[left * channels..right.max(left) * channels].chunks_exact_mut(channels) {
            pixel.copy_from_slice(&colour[..channels]);
        }
    }
}

/// Leaves `share` of the light.
fn darken(crop: &mut Crop, share: f32) {
    let table: [u8; 256] = std::array::from_fn(|byte| (byte as f32 * share + 0.5) as u8);
    for byte in crop.bytes_mut() {
        *byte = table[usize::from(*byte)];
    }
}

fn xorshift(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ (state << 17)
}

/// Leaves `tones` levels of each channel, at least two, and passes the difference on to the pixels that follow (Floyd and
/// Steinberg 1976).
fn dither(crop: &mut Crop, tones: u8) {
    let (width, channels) = (crop.width(), crop.color().channels());
    let stride = width * channels;
    let step = 255.0 / f32::from(tones.max(2) - 1);
    // What the pixels of this row and the next one get, with a pixel's room at both ends.
    let mut here = vec![0.0f32; stride + 2 * channels];
    let mut below = here.clone();
    for row in crop.bytes_mut().chunks_exact_mut(stride) {
        for (index, byte) in row.iter_mut().enumerate() {
            let place = index + channels;
            let wanted = f32::from(*byte) + here[place];
            let tone = ((wanted / step).round() * step).clamp(0.0, 255.0);
            let error = (wanted - tone).clamp(-64.0, 64.0) / 16.0;
            here[place + channels] += 7.0 * error;
            below[place - channels] += 3.0 * error;
            below[place] += 5.0 * error;
            below[place + channels] += error;
            *byte = tone as u8;
        }
        std::mem::swap(&mut here, &mut below);
        below.fill(0.0);
    }
}

/// Shrinks the crop to `share` of its side and enlarges it again, with the runtime's own resampling; with `tones` it is
/// dithered to so many in between.
fn lower_resolution(crop: &mut Crop, share: f32, tones: Option<u8>) {
    let (width, height) = (crop.width(), crop.height());
    let small_width = ((share * width as f32) as usize).clamp(4, width);
    let small_height = ((share * height as f32) as usize).clamp(4, height);
    let whole = as_frame(crop);
    let mut small = Crop::new(small_width, small_height, crop.color());
    let region = CropRegion::whole(&whole);
    small.fill(&whole, &stretch(&region, small_width, small_height));
    if let Some(tones) = tones {
        dither(&mut small, tones);
    }
    let small = edged(&small);
    let inner = CropRegion {
        width: small.width() as f32 - 2.0,
        height: small.height() as f32 - 2.0,
        ..CropRegion::whole(&small)
    };
    crop.fill(&small, &stretch(&inner, width, height));
}

/// The map of `region` onto the whole crop, whatever the aspect ratios.
fn stretch(region: &CropRegion, width: usize, height: usize) -> crate::geometry::Affine {
    let (across, down) = (width as f32 / region.width, height as f32 / region.height);
    crate::geometry::Affine {
        rows: [
            [
                across,
                0.0,
                0.5 * (width as f32 - 1.0) - across * region.center.x,
            ],
            [
                0.0,
                down,
                0.5 * (height as f32 - 1.0) - down * region.center.y,
            ],
        ],
    }
}

fn as_frame(crop: &Crop) -> Frame {
    let mut frame = Frame::new(crop.width(), crop.height());
    copy_pixels(crop, &mut frame, 0);
    frame
}

/// The crop with its outermost pixels repeated once, so that enlarging it does not blend padding in.
fn edged(crop: &Crop) -> Frame {
    let (width, height) = (crop.width() + 2, crop.height() + 2);
    let mut frame = Frame::new(width, height);
    copy_pixels(crop, &mut frame, 1);
    for y in 1..height - 1 {
        frame.set_pixel(0, y, frame.pixel(1, y));
        frame.set_pixel(width - 1, y, frame.pixel(width - 2, y));
    }
    for x in 0..width {
        frame.set_pixel(x, 0, frame.pixel(x, 1));
        frame.set_pixel(x, height - 1, frame.pixel(x, height - 2));
    }
    frame
}

fn copy_pixels(crop: &Crop, frame: &mut Frame, offset: usize) {
    let channels = crop.color().channels();
    let frame_width = frame.width();
    for (y, row) in crop
        .bytes()
        .chunks_exact(crop.width() * channels)
        .enumerate()
    {
        let start = ((y + offset) * frame_width + offset) * 3;
        let target = &mut frame.rgb_mut()[start..start + crop.width() * 3];
        if channels == 3 {
            target.copy_from_slice(row);
        } else {
            for (pixel, &grey) in target.chunks_exact_mut(3).zip(row) {
                pixel.fill(grey);
            }
        }
    }
}

/// Separable Gaussian blur in 16-bit fixed point; the outermost pixels are repeated.
fn blur(crop: &mut Crop, sigma: f32) {
    let radius = (2.5 * sigma).ceil() as usize;
    let weights: Vec<f32> = (0..=2 * radius)
        .map(|i| (-0.5 * ((i as f32 - radius as f32) / sigma).powi(2)).exp())
        .collect();
    let total: f32 = weights.iter().sum();
    let weights: Vec<u32> = weights
        .iter()
        .map(|weight| (weight / total * 65536.0).round() as u32)
        .collect();
    let (width, height, channels) = (crop.width(), crop.height(), crop.color().channels());
    let source = crop.bytes().to_vec();
    let stride = width * channels;
    let mut sums = vec![0u32; stride];
    let mut rows = vec![0u8; source.len()];
    for y in 0..height {
        sums.fill(32768);
        for (tap, &weight) in weights.iter().enumerate() {
            let from = (y + tap).saturating_sub(radius).min(height - 1) * stride;
            for (sum, &byte) in sums.iter_mut().zip(&source[from..from + stride]) {
                *sum += weight * u32::from(byte);
            }
        }
        for (byte, &sum) in rows[y * stride..(y + 1) * stride].iter_mut().zip(&sums) {
            *byte = (sum >> 16).min(255) as u8;
        }
    }
    let mut padded = vec![0u8; (width + 2 * radius) * channels];
    for (row, target) in rows
        .chunks_exact(stride)
        .zip(crop.bytes_mut().chunks_exact_mut(stride))
    {
        let (first, last) = (&row[..channels], &row[stride - channels..]);
        for side in 0..radius {
            padded[side * channels..(side + 1) * channels].copy_from_slice(first);
            let end = (width + radius + side) * channels;
            padded[end..end + channels].copy_from_slice(last);
        }
        padded[radius * channels..radius * channels + stride].copy_from_slice(row);
        sums.fill(32768);
        for (tap, &weight) in weights.iter().enumerate() {
            for (sum, &byte) in sums.iter_mut().zip(&padded[tap * channels..]) {
                *sum += weight * u32::from(byte);
            }
        }
        for (byte, &sum) in target.iter_mut().zip(&sums) {
            *byte = (sum >> 16).min(255) as u8;
        }
    }
}

/// Brightness, contrast, gamma and tint as one table a channel; or grey.
fn change_light(crop: &mut Crop, config: &AugmentConfig, generator: &mut ChaCha8Rng) {
    let brightness = symmetric(generator, config.brightness);
    let contrast = 1.0 + symmetric(generator, config.contrast);
    let gamma = symmetric(generator, config.gamma).exp();
    let tints: [f32; 3] = std::array::from_fn(|_| 1.0 + symmetric(generator, config.tint));
    let grey = chance(generator, config.grey_probability);
    if (brightness, contrast, gamma, tints, grey) == (0.0, 1.0, 1.0, [1.0; 3], false) {
        return;
    }
    let table = |tint: f32| -> [u8; 256] {
        std::array::from_fn(|byte| {
            let curved = 255.0 * (byte as f32 / 255.0).powf(gamma);
            ((curved - 128.0) * contrast + 128.0 + brightness).mul_add(tint, 0.5) as u8
        })
    };
    let tables = tints.map(table);
    let plain = table(1.0);
    let channels = crop.color().channels();
    for pixel in crop.bytes_mut().chunks_exact_mut(channels) {
        match pixel {
            [red, green, blue] if grey => {
                let luma =
                    (77 * u32::from(*red) + 150 * u32::from(*green) + 29 * u32::from(*blue)) >> 8;
                let value = plain[luma as usize];
                (*red, *green, *blue) = (value, value, value);
            }
            [red, green, blue] => {
                *red = tables[0][usize::from(*red)];
                *green = tables[1][usize::from(*green)];
                *blue = tables[2][usize::from(*blue)];
            }
            other => other
                .iter_mut()
                .for_each(|byte| *byte = plain[usize::from(*byte)]),
        }
    }
}

const NOISE: usize = 1 << 14;

/// Standard normal numbers in 1/32, drawn once; crops read them from random places, since drawing one a byte would cost
/// more than all else together.
fn noise_table() -> &'static [i16; NOISE] {
    static TABLE: OnceLock<Box<[i16; NOISE]>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut generator = super::generator(0, 0, 0, 0x006e_6f69_7365);
        Box::new(std::array::from_fn(|_| {
            (32.0 * normal(&mut generator)).round() as i16
        }))
    })
}

fn add_noise(crop: &mut Crop, sigma: f32, generator: &mut ChaCha8Rng) {
    let (table, factor) = (noise_table(), (sigma * 8.0) as i32);
    let stride = crop.width() * crop.color().channels();
    for row in crop.bytes_mut().chunks_exact_mut(stride) {
        let start = generator.random_range(0..NOISE);
        for (byte, &noise) in row
            .iter_mut()
            .zip(table[start..].iter().chain(table).cycle())
        {
            let value = i32::from(*byte) + ((i32::from(noise) * factor + 128) >> 8);
            *byte = value.clamp(0, 255) as u8;
        }
    }
}

/// Encodes as JPEG and decodes again; on the odd failure of the coder the crop stays as it was.
fn compress(crop: &mut Crop, quality: u8) {
    use image::{ExtendedColorType, ImageFormat, codecs::jpeg::JpegEncoder};
    let grey = crop.color().channels() == 1;
    let colour = if grey {
        ExtendedColorType::L8
    } else {
        ExtendedColorType::Rgb8
    };
    let mut encoded = Vec::new();
    let result = JpegEncoder::new_with_quality(&mut encoded, quality).encode(
        crop.bytes(),
        crop.width() as u32,
        crop.height() as u32,
        colour,
    );
    if result.is_err() {
        return;
    }
    if let Ok(decoded) = image::load_from_memory_with_format(&encoded, ImageFormat::Jpeg) {
        let bytes = if grey {
            decoded.into_luma8().into_raw()
        } else {
            decoded.into_rgb8().into_raw()
        };
        if bytes.len() == crop.bytes().len() {
            crop.bytes_mut().copy_from_slice(&bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crop::Color, geometry::Point};

    fn ramp(color: Color) -> Crop {
        let mut crop = Crop::new(48, 40, color);
        let channels = color.channels();
        for (index, byte) in crop.bytes_mut().iter_mut().enumerate() {
            *byte = (index / channels % 48 * 4 + index / channels / 48) as u8;
        }
        crop
    }

    fn generator() -> ChaCha8Rng {
        super::super::generator(5, 0, 0, 0)
    }

    fn mean_difference(left: &Crop, right: &Crop) -> f32 {
        let total: u32 = left
            .bytes()
            .iter()
            .zip(right.bytes())
            .map(|(&a, &b)| u32::from(a.abs_diff(b)))
            .sum();
        total as f32 / left.bytes().len() as f32
    }

    #[test]
    fn a_part_of_a_face_is_hidden_and_most_of_it_stays() {
        let face = FaceBox::new(10.0, 8.0, 24.0, 20.0);
        let mut generator = generator();
        for _ in 0..50 {
            let before = ramp(Color::Rgb);
            let mut crop = before.clone();
            hide_part_of_face(&mut crop, &face, &mut generator);
            let changed: Vec<usize> = (0..48 * 40)
                .filter(|pixel| crop.bytes()[3 * pixel..][..3] != before.bytes()[3 * pixel..][..3])
                .collect();
            let in_face = changed
                .iter()
                .filter(|&&pixel| {
                    face.contains(Point::new((pixel % 48) as f32, (pixel / 48) as f32))
                })
                .count() as f32;
            let share = in_face / face.area();
            assert!((0.1..=0.6).contains(&share), "{share}");
        }
        // A face beyond the edges has nothing to hide outside the crop.
        for face in [
            FaceBox::new(-90.0, -90.0, 20.0, 20.0),
            FaceBox::new(90.0, 90.0, 20.0, 20.0),
            FaceBox::new(-10.0, 30.0, 30.0, 30.0),
        ] {
            hide_part_of_face(&mut ramp(Color::Gray), &face, &mut generator);
        }
    }

    #[test]
    fn darkness_leaves_its_share_of_the_light() {
        let config = AugmentConfig {
            dark_probability: 1.0,
            dark_min: 0.2,
            ..AugmentConfig::NONE
        };
        let mut crop = Crop::new(8, 8, Color::Rgb);
        crop.bytes_mut().fill(200);
        change_pixels(&mut crop, &config, &mut generator());
        let byte = crop.bytes()[0];
        assert!((40..=140).contains(&byte), "{byte}");
        assert!(crop.bytes().iter().all(|&other| other == byte));
    }

    #[test]
    fn changes_that_keep_the_content_stay_near_it_and_do_something() {
        type Change = fn(&mut Crop);
        let cases: [(&str, Change, f32); 4] = [
            ("blur", |crop| blur(crop, 1.2), 3.0),
            (
                "low resolution",
                |crop| lower_resolution(crop, 0.5, None),
                3.0,
            ),
            ("noise", |crop| add_noise(crop, 6.0, &mut generator()), 6.5),
            ("jpeg", |crop| compress(crop, 40), 8.0),
        ];
        for color in [Color::Rgb, Color::Gray] {
            for (name, change, limit) in cases {
                let before = ramp(color);
                let mut after = before.clone();
                change(&mut after);
                let difference = mean_difference(&before, &after);
                assert!(
                    difference > 0.0 && difference < limit,
                    "{name} {color:?}: {difference}"
                );
            }
        }
    }

    #[test]
    fn dithering_leaves_few_tones_and_the_mean() {
        for color in [Color::Rgb, Color::Gray] {
            for (tones, levels) in [(2, &[0, 255][..]), (4, &[0, 85, 170, 255])] {
                let before = ramp(color);
                let mut after = before.clone();
                dither(&mut after, tones);
                assert!(after.bytes().iter().all(|byte| levels.contains(byte)));
                let mean = |crop: &Crop| {
                    let sum: u32 = crop.bytes().iter().copied().map(u32::from).sum();
                    sum as f32 / crop.bytes().len() as f32
                };
                let (was, is) = (mean(&before), mean(&after));
                assert!((was - is).abs() < 4.0, "{color:?} {tones}: {was} {is}");
            }
        }
    }

    #[test]
    fn noise_has_the_spread_that_was_asked_for() {
        let mut crop = Crop::new(100, 100, Color::Rgb);
        add_noise(&mut crop, 10.0, &mut generator());
        let squares: f32 = crop
            .bytes()
            .iter()
            .map(|&byte| (f32::from(byte) - 128.0).powi(2))
            .sum();
        let spread = (squares / crop.bytes().len() as f32).sqrt();
        assert!((spread - 10.0).abs() < 0.5, "{spread}");
    }

    #[test]
    fn a_blurred_flat_crop_stays_flat() {
        let mut crop = Crop::new(20, 10, Color::Rgb);
        crop.bytes_mut().fill(200);
        blur(&mut crop, 1.7);
        assert!(crop.bytes().iter().all(|&byte| byte.abs_diff(200) <= 1));
    }

    #[test]
    fn no_strength_changes_nothing() {
        let before = ramp(Color::Rgb);
        let mut after = before.clone();
        change_pixels(&mut after, &AugmentConfig::NONE, &mut generator());
        assert_eq!(before, after);
    }

    #[test]
    fn extreme_strengths_do_not_panic() {
        let config = AugmentConfig {
            brightness: 300.0,
            contrast: 3.0,
            gamma: 5.0,
            tint: 2.0,
            blur_probability: 1.0,
            blur_sigma_max: 20.0,
            low_resolution_probability: 1.0,
            low_resolution_min: 0.001,
            dither_probability: 0.5,
            noise_probability: 1.0,
            noise_sigma_max: 200.0,
            jpeg_probability: 1.0,
            jpeg_quality_min: 0,
            occlusion_probability: 1.0,
            occlusion_max: 5.0,
            ..AugmentConfig::default()
        };
        for color in [Color::Rgb, Color::Gray] {
            for index in 0..20 {
                let mut generator = super::super::generator(1, 0, index, 0);
                change_pixels(&mut ramp(color), &config, &mut generator);
            }
        }
    }
}
