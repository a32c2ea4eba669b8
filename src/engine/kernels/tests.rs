//! Every kernel of every set that this machine runs, on seeded random shapes, against the formulas written out.

mod speed;

use super::{
    Add, AddSpec, Buffer, ConvSpec, Convolution, Copy, Dequantize, FullyConnected, FullyOutput,
    FullySpec, GlobalAveragePool, KernelSet, Layout, MaxPool, PoolSpec, QuantizePlanes,
    ResidualSpec, ResizeNearest, fill_border, peak_gmacs, simd::Instance,
};
use std::ops::Range;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number of `range`.
    fn within(&mut self, range: Range<usize>) -> usize {
        range.start + (self.next() % range.len() as u64) as usize
    }

    fn one_of<T: std::marker::Copy>(&mut self, values: &[T]) -> T {
        values[self.within(0..values.len())]
    }

    /// In `0.0..1.0`.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    fn zero_point(&mut self) -> u8 {
        let any = self.next() as u8;
        self.one_of(&[0, 255, 128, any])
    }

    /// Bytes that are often extreme.
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let extreme = self.within(0..3);
        let byte = |random: &mut Self| match extreme {
            0 => random.one_of(&[0, 255]),
            1 => 255,
            _ => random.next() as u8,
        };
        (0..count).map(|_| byte(self)).collect()
    }

    /// Weights of a kind: any, extreme, or of 7 bits.
    fn weights(&mut self, count: usize) -> Vec<i8> {
        let kind = self.within(0..4);
        let weight = |random: &mut Self| match kind {
            0 => random.one_of(&[-127, 127]),
            1 => 127,
            2 => random.within(0..128) as i8 - 64,
            _ => (random.within(0..255) as i32 - 127) as i8,
        };
        (0..count).map(|_| weight(self)).collect()
    }

    /// Scales about 1.
    fn scale(&mut self) -> f32 {
        0.5 + self.unit()
    }

    /// A layout with a random border of at least the given one.
    fn border(&mut self, layout: Layout, least: [usize; 4]) -> Layout {
        let [top, left, bottom, right] = least.map(|least| least + self.within(0..2));
        layout.with_border(top, left, bottom, right)
    }

    /// A buffer of random bytes for a layout, with the border filled.
    fn map(&mut self, layout: &Layout, zero: u8) -> Buffer {
        let bytes = self.bytes(layout.len());
        let mut buffer = Buffer::copied(&bytes);
        fill_border(layout, zero, &mut buffer);
        buffer
    }
}

/// The channels of pixels inside a map, in order; what lies in the border is checked apart.
fn pixels(layout: &Layout, buffer: &[u8]) -> Vec<u8> {
    let mut values = Vec::new();
    for y in 0..layout.height {
        for x in 0..layout.width {
            values.extend_from_slice(&buffer[layout.offset(y, x)..][..layout.channels]);
        }
    }
    values
}

/// Runs a kernel in two parts of its rows and checks that it fills the border of its rows and nothing else.
fn in_two_parts(
    random: &mut Random,
    layout: &Layout,
    zero: u8,
    mut run: impl FnMut(Range<usize>, &mut [u8]),
) -> Vec<u8> {
    let mut buffer = Buffer::new(layout.len());
    buffer.fill(0xa5);
    let at = random.within(0..layout.height + 1);
    for rows in [0..at, at..layout.height] {
        let range = layout.row_range(rows.clone());
        run(rows, &mut buffer[range]);
    }
    let inside = layout.row_range(0..layout.height);
    assert!(buffer[..inside.start].iter().all(|&byte| byte == 0xa5));
    assert!(buffer[inside.end..].iter().all(|&byte| byte == 0xa5));
    for y in 0..layout.height {
        let row = &buffer[layout.row_range(y..y + 1)];
        let first = layout.left * layout.channel_stride;
        let end = (layout.left + layout.width) * layout.channel_stride;
        assert!(row[..first].iter().all(|&byte| byte == zero));
        assert!(row[end..].iter().all(|&byte| byte == zero));
    }
    pixels(layout, &buffer)
}

/// `round(x) + zero` in 0..=255, in f32 as ONNX Runtime has it.
fn rounded(steps: f32, zero: u8) -> u8 {
    (steps.round_ties_even() + f32::from(zero)).clamp(0.0, 255.0) as u8
}

fn added(spec: &AddSpec, a: u8, b: u8) -> u8 {
    let (ratio_a, ratio_b) = (
        spec.a_scale / spec.output_scale,
        spec.b_scale / spec.output_scale,
    );
    let zeros = ratio_a.mul_add(f32::from(spec.a_zero), ratio_b * f32::from(spec.b_zero));
    let inner = f32::from(b).mul_add(ratio_b, f32::from(spec.output_zero) - zeros);
    rounded(f32::from(a).mul_add(ratio_a, inner), 0)
}

fn add_spec(random: &mut Random) -> AddSpec {
    AddSpec {
        a_scale: random.scale(),
        a_zero: random.zero_point(),
        b_scale: random.scale(),
        b_zero: random.zero_point(),
        output_scale: random.scale(),
        output_zero: random.zero_point(),
    }
}

/// A convolution with its operands.
struct ConvCase {
    input: Layout,
    output: Layout,
    kernel: (usize, usize),
    stride: (usize, usize),
    pads: (usize, usize),
    group: usize,
    weights: Vec<i8>,
    bias: Vec<i32>,
    multipliers: Vec<f32>,
    input_zero: u8,
    output_zero: u8,
    residual: Option<(ResidualSpec, Buffer)>,
    bytes: Buffer,
}

#[derive(Clone, std::marker::Copy, Debug)]
enum Kind {
    Dense,
    Pointwise,
    Image,
    Depthwise,
    Grouped,
}

impl ConvCase {
    fn new(kind: Kind, random: &mut Random) -> Self {
        let side = match kind {
            Kind::Pointwise => 1,
            Kind::Depthwise => random.one_of(&[3, 3, 5, 2]),
            _ => random.one_of(&[1, 3, 3, 5]),
        };
        let kernel = match random.within(0..6) {
            0 if !matches!(kind, Kind::Pointwise) => (random.within(1..4), random.within(1..4)),
            _ => (side, side),
        };
        let stride = random.one_of(&[(1, 1), (1, 1), (2, 2), (2, 1), (3, 3)]);
        let (group, channels, outputs) = match kind {
            Kind::Image => (1, random.one_of(&[1, 3]), random.within(1..70)),
            Kind::Depthwise => {
                let most = random.one_of(&[17, 131]);
                let channels = random.within(1..most);
                (channels, channels, channels)
            }
            Kind::Grouped => {
                let group = random.within(2..7);
                let (ins, outs) = (random.within(1..12), random.within(1..12));
                (group, group * ins, group * outs)
            }
            _ => (1, random.within(1..131), random.within(1..131)),
        };
        let (height, width) = (
            random.within(kernel.0..kernel.0 + 9),
            random.within(kernel.1..kernel.1 + 14),
        );
        let pads = (random.within(0..kernel.0), random.within(0..kernel.1));
        let after = (random.within(0..kernel.0), random.within(0..kernel.1));
        let rows = (pads.0 + height + after.0 - kernel.0) / stride.0 + 1;
        let columns = (pads.1 + width + after.1 - kernel.1) / stride.1 + 1;
        let input = match kind {
            Kind::Image => Layout::image(height, width, channels),
            _ => Layout::map(height, width, channels),
        };
        let input = random.border(input, [pads.0, pads.1, after.0, after.1]);
        let output = random.border(Layout::map(rows, columns, outputs), [0; 4]);
        let (input_zero, output_zero) = (random.zero_point(), random.zero_point());
        let depth = channels / group * kernel.0 * kernel.1;
        let spread = random.unit() * 4.0 / (depth as f32).sqrt();
        let add = add_spec(random);
        let residual = (random.within(0..3) == 0).then(|| {
            let other = random.border(Layout::map(rows, columns, outputs), [0; 4]);
            let spec = ResidualSpec {
                add,
                result_is_a: random.within(0..2) == 0,
                other,
            };
            (spec, random.map(&other, 7))
        });
        Self {
            input,
            output,
            kernel,
            stride,
            pads,
            group,
            weights: random.weights(outputs * depth),
            bias: (0..outputs)
                .map(|_| random.within(0..20_000) as i32 - 10_000)
                .collect(),
            multipliers: (0..outputs)
                .map(|_| spread * random.scale() / 64.0)
                .collect(),
            input_zero,
            output_zero,
            residual,
            bytes: random.map(&input, input_zero),
        }
    }

    fn spec(&self) -> ConvSpec<'_> {
        ConvSpec {
            input: self.input,
            output: self.output,
            kernel: self.kernel,
            stride: self.stride,
            pad_top: self.pads.0,
            pad_left: self.pads.1,
            group: self.group,
            weights: &self.weights,
            bias: &self.bias,
            multipliers: &self.multipliers,
            input_zero: self.input_zero,
            output_zero: self.output_zero,
            residual: self.residual.as_ref().map(|(spec, _)| *spec),
        }
    }

    /// The zero point of what is written.
    fn border(&self) -> u8 {
        let added = self.residual.as_ref();
        added.map_or(self.output_zero, |(spec, _)| spec.add.output_zero)
    }

    /// The definition: a sum over the input without its border, operators one after the other.
    fn expected(&self) -> Vec<u8> {
        let (depth, outputs) = (
            self.input.channels / self.group,
            self.output.channels / self.group,
        );
        let mut values = Vec::new();
        for y in 0..self.output.height {
            for x in 0..self.output.width {
                for channel in 0..self.output.channels {
                    let mut sum = i64::from(self.bias[channel]);
                    for ky in 0..self.kernel.0 {
                        for kx in 0..self.kernel.1 {
                            let row = (y * self.stride.0 + ky).wrapping_sub(self.pads.0);
                            let column = (x * self.stride.1 + kx).wrapping_sub(self.pads.1);
                            if row >= self.input.height || column >= self.input.width {
                                continue;
                            }
                            for within in 0..depth {
                                let source = channel / outputs * depth + within;
                                let byte = self.bytes[self.input.offset(row, column) + source];
                                let tap = ((channel * depth + within) * self.kernel.0 + ky)
                                    * self.kernel.1
                                    + kx;
                                sum += (i64::from(byte) - i64::from(self.input_zero))
                                    * i64::from(self.weights[tap]);
                            }
                        }
                    }
                    let result = rounded(sum as f32 * self.multipliers[channel], self.output_zero);
                    values.push(match &self.residual {
                        None => result,
                        Some((spec, other)) => {
                            let other = other[spec.other.offset(y, x) + channel];
                            match spec.result_is_a {
                                true => added(&spec.add, result, other),
                                false => added(&spec.add, other, result),
                            }
                        }
                    });
                }
            }
        }
        values
    }
}

fn convolutions(kind: Kind, count: u64) {
    for seed in 0..count {
        let mut random = Random(seed * 100 + kind as u64);
        let case = ConvCase::new(kind, &mut random);
        let expected = case.expected();
        for (name, set, instance) in instances() {
            let kernel = match set {
                Some(set) => Convolution::new(set, &case.spec()),
                None => Convolution::with_instance(instance, &case.spec()),
            };
            // The set's own kernels run, not the portable ones.
            assert!(
                kernel
                    .describe()
                    .contains(name.trim_start_matches("256-bit ")),
                "{name}"
            );
            let other = case.residual.as_ref().map(|(_, buffer)| &buffer[..]);
            let values = in_two_parts(&mut random, &case.output, case.border(), |rows, output| {
                kernel.run(rows, &case.bytes, other, output);
            });
            let wrong = values.iter().zip(&expected).position(|(a, b)| a != b);
            assert_eq!(
                wrong,
                None,
                "seed {seed}, {}, {:?} to {:?}, pads {:?}, group {}",
                kernel.describe(),
                case.input,
                case.output,
                case.pads,
                case.group
            );
            assert_eq!(values.len(), expected.len());
        }
    }
}

/// A set's kernels for real, not the portable ones; `None` for instances that no set chooses.
fn instances() -> Vec<(String, Option<KernelSet>, Option<&'static Instance>)> {
    let sets = KernelSet::available().into_iter();
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(unused_mut, reason = "instances that no set chooses are x86-64's")
    )]
    let mut all: Vec<_> = sets.map(|set| (set.to_string(), Some(set), None)).collect();
    #[cfg(target_arch = "x86_64")]
    if let Some(instance) = Instance::avx512_half() {
        all.push(("256-bit avx512-vnni".to_owned(), None, Some(instance)));
    }
    all
}

#[test]
fn dense_convolutions_are_exact() {
    convolutions(Kind::Dense, 60);
}

#[test]
fn pointwise_convolutions_are_exact() {
    convolutions(Kind::Pointwise, 80);
}

#[test]
fn convolutions_of_pictures_are_exact() {
    convolutions(Kind::Image, 60);
}

#[test]
fn depthwise_convolutions_are_exact() {
    convolutions(Kind::Depthwise, 120);
}

#[test]
fn grouped_convolutions_are_exact() {
    convolutions(Kind::Grouped, 60);
}

#[test]
fn huge_multipliers_saturate() {
    let input = Layout::map(1, 3, 1);
    let bytes = Buffer::copied(&[&[0; 16][..], &[1; 16], &[2; 16]].concat());
    for set in KernelSet::available() {
        let spec = ConvSpec {
            input,
            output: Layout::map(1, 3, 1),
            kernel: (1, 1),
            stride: (1, 1),
            pad_top: 0,
            pad_left: 0,
            group: 1,
            weights: &[127],
            bias: &[0],
            multipliers: &[1e30],
            input_zero: 1,
            output_zero: 9,
            residual: None,
        };
        let mut output = [0; 48];
        Convolution::new(set, &spec).run(0..1, &bytes, None, &mut output);
        assert_eq!([output[0], output[16], output[32]], [0, 9, 255], "{set}");
    }
}

#[test]
fn additions_are_exact() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let map = Layout::map(
            random.within(1..6),
            random.within(1..9),
            random.within(1..131),
        );
        let factors = [0; 4].map(|_| random.one_of(&[1, 1, 2, 3]));
        let size = (
            map.height * factors[0] * factors[1],
            map.width * factors[2] * factors[3],
        );
        let sized = |height, width| Layout::map(height, width, map.channels);
        let output = random.border(sized(size.0, size.1), [0; 4]);
        let a = random.border(sized(size.0 / factors[0], size.1 / factors[2]), [0; 4]);
        let b = random.border(sized(size.0 / factors[1], size.1 / factors[3]), [0; 4]);
        let spec = add_spec(&mut random);
        let (left, right) = (random.map(&a, 1), random.map(&b, 2));
        let mut expected = Vec::new();
        for y in 0..size.0 {
            for x in 0..size.1 {
                let of_a = a.offset(y / factors[0], x / factors[2]);
                let of_b = b.offset(y / factors[1], x / factors[3]);
                let pairs = left[of_a..].iter().zip(&right[of_b..]);
                let sums = pairs.map(|(&a, &b)| added(&spec, a, b));
                expected.extend(sums.take(map.channels));
            }
        }
        for set in KernelSet::available() {
            let kernel = Add::new(set, a, b, output, &spec);
            let values = in_two_parts(&mut random, &output, spec.output_zero, |rows, output| {
                kernel.run(rows, &left, &right, output);
            });
            assert_eq!(values, expected, "seed {seed}, {}", kernel.describe());
        }
    }
}

/// Ties and overflow, where fused and separate rounding differ.
#[test]
fn additions_round_once() {
    let spec = AddSpec {
        a_scale: 1.0,
        a_zero: 3,
        b_scale: 0.5,
        b_zero: 0,
        output_scale: 1.0,
        output_zero: 0,
    };
    let a = Buffer::copied(&[10; 16]);
    let b = Buffer::copied(&[0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
    for (spec, expected) in [
        (spec, [7, 8, 8, 8, 9, 10, 10, 10]),
        (
            AddSpec {
                b_scale: 1e12,
                ..spec
            },
            [7, 0, 0, 0, 0, 0, 0, 0],
        ),
    ] {
        for set in KernelSet::available() {
            let map = Layout::map(1, 1, 8);
            let mut output = [0; 16];
            Add::new(set, map, map, map, &spec).run(0..1, &a, &b, &mut output);
            assert_eq!(output[..8], expected, "{set}");
        }
    }
}

#[test]
fn global_averages_are_exact() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let map = Layout::map(
            random.within(1..12),
            random.within(1..12),
            random.within(1..131),
        );
        let input = random.border(map, [0; 4]);
        let output = random.border(Layout::map(1, 1, input.channels), [0; 4]);
        let from = (random.scale(), random.zero_point());
        let to = (random.scale(), random.zero_point());
        let bytes = random.map(&input, from.1);
        let count = input.height * input.width;
        let multiplier = from.0 / (to.0 * count as f32);
        let values = pixels(&input, &bytes);
        let expected: Vec<u8> = (0..input.channels)
            .map(|channel| {
                let channel = values.iter().skip(channel).step_by(input.channels);
                let sum: i32 = channel
                    .map(|&byte| i32::from(byte) - i32::from(from.1))
                    .sum();
                rounded(sum as f32 * multiplier, to.1)
            })
            .collect();
        for set in KernelSet::available() {
            let kernel = GlobalAveragePool::new(set, input, output, from, to);
            let values = in_two_parts(&mut random, &output, to.1, |rows, output| {
                if !rows.is_empty() {
                    kernel.run(&bytes, output);
                }
            });
            assert_eq!(values, expected, "seed {seed}, {}", kernel.describe());
        }
    }
}

#[test]
fn maximum_pools_are_exact() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let map = Layout::map(
            random.within(1..12),
            random.within(1..12),
            random.within(1..131),
        );
        let input = random.border(map, [0; 4]);
        let kernel = (random.within(1..4), random.within(1..4));
        let stride = (random.within(1..3), random.within(1..3));
        let pads = (random.within(0..kernel.0), random.within(0..kernel.1));
        let size = (
            (input.height + pads.0 - 1) / stride.0 + 1,
            (input.width + pads.1 - 1) / stride.1 + 1,
        );
        let output = random.border(Layout::map(size.0, size.1, input.channels), [0; 4]);
        let spec = PoolSpec {
            input,
            output,
            kernel,
            stride,
            pad_top: pads.0,
            pad_left: pads.1,
            zero: 77,
        };
        let bytes = random.map(&input, 255);
        let mut expected = Vec::new();
        for y in 0..size.0 {
            for x in 0..size.1 {
                for channel in 0..input.channels {
                    let mut greatest = 0;
                    for ky in 0..kernel.0 {
                        for kx in 0..kernel.1 {
                            let row = (y * stride.0 + ky).wrapping_sub(pads.0);
                            let column = (x * stride.1 + kx).wrapping_sub(pads.1);
                            if row < input.height && column < input.width {
                                let byte = bytes[input.offset(row, column) + channel];
                                greatest = byte.max(greatest);
                            }
                        }
                    }
                    expected.push(greatest);
                }
            }
        }
        for set in KernelSet::available() {
            let kernel = MaxPool::new(set, spec);
            let values = in_two_parts(&mut random, &output, 77, |rows, output| {
                kernel.run(rows, &bytes, output);
            });
            assert_eq!(values, expected, "seed {seed}, {}", kernel.describe());
        }
    }
}

#[test]
fn enlargements_are_exact() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let map = Layout::map(
            random.within(1..6),
            random.within(1..9),
            random.within(1..131),
        );
        let input = random.border(map, [0; 4]);
        let factors = (random.within(1..4), random.within(1..4));
        let size = (input.height * factors.0, input.width * factors.1);
        let output = random.border(Layout::map(size.0, size.1, input.channels), [0; 4]);
        let bytes = random.map(&input, 1);
        let mut expected = Vec::new();
        for y in 0..size.0 {
            for x in 0..size.1 {
                let at = input.offset(y / factors.0, x / factors.1);
                expected.extend_from_slice(&bytes[at..at + input.channels]);
            }
        }
        for set in KernelSet::available() {
            let kernel = ResizeNearest::new(set, input, output, 5);
            let values = in_two_parts(&mut random, &output, 5, |rows, output| {
                kernel.run(rows, &bytes, output);
            });
            assert_eq!(values, expected, "seed {seed}, {}", kernel.describe());
        }
    }
}

#[test]
fn copies_join_channels() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let (height, width) = (random.within(1..6), random.within(1..9));
        let channels = [0; 3].map(|_| random.within(1..40));
        let inputs =
            channels.map(|channels| random.border(Layout::map(height, width, channels), [0; 4]));
        let whole = Layout::map(height, width, channels.iter().sum());
        let output = random.border(whole, [0; 4]);
        let buffers = inputs.map(|input| random.map(&input, 1));
        let mut expected = Vec::new();
        for y in 0..height {
            for x in 0..width {
                for (input, bytes) in inputs.iter().zip(&buffers) {
                    expected.extend_from_slice(&bytes[input.offset(y, x)..][..input.channels]);
                }
            }
        }
        for set in KernelSet::available() {
            let values = in_two_parts(&mut random, &output, 5, |rows, output_rows| {
                let mut first = 0;
                for (input, bytes) in inputs.iter().zip(&buffers) {
                    let kernel = Copy::new(set, *input, output, first, 5);
                    kernel.run(rows.clone(), bytes, output_rows);
                    first += input.channels;
                }
            });
            assert_eq!(values, expected, "seed {seed}, {set}");
        }
    }
}

/// A picture's bytes get a border without a change of their stride.
#[test]
fn copies_keep_pictures() {
    let mut random = Random(3);
    let input = Layout::image(5, 7, 3);
    let output = input.with_border(1, 2, 0, 1);
    let bytes = random.map(&input, 0);
    let kernel = Copy::new(KernelSet::Portable, input, output, 0, 128);
    let values = in_two_parts(&mut random, &output, 128, |rows, output| {
        kernel.run(rows, &bytes[..input.len()], output);
    });
    assert_eq!(values, bytes[..input.len()]);
}

#[test]
fn fully_connected_layers_are_exact() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let map = Layout::map(
            random.within(1..5),
            random.within(1..5),
            random.within(1..131),
        );
        let input = random.border(map, [0; 4]);
        let outputs = random.within(1..140);
        let pixels = input.height * input.width;
        let depth = pixels * input.channels;
        let weights = random.weights(outputs * depth);
        let bias: Vec<i32> = (0..outputs)
            .map(|_| random.within(0..999) as i32 - 500)
            .collect();
        let scales: Vec<f32> = (0..outputs).map(|_| random.scale() / 2000.0).collect();
        let (input_zero, zero) = (random.zero_point(), random.zero_point());
        let bytes = random.map(&input, input_zero);
        let sums: Vec<i32> = (0..outputs)
            .map(|output| {
                let mut sum = bias[output];
                for channel in 0..input.channels {
                    for at in 0..pixels {
                        let (y, x) = (at / input.width, at % input.width);
                        let byte = bytes[input.offset(y, x) + channel];
                        let weight = weights[output * depth + channel * pixels + at];
                        sum += (i32::from(byte) - i32::from(input_zero)) * i32::from(weight);
                    }
                }
                sum
            })
            .collect();
        for set in KernelSet::available() {
            let spec = |output| FullySpec {
                input,
                weights: &weights,
                bias: &bias,
                input_zero,
                output,
            };
            let kernel = FullyConnected::new(set, &spec(FullyOutput::Float { scales: &scales }));
            let mut floats = vec![0.0; outputs + 1];
            kernel.run_float(&bytes, &mut floats);
            let expected = sums
                .iter()
                .zip(&scales)
                .map(|(&sum, scale)| sum as f32 * scale);
            assert!(
                floats.iter().copied().eq(expected.chain([0.0])),
                "seed {seed}, {}",
                kernel.describe()
            );
            let multipliers = &scales[..];
            let output = FullyOutput::Quantized { multipliers, zero };
            let kernel = FullyConnected::new(set, &spec(output));
            let mut results = vec![0xa5; outputs + 1];
            kernel.run_quantized(&bytes, &mut results);
            let expected = sums
                .iter()
                .zip(&scales)
                .map(|(&sum, scale)| rounded(sum as f32 * scale, zero));
            assert!(
                results.into_iter().eq(expected.chain([0xa5])),
                "seed {seed}, {}",
                kernel.describe()
            );
        }
    }
}

#[test]
fn planes_become_maps_and_return() {
    let mut random = Random(5);
    let layout = Layout::map(3, 5, 2).with_border(1, 0, 0, 2);
    let planes: Vec<f32> = (0..30).map(|at| (at as f32 - 9.0) * 0.25).collect();
    let kernel = QuantizePlanes::new(layout, 0.5, 128);
    let values = in_two_parts(&mut random, &layout, 128, |rows, output| {
        kernel.run(rows, &planes, output);
    });
    let expected: Vec<u8> = (0..30)
        .map(|at| rounded(planes[at % 2 * 15 + at / 2] / 0.5, 128))
        .collect();
    assert_eq!(values, expected);
    let mut buffer = Buffer::new(layout.len());
    kernel.run(0..3, &planes, &mut buffer[layout.row_range(0..3)]);
    let mut back = vec![0.0; 30];
    Dequantize::new(layout, 0.5, 128).run(&buffer, &mut back);
    for (value, back) in planes.iter().zip(back) {
        assert!((value - back).abs() <= 0.25, "{value} became {back}");
    }
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let odd_layout = Layout::image(1, 3, 1);
    let mut bytes = [1; 3];
    QuantizePlanes::new(odd_layout, 1.0, 100).run(0..1, &odd, &mut bytes);
    assert_eq!(bytes, [0, 255, 0]);
}

#[test]
fn names_are_those_of_available_sets() {
    assert_eq!(KernelSet::available()[0], KernelSet::Portable);
    assert_eq!(KernelSet::best(), *KernelSet::available().last().unwrap());
    for set in KernelSet::ALL {
        let parsed = set.name().parse::<KernelSet>();
        assert_eq!(parsed.ok(), set.is_available().then_some(set));
    }
    let unknown = "fast".parse::<KernelSet>().unwrap_err().to_string();
    assert!(unknown.contains("`fast`") && unknown.contains("portable"));
}

#[test]
fn peaks_are_measured() {
    for set in KernelSet::available() {
        let peak = peak_gmacs(set);
        assert!((0.01..10_000.0).contains(&peak), "{set}: {peak}");
    }
}
