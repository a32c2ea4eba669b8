//! Type rules of the quantised operators: ONNX's own and ONNX Runtime's (domain `com.microsoft`). None has an adjoint.
//!
//! Activations are bytes with one scale and zero point; a weight may have one a channel. What the numbers are (positive
//! scales, zero points of symmetric weights) is checked where such a graph is run.

use super::{Site, Types, conv::convolved, linear, pool, with_shape};
use crate::train::graph::{ElementType, GraphError, TensorType};

/// QuantizeLinear: floats, scale, zero point (optional: 0 of unsigned bytes) to bytes.
pub(super) fn quantize_linear(site: &Site) -> Types {
    let x = site.float_input(0)?;
    let channels = axis_size(site, x)?;
    scale(site, 1, channels)?;
    let element = match site.optional(2) {
        Some(zero_point) => {
            if !is_byte(zero_point) {
                return Err(site.bad("input 2", "bytes", zero_point));
            }
            zero_point_of(site, 1, 2, zero_point.element)?;
            zero_point.element
        }
        None => ElementType::U8,
    };
    Ok(vec![TensorType::new(element, &x.shape)])
}

/// DequantizeLinear: bytes or 32-bit integers, scale, zero point (optional) to floats.
pub(super) fn dequantize_linear(site: &Site) -> Types {
    let x = site.input(0)?;
    if !is_byte(x) && x.element != ElementType::I32 {
        return Err(site.bad("input 0", "bytes or 32-bit integers", x));
    }
    let channels = axis_size(site, x)?;
    scale(site, 1, channels)?;
    if site.optional(2).is_some() {
        zero_point_of(site, 1, 2, x.element)?;
    }
    Ok(vec![TensorType::f32(&x.shape)])
}

/// QLinearConv: x, its scale and zero point, w `[M, C / groups, kernel..]`, its scales and zero points (one or M), y's
/// scale and zero point, bias `[M]` of 32-bit integers in steps of `x_scale * w_scale`.
pub(super) fn conv(site: &Site) -> Types {
    let (x, w) = (byte(site, 0)?, byte(site, 3)?);
    let y = convolved(site, x, w)?;
    parameters(site, 1, x.element, 0)?;
    parameters(site, 4, w.element, w.shape[0])?;
    let element = output_parameters(site, 6)?;
    if let Some(bias) = site.optional(8) {
        let expected = TensorType::new(ElementType::I32, &w.shape[..1]);
        if *bias != expected {
            return Err(site.bad("input 8", expected, bias));
        }
    }
    Ok(vec![TensorType::new(element, &y)])
}

/// QLinearMatMul: a, b and y, each with scale and zero point; b may have one a column.
pub(super) fn matmul(site: &Site) -> Types {
    let (a, b) = (byte(site, 0)?, byte(site, 3)?);
    let shape = linear::matrix_product(site, a, b)?;
    parameters(site, 1, a.element, 0)?;
    parameters(site, 4, b.element, b.shape.last().copied().unwrap_or(0))?;
    let element = output_parameters(site, 6)?;
    Ok(vec![TensorType::new(element, &shape)])
}

/// QGemm: a, b (each with scale and zero point; b may have one a column of the product), bias of 32-bit integers
/// (optional), then y's scale and zero point: without them the result is floats.
pub(super) fn gemm(site: &Site) -> Types {
    let (a, b) = (byte(site, 0)?, byte(site, 3)?);
    let shape = linear::general_product(site, a, b)?;
    parameters(site, 1, a.element, 0)?;
    parameters(site, 4, b.element, shape[1])?;
    if let Some(c) = site.optional(6) {
        let fits = c.element == ElementType::I32 && site.broadcast(&[&shape, &c.shape])? == shape;
        if !fits {
            let expected = format!("32-bit integers broadcastable to {shape:?}");
            return Err(site.bad("input 6", expected, c));
        }
    }
    let element = match site.optional(7) {
        Some(_) => output_parameters(site, 7)?,
        None => ElementType::F32,
    };
    Ok(vec![TensorType::new(element, &shape)])
}

/// QLinearAdd: a, b and the sum, each with scale and zero point (inputs 0 to 7).
pub(super) fn add(site: &Site) -> Types {
    let (a, b) = (byte(site, 0)?, byte(site, 3)?);
    if a.element != b.element {
        return Err(site.bad("input 3", format!("{:?}, as input 0", a.element), b));
    }
    parameters(site, 1, a.element, 0)?;
    parameters(site, 4, a.element, 0)?;
    scale(site, 6, 0)?;
    if site.optional(7).is_some() {
        zero_point_of(site, 6, 7, a.element)?;
    }
    Ok(vec![with_shape(a, site.broadcast(&[&a.shape, &b.shape])?)])
}

/// QLinearGlobalAveragePool: x with scale and zero point, y's scale and zero point; channels second.
pub(super) fn global_average_pool(site: &Site) -> Types {
    let x = byte(site, 0)?;
    if site.int("channels_last", 0) != 0 {
        return Err(site.bad("channels_last", 0, 1));
    }
    parameters(site, 1, x.element, 0)?;
    parameters(site, 3, x.element, 0)?;
    Ok(vec![pool::spatial_ones(site, x)?])
}

fn is_byte(of: &TensorType) -> bool {
    matches!(of.element, ElementType::U8 | ElementType::I8)
}

/// The type of an input of bytes.
fn byte<'a>(site: &Site<'a>, index: usize) -> Result<&'a TensorType, GraphError> {
    let of = site.input(index)?;
    if is_byte(of) {
        Ok(of)
    } else {
        Err(site.bad(format!("input {index}"), "bytes", of))
    }
}

/// Size of the axis along which scales may differ; 0 when there is no such axis.
fn axis_size(site: &Site, x: &TensorType) -> Result<usize, GraphError> {
    let scales = site.input(1)?;
    if scales.shape.is_empty() {
        return Ok(0);
    }
    Ok(x.shape[site.axis(site.int("axis", 1), x.rank())?])
}

/// A scale at `index`: one float, or one for each of `channels`.
fn scale(site: &Site, index: usize, channels: usize) -> Result<(), GraphError> {
    let of = site.input(index)?;
    let count = of.element_count();
    if of.element == ElementType::F32 && of.rank() <= 1 && (count == 1 || count == channels) {
        return Ok(());
    }
    let expected = match channels {
        0 | 1 => "one 32-bit float".to_owned(),
        _ => format!("1 or {channels} 32-bit floats"),
    };
    Err(site.bad(format!("input {index}"), expected, of))
}

/// A zero point at `index` with as many values as the scale at `scale_index`.
fn zero_point_of(
    site: &Site,
    scale_index: usize,
    index: usize,
    element: ElementType,
) -> Result<(), GraphError> {
    let of = site.input(index)?;
    let count = site.input(scale_index)?.element_count();
    if of.element == element && of.rank() <= 1 && of.element_count() == count {
        return Ok(());
    }
    Err(site.bad(
        format!("input {index}"),
        format!("{count} of {element:?}, as the scale has"),
        of,
    ))
}

/// A scale at `index` and behind it a zero point.
fn parameters(
    site: &Site,
    index: usize,
    element: ElementType,
    channels: usize,
) -> Result<(), GraphError> {
    scale(site, index, channels)?;
    // One zero point may stand for those of all channels.
    let single = site.input(index + 1)?.element_count() == 1;
    let scale_index = if single { index + 1 } else { index };
    zero_point_of(site, scale_index, index + 1, element)
}

/// The scale and zero point of an output at `index`; its element type is the zero point's.
fn output_parameters(site: &Site, index: usize) -> Result<ElementType, GraphError> {
    let zero_point = byte(site, index + 1)?;
    parameters(site, index, zero_point.element, 0)?;
    Ok(zero_point.element)
}

#[cfg(test)]
mod tests {
    use crate::train::graph::{Attribute, ElementType, Graph, Tensor, TensorData, TensorType};

    /// A graph with the values that the cases name.
    fn graph() -> Graph {
        let mut graph = Graph::new("quantised");
        let byte = |shape: &[usize]| TensorType::new(ElementType::U8, shape);
        graph
            .input("image", TensorType::f32(&[1, 3, 8, 8]))
            .unwrap();
        graph.input("x", byte(&[1, 3, 8, 8])).unwrap();
        graph.input("row", byte(&[2, 3])).unwrap();
        let mut constant = |name: &str, shape: &[usize], data| {
            graph.parameter(name, Tensor::new(shape, data)).unwrap();
        };
        constant("s", &[], TensorData::F32(vec![0.1]));
        constant("s3", &[3], TensorData::F32(vec![0.1; 3]));
        constant("s5", &[5], TensorData::F32(vec![0.1; 5]));
        constant("z", &[], TensorData::U8(vec![3]));
        constant("wz", &[], TensorData::I8(vec![0]));
        constant("wz5", &[5], TensorData::I8(vec![0; 5]));
        constant("w", &[5, 3, 3, 3], TensorData::I8(vec![1; 135]));
        constant("m", &[5, 3], TensorData::I8(vec![1; 15]));
        constant("b5", &[5], TensorData::I32(vec![7; 5]));
        constant("b3", &[3], TensorData::I32(vec![7; 3]));
        graph
    }

    #[test]
    fn types_follow_and_what_does_not_fit_is_named() {
        let conv = ["x", "s", "z", "w", "s5", "wz5", "s", "z", "b5"];
        let with = |index: usize, name| {
            let mut inputs = conv;
            inputs[index] = name;
            inputs.to_vec()
        };
        let pads = [("pads", Attribute::Ints(vec![1; 4]))];
        let window = [("kernel_shape", Attribute::Ints(vec![2, 2]))];
        let by_rows = [("transB", Attribute::Int(1))];
        let gemm = ["row", "s", "z", "m", "s5", "wz5", "b5"];
        /// Operator, inputs, attributes, what comes of it.
        type Case<'a> = (
            &'a str,
            Vec<&'a str>,
            &'a [(&'a str, Attribute)],
            Result<&'a str, &'a str>,
        );
        let cases: Vec<Case> = vec![
            (
                "QuantizeLinear",
                vec!["image", "s", "z"],
                &[],
                Ok("U8[1, 3, 8, 8]"),
            ),
            (
                "QuantizeLinear",
                vec!["image", "s3", "z"],
                &[],
                Err("input 2"),
            ),
            ("QuantizeLinear", vec!["x", "s", "z"], &[], Err("floats")),
            (
                "DequantizeLinear",
                vec!["x", "s3"],
                &[],
                Ok("F32[1, 3, 8, 8]"),
            ),
            ("DequantizeLinear", vec!["x", "s5"], &[], Err("input 1")),
            ("DequantizeLinear", vec!["x", "s", "wz"], &[], Err("U8")),
            ("QLinearConv", conv.to_vec(), &pads, Ok("U8[1, 5, 8, 8]")),
            ("QLinearConv", with(0, "image"), &pads, Err("input 0")),
            ("QLinearConv", with(4, "s3"), &pads, Err("input 4")),
            ("QLinearConv", with(5, "wz"), &pads, Ok("U8[1, 5, 8, 8]")),
            ("QLinearConv", with(5, "z"), &pads, Err("input 5")),
            ("QLinearConv", with(8, "b3"), &pads, Err("input 8")),
            (
                "QLinearAdd",
                vec!["x", "s", "z", "x", "s", "z", "s", "z"],
                &[],
                Ok("U8[1, 3, 8, 8]"),
            ),
            (
                "QLinearAdd",
                vec!["x", "s", "z", "row", "s", "z", "s", "z"],
                &[],
                Err("broadcast"),
            ),
            (
                "QLinearGlobalAveragePool",
                vec!["x", "s", "z", "s", "z"],
                &[],
                Ok("U8[1, 3, 1, 1]"),
            ),
            ("QGemm", gemm.to_vec(), &by_rows, Ok("F32[2, 5]")),
            (
                "QGemm",
                [&gemm[..], &["s", "z"]].concat(),
                &by_rows,
                Ok("U8[2, 5]"),
            ),
            ("QGemm", gemm.to_vec(), &[], Err("multiply")),
            ("MaxPool", vec!["x"], &window, Ok("U8[1, 3, 7, 7]")),
            ("GlobalAveragePool", vec!["x"], &[], Err("floats")),
        ];
        for (op, inputs, attributes, expected) in cases {
            let mut graph = graph();
            let found = graph.apply(op, &inputs, attributes);
            match (found, expected) {
                (Ok(name), Ok(of)) => {
                    assert_eq!(graph.type_of(&name).to_string(), of, "{op} {inputs:?}");
                    graph.outputs.push(name);
                    let again = Graph::from_onnx(&graph.to_onnx(), "q.onnx".as_ref()).unwrap();
                    assert_eq!(again, graph, "{op}");
                }
                (Err(error), Err(part)) => {
                    let text = error.to_string();
                    assert!(
                        text.contains(op) && text.contains(part),
                        "{op} {inputs:?}: {text}"
                    );
                }
                (found, expected) => panic!("{op} {inputs:?}: {found:?}, not {expected:?}"),
            }
        }
    }
}
