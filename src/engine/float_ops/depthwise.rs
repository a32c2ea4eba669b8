//! Depthwise float convolution as a tract operator around `kernels::float_depthwise`.

use crate::engine::kernels::float_depthwise::{FloatDepthwise, FloatSet};
use tract_core::{
    internal::*,
    model::Rewriter,
    ops::{
        cnn::{Conv, KernelFormat},
        nn::DataFormat,
    },
};

/// Replaces each depthwise convolution of `model` that has constant shapes, channel planes and no dilation.
pub(in crate::engine) fn replace_depthwise(model: &mut TypedModel) -> TractResult<()> {
    Rewriter::<()>::default()
        .with_rule_for("own depthwise", rule)
        .rewrite(&(), model)
}

fn rule(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &Conv,
) -> TractResult<Option<TypedModelPatch>> {
    let facts = model.node_input_facts(node.id)?;
    let (Some(kernel), Some(shape)) = (
        kernel_of(op, &facts)?,
        node.outputs[0].fact.shape.as_concrete(),
    ) else {
        return Ok(None);
    };
    let mut patch = TypedModelPatch::default();
    let taps = patch.taps(model, &node.inputs)?;
    let own = DepthwiseOp {
        kernel,
        set: FloatSet::best(),
        shape: shape.into(),
    };
    let output = patch.wire_node(name, own, &taps)?;
    patch.shunt_outside(model, node.id.into(), output[0])?;
    Ok(Some(patch))
}

/// The kernel for `op`; `None` when it is another kind of convolution.
fn kernel_of(op: &Conv, facts: &[&TypedFact]) -> TractResult<Option<FloatDepthwise>> {
    let pool = &op.pool_spec;
    let channels = op.input_channels();
    let planes = matches!(pool.data_format, DataFormat::NCHW | DataFormat::CHW);
    let depthwise = op.group == channels && op.output_channels() == channels && channels > 1;
    let [x, weights, bias] = facts else {
        return Ok(None);
    };
    let floats = facts
        .iter()
        .all(|fact| fact.datum_type == f32::datum_type());
    if op.q_params.is_some() || !planes || !depthwise || !floats || pool.rank() != 2 {
        return Ok(None);
    }
    let plain = op.kernel_fmt == KernelFormat::OIHW
        && weights.konst.is_some()
        && bias.konst.is_some()
        && bias.shape.as_concrete() == Some(&[channels])
        && pool.dilations().iter().all(|&dilation| dilation == 1);
    let Some(shape) = x.shape.as_concrete().filter(|_| plain) else {
        return Ok(None);
    };
    let shape = pool.data_format.shape(shape)?;
    if shape.n().is_some_and(|&batch| batch != 1) {
        return Ok(None);
    }
    let input = (shape.hw_dims()[0], shape.hw_dims()[1]);
    let padding = pool.computed_padding(shape.hw_dims());
    Ok(Some(FloatDepthwise {
        channels,
        input,
        output: (padding[0].convoluted, padding[1].convoluted),
        kernel: (pool.kernel_shape[0], pool.kernel_shape[1]),
        stride: (pool.stride(0), pool.stride(1)),
        pad: (padding[0].pad_before, padding[1].pad_before),
    }))
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct DepthwiseOp {
    kernel: FloatDepthwise,
    set: FloatSet,
    /// The output's.
    shape: TVec<usize>,
}

impl Op for DepthwiseOp {
    fn name(&self) -> StaticName {
        "OwnDepthwiseConv".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![self.set.name().to_owned()])
    }

    op_as_typed_op!();
}

impl EvalOp for DepthwiseOp {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (x, weights, bias) = args_3!(inputs);
        let mut output = Tensor::zero::<f32>(&self.shape)?;
        let mut scratch = vec![0.0; self.kernel.scratch_len()];
        self.kernel.run(
            self.set,
            x.try_as_plain_ram()?.as_slice::<f32>()?,
            weights.try_as_plain_ram()?.as_slice::<f32>()?,
            bias.try_as_plain_ram()?.as_slice::<f32>()?,
            output.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?,
            &mut scratch,
        );
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for DepthwiseOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].datum_type.fact(&self.shape)))
    }

    fn cost(&self, _: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let kernel = &self.kernel;
        let work =
            kernel.channels * kernel.output.0 * kernel.output.1 * kernel.kernel.0 * kernel.kernel.1;
        Ok(tvec!((Cost::FMA(f32::datum_type()), work.to_dim())))
    }

    as_op!();
}
