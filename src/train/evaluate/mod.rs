//! How good a network is on a split: crops as the runtime makes them, without augmentation, whole batches through a
//! network, and the metrics of `crate::metrics`. Serves the validation of each epoch and `facemark-train evaluate`.

mod detector;
mod landmarks;

pub use detector::{DetectorCases, DetectorResult, PictureResult};
pub use landmarks::{FaceResult, LandmarkCases, LandmarkResult, MeanShape};

use super::{
    dataset::Dataset,
    graph::{Graph, GraphError},
    progress::Validation,
    session::{Device, ForwardSession, SessionError, SessionModel},
};
use crate::{
    crop::Crop,
    model::{InferError, ModelCard, Output, Task, WrongTask},
};

/// Crops a run.
const BATCH: usize = 32;

/// A network that takes whole batches; tests plug in fakes.
pub trait BatchForward {
    /// Pictures a run.
    fn batch(&self) -> usize;

    /// Runs the network on `images`, `[batch, channels, height, width]` normalised as its card says.
    ///
    /// # Errors
    /// The engine failed.
    fn run(&mut self, images: &[f32]) -> Result<Vec<Output>, InferError>;
}

/// A forward graph on ONNX Runtime that takes whole batches.
pub struct Network {
    session: ForwardSession,
    input: String,
    shape: [usize; 4],
    name: String,
}

impl Network {
    /// Prepares `graph` (batch 1, one input, as its `card` says) to run on batches of `batch`.
    ///
    /// # Errors
    /// The graph cannot take that batch, or ONNX Runtime or the device is missing.
    pub fn new(
        graph: &Graph,
        card: &ModelCard,
        batch: usize,
        device: Device,
        threads: usize,
    ) -> Result<Self, EvaluateError> {
        let batched = graph.with_batch(batch)?;
        let [(input, _)] = batched.inputs.as_slice() else {
            return Err(EvaluateError::Inputs {
                model: card.name.clone(),
                found: batched.inputs.len(),
            });
        };
        Ok(Self {
            input: input.clone(),
            shape: [
                batch,
                card.color.channels(),
                card.input_height,
                card.input_width,
            ],
            name: card.name.clone(),
            session: ForwardSession::new(&batched, device, threads)?,
        })
    }
}

impl BatchForward for Network {
    fn batch(&self) -> usize {
        self.shape[0]
    }

    fn run(&mut self, images: &[f32]) -> Result<Vec<Output>, InferError> {
        let outputs = self
            .session
            .run(&[(&self.input, &self.shape, images)])
            .map_err(|error| InferError::Engine {
                model: self.name.clone(),
                reason: error.to_string(),
            })?;
        Ok(outputs
            .into_iter()
            .map(|(name, (shape, values))| Output {
                name,
                shape,
                values,
            })
            .collect())
    }
}

/// Why a network cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The model is of another task.
    #[error(transparent)]
    Task(#[from] WrongTask),
    /// The graph has not one input.
    #[error("model {model}: expected one input, found {found}")]
    Inputs {
        /// The model's name.
        model: String,
        /// Number of inputs.
        found: usize,
    },
    /// The data set has nothing to measure.
    #[error("nothing to evaluate: expected {expected}, found none")]
    NoCases {
        /// What is needed.
        expected: String,
    },
    /// A picture that could be read before cannot be read now.
    #[error("{picture}: cannot read the picture: {reason}")]
    Picture {
        /// The picture.
        picture: String,
        /// Why.
        reason: String,
    },
    /// An output is missing or has another shape.
    #[error("output {output:?} of the model: expected {expected}, found {found}")]
    Output {
        /// The output.
        output: String,
        /// What is needed.
        expected: String,
        /// What there is.
        found: String,
    },
    /// The network failed.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// ONNX Runtime refused the graph.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The graph cannot be used.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl EvaluateError {
    /// Whether arguments or input files are at fault, and not the run.
    pub fn is_bad_input(&self) -> bool {
        !matches!(self, Self::Infer(_) | Self::Session(_))
    }
}

/// What is measured on a split: one kind a task.
pub enum Cases {
    /// Faces with landmarks.
    Landmarks(LandmarkCases),
    /// Pictures with face boxes.
    Detector(DetectorCases),
}

/// What was measured on a split.
#[derive(Clone, Debug)]
pub enum Evaluation {
    /// Of a landmark model.
    Landmarks(LandmarkResult),
    /// Of a detector.
    Detector(DetectorResult),
}

impl Evaluation {
    /// The figures.
    pub fn validation(&self) -> Validation {
        match self {
            Self::Landmarks(result) => Validation::Landmarks(result.validation.clone()),
            Self::Detector(result) => Validation::Detector(result.validation.clone()),
        }
    }
}

impl Cases {
    /// Crops at most `limit` (0: all) cases of `dataset`, spread evenly. `backgrounds` and `mean_shape` serve landmark
    /// models alone.
    ///
    /// # Errors
    /// The data set has nothing for the model's task, or a picture can no longer be read.
    pub fn prepare(
        dataset: &Dataset,
        backgrounds: Option<&Dataset>,
        card: &ModelCard,
        mean_shape: Option<MeanShape>,
        limit: usize,
    ) -> Result<Self, EvaluateError> {
        match card.task {
            Task::Landmarks { .. } => {
                LandmarkCases::prepare(dataset, backgrounds, card, mean_shape, limit)
                    .map(Self::Landmarks)
            }
            Task::FaceDetection { .. } => {
                DetectorCases::prepare(dataset, limit).map(Self::Detector)
            }
        }
    }

    /// Faces or pictures.
    pub fn count(&self) -> usize {
        match self {
            Self::Landmarks(cases) => cases.count(),
            Self::Detector(cases) => cases.count(),
        }
    }

    /// Runs the model `graph`, whose card is `card`, on every case.
    ///
    /// # Errors
    /// The graph does not fit its card, ONNX Runtime or the device is missing, or a run fails.
    pub fn evaluate(
        &self,
        graph: &Graph,
        card: &ModelCard,
        device: Device,
        threads: usize,
    ) -> Result<Evaluation, EvaluateError> {
        match self {
            Self::Landmarks(cases) => {
                let mut network = Network::new(graph, card, BATCH, device, threads)?;
                cases.evaluate(&mut network).map(Evaluation::Landmarks)
            }
            Self::Detector(cases) => {
                let model = SessionModel::new(graph, card.clone(), device, threads)?;
                cases.evaluate(model).map(Evaluation::Detector)
            }
        }
    }
}

/// Indices of at most `limit` (0: all) items, spread evenly over `items`.
fn spread_evenly(items: &[usize], limit: usize) -> Vec<usize> {
    if limit == 0 || items.len() <= limit {
        return items.to_vec();
    }
    (0..limit)
        .map(|step| items[step * items.len() / limit])
        .collect()
}

/// Runs `crops` through `network` batch by batch and hands over each batch's outputs with the number of its rows that
/// are crops; the last batch is filled up with zeros.
fn batches(
    network: &mut dyn BatchForward,
    card: &ModelCard,
    crops: &[&Crop],
    mut each: impl FnMut(&[Output], usize) -> Result<(), EvaluateError>,
) -> Result<(), EvaluateError> {
    let values = card.color.channels() * card.input_width * card.input_height;
    let mut images = vec![0.0; network.batch() * values];
    for group in crops.chunks(network.batch()) {
        images.fill(0.0);
        for (planes, crop) in images.chunks_exact_mut(values).zip(group) {
            card.normalization.write_planes(crop, planes);
        }
        let outputs = network.run(&images)?;
        each(&outputs, group.len())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_spreads_evenly() {
        let items = [10, 11, 12, 13, 14, 15];
        assert_eq!(spread_evenly(&items, 3), [10, 12, 14]);
        assert_eq!(spread_evenly(&items, 0), items);
        assert_eq!(spread_evenly(&items, 9), items);
    }
}
