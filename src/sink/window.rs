//! A window that shows frames and reads keys, through minifb. It lives on the main thread, as window systems want it.

use super::{KeyCommand, SinkError};
use crate::frame::Frame;
use minifb::{Key, KeyRepeat, ScaleMode, WindowOptions};

/// A window of the size of the first frame; it can be resized.
pub struct Window {
    window: minifb::Window,
    pixels: Vec<u32>,
    size: (usize, usize),
}

impl Window {
    /// Opens a window.
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
        let window = minifb::Window::new(title, width, height, options)
            .map_err(|error| no_display(error.to_string()))?;
        Ok(Self {
            window,
            pixels: Vec::new(),
            size: (width, height),
        })
    }

    /// Whether the user has not closed it.
    pub fn is_open(&self) -> bool {
        self.window.is_open()
    }

    /// Shows a frame and handles the window's events.
    ///
    /// # Errors
    /// When the window system refuses the picture.
    pub fn show(&mut self, frame: &Frame) -> Result<(), SinkError> {
        self.size = (frame.width(), frame.height());
        self.pixels.clear();
        self.pixels.extend(
            frame
                .rgb()
                .chunks_exact(3)
                .map(|pixel| u32::from_be_bytes([0, pixel[0], pixel[1], pixel[2]])),
        );
        self.window
            .update_with_buffer(&self.pixels, self.size.0, self.size.1)
            .map_err(|error| SinkError::NoDisplay {
                reason: error.to_string(),
            })
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
