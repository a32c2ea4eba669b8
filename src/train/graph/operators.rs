//! The operators that a graph may hold: for each its type rule and, beside it, its adjoint rule.
//!
//! An operator is supported exactly when it is in [`rule`].

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

/// The rules of one operator.
struct Rule {
    infer: fn(&Site) -> Types,
    adjoint: Option<fn(&mut Adjoint) -> Gradients>,
}

fn rule(domain: &str, op: &str) -> Option<Rule> {
    let both = |infer: fn(&Site) -> Types, adjoint: fn(&mut Adjoint) -> Gradients| Rule {
        infer,
        adjoint: Some(adjoint),
    };
    let forward = |infer: fn(&Site) -> Types| Rule {
        infer,
        adjoint: None,
    };
    Some(match (domain, op) {
        ("", "Add") => both(elementwise::binary, elementwise::add_adjoint),
        ("", "Sub") => both(elementwise::binary, elementwise::sub_adjoint),
        ("", "Mul") => both(elementwise::binary, elementwise::mul_adjoint),
        ("", "Div") => both(elementwise::binary, elementwise::div_adjoint),
        ("", "Pow") => both(elementwise::power, elementwise::pow_adjoint),
        ("", "Min" | "Max") => both(elementwise::variadic, piecewise::min_max_adjoint),
        ("", "Neg") => both(elementwise::unary, elementwise::neg_adjoint),
        ("", "Abs") => both(elementwise::unary, piecewise::abs_adjoint),
        ("", "Sqrt") => both(elementwise::unary_float, elementwise::sqrt_adjoint),
        ("", "Exp") => both(elementwise::unary_float, elementwise::exp_adjoint),
        ("", "Log") => both(elementwise::unary_float, elementwise::log_adjoint),
        ("", "Reciprocal") => both(elementwise::unary_float, elementwise::reciprocal_adjoint),
        ("", "Sigmoid") => both(elementwise::unary_float, elementwise::sigmoid_adjoint),
        ("", "Tanh") => both(elementwise::unary_float, elementwise::tanh_adjoint),
        ("", "Softplus") => both(elementwise::unary_float, elementwise::softplus_adjoint),
        ("", "Erf") => both(elementwise::unary_float, elementwise::erf_adjoint),
        ("", "Identity") => both(elementwise::unary, elementwise::identity_adjoint),
        ("", "Relu") => both(elementwise::unary, piecewise::relu_adjoint),
        ("", "LeakyRelu") => both(elementwise::unary_float, piecewise::leaky_relu_adjoint),
        ("", "PRelu") => both(elementwise::binary, piecewise::prelu_adjoint),
        ("", "Clip") => both(elementwise::clip, piecewise::clip_adjoint),
        ("", "HardSigmoid") => both(elementwise::unary_float, piecewise::hard_sigmoid_adjoint),
        ("", "HardSwish") => both(elementwise::unary_float, piecewise::hard_swish_adjoint),
        ("", "Sign" | "Floor" | "Ceil" | "Round") => forward(elementwise::unary),
        ("", "Not") => forward(elementwise::unary),
        ("", "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Equal") => {
            forward(elementwise::comparison)
        }
        ("", "And" | "Or") => forward(elementwise::binary),
        ("", "Cast") => both(elementwise::cast, elementwise::cast_adjoint),
        ("", "Where") => both(elementwise::select, piecewise::where_adjoint),
        ("", "Softmax") => both(normalization::softmax, normalization::softmax_adjoint),
        ("", "LogSoftmax") => both(normalization::softmax, normalization::log_softmax_adjoint),
        ("", "BatchNormalization") => both(
            normalization::batch_normalization,
            normalization::batch_normalization_adjoint,
        ),
        ("", "Conv") => both(conv::conv, conv_gradient::conv_adjoint),
        ("", "ConvTranspose") => both(conv::conv_transpose, conv_gradient::conv_transpose_adjoint),
        ("facemark", "DepthwiseGradW") => forward(conv::depthwise_grad_w),
        ("", "MatMul") | ("com.microsoft", "FusedMatMul") => {
            both(linear::matmul, linear::matmul_adjoint)
        }
        ("", "Gemm") => both(linear::gemm, linear::gemm_adjoint),
        ("", "MaxPool") => both(pool::max_pool, pool::max_pool_adjoint),
        ("", "AveragePool") => both(pool::average_pool, pool::average_pool_adjoint),
        ("", "GlobalAveragePool") => both(pool::global_pool, pool::global_average_pool_adjoint),
        ("", "Resize") => both(pool::resize, pool::resize_adjoint),
        ("", "ReduceSum") => both(reduce::reduce, reduce::sum_adjoint),
        ("", "ReduceMean") => both(reduce::reduce, reduce::mean_adjoint),
        ("", "ReduceSumSquare") => both(reduce::reduce, reduce::sum_square_adjoint),
        ("", "ReduceL2") => both(reduce::reduce, reduce::l2_adjoint),
        ("", "ReduceMax" | "ReduceMin") => forward(reduce::reduce),
        ("", "Concat") => both(shape::concat, shape::concat_adjoint),
        ("", "Split") => both(shape::split, shape::split_adjoint),
        ("", "Slice") => both(shape::slice, shape::slice_adjoint),
        ("", "Pad") => both(shape::pad, shape::pad_adjoint),
        ("", "Reshape") => both(shape::reshape, shape::reshape_adjoint),
        ("", "Flatten") => both(shape::flatten, shape::reshape_adjoint),
        ("", "Squeeze") => both(shape::squeeze, shape::reshape_adjoint),
        ("", "Unsqueeze") => both(shape::unsqueeze, shape::reshape_adjoint),
        ("", "Transpose") => both(shape::transpose, shape::transpose_adjoint),
        ("", "Expand") => both(shape::expand, shape::expand_adjoint),
        ("", "Gather") => forward(shape::gather),
        ("", "ScatterElements") => forward(shape::scatter_elements),
        _ => return None,
    })
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
    rule(&node.domain, &node.op).is_some()
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
    let Some(rule) = rule(&node.domain, &node.op) else {
        return Err(unsupported(node));
    };
    let site = Site { graph, node };
    let types = (rule.infer)(&site)?;
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
    let Some(rule) = rule(&node.domain, &node.op).and_then(|rule| rule.adjoint) else {
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
