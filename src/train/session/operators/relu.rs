//! `facemark.ReluGrad(y, dy) -> dx`: dy where y > 0, else 0, in one pass.

use super::{fill_chunks, wrong};
use ort::{
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::TensorElementType,
};

const NAME: &str = "ReluGrad";

/// Elements that one thread takes at a time.
const CHUNK: usize = 1 << 15;

/// The operator.
pub(super) struct ReluGrad;

/// Its kernel has no attributes.
pub(super) struct ReluGradKernel;

impl Operator for ReluGrad {
    type Kernel<'a> = ReluGradKernel;

    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [TensorElementType::Float32; 2].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(&self, _: &KernelContext<'a>) -> ort::Result<ReluGradKernel> {
        Ok(ReluGradKernel)
    }
}

impl Kernel for ReluGradKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let missing = || wrong(NAME, "an input or the output is missing");
        let y_value = context.input(0)?.ok_or_else(missing)?;
        let dy_value = context.input(1)?.ok_or_else(missing)?;
        let (shape, y) = y_value.try_extract_tensor::<f32>()?;
        let (_, dy) = dy_value.try_extract_tensor::<f32>()?;
        if y.len() != dy.len() {
            return Err(wrong(NAME, "y and dy are of different shapes"));
        }
        let mut output = context.output(0, shape.to_vec())?.ok_or_else(missing)?;
        let (_, dx) = output.try_extract_tensor_mut::<f32>()?;
        fill_chunks(context, dx, CHUNK, |index, dx| {
            let from = index * CHUNK;
            let (y, dy) = (&y[from..][..dx.len()], &dy[from..][..dx.len()]);
            for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                *dx = if y > 0.0 { dy } else { 0.0 };
            }
        })
    }
}
