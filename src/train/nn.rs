//! Architectures: forward graphs with freshly drawn weights, ready to be trained or exported.
//!
//! An architecture is a function from a name, a seed and the facts of its task to a [`Graph`] whose metadata is its
//! model card. Batch normalisation is in inference form; the training step rewrites it.

mod classic;
mod detector;
mod landmarks;
mod layers;
mod resnet;

use classic::max_pool;
pub use layers::{Kernel, Layers};

use crate::{
    crop::{Color, CropRule, Normalization},
    model::{ModelCard, Task},
    scheme::Scheme,
    train::graph::{Graph, GraphError},
};

/// The networks that this crate can build. The name is what recipes and the command line say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Landmarks of any scheme, 112 px crops, 37 million multiply-adds: dense 3x3 convolutions while the maps are large
    /// and channels few, inverted residuals (Sandler et al. 2018) after, all with ReLU; each landmark is the mean of a
    /// heat map of 14 x 14 cells.
    LandmarksBase,
    /// The same network on 64 px crops: 12 million.
    LandmarksSmall,
    /// The same network on 192 px crops: 110 million.
    LandmarksLarge,
    /// The base network with a fully connected layer instead of heat maps, for comparison.
    LandmarksRegression,
    /// A face detector on 192x160 px with one anchor-free head at each of the strides 8, 16 and 32, joined top-down.
    FaceDetector,
    /// Landmarks, 48 px crops: small enough for tests and first tries.
    TinyLandmarks,
    /// A detector on 96x80 px with strides 8 and 16: small enough for tests and first tries.
    TinyDetector,
    /// The course's nose net: four convolutions, read as a heat map, 80x60 px grey.
    Nose,
    /// The course's full-face net: five convolutions up to 128 channels with max pool, the last a heat map a landmark, and
    /// two fully connected layers that correct what these say, 240x180 px grey.
    FullFace,
    /// ResNet18 (He et al. 2016) with an output a coordinate, 224 px, any size from 32 px.
    Resnet18,
}

/// The name is none of the architectures.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown architecture {found:?}; expected one of {}", Architecture::ALL.map(Architecture::name).join(", "))]
pub struct UnknownArchitecture {
    /// What was given.
    pub found: String,
}

impl std::str::FromStr for Architecture {
    type Err = UnknownArchitecture;

    fn from_str(name: &str) -> Result<Self, UnknownArchitecture> {
        Self::ALL
            .into_iter()
            .find(|architecture| architecture.name() == name)
            .ok_or_else(|| UnknownArchitecture {
                found: name.to_owned(),
            })
    }
}

impl Architecture {
    /// Every architecture.
    pub const ALL: [Self; 10] = [
        Self::LandmarksSmall,
        Self::LandmarksBase,
        Self::LandmarksLarge,
        Self::LandmarksRegression,
        Self::FaceDetector,
        Self::TinyLandmarks,
        Self::TinyDetector,
        Self::Nose,
        Self::FullFace,
        Self::Resnet18,
    ];

    /// The name in recipes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LandmarksSmall => "landmarks-small",
            Self::LandmarksBase => "landmarks-base",
            Self::LandmarksLarge => "landmarks-large",
            Self::LandmarksRegression => "landmarks-regression",
            Self::FaceDetector => "face-detector",
            Self::TinyLandmarks => "tiny-landmarks",
            Self::TinyDetector => "tiny-detector",
            Self::Nose => "nose",
            Self::FullFace => "full-face",
            Self::Resnet18 => "resnet18",
        }
    }

    /// Whether it finds faces; otherwise it finds landmarks.
    pub const fn is_detector(self) -> bool {
        matches!(self, Self::FaceDetector | Self::TinyDetector)
    }

    /// The card of a model of this architecture, called `model_name`. `scheme` and `crop_margin` matter to landmark
    /// architectures alone.
    pub fn card(self, model_name: &str, scheme: Scheme, crop_margin: f32) -> ModelCard {
        let (input_width, input_height) = match self {
            Self::LandmarksBase | Self::LandmarksRegression => (112, 112),
            Self::LandmarksSmall => (64, 64),
            Self::LandmarksLarge => (192, 192),
            Self::FaceDetector => (192, 160),
            Self::TinyLandmarks => (48, 48),
            Self::TinyDetector => (96, 80),
            Self::Nose => (80, 60),
            Self::FullFace => (240, 180),
            Self::Resnet18 => (224, 224),
        };
        let task = match self {
            Self::LandmarksSmall
            | Self::LandmarksBase
            | Self::LandmarksLarge
            | Self::LandmarksRegression
            | Self::TinyLandmarks
            | Self::Nose
            | Self::FullFace
            | Self::Resnet18 => Task::Landmarks {
                scheme,
                crop: CropRule::AroundFace {
                    margin: crop_margin,
                },
            },
            Self::FaceDetector => Task::FaceDetection {
                strides: vec![8, 16, 32],
            },
            Self::TinyDetector => Task::FaceDetection {
                strides: vec![8, 16],
            },
        };
        let (color, normalization) = match self {
            Self::Nose | Self::FullFace => (Color::Gray, Normalization::HALF),
            _ => (Color::Rgb, Normalization::SYMMETRIC),
        };
        ModelCard {
            name: model_name.to_owned(),
            task,
            input_width,
            input_height,
            color,
            normalization,
            training_data: String::new(),
        }
    }

    /// The forward graph with weights drawn from `seed` (He et al. 2015) and `card` as metadata. Input `image`
    /// `[1, channels, height, width]`; outputs as [`Task`] documents.
    ///
    /// # Errors
    /// The card's input does not fit the architecture (its edges are not multiples of the largest stride).
    pub fn build(self, card: &ModelCard, seed: u64) -> Result<Graph, GraphError> {
        let mut net = Layers::new(card, seed)?;
        let scheme = match &card.task {
            Task::FaceDetection { strides } => {
                detector::detector(&mut net, self, strides)?;
                return Ok(net.graph);
            }
            Task::Landmarks { scheme, .. } => *scheme,
        };
        let count = scheme.landmark_count();
        match self {
            Self::LandmarksSmall | Self::LandmarksBase | Self::LandmarksLarge => {
                landmarks::by_heat_map(&mut net, count)?;
            }
            Self::LandmarksRegression => landmarks::by_regression(&mut net, count)?,
            Self::TinyLandmarks => landmarks::tiny(&mut net, count)?,
            Self::Nose => classic::nose(&mut net, count)?,
            Self::FullFace => classic::full_face(&mut net, count)?,
            Self::Resnet18 => resnet::resnet18(&mut net, count)?,
            Self::FaceDetector | Self::TinyDetector => {
                unreachable!("a detector's card is made by `card`, with the detection task")
            }
        }
        Ok(net.graph)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(architecture: Architecture) -> Graph {
        let card = architecture.card("test", Scheme::Ibug68, 1.3);
        architecture.build(&card, 1).unwrap()
    }

    #[test]
    fn outputs_have_the_shapes_that_the_card_promises() {
        for architecture in Architecture::ALL {
            let graph = built(architecture);
            let card = architecture.card("test", Scheme::Ibug68, 1.3);
            match card.task {
                Task::Landmarks { scheme, .. } => {
                    assert_eq!(graph.shape("landmarks"), [1, 2 * scheme.landmark_count()]);
                    if graph.outputs.iter().any(|output| output == "presence") {
                        assert_eq!(graph.shape("presence"), [1, 1]);
                    }
                }
                Task::FaceDetection { strides } => {
                    for stride in strides {
                        let (height, width) =
                            (card.input_height / stride, card.input_width / stride);
                        assert_eq!(
                            graph.shape(&format!("score_{stride}")),
                            [1, 1, height, width]
                        );
                        assert_eq!(graph.shape(&format!("box_{stride}")), [1, 4, height, width]);
                    }
                }
            }
        }
    }

    #[test]
    fn a_seed_draws_the_same_weights() {
        assert_eq!(
            built(Architecture::TinyLandmarks),
            built(Architecture::TinyLandmarks)
        );
    }

    #[test]
    fn weights_have_the_deviation_of_he_initialisation() {
        let graph = built(Architecture::LandmarksBase);
        let weights = graph.initializers["stage1.0.weight"].as_f32().unwrap();
        let variance =
            weights.iter().map(|weight| weight * weight).sum::<f32>() / weights.len() as f32;
        let expected = 2.0 / (32.0 * 9.0);
        assert!(
            (variance / expected - 1.0).abs() < 0.1,
            "{variance} {expected}"
        );
    }
}
