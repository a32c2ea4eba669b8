//! A window that shows frames and reads keys, through minifb. It lives on the main thread, as window systems want it.

use super::{KeyCommand, SinkError};
use crate::{
    frame::Frame,
    geometry::{Affine, Point},
};
use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use minifb::{Key, KeyRepeat, ScaleMode, WindowOptions};

/// A new window is at least this wide, so that text beside a small frame can be read.
const LEAST_WIDTH: usize = 640;
/// A new window is not larger than this: what most displays have room for.
const LARGEST: (usize, usize) = (1280, 720);

/// A window that can be resized. What it shows has its own size ([`Window::fit`]): text and points stay clear whatever the
/// frame's size is.
pub struct Window {
    window: minifb::Window,
    pixels: Vec<u32>,
    size: (usize, usize),
    fitting: Fitting,
}

impl Window {
    /// Opens a window for frames of `width` x `height` pixels.
    ///
    /// # Errors
    /// [`SinkError::NoDisplay`] when there is no display or no window system.
    pub fn open(title: &str, width: usize, height: usize) -> Result<Self, SinkError> {
        let no_display = |reason: String| SinkError::NoDisplay { reason };
        #[cfg(target_os = "linux")]
        if std::env::var_os("DISPLAY").is_none_or(|display| display.is_empty()) {
            return Err(no_display("DISPLAY is not set".to_owned()));
        }
        let options = WindowOptions {
            resize: true,
            scale_mode: ScaleMode::AspectRatioStretch,
            ..WindowOptions::default()
        };
        let (width, height) = first_size(width, height);
        let window = minifb::Window::new(title, width, height, options)
            .map_err(|error| no_display(error.to_string()))?;
        Ok(Self {
            window,
            pixels: Vec::new(),
            size: (width, height),
            fitting: Fitting::default(),
        })
    }

    /// Whether the user has not closed it.
    pub fn is_open(&self) -> bool {
        self.window.is_open()
    }

    /// Whether it has been resized since the last picture.
    pub fn was_resized(&self) -> bool {
        self.window.get_size() != self.size
    }

    /// Makes `canvas` a picture of the window's present size with `frame` as large as it fits in the middle and black
    /// around it. Gives the map from the frame to the canvas.
    pub fn fit(&mut self, frame: &Frame, canvas: &mut Frame) -> Affine {
        let size = self.window.get_size();
        self.fitting.fit(frame, size, canvas)
    }

    /// Shows a picture and handles the window's events.
    ///
    /// # Errors
    /// When the window system refuses the picture.
    pub fn show(&mut self, picture: &Frame) -> Result<(), SinkError> {
        self.size = (picture.width(), picture.height());
        self.pixels.clear();
        self.pixels.extend(
            picture
                .rgb()
                .chunks_exact(3)
                .map(|pixel| u32::from_be_bytes([0, pixel[0], pixel[1], pixel[2]])),
        );
        self.keep()
    }

    /// Handles the window's events and keeps the picture.
    ///
    /// # Errors
    /// When the window system refuses the picture.
    pub fn keep(&mut self) -> Result<(), SinkError> {
        if self.pixels.is_empty() {
            self.window.update();
            return Ok(());
        }
        self.window
            .update_with_buffer(&self.pixels, self.size.0, self.size.1)
            .map_err(|error| SinkError::NoDisplay {
                reason: error.to_string(),
            })
    }

    /// What the keys that went down since the last call of `show` or `keep` ask for.
    pub fn commands(&self) -> impl Iterator<Item = KeyCommand> + use<> {
        let pressed = self.window.get_keys_pressed(KeyRepeat::No);
        pressed.into_iter().filter_map(|key| match key {
            Key::Q | Key::Escape => Some(KeyCommand::Quit),
            Key::Space => Some(KeyCommand::Pause),
            Key::S => Some(KeyCommand::Snapshot),
            Key::M => Some(KeyCommand::Mirror),
            Key::D => Some(KeyCommand::Debug),
            Key::H => Some(KeyCommand::Help),
            _ => None,
        })
    }
}

/// The size of a new window for frames of that size.
fn first_size(width: usize, height: usize) -> (usize, usize) {
    let (width, height) = (width.max(1), height.max(1));
    let larger = LEAST_WIDTH.div_ceil(width);
    let scale = (larger as f64)
        .min(LARGEST.0 as f64 / width as f64)
        .min(LARGEST.1 as f64 / height as f64);
    let scaled = |edge: usize| ((edge as f64 * scale).round() as usize).max(1);
    (scaled(width), scaled(height))
}

/// Brings frames to another size.
#[derive(Default)]
struct Fitting {
    resizer: Resizer,
    resized: Vec<u8>,
}

impl Fitting {
    fn fit(&mut self, frame: &Frame, size: (usize, usize), canvas: &mut Frame) -> Affine {
        let (width, height) = (frame.width(), frame.height());
        if size == (width, height) || width * height * size.0 * size.1 == 0 {
            canvas.clone_from(frame);
            return Affine::IDENTITY;
        }
        let scale = (size.0 as f64 / width as f64).min(size.1 as f64 / height as f64);
        let scaled = |edge: usize, most: usize| ((edge as f64 * scale) as usize).clamp(1, most);
        let (inner_width, inner_height) = (scaled(width, size.0), scaled(height, size.1));
        let (left, top) = ((size.0 - inner_width) / 2, (size.1 - inner_height) / 2);
        self.resize(frame, inner_width, inner_height);
        canvas.reshape(size.0, size.1);
        canvas.rgb_mut().fill(0);
        let rows = canvas.rgb_mut().chunks_exact_mut(3 * size.0).skip(top);
        for (row, inner) in rows.zip(self.resized.chunks_exact(3 * inner_width)) {
            row[3 * left..][..inner.len()].copy_from_slice(inner);
        }
        let middle = |first: usize, edge: usize| first as f32 + 0.5 * (edge as f32 - 1.0);
        Affine::similarity(
            scale as f32,
            0.0,
            Point::new(middle(0, width), middle(0, height)),
            Point::new(middle(left, inner_width), middle(top, inner_height)),
        )
    }

    fn resize(&mut self, frame: &Frame, width: usize, height: usize) {
        self.resized.resize(3 * width * height, 0);
        let edge = |edge: usize| edge as u32;
        let from = ImageRef::new(
            edge(frame.width()),
            edge(frame.height()),
            frame.rgb(),
            PixelType::U8x3,
        );
        let to = Image::from_slice_u8(
            edge(width),
            edge(height),
            &mut self.resized,
            PixelType::U8x3,
        );
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        // Both buffers have the size of their pictures, which is all that can be wrong.
        if let (Ok(from), Ok(mut to)) = (from, to)
            && let Err(error) = self.resizer.resize(&from, &mut to, &options)
        {
            tracing::error!("the window's picture: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_window_is_neither_tiny_nor_larger_than_displays() {
        assert_eq!(first_size(640, 480), (640, 480));
        assert_eq!(first_size(320, 240), (640, 480));
        assert_eq!(first_size(1920, 1080), (1280, 720));
        assert_eq!(first_size(80, 60), (640, 480));
        assert_eq!(first_size(100, 1000), (72, 720));
    }

    #[test]
    fn frames_are_letterboxed_and_points_follow() {
        // Left half red, right half blue.
        let mut frame = Frame::new(40, 20);
        for y in 0..20 {
            (0..40).for_each(|x| {
                frame.set_pixel(x, y, if x < 20 { [255, 0, 0] } else { [0, 0, 255] });
            });
        }
        let mut canvas = Frame::default();
        for (size, bar) in [
            ((80, 60), (0, 10)),
            ((100, 40), (10, 0)),
            ((20, 20), (0, 5)),
        ] {
            let canvas_from_frame = Fitting::default().fit(&frame, size, &mut canvas);
            assert_eq!((canvas.width(), canvas.height()), size);
            if bar != (0, 0) {
                assert_eq!(canvas.pixel(0, 0), [0, 0, 0]);
                assert_eq!(canvas.pixel(size.0 - 1, size.1 - 1), [0, 0, 0]);
            }
            assert_eq!(canvas.pixel(bar.0 + 2, bar.1 + 2), [255, 0, 0], "{size:?}");
            for (x, y) in [(5.0, 5.0), (34.0, 15.0)] {
                let at = canvas_from_frame * Point::new(x, y);
                let shown = canvas.pixel(at.x.round() as usize, at.y.round() as usize);
                assert_eq!(shown, frame.pixel(x as usize, y as usize), "{size:?}");
            }
        }
        assert_eq!(
            Fitting::default().fit(&frame, (40, 20), &mut canvas),
            Affine::IDENTITY
        );
        assert_eq!(canvas, frame);
    }
}
