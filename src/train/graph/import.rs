//! Reading ONNX files of other programs: opsets 11 to 21 are brought to the form that opset 18 has.

use super::file::{attribute_from_proto, element_of_data_type, tensor_from_proto};
use super::{Attribute, Graph, GraphError, Node, Tensor, TensorData, TensorType};
use crate::onnx::{ModelProto, NodeProto, ValueInfoProto, decode_model, entries_to_map};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

/// The versions of ONNX's own operators that are read.
const OPSETS: std::ops::RangeInclusive<i64> = 11..=21;

impl Graph {
    /// Reads an ONNX file of opset 11 to 21 whose operators are all supported; `path` names the file in errors.
    ///
    /// An input's first axis without a size becomes 1; all other sizes must be known. Constant nodes become constants,
    /// Dropout becomes Identity, and what later opsets have as inputs becomes one.
    ///
    /// # Errors
    /// The bytes are not an ONNX model, or the model uses what is not supported; the operator and node are named.
    pub fn from_onnx(bytes: &[u8], path: &Path) -> Result<Self, GraphError> {
        let model = decode_model(bytes).map_err(|error| GraphError::NotOnnx {
            path: path.to_owned(),
            reason: error.reason,
        })?;
        Reader::new(path).read(model)
    }

    /// The graph for `batch` images at once: the first axis of every input becomes `batch`, and so does the leading
    /// number of the shape of a Reshape where it was the batch.
    ///
    /// # Errors
    /// A node does not allow another batch.
    pub fn with_batch(&self, batch: usize) -> Result<Self, GraphError> {
        let mut graph = Self::new(&self.name);
        graph.metadata.clone_from(&self.metadata);
        for (name, tensor) in &self.initializers {
            graph.restore(name, tensor.clone())?;
        }
        let mut of_images = HashSet::new();
        let mut old_batch = None;
        for (name, of) in &self.inputs {
            let mut of = of.clone();
            if let Some(first) = of.shape.first_mut() {
                old_batch.get_or_insert(*first);
                *first = batch;
            }
            of_images.insert(name.as_str());
            graph.input(name, of)?;
        }
        for original in &self.nodes {
            let mut node = original.clone();
            if node
                .inputs
                .iter()
                .any(|name| of_images.contains(name.as_str()))
            {
                if node.op == "Reshape"
                    && let Some(shape) = self.initializers.get(&node.inputs[1])
                    && let TensorData::I64(sizes) = &shape.data
                    && sizes.first().copied() == old_batch.map(|size| size as i64)
                    && self.shape(&node.inputs[0]).first().copied() == old_batch
                {
                    let mut sizes = sizes.clone();
                    sizes[0] = batch as i64;
                    node.inputs[1] = graph.ints(&sizes);
                }
                of_images.extend(original.outputs.iter().map(String::as_str));
            }
            graph.push(node)?;
        }
        graph.outputs.clone_from(&self.outputs);
        graph.batch_normalized.clone_from(&self.batch_normalized);
        Ok(graph)
    }

    /// The graph for images of another size: every input with four axes becomes `height` x `width`, the weights stay.
    ///
    /// # Errors
    /// A node does not allow that size: only a fully convolutional network has any.
    pub fn with_image_size(&self, width: usize, height: usize) -> Result<Self, GraphError> {
        let mut graph = Self::new(&self.name);
        graph.metadata.clone_from(&self.metadata);
        for (name, tensor) in &self.initializers {
            graph.restore(name, tensor.clone())?;
        }
        for (name, of) in &self.inputs {
            let mut of = of.clone();
            if let [_, _, rows, columns] = of.shape.as_mut_slice() {
                (*rows, *columns) = (height, width);
            }
            graph.input(name, of)?;
        }
        for node in &self.nodes {
            graph.push(node.clone())?;
        }
        graph.outputs.clone_from(&self.outputs);
        graph.batch_normalized.clone_from(&self.batch_normalized);
        Ok(graph)
    }
}

/// The graph as far as it is read, and what is needed to go on.
struct Reader<'a> {
    path: &'a Path,
    graph: Graph,
    opset: i64,
    /// Values under another name than in the file.
    renamed: HashMap<String, String>,
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path) -> Self {
        Self {
            path,
            graph: Graph::default(),
            opset: 0,
            renamed: HashMap::new(),
        }
    }

    fn unsupported(&self, what: impl Into<String>, reason: impl Into<String>) -> GraphError {
        GraphError::Unsupported {
            path: self.path.to_owned(),
            what: what.into(),
            reason: reason.into(),
        }
    }

    fn in_file(&self, source: GraphError) -> GraphError {
        GraphError::InFile {
            path: self.path.to_owned(),
            source: Box::new(source),
        }
    }

    fn read(mut self, model: ModelProto) -> Result<Graph, GraphError> {
        let own_opset = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        self.opset = model
            .opset_import
            .iter()
            .find(|import| own_opset(import.domain.as_deref().unwrap_or("")))
            .and_then(|import| import.version)
            .unwrap_or(1);
        if !OPSETS.contains(&self.opset) {
            let reason = format!("{} to {} are supported", OPSETS.start(), OPSETS.end());
            return Err(self.unsupported(format!("operator set {}", self.opset), reason));
        }
        let proto = model.graph.unwrap_or_default();
        self.graph.name = proto.name.clone().unwrap_or_default();
        self.graph.metadata = entries_to_map(&model.metadata_props);
        for tensor in &proto.initializer {
            let name = tensor.name.clone().unwrap_or_default();
            let tensor = tensor_from_proto(tensor)
                .map_err(|reason| self.unsupported(format!("constant {name:?}"), reason))?;
            self.graph
                .restore(&name, tensor)
                .map_err(|error| self.in_file(error))?;
        }
        for input in &proto.input {
            let name = input.name.clone().unwrap_or_default();
            if self.graph.initializers.contains_key(&name) {
                continue;
            }
            let of = self.input_type(&name, input)?;
            self.graph
                .input(&name, of)
                .map_err(|error| self.in_file(error))?;
        }
        for node in &proto.node {
            self.node(node)?;
        }
        for output in &proto.output {
            let name = output.name.clone().unwrap_or_default();
            if self.graph.find_type(&name).is_none() {
                return Err(self.unsupported(format!("output {name:?}"), "no node computes it"));
            }
            self.graph.outputs.push(name);
        }
        Ok(self.graph)
    }

    fn input_type(&self, name: &str, input: &ValueInfoProto) -> Result<TensorType, GraphError> {
        let what = format!("input {name:?}");
        let tensor = input
            .r#type
            .as_ref()
            .and_then(|of| of.tensor_type.as_ref())
            .ok_or_else(|| self.unsupported(&what, "it is not a tensor"))?;
        let number = tensor.elem_type.unwrap_or(0);
        let element = element_of_data_type(number).ok_or_else(|| {
            self.unsupported(&what, format!("element type {number} is not supported"))
        })?;
        let dims = tensor.shape.as_ref().map(|shape| shape.dim.as_slice());
        let dims = dims.ok_or_else(|| self.unsupported(&what, "it has no shape"))?;
        let shape = dims
            .iter()
            .enumerate()
            .map(|(axis, dim)| match dim.dim_value {
                Some(size) if size > 0 => Ok(size as usize),
                _ if axis == 0 => Ok(1),
                _ => Err(self.unsupported(&what, format!("axis {axis} has no fixed size"))),
            })
            .collect::<Result<_, _>>()?;
        Ok(TensorType { element, shape })
    }

    fn node(&mut self, proto: &NodeProto) -> Result<(), GraphError> {
        let domain = proto.domain.as_deref().unwrap_or("");
        let op = proto.op_type.clone().unwrap_or_default();
        let mut node = Node {
            name: proto.name.clone().unwrap_or_default(),
            op,
            domain: if domain == "ai.onnx" { "" } else { domain }.to_owned(),
            inputs: proto
                .input
                .iter()
                .map(|name| self.renamed.get(name).unwrap_or(name).clone())
                .collect(),
            outputs: proto.output.clone(),
            attributes: BTreeMap::new(),
        };
        if !super::operators::is_supported(&node)
            && !["Constant", "Dropout", "Shape"].contains(&node.op.as_str())
        {
            return Err(self.in_file(super::operators::unsupported(&node)));
        }
        for attribute in &proto.attribute {
            let name = attribute.name.clone().unwrap_or_default();
            let value = attribute_from_proto(attribute).map_err(|reason| {
                let what = format!("attribute {name} of node {:?} ({})", node.label(), node.op);
                self.unsupported(what, reason)
            })?;
            node.attributes.insert(name, value);
        }
        if let Some(constant) = self.constant(&node)? {
            let name = self.graph.constant(constant);
            self.renamed.insert(node.outputs[0].clone(), name);
            return Ok(());
        }
        self.modernize(&mut node)
            .and_then(|()| self.graph.push(node))
            .map_err(|error| self.in_file(error))
    }

    /// The value of a node that computes the same whatever the inputs hold: a Constant, the Shape of something, or
    /// arithmetic with such shapes.
    fn constant(&self, node: &Node) -> Result<Option<Tensor>, GraphError> {
        match node.op.as_str() {
            "Constant" => {
                let value = node
                    .attributes
                    .iter()
                    .next()
                    .and_then(|(_, value)| match value {
                        Attribute::Tensor(tensor) => Some(tensor.clone()),
                        Attribute::Float(value) => Some(Tensor::f32(&[], vec![*value])),
                        Attribute::Int(value) => Some(Tensor::i64(&[], vec![*value])),
                        Attribute::Floats(values) => {
                            Some(Tensor::f32(&[values.len()], values.clone()))
                        }
                        Attribute::Ints(values) => {
                            Some(Tensor::i64(&[values.len()], values.clone()))
                        }
                        Attribute::Text(_) => None,
                    });
                match value {
                    Some(tensor) => Ok(Some(tensor)),
                    None => Err(self
                        .unsupported(format!("constant {:?}", node.label()), "it is not a tensor")),
                }
            }
            "Shape" => {
                let of = node.input(0).and_then(|name| self.graph.find_type(name));
                let whole = node.attributes.is_empty();
                match of.filter(|_| whole) {
                    Some(of) => {
                        let sizes = of.shape.iter().map(|&size| size as i64).collect();
                        Ok(Some(Tensor::i64(&[of.rank()], sizes)))
                    }
                    None => Err(self.in_file(super::operators::unsupported(node))),
                }
            }
            _ => Ok(self.folded(node)),
        }
    }

    /// The arithmetic on shapes that exporters write, done on constant integers.
    fn folded(&self, node: &Node) -> Option<Tensor> {
        let inputs = node
            .inputs
            .iter()
            .map(|name| {
                Some((
                    self.graph.initializers.get(name)?.shape.clone(),
                    self.graph.initializers.get(name)?.as_i64()?,
                ))
            })
            .collect::<Option<Vec<_>>>()?;
        let (shape, first) = inputs.first()?;
        match node.op.as_str() {
            "Gather" if shape.len() == 1 => {
                let (to, indices) = inputs.get(1)?;
                let size = first.len() as i64;
                let values = indices
                    .iter()
                    .map(|&index| {
                        usize::try_from(if index < 0 { index + size } else { index }).ok()
                    })
                    .map(|index| first.get(index?).copied())
                    .collect::<Option<Vec<_>>>()?;
                Some(Tensor::i64(to, values))
            }
            "Unsqueeze" if shape.is_empty() => Some(Tensor::i64(&[1], first.to_vec())),
            "Squeeze" if shape == &[1] => Some(Tensor::i64(&[], first.to_vec())),
            "Concat" if inputs.iter().all(|(shape, _)| shape.len() == 1) => {
                let values: Vec<i64> = inputs
                    .iter()
                    .flat_map(|(_, values)| values.iter().copied())
                    .collect();
                Some(Tensor::i64(&[values.len()], values))
            }
            "Mul" | "Add" | "Sub" | "Div" => {
                let (other_shape, second) = inputs.get(1)?;
                if shape != other_shape {
                    return None;
                }
                let values = first
                    .iter()
                    .zip(*second)
                    .map(|(a, b)| match node.op.as_str() {
                        "Mul" => a.checked_mul(*b),
                        "Add" => a.checked_add(*b),
                        "Sub" => a.checked_sub(*b),
                        _ => a.checked_div(*b),
                    })
                    .collect::<Option<Vec<_>>>()?;
                Some(Tensor::i64(shape, values))
            }
            _ => None,
        }
    }

    /// Brings a node of an older or newer opset to the form of opset 18.
    fn modernize(&mut self, node: &mut Node) -> Result<(), GraphError> {
        match node.op.as_str() {
            "Dropout" => {
                node.op = "Identity".to_owned();
                node.inputs.truncate(1);
                node.outputs.truncate(1);
                node.attributes.clear();
            }
            "Squeeze" | "Unsqueeze" => self.attribute_to_input(node, "axes", 1),
            "Split" => {
                self.attribute_to_input(node, "split", 1);
                if node.input(1).is_none() && !node.attributes.contains_key("num_outputs") {
                    let count = node.outputs.len() as i64;
                    node.attributes
                        .insert("num_outputs".to_owned(), Attribute::Int(count));
                }
            }
            "Clip" => {
                for (name, index) in [("min", 1), ("max", 2)] {
                    if let Some(Attribute::Float(bound)) = node.attributes.remove(name) {
                        let bound = self.graph.scalar(bound);
                        set_input(node, index, bound);
                    }
                }
            }
            "Softmax" | "LogSoftmax" if self.opset < 13 => self.softmax_axis(node)?,
            "BatchNormalization" => {
                node.attributes.remove("spatial");
                // In inference form they have no effect.
                node.attributes.remove("momentum");
            }
            "Cast" => {
                node.attributes.remove("saturate");
            }
            "Conv" | "ConvTranspose" | "MaxPool" | "AveragePool" => self.explicit_pads(node)?,
            "Resize" => self.resize_by_scales(node)?,
            op if op.starts_with("Reduce") => self.attribute_to_input(node, "axes", 1),
            _ => {}
        }
        Ok(())
    }

    /// Turns a list of integers that used to be an attribute into an input.
    fn attribute_to_input(&mut self, node: &mut Node, name: &str, index: usize) {
        if let Some(Attribute::Ints(values)) = node.attributes.remove(name) {
            let value = self.graph.ints(&values);
            set_input(node, index, value);
        }
    }

    /// Before opset 13 Softmax worked on all axes from `axis` (1 when not given) on as if they were one.
    fn softmax_axis(&self, node: &mut Node) -> Result<(), GraphError> {
        let shape = node.input(0).and_then(|name| self.graph.find_type(name));
        let shape = shape.map_or(&[][..], |of| &of.shape);
        let rank = shape.len() as i64;
        let axis = node.int("axis").unwrap_or(1);
        let index = if axis < 0 { axis + rank } else { axis };
        let later = shape.get(index.max(0) as usize + 1..).unwrap_or_default();
        if later.iter().any(|&size| size != 1) {
            return Err(GraphError::BadNode {
                node: node.label().to_owned(),
                operator: node.op.clone(),
                what: "axis".to_owned(),
                expected: "the last axis (opset below 13)".to_owned(),
                found: format!("{axis} of {shape:?}"),
            });
        }
        node.attributes
            .insert("axis".to_owned(), Attribute::Int(index));
        Ok(())
    }

    /// Replaces `auto_pad` by the pads that it stands for.
    fn explicit_pads(&self, node: &mut Node) -> Result<(), GraphError> {
        let Some(Attribute::Text(mode)) = node.attributes.remove("auto_pad") else {
            return Ok(());
        };
        if mode == "NOTSET" || mode == "VALID" {
            return Ok(());
        }
        let unsupported = || GraphError::BadNode {
            node: node.label().to_owned(),
            operator: node.op.clone(),
            what: "auto_pad".to_owned(),
            expected: "explicit pads, VALID, SAME_UPPER or SAME_LOWER".to_owned(),
            found: mode.clone(),
        };
        let input = node.input(0).and_then(|name| self.graph.find_type(name));
        let weight = node.input(1).and_then(|name| self.graph.find_type(name));
        let kernel: Option<Vec<i64>> = match (node.ints("kernel_shape"), weight) {
            (Some(kernel), _) => Some(kernel.to_vec()),
            (None, Some(of)) => Some(of.shape.iter().skip(2).map(|&size| size as i64).collect()),
            (None, None) => None,
        };
        let (Some(input), Some(kernel)) = (input, kernel) else {
            return Err(unsupported());
        };
        if node.op == "ConvTranspose" || input.rank() != kernel.len() + 2 {
            return Err(unsupported());
        }
        let of_axis = |name: &str, axis: usize| {
            node.ints(name)
                .and_then(|values| values.get(axis).copied())
                .unwrap_or(1)
                .max(1)
        };
        let (mut before, mut after) = (vec![], vec![]);
        for (axis, taps) in kernel.iter().enumerate() {
            let size = input.shape[2 + axis] as i64;
            let stride = of_axis("strides", axis);
            let extent = (taps - 1) * of_axis("dilations", axis) + 1;
            let windows = (size + stride - 1) / stride;
            let total = ((windows - 1) * stride + extent - size).max(0);
            let small = total / 2;
            let (first, last) = match mode.as_str() {
                "SAME_UPPER" => (small, total - small),
                "SAME_LOWER" => (total - small, small),
                _ => return Err(unsupported()),
            };
            before.push(first);
            after.push(last);
        }
        let pads = Attribute::Ints([before, after].concat());
        node.attributes.insert("pads".to_owned(), pads);
        Ok(())
    }

    /// Brings a Resize to the form with scales, which do not name the batch.
    fn resize_by_scales(&mut self, node: &mut Node) -> Result<(), GraphError> {
        if node.attributes.contains_key("axes") {
            return Err(GraphError::BadNode {
                node: node.label().to_owned(),
                operator: node.op.clone(),
                what: "axes".to_owned(),
                expected: "none".to_owned(),
                found: "some".to_owned(),
            });
        }
        let sizes = node
            .input(3)
            .and_then(|name| self.graph.initializers.get(name))
            .and_then(|tensor| tensor.as_i64());
        let input = node.input(0).and_then(|name| self.graph.find_type(name));
        if let (Some(sizes), Some(input)) = (sizes, input) {
            let scales: Vec<f32> = sizes
                .iter()
                .zip(&input.shape)
                .map(|(&to, &from)| to as f32 / from as f32)
                .collect();
            let scales = self.graph.constant_f32(&scales, &[scales.len()]);
            node.inputs.truncate(3);
            set_input(node, 2, scales);
        }
        // The region of interest matters only in a mode that is not supported.
        if let Some(region) = node.inputs.get_mut(1) {
            region.clear();
        }
        Ok(())
    }
}

fn set_input(node: &mut Node, index: usize, value: String) {
    if node.inputs.len() <= index {
        node.inputs.resize(index + 1, String::new());
    }
    node.inputs[index] = value;
}
