//! Layers: each adds its nodes, with freshly drawn weights, to a forward graph.

use crate::{
    model::ModelCard,
    train::graph::{Attribute, Graph, GraphError, Tensor, TensorType},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Added to the variance before its root is taken. A depthwise channel behind a ReLU is almost always 0, so its variance
/// tends to 0 too; with the usual 1e-5 the rare picture that does excite it is then amplified some 300 times, and one face
/// in a few hundred gets landmarks from nowhere. 1e-3 bounds the gain at 32.
const BATCH_NORM_EPSILON: f32 = 1e-3;

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
    /// None for a card of [`Architecture::card`](super::Architecture::card).
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

    /// [`Layers::conv_bn_relu`] whose maps [`Layers::expected_places`] is to read: the normalisation begins with a scale at
    /// which a softmax over the cells has a peak. Near an even spread every place is the middle, and little is learnt.
    pub fn heat_maps(
        &mut self,
        name: &str,
        x: &str,
        count: usize,
        kernel: Kernel,
    ) -> Result<String, GraphError> {
        const SCALE: f32 = 4.0;
        let normalized = self.grouped_conv_bn(name, x, count, kernel, 1, SCALE)?;
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
        self.grouped_conv_bn(name, x, width, kernel, 1, 1.0)
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
        let x = self.grouped_conv_bn(
            &format!("{name}.depthwise"),
            x,
            channels,
            kernel,
            channels,
            1.0,
        )?;
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
        let wide = self.grouped_conv_bn(
            &format!("{name}.depthwise"),
            &wide,
            hidden,
            kernel,
            hidden,
            1.0,
        )?;
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
        self.output_conv(name, x, width, bias, 0.01)
    }

    fn output_conv(
        &mut self,
        name: &str,
        x: &str,
        width: usize,
        bias: f32,
        deviation: f32,
    ) -> Result<String, GraphError> {
        let channels = self.channels(x);
        let weight = self.normal(
            &format!("{name}.weight"),
            &[width, channels, 1, 1],
            deviation,
        )?;
        let bias = self.filled(&format!("{name}.bias"), width, bias)?;
        self.graph.apply(
            "Conv",
            &[x, &weight, &bias],
            &conv_attributes(Kernel::new(1, 1), 1),
        )
    }

    /// [`Layers::expected_places`] of `count` maps that a 1x1 convolution makes of `x`.
    pub fn integral(&mut self, name: &str, x: &str, count: usize) -> Result<String, GraphError> {
        let channels = self.graph.shape(x)[1];
        let deviation = (1.0 / (3 * channels) as f32).sqrt();
        let scores = self.output_conv(name, x, count, 0.0, deviation)?;
        self.expected_places(&scores)
    }

    /// Points `[N, 2 C]`, x then y in units of the crop with 0 in its middle: for each channel of `scores` `[N, C, H, W]` a
    /// softmax over the cells says where its point is, and the cells' places are averaged with these weights (integral
    /// regression, Sun et al. 2018).
    pub fn expected_places(&mut self, scores: &str) -> Result<String, GraphError> {
        // The outermost cells stand for places this much further out, so that points may lie outside of the crop.
        const REACH: f32 = 1.3;
        let graph = &mut self.graph;
        let (batch, count, height, width) = {
            let shape = graph.shape(scores);
            (shape[0], shape[1], shape[2], shape[3])
        };
        let cells = height * width;
        let scores = graph.reshape(scores, &[batch, count, cells])?;
        let weights = graph.apply("Softmax", &[&scores], &[("axis", Attribute::Int(2))])?;
        let middle = |index: usize, size: usize| (index as f32 + 0.5) / size as f32 - 0.5;
        let middles: Vec<f32> = (0..cells)
            .flat_map(|cell| [middle(cell % width, width), middle(cell / width, height)])
            .map(|place| REACH * place)
            .collect();
        let middles = graph.constant_f32(&middles, &[cells, 2]);
        let points = graph.apply("MatMul", &[&weights, &middles], &[])?;
        graph.apply("Flatten", &[&points], &[("axis", Attribute::Int(1))])
    }

    /// Flattens each sample, multiplies by weights `[width, features]` and adds a bias.
    ///
    /// # Errors
    /// `x` has no sample axis, or the name is taken.
    pub fn fully_connected(
        &mut self,
        name: &str,
        x: &str,
        width: usize,
    ) -> Result<String, GraphError> {
        let (flat, weight) = self.flat_and_weight(name, x, width)?;
        let bias = self.filled(&format!("{name}.bias"), width, 0.0)?;
        self.gemm(&[&flat, &weight, &bias])
    }

    /// [`Layers::fully_connected`] that begins with zeros: what it adds to has to be wrong first.
    ///
    /// # Errors
    /// `x` has no sample axis, or the name is taken.
    pub fn correction(&mut self, name: &str, x: &str, width: usize) -> Result<String, GraphError> {
        let features = self.graph.shape(x)[1];
        let zeros = Tensor::f32(&[width, features], vec![0.0; width * features]);
        let weight = self.graph.parameter(&format!("{name}.weight"), zeros)?;
        let bias = self.filled(&format!("{name}.bias"), width, 0.0)?;
        self.gemm(&[x, &weight, &bias])
    }

    /// [`Layers::fully_connected`] with a batch normalisation in the bias's place.
    ///
    /// # Errors
    /// `x` has no sample axis, or the name is taken.
    pub fn fully_connected_bn(
        &mut self,
        name: &str,
        x: &str,
        width: usize,
    ) -> Result<String, GraphError> {
        let (flat, weight) = self.flat_and_weight(name, x, width)?;
        let product = self.gemm(&[&flat, &weight])?;
        self.batch_norm(name, &product, 1.0)
    }

    fn flat_and_weight(
        &mut self,
        name: &str,
        x: &str,
        width: usize,
    ) -> Result<(String, String), GraphError> {
        let flat = self
            .graph
            .apply("Flatten", &[x], &[("axis", Attribute::Int(1))])?;
        let features = self.graph.type_of(&flat).shape[1];
        let deviation = (1.0 / features as f32).sqrt();
        let weight = self.normal(&format!("{name}.weight"), &[width, features], deviation)?;
        Ok((flat, weight))
    }

    fn gemm(&mut self, inputs: &[&str]) -> Result<String, GraphError> {
        self.graph
            .apply("Gemm", inputs, &[("transB", Attribute::Int(1))])
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

    /// A convolution without a bias, its weights after He et al. 2015, and [`Layers::batch_norm`] that begins at `scale`.
    fn grouped_conv_bn(
        &mut self,
        name: &str,
        x: &str,
        width: usize,
        kernel: Kernel,
        groups: usize,
        scale: f32,
    ) -> Result<String, GraphError> {
        let channels = self.channels(x) / groups;
        let deviation = (2.0 / (channels * kernel.size * kernel.size) as f32).sqrt();
        let shape = [width, channels, kernel.size, kernel.size];
        let weight = self.normal(&format!("{name}.weight"), &shape, deviation)?;
        let x = self
            .graph
            .apply("Conv", &[x, &weight], &conv_attributes(kernel, groups))?;
        self.batch_norm(name, &x, scale)
    }

    /// Normalises the channels of `x` `[N, C, ..]`; their standard deviation begins as `scale`.
    fn batch_norm(&mut self, name: &str, x: &str, scale: f32) -> Result<String, GraphError> {
        let width = self.channels(x);
        let scale = self.filled(&format!("{name}.bn.scale"), width, scale)?;
        let bias = self.filled(&format!("{name}.bn.bias"), width, 0.0)?;
        let mean = self.filled(&format!("{name}.bn.mean"), width, 0.0)?;
        let variance = self.filled(&format!("{name}.bn.variance"), width, 1.0)?;
        let attributes = [("epsilon", Attribute::Float(BATCH_NORM_EPSILON))];
        self.graph.apply(
            "BatchNormalization",
            &[x, &scale, &bias, &mean, &variance],
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
