//! Where an example's pixels come from: a file, or memory.

use crate::{frame::Frame, picture::PictureError, train::synthetic::Scene};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

/// An example's picture. Cloning shares the pixels.
#[derive(Clone, Debug)]
pub enum Picture {
    /// Decoded at each use.
    File {
        /// The file.
        path: PathBuf,
        /// Width and height that the labels are for; another size is an error, since the labels would not fit.
        size: (usize, usize),
    },
    /// In memory; `name` is the file it came from, or what it is.
    Memory {
        /// For messages.
        name: String,
        /// The pixels.
        frame: Arc<Frame>,
    },
    /// Painted at the first use and then kept.
    Drawn {
        /// For messages.
        name: String,
        /// What to paint.
        scene: Arc<Scene>,
        /// The pixels, once painted.
        painted: Arc<OnceLock<Arc<Frame>>>,
    },
}

impl Picture {
    /// The file's path, or the picture's name.
    pub fn name(&self) -> String {
        match self {
            Self::File { path, .. } => path.display().to_string(),
            Self::Memory { name, .. } | Self::Drawn { name, .. } => name.clone(),
        }
    }

    /// Width and height.
    pub fn size(&self) -> (usize, usize) {
        match self {
            Self::File { size, .. } => *size,
            Self::Memory { frame, .. } => (frame.width(), frame.height()),
            Self::Drawn { scene, .. } => scene.size(),
        }
    }

    /// The pixels, decoded now if need be.
    ///
    /// # Errors
    /// In words: the file is missing, empty or broken.
    pub fn load(&self) -> Result<Arc<Frame>, String> {
        match self {
            Self::File { path, size } => decode(path, *size).map(Arc::new),
            Self::Memory { frame, .. } => Ok(Arc::clone(frame)),
            Self::Drawn { scene, painted, .. } => {
                Ok(Arc::clone(painted.get_or_init(|| Arc::new(scene.paint()))))
            }
        }
    }

    /// The pixels if they are in memory.
    pub fn in_memory(&self) -> Option<&Arc<Frame>> {
        match self {
            Self::Memory { frame, .. } => Some(frame),
            Self::Drawn { painted, .. } => painted.get(),
            Self::File { .. } => None,
        }
    }

    /// Decodes the picture once and keeps it while all kept pictures together stay within `limit` bytes.
    pub(super) fn check_and_keep(
        &mut self,
        used: &AtomicUsize,
        limit: usize,
    ) -> Result<(), String> {
        let Self::File { path, size } = self else {
            return Ok(());
        };
        let frame = decode(path, *size)?;
        let bytes = frame.rgb().len();
        if used.fetch_add(bytes, Ordering::Relaxed) + bytes <= limit {
            *self = Self::Memory {
                name: path.display().to_string(),
                frame: Arc::new(frame),
            };
        } else {
            used.fetch_sub(bytes, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Decodes a picture file; the reason alone, since the caller names the file.
fn decode(path: &Path, (width, height): (usize, usize)) -> Result<Frame, String> {
    let frame = crate::picture::load(path).map_err(|error| match error {
        PictureError::Read { source, .. } => format!("cannot read: {source}"),
        PictureError::Damaged { found, .. } => format!("expected a picture, found {found}"),
        other => other.to_string(),
    })?;
    if (frame.width(), frame.height()) != (width, height) {
        return Err(format!(
            "expected {width}x{height} pixels, as its label says, found {}x{}",
            frame.width(),
            frame.height()
        ));
    }
    Ok(frame)
}
