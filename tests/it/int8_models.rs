//! Random networks in the int8 form, made from a seed: every operator of the form, odd sizes, strides, groups, channel
//! counts that are multiples of nothing, zero points of all kinds, readers that disagree with the writer about what a byte
//! means, and now and then float operators in between.

#![allow(
    dead_code,
    reason = "which of these are used depends on the enabled features"
)]

use facemark::{
    crop::{Color, CropRule, Normalization},
    engine::RawTensor,
    model::{ModelCard, Task},
    onnx::{
        AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
        TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, attribute_type,
        data_type, decode_model, entries_from_map,
    },
    scheme::Scheme,
};
use prost::Message;

/// SplitMix64 (Steele, Lea and Flood 2014): small, and the same everywhere for ever.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub(crate) fn range(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low + 1) as u64) as usize
    }

    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.range(1, 100) <= percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.range(0, from.len() - 1)]
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}

/// A network with something to feed it.
pub(crate) struct RandomModel {
    pub(crate) file: Vec<u8>,
    pub(crate) input: CodedInput,
    /// `operator:count` of what it holds, for messages.
    pub(crate) operators: Vec<String>,
}

/// An f32 tensor of few different values: `(code - 100) * step`. Half steps of the quantisation are among them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CodedInput {
    pub(crate) shape: Vec<usize>,
    pub(crate) step: f32,
    pub(crate) codes: Vec<u8>,
}

impl CodedInput {
    pub(crate) fn tensor(&self) -> RawTensor {
        let value = |&code: &u8| (f32::from(code) - 100.0) * self.step;
        RawTensor {
            shape: self.shape.clone(),
            values: self.codes.iter().map(value).collect(),
        }
    }
}

/// What a byte of a value stands for.
#[derive(Clone, Copy)]
struct Quantization {
    scale: f32,
    zero: u8,
}

#[derive(Clone)]
struct Value {
    name: String,
    channels: usize,
    height: usize,
    width: usize,
    of: Quantization,
}

impl Value {
    fn pixels(&self) -> usize {
        self.height * self.width
    }
}

struct Builder {
    random: Random,
    graph: GraphProto,
    count: usize,
    /// 7-bit weights throughout, as for processors whose dot product saturates.
    reduced: bool,
}

/// The network with this seed. A `small` one is for a file that is kept.
pub(crate) fn random_model(seed: u64, small: bool) -> RandomModel {
    let mut random = Random::new(seed);
    let reduced = random.chance(30);
    let mut builder = Builder {
        random,
        graph: GraphProto {
            name: Some(format!("random {seed}")),
            ..GraphProto::default()
        },
        count: 0,
        reduced,
    };
    let input = builder.build(small);
    let operators = builder.graph.node.iter();
    let operators = operators.map(|node| node.op_type.clone().unwrap_or_default());
    RandomModel {
        operators: operators.collect(),
        file: encode(builder.graph),
        input,
    }
}

/// A landmark network of the scheme nose1 with one of most operators: convolutions dense, depthwise and pointwise, a
/// residual addition, pooling, enlargement, concatenation and a matrix with f32 output.
pub(crate) fn landmark_model() -> ModelProto {
    landmark_model_with(false)
}

/// [`landmark_model`], with a float operator in the middle when there is to be an `island`.
pub(crate) fn landmark_model_with(island: bool) -> ModelProto {
    let card = ModelCard {
        name: "int8-test".to_owned(),
        task: Task::Landmarks {
            scheme: Scheme::Nose1,
            crop: CropRule::AroundFace { margin: 1.3 },
        },
        input_width: 20,
        input_height: 24,
        color: Color::Rgb,
        normalization: Normalization::SYMMETRIC,
        training_data: "none: random weights for a test".to_owned(),
    };
    let mut builder = Builder {
        random: Random::new(7),
        graph: GraphProto {
            name: Some("int8 test".to_owned()),
            input: vec![value_info("image", &[1, 3, 24, 20])],
            output: vec![value_info("landmarks", &[1, 2])],
            ..GraphProto::default()
        },
        count: 0,
        reduced: false,
    };
    let of = Quantization {
        scale: 1.0 / 128.0,
        zero: 128,
    };
    let image = Value {
        name: builder.quantize("image", of),
        channels: 3,
        height: 24,
        width: 20,
        of,
    };
    let first = builder.conv_to(&image, 13, 1, Some(of));
    let mut deep = builder.conv_to(&first, 13, 13, Some(of));
    if island {
        deep = builder.float_island(&deep);
    }
    let sum = builder.residual(&deep, std::slice::from_ref(&deep), true);
    let pooled = builder.max_pool(&sum);
    let joined = builder.concat(&pooled, std::slice::from_ref(&pooled), true);
    let large = builder.resize(&joined);
    let mean = builder.average_pool(&large);
    let flat = builder.node("Flatten", "", vec![mean.name.clone()], vec![int("axis", 1)]);
    let weights = builder.weights(2 * mean.channels);
    let inputs = vec![
        flat,
        builder.float("as", &[], &[mean.of.scale]),
        builder.bytes("az", &[], &[mean.of.zero]),
        builder.signed("b", &[2, mean.channels], &weights),
        builder.float("bs", &[2], &[0.001, 0.002]),
        builder.signed("bz", &[2], &[0, 0]),
        builder.ints32("c", &[2], &[5, -70]),
    ];
    builder.node("QGemm", "com.microsoft", inputs, vec![int("transB", 1)]);
    let node = builder.graph.node.last_mut().expect("a node");
    node.output = vec!["landmarks".to_owned()];
    ModelProto {
        metadata_props: entries_from_map(&card.to_metadata()),
        ..decode_model(&encode(builder.graph)).expect("a model")
    }
}

/// The file of [`landmark_model`] with 0 for the scale of an addition's result.
pub(crate) fn with_scale_zero() -> Vec<u8> {
    let mut model = landmark_model();
    let graph = model.graph.as_mut().expect("a graph");
    let mut nodes = graph.node.iter();
    let add = nodes.find(|node| node.op_type.as_deref() == Some("QLinearAdd"));
    let scale = &add.expect("an addition").input[6];
    for constant in &mut graph.initializer {
        if constant.name.as_ref() == Some(scale) {
            constant.raw_data = Some(vec![0; 4]);
        }
    }
    model.encode_to_vec()
}

/// The file of a graph with the operator sets of the int8 form.
pub(crate) fn encode(graph: GraphProto) -> Vec<u8> {
    let set = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    ModelProto {
        ir_version: Some(9),
        graph: Some(graph),
        opset_import: vec![set("", 18), set("com.microsoft", 1)],
        ..ModelProto::default()
    }
    .encode_to_vec()
}

impl Builder {
    fn build(&mut self, small: bool) -> CodedInput {
        let random = &mut self.random;
        let channels = random.pick(&[1, 3, 3, 3, 2, 5, 16, 19]);
        let largest = if small { 9 } else { 24 };
        let (height, width) = (random.range(3, largest), random.range(3, largest));
        let of = if random.chance(60) {
            Quantization {
                scale: 1.0 / 128.0,
                zero: 128,
            }
        } else {
            let scale = random.between(0.001, 0.05);
            Quantization {
                scale,
                zero: random.byte(),
            }
        };
        let shape = vec![1, channels, height, width];
        self.graph.input.push(value_info("image", &shape));
        let name = self.quantize("image", of);
        let mut values = vec![Value {
            name,
            channels,
            height,
            width,
            of,
        }];
        let steps = self.random.range(2, if small { 5 } else { 12 });
        for _ in 0..steps {
            let next = self.step(&values, small);
            values.push(next);
        }
        self.heads(&values, small);
        let count = shape.iter().product();
        CodedInput {
            shape,
            step: of.scale * self.random.pick(&[0.5, 1.0, 1.0, 1.25, 2.0]),
            codes: (0..count).map(|_| self.random.byte()).collect(),
        }
    }

    /// A further value from those there are, mostly from the last one.
    fn step(&mut self, values: &[Value], small: bool) -> Value {
        let from = if self.random.chance(75) {
            values.len() - 1
        } else {
            self.random.range(0, values.len() - 1)
        };
        let from = &values[from];
        match self.random.range(1, 100) {
            1..=46 => self.conv(from, small),
            47..=65 => self.residual(from, values, small),
            66..=73 => self.concat(from, values, small),
            74..=79 if from.pixels() <= 100 => self.resize(from),
            80..=87 => self.max_pool(from),
            88..=91 => self.average_pool(from),
            92..=96 => self.float_island(from),
            _ => self.conv(from, small),
        }
    }

    fn conv(&mut self, from: &Value, small: bool) -> Value {
        let most = if small { 12 } else { 40 };
        let outputs = self.random.range(1, most);
        let random = &mut self.random;
        let group = match random.range(1, 100) {
            1..=30 => from.channels,
            31..=45 => {
                let divisors: Vec<usize> = (2..=from.channels)
                    .filter(|group| from.channels.is_multiple_of(*group))
                    .collect();
                if divisors.is_empty() {
                    1
                } else {
                    random.pick(&divisors)
                }
            }
            _ => 1,
        };
        let outputs = match group {
            1 => outputs,
            // Mostly true depthwise convolutions.
            _ if group == from.channels => group * random.pick(&[1, 1, 1, 1, 2]),
            _ => group * random.range(1, outputs.div_ceil(group)),
        };
        self.conv_to(from, outputs, group, None)
    }

    /// A convolution; `same` keeps the size.
    fn conv_to(
        &mut self,
        from: &Value,
        outputs: usize,
        group: usize,
        same: Option<Quantization>,
    ) -> Value {
        let random = &mut self.random;
        let kernels: &[(usize, usize)] = &[
            (1, 1),
            (1, 1),
            (1, 1),
            (3, 3),
            (3, 3),
            (3, 3),
            (5, 5),
            (1, 3),
            (3, 1),
            (2, 2),
            (7, 7),
            (4, 3),
        ];
        let strides: &[(usize, usize)] = &[
            (1, 1),
            (1, 1),
            (1, 1),
            (1, 1),
            (2, 2),
            (2, 2),
            (2, 2),
            (1, 2),
            (3, 3),
            (2, 1),
        ];
        let (mut kernel, mut stride) = (random.pick(kernels), random.pick(strides));
        let mut pads: [usize; 4] = match random.range(1, 100) {
            1..=60 => {
                let (y, x) = (kernel.0 / 2, kernel.1 / 2);
                [y, x, y, x]
            }
            61..=80 => [0; 4],
            _ => [
                random.range(0, kernel.0 - 1),
                random.range(0, kernel.1 - 1),
                random.range(0, kernel.0 - 1),
                random.range(0, kernel.1 - 1),
            ],
        };
        if same.is_some() {
            kernel = random.pick(&[(1, 1), (3, 3), (5, 5)]);
            stride = (1, 1);
            let (y, x) = (kernel.0 / 2, kernel.1 / 2);
            pads = [y, x, y, x];
        }
        if from.height + pads[0] + pads[2] < kernel.0 || from.width + pads[1] + pads[3] < kernel.1 {
            (kernel, stride, pads) = ((1, 1), (1, 1), [0; 4]);
        }
        let depth = from.channels / group * kernel.0 * kernel.1;
        let input = self.read_as(from);
        let weights = self.weights(outputs * depth);
        let (scales, output) = self.output_of(input, outputs, depth, same);
        let bias = self.bias(outputs, depth);
        let one_scale = scales.iter().all(|scale| *scale == scales[0]);
        let inputs = [
            from.name.clone(),
            self.float("xs", &[], &[input.scale]),
            self.bytes("xz", &[], &[input.zero]),
            self.signed(
                "w",
                &[outputs, from.channels / group, kernel.0, kernel.1],
                &weights,
            ),
            if one_scale {
                self.float("ws", &[], &scales[..1])
            } else {
                self.float("ws", &[outputs], &scales)
            },
            if one_scale {
                self.signed("wz", &[], &[0])
            } else {
                self.signed("wz", &[outputs], &vec![0; outputs])
            },
            self.float("ys", &[], &[output.scale]),
            self.bytes("yz", &[], &[output.zero]),
        ];
        let mut inputs = inputs.to_vec();
        if self.random.chance(90) {
            inputs.push(self.ints32("b", &[outputs], &bias));
        }
        let attributes = vec![
            ints("kernel_shape", &[kernel.0, kernel.1]),
            ints("strides", &[stride.0, stride.1]),
            ints("pads", &pads),
            int("group", group as i64),
        ];
        let name = self.node("QLinearConv", "", inputs, attributes);
        Value {
            name,
            channels: outputs,
            height: (from.height + pads[0] + pads[2] - kernel.0) / stride.0 + 1,
            width: (from.width + pads[1] + pads[3] - kernel.1) / stride.1 + 1,
            of: output,
        }
    }

    /// A convolution that keeps the shape, and the addition of what it read or of another convolution's result.
    fn residual(&mut self, from: &Value, values: &[Value], small: bool) -> Value {
        let same = self.some_quantization(from.of.scale);
        let group = if self.random.chance(30) {
            from.channels
        } else {
            1
        };
        let result = self.conv_to(from, from.channels, group, Some(same));
        let others: Vec<&Value> = values
            .iter()
            .filter(|value| {
                (value.channels, value.height, value.width)
                    == (from.channels, from.height, from.width)
            })
            .collect();
        let mut other = others[self.random.range(0, others.len() - 1)].clone();
        if self.random.chance(25) && !small {
            let same = self.some_quantization(from.of.scale);
            other = self.conv_to(from, from.channels, 1, Some(same));
        }
        if self.random.chance(5) {
            other = result.clone();
        }
        let (a, b) = if self.random.chance(50) {
            (result, other)
        } else {
            (other, result)
        };
        let (of_a, of_b) = (self.read_as(&a), self.read_as(&b));
        let spread = of_a.scale + of_b.scale;
        let output = self.some_quantization(spread * 0.7);
        let inputs = vec![
            a.name.clone(),
            self.float("as", &[], &[of_a.scale]),
            self.bytes("az", &[], &[of_a.zero]),
            b.name,
            self.float("bs", &[], &[of_b.scale]),
            self.bytes("bz", &[], &[of_b.zero]),
            self.float("cs", &[], &[output.scale]),
            self.bytes("cz", &[], &[output.zero]),
        ];
        let name = self.node("QLinearAdd", "com.microsoft", inputs, vec![]);
        Value {
            name,
            of: output,
            ..a
        }
    }

    fn concat(&mut self, from: &Value, values: &[Value], small: bool) -> Value {
        let mut parts: Vec<Value> = values
            .iter()
            .filter(|value| (value.height, value.width) == (from.height, from.width))
            .cloned()
            .collect();
        while parts.len() > 3 {
            let at = self.random.range(0, parts.len() - 1);
            parts.remove(at);
        }
        let most = if small { 5 } else { 20 };
        let outputs = self.random.range(1, most);
        parts.push(self.conv_to(from, outputs, 1, Some(from.of)));
        let names = parts.iter().map(|part| part.name.clone()).collect();
        let axis = self.random.pick(&[1, 1, -3]);
        let name = self.node("Concat", "", names, vec![int("axis", axis)]);
        Value {
            name,
            channels: parts.iter().map(|part| part.channels).sum(),
            ..from.clone()
        }
    }

    fn resize(&mut self, from: &Value) -> Value {
        let (down, right) = self.random.pick(&[(2, 2), (2, 2), (1, 2), (3, 3), (3, 1)]);
        let scales = [1.0, 1.0, down as f32, right as f32];
        let inputs = vec![
            from.name.clone(),
            String::new(),
            self.float("scales", &[4], &scales),
        ];
        let attributes = vec![
            text("mode", "nearest"),
            text("coordinate_transformation_mode", "asymmetric"),
            text("nearest_mode", "floor"),
        ];
        let name = self.node("Resize", "", inputs, attributes);
        Value {
            name,
            height: from.height * down,
            width: from.width * right,
            ..from.clone()
        }
    }

    fn max_pool(&mut self, from: &Value) -> Value {
        let random = &mut self.random;
        let kernel: [usize; 2] = random.pick(&[[2, 2], [3, 3], [3, 3], [2, 3], [5, 5], [1, 2]]);
        let stride: [usize; 2] = random.pick(&[[1, 1], [2, 2], [2, 2], [3, 2]]);
        let mut pads = [0; 4];
        if random.chance(60) {
            pads = [0, 1, 0, 1].map(|axis: usize| random.range(0, kernel[axis] / 2));
        }
        if from.height + pads[0] + pads[2] < kernel[0] || from.width + pads[1] + pads[3] < kernel[1]
        {
            return self.conv_to(from, from.channels, 1, Some(from.of));
        }
        let attributes = vec![
            ints("kernel_shape", &kernel),
            ints("strides", &stride),
            ints("pads", &pads),
        ];
        let name = self.node("MaxPool", "", vec![from.name.clone()], attributes);
        Value {
            name,
            height: (from.height + pads[0] + pads[2] - kernel[0]) / stride[0] + 1,
            width: (from.width + pads[1] + pads[3] - kernel[1]) / stride[1] + 1,
            ..from.clone()
        }
    }

    fn average_pool(&mut self, from: &Value) -> Value {
        let input = self.read_as(from);
        let factor = self.random.between(0.2, 1.2);
        let output = self.some_quantization(input.scale * factor);
        let inputs = vec![
            from.name.clone(),
            self.float("xs", &[], &[input.scale]),
            self.bytes("xz", &[], &[input.zero]),
            self.float("ys", &[], &[output.scale]),
            self.bytes("yz", &[], &[output.zero]),
        ];
        let name = self.node(
            "QLinearGlobalAveragePool",
            "com.microsoft",
            inputs,
            vec![int("channels_last", 0)],
        );
        Value {
            name,
            height: 1,
            width: 1,
            of: output,
            ..from.clone()
        }
    }

    /// Out of bytes, through an operator whose result has one right answer, and back.
    fn float_island(&mut self, from: &Value) -> Value {
        let input = self.read_as(from);
        let mut name = self.dequantize(&from.name, input);
        let factor = self.random.between(0.3, 3.0);
        name = match self.random.range(0, 2) {
            0 => {
                let constant = self.float("k", &[], &[factor]);
                self.node("Mul", "", vec![name, constant], vec![])
            }
            1 => self.node("Neg", "", vec![name], vec![]),
            _ => {
                let constant = self.float("k", &[], &[factor * input.scale * 50.0]);
                self.node("Add", "", vec![name, constant], vec![])
            }
        };
        let factor = self.random.between(0.6, 2.0);
        let of = self.some_quantization(input.scale * factor);
        Value {
            name: self.quantize(&name, of),
            of,
            ..from.clone()
        }
    }

    /// Outputs: of the last value and of some others, as maps or through matrices.
    fn heads(&mut self, values: &[Value], small: bool) {
        let count = self.random.range(1, 4);
        for index in 0..count {
            let from = if index == 0 {
                values.len() - 1
            } else {
                self.random.range(1, values.len() - 1)
            };
            let from = values[from].clone();
            let size = from.channels * from.pixels();
            let output = if size <= 2000 && self.random.chance(60) {
                self.matrix_head(&from, small)
            } else if self.random.chance(15) {
                let shape = self.ints64("shape", &[2], &[1, -1]);
                let name = self.node("Reshape", "", vec![from.name.clone(), shape], vec![]);
                (self.dequantize(&name, from.of), vec![1, size])
            } else {
                let of = self.read_as(&from);
                let shape = vec![1, from.channels, from.height, from.width];
                (self.dequantize(&from.name, of), shape)
            };
            let (name, shape) = output;
            if !self
                .graph
                .output
                .iter()
                .any(|output| output.name.as_ref() == Some(&name))
            {
                self.graph.output.push(value_info(&name, &shape));
            }
        }
    }

    fn matrix_head(&mut self, from: &Value, small: bool) -> (String, Vec<usize>) {
        let size = from.channels * from.pixels();
        let most = if small { 6 } else { 40 };
        let outputs = self.random.range(1, most);
        let flat = self.node("Flatten", "", vec![from.name.clone()], vec![int("axis", 1)]);
        let input = self.read_as(from);
        let weights = self.weights(outputs * size);
        let (scales, output) = self.output_of(input, outputs, size, None);
        let bias = self.bias(outputs, size);
        let scalar = scales.iter().all(|scale| *scale == scales[0]);
        let (scale, zero) = if scalar {
            (
                self.float("bs", &[], &scales[..1]),
                self.signed("bz", &[], &[0]),
            )
        } else {
            (
                self.float("bs", &[outputs], &scales),
                self.signed("bz", &[outputs], &vec![0; outputs]),
            )
        };
        let mut inputs = vec![
            flat,
            self.float("as", &[], &[input.scale]),
            self.bytes("az", &[], &[input.zero]),
        ];
        let kind = self.random.range(0, 3);
        let shape = vec![1, outputs];
        if kind == 0 {
            inputs.extend([self.signed("b", &[size, outputs], &weights), scale, zero]);
            inputs.push(self.float("ys", &[], &[output.scale]));
            inputs.push(self.bytes("yz", &[], &[output.zero]));
            let name = self.node("QLinearMatMul", "", inputs, vec![]);
            return (self.dequantize(&name, output), shape);
        }
        let transposed = self.random.chance(70);
        let edges = if transposed {
            [outputs, size]
        } else {
            [size, outputs]
        };
        inputs.extend([self.signed("b", &edges, &weights), scale, zero]);
        inputs.push(if self.random.chance(85) {
            self.ints32("c", &[outputs], &bias)
        } else {
            String::new()
        });
        let attributes = vec![int("transB", i64::from(transposed))];
        if kind == 1 {
            inputs.push(self.float("ys", &[], &[output.scale]));
            inputs.push(self.bytes("yz", &[], &[output.zero]));
            let name = self.node("QGemm", "com.microsoft", inputs, attributes);
            return (self.dequantize(&name, output), shape);
        }
        (
            self.node("QGemm", "com.microsoft", inputs, attributes),
            shape,
        )
    }

    /// How a reader takes a value: mostly as it was meant.
    fn read_as(&mut self, value: &Value) -> Quantization {
        if self.random.chance(93) {
            return value.of;
        }
        self.some_quantization(value.of.scale)
    }

    fn some_quantization(&mut self, scale: f32) -> Quantization {
        let zero = match self.random.range(0, 5) {
            0..=2 => 0,
            3 => 128,
            4 => self.random.byte(),
            _ => self.random.pick(&[1, 127, 254, 255]),
        };
        Quantization {
            scale: scale * self.random.between(0.7, 1.4),
            zero,
        }
    }

    fn weights(&mut self, count: usize) -> Vec<i8> {
        let reduced = self.reduced;
        let extreme = self.random.chance(10);
        let one = |random: &mut Random| {
            let weight = random.byte() as i8;
            match (extreme, reduced) {
                // Where sums of pairs overflow 16 bits.
                (true, false) => random.pick(&[127, -128]),
                (true, true) => random.pick(&[63, -64]),
                (false, false) => weight,
                (false, true) => weight / 2,
            }
        };
        (0..count).map(|_| one(&mut self.random)).collect()
    }

    fn bias(&mut self, count: usize, depth: usize) -> Vec<i32> {
        let spread = (depth as f32).sqrt() * 73.0 * 60.0;
        let one = |random: &mut Random| random.between(-spread, spread) as i32;
        (0..count).map(|_| one(&mut self.random)).collect()
    }

    /// Scales of weights, and an output quantisation that uses the range of a byte.
    fn output_of(
        &mut self,
        input: Quantization,
        outputs: usize,
        depth: usize,
        given: Option<Quantization>,
    ) -> (Vec<f32>, Quantization) {
        let base = self.random.between(0.001, 0.02);
        let spread = (depth as f32).sqrt() * 73.0 * 70.0;
        let usual = input.scale * base * spread / self.random.between(40.0, 110.0);
        let (base, output) = match given {
            Some(given) => (base * given.scale / usual, given),
            None => {
                let mut output = self.some_quantization(usual);
                output.scale = usual;
                (base, output)
            }
        };
        let each = self.random.chance(80);
        let mut scale = || {
            base * if each {
                self.random.between(0.4, 1.6)
            } else {
                1.0
            }
        };
        ((0..outputs).map(|_| scale()).collect(), output)
    }

    fn quantize(&mut self, from: &str, of: Quantization) -> String {
        let inputs = vec![
            from.to_owned(),
            self.float("s", &[], &[of.scale]),
            self.bytes("z", &[], &[of.zero]),
        ];
        self.node("QuantizeLinear", "", inputs, vec![])
    }

    fn dequantize(&mut self, from: &str, of: Quantization) -> String {
        let inputs = vec![
            from.to_owned(),
            self.float("s", &[], &[of.scale]),
            self.bytes("z", &[], &[of.zero]),
        ];
        self.node("DequantizeLinear", "", inputs, vec![])
    }

    /// Appends a node and returns the name of its output.
    fn node(
        &mut self,
        operator: &str,
        domain: &str,
        input: Vec<String>,
        attribute: Vec<AttributeProto>,
    ) -> String {
        let output = self.name("v");
        self.graph.node.push(NodeProto {
            input,
            output: vec![output.clone()],
            name: Some(format!("{operator}_{output}")),
            op_type: Some(operator.to_owned()),
            domain: Some(domain.to_owned()),
            attribute,
            ..NodeProto::default()
        });
        output
    }

    fn name(&mut self, what: &str) -> String {
        self.count += 1;
        format!("{what}{}", self.count)
    }

    fn constant(&mut self, what: &str, of: i32, shape: &[usize], bytes: Vec<u8>) -> String {
        let name = self.name(what);
        self.graph.initializer.push(TensorProto {
            dims: shape.iter().map(|&edge| edge as i64).collect(),
            data_type: Some(of),
            raw_data: Some(bytes),
            name: Some(name.clone()),
            ..TensorProto::default()
        });
        name
    }

    fn float(&mut self, what: &str, shape: &[usize], values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        let bytes = bytes.collect();
        self.constant(what, data_type::FLOAT, shape, bytes)
    }

    fn bytes(&mut self, what: &str, shape: &[usize], values: &[u8]) -> String {
        self.constant(what, data_type::UINT8, shape, values.to_vec())
    }

    fn signed(&mut self, what: &str, shape: &[usize], values: &[i8]) -> String {
        let bytes = values.iter().map(|&value| value as u8).collect();
        self.constant(what, data_type::INT8, shape, bytes)
    }

    fn ints32(&mut self, what: &str, shape: &[usize], values: &[i32]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        let bytes = bytes.collect();
        self.constant(what, data_type::INT32, shape, bytes)
    }

    fn ints64(&mut self, what: &str, shape: &[usize], values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        let bytes = bytes.collect();
        self.constant(what, data_type::INT64, shape, bytes)
    }
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        ints: values.iter().map(|&value| value as i64).collect(),
        r#type: Some(attribute_type::INTS),
        ..AttributeProto::default()
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        i: Some(value),
        r#type: Some(attribute_type::INT),
        ..AttributeProto::default()
    }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        s: Some(value.as_bytes().to_vec()),
        r#type: Some(attribute_type::STRING),
        ..AttributeProto::default()
    }
}

fn value_info(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dim = |&size: &usize| DimensionProto {
        dim_value: Some(size as i64),
        dim_param: None,
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: Some(data_type::FLOAT),
                shape: Some(TensorShapeProto {
                    dim: shape.iter().map(dim).collect(),
                }),
            }),
        }),
    }
}
