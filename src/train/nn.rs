//! Layers and architectures: forward graphs with freshly drawn weights, ready to be trained or exported.
//!
//! An architecture is a function from a name, a seed and the facts of its task to a [`Graph`] whose metadata is its
//! model card. Batch normalisation is in inference form; the training step rewrites it.

use crate::{
    crop::{Color, Normalization},
    model::{ModelCard, Task},
    scheme::Scheme,
    train::graph::{Attribute, Graph, GraphError, Tensor, TensorType},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Added to the variance before its root is taken. A depthwise channel behind a ReLU is almost always 0, so its variance
/// tends to 0 too; with the usual 1e-5 the rare picture that does excite it is then amplified some 300 times, and one face
/// in a few hundred gets landmarks from nowhere. 1e-3 bounds the gain at 32.
const BATCH_NORM_EPSILON: f32 = 1e-3;

/// The networks that this crate can build. The name is what recipes and the command line say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Landmarks of any scheme, 112 px crops, about 30 million multiply-adds: dense 3x3 convolutions while the maps
    /// are large and channels few, inverted residuals (Sandler et al. 2018) after, all with ReLU.
    LandmarksBase,
    /// A face detector on 192x160 px with one anchor-free head at each of the strides 8, 16 and 32, joined top-down.
    FaceDetector,
    /// Landmarks, 48 px crops: small enough for tests and first tries.
    TinyLandmarks,
    /// A detector on 96x80 px with strides 8 and 16: small enough for tests and first tries.
    TinyDetector,
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
    pub const ALL: [Self; 4] = [
        Self::LandmarksBase,
        Self::FaceDetector,
        Self::TinyLandmarks,
        Self::TinyDetector,
    ];

    /// The name in recipes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LandmarksBase => "landmarks-base",
            Self::FaceDetector => "face-detector",
            Self::TinyLandmarks => "tiny-landmarks",
            Self::TinyDetector => "tiny-detector",
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
            Self::LandmarksBase => (112, 112),
            Self::FaceDetector => (192, 160),
            Self::TinyLandmarks => (48, 48),
            Self::TinyDetector => (96, 80),
        };
        let task = match self {
            Self::LandmarksBase | Self::TinyLandmarks => Task::Landmarks {
                scheme,
                crop_margin,
            },
            Self::FaceDetector => Task::FaceDetection {
                strides: vec![8, 16, 32],
            },
            Self::TinyDetector => Task::FaceDetection {
                strides: vec![8, 16],
            },
        };
        ModelCard {
            name: model_name.to_owned(),
            task,
            input_width,
            input_height,
            color: Color::Rgb,
            normalization: Normalization::SYMMETRIC,
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
        match (self, &card.task) {
            (Self::LandmarksBase, Task::Landmarks { scheme, .. }) => {
                landmarks_base(&mut net, scheme.landmark_count())?;
            }
            (Self::TinyLandmarks, Task::Landmarks { scheme, .. }) => {
                tiny_landmarks(&mut net, scheme.landmark_count())?;
            }
            (_, Task::FaceDetection { strides }) => detector(&mut net, self, strides)?,
            (Self::FaceDetector | Self::TinyDetector, Task::Landmarks { .. }) => {
                unreachable!("a detector's card is made by `card`, with the detection task")
            }
        }
        Ok(net.graph)
    }
}

fn landmarks_base(net: &mut Layers, landmark_count: usize) -> Result<(), GraphError> {
    let x = net.conv_bn_relu("stem", "image", 16, Kernel::new(3, 2))?; // 56
    let x = net.conv_bn_relu("stage1.reduce", &x, 32, Kernel::new(3, 2))?; // 28
    let x = net.residual("stage1.0", &x)?;
    let x = net.inverted_residual("stage2.0", &x, 3, 48, Kernel::new(3, 2))?; // 14
    let x = net.inverted_residual("stage2.1", &x, 3, 48, Kernel::new(3, 1))?;
    let x = net.inverted_residual("stage2.2", &x, 3, 48, Kernel::new(3, 1))?;
    let x = net.inverted_residual("stage3.0", &x, 3, 96, Kernel::new(3, 2))?; // 7
    let x = net.inverted_residual("stage3.1", &x, 3, 96, Kernel::new(3, 1))?;
    let x = net.inverted_residual("stage3.2", &x, 3, 96, Kernel::new(3, 1))?;
    landmark_head(net, &x, 32, landmark_count)
}

fn tiny_landmarks(net: &mut Layers, landmark_count: usize) -> Result<(), GraphError> {
    let x = net.conv_bn_relu("stem", "image", 8, Kernel::new(3, 2))?;
    let x = net.inverted_residual("stage1", &x, 2, 16, Kernel::new(3, 2))?;
    let x = net.inverted_residual("stage2", &x, 2, 32, Kernel::new(3, 2))?;
    landmark_head(net, &x, 8, landmark_count)
}

/// Where each landmark is: the map is squeezed to few channels but keeps its places, then one fully connected layer.
/// Whether there is a face: a fully connected layer on the mean of the map.
fn landmark_head(
    net: &mut Layers,
    x: &str,
    squeezed: usize,
    landmark_count: usize,
) -> Result<(), GraphError> {
    let places = net.conv_bn_relu("landmarks.squeeze", x, squeezed, Kernel::new(1, 1))?;
    let landmarks = net.fully_connected("landmarks", &places, 2 * landmark_count)?;
    let mean = net.graph.apply("GlobalAveragePool", &[x], &[])?;
    let presence = net.fully_connected("presence", &mean, 1)?;
    net.output(&landmarks, "landmarks")?;
    net.output(&presence, "presence")
}

fn detector(
    net: &mut Layers,
    architecture: Architecture,
    strides: &[usize],
) -> Result<(), GraphError> {
    let widths: &[usize] = if architecture == Architecture::FaceDetector {
        &[48, 64, 96]
    } else {
        &[16, 24]
    };
    let stem = if architecture == Architecture::FaceDetector {
        16
    } else {
        8
    };
    let x = net.conv_bn_relu("stem", "image", stem, Kernel::new(3, 2))?;
    let mut x = net.separable("stage1", &x, 2 * stem, Kernel::new(3, 2))?; // stride 4
    let mut levels = Vec::new();
    for (level, &width) in widths.iter().enumerate() {
        x = net.inverted_residual(
            &format!("stage{}.0", level + 2),
            &x,
            3,
            width,
            Kernel::new(3, 2),
        )?;
        x = net.inverted_residual(
            &format!("stage{}.1", level + 2),
            &x,
            3,
            width,
            Kernel::new(3, 1),
        )?;
        levels.push(x.clone());
    }
    // What the coarse level sees flows down to the finer ones.
    for level in (0..levels.len() - 1).rev() {
        let lateral = net.conv_bn(
            &format!("down{level}"),
            &levels[level + 1],
            widths[level],
            Kernel::new(1, 1),
        )?;
        let upsampled = net.upsample_twice(&lateral)?;
        let joined = net.graph.apply("Add", &[&levels[level], &upsampled], &[])?;
        levels[level] = net.graph.apply("Relu", &[&joined], &[])?;
    }
    let head_width = widths[0];
    for (level, &stride) in levels.iter().zip(strides) {
        let shared = net.separable(
            &format!("head{stride}"),
            level,
            head_width,
            Kernel::new(3, 1),
        )?;
        // A prior of 1 % keeps the many empty cells from drowning the first steps (Lin et al. 2017, section 4.1).
        let score = net.conv_bias(&format!("score_{stride}"), &shared, 1, -(99f32.ln()))?;
        let boxes = net.conv_bias(&format!("box_{stride}"), &shared, 4, 0.0)?;
        net.output(&score, &format!("score_{stride}"))?;
        net.output(&boxes, &format!("box_{stride}"))?;
    }
    Ok(())
}

/// A square kernel.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    size: usize,
    stride: usize,
}

impl Kernel {
    /// `size` x `size` taps, moved by `stride`, padded by `size / 2`.
    pub const fn new(size: usize, stride: usize) -> Self {
        Self { size, stride }
    }
}

/// Adds layers to a graph; each method takes a value's name and returns its result's.
#[derive(Debug)]
pub struct Layers {
    /// The graph so far.
    pub graph: Graph,
    rng: ChaCha8Rng,
}

impl Layers {
    /// An empty graph with the input `image` of `card`, which becomes its metadata.
    ///
    /// # Errors
    /// None for a card of [`Architecture::card`].
    pub fn new(card: &ModelCard, seed: u64) -> Result<Self, GraphError> {
        let mut graph = Graph::new(&card.name);
        let shape = vec![
            1,
            card.color.channels(),
            card.input_height,
            card.input_width,
        ];
        graph.input("image", TensorType::f32(&shape))?;
        graph.metadata = card.to_metadata();
        Ok(Self {
            graph,
            rng: ChaCha8Rng::seed_from_u64(seed),
        })
    }

    /// Convolution, batch normalisation, ReLU.
    pub fn conv_bn_relu(
        &mut self,
        name: &str,
        x: &str,
        width: usize,
        kernel: Kernel,
    ) -> Result<String, GraphError> {
        let normalized = self.conv_bn(name, x, width, kernel)?;
        self.graph.apply("Relu", &[&normalized], &[])
    }

    /// Convolution and batch normalisation.
    pub fn conv_bn(
        &mut self,
        name: &str,
        x: &str,
        width: usize,
        kernel: Kernel,
    ) -> Result<String, GraphError> {
        self.grouped_conv_bn(name, x, width, kernel, 1)
    }

    /// A convolution a channel (3x3 or larger), batch normalisation, ReLU; then a pointwise one with the same.
    pub fn separable(
        &mut self,
        name: &str,
        x: &str,
        width: usize,
        kernel: Kernel,
    ) -> Result<String, GraphError> {
        let channels = self.channels(x);
        let x =
            self.grouped_conv_bn(&format!("{name}.depthwise"), x, channels, kernel, channels)?;
        let x = self.graph.apply("Relu", &[&x], &[])?;
        self.conv_bn_relu(&format!("{name}.pointwise"), &x, width, Kernel::new(1, 1))
    }

    /// x + conv(x), then ReLU: a residual block with one dense 3x3 convolution.
    pub fn residual(&mut self, name: &str, x: &str) -> Result<String, GraphError> {
        let channels = self.channels(x);
        let branch = self.conv_bn(name, x, channels, Kernel::new(3, 1))?;
        let sum = self.graph.apply("Add", &[x, &branch], &[])?;
        self.graph.apply("Relu", &[&sum], &[])
    }

    /// Pointwise to `expansion` times the channels, depthwise, pointwise to `width` (Sandler et al. 2018); the input
    /// is added where shape and stride allow.
    pub fn inverted_residual(
        &mut self,
        name: &str,
        x: &str,
        expansion: usize,
        width: usize,
        kernel: Kernel,
    ) -> Result<String, GraphError> {
        let channels = self.channels(x);
        let hidden = channels * expansion;
        let wide = self.conv_bn_relu(&format!("{name}.expand"), x, hidden, Kernel::new(1, 1))?;
        let wide =
            self.grouped_conv_bn(&format!("{name}.depthwise"), &wide, hidden, kernel, hidden)?;
        let wide = self.graph.apply("Relu", &[&wide], &[])?;
        let narrow = self.conv_bn(&format!("{name}.project"), &wide, width, Kernel::new(1, 1))?;
        if kernel.stride == 1 && channels == width {
            self.graph.apply("Add", &[x, &narrow], &[])
        } else {
            Ok(narrow)
        }
    }

    /// Nearest-neighbour enlargement by two.
    pub fn upsample_twice(&mut self, x: &str) -> Result<String, GraphError> {
        let scales = self.graph.constant_f32(&[1.0, 1.0, 2.0, 2.0], &[4]);
        let attributes = [
            ("mode", Attribute::Text("nearest".to_owned())),
            (
                "coordinate_transformation_mode",
                Attribute::Text("asymmetric".to_owned()),
            ),
            ("nearest_mode", Attribute::Text("floor".to_owned())),
        ];
        self.graph.apply("Resize", &[x, "", &scales], &attributes)
    }

    /// A pointwise convolution with a bias that starts at `bias`, drawn small: an output layer.
    pub fn conv_bias(
        &mut self,
        name: &str,
        x: &str,
        width: usize,
        bias: f32,
    ) -> Result<String, GraphError> {
        let channels = self.channels(x);
        let weight = self.normal(&format!("{name}.weight"), &[width, channels, 1, 1], 0.01)?;
        let bias = self.filled(&format!("{name}.bias"), width, bias)?;
        self.graph.apply(
            "Conv",
            &[x, &weight, &bias],
            &conv_attributes(Kernel::new(1, 1), 1),
        )
    }

    /// Flattens each sample and multiplies: weights `[width, features]`.
    pub fn fully_connected(
        &mut self,
        name: &str,
        x: &str,
        width: usize,
    ) -> Result<String, GraphError> {
        let flat = self
            .graph
            .apply("Flatten", &[x], &[("axis", Attribute::Int(1))])?;
        let features = self.graph.type_of(&flat).shape[1];
        let weight = self.normal(
            &format!("{name}.weight"),
            &[width, features],
            (1.0 / features as f32).sqrt(),
        )?;
        let bias = self.filled(&format!("{name}.bias"), width, 0.0)?;
        self.graph.apply(
            "Gemm",
            &[&flat, &weight, &bias],
            &[("transB", Attribute::Int(1))],
        )
    }

    /// Makes `value` an output called `name`.
    ///
    /// # Errors
    /// The value is unknown, or the name is taken.
    pub fn output(&mut self, value: &str, name: &str) -> Result<(), GraphError> {
        self.graph.rename_output(value, name)?;
        self.graph.outputs.push(name.to_owned());
        Ok(())
    }

    fn grouped_conv_bn(
        &mut self,
        name: &str,
        x: &str,
        width: usize,
        kernel: Kernel,
        groups: usize,
    ) -> Result<String, GraphError> {
        let channels = self.channels(x) / groups;
        let deviation = (2.0 / (channels * kernel.size * kernel.size) as f32).sqrt();
        let shape = [width, channels, kernel.size, kernel.size];
        let weight = self.normal(&format!("{name}.weight"), &shape, deviation)?;
        let x = self
            .graph
            .apply("Conv", &[x, &weight], &conv_attributes(kernel, groups))?;
        let scale = self.filled(&format!("{name}.bn.scale"), width, 1.0)?;
        let bias = self.filled(&format!("{name}.bn.bias"), width, 0.0)?;
        let mean = self.filled(&format!("{name}.bn.mean"), width, 0.0)?;
        let variance = self.filled(&format!("{name}.bn.variance"), width, 1.0)?;
        let attributes = [("epsilon", Attribute::Float(BATCH_NORM_EPSILON))];
        self.graph.apply(
            "BatchNormalization",
            &[&x, &scale, &bias, &mean, &variance],
            &attributes,
        )
    }

    fn channels(&self, value: &str) -> usize {
        self.graph.type_of(value).shape[1]
    }

    fn filled(&mut self, name: &str, count: usize, value: f32) -> Result<String, GraphError> {
        self.graph
            .parameter(name, Tensor::f32(&[count], vec![value; count]))
    }

    /// Weights from a normal distribution (Box and Muller 1958).
    fn normal(
        &mut self,
        name: &str,
        shape: &[usize],
        deviation: f32,
    ) -> Result<String, GraphError> {
        let mut draw = || {
            let (radius, angle): (f32, f32) = (self.rng.random(), self.rng.random());
            deviation * (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f32::consts::TAU * angle).cos()
        };
        let values = (0..shape.iter().product()).map(|_| draw()).collect();
        self.graph.parameter(name, Tensor::f32(shape, values))
    }
}

fn conv_attributes(kernel: Kernel, groups: usize) -> Vec<(&'static str, Attribute)> {
    let (size, stride, pad) = (
        kernel.size as i64,
        kernel.stride as i64,
        (kernel.size / 2) as i64,
    );
    vec![
        ("kernel_shape", Attribute::Ints(vec![size; 2])),
        ("strides", Attribute::Ints(vec![stride; 2])),
        ("pads", Attribute::Ints(vec![pad; 4])),
        ("group", Attribute::Int(groups as i64)),
    ]
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
                    assert_eq!(graph.shape("presence"), [1, 1]);
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
