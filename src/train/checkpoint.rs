//! A checkpoint file: the recipe, how far the training is, the forward graph it started from and every vector of the
//! training state, in one file that is written whole or not at all. It knows nothing of what the vectors mean.
//!
//! Layout, little endian: the 8 bytes `MAGIC`, the length of the header (u64), the header (TOML, whose
//! numbers come back bit for bit), the blobs one after
//! another as the header lists them, and the 64-bit FNV-1a hash of everything before it.

use super::{
    progress::Progress,
    recipe::Recipe,
    step::{StepError, TrainingState, TrainingStep},
    whole_file::write_whole,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// First bytes of every checkpoint; the last byte is the version of the layout.
const MAGIC: [u8; 8] = *b"FMCKPT\n\x01";
const HASH_BYTES: usize = 8;

/// Name of the newest checkpoint in an output folder.
pub const LATEST: &str = "checkpoint.fmc";
/// Name of the checkpoint with the best validation result in an output folder.
pub const BEST: &str = "best.fmc";

/// Everything that a training needs to go on as if it had never stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// What is being trained, and how.
    pub recipe: Recipe,
    /// How far it is.
    pub progress: Progress,
    /// The mean shape of the training faces in the face box, `[x0, y0, ...]`; the baseline that reports show.
    pub mean_shape: Option<Vec<f32>>,
    /// The forward graph as it was before the first step, an ONNX file's bytes.
    pub forward_onnx: Vec<u8>,
    /// The vectors of the training state by name (`parameters`, `moment1`, ...).
    pub vectors: BTreeMap<String, Vec<f32>>,
}

/// Why a checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be read.
    #[error("{path}: cannot read the checkpoint: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("{path}: cannot write the checkpoint: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error(
        "{path}: not a checkpoint of this version of facemark-train: expected the first bytes {expected:?}, found \
         {found:?}"
    )]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
        /// The first bytes of a checkpoint.
        expected: [u8; 8],
        /// The first bytes of the file.
        found: Vec<u8>,
    },
    /// The file is shorter or longer than its header says.
    #[error("{path}: the checkpoint is damaged: expected {expected} bytes, found {found}")]
    Length {
        /// The file.
        path: PathBuf,
        /// Length that the header asks for.
        expected: u64,
        /// Length of the file.
        found: u64,
    },
    /// A byte has changed.
    #[error(
        "{path}: the checkpoint is damaged: expected checksum {expected:016x}, found {found:016x}"
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The checksum in the file.
        expected: u64,
        /// The checksum of its content.
        found: u64,
    },
    /// The header is not what this version writes.
    #[error("{path}: the checkpoint's header cannot be used: {reason}")]
    Header {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    recipe: Recipe,
    progress: Progress,
    mean_shape: Option<Vec<f32>>,
    forward_onnx_bytes: u64,
    vectors: Vec<VectorEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VectorEntry {
    name: String,
    values: u64,
}

impl Checkpoint {
    /// Writes the checkpoint: to a temporary file beside `path`, which then takes its name.
    ///
    /// # Errors
    /// [`CheckpointError::Write`].
    pub fn write(&self, path: &Path) -> Result<(), CheckpointError> {
        let failed = |source| CheckpointError::Write {
            path: path.to_owned(),
            source,
        };
        let bytes = self
            .to_bytes()
            .map_err(|error| failed(std::io::Error::other(error)))?;
        write_whole(path, &bytes).map_err(failed)
    }

    /// The vectors of a training state, as [`Checkpoint::vectors`] keeps them.
    pub fn vectors_of(state: &TrainingState) -> BTreeMap<String, Vec<f32>> {
        state
            .vectors()
            .into_iter()
            .map(|(name, vector)| (name.to_owned(), vector.to_vec()))
            .collect()
    }

    /// The training state.
    ///
    /// # Errors
    /// It does not belong to `step`.
    pub fn state(&self, step: &TrainingStep) -> Result<TrainingState, StepError> {
        let mut state = TrainingState {
            step: self.progress.step,
            ..TrainingState::default()
        };
        for (name, vector) in state.vectors_mut() {
            *vector = self.vectors.get(name).cloned().unwrap_or_default();
        }
        step.check_state(&state)?;
        Ok(state)
    }

    fn to_bytes(&self) -> Result<Vec<u8>, toml::ser::Error> {
        let header = toml::to_string(&Header {
            recipe: self.recipe.clone(),
            progress: self.progress.clone(),
            mean_shape: self.mean_shape.clone(),
            forward_onnx_bytes: self.forward_onnx.len() as u64,
            vectors: self
                .vectors
                .iter()
                .map(|(name, values)| VectorEntry {
                    name: name.clone(),
                    values: values.len() as u64,
                })
                .collect(),
        })?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&self.forward_onnx);
        for value in self.vectors.values().flatten() {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        let hash = fnv1a(&bytes);
        bytes.extend_from_slice(&hash.to_le_bytes());
        Ok(bytes)
    }

    /// Reads a checkpoint file, or the newest checkpoint of an output folder.
    ///
    /// # Errors
    /// The file is missing, is no checkpoint, or is damaged.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        let path = if path.is_dir() {
            path.join(LATEST)
        } else {
            path.to_owned()
        };
        let bytes = fs::read(&path).map_err(|source| CheckpointError::Read {
            path: path.clone(),
            source,
        })?;
        Self::from_bytes(&bytes, &path)
    }

    fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, CheckpointError> {
        let found = bytes.len() as u64;
        let wrong_length = |expected: u64| CheckpointError::Length {
            path: path.to_owned(),
            expected,
            found,
        };
        let Some(rest) = bytes.strip_prefix(&MAGIC) else {
            return Err(CheckpointError::NotACheckpoint {
                path: path.to_owned(),
                expected: MAGIC,
                found: bytes[..bytes.len().min(MAGIC.len())].to_vec(),
            });
        };
        let smallest = (MAGIC.len() + 8 + HASH_BYTES) as u64;
        let (header_length, rest) = rest
            .split_first_chunk::<8>()
            .ok_or_else(|| wrong_length(smallest))?;
        let header_length = u64::from_le_bytes(*header_length);
        if found < smallest.saturating_add(header_length) {
            return Err(wrong_length(smallest.saturating_add(header_length)));
        }
        let (header, blobs) = rest.split_at(header_length as usize);
        let header: Header = toml::from_slice(header).map_err(|error| CheckpointError::Header {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        let values = header
            .vectors
            .iter()
            .fold(0u64, |sum, entry| sum.saturating_add(entry.values));
        let expected = smallest
            .saturating_add(header_length)
            .saturating_add(header.forward_onnx_bytes)
            .saturating_add(values.saturating_mul(4));
        if expected != found {
            return Err(wrong_length(expected));
        }
        check_hash(bytes, path)?;
        let (forward_onnx, mut floats) = blobs.split_at(header.forward_onnx_bytes as usize);
        let mut vectors = BTreeMap::new();
        for entry in header.vectors {
            let (vector, rest) = floats.split_at(entry.values as usize * 4);
            let (chunks, _) = vector.as_chunks::<4>();
            vectors.insert(
                entry.name,
                chunks
                    .iter()
                    .map(|&chunk| f32::from_le_bytes(chunk))
                    .collect(),
            );
            floats = rest;
        }
        Ok(Self {
            recipe: header.recipe,
            progress: header.progress,
            mean_shape: header.mean_shape,
            forward_onnx: forward_onnx.to_vec(),
            vectors,
        })
    }
}

fn check_hash(bytes: &[u8], path: &Path) -> Result<(), CheckpointError> {
    let (content, stored) = bytes
        .split_last_chunk::<HASH_BYTES>()
        .expect("the length was checked");
    let (expected, found) = (u64::from_le_bytes(*stored), fnv1a(content));
    if expected == found {
        Ok(())
    } else {
        Err(CheckpointError::Checksum {
            path: path.to_owned(),
            expected,
            found,
        })
    }
}

/// 64-bit FNV-1a (Fowler, Noll, Vo): finds damage, not malice.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            recipe: Recipe::default(),
            progress: Progress {
                step: 17,
                loss_sum: 0.1 + 0.2,
                ..Progress::default()
            },
            mean_shape: Some(vec![0.1, 0.2]),
            forward_onnx: vec![8, 9, 10],
            vectors: BTreeMap::from([
                ("moment1".to_owned(), vec![]),
                ("parameters".to_owned(), vec![1.5, -0.0, f32::MIN_POSITIVE]),
            ]),
        }
    }

    #[test]
    fn a_checkpoint_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        checkpoint().write(&folder.path().join(LATEST)).unwrap();
        assert_eq!(Checkpoint::read(folder.path()).unwrap(), checkpoint());
    }

    #[test]
    fn every_cut_is_noticed() {
        let bytes = checkpoint().to_bytes().unwrap();
        for length in 0..bytes.len() {
            let error = Checkpoint::from_bytes(&bytes[..length], Path::new("a.fmc")).unwrap_err();
            assert!(error.to_string().contains("a.fmc"), "{length}: {error}");
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let bytes = checkpoint().to_bytes().unwrap();
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 0x10;
            assert!(
                Checkpoint::from_bytes(&damaged, Path::new("a.fmc")).is_err(),
                "byte {index}"
            );
        }
    }
}
