//! Picture files to frames and back. Decoding goes by content, not by the file's name, turns the picture upright as its
//! EXIF orientation says, and refuses a JPEG that was cut off.

use crate::frame::Frame;
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageReader,
    codecs::{jpeg::JpegEncoder, png::PngEncoder},
};
use std::{
    io::{Cursor, Write},
    path::{Path, PathBuf},
};

/// Endings of the picture formats that are read, in lower case.
pub const EXTENSIONS: [&str; 4] = ["bmp", "jpeg", "jpg", "png"];

/// Quality of the JPEG files that are written, 1 to 100.
const JPEG_QUALITY: u8 = 92;

/// Why a picture file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The file cannot be read.
    #[error("{path}: cannot read the picture: {source}")]
    Read {
        /// The picture file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The bytes are not a whole picture.
    #[error("{path}: expected a picture (JPEG, PNG or BMP), found {found}")]
    Damaged {
        /// The picture file.
        path: PathBuf,
        /// What is wrong.
        found: String,
    },
    /// The file cannot be written.
    #[error("{path}: cannot write the picture: {source}")]
    Write {
        /// The picture file.
        path: PathBuf,
        /// What the system or the encoder says.
        source: std::io::Error,
    },
    /// The name's ending is none of a format that is written.
    #[error("{path}: expected a name that ends in .png, .jpg or .jpeg")]
    UnknownFormat {
        /// The picture file.
        path: PathBuf,
    },
}

/// Whether the name ends like a picture's.
pub fn is_picture_name(path: &Path) -> bool {
    extension(path).is_some_and(|ending| EXTENSIONS.contains(&ending.as_str()))
}

/// Whether the name ends like a format that [`save`] writes.
pub fn is_writable_name(path: &Path) -> bool {
    matches!(extension(path).as_deref(), Some("png" | "jpg" | "jpeg"))
}

/// Reads and decodes a picture file.
///
/// # Errors
/// [`PictureError::Read`] and [`PictureError::Damaged`].
pub fn load(path: &Path) -> Result<Frame, PictureError> {
    let bytes = std::fs::read(path).map_err(|source| PictureError::Read {
        path: path.to_owned(),
        source,
    })?;
    decode(&bytes).map_err(|found| PictureError::Damaged {
        path: path.to_owned(),
        found,
    })
}

/// Decodes the bytes of a picture file.
///
/// # Errors
/// In words: what was found instead of a whole picture.
pub fn decode(bytes: &[u8]) -> Result<Frame, String> {
    if bytes.is_empty() {
        return Err("an empty file (0 bytes)".to_owned());
    }
    let words = |error: image::ImageError| error.to_string();
    let mut decoder = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| error.to_string())?
        .into_decoder()
        .map_err(words)?;
    let orientation = decoder.orientation().map_err(words)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(words)?;
    if is_cut_jpeg(bytes) {
        return Err("a JPEG that is cut off before its end".to_owned());
    }
    picture.apply_orientation(orientation);
    let picture = picture.into_rgb8();
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    Frame::from_rgb(width, height, picture.into_raw())
        .ok_or_else(|| "an incomplete picture".to_owned())
}

/// A format to encode a picture in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Exact: for drawings.
    Png,
    /// Small: for photographs.
    Jpeg,
}

impl Encoding {
    /// The name in web pages.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
        }
    }
}

/// The frame as the bytes of a picture file.
///
/// # Errors
/// In the encoder's words.
pub fn encode(frame: &Frame, encoding: Encoding) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let encoder = match encoding {
        Encoding::Png => write_pixels(frame, PngEncoder::new(&mut bytes)),
        Encoding::Jpeg => write_pixels(
            frame,
            JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY),
        ),
    };
    encoder.map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Writes a frame as PNG or JPEG, by the name's ending; the file appears whole or not at all.
///
/// # Errors
/// [`PictureError::UnknownFormat`] and [`PictureError::Write`].
pub fn save(frame: &Frame, path: &Path) -> Result<(), PictureError> {
    let encoding = match extension(path).as_deref() {
        Some("png") => Encoding::Png,
        Some("jpg" | "jpeg") => Encoding::Jpeg,
        _ => {
            return Err(PictureError::UnknownFormat {
                path: path.to_owned(),
            });
        }
    };
    encode(frame, encoding)
        .map_err(std::io::Error::other)
        .and_then(|bytes| write_whole(path, &bytes))
        .map_err(|source| PictureError::Write {
            path: path.to_owned(),
            source,
        })
}

fn write_pixels(frame: &Frame, encoder: impl ImageEncoder) -> image::ImageResult<()> {
    encoder.write_image(
        frame.rgb(),
        frame.width() as u32,
        frame.height() as u32,
        ExtendedColorType::Rgb8,
    )
}

fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut temporary = tempfile::Builder::new();
    // Readable as any other new file is, not only by its owner.
    #[cfg(unix)]
    temporary.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = temporary.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// Decoders fill what is missing of a JPEG with grey. A whole one ends with an end-of-image marker after its last
/// start-of-scan marker (one before it belongs to a thumbnail).
fn is_cut_jpeg(bytes: &[u8]) -> bool {
    let last = |marker: [u8; 2]| bytes.windows(2).rposition(|pair| pair == marker);
    bytes.starts_with(&[0xff, 0xd8]) && last([0xff, 0xd9]) <= last([0xff, 0xda])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient() -> Frame {
        let mut frame = Frame::new(48, 32);
        for y in 0..32 {
            for x in 0..48 {
                frame.set_pixel(x, y, [5 * x as u8, 7 * y as u8, (3 * x + 2 * y) as u8]);
            }
        }
        frame
    }

    #[test]
    fn pictures_survive_a_file() {
        let folder = tempfile::tempdir().expect("folder");
        let frame = gradient();
        let png = folder.path().join("a.PNG");
        save(&frame, &png).expect("PNG");
        assert_eq!(load(&png).expect("PNG"), frame);
        let jpeg = folder.path().join("a.jpg");
        save(&frame, &jpeg).expect("JPEG");
        let back = load(&jpeg).expect("JPEG");
        let worst = frame
            .rgb()
            .iter()
            .zip(back.rgb())
            .map(|(a, b)| a.abs_diff(*b))
            .max();
        assert!(worst < Some(24), "{worst:?}");
        let error = save(&frame, &folder.path().join("a.webp")).expect_err("no such encoder");
        assert!(error.to_string().contains(".png"), "{error}");
    }

    #[test]
    fn damaged_pictures_say_what_they_are() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.jpg");
        save(&gradient(), &path).expect("JPEG");
        let whole = std::fs::read(&path).expect("bytes");
        for (bytes, expected) in [
            (Vec::new(), "0 bytes"),
            (b"hello, I am no picture".to_vec(), "found"),
            (whole[..whole.len() - 40].to_vec(), "cut off"),
            (whole[..200].to_vec(), "found"),
        ] {
            std::fs::write(&path, &bytes).expect("write");
            let error = load(&path).expect_err(expected).to_string();
            assert!(
                error.contains(expected) && error.contains("a.jpg"),
                "{error}"
            );
        }
    }
}
