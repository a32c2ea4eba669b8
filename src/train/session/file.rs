//! An ONNX file run as it is: the other side of parity tests.

use super::{NamedValues, SessionError, library};
use ort::session::{Session, SessionInputValue, builder::GraphOptimizationLevel};
use std::borrow::Cow;

/// A file in a session of ONNX Runtime on the CPU, with all graph optimisations, as any program would open it.
#[derive(Debug)]
pub struct FileSession {
    session: Session,
    name: String,
}

impl FileSession {
    /// Prepares the bytes of an ONNX file; errors call it `name`.
    ///
    /// # Errors
    /// ONNX Runtime's library is missing, or it refuses the file.
    pub fn new(bytes: &[u8], name: &str, threads: usize) -> Result<Self, SessionError> {
        let environment = library::environment()?;
        let build = || -> ort::Result<Session> {
            Session::builder(&environment)?
                .with_intra_threads(threads.max(1))?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_intra_op_spinning(false)?
                .commit_from_memory(bytes)
        };
        let session = build().map_err(|error| SessionError::Graph {
            graph: name.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            session,
            name: name.to_owned(),
        })
    }

    /// Runs on f32 inputs given as (name, shape, values) and returns the outputs, all of f32, by name.
    ///
    /// # Errors
    /// An input does not fit, an output is not of f32, or ONNX Runtime fails.
    pub fn run(
        &mut self,
        inputs: &[(&str, &[usize], &[f32])],
    ) -> Result<NamedValues, SessionError> {
        let name = self.name.clone();
        let failed = |error: ort::Error| SessionError::Run {
            graph: name.clone(),
            reason: error.to_string(),
        };
        let mut values: Vec<(Cow<str>, SessionInputValue)> = Vec::with_capacity(inputs.len());
        for &(name, shape, data) in inputs {
            let tensor = ort::value::Tensor::from_array((shape.to_vec(), data.to_vec()));
            values.push((Cow::Borrowed(name), tensor.map_err(failed)?.into()));
        }
        let outputs = self.session.run(values).map_err(failed)?;
        outputs
            .iter()
            .map(|(name, value)| {
                let (shape, data) = value.try_extract_tensor::<f32>().map_err(failed)?;
                let shape = shape.iter().map(|&size| size as usize).collect();
                Ok((name.to_owned(), (shape, data.to_vec())))
            })
            .collect()
    }
}
