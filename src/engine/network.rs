//! A model of ours, ready to run: the card is read, and the graph is held to what the card promises.

use super::{
    EngineOptions,
    plan::{OnnxFile, Plan, PlanPort},
};
use crate::{
    crop::Crop,
    model::{Infer, InferError, ModelCard, ModelError, Outputs, Task},
};
use std::{path::Path, sync::Arc};
use tract_core::internal::{Datum, Tensor};

/// A network on the CPU. After the first run the input buffer and [`Outputs`] are reused. The int8 part of a network
/// allocates nothing a run; for a float operator tract allocates its result.
pub struct Engine {
    card: ModelCard,
    plan: Plan,
    input: Arc<Tensor>,
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
        Ok(Self { card, plan, input })
    }
}

impl Infer for Engine {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn infer(&mut self, crop: &Crop, outputs: &mut Outputs) -> Result<(), InferError> {
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
        let failed = |error: tract_core::internal::TractError| InferError::Engine {
            model: card.name.clone(),
            reason: format!("{error:#}"),
        };
        // tract has let go of the last frame's input, so this does not copy.
        let input = Arc::make_mut(&mut self.input);
        let mut view = input.try_as_plain_ram_mut().map_err(failed)?;
        if self.plan.takes_bytes {
            let bytes = view.as_slice_mut::<u8>().map_err(failed)?;
            bytes.copy_from_slice(crop.bytes());
        } else {
            let planes = view.as_slice_mut::<f32>().map_err(failed)?;
            card.normalization.write_planes(crop, planes);
        }
        self.plan
            .run([Arc::clone(&self.input)], |port, value| {
                let values = value.try_as_plain_ram()?.as_slice::<f32>()?;
                outputs.set(&port.name, value.shape(), values);
                Ok(())
            })
            .map_err(failed)
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
