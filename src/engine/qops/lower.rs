//! From a region to a [`Program`]: which steps run, on which maps, where the maps lie in memory.
//!
//! Three passes. The first walks the nodes and notes steps on maps that have no place yet; what moves no byte (`Flatten`,
//! most `Reshape`) becomes no step, and a `QLinearAdd` becomes part of a convolution that only it reads. By its end every
//! map knows how wide a border its readers need. The second gives maps buffers: two maps that are never alive at once
//! share one. The third packs the kernels.

use super::{
    error::NodeError,
    operators::{Conv, Operator, Quantization, Shape, Window},
    partition::Region,
    program::{Place, Program, Step, Work},
    reorder::Reorder,
};
use crate::engine::kernels::{
    Add, AddSpec, ConvSpec, Convolution, Copy, Dequantize, FullyConnected, FullyOutput, FullySpec,
    GlobalAveragePool, HeatMapMean, KernelSet, Layout, MaxPool, PoolSpec, QuantizePlanes,
    ResidualSpec, ResizeNearest,
};
use std::collections::HashMap;

/// Bytes that all maps of a program may take.
const MOST_BYTES: usize = 1 << 28;

/// Pixels that a global average may have: its sums are 32-bit integers.
const MOST_AVERAGED: usize = 1 << 22;

/// Shapes of all values of `region`.
pub(crate) fn shapes(region: &Region, inputs: &[Shape]) -> Result<Vec<Shape>, NodeError> {
    let mut shapes = inputs.to_vec();
    for (index, node) in region.nodes.iter().enumerate() {
        let of_inputs: Vec<&Shape> = node.inputs.iter().map(|&input| &shapes[input]).collect();
        let shape = node.operator.output_shape(&of_inputs);
        let shape = shape.map_err(|reason| region.error(index, reason))?;
        if let Operator::GlobalAveragePool { .. } = node.operator {
            let (height, width, _) = of_inputs[0].pixels();
            if height * width > MOST_AVERAGED {
                let reason = format!("{height}x{width} pixels are too many to average");
                return Err(region.error(index, reason));
            }
        }
        shapes.push(shape);
    }
    Ok(shapes)
}

/// Compiles a region whose inputs have these shapes. The input `image`, when one is given, comes as a crop's bytes
/// (height, width, channels), which are what its `QuantizeLinear` makes of the f32 planes that the file asks for.
pub(crate) fn compile(
    region: &Region,
    inputs: &[Shape],
    image: Option<usize>,
    set: KernelSet,
) -> Result<Program, NodeError> {
    let mut lowering = Lowering::new(region, shapes(region, inputs)?, image);
    lowering.fuse_additions();
    for index in 0..region.nodes.len() {
        if lowering.needed[node_value(region, index)] && !lowering.joined.contains_key(&index) {
            lowering.node(index);
        }
    }
    lowering.export();
    lowering.finish(set)
}

fn node_value(region: &Region, node: usize) -> usize {
    region.inputs.len() + node
}

type MapId = usize;

/// A map before it has a place.
struct Map {
    height: usize,
    width: usize,
    channels: usize,
    /// Channels lie without gaps, as in a picture.
    packed: bool,
    top: usize,
    left: usize,
    bottom: usize,
    right: usize,
    /// What the border holds; open while nobody has asked and the writer leaves it open.
    zero: Option<u8>,
}

impl Map {
    fn layout(&self) -> Layout {
        let layout = if self.packed {
            Layout::image(self.height, self.width, self.channels)
        } else {
            Layout::map(self.height, self.width, self.channels)
        };
        layout.with_border(self.top, self.left, self.bottom, self.right)
    }

    /// Bytes with the border; `None` when that is no number.
    fn bytes(&self) -> Option<usize> {
        let stride = if self.packed {
            self.channels
        } else {
            self.channels.checked_next_multiple_of(16)?
        };
        let rows = self.height + self.top + self.bottom;
        let columns = self.width + self.left + self.right;
        rows.checked_mul(columns)?.checked_mul(stride)
    }
}

/// A step whose maps have no place yet.
struct Draft {
    kind: Kind,
    /// Nodes that it runs.
    nodes: Vec<usize>,
    inputs: Vec<MapId>,
    target: Target,
}

#[derive(Clone, Copy)]
enum Target {
    Map(MapId),
    Output(usize),
}

/// What a step does; the parameters are those of its first node.
enum Kind {
    /// The region's input of this number comes as a crop's bytes.
    Image(usize),
    /// f32 planes from the region's input of this number.
    Quantize(usize, Quantization),
    /// Bytes of the region's input of this number, planes as ONNX has them.
    Import(usize),
    Conv {
        residual: Option<(AddSpec, bool)>,
    },
    Add(AddSpec),
    GlobalAveragePool(Quantization, Quantization),
    MaxPool(Window),
    Resize,
    Concat,
    /// Another border or stride.
    Copy,
    /// Another shape.
    Reorder,
    Dequantize(Quantization),
    HeatMapMean,
    Export,
    FullyConnected,
}

struct Lowering<'a> {
    region: &'a Region,
    image: Option<usize>,
    shapes: Vec<Shape>,
    needed: Vec<bool>,
    /// How often a value is read inside; results count as read once more.
    readers: Vec<usize>,
    /// Nodes that the addition behind them takes in, with that addition.
    joined: HashMap<usize, usize>,
    /// The map behind a value.
    maps_of: Vec<Option<MapId>>,
    maps: Vec<Map>,
    /// Copies with another border, by map and what the border holds.
    copies: HashMap<(MapId, u8), MapId>,
    drafts: Vec<Draft>,
}

impl<'a> Lowering<'a> {
    fn new(region: &'a Region, shapes: Vec<Shape>, image: Option<usize>) -> Self {
        let count = shapes.len();
        let mut needed = vec![false; count];
        let mut readers = vec![0; count];
        for &output in &region.output_values {
            needed[output] = true;
            readers[output] += 1;
        }
        for (index, node) in region.nodes.iter().enumerate().rev() {
            if needed[node_value(region, index)] {
                for &input in &node.inputs {
                    needed[input] = true;
                    readers[input] += 1;
                }
            }
        }
        Self {
            region,
            image,
            shapes,
            needed,
            readers,
            joined: HashMap::new(),
            maps_of: vec![None; count],
            maps: Vec::new(),
            copies: HashMap::new(),
            drafts: Vec::new(),
        }
    }

    /// Finds the convolutions that an addition is computed with, and the enlargements that one does on the way.
    fn fuse_additions(&mut self) {
        let first = self.region.inputs.len();
        for (index, node) in self.region.nodes.iter().enumerate() {
            if !matches!(node.operator, Operator::Add { .. }) || !self.needed[first + index] {
                continue;
            }
            let only_read_here = |is_kind: fn(&Operator) -> bool| -> Vec<usize> {
                let values = node.inputs.iter().filter(|&&value| {
                    value >= first
                        && self.readers[value] == 1
                        && is_kind(&self.region.nodes[value - first].operator)
                });
                values.map(|value| value - first).collect()
            };
            let convs = only_read_here(|operator| matches!(operator, Operator::Conv(_)));
            // The later one: its input is the one that was written last.
            let joined = match convs.into_iter().max() {
                Some(conv) => vec![conv],
                None => only_read_here(|operator| matches!(operator, Operator::Resize { .. })),
            };
            self.joined
                .extend(joined.into_iter().map(|node| (node, index)));
        }
    }

    fn node(&mut self, index: usize) {
        let node = &self.region.nodes[index];
        let value = node_value(self.region, index);
        match &node.operator {
            Operator::Quantize(quantization) => self.quantize(index, *quantization),
            // Results of the region: see `export`.
            Operator::Dequantize(_) | Operator::HeatMapMean(_) => {}
            Operator::Conv(conv) => {
                let input = self.padded_input(node.inputs[0], value, conv);
                let map = self.new_map(value, Some(conv.output.zero));
                let kind = Kind::Conv { residual: None };
                self.draft(kind, vec![index], vec![input], map);
            }
            Operator::Add { a, b, output } => self.add(index, *a, *b, *output),
            Operator::GlobalAveragePool { input, output } => {
                let kind = Kind::GlobalAveragePool(*input, *output);
                let source = self.canonical(node.inputs[0]);
                let map = self.new_map(value, Some(output.zero));
                self.draft(kind, vec![index], vec![source], map);
            }
            Operator::MaxPool(window) => {
                let source = self.canonical(node.inputs[0]);
                let map = self.new_map(value, None);
                self.draft(Kind::MaxPool(*window), vec![index], vec![source], map);
            }
            Operator::Resize { .. } => {
                let source = self.canonical(node.inputs[0]);
                let map = self.new_map(value, None);
                self.draft(Kind::Resize, vec![index], vec![source], map);
            }
            Operator::Concat => {
                let inputs = node.inputs.clone();
                let sources = inputs.into_iter().map(|input| self.canonical(input));
                let sources = sources.collect();
                let map = self.new_map(value, None);
                self.draft(Kind::Concat, vec![index], sources, map);
            }
            Operator::Flatten | Operator::Reshape(_) => self.reshape(index),
            Operator::FullyConnected(dense) => {
                if let Some(output) = dense.output {
                    let source = self.map_of(node.inputs[0]);
                    let map = self.new_map(value, Some(output.zero));
                    self.draft(Kind::FullyConnected, vec![index], vec![source], map);
                }
            }
        }
    }

    fn quantize(&mut self, index: usize, quantization: Quantization) {
        let node = &self.region.nodes[index];
        let (input, value) = (node.inputs[0], node_value(self.region, index));
        let map = self.new_map(value, Some(quantization.zero));
        self.maps[map].packed = self.is_image(value);
        let kind = if self.image == Some(input) {
            Kind::Image(input)
        } else {
            Kind::Quantize(input, quantization)
        };
        self.draft(kind, vec![index], vec![], map);
    }

    /// Whether a quantised input may lie as a picture's bytes do: only ungrouped convolutions read it.
    fn is_image(&self, value: usize) -> bool {
        let Shape::Map {
            channels: 1 | 3, ..
        } = self.shapes[value]
        else {
            return false;
        };
        let nodes = self.region.nodes.iter().enumerate();
        let mut readers = nodes.filter(|(index, node)| {
            self.needed[node_value(self.region, *index)] && node.inputs.contains(&value)
        });
        !self.region.output_values.contains(&value)
            && readers
                .all(|(_, node)| matches!(&node.operator, Operator::Conv(conv) if conv.group == 1))
    }

    fn add(&mut self, index: usize, a: Quantization, b: Quantization, output: Quantization) {
        let node = &self.region.nodes[index];
        let value = node_value(self.region, index);
        let spec = AddSpec {
            a_scale: a.scale,
            a_zero: a.zero,
            b_scale: b.scale,
            b_zero: b.zero,
            output_scale: output.scale,
            output_zero: output.zero,
        };
        let first = self.region.inputs.len();
        let joined = |operand: usize| {
            let before = node.inputs[operand].checked_sub(first)?;
            (self.joined.get(&before) == Some(&index)).then_some(before)
        };
        let is_conv = |node: usize| matches!(self.region.nodes[node].operator, Operator::Conv(_));
        let fused = (0..2).find(|&operand| joined(operand).is_some_and(is_conv));
        let Some(operand) = fused else {
            let enlarged = [joined(0), joined(1)];
            let mut sources = Vec::new();
            for (operand, &enlarged) in enlarged.iter().enumerate() {
                let value = match enlarged {
                    Some(resize) => self.region.nodes[resize].inputs[0],
                    None => node.inputs[operand],
                };
                sources.push(self.canonical(value));
            }
            let map = self.new_map(value, Some(output.zero));
            let nodes = enlarged.into_iter().flatten().chain([index]).collect();
            self.draft(Kind::Add(spec), nodes, sources, map);
            return;
        };
        let result = node.inputs[operand];
        let conv_index = result - first;
        let conv_node = &self.region.nodes[conv_index];
        let Operator::Conv(conv) = &conv_node.operator else {
            unreachable!("only convolutions take in an addition");
        };
        let input = self.padded_input(conv_node.inputs[0], result, conv);
        let other = self.canonical(node.inputs[1 - operand]);
        let map = self.new_map(value, Some(output.zero));
        let kind = Kind::Conv {
            residual: Some((spec, operand == 0)),
        };
        self.draft(kind, vec![conv_index, index], vec![input, other], map);
    }

    fn reshape(&mut self, index: usize) {
        let input = self.region.nodes[index].inputs[0];
        let value = node_value(self.region, index);
        let source = self.map_of(input);
        let map = &self.maps[source];
        let same = self.shapes[value].pixels() == (map.height, map.width, map.channels);
        if same || matches!(self.shapes[value], Shape::Vector(_)) {
            self.maps_of[value] = Some(source);
            return;
        }
        let target = self.new_map(value, None);
        self.draft(Kind::Reorder, vec![index], vec![source], target);
    }

    /// The map behind a value, which a vector may share with the map that it was before.
    fn map_of(&mut self, value: usize) -> MapId {
        if let Some(map) = self.maps_of[value] {
            return map;
        }
        let map = self.new_map(value, None);
        self.draft(Kind::Import(value), vec![], vec![], map);
        map
    }

    /// The map behind a value, with the value's own shape.
    fn canonical(&mut self, value: usize) -> MapId {
        let source = self.map_of(value);
        let map = &self.maps[source];
        let (height, width, channels) = self.shapes[value].pixels();
        if (map.height, map.width, map.channels) == (height, width, channels) {
            return source;
        }
        let target = self.map(height, width, channels, None);
        self.draft(Kind::Reorder, vec![], vec![source], target);
        target
    }

    /// The map that a convolution reads, with a border as wide as its windows reach.
    fn padded_input(&mut self, input: usize, output: usize, conv: &Conv) -> MapId {
        let source = self.canonical(input);
        let (rows, columns, _) = self.shapes[output].pixels();
        let Window {
            kernel,
            stride,
            top,
            left,
            ..
        } = conv.window;
        let map = &self.maps[source];
        let reach = |count: usize, stride: usize, kernel: usize, before: usize, size: usize| {
            ((count - 1) * stride + kernel).saturating_sub(before + size)
        };
        let bottom = reach(rows, stride.0, kernel.0, top, map.height);
        let right = reach(columns, stride.1, kernel.1, left, map.width);
        let zero = conv.input.zero;
        let bordered = top + left + bottom + right > 0;
        let source = if bordered {
            self.with_border_of(source, zero)
        } else {
            source
        };
        let map = &mut self.maps[source];
        map.top = map.top.max(top);
        map.left = map.left.max(left);
        map.bottom = map.bottom.max(bottom);
        map.right = map.right.max(right);
        source
    }

    /// The map whose border holds `zero`: the map itself, or a copy.
    fn with_border_of(&mut self, source: MapId, zero: u8) -> MapId {
        let known = *self.maps[source].zero.get_or_insert(zero);
        if known == zero {
            return source;
        }
        if let Some(&copy) = self.copies.get(&(source, zero)) {
            return copy;
        }
        let map = &self.maps[source];
        let copy = self.map(map.height, map.width, map.channels, Some(zero));
        self.copies.insert((source, zero), copy);
        self.draft(Kind::Copy, vec![], vec![source], copy);
        copy
    }

    fn new_map(&mut self, value: usize, zero: Option<u8>) -> MapId {
        let (height, width, channels) = self.shapes[value].pixels();
        let map = self.map(height, width, channels, zero);
        self.maps_of[value] = Some(map);
        map
    }

    fn map(&mut self, height: usize, width: usize, channels: usize, zero: Option<u8>) -> MapId {
        self.maps.push(Map {
            height,
            width,
            channels,
            packed: false,
            top: 0,
            left: 0,
            bottom: 0,
            right: 0,
            zero,
        });
        self.maps.len() - 1
    }

    fn draft(&mut self, kind: Kind, nodes: Vec<usize>, inputs: Vec<MapId>, map: MapId) {
        self.drafts.push(Draft {
            kind,
            nodes,
            inputs,
            target: Target::Map(map),
        });
    }

    /// The steps that write what the region gives to the outside.
    fn export(&mut self) {
        let first = self.region.inputs.len();
        for output in 0..self.region.output_values.len() {
            let value = self.region.output_values[output];
            let index = value - first;
            let node = &self.region.nodes[index];
            let (kind, nodes, source) = match &node.operator {
                Operator::Dequantize(quantization) => {
                    let source = self.map_of(node.inputs[0]);
                    (Kind::Dequantize(*quantization), vec![index], source)
                }
                Operator::FullyConnected(dense) if dense.output.is_none() => {
                    let source = self.map_of(node.inputs[0]);
                    (Kind::FullyConnected, vec![index], source)
                }
                Operator::HeatMapMean(_) => {
                    let source = self.canonical(node.inputs[0]);
                    (Kind::HeatMapMean, vec![index], source)
                }
                _ => (Kind::Export, vec![], self.map_of(value)),
            };
            self.drafts.push(Draft {
                kind,
                nodes,
                inputs: vec![source],
                target: Target::Output(output),
            });
        }
    }

    fn finish(self, set: KernelSet) -> Result<Program, NodeError> {
        let total = self
            .maps
            .iter()
            .try_fold(0usize, |total, map| total.checked_add(map.bytes()?));
        if total.is_none_or(|total| total > MOST_BYTES) {
            let reason = format!("its maps need more than {} MiB", MOST_BYTES >> 20);
            return Err(self.region.error(0, reason));
        }
        let layouts: Vec<Layout> = self.maps.iter().map(Map::layout).collect();
        let (slots, sizes) = places(&self.drafts, &layouts);
        let steps = self
            .drafts
            .iter()
            .map(|draft| self.step(draft, &layouts, &slots, set))
            .collect();
        Ok(Program::new(steps, sizes))
    }

    fn step(&self, draft: &Draft, layouts: &[Layout], slots: &[usize], set: KernelSet) -> Step {
        let inputs: Vec<Layout> = draft.inputs.iter().map(|&map| layouts[map]).collect();
        let (place, output, zero) = match draft.target {
            Target::Map(map) => {
                let place = Place::Map {
                    slot: slots[map],
                    layout: layouts[map],
                    border: self.maps[map].zero.unwrap_or(0),
                };
                (place, layouts[map], self.maps[map].zero.unwrap_or(0))
            }
            Target::Output(output) => (Place::Output(output), inputs[0], 0),
        };
        let first = draft.nodes.first().map(|&node| &self.region.nodes[node]);
        let operator = first.map(|node| &node.operator);
        let work = match (&draft.kind, operator) {
            (Kind::Image(input), _) => Work::Image {
                input: *input,
                zero,
            },
            (Kind::Quantize(input, quantization), _) => Work::Quantize {
                input: *input,
                kernel: QuantizePlanes::new(output, quantization.scale, quantization.zero),
            },
            (Kind::Import(input), _) => Work::Import {
                input: *input,
                zero,
            },
            (Kind::Conv { residual }, Some(Operator::Conv(conv))) => {
                let residual = residual.map(|(add, result_is_a)| ResidualSpec {
                    add,
                    result_is_a,
                    other: inputs[1],
                });
                Work::Conv(Box::new(Convolution::new(
                    set,
                    &conv_spec(conv, inputs[0], output, residual),
                )))
            }
            (Kind::Add(spec), _) => Work::Add(Add::new(set, inputs[0], inputs[1], output, spec)),
            (Kind::GlobalAveragePool(from, to), _) => {
                Work::GlobalAveragePool(GlobalAveragePool::new(
                    set,
                    inputs[0],
                    output,
                    (from.scale, from.zero),
                    (to.scale, to.zero),
                ))
            }
            (Kind::MaxPool(window), _) => Work::MaxPool(MaxPool::new(
                set,
                PoolSpec {
                    input: inputs[0],
                    output,
                    kernel: window.kernel,
                    stride: window.stride,
                    pad_top: window.top,
                    pad_left: window.left,
                    zero,
                },
            )),
            (Kind::Resize, _) => Work::Resize(ResizeNearest::new(set, inputs[0], output, zero)),
            (Kind::Concat | Kind::Copy, _) => {
                let mut channel = 0;
                let copies = inputs.iter().map(|&input| {
                    let copy = Copy::new(set, input, output, channel, zero);
                    channel += input.channels;
                    copy
                });
                Work::Copy(copies.collect())
            }
            (Kind::Reorder, _) => Work::Reorder(Reorder::new(inputs[0], output, zero)),
            (Kind::Dequantize(quantization), _) => Work::Dequantize(Dequantize::new(
                inputs[0],
                quantization.scale,
                quantization.zero,
            )),
            (Kind::Export, _) => Work::Export(inputs[0]),
            (Kind::FullyConnected, Some(Operator::FullyConnected(dense))) => {
                let spec = FullySpec {
                    input: inputs[0],
                    weights: &dense.weights,
                    bias: &dense.bias,
                    input_zero: dense.input_zero,
                    output: match dense.output {
                        None => FullyOutput::Float {
                            scales: &dense.multipliers,
                        },
                        Some(output) => FullyOutput::Quantized {
                            multipliers: &dense.multipliers,
                            zero: output.zero,
                        },
                    },
                };
                Work::FullyConnected(FullyConnected::new(set, &spec))
            }
            (Kind::HeatMapMean, Some(Operator::HeatMapMean(mean))) => Work::HeatMapMean(
                HeatMapMean::new(inputs[0], mean.scale, &mean.places, mean.axes),
            ),
            (Kind::Conv { .. } | Kind::FullyConnected | Kind::HeatMapMean, _) => {
                unreachable!("a draft's first node is what its kind says")
            }
        };
        let names = draft
            .nodes
            .iter()
            .map(|&node| &*self.region.nodes[node].name);
        let shape = match (draft.nodes.last(), draft.target) {
            (Some(&node), _) => &self.shapes[node_value(self.region, node)],
            (None, Target::Output(output)) => &self.shapes[self.region.output_values[output]],
            (None, Target::Map(_)) => &Shape::Map {
                channels: output.channels,
                height: output.height,
                width: output.width,
            },
        };
        Step {
            name: names.collect::<Vec<_>>().join(" + "),
            shape: shape.edges(),
            multiply_adds: match (first, draft.nodes.first()) {
                (Some(node), Some(&index)) => node
                    .operator
                    .multiply_adds(&self.shapes[node_value(self.region, index)]),
                _ => 0,
            },
            work,
            inputs: draft.inputs.iter().map(|&map| slots[map]).collect(),
            place,
        }
    }
}

fn conv_spec<'a>(
    conv: &'a Conv,
    input: Layout,
    output: Layout,
    residual: Option<ResidualSpec>,
) -> ConvSpec<'a> {
    ConvSpec {
        input,
        output,
        kernel: conv.window.kernel,
        stride: conv.window.stride,
        pad_top: conv.window.top,
        pad_left: conv.window.left,
        group: conv.group,
        weights: &conv.weights,
        bias: &conv.bias,
        multipliers: &conv.multipliers,
        input_zero: conv.input.zero,
        output_zero: conv.output.zero,
        residual,
    }
}

/// Which buffer each map lies in, and the buffers' sizes. A map takes the smallest free buffer that holds it, else the
/// largest free one, which grows.
fn places(drafts: &[Draft], layouts: &[Layout]) -> (Vec<usize>, Vec<usize>) {
    let mut last_read = vec![0; layouts.len()];
    for (step, draft) in drafts.iter().enumerate() {
        if let Target::Map(map) = draft.target {
            last_read[map] = last_read[map].max(step);
        }
        for &map in &draft.inputs {
            last_read[map] = step;
        }
    }
    let mut slots = vec![usize::MAX; layouts.len()];
    let mut sizes: Vec<usize> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    for (step, draft) in drafts.iter().enumerate() {
        if let Target::Map(map) = draft.target {
            let size = layouts[map].len();
            let best = (0..free.len()).min_by_key(|&at| {
                let room = sizes[free[at]];
                // Those that hold it come first, the smallest in front; of the others the largest.
                if room >= size {
                    (0, room)
                } else {
                    (1, usize::MAX - room)
                }
            });
            let slot = match best {
                Some(at) => free.swap_remove(at),
                None => {
                    sizes.push(0);
                    sizes.len() - 1
                }
            };
            sizes[slot] = sizes[slot].max(size);
            slots[map] = slot;
        }
        let mut ended: Vec<MapId> = draft.inputs.clone();
        if let Target::Map(map) = draft.target {
            ended.push(map);
        }
        ended.sort_unstable();
        ended.dedup();
        let over = ended.into_iter().filter(|&map| last_read[map] == step);
        free.extend(over.map(|map| slots[map]));
    }
    (slots, sizes)
}
