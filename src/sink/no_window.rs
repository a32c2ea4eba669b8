//! The window of a build without the cargo feature `window`: there is none, and opening says so.

use super::{KeyCommand, SinkError};
use crate::{frame::Frame, geometry::Affine};

/// A window that cannot be opened.
pub enum Window {}

impl Window {
    /// Fails: this build has no window.
    ///
    /// # Errors
    /// Always [`SinkError::NoDisplay`].
    pub fn open(_title: &str, _width: usize, _height: usize) -> Result<Self, SinkError> {
        Err(SinkError::NoDisplay {
            reason: "this build has no window support (cargo feature `window`)".to_owned(),
        })
    }

    /// Whether the user has not closed it.
    pub fn is_open(&self) -> bool {
        match *self {}
    }

    /// Whether it has been resized.
    pub fn was_resized(&self) -> bool {
        match *self {}
    }

    /// Fits a frame into the window.
    pub fn fit(&mut self, _frame: &Frame, _canvas: &mut Frame) -> Affine {
        match *self {}
    }

    /// Shows a frame.
    ///
    /// # Errors
    /// None: there is no such window.
    pub fn show(&mut self, _frame: &Frame) -> Result<(), SinkError> {
        match *self {}
    }

    /// Keeps the picture.
    ///
    /// # Errors
    /// None: there is no such window.
    pub fn keep(&mut self) -> Result<(), SinkError> {
        match *self {}
    }

    /// What the keys ask for.
    pub fn commands(&self) -> std::iter::Empty<KeyCommand> {
        match *self {}
    }
}
