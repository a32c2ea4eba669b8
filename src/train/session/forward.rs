//! A graph that is only run forward: evaluation while training, and the tests' way to compute any graph.

use super::{Device, SessionError, open};
use crate::{
    crop::Crop,
    model::{Infer, InferError, ModelCard, Outputs},
    train::graph::{Graph, Tensor, TensorData, TensorType},
};
use ort::{
    session::{Session, SessionInputValue},
    value::{DynValue, TensorElementType},
};
use std::{borrow::Cow, collections::BTreeMap};

/// Shape and values of each output by name.
pub type NamedValues = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A graph ready to run.
#[derive(Debug)]
pub struct ForwardSession {
    session: Session,
    name: String,
    inputs: Vec<(String, TensorType)>,
    device: Device,
}

impl ForwardSession {
    /// Prepares `graph` to run on `device` with `threads` CPU threads.
    ///
    /// # Errors
    /// ONNX Runtime's library or the device is missing, or the graph is refused.
    pub fn new(graph: &Graph, device: Device, threads: usize) -> Result<Self, SessionError> {
        Self::on_resolved(graph, device.resolve()?, threads)
    }

    pub(super) fn on_resolved(
        graph: &Graph,
        device: Device,
        threads: usize,
    ) -> Result<Self, SessionError> {
        let session = open(graph, device, threads)?;
        Ok(Self {
            session,
            name: graph.name.clone(),
            inputs: graph.inputs.clone(),
            device,
        })
    }

    /// The device it runs on: never [`Device::Auto`].
    pub fn device(&self) -> Device {
        self.device
    }

    /// Runs on f32 inputs given as (name, shape, values) and returns the outputs by name.
    ///
    /// # Errors
    /// An input is missing or does not fit, an output is not of f32, or ONNX Runtime fails.
    pub fn run(
        &mut self,
        inputs: &[(&str, &[usize], &[f32])],
    ) -> Result<NamedValues, SessionError> {
        let mut values = Vec::with_capacity(inputs.len());
        for &(name, shape, data) in inputs {
            if shape.iter().product::<usize>() != data.len() {
                return Err(SessionError::Tensor {
                    name: name.to_owned(),
                    expected: format!("as many values as shape {shape:?} has"),
                    found: format!("{} values", data.len()),
                });
            }
            self.check(name, &TensorType::f32(shape))?;
            let tensor = ort::value::Tensor::from_array((shape.to_vec(), data.to_vec()))
                .map_err(|error| self.failed(error))?;
            values.push((name, tensor.into_dyn()));
        }
        let mut outputs = BTreeMap::new();
        for (name, tensor) in self.run_values(values)? {
            let found = tensor.tensor_type();
            let TensorData::F32(data) = tensor.data else {
                return Err(SessionError::Tensor {
                    name,
                    expected: "an output of 32-bit floats".to_owned(),
                    found: found.to_string(),
                });
            };
            outputs.insert(name, (tensor.shape, data));
        }
        Ok(outputs)
    }

    /// Runs on inputs of any element type and returns the outputs in the graph's order.
    ///
    /// # Errors
    /// An input is missing or does not fit, or ONNX Runtime fails.
    pub fn run_tensors(
        &mut self,
        inputs: &[(&str, &Tensor)],
    ) -> Result<Vec<(String, Tensor)>, SessionError> {
        let mut values = Vec::with_capacity(inputs.len());
        for &(name, tensor) in inputs {
            self.check(name, &tensor.tensor_type())?;
            values.push((name, to_value(tensor).map_err(|error| self.failed(error))?));
        }
        self.run_values(values)
    }

    fn run_values(
        &mut self,
        values: Vec<(&str, DynValue)>,
    ) -> Result<Vec<(String, Tensor)>, SessionError> {
        for (name, of) in &self.inputs {
            if !values.iter().any(|(given, _)| given == name) {
                return Err(SessionError::Tensor {
                    name: name.clone(),
                    expected: of.to_string(),
                    found: "nothing".to_owned(),
                });
            }
        }
        let values: Vec<(Cow<str>, SessionInputValue)> = values
            .into_iter()
            .map(|(name, value)| (Cow::Borrowed(name), SessionInputValue::from(value)))
            .collect();
        let graph = self.name.clone();
        let failed = |error: ort::Error| SessionError::Run {
            graph: graph.clone(),
            reason: error.to_string(),
        };
        let outputs = self.session.run(values).map_err(failed)?;
        outputs
            .iter()
            .map(|(name, value)| Ok((name.to_owned(), from_value(&value).map_err(failed)?)))
            .collect()
    }

    fn check(&self, name: &str, found: &TensorType) -> Result<(), SessionError> {
        let expected = self.inputs.iter().find(|(input, _)| input == name);
        match expected {
            Some((_, expected)) if expected == found => Ok(()),
            _ => Err(SessionError::Tensor {
                name: name.to_owned(),
                expected: expected.map_or("no such input".to_owned(), |(_, of)| of.to_string()),
                found: found.to_string(),
            }),
        }
    }

    fn failed(&self, error: ort::Error) -> SessionError {
        SessionError::Run {
            graph: self.name.clone(),
            reason: error.to_string(),
        }
    }
}

fn to_value(tensor: &Tensor) -> ort::Result<DynValue> {
    let shape = tensor.shape.clone();
    Ok(match &tensor.data {
        TensorData::F32(v) => ort::value::Tensor::from_array((shape, v.clone()))?.into_dyn(),
        TensorData::F64(v) => ort::value::Tensor::from_array((shape, v.clone()))?.into_dyn(),
        TensorData::I64(v) => ort::value::Tensor::from_array((shape, v.clone()))?.into_dyn(),
        TensorData::I32(v) => ort::value::Tensor::from_array((shape, v.clone()))?.into_dyn(),
        TensorData::Bool(v) => ort::value::Tensor::from_array((shape, v.clone()))?.into_dyn(),
        TensorData::U8(v) => ort::value::Tensor::from_array((shape, v.clone()))?.into_dyn(),
        TensorData::I8(v) => ort::value::Tensor::from_array((shape, v.clone()))?.into_dyn(),
    })
}

fn from_value(value: &DynValue) -> ort::Result<Tensor> {
    fn take<T: ort::value::PrimitiveTensorElementType + Clone>(
        value: &DynValue,
        wrap: impl FnOnce(Vec<T>) -> TensorData,
    ) -> ort::Result<Tensor> {
        let (shape, data) = value.try_extract_tensor::<T>()?;
        let shape: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
        Ok(Tensor::new(&shape, wrap(data.to_vec())))
    }
    match value.dtype().tensor_type() {
        Some(TensorElementType::Float32) => take(value, TensorData::F32),
        Some(TensorElementType::Float64) => take(value, TensorData::F64),
        Some(TensorElementType::Int64) => take(value, TensorData::I64),
        Some(TensorElementType::Int32) => take(value, TensorData::I32),
        Some(TensorElementType::Bool) => take(value, TensorData::Bool),
        Some(TensorElementType::Uint8) => take(value, TensorData::U8),
        Some(TensorElementType::Int8) => take(value, TensorData::I8),
        other => Err(ort::Error::new(format!(
            "an output of an element type that facemark does not use: {other:?}"
        ))),
    }
}

/// A model of ours run by ONNX Runtime: what validation while training uses, and the other side of parity tests.
#[derive(Debug)]
pub struct SessionModel {
    card: ModelCard,
    session: ForwardSession,
    input: String,
    planes: Vec<f32>,
}

impl SessionModel {
    /// Prepares the forward graph of a model (one input, batch 1) whose card is `card`.
    ///
    /// # Errors
    /// As [`ForwardSession::new`], or the input does not fit the card.
    pub fn new(
        graph: &Graph,
        card: ModelCard,
        device: Device,
        threads: usize,
    ) -> Result<Self, SessionError> {
        let shape = [
            1,
            card.color.channels(),
            card.input_height,
            card.input_width,
        ];
        let expected = TensorType::f32(&shape);
        let input = match graph.inputs.as_slice() {
            [(name, found)] if *found == expected => name.clone(),
            found => {
                return Err(SessionError::Tensor {
                    name: found
                        .first()
                        .map_or(String::new(), |(name, _)| name.clone()),
                    expected: format!("one input {expected}"),
                    found: format!("{found:?}"),
                });
            }
        };
        Ok(Self {
            session: ForwardSession::new(graph, device, threads)?,
            planes: vec![0.0; expected.element_count()],
            card,
            input,
        })
    }
}

impl Infer for SessionModel {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn infer(&mut self, crop: &Crop, outputs: &mut Outputs) -> Result<(), InferError> {
        let card = &self.card;
        let wanted = (card.input_width, card.input_height, card.color);
        let found = (crop.width(), crop.height(), crop.color());
        if wanted != found {
            return Err(InferError::Input {
                model: card.name.clone(),
                expected: format!("{} x {} {}", wanted.0, wanted.1, wanted.2.name()),
                found: format!("{} x {} {}", found.0, found.1, found.2.name()),
            });
        }
        card.normalization.write_planes(crop, &mut self.planes);
        let shape = [
            1,
            card.color.channels(),
            card.input_height,
            card.input_width,
        ];
        let found = self
            .session
            .run(&[(&self.input, &shape, &self.planes)])
            .map_err(|error| InferError::Engine {
                model: self.card.name.clone(),
                reason: error.to_string(),
            })?;
        for (name, (shape, values)) in &found {
            outputs.set(name, shape, values);
        }
        Ok(())
    }
}
