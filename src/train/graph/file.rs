//! The messages of an ONNX file to and from nodes, attributes and tensors.

use super::{Attribute, ElementType, Graph, Node, Tensor, TensorData, TensorType};
use crate::onnx::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, attribute_type,
    data_type, entries_from_map,
};
use prost::Message;
use std::collections::BTreeSet;

/// Version of ONNX's own operators in the files that are written.
const OPSET: i64 = 18;
/// Version of the file format.
const IR_VERSION: i64 = 9;

impl Graph {
    /// The graph as an ONNX file: opset 18, IR version 9.
    pub fn to_onnx(&self) -> Vec<u8> {
        let domains: BTreeSet<&str> = self
            .nodes
            .iter()
            .map(|node| node.domain.as_str())
            .chain([""])
            .collect();
        let value = |name: &str, of: &TensorType| ValueInfoProto {
            name: Some(name.to_owned()),
            r#type: Some(type_to_proto(of)),
        };
        ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some("facemark".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(GraphProto {
                node: self.nodes.iter().map(node_to_proto).collect(),
                name: Some(self.name.clone()),
                initializer: self
                    .initializers
                    .iter()
                    .map(|(name, tensor)| tensor_to_proto(name, tensor))
                    .collect(),
                input: self
                    .inputs
                    .iter()
                    .map(|(name, of)| value(name, of))
                    .collect(),
                output: self
                    .outputs
                    .iter()
                    .map(|name| value(name, self.type_of(name)))
                    .collect(),
                ..GraphProto::default()
            }),
            opset_import: domains
                .into_iter()
                .map(|domain| OperatorSetIdProto {
                    domain: Some(domain.to_owned()),
                    version: Some(if domain.is_empty() { OPSET } else { 1 }),
                })
                .collect(),
            metadata_props: entries_from_map(&self.metadata),
            ..ModelProto::default()
        }
        .encode_to_vec()
    }
}

fn type_to_proto(of: &TensorType) -> TypeProto {
    TypeProto {
        tensor_type: Some(TensorTypeProto {
            elem_type: Some(data_type_of(of.element)),
            shape: Some(TensorShapeProto {
                dim: of
                    .shape
                    .iter()
                    .map(|&size| DimensionProto {
                        dim_value: Some(size as i64),
                        dim_param: None,
                    })
                    .collect(),
            }),
        }),
    }
}

fn tensor_to_proto(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        dims: tensor.shape.iter().map(|&size| size as i64).collect(),
        data_type: Some(data_type_of(tensor.data.element())),
        name: Some(name.to_owned()),
        raw_data: Some(tensor.data.to_bytes()),
        ..TensorProto::default()
    }
}

fn node_to_proto(node: &Node) -> NodeProto {
    NodeProto {
        input: node.inputs.clone(),
        output: node.outputs.clone(),
        name: Some(node.name.clone()),
        op_type: Some(node.op.clone()),
        attribute: node
            .attributes
            .iter()
            .map(|(name, value)| attribute_to_proto(name, value))
            .collect(),
        domain: Some(node.domain.clone()),
        ..NodeProto::default()
    }
}

fn attribute_to_proto(name: &str, value: &Attribute) -> AttributeProto {
    let mut proto = AttributeProto {
        name: Some(name.to_owned()),
        ..AttributeProto::default()
    };
    let kind = match value {
        Attribute::Int(value) => {
            proto.i = Some(*value);
            attribute_type::INT
        }
        Attribute::Float(value) => {
            proto.f = Some(*value);
            attribute_type::FLOAT
        }
        Attribute::Text(value) => {
            proto.s = Some(value.clone().into_bytes());
            attribute_type::STRING
        }
        Attribute::Ints(values) => {
            proto.ints.clone_from(values);
            attribute_type::INTS
        }
        Attribute::Floats(values) => {
            proto.floats.clone_from(values);
            attribute_type::FLOATS
        }
        Attribute::Tensor(tensor) => {
            proto.t = Some(tensor_to_proto("", tensor));
            attribute_type::TENSOR
        }
    };
    proto.r#type = Some(kind);
    proto
}

/// ONNX's number of an element type.
pub(super) fn data_type_of(element: ElementType) -> i32 {
    match element {
        ElementType::F32 => data_type::FLOAT,
        ElementType::F64 => data_type::DOUBLE,
        ElementType::I64 => data_type::INT64,
        ElementType::I32 => data_type::INT32,
        ElementType::Bool => data_type::BOOL,
        ElementType::U8 => data_type::UINT8,
        ElementType::I8 => data_type::INT8,
    }
}

/// The element type with an ONNX number.
pub(super) fn element_of_data_type(number: i32) -> Option<ElementType> {
    Some(match number {
        data_type::FLOAT => ElementType::F32,
        data_type::DOUBLE => ElementType::F64,
        data_type::INT64 => ElementType::I64,
        data_type::INT32 => ElementType::I32,
        data_type::BOOL => ElementType::Bool,
        data_type::UINT8 => ElementType::U8,
        data_type::INT8 => ElementType::I8,
        _ => return None,
    })
}

/// The attribute that a message holds, or why it cannot be used.
pub(super) fn attribute_from_proto(proto: &AttributeProto) -> Result<Attribute, String> {
    Ok(match proto.r#type.unwrap_or(0) {
        attribute_type::FLOAT => Attribute::Float(proto.f.unwrap_or(0.0)),
        attribute_type::INT => Attribute::Int(proto.i.unwrap_or(0)),
        attribute_type::STRING => {
            let bytes = proto.s.clone().unwrap_or_default();
            Attribute::Text(String::from_utf8(bytes).map_err(|error| error.to_string())?)
        }
        attribute_type::TENSOR => {
            let tensor = proto.t.as_ref().ok_or("it has no tensor")?;
            Attribute::Tensor(tensor_from_proto(tensor)?)
        }
        attribute_type::FLOATS => Attribute::Floats(proto.floats.clone()),
        attribute_type::INTS => Attribute::Ints(proto.ints.clone()),
        other => return Err(format!("attribute type {other} is not supported")),
    })
}

/// The tensor that a message holds, or why it cannot be used.
pub(super) fn tensor_from_proto(proto: &TensorProto) -> Result<Tensor, String> {
    if proto.data_location == Some(1) {
        return Err("the data is in another file".to_owned());
    }
    let number = proto.data_type.unwrap_or(0);
    let element = element_of_data_type(number)
        .ok_or_else(|| format!("element type {number} is not supported"))?;
    let shape = proto
        .dims
        .iter()
        .map(|&size| usize::try_from(size).ok())
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| format!("a negative size in {:?}", proto.dims))?;
    let count = shape
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size))
        .ok_or_else(|| format!("the shape {shape:?} is too large"))?;
    let data = match proto
        .raw_data
        .as_deref()
        .filter(|bytes| !bytes.is_empty() || count == 0)
    {
        Some(bytes) => data_from_bytes(element, bytes),
        None => data_from_fields(element, proto)?,
    };
    if data.len() != count {
        return Err(format!("{} elements for the shape {shape:?}", data.len()));
    }
    Ok(Tensor { shape, data })
}

fn data_from_bytes(element: ElementType, bytes: &[u8]) -> TensorData {
    fn read<const SIZE: usize, T>(bytes: &[u8], from: fn([u8; SIZE]) -> T) -> Vec<T> {
        let (whole, _) = bytes.as_chunks::<SIZE>();
        whole.iter().map(|&chunk| from(chunk)).collect()
    }
    match element {
        ElementType::F32 => TensorData::F32(read(bytes, f32::from_le_bytes)),
        ElementType::F64 => TensorData::F64(read(bytes, f64::from_le_bytes)),
        ElementType::I64 => TensorData::I64(read(bytes, i64::from_le_bytes)),
        ElementType::I32 => TensorData::I32(read(bytes, i32::from_le_bytes)),
        ElementType::Bool => TensorData::Bool(bytes.iter().map(|&byte| byte != 0).collect()),
        ElementType::U8 => TensorData::U8(bytes.to_vec()),
        ElementType::I8 => TensorData::I8(read(bytes, i8::from_le_bytes)),
    }
}

fn data_from_fields(element: ElementType, proto: &TensorProto) -> Result<TensorData, String> {
    let small = &proto.int32_data;
    let out_of_range = |_| "an element out of the range of its type".to_owned();
    Ok(match element {
        ElementType::F32 => TensorData::F32(proto.float_data.clone()),
        ElementType::F64 => TensorData::F64(proto.double_data.clone()),
        ElementType::I64 => TensorData::I64(proto.int64_data.clone()),
        ElementType::I32 => TensorData::I32(small.clone()),
        ElementType::Bool => TensorData::Bool(small.iter().map(|&value| value != 0).collect()),
        ElementType::U8 => TensorData::U8(
            small
                .iter()
                .map(|&value| u8::try_from(value).map_err(out_of_range))
                .collect::<Result<_, _>>()?,
        ),
        ElementType::I8 => TensorData::I8(
            small
                .iter()
                .map(|&value| i8::try_from(value).map_err(out_of_range))
                .collect::<Result<_, _>>()?,
        ),
    })
}
