//! The operators that a graph may hold: for each its type rule and, beside it, its adjoint rule.
//!
//! An operator is supported exactly when it is in [`RULES`].

mod conv;
mod conv_gradient;
mod elementwise;
mod linear;
mod normalization;
mod piecewise;
mod pool;
mod reduce;
mod shape;

pub(in crate::train) use normalization::{reduce_to_channels, rows_of_channels};

use super::{ElementType, Graph, GraphError, Node, TensorType};
use crate::train::autodiff::Backend;

/// What the type rule of an operator sees.
pub(super) struct Site<'a> {
    graph: &'a Graph,
    node: &'a Node,
}

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

/// What the adjoint rule of an operator sees.
pub(super) struct Adjoint<'a> {
    graph: &'a mut Graph,
    node: &'a Node,
    output_gradients: &'a [Option<String>],
    needed: &'a [bool],
    backend: Backend,
}

impl<'a> Adjoint<'a> {
    fn site(&self) -> Site<'_> {
        Site {
            graph: self.graph,
            node: self.node,
        }
    }

    /// The gradient of the only output that may have one.
    fn dy(&self) -> Result<&'a str, GraphError> {
        if self.output_gradients.iter().skip(1).any(Option::is_some) {
            return Err(self.missing("a loss depends on an output other than the first"));
        }
        self.output_gradients
            .first()
            .and_then(|name| name.as_deref())
            .ok_or_else(|| self.missing("no loss depends on its first output"))
    }

    /// The name of input `index`.
    fn x(&self, index: usize) -> &'a str {
        &self.node.inputs[index]
    }

    /// The name of the first output.
    fn y(&self) -> &'a str {
        &self.node.outputs[0]
    }

    fn needs(&self, index: usize) -> bool {
        self.needed.get(index).copied().unwrap_or(false)
    }

    fn shape(&self, value: &str) -> Vec<usize> {
        self.graph.shape(value).to_vec()
    }

    fn missing(&self, reason: &str) -> GraphError {
        no_gradient(self.node, reason)
    }

    /// `gradient` summed over the axes along which input `index` was broadcast.
    fn unbroadcast(&mut self, gradient: &str, index: usize) -> Result<Option<String>, GraphError> {
        let shape = self.shape(self.x(index));
        reduce::sum_to_shape(self.graph, gradient, &shape).map(Some)
    }

    /// `gradient * (1 where mask, else 0)`.
    fn masked(&mut self, gradient: &str, mask: &str) -> Result<String, GraphError> {
        let element = self.graph.type_of(gradient).element;
        let ones = self.graph.cast(mask, element)?;
        self.graph.mul(gradient, &ones)
    }
}

impl<'a> Site<'a> {
    fn bad(
        &self,
        what: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
    ) -> GraphError {
        GraphError::BadNode {
            node: self.node.label().to_owned(),
            operator: full_name(self.node),
            what: what.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// The type of an input that must be there.
    fn input(&self, index: usize) -> Result<&'a TensorType, GraphError> {
        self.optional(index)
            .ok_or_else(|| self.bad(format!("input {index}"), "a value", "none"))
    }

    /// The type of an input that may be absent.
    fn optional(&self, index: usize) -> Option<&'a TensorType> {
        self.node
            .input(index)
            .and_then(|name| self.graph.find_type(name))
    }

    /// The type of an input of floats.
    fn float_input(&self, index: usize) -> Result<&'a TensorType, GraphError> {
        let of = self.input(index)?;
        if of.element.is_float() {
            Ok(of)
        } else {
            Err(self.bad(format!("input {index}"), "floats", of))
        }
    }

    /// An input that must have the element type of the first one.
    fn like_first(&self, index: usize) -> Result<&'a TensorType, GraphError> {
        let of = self.input(index)?;
        let expected = self.input(0)?.element;
        if of.element == expected {
            Ok(of)
        } else {
            Err(self.bad(
                format!("input {index}"),
                format!("{expected:?}, as input 0"),
                of,
            ))
        }
    }

    /// The elements of an input that must be a constant of 64-bit integers.
    fn constant_ints(&self, index: usize) -> Result<&'a [i64], GraphError> {
        self.node
            .input(index)
            .and_then(|name| self.graph.initializers.get(name))
            .and_then(|tensor| tensor.as_i64())
            .ok_or_else(|| {
                self.bad(
                    format!("input {index}"),
                    "a constant of 64-bit integers",
                    self.optional(index)
                        .map_or("none".to_owned(), |of| format!("{of} that is computed")),
                )
            })
    }

    /// As [`Site::constant_ints`], but the input may be absent.
    fn optional_ints(&self, index: usize) -> Result<Option<&'a [i64]>, GraphError> {
        match self.node.input(index) {
            Some(_) => self.constant_ints(index).map(Some),
            None => Ok(None),
        }
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        self.node.int(name).unwrap_or(default)
    }

    /// An axis attribute or input as an index below `rank`.
    fn axis(&self, axis: i64, rank: usize) -> Result<usize, GraphError> {
        let index = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(index)
            .ok()
            .filter(|&index| index < rank)
            .ok_or_else(|| self.bad("axis", format!("-{rank} to below {rank}"), axis))
    }

    /// Axes as sorted indices below `rank`, each once.
    fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, GraphError> {
        let mut indices = axes
            .iter()
            .map(|&axis| self.axis(axis, rank))
            .collect::<Result<Vec<_>, _>>()?;
        indices.sort_unstable();
        if indices.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(self.bad("axes", "each axis once", format!("{axes:?}")));
        }
        Ok(indices)
    }

    /// The common shape of broadcast operands.
    fn broadcast(&self, shapes: &[&[usize]]) -> Result<Vec<usize>, GraphError> {
        let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
        let mut result = vec![1; rank];
        for shape in shapes {
            for (size, &own) in result[rank - shape.len()..].iter_mut().zip(*shape) {
                if *size == 1 {
                    *size = own;
                } else if own != 1 && own != *size {
                    return Err(self.bad(
                        "inputs",
                        "shapes that broadcast together",
                        format!("{shapes:?}"),
                    ));
                }
            }
        }
        Ok(result)
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
