//! The operators that a graph may hold: for each its type rule and, beside it, its adjoint rule.
//!
//! An operator is supported exactly when it is in [`RULES`].

mod adjoint;
mod conv;
mod conv_gradient;
mod elementwise;
mod fake_quantize;
mod linear;
mod normalization;
mod piecewise;
mod pool;
mod quantized;
mod reduce;
mod shape;
mod site;

use adjoint::Adjoint;
use site::Site;

pub(in crate::train) use fake_quantize::in_stock_operators;
pub(in crate::train) use normalization::{reduce_to_channels, rows_of_channels};

use super::{ElementType, Graph, GraphError, Node, TensorType};
use crate::train::autodiff::Backend;

/// Types of a node's outputs, at least as many as the node has.
type Types = Result<Vec<TensorType>, GraphError>;
/// Gradients of a node's inputs; `None` where there is none or none was asked for.
type Gradients = Result<Vec<Option<String>>, GraphError>;

type InferRule = fn(&Site) -> Types;
type AdjointRule = fn(&mut Adjoint) -> Gradients;

/// Every supported operator: its domain and name, its type rule, and its adjoint rule if it can be differentiated.
const RULES: &[(&str, &str, InferRule, Option<AdjointRule>)] = &[
    (
        "",
        "Add",
        elementwise::binary,
        Some(elementwise::add_adjoint),
    ),
    (
        "",
        "Sub",
        elementwise::binary,
        Some(elementwise::sub_adjoint),
    ),
    (
        "",
        "Mul",
        elementwise::binary,
        Some(elementwise::mul_adjoint),
    ),
    (
        "",
        "Div",
        elementwise::binary,
        Some(elementwise::div_adjoint),
    ),
    (
        "",
        "Pow",
        elementwise::power,
        Some(elementwise::pow_adjoint),
    ),
    (
        "",
        "Min",
        elementwise::variadic,
        Some(piecewise::min_max_adjoint),
    ),
    (
        "",
        "Max",
        elementwise::variadic,
        Some(piecewise::min_max_adjoint),
    ),
    (
        "",
        "Neg",
        elementwise::unary,
        Some(elementwise::neg_adjoint),
    ),
    ("", "Abs", elementwise::unary, Some(piecewise::abs_adjoint)),
    (
        "",
        "Sqrt",
        elementwise::unary_float,
        Some(elementwise::sqrt_adjoint),
    ),
    (
        "",
        "Exp",
        elementwise::unary_float,
        Some(elementwise::exp_adjoint),
    ),
    (
        "",
        "Log",
        elementwise::unary_float,
        Some(elementwise::log_adjoint),
    ),
    (
        "",
        "Reciprocal",
        elementwise::unary_float,
        Some(elementwise::reciprocal_adjoint),
    ),
    (
        "",
        "Sigmoid",
        elementwise::unary_float,
        Some(elementwise::sigmoid_adjoint),
    ),
    (
        "",
        "Tanh",
        elementwise::unary_float,
        Some(elementwise::tanh_adjoint),
    ),
    (
        "",
        "Softplus",
        elementwise::unary_float,
        Some(elementwise::softplus_adjoint),
    ),
    (
        "",
        "Erf",
        elementwise::unary_float,
        Some(elementwise::erf_adjoint),
    ),
    (
        "",
        "Identity",
        elementwise::unary,
        Some(elementwise::identity_adjoint),
    ),
    (
        "",
        "Relu",
        elementwise::unary,
        Some(piecewise::relu_adjoint),
    ),
    (
        "",
        "LeakyRelu",
        elementwise::unary_float,
        Some(piecewise::leaky_relu_adjoint),
    ),
    (
        "",
        "PRelu",
        elementwise::binary,
        Some(piecewise::prelu_adjoint),
    ),
    ("", "Clip", elementwise::clip, Some(piecewise::clip_adjoint)),
    (
        "",
        "HardSigmoid",
        elementwise::unary_float,
        Some(piecewise::hard_sigmoid_adjoint),
    ),
    (
        "",
        "HardSwish",
        elementwise::unary_float,
        Some(piecewise::hard_swish_adjoint),
    ),
    ("", "Sign", elementwise::unary, None),
    ("", "Floor", elementwise::unary, None),
    ("", "Ceil", elementwise::unary, None),
    ("", "Round", elementwise::unary, None),
    ("", "Not", elementwise::unary, None),
    ("", "Greater", elementwise::comparison, None),
    ("", "GreaterOrEqual", elementwise::comparison, None),
    ("", "Less", elementwise::comparison, None),
    ("", "LessOrEqual", elementwise::comparison, None),
    ("", "Equal", elementwise::comparison, None),
    ("", "And", elementwise::binary, None),
    ("", "Or", elementwise::binary, None),
    (
        "",
        "Cast",
        elementwise::cast,
        Some(elementwise::cast_adjoint),
    ),
    (
        "",
        "Where",
        elementwise::select,
        Some(piecewise::where_adjoint),
    ),
    (
        "",
        "Softmax",
        normalization::softmax,
        Some(normalization::softmax_adjoint),
    ),
    (
        "",
        "LogSoftmax",
        normalization::softmax,
        Some(normalization::log_softmax_adjoint),
    ),
    (
        "",
        "BatchNormalization",
        normalization::batch_normalization,
        Some(normalization::batch_normalization_adjoint),
    ),
    ("", "Conv", conv::conv, Some(conv_gradient::conv_adjoint)),
    (
        "",
        "ConvTranspose",
        conv::conv_transpose,
        Some(conv_gradient::conv_transpose_adjoint),
    ),
    (
        "facemark",
        "FakeQuantize",
        fake_quantize::fake_quantize,
        Some(fake_quantize::fake_quantize_adjoint),
    ),
    (
        "facemark",
        "FakeQuantizeWeight",
        fake_quantize::fake_quantize_weight,
        Some(fake_quantize::fake_quantize_weight_adjoint),
    ),
    (
        "facemark",
        "FakeQuantizeGrad",
        fake_quantize::fake_quantize_grad,
        None,
    ),
    ("facemark", "DepthwiseGradX", conv::depthwise_grad_x, None),
    ("facemark", "Columns", conv::columns, None),
    ("facemark", "ReluGrad", elementwise::relu_grad, None),
    (
        "facemark",
        "BatchNormalizationGrad",
        normalization::batch_normalization_grad,
        None,
    ),
    ("facemark", "DepthwiseGradW", conv::depthwise_grad_w, None),
    ("", "MatMul", linear::matmul, Some(linear::matmul_adjoint)),
    (
        "com.microsoft",
        "FusedMatMul",
        linear::matmul,
        Some(linear::matmul_adjoint),
    ),
    ("", "Gemm", linear::gemm, Some(linear::gemm_adjoint)),
    ("", "MaxPool", pool::max_pool, Some(pool::max_pool_adjoint)),
    (
        "",
        "AveragePool",
        pool::average_pool,
        Some(pool::average_pool_adjoint),
    ),
    (
        "",
        "GlobalAveragePool",
        pool::global_pool,
        Some(pool::global_average_pool_adjoint),
    ),
    ("", "Resize", pool::resize, Some(pool::resize_adjoint)),
    ("", "ReduceSum", reduce::reduce, Some(reduce::sum_adjoint)),
    ("", "ReduceMean", reduce::reduce, Some(reduce::mean_adjoint)),
    (
        "",
        "ReduceSumSquare",
        reduce::reduce,
        Some(reduce::sum_square_adjoint),
    ),
    ("", "ReduceL2", reduce::reduce, Some(reduce::l2_adjoint)),
    ("", "ReduceMax", reduce::reduce, None),
    ("", "ReduceMin", reduce::reduce, None),
    ("", "Concat", shape::concat, Some(shape::concat_adjoint)),
    ("", "Split", shape::split, Some(shape::split_adjoint)),
    ("", "Slice", shape::slice, Some(shape::slice_adjoint)),
    ("", "Pad", shape::pad, Some(shape::pad_adjoint)),
    ("", "Reshape", shape::reshape, Some(shape::reshape_adjoint)),
    ("", "Flatten", shape::flatten, Some(shape::reshape_adjoint)),
    ("", "Squeeze", shape::squeeze, Some(shape::reshape_adjoint)),
    (
        "",
        "Unsqueeze",
        shape::unsqueeze,
        Some(shape::reshape_adjoint),
    ),
    (
        "",
        "Transpose",
        shape::transpose,
        Some(shape::transpose_adjoint),
    ),
    ("", "Expand", shape::expand, Some(shape::expand_adjoint)),
    ("", "Gather", shape::gather, None),
    ("", "ScatterElements", shape::scatter_elements, None),
    ("", "QuantizeLinear", quantized::quantize_linear, None),
    ("", "DequantizeLinear", quantized::dequantize_linear, None),
    ("", "QLinearConv", quantized::conv, None),
    ("", "QLinearMatMul", quantized::matmul, None),
    ("com.microsoft", "QLinearAdd", quantized::add, None),
    ("com.microsoft", "QGemm", quantized::gemm, None),
    (
        "com.microsoft",
        "QLinearGlobalAveragePool",
        quantized::global_average_pool,
        None,
    ),
];

fn rule(node: &Node) -> Option<(InferRule, Option<AdjointRule>)> {
    RULES
        .iter()
        .find(|(domain, op, ..)| *domain == node.domain && *op == node.op)
        .map(|&(_, _, infer, adjoint)| (infer, adjoint))
}

/// Names of the operators that [`gradients`](crate::train::autodiff::gradients) can go through.
pub fn differentiable_operators() -> Vec<&'static str> {
    RULES
        .iter()
        .filter(|(.., adjoint)| adjoint.is_some())
        .map(|&(_, op, ..)| op)
        .collect()
}

/// The operator's name for errors.
fn full_name(node: &Node) -> String {
    if node.domain.is_empty() {
        node.op.clone()
    } else {
        format!("{}.{}", node.domain, node.op)
    }
}

/// Whether the operator has a type rule.
pub(super) fn is_supported(node: &Node) -> bool {
    rule(node).is_some()
}

/// The error for an operator without a type rule.
pub(super) fn unsupported(node: &Node) -> GraphError {
    GraphError::UnsupportedOperator {
        node: node.label().to_owned(),
        operator: full_name(node),
    }
}

/// The types of a node's outputs. The node's inputs are known to the graph.
pub(super) fn infer(graph: &Graph, node: &Node) -> Types {
    let Some((infer, _)) = rule(node) else {
        return Err(unsupported(node));
    };
    let site = Site { graph, node };
    let types = infer(&site)?;
    if types.len() < node.outputs.len() {
        return Err(site.bad(
            "outputs",
            format!("at most {}", types.len()),
            node.outputs.len(),
        ));
    }
    Ok(types)
}

/// Appends the nodes that turn the gradients of a node's outputs into those of its inputs.
pub(in crate::train) fn adjoint(
    graph: &mut Graph,
    node: &Node,
    output_gradients: &[Option<String>],
    needed: &[bool],
    backend: Backend,
) -> Gradients {
    let Some(rule) = rule(node).and_then(|(_, adjoint)| adjoint) else {
        return Err(no_gradient(node, "it has no adjoint rule"));
    };
    rule(&mut Adjoint {
        graph,
        node,
        output_gradients,
        needed,
        backend,
    })
}

fn no_gradient(node: &Node, reason: &str) -> GraphError {
    GraphError::NoGradient {
        node: node.label().to_owned(),
        operator: full_name(node),
        reason: reason.to_owned(),
    }
}

/// `x` of any of the element types, with this shape.
fn with_shape(of: &TensorType, shape: Vec<usize>) -> TensorType {
    TensorType {
        element: of.element,
        shape,
    }
}

const BOOL: ElementType = ElementType::Bool;
