//! Pictures as a sequence: one file, or a folder in the order of its names. A damaged picture of a folder is skipped and
//! named; a damaged single picture is an error.

use super::{FrameStamp, Source, SourceError, SourceKind};
use crate::{frame::Frame, picture};
use std::path::{Path, PathBuf};

/// A picture or a folder of pictures.
pub struct StillSource {
    folder: Option<PathBuf>,
    files: Vec<PathBuf>,
    next: usize,
    decoded: u64,
    skipped: Vec<String>,
}

impl StillSource {
    /// One picture.
    pub fn picture(path: &Path) -> Self {
        Self {
            folder: None,
            files: vec![path.to_owned()],
            next: 0,
            decoded: 0,
            skipped: Vec::new(),
        }
    }

    /// The pictures of a folder (not of the folders in it).
    ///
    /// # Errors
    /// [`SourceError::Read`] and [`SourceError::NoPictures`].
    pub fn folder(path: &Path) -> Result<Self, SourceError> {
        let unreadable = |source| SourceError::Read {
            path: path.to_owned(),
            source,
        };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            if picture::is_picture_name(&file) {
                files.push(file);
            }
        }
        files.sort();
        let source = Self {
            folder: Some(path.to_owned()),
            files,
            next: 0,
            decoded: 0,
            skipped: Vec::new(),
        };
        if source.files.is_empty() {
            return Err(source.no_pictures(path));
        }
        Ok(source)
    }

    fn no_pictures(&self, folder: &Path) -> SourceError {
        SourceError::NoPictures {
            path: folder.to_owned(),
            expected: picture::EXTENSIONS
                .map(|ending| format!(".{ending}"))
                .join(", "),
            found: self.skipped.first().map_or_else(String::new, |first| {
                format!("; {} damaged, the first: {first}", self.skipped.len())
            }),
        }
    }
}

impl Source for StillSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Stills
    }

    fn description(&self) -> String {
        match &self.folder {
            Some(folder) => format!("{} pictures of {}", self.files.len(), folder.display()),
            None => format!("picture {}", self.files[0].display()),
        }
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Option<FrameStamp>, SourceError> {
        while let Some(file) = self.files.get(self.next) {
            self.next += 1;
            match picture::load(file) {
                Ok(loaded) => {
                    *frame = loaded;
                    let index = self.decoded;
                    self.decoded += 1;
                    return Ok(Some(FrameStamp {
                        index,
                        // A picture a second, for those who look at them one after the other.
                        time_secs: index as f64,
                    }));
                }
                Err(error) if self.folder.is_some() => {
                    tracing::warn!("skipped {error}");
                    self.skipped.push(error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
        match &self.folder {
            Some(folder) if self.decoded == 0 => Err(self.no_pictures(folder)),
            _ => Ok(None),
        }
    }

    fn frame_name(&self) -> Option<String> {
        let file = self.files.get(self.next.checked_sub(1)?)?;
        Some(file.file_stem()?.to_string_lossy().into_owned())
    }

    fn skipped(&self) -> &[String] {
        &self.skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_in_order_and_damaged_pictures_are_named() {
        let folder = tempfile::tempdir().expect("folder");
        let path = |name: &str| folder.path().join(name);
        for (name, gray) in [("b.png", 20), ("a.png", 10), ("d.PNG", 40)] {
            let frame = Frame::from_rgb(2, 2, vec![gray; 12]).expect("12 bytes");
            picture::save(&frame, &path(name)).expect("PNG");
        }
        std::fs::write(path("c.jpg"), b"").expect("empty file");
        std::fs::write(path("notes.txt"), b"no picture").expect("text");
        let mut source = StillSource::folder(folder.path()).expect("source");
        let mut frame = Frame::default();
        for (index, gray) in [10, 20, 40].into_iter().enumerate() {
            let stamp = source
                .next(&mut frame)
                .expect("frame")
                .expect("three pictures");
            assert_eq!((stamp.index, frame.pixel(0, 0)), (index as u64, [gray; 3]));
        }
        assert_eq!(source.next(&mut frame).expect("end"), None);
        assert_eq!(source.skipped().len(), 1);
        assert!(
            source.skipped()[0].contains("c.jpg"),
            "{:?}",
            source.skipped()
        );
    }

    #[test]
    fn a_folder_of_nothing_but_damage_is_an_error() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("a.jpg"), b"rubbish").expect("file");
        let mut source = StillSource::folder(folder.path()).expect("source");
        let error = source
            .next(&mut Frame::default())
            .expect_err("no picture")
            .to_string();
        assert!(
            error.contains("1 damaged") && error.contains("a.jpg"),
            "{error}"
        );
    }
}
