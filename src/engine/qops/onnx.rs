//! From a node of an ONNX file to an [`Operator`]: everything about it that needs no shape of its inputs is checked here.

use super::{
    constants::Constants,
    error::NodeError,
    operators::{Conv, FullyConnected, Operator, Quantization, Window},
};
use tract_onnx::pb::{AttributeProto, NodeProto, attribute_proto::AttributeType};

/// Domain of ONNX Runtime's operators.
pub(crate) const MICROSOFT: &str = "com.microsoft";

/// Whether the engine has this operator of the int8 form.
pub(crate) fn is_known(domain: &str, operator: &str) -> bool {
    if domain == MICROSOFT {
        return matches!(
            operator,
            "QLinearAdd" | "QLinearGlobalAveragePool" | "QGemm"
        );
    }
    matches!(
        operator,
        "QuantizeLinear" | "DequantizeLinear" | "QLinearConv" | "QLinearMatMul"
    )
}

/// Whether an operator of ONNX does the same on bytes as on floats, so that its input's element type tells which it is.
pub(crate) fn works_on_bytes(operator: &str) -> bool {
    matches!(
        operator,
        "MaxPool" | "Concat" | "Resize" | "Flatten" | "Reshape"
    )
}

/// A translated node: the operator and the names of the tensors it reads.
pub(crate) struct Translated {
    pub(crate) operator: Operator,
    pub(crate) inputs: Vec<String>,
}

/// Translates a node that [`is_known`], or that [`works_on_bytes`] and reads bytes.
pub(super) fn translate(
    node: &NodeProto,
    name: &str,
    constants: &Constants<'_>,
) -> Result<Translated, NodeError> {
    let reader = Reader { node, constants };
    reader.translate().map_err(|reason| NodeError {
        operator: node.op_type.clone(),
        node: name.to_owned(),
        reason,
    })
}

struct Reader<'a> {
    node: &'a NodeProto,
    constants: &'a Constants<'a>,
}

type Result1<T> = Result<T, String>;

impl Reader<'_> {
    fn translate(&self) -> Result1<Translated> {
        if self.node.output.len() != 1 || self.node.output[0].is_empty() {
            return Err(format!(
                "expected one output, found {}",
                self.node.output.len()
            ));
        }
        let operator = match self.node.op_type.as_str() {
            "QuantizeLinear" => Operator::Quantize(self.quantize_linear()?),
            "DequantizeLinear" => Operator::Dequantize(self.quantize_linear()?),
            "QLinearConv" => Operator::Conv(Box::new(self.conv()?)),
            "QLinearAdd" => self.add()?,
            "QLinearGlobalAveragePool" => self.average_pool()?,
            "QGemm" => Operator::FullyConnected(Box::new(self.gemm()?)),
            "QLinearMatMul" => Operator::FullyConnected(Box::new(self.mat_mul()?)),
            "MaxPool" => self.max_pool()?,
            "Concat" => self.concat()?,
            "Resize" => self.resize()?,
            "Flatten" => self.flatten()?,
            "Reshape" => self.reshape()?,
            _ => return Err("the engine has no such operator".to_owned()),
        };
        let indices = match operator {
            Operator::Add { .. } => vec![0, 3],
            Operator::Concat => (0..self.node.input.len()).collect(),
            _ => vec![0],
        };
        let inputs = indices
            .into_iter()
            .map(|index| {
                let name = self.input(index, "data")?;
                if self.constants.contains(name) {
                    return Err(format!("input {name:?} is a constant"));
                }
                Ok(name.to_owned())
            })
            .collect::<Result1<Vec<String>>>()?;
        Ok(Translated { operator, inputs })
    }

    fn quantize_linear(&self) -> Result1<Quantization> {
        self.arity(3, 3)?;
        self.attributes(&["axis", "block_size", "saturate", "output_dtype"])?;
        self.fixed("block_size", 0)?;
        self.quantization(1, "scale")
    }

    fn conv(&self) -> Result1<Conv> {
        self.arity(8, 9)?;
        self.attributes(&[
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "pads",
            "strides",
        ])?;
        let weights = self.constants.i8(self.input(3, "weights")?)?;
        let [outputs, group_channels, height, width] = *weights.shape else {
            return Err(format!("weights of shape {:?}", weights.shape));
        };
        let group = self.int("group", 1)?;
        let group = usize::try_from(group).ok().filter(|&group| group > 0);
        let group = group.ok_or("the number of groups is not positive")?;
        if weights.values.is_empty() || outputs % group != 0 {
            return Err(format!(
                "weights of shape {:?} do not fit {group} groups",
                weights.shape
            ));
        }
        group_channels
            .checked_mul(group)
            .ok_or("too many input channels")?;
        let window = self.window(Some((height, width)))?;
        let input = self.quantization(1, "x")?;
        let output = self.quantization(6, "y")?;
        let scales = self.weight_scales(4, outputs)?;
        self.zero_weights(5, outputs)?;
        Ok(Conv {
            window,
            group,
            output_channels: outputs,
            group_channels,
            weights: weights.values,
            bias: self.bias(8, outputs)?,
            multipliers: multipliers(&scales, |scale| input.scale * scale / output.scale)?,
            input,
            output,
        })
    }

    fn add(&self) -> Result1<Operator> {
        self.arity(8, 8)?;
        self.attributes(&[])?;
        let (a, b) = (self.quantization(1, "A")?, self.quantization(4, "B")?);
        let output = self.quantization(6, "C")?;
        multipliers(&[a.scale, b.scale], |scale| scale / output.scale)?;
        Ok(Operator::Add { a, b, output })
    }

    fn average_pool(&self) -> Result1<Operator> {
        self.arity(5, 5)?;
        self.attributes(&["channels_last"])?;
        self.fixed("channels_last", 0)?;
        let (input, output) = (self.quantization(1, "x")?, self.quantization(3, "y")?);
        multipliers(&[input.scale], |scale| scale / output.scale)?;
        Ok(Operator::GlobalAveragePool { input, output })
    }

    fn gemm(&self) -> Result1<FullyConnected> {
        self.arity(6, 9)?;
        self.attributes(&["alpha", "transA", "transB"])?;
        self.fixed("transA", 0)?;
        let alpha = match self.attribute("alpha", AttributeType::Float)? {
            Some(attribute) => attribute.f,
            None => 1.0,
        };
        let input = self.quantization(1, "a")?;
        let transposed = self.int("transB", 0)? != 0;
        let (weights, inputs, outputs) = self.matrix(3, transposed)?;
        let scales = self.weight_scales(4, outputs)?;
        self.zero_weights(5, outputs)?;
        let output = match (self.given(7), self.given(8)) {
            (false, false) => None,
            _ => Some(self.quantization(7, "y")?),
        };
        let multipliers = multipliers(&scales, |scale| match output {
            Some(output) => alpha * input.scale * scale / output.scale,
            None => alpha * input.scale * scale,
        })?;
        Ok(FullyConnected {
            inputs,
            outputs,
            weights,
            bias: self.bias(6, outputs)?,
            multipliers,
            input_zero: input.zero,
            output,
        })
    }

    fn mat_mul(&self) -> Result1<FullyConnected> {
        self.arity(8, 8)?;
        self.attributes(&[])?;
        let (input, output) = (self.quantization(1, "a")?, self.quantization(6, "y")?);
        let (weights, inputs, outputs) = self.matrix(3, false)?;
        let scales = self.weight_scales(4, outputs)?;
        self.zero_weights(5, outputs)?;
        Ok(FullyConnected {
            inputs,
            outputs,
            weights,
            bias: vec![0; outputs],
            multipliers: multipliers(&scales, |scale| input.scale * scale / output.scale)?,
            input_zero: input.zero,
            output: Some(output),
        })
    }

    fn max_pool(&self) -> Result1<Operator> {
        self.arity(1, 1)?;
        self.attributes(&[
            "auto_pad",
            "ceil_mode",
            "dilations",
            "kernel_shape",
            "pads",
            "storage_order",
            "strides",
        ])?;
        self.fixed("ceil_mode", 0)?;
        let window = self.window(None)?;
        let (height, width) = window.kernel;
        let widest = (window.top.max(window.bottom), window.left.max(window.right));
        if widest.0 >= height || widest.1 >= width {
            return Err("the padding is as large as the window".to_owned());
        }
        Ok(Operator::MaxPool(window))
    }

    fn concat(&self) -> Result1<Operator> {
        self.arity(1, usize::MAX)?;
        self.attributes(&["axis"])?;
        match self.int("axis", 0)? {
            1 | -3 => Ok(Operator::Concat),
            axis => Err(format!("bytes are joined along axis 1, not {axis}")),
        }
    }

    fn resize(&self) -> Result1<Operator> {
        self.arity(1, 4)?;
        self.attributes(&[
            "antialias",
            "coordinate_transformation_mode",
            "cubic_coeff_a",
            "exclude_outside",
            "extrapolation_value",
            "keep_aspect_ratio_policy",
            "mode",
            "nearest_mode",
        ])?;
        for (name, expected, default) in [
            ("mode", "nearest", "nearest"),
            ("coordinate_transformation_mode", "asymmetric", "half_pixel"),
            ("nearest_mode", "floor", "round_prefer_floor"),
        ] {
            let found = self.text(name)?.unwrap_or(default);
            if found != expected {
                return Err(format!("{name}: expected {expected}, found {found}"));
            }
        }
        self.fixed("antialias", 0)?;
        if !self.given(2) {
            return Err("the factors are missing".to_owned());
        }
        let scales = self.constants.f32(self.input(2, "scales")?)?.values;
        let [1.0, 1.0, down, right] = *scales else {
            return Err(format!("expected factors [1, 1, n, m], found {scales:?}"));
        };
        let whole = |factor: f32| {
            let in_range = (1.0..=64.0).contains(&factor) && factor.fract() == 0.0;
            in_range.then_some(factor as usize)
        };
        match (whole(down), whole(right)) {
            (Some(down), Some(right)) => Ok(Operator::Resize { down, right }),
            _ => Err(format!(
                "expected whole factors from 1 to 64, found {down} and {right}"
            )),
        }
    }

    fn flatten(&self) -> Result1<Operator> {
        self.arity(1, 1)?;
        self.attributes(&["axis"])?;
        match self.int("axis", 1)? {
            1 => Ok(Operator::Flatten),
            axis => Err(format!("bytes are flattened from axis 1, not {axis}")),
        }
    }

    fn reshape(&self) -> Result1<Operator> {
        self.arity(2, 2)?;
        self.attributes(&["allowzero"])?;
        self.fixed("allowzero", 0)?;
        let target = self.constants.i64(self.input(1, "shape")?)?;
        Ok(Operator::Reshape(target.values))
    }

    /// A matrix `[inputs, outputs]`, or `[outputs, inputs]` when it is stored transposed: as `[outputs, inputs]`, with
    /// both edges.
    fn matrix(&self, index: usize, transposed: bool) -> Result1<(Vec<i8>, usize, usize)> {
        let matrix = self.constants.i8(self.input(index, "weights")?)?;
        let [rows, columns] = *matrix.shape else {
            return Err(format!(
                "expected a matrix of weights, found shape {:?}",
                matrix.shape
            ));
        };
        if matrix.values.is_empty() {
            return Err(format!("weights of shape {:?}", matrix.shape));
        }
        if transposed {
            return Ok((matrix.values, columns, rows));
        }
        let column = |x: usize| matrix.values[x..].iter().step_by(columns).copied();
        Ok(((0..columns).flat_map(column).collect(), rows, columns))
    }

    fn window(&self, kernel: Option<(usize, usize)>) -> Result1<Window> {
        match self.text("auto_pad")? {
            None | Some("NOTSET" | "") => {}
            Some(found) => return Err(format!("auto_pad: expected NOTSET, found {found}")),
        }
        let stated = self.sizes::<2>("kernel_shape", None)?;
        let kernel = match (kernel, stated) {
            (Some((height, width)), Some([h, w])) if (h, w) != (height, width) => {
                return Err(format!(
                    "kernel_shape is {h}x{w}, the weights are for {height}x{width}"
                ));
            }
            (Some(kernel), _) => kernel,
            (None, Some([height, width])) => (height, width),
            (None, None) => return Err("kernel_shape is missing".to_owned()),
        };
        let [down, right] = self.sizes("strides", Some([1, 1]))?.unwrap_or([1, 1]);
        if self.sizes("dilations", Some([1, 1]))? != Some([1, 1]) {
            return Err("dilations are not supported".to_owned());
        }
        let pads = self.sizes("pads", Some([0; 4]))?.unwrap_or([0; 4]);
        let positive = [kernel.0, kernel.1, down, right];
        let limits = positive
            .into_iter()
            .all(|size| (1..=MOST_EDGE).contains(&size));
        if !limits || pads.into_iter().any(|size| size > MOST_EDGE) {
            return Err(format!(
                "a window of {kernel:?} with strides {:?} and pads {pads:?} is not possible",
                (down, right)
            ));
        }
        let [top, left, bottom, end] = pads;
        Ok(Window {
            kernel,
            stride: (down, right),
            top,
            left,
            bottom,
            right: end,
        })
    }

    /// A scale and the zero point after it, both scalars.
    fn quantization(&self, index: usize, what: &str) -> Result1<Quantization> {
        let scale_name = format!("{what} scale");
        let scale = self.constants.f32(self.input(index, &scale_name)?)?;
        let [scale] = *scale.values else {
            return Err(format!(
                "{scale_name}: expected one value, found shape {:?}",
                scale.shape
            ));
        };
        let zero_name = format!("{what} zero point");
        let zero = self.constants.u8(self.input(index + 1, &zero_name)?);
        let zero = zero.map_err(|reason| format!("{zero_name}: {reason}"))?;
        let [zero] = *zero.values else {
            return Err(format!(
                "{zero_name}: expected one value, found shape {:?}",
                zero.shape
            ));
        };
        check_scale(scale).map_err(|reason| format!("{scale_name}: {reason}"))?;
        Ok(Quantization { scale, zero })
    }

    /// The scales of weights: one for each of `count` outputs; one for all is repeated.
    fn weight_scales(&self, index: usize, count: usize) -> Result1<Vec<f32>> {
        let scales = self.constants.f32(self.input(index, "weight scale")?)?;
        for &scale in &scales.values {
            check_scale(scale).map_err(|reason| format!("weight scale: {reason}"))?;
        }
        match *scales.values {
            [scale] => Ok(vec![scale; count]),
            _ if scales.shape == [count] => Ok(scales.values),
            _ => Err(format!(
                "weight scale: expected 1 or {count} values, found shape {:?}",
                scales.shape
            )),
        }
    }

    fn zero_weights(&self, index: usize, count: usize) -> Result1<()> {
        let zeros = self.constants.i8(self.input(index, "weight zero point")?)?;
        let fits = zeros.values.len() == 1 || zeros.shape == [count];
        if !fits || zeros.values.iter().any(|&zero| zero != 0) {
            return Err(format!(
                "weight zero point: expected 0 once or {count} times, found shape {:?} with {:?}",
                zeros.shape,
                zeros.values.iter().find(|&&zero| zero != 0).unwrap_or(&0)
            ));
        }
        Ok(())
    }

    fn bias(&self, index: usize, count: usize) -> Result1<Vec<i32>> {
        if !self.given(index) {
            return Ok(vec![0; count]);
        }
        let bias = self.constants.i32(self.input(index, "bias")?)?;
        if bias.shape != [count] && bias.shape != [1, count] {
            return Err(format!(
                "bias: expected {count} values, found shape {:?}",
                bias.shape
            ));
        }
        Ok(bias.values)
    }

    fn given(&self, index: usize) -> bool {
        self.node
            .input
            .get(index)
            .is_some_and(|name| !name.is_empty())
    }

    fn input(&self, index: usize, what: &str) -> Result1<&str> {
        match self.node.input.get(index) {
            Some(name) if !name.is_empty() => Ok(name),
            _ => Err(format!("{what} is missing (input {index})")),
        }
    }

    fn arity(&self, least: usize, most: usize) -> Result1<()> {
        let found = self.node.input.len();
        if (least..=most).contains(&found) {
            return Ok(());
        }
        Err(format!("expected {least} inputs or more, found {found}"))
    }

    /// Refuses attributes that are not `known`, so that none is ignored.
    fn attributes(&self, known: &[&str]) -> Result1<()> {
        let mut attributes = self.node.attribute.iter();
        match attributes.find(|attribute| !known.contains(&attribute.name.as_str())) {
            Some(unknown) => Err(format!("attribute {} is not supported", unknown.name)),
            None => Ok(()),
        }
    }

    fn attribute(&self, name: &str, of: AttributeType) -> Result1<Option<&AttributeProto>> {
        let mut attributes = self.node.attribute.iter();
        let Some(found) = attributes.find(|attribute| attribute.name == name) else {
            return Ok(None);
        };
        if found.r#type != of as i32 {
            return Err(format!("attribute {name} is not of type {of:?}"));
        }
        Ok(Some(found))
    }

    fn int(&self, name: &str, default: i64) -> Result1<i64> {
        let found = self.attribute(name, AttributeType::Int)?;
        Ok(found.map_or(default, |attribute| attribute.i))
    }

    /// An attribute whose default is the only value that is supported.
    fn fixed(&self, name: &str, only: i64) -> Result1<()> {
        match self.int(name, only)? {
            found if found == only => Ok(()),
            found => Err(format!("attribute {name}: expected {only}, found {found}")),
        }
    }

    fn text(&self, name: &str) -> Result1<Option<&str>> {
        let found = self.attribute(name, AttributeType::String)?;
        found
            .map(|attribute| {
                std::str::from_utf8(&attribute.s)
                    .map_err(|_| format!("attribute {name} is no text"))
            })
            .transpose()
    }

    fn sizes<const N: usize>(
        &self,
        name: &str,
        default: Option<[usize; N]>,
    ) -> Result1<Option<[usize; N]>> {
        let Some(found) = self.attribute(name, AttributeType::Ints)? else {
            return Ok(default);
        };
        let sizes: Option<Vec<usize>> = found
            .ints
            .iter()
            .map(|&size| usize::try_from(size).ok())
            .collect();
        let sizes = sizes.and_then(|sizes| sizes.try_into().ok());
        sizes
            .map(Some)
            .ok_or_else(|| format!("attribute {name}: {:?} is not possible", found.ints))
    }
}

/// Largest edge of a window, stride or padding.
const MOST_EDGE: usize = 1 << 12;

fn check_scale(scale: f32) -> Result1<()> {
    if scale.is_finite() && scale > 0.0 {
        return Ok(());
    }
    Err(format!("expected a positive number, found {scale}"))
}

fn multipliers(scales: &[f32], of: impl Fn(f32) -> f32) -> Result1<Vec<f32>> {
    let all: Vec<f32> = scales.iter().map(|&scale| of(scale)).collect();
    match all.iter().find(|multiplier| !multiplier.is_finite()) {
        None => Ok(all),
        Some(found) => Err(format!("the scales make a factor of {found}")),
    }
}
