//! Any ONNX file on raw tensors: what comes out can be compared with another runtime, number by number.

use super::{
    EngineOptions,
    inspection::Port,
    plan::{OnnxFile, Plan},
};
use crate::model::{InferError, ModelError, Output};
use std::{path::Path, sync::Arc};
use tract_core::internal::{Datum, DatumType, Tensor, TractError};

/// A tensor to feed.
#[derive(Clone, Debug, PartialEq)]
pub struct RawTensor {
    /// Shape.
    pub shape: Vec<usize>,
    /// Values, row by row. They are cast to the element type of the input they feed.
    pub values: Vec<f32>,
}

/// A network without a card.
pub struct RawModel {
    name: String,
    plan: Plan,
}

impl RawModel {
    /// Loads any ONNX file whose inputs have fixed sizes.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        Self::load_with(path, &EngineOptions::default())
    }

    /// [`RawModel::load`] with a choice of kernels and threads.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn load_with(path: &Path, options: &EngineOptions) -> Result<Self, ModelError> {
        Self::prepare(&OnnxFile::read(path)?, options)
    }

    /// Loads the bytes of an ONNX file; errors call it `name`.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn from_bytes(bytes: &[u8], name: &Path) -> Result<Self, ModelError> {
        Self::from_bytes_with(bytes, name, &EngineOptions::default())
    }

    /// [`RawModel::from_bytes`] with a choice of kernels and threads.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn from_bytes_with(
        bytes: &[u8],
        name: &Path,
        options: &EngineOptions,
    ) -> Result<Self, ModelError> {
        Self::prepare(&OnnxFile::decode(bytes, name)?, options)
    }

    fn prepare(file: &OnnxFile, options: &EngineOptions) -> Result<Self, ModelError> {
        Ok(Self {
            name: file.path.display().to_string(),
            plan: file.plan(options, None)?,
        })
    }

    /// The inputs, in order.
    pub fn inputs(&self) -> Vec<Port> {
        self.plan.inputs.iter().map(Port::from).collect()
    }

    /// The outputs, in order.
    pub fn outputs(&self) -> Vec<Port> {
        self.plan.outputs.iter().map(Port::from).collect()
    }

    /// Runs on `inputs`, one for each of [`RawModel::inputs`] in that order; all outputs, cast to f32.
    ///
    /// # Errors
    /// An input has another shape, or the engine failed.
    pub fn run(&mut self, inputs: &[RawTensor]) -> Result<Vec<Output>, InferError> {
        let describe = |shapes: Vec<&[usize]>| format!("{shapes:?}");
        let expected: Vec<&[usize]> = self.plan.inputs.iter().map(|port| &*port.shape).collect();
        let found: Vec<&[usize]> = inputs.iter().map(|input| &*input.shape).collect();
        let fits = |input: &RawTensor| input.shape.iter().product::<usize>() == input.values.len();
        if expected != found || !inputs.iter().all(fits) {
            return Err(InferError::Input {
                model: self.name.clone(),
                expected: describe(expected),
                found: describe(found),
            });
        }
        let failed = |error: TractError| InferError::Engine {
            model: self.name.clone(),
            reason: format!("{error:#}"),
        };
        let mut tensors = Vec::new();
        for (port, input) in self.plan.inputs.iter().zip(inputs) {
            tensors.push(tensor(input, port.element).map_err(failed)?);
        }
        let mut outputs = Vec::new();
        let run = self.plan.run(tensors, |port, value| {
            let floats = value.cast_to::<f32>()?;
            outputs.push(Output {
                name: port.name.clone(),
                shape: value.shape().to_vec(),
                values: floats.try_as_plain_ram()?.as_slice::<f32>()?.to_vec(),
            });
            Ok(())
        });
        run.map_err(failed)?;
        Ok(outputs)
    }
}

fn tensor(input: &RawTensor, element: DatumType) -> Result<Arc<Tensor>, TractError> {
    let floats = Tensor::from_shape(&input.shape, &input.values)?;
    if element == f32::datum_type() {
        return Ok(floats.into());
    }
    Ok(floats.cast_to_dt(element)?.into_owned().into())
}
