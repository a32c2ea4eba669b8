//! Annotated pictures: a folder with one a frame, or a single picture.

use super::{DrawnFrame, FrameSink, SinkError, folder_of};
use crate::{frame::Frame, picture, picture::PictureError};
use std::path::{Path, PathBuf};

/// A folder of JPEG files, named after the frame's own name or its index.
pub struct PictureFolder {
    folder: PathBuf,
    written: u64,
}

impl PictureFolder {
    /// Makes the folder where there is none.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(folder: &Path) -> Result<Self, SinkError> {
        std::fs::create_dir_all(folder).map_err(|source| SinkError::Write {
            path: folder.to_owned(),
            source,
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            written: 0,
        })
    }
}

impl FrameSink for PictureFolder {
    fn write(&mut self, drawn: DrawnFrame<'_>) -> Result<(), SinkError> {
        let name = match drawn.name {
            Some(name) => format!("{name}.jpg"),
            None => format!("frame-{:06}.jpg", drawn.index),
        };
        picture::save(drawn.frame, &self.folder.join(name))?;
        self.written += 1;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Option<String>, SinkError> {
        let found = format!("{} pictures in {}", self.written, self.folder.display());
        Ok((self.written > 0).then_some(found))
    }
}

/// One picture: the last frame.
pub(super) struct SinglePicture {
    path: PathBuf,
    last: Option<Frame>,
}

impl SinglePicture {
    pub(super) fn create(path: &Path) -> Result<Self, SinkError> {
        if !picture::is_writable_name(path) {
            return Err(PictureError::UnknownFormat {
                path: path.to_owned(),
            }
            .into());
        }
        let folder = folder_of(path);
        std::fs::read_dir(folder).map_err(|source| SinkError::Write {
            path: folder.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            last: None,
        })
    }
}

impl FrameSink for SinglePicture {
    fn write(&mut self, drawn: DrawnFrame<'_>) -> Result<(), SinkError> {
        match &mut self.last {
            Some(last) => last.clone_from(drawn.frame),
            None => self.last = Some(drawn.frame.clone()),
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Option<String>, SinkError> {
        let Some(last) = &self.last else {
            return Ok(None);
        };
        picture::save(last, &self.path)?;
        Ok(Some(self.path.display().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_all(path: &Path, frames: &[(u64, Option<&str>, u8)]) -> Option<String> {
        let mut sink = super::super::open(path, 30.0).expect("sink");
        for &(index, name, gray) in frames {
            let frame = Frame::from_rgb(8, 8, vec![gray; 192]).expect("192 bytes");
            let drawn = DrawnFrame {
                frame: &frame,
                index,
                time_secs: 0.0,
                name,
            };
            sink.write(drawn).expect("frame");
        }
        sink.finish().expect("finish")
    }

    #[test]
    fn a_folder_names_pictures_after_their_frames() {
        let folder = tempfile::tempdir().expect("folder");
        let out = folder.path().join("out/pictures");
        let said = write_all(&out, &[(0, None, 10), (12, None, 20), (3, Some("eve"), 30)]);
        assert!(said.expect("written").starts_with("3 pictures in"));
        for (name, gray) in [("frame-000000", 10), ("frame-000012", 20), ("eve", 30)] {
            let frame = picture::load(&out.join(name).with_extension("jpg")).expect(name);
            assert!(frame.pixel(4, 4)[0].abs_diff(gray) < 3, "{name}");
        }
    }

    #[test]
    fn a_single_picture_is_the_last_frame() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("out.png");
        assert_eq!(write_all(&path, &[]), None);
        assert!(!path.exists());
        write_all(&path, &[(0, None, 10), (1, None, 20)]);
        assert_eq!(picture::load(&path).expect("PNG").pixel(0, 0), [20; 3]);
        let bmp = super::super::open(&folder.path().join("out.bmp"), 30.0).err();
        assert!(bmp.expect("no BMP").to_string().contains(".png"));
    }
}
