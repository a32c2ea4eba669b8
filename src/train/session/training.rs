//! A training step that runs again and again with its state on the device.

use super::{Device, SessionError, open};
use crate::train::{
    graph::TensorType,
    optimizer::OptimizerConfig,
    step::{GRADIENT_NORM, LOSS, StepError, TrainingState, TrainingStep, next_name, term_output},
    target::Batch,
};
use ort::{
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{IoBinding, Session},
    value::Tensor,
};

/// What changes from step to step besides the batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepSettings {
    /// Learning rate of this step.
    pub learning_rate: f32,
}

/// What a step says.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Sum of the terms; not finite when the training has diverged.
    pub loss: f32,
    /// Each term with its coefficient, in the order of [`TrainingStep::term_names`].
    pub terms: Vec<(String, f32)>,
    /// Global norm of the gradient before clipping.
    pub gradient_norm: f32,
}

/// The device's vectors of one moment, in the order of [`TrainingState::vectors`] without the empty ones.
type StateSet = Vec<Tensor<f32>>;

/// A training in progress.
///
/// Two sets of state vectors stay on the device; a step reads one and writes the other. Only the batch goes there and
/// only the losses come back.
#[derive(Debug)]
pub struct TrainingSession {
    session: Session,
    name: String,
    device: Device,
    optimizer: OptimizerConfig,
    batch_inputs: Vec<(String, TensorType)>,
    terms: Vec<String>,
    learns_ranges: bool,
    /// Names of the vectors that are there.
    vectors: Vec<&'static str>,
    sets: [StateSet; 2],
    /// Binding `i` reads set `i` and writes the other.
    bindings: [IoBinding; 2],
    /// The set that holds the newest state.
    current: usize,
    step: u64,
}

/// Why a training does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// ONNX Runtime.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The state does not belong to the step.
    #[error(transparent)]
    State(#[from] StepError),
}

impl TrainingSession {
    /// Prepares `step` to run on `device` with `threads` CPU threads, from `state` on.
    ///
    /// # Errors
    /// ONNX Runtime's library or the device is missing, the graph is refused, or the state does not belong to the step.
    pub fn new(
        step: &TrainingStep,
        device: Device,
        threads: usize,
        state: TrainingState,
    ) -> Result<Self, StartError> {
        step.check_state(&state)?;
        let device = device.resolve()?;
        let session = open(step.graph(), device, threads)?;
        let name = step.graph().name.clone();
        let failed = |error: ort::Error| SessionError::Run {
            graph: name.clone(),
            reason: error.to_string(),
        };
        let prepared = Prepared::new(&session, device, &state, step).map_err(failed)?;
        Ok(Self {
            session,
            name,
            device,
            optimizer: *step.optimizer(),
            batch_inputs: step.batch_inputs().to_vec(),
            terms: step.term_names().to_vec(),
            learns_ranges: step.learns_ranges(),
            vectors: prepared.vectors,
            sets: prepared.sets,
            bindings: prepared.bindings,
            current: 0,
            step: state.step,
        })
    }

    /// The device it runs on: never [`Device::Auto`].
    pub fn device(&self) -> Device {
        self.device
    }

    /// Steps done, those before a resume included.
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// Does one step. The batch may hold tensors that the step does not use.
    ///
    /// # Errors
    /// A tensor of the batch is missing or does not fit, or ONNX Runtime fails.
    pub fn step(
        &mut self,
        batch: &Batch,
        settings: &StepSettings,
    ) -> Result<StepReport, SessionError> {
        for (name, of) in &self.batch_inputs {
            let found = batch.tensors.get(name);
            if !found.is_some_and(|t| t.shape == of.shape && t.values.len() == of.element_count()) {
                return Err(SessionError::Tensor {
                    name: name.clone(),
                    expected: of.to_string(),
                    found: found.map_or("nothing".to_owned(), |t| {
                        format!("shape {:?} with {} values", t.shape, t.values.len())
                    }),
                });
            }
        }
        let report = self
            .run(batch, settings)
            .map_err(|error| SessionError::Run {
                graph: self.name.clone(),
                reason: error.to_string(),
            })?;
        self.current = 1 - self.current;
        self.step += 1;
        Ok(report)
    }

    fn run(&mut self, batch: &Batch, settings: &StepSettings) -> ort::Result<StepReport> {
        let binding = &mut self.bindings[self.current];
        for (name, _) in &self.batch_inputs {
            let tensor = &batch.tensors[name];
            let value = Tensor::from_array((tensor.shape.clone(), tensor.values.clone()))?;
            binding.bind_input(name, &value)?;
        }
        let range_scalar = self
            .learns_ranges
            .then(|| self.optimizer.range_scalar(self.step));
        let scalars = self.optimizer.scalars(self.step, settings.learning_rate);
        for (name, value) in scalars.into_iter().chain(range_scalar) {
            let value = Tensor::from_array((Vec::<usize>::new(), vec![value]))?;
            binding.bind_input(name, &value)?;
        }
        let outputs = self.session.run_binding(binding)?;
        let scalar = |name: &str| -> ort::Result<f32> {
            let (_, values) = outputs[name].try_extract_tensor::<f32>()?;
            Ok(values[0])
        };
        Ok(StepReport {
            loss: scalar(LOSS)?,
            terms: self
                .terms
                .iter()
                .map(|term| Ok((term.clone(), scalar(&term_output(term))?)))
                .collect::<ort::Result<_>>()?,
            gradient_norm: scalar(GRADIENT_NORM)?,
        })
    }

    /// A copy of the state on the host.
    ///
    /// # Errors
    /// ONNX Runtime cannot copy it.
    pub fn state(&self) -> Result<TrainingState, SessionError> {
        let mut state = TrainingState {
            step: self.step,
            ..TrainingState::default()
        };
        for (name, vector) in state.vectors_mut() {
            let Some(index) = self.vectors.iter().position(|&v| v == name) else {
                continue;
            };
            *vector = self
                .to_host(&self.sets[self.current][index])
                .map_err(|error| SessionError::Run {
                    graph: self.name.clone(),
                    reason: error.to_string(),
                })?;
        }
        Ok(state)
    }

    fn to_host(&self, tensor: &Tensor<f32>) -> ort::Result<Vec<f32>> {
        match self.device {
            Device::Cuda => {
                let copy = tensor.to(AllocationDevice::CPU, 0)?;
                Ok(copy.extract_tensor().1.to_vec())
            }
            Device::Auto | Device::Cpu => Ok(tensor.extract_tensor().1.to_vec()),
        }
    }
}

/// State on the device and the bindings that use it.
struct Prepared {
    vectors: Vec<&'static str>,
    sets: [StateSet; 2],
    bindings: [IoBinding; 2],
}

impl Prepared {
    fn new(
        session: &Session,
        device: Device,
        state: &TrainingState,
        step: &TrainingStep,
    ) -> ort::Result<Self> {
        let allocation_device = match device {
            Device::Cuda => AllocationDevice::CUDA,
            Device::Auto | Device::Cpu => AllocationDevice::CPU,
        };
        let on_device = MemoryInfo::new(
            allocation_device,
            0,
            AllocatorType::Device,
            MemoryType::Default,
        )?;
        let on_host = MemoryInfo::new(
            AllocationDevice::CPU,
            0,
            AllocatorType::Device,
            MemoryType::CPUOutput,
        )?;
        let allocator = Allocator::new(session, on_device)?;
        let present: Vec<(&'static str, &[f32])> = state
            .vectors()
            .into_iter()
            .filter(|(_, values)| !values.is_empty())
            .collect();
        let empty_set = || -> ort::Result<StateSet> {
            present
                .iter()
                .map(|(_, values)| Tensor::<f32>::new(&allocator, [values.len()]))
                .collect()
        };
        let mut sets = [empty_set()?, empty_set()?];
        for (tensor, (_, values)) in sets[0].iter_mut().zip(&present) {
            match device {
                Device::Cuda => {
                    Tensor::from_array(([values.len()], values.to_vec()))?.copy_into(tensor)?
                }
                Device::Auto | Device::Cpu => {
                    tensor.extract_tensor_mut().1.copy_from_slice(values);
                }
            }
        }
        let mut bind = |read: usize| -> ort::Result<IoBinding> {
            let mut binding = session.create_binding()?;
            for (index, (name, _)) in present.iter().enumerate() {
                binding.bind_input(*name, &sets[read][index])?;
                binding.bind_output(next_name(name), &mut sets[1 - read][index])?;
            }
            let terms = step.term_names().iter().map(|term| term_output(term));
            for output in [LOSS.to_owned(), GRADIENT_NORM.to_owned()]
                .into_iter()
                .chain(terms)
            {
                binding.bind_output_to_device(output, &on_host)?;
            }
            Ok(binding)
        };
        let bindings = [bind(0)?, bind(1)?];
        Ok(Self {
            vectors: present.iter().map(|(name, _)| *name).collect(),
            sets,
            bindings,
        })
    }
}
