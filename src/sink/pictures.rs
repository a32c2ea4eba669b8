//! Annotated pictures: a folder with one a frame, or a single picture.

use super::{DrawnFrame, FrameSink, SinkError, folder_of};
use crate::{
    frame::Frame,
    picture,
    picture::{Encoding, PictureError},
};
use std::path::{Path, PathBuf};

/// A folder of JPEG or PNG files, named after the frame's own name or its index.
pub struct PictureFolder {
    folder: PathBuf,
    ending: &'static str,
    written: u64,
}

impl PictureFolder {
    /// Makes the folder where there is none.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(folder: &Path, encoding: Encoding) -> Result<Self, SinkError> {
        make_folder(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            ending: match encoding {
                Encoding::Jpeg => "jpg",
                Encoding::Png => "png",
            },
            written: 0,
        })
    }
}

impl FrameSink for PictureFolder {
    fn write(&mut self, drawn: DrawnFrame<'_>) -> Result<(), SinkError> {
        let name = match drawn.name {
            Some(name) => format!("{name}.{}", self.ending),
            None => format!("frame-{:06}.{}", drawn.index, self.ending),
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

fn make_folder(folder: &Path) -> Result<(), SinkError> {
    std::fs::create_dir_all(folder).map_err(|source| SinkError::Write {
        path: folder.to_owned(),
        source,
    })
}

/// A PNG file now and then, named after the frame's index.
pub struct Snapshots {
    folder: PathBuf,
    every_secs: f64,
    due_secs: f64,
    written: u64,
}

impl Snapshots {
    /// One each `every_secs` seconds of the source's time, the first at once. Makes the folder where there is none.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(folder: &Path, every_secs: f64) -> Result<Self, SinkError> {
        make_folder(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            every_secs,
            due_secs: f64::NEG_INFINITY,
            written: 0,
        })
    }
}

impl FrameSink for Snapshots {
    fn write(&mut self, drawn: DrawnFrame<'_>) -> Result<(), SinkError> {
        if drawn.time_secs < self.due_secs {
            return Ok(());
        }
        // A frame that comes late does not shift those after it.
        let late = (drawn.time_secs - self.due_secs) % self.every_secs;
        let late = if late.is_finite() { late } else { 0.0 };
        self.due_secs = drawn.time_secs - late + self.every_secs;
        let name = format!("snapshot-{:06}.png", drawn.index);
        picture::save(drawn.frame, &self.folder.join(name))?;
        self.written += 1;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Option<String>, SinkError> {
        let found = format!("{} snapshots in {}", self.written, self.folder.display());
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
    fn snapshots_come_at_their_times() {
        let folder = tempfile::tempdir().expect("folder");
        let mut sink = Snapshots::create(&folder.path().join("shots"), 0.5).expect("sink");
        let frame = Frame::new(8, 8);
        for index in 0..20 {
            let drawn = DrawnFrame {
                frame: &frame,
                index,
                // Frame 7 is missing: frame 8 takes its place.
                time_secs: 0.1 * (index + u64::from(index >= 7)) as f64 + 0.01,
                name: None,
            };
            sink.write(drawn).expect("frame");
        }
        let said = Box::new(sink).finish().expect("finish").expect("written");
        assert!(said.starts_with("5 snapshots"), "{said}");
        let listed = std::fs::read_dir(folder.path().join("shots")).expect("folder");
        let mut names: Vec<String> = listed
            .map(|entry| {
                entry
                    .expect("entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        assert_eq!(names[0], "snapshot-000000.png");
        assert_eq!(names.len(), 5, "{names:?}");
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
