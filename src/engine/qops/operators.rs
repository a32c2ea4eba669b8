//! The operators of the int8 form with their parameters, and the shapes they make. Arithmetic is the kernels' business.
//!
//! A tensor is a map `[1, channels, height, width]` or a vector `[1, values]` of unsigned bytes, or of f32 before
//! quantisation and after dequantisation. What a byte means is written at each reader and writer of it, as in the file.

use super::constants::MOST_ELEMENTS;

/// What the bytes of a tensor stand for: `(byte - zero) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Quantization {
    pub(crate) scale: f32,
    pub(crate) zero: u8,
}

/// A rectangular window that slides over a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Height and width.
    pub(crate) kernel: (usize, usize),
    /// Down and to the right.
    pub(crate) stride: (usize, usize),
    pub(crate) top: usize,
    pub(crate) left: usize,
    pub(crate) bottom: usize,
    pub(crate) right: usize,
}

impl Window {
    /// Height and width of the result for a map of `height` x `width`.
    fn output(&self, height: usize, width: usize) -> Result<(usize, usize), String> {
        let along = |size: usize, before, after, kernel, stride| {
            let padded = size + before + after;
            if padded < kernel {
                return Err(format!(
                    "a window of {kernel} does not fit into {size} with padding {before} and {after}"
                ));
            }
            Ok((padded - kernel) / stride + 1)
        };
        Ok((
            along(height, self.top, self.bottom, self.kernel.0, self.stride.0)?,
            along(width, self.left, self.right, self.kernel.1, self.stride.1)?,
        ))
    }
}

/// `QLinearConv`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Conv {
    pub(crate) window: Window,
    pub(crate) group: usize,
    pub(crate) output_channels: usize,
    /// Input channels of a group.
    pub(crate) group_channels: usize,
    /// `[output_channels, group_channels, kernel height, kernel width]`.
    pub(crate) weights: Vec<i8>,
    /// One an output channel.
    pub(crate) bias: Vec<i32>,
    /// Output steps of one step of the accumulator, one an output channel.
    pub(crate) multipliers: Vec<f32>,
    pub(crate) input: Quantization,
    pub(crate) output: Quantization,
}

/// `QGemm` and `QLinearMatMul` with constant weights.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FullyConnected {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// `[outputs, inputs]`.
    pub(crate) weights: Vec<i8>,
    /// One an output.
    pub(crate) bias: Vec<i32>,
    /// Of one step of the accumulator: in output steps, or the value itself when the output is f32. One an output.
    pub(crate) multipliers: Vec<f32>,
    pub(crate) input_zero: u8,
    /// `None`: the output is f32.
    pub(crate) output: Option<Quantization>,
}

/// The mean of heat maps of bytes: DequantizeLinear, Softmax over the cells of a map, MatMul with the cells' places.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HeatMapMean {
    /// Of the scores.
    pub(crate) scale: f32,
    /// Channels of the map.
    pub(crate) points: usize,
    /// Cells of the map.
    pub(crate) cells: usize,
    /// Values of a point.
    pub(crate) axes: usize,
    /// `[cells, axes]`.
    pub(crate) places: Vec<f32>,
}

/// An operator of the int8 form.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operator {
    /// f32 to bytes.
    Quantize(Quantization),
    /// Bytes to f32.
    Dequantize(Quantization),
    Conv(Box<Conv>),
    /// `QLinearAdd` of two tensors of one shape.
    Add {
        a: Quantization,
        b: Quantization,
        output: Quantization,
    },
    GlobalAveragePool {
        input: Quantization,
        output: Quantization,
    },
    /// Greatest byte of each window; padding never wins.
    MaxPool(Window),
    /// Along the channels, or the values of vectors.
    Concat,
    /// Each pixel becomes a block of this height and width.
    Resize {
        down: usize,
        right: usize,
    },
    /// A map or vector to a vector.
    Flatten,
    /// To a given shape; 0 keeps an axis, -1 is what remains.
    Reshape(Vec<i64>),
    FullyConnected(Box<FullyConnected>),
    /// To f32.
    HeatMapMean(Box<HeatMapMean>),
}

/// Element types that occur in the int8 form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    U8,
    F32,
}

/// The shape of a tensor: `[1, channels, height, width]` or `[1, values]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Map {
        channels: usize,
        height: usize,
        width: usize,
    },
    Vector(usize),
}

impl Shape {
    /// From ONNX's list of edges.
    pub(crate) fn from_edges(edges: &[usize]) -> Result<Self, String> {
        let count = edges
            .iter()
            .try_fold(1usize, |count, &edge| count.checked_mul(edge))
            .filter(|&count| count <= MOST_ELEMENTS);
        let count = count.ok_or_else(|| format!("a tensor of shape {edges:?} is too large"))?;
        match *edges {
            _ if count == 0 => Err(format!("a tensor of shape {edges:?} is empty")),
            [1, channels, height, width] => Ok(Self::Map {
                channels,
                height,
                width,
            }),
            [1, values] => Ok(Self::Vector(values)),
            _ => Err(format!(
                "expected a tensor [1, channels, height, width] or [1, values], found {edges:?}"
            )),
        }
    }

    /// ONNX's list of edges.
    pub(crate) fn edges(&self) -> Vec<usize> {
        match *self {
            Self::Map {
                channels,
                height,
                width,
            } => vec![1, channels, height, width],
            Self::Vector(values) => vec![1, values],
        }
    }

    /// Number of elements.
    pub(crate) fn count(&self) -> usize {
        self.edges().iter().product()
    }

    /// Height, width and channels; a vector is one pixel.
    pub(crate) fn pixels(&self) -> (usize, usize, usize) {
        match *self {
            Self::Map {
                channels,
                height,
                width,
            } => (height, width, channels),
            Self::Vector(values) => (1, 1, values),
        }
    }

    fn map(&self) -> Result<(usize, usize, usize), String> {
        match self {
            Self::Map { .. } => Ok(self.pixels()),
            Self::Vector(_) => Err(format!(
                "expected a tensor [1, channels, height, width], found {:?}",
                self.edges()
            )),
        }
    }
}

impl Operator {
    /// Element type of the inputs.
    pub(crate) fn input_element(&self) -> Element {
        match self {
            Self::Quantize(_) => Element::F32,
            _ => Element::U8,
        }
    }

    /// Element type of the output.
    pub(crate) fn output_element(&self) -> Element {
        match self {
            Self::Dequantize(_) | Self::HeatMapMean(_) => Element::F32,
            Self::FullyConnected(dense) if dense.output.is_none() => Element::F32,
            _ => Element::U8,
        }
    }

    /// The shape of the output.
    pub(crate) fn output_shape(&self, inputs: &[&Shape]) -> Result<Shape, String> {
        let first = *inputs.first().ok_or("an input is missing")?;
        let edges: Vec<usize> = match self {
            Self::Quantize(_) | Self::Dequantize(_) => first.edges(),
            Self::Conv(conv) => {
                let (height, width, channels) = first.map()?;
                let expected = conv.group_channels * conv.group;
                if channels != expected {
                    return Err(format!(
                        "the weights are for {expected} channels, the input has {channels}"
                    ));
                }
                let (height, width) = conv.window.output(height, width)?;
                vec![1, conv.output_channels, height, width]
            }
            Self::Add { .. } => {
                let second = *inputs.get(1).ok_or("an input is missing")?;
                if first != second {
                    return Err(format!(
                        "both inputs must have one shape, found {:?} and {:?}",
                        first.edges(),
                        second.edges()
                    ));
                }
                first.edges()
            }
            Self::GlobalAveragePool { .. } => {
                let (_, _, channels) = first.map()?;
                vec![1, channels, 1, 1]
            }
            Self::MaxPool(window) => {
                let (height, width, channels) = first.map()?;
                let (height, width) = window.output(height, width)?;
                vec![1, channels, height, width]
            }
            Self::Concat => {
                let mut edges = first.edges();
                for input in &inputs[1..] {
                    let other = input.edges();
                    if other.len() != edges.len() || other[2..] != edges[2..] {
                        return Err(format!(
                            "inputs of shapes {:?} and {other:?} cannot be joined",
                            first.edges()
                        ));
                    }
                    edges[1] += other[1];
                }
                edges
            }
            Self::Resize { down, right } => {
                let (height, width, channels) = first.map()?;
                let scaled = |edge: usize, by: usize| {
                    edge.checked_mul(by)
                        .ok_or_else(|| format!("{edge} times {by} is too large"))
                };
                vec![1, channels, scaled(height, *down)?, scaled(width, *right)?]
            }
            Self::Flatten => vec![1, first.count()],
            Self::Reshape(target) => reshaped(first, target)?,
            Self::FullyConnected(dense) => {
                if !matches!(first, Shape::Vector(values) if *values == dense.inputs) {
                    return Err(format!(
                        "the weights are for [1, {}], the input is {:?}",
                        dense.inputs,
                        first.edges()
                    ));
                }
                vec![1, dense.outputs]
            }
            Self::HeatMapMean(mean) => {
                let (height, width, channels) = first.map()?;
                if channels != mean.points || height * width != mean.cells {
                    return Err(format!(
                        "the places are for {} maps of {} cells, the input is {:?}",
                        mean.points,
                        mean.cells,
                        first.edges()
                    ));
                }
                vec![1, mean.points * mean.axes]
            }
        };
        Shape::from_edges(&edges)
    }

    /// Bytes of its weights as kernels may pack them: a grouped convolution as a dense one with gaps.
    pub(crate) fn packed_weights(&self) -> usize {
        match self {
            Self::Conv(conv) if conv.group_channels == 1 && conv.output_channels == conv.group => {
                conv.weights.len()
            }
            Self::Conv(conv) => conv.weights.len().saturating_mul(conv.group),
            Self::FullyConnected(dense) => dense.weights.len(),
            _ => 0,
        }
    }

    /// Multiplications with addition that make `output`.
    pub(crate) fn multiply_adds(&self, output: &Shape) -> u64 {
        let per_value = match self {
            Self::Conv(conv) => conv.group_channels * conv.window.kernel.0 * conv.window.kernel.1,
            Self::FullyConnected(dense) => dense.inputs,
            _ => 0,
        };
        output.count() as u64 * per_value as u64
    }
}

/// The shape that `Reshape` to `target` makes.
fn reshaped(input: &Shape, target: &[i64]) -> Result<Vec<usize>, String> {
    let impossible = || format!("{:?} cannot become {target:?}", input.edges());
    let edges = input.edges();
    let mut shape = Vec::with_capacity(target.len());
    let mut free = None;
    let mut known = 1usize;
    for (axis, &edge) in target.iter().enumerate() {
        let size = match edge {
            0 => *edges.get(axis).ok_or_else(impossible)?,
            -1 if free.is_none() => {
                free = Some(axis);
                1
            }
            _ => usize::try_from(edge).map_err(|_| impossible())?,
        };
        known = known.checked_mul(size).ok_or_else(impossible)?;
        shape.push(size);
    }
    let count = input.count();
    if let Some(axis) = free {
        if known == 0 || !count.is_multiple_of(known) {
            return Err(impossible());
        }
        shape[axis] = count / known;
    } else if known != count {
        return Err(impossible());
    }
    Ok(shape)
}
