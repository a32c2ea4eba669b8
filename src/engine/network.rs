//! A model of ours, ready to run: the card is read, and the graph is held to what the card promises.

use super::{
    EngineOptions, KernelSet,
    plan::{OnnxFile, Plan, PlanPort},
};
use crate::{
    crop::Crop,
    model::{Infer, InferError, ModelCard, ModelError, Outputs, Task},
};
use std::{path::Path, sync::Arc};
use tract_core::internal::{Datum, Tensor, TractError, TractResult};

/// A network on the CPU. After the first run the input buffer and [`Outputs`] are reused. The int8 part of a network
/// allocates nothing a run; for a float operator tract allocates its result.
pub struct Engine {
    card: ModelCard,
    plan: Plan,
    input: Arc<Tensor>,
    kernels: KernelSet,
}

impl Engine {
    /// Loads an ONNX file that `facemark-train export` wrote.
    ///
    /// # Errors
    /// See [`ModelError`]: the file is damaged or foreign, an operator is not supported, or inputs and outputs are not
    /// what the card promises.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        Self::load_with(path, &EngineOptions::default())
    }

    /// [`Engine::load`] with a choice of kernels and threads.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn load_with(path: &Path, options: &EngineOptions) -> Result<Self, ModelError> {
        let file = OnnxFile::read(path)?;
        let card = ModelCard::from_metadata(&file.metadata(), path)?;
        let plan = file.plan(options, Some(card.normalization))?;
        check_interface(&card, &plan, path)?;
        let input = if plan.takes_bytes {
            let bytes = [card.input_height, card.input_width, card.color.channels()];
            Tensor::zero::<u8>(&[&[1], &bytes[..]].concat())
        } else {
            Tensor::zero::<f32>(&plan.inputs[0].shape)
        };
        let input = input
            .map_err(|error| ModelError::Prepare {
                path: path.to_owned(),
                reason: format!("{error:#}"),
            })?
            .into();
        tracing::debug!(model = card.name, path = %path.display(), "model loaded");
        Ok(Self {
            card,
            plan,
            input,
            kernels: options.kernel_set(),
        })
    }
}

impl Infer for Engine {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn infer(&mut self, crop: &Crop, outputs: &mut Outputs) -> Result<(), InferError> {
        self.fill_input(crop)?;
        let run = self.plan.run([Arc::clone(&self.input)], |port, value| {
            let values = value.try_as_plain_ram()?.as_slice::<f32>()?;
            outputs.set(&port.name, value.shape(), values);
            Ok(())
        });
        run.map_err(|error| self.failed(&error))
    }
}

impl Engine {
    /// The integer kernels that run its int8 part, if it has one.
    pub fn kernel_set(&self) -> KernelSet {
        self.kernels
    }

    pub(super) fn name(&self) -> &str {
        &self.card.name
    }

    pub(super) fn plan_and_input(&mut self) -> (&mut Plan, &Arc<Tensor>) {
        (&mut self.plan, &self.input)
    }

    fn failed(&self, error: &TractError) -> InferError {
        InferError::Engine {
            model: self.card.name.clone(),
            reason: format!("{error:#}"),
        }
    }

    /// Copies `crop` into the plan's input.
    pub(super) fn fill_input(&mut self, crop: &Crop) -> Result<(), InferError> {
        let card = &self.card;
        let found = (crop.width(), crop.height(), crop.color());
        if found != (card.input_width, card.input_height, card.color) {
            let describe = |(width, height, color): (usize, usize, crate::crop::Color)| {
                format!("{width}x{height} {}", color.name())
            };
            return Err(InferError::Input {
                model: card.name.clone(),
                expected: describe((card.input_width, card.input_height, card.color)),
                found: describe(found),
            });
        }
        // tract has let go of the last frame's input, so this does not copy.
        let input = Arc::make_mut(&mut self.input);
        let mut fill = || -> TractResult<()> {
            let mut view = input.try_as_plain_ram_mut()?;
            if self.plan.takes_bytes {
                view.as_slice_mut::<u8>()?.copy_from_slice(crop.bytes());
            } else {
                let planes = view.as_slice_mut::<f32>()?;
                card.normalization.write_planes(crop, planes);
            }
            Ok(())
        };
        fill().map_err(|error| self.failed(&error))
    }
}

/// Name of the one input.
const INPUT: &str = "image";

fn check_interface(card: &ModelCard, plan: &Plan, path: &Path) -> Result<(), ModelError> {
    let promised = [
        1,
        card.color.channels(),
        card.input_height,
        card.input_width,
    ];
    if plan.inputs.len() != 1 {
        let names: Vec<&str> = plan.inputs.iter().map(|port| port.name.as_str()).collect();
        return Err(ModelError::Interface {
            path: path.to_owned(),
            what: "inputs".to_owned(),
            expected: format!("the one input {INPUT:?}"),
            found: format!("{names:?}"),
        });
    }
    check_port("input", &plan.inputs, INPUT, &promised, path)?;
    let check =
        |name: &str, shape: &[usize]| check_port("output", &plan.outputs, name, shape, path);
    match &card.task {
        Task::Landmarks { scheme, .. } => {
            check("landmarks", &[1, 2 * scheme.landmark_count()])?;
            if plan.outputs.iter().any(|port| port.name == "presence") {
                check("presence", &[1, 1])?;
            }
            if plan.outputs.iter().any(|port| port.name == "uncertainty") {
                check("uncertainty", &[1, scheme.landmark_count()])?;
            }
        }
        Task::FaceDetection { strides } => {
            for stride in strides {
                let (height, width) = (card.input_height / stride, card.input_width / stride);
                check(&format!("score_{stride}"), &[1, 1, height, width])?;
                check(&format!("box_{stride}"), &[1, 4, height, width])?;
            }
        }
    }
    Ok(())
}

fn check_port(
    kind: &str,
    ports: &[PlanPort],
    name: &str,
    shape: &[usize],
    path: &Path,
) -> Result<(), ModelError> {
    let wrong = |found: String| ModelError::Interface {
        path: path.to_owned(),
        what: format!("{kind} {name:?}"),
        expected: format!("f32 {shape:?}"),
        found,
    };
    let Some(port) = ports.iter().find(|port| port.name == name) else {
        let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
        return Err(wrong(format!("none of that name among {names:?}")));
    };
    if port.shape != shape || port.element != f32::datum_type() {
        let element = format!("{:?}", port.element).to_lowercase();
        return Err(wrong(format!("{element} {:?}", port.shape)));
    }
    Ok(())
}
