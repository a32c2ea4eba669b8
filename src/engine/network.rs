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
    program: Program,
    /// Programs for other input sizes, the latest used last.
    resting: Vec<Program>,
    file: OnnxFile,
    options: EngineOptions,
}

/// The network prepared for one input size.
struct Program {
    size: (usize, usize),
    plan: Plan,
    input: Arc<Tensor>,
}

/// Programs for other sizes that are kept: pictures of a folder often come in a few sizes.
const MOST_RESTING: usize = 6;

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
        let program = Program::prepare(&file, &card, options)?;
        tracing::debug!(model = card.name, path = %path.display(), "model loaded");
        Ok(Self {
            card,
            program,
            resting: Vec::new(),
            file,
            options: options.clone(),
        })
    }
}

impl Program {
    fn prepare(
        file: &OnnxFile,
        card: &ModelCard,
        options: &EngineOptions,
    ) -> Result<Self, ModelError> {
        let plan = file.plan(options, Some(card.normalization))?;
        check_interface(card, &plan, &file.path)?;
        let input = if plan.takes_bytes {
            let bytes = [card.input_height, card.input_width, card.color.channels()];
            Tensor::zero::<u8>(&[&[1], &bytes[..]].concat())
        } else {
            Tensor::zero::<f32>(&plan.inputs[0].shape)
        };
        let input = input
            .map_err(|error| ModelError::Prepare {
                path: file.path.clone(),
                reason: format!("{error:#}"),
            })?
            .into();
        Ok(Self {
            size: (card.input_width, card.input_height),
            plan,
            input,
        })
    }
}

impl Infer for Engine {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn infer(&mut self, crop: &Crop, outputs: &mut Outputs) -> Result<(), InferError> {
        self.fill_input(crop)?;
        let Program { plan, input, .. } = &mut self.program;
        let run = plan.run([Arc::clone(input)], |port, value| {
            let values = value.try_as_plain_ram()?.as_slice::<f32>()?;
            outputs.set(&port.name, value.shape(), values);
            Ok(())
        });
        run.map_err(|error| self.failed(&error))
    }

    /// A size that is new takes as long as loading the model; those used last are kept.
    fn set_input_size(&mut self, width: usize, height: usize) -> Result<(), InferError> {
        let size = (width, height);
        if self.program.size == size {
            return Ok(());
        }
        let known = self.resting.iter().position(|rests| rests.size == size);
        let program = match known {
            Some(index) => self.resting.remove(index),
            None => self.prepare_for(width, height)?,
        };
        (self.card.input_width, self.card.input_height) = size;
        self.resting
            .push(std::mem::replace(&mut self.program, program));
        if self.resting.len() > MOST_RESTING {
            self.resting.remove(0);
        }
        Ok(())
    }
}

impl Engine {
    /// The integer kernels that run its int8 part, if it has one.
    pub fn kernel_set(&self) -> KernelSet {
        self.options.kernel_set()
    }

    fn prepare_for(&self, width: usize, height: usize) -> Result<Program, InferError> {
        const LARGEST: usize = 4096;
        let largest_stride = match &self.card.task {
            Task::FaceDetection { strides } => strides.last().copied(),
            Task::Landmarks { .. } => None,
        };
        let fits = |edge: usize| {
            largest_stride.is_some_and(|stride| edge.is_multiple_of(stride))
                && (1..=LARGEST).contains(&edge)
        };
        if !fits(width) || !fits(height) {
            let name = self.card.name.clone();
            return Err(InferError::Input {
                model: name,
                expected: match largest_stride {
                    Some(stride) => format!("multiples of {stride} up to {LARGEST}"),
                    None => format!("{}x{}", self.card.input_width, self.card.input_height),
                },
                found: format!("{width}x{height}"),
            });
        }
        let card = ModelCard {
            input_width: width,
            input_height: height,
            ..self.card.clone()
        };
        let file = self.file.with_image_size(width, height);
        Program::prepare(&file, &card, &self.options).map_err(|error| InferError::Engine {
            model: self.card.name.clone(),
            reason: format!("at {width}x{height}: {error}"),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.card.name
    }

    pub(super) fn plan_and_input(&mut self) -> (&mut Plan, &Arc<Tensor>) {
        (&mut self.program.plan, &self.program.input)
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
        let Program { plan, input, .. } = &mut self.program;
        let input = Arc::make_mut(input);
        let mut fill = || -> TractResult<()> {
            let mut view = input.try_as_plain_ram_mut()?;
            if plan.takes_bytes {
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
