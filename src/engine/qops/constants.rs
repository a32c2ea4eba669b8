//! The constant tensors of a file, read with every length checked before anything is copied.

use std::{borrow::Cow, collections::HashMap};
use tract_onnx::pb::{GraphProto, TensorProto, tensor_proto::DataType};

/// The initialisers of a graph by name.
pub(super) struct Constants<'a> {
    by_name: HashMap<&'a str, &'a TensorProto>,
}

/// A constant: its shape and its elements.
pub(super) struct Constant<T> {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<T>,
}

impl<'a> Constants<'a> {
    pub(super) fn of(graph: &'a GraphProto) -> Self {
        let named = |tensor: &'a TensorProto| (tensor.name.as_str(), tensor);
        Self {
            by_name: graph.initializer.iter().map(named).collect(),
        }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    pub(super) fn f32(&self, name: &str) -> Result<Constant<f32>, String> {
        self.read(name, DataType::Float, f32::from_le_bytes, |tensor| {
            Cow::Borrowed(&tensor.float_data)
        })
    }

    pub(super) fn u8(&self, name: &str) -> Result<Constant<u8>, String> {
        self.read(name, DataType::Uint8, u8::from_le_bytes, |tensor| {
            tensor.int32_data.iter().map(|&value| value as u8).collect()
        })
    }

    pub(super) fn i8(&self, name: &str) -> Result<Constant<i8>, String> {
        self.read(name, DataType::Int8, i8::from_le_bytes, |tensor| {
            tensor.int32_data.iter().map(|&value| value as i8).collect()
        })
    }

    pub(super) fn i32(&self, name: &str) -> Result<Constant<i32>, String> {
        self.read(name, DataType::Int32, i32::from_le_bytes, |tensor| {
            Cow::Borrowed(&tensor.int32_data)
        })
    }

    pub(super) fn i64(&self, name: &str) -> Result<Constant<i64>, String> {
        self.read(name, DataType::Int64, i64::from_le_bytes, |tensor| {
            Cow::Borrowed(&tensor.int64_data)
        })
    }

    fn read<T: Clone + 'a, const BYTES: usize>(
        &self,
        name: &str,
        element: DataType,
        from_bytes: impl Fn([u8; BYTES]) -> T,
        typed: impl FnOnce(&'a TensorProto) -> Cow<'a, [T]>,
    ) -> Result<Constant<T>, String> {
        let Some(&tensor) = self.by_name.get(name) else {
            return Err(format!("{name:?} is not a constant of the file"));
        };
        if tensor.data_type != element as i32 {
            let found = element_name(tensor.data_type);
            return Err(format!(
                "{name:?}: expected {}, found {found}",
                element_name(element as i32)
            ));
        }
        let shape = shape_of(tensor).map_err(|reason| format!("{name:?}: {reason}"))?;
        let count: usize = shape.iter().product();
        let values: Vec<T> = if tensor.raw_data.is_empty() {
            typed(tensor).into_owned()
        } else if tensor.raw_data.len() == count * BYTES {
            let chunks = tensor.raw_data.chunks_exact(BYTES);
            chunks
                .map(|chunk| from_bytes(chunk.try_into().expect("chunks have this length")))
                .collect()
        } else {
            Vec::new()
        };
        if values.len() != count {
            return Err(format!(
                "{name:?}: shape {shape:?} does not fit the data of the file"
            ));
        }
        Ok(Constant { shape, values })
    }
}

/// The shape of a stored tensor when as many elements can be in the file as it promises.
pub(super) fn shape_of(tensor: &TensorProto) -> Result<Vec<usize>, String> {
    let mut count = 1usize;
    let mut shape = Vec::with_capacity(tensor.dims.len());
    for &edge in &tensor.dims {
        let size = usize::try_from(edge).ok();
        match size.and_then(|size| Some((size, count.checked_mul(size)?))) {
            Some((size, product)) if product <= MOST_ELEMENTS => {
                count = product;
                shape.push(size);
            }
            _ => return Err(format!("shape {:?} is not possible", tensor.dims)),
        }
    }
    Ok(shape)
}

/// Elements that a tensor may have: far beyond any network of ours, and no product of sizes comes near an overflow.
pub(super) const MOST_ELEMENTS: usize = 1 << 28;

fn element_name(element: i32) -> String {
    DataType::try_from(element).map_or_else(
        |_| format!("unknown element type {element}"),
        |element| format!("{element:?}").to_lowercase(),
    )
}
