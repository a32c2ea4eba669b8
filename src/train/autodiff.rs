//! Reverse mode over a [`Graph`]: gradients as more nodes of the same graph.

mod training_form;

pub use training_form::{BatchStatistics, training_form};

use super::graph::{Graph, GraphError, operators};
use std::collections::{HashMap, HashSet};

/// The execution provider that a graph is made for: some gradients have a faster form on one than on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// ONNX Runtime's CPU provider, with the operators of the domain `facemark` registered.
    Cpu,
    /// ONNX Runtime's CUDA provider; stock operators only, so that these graphs run everywhere.
    Cuda,
}

/// Appends the nodes that compute the gradient of the scalar `loss` with respect to each value of `wrt` (inputs,
/// constants or results of nodes), and returns the names of the gradients, each of its value's shape.
///
/// # Errors
/// `loss` is not one float, a node on the way has no adjoint rule, or a value of `wrt` does not influence `loss`.
pub fn gradients(
    graph: &mut Graph,
    loss: &str,
    wrt: &[String],
    backend: Backend,
) -> Result<Vec<String>, GraphError> {
    let nodes = graph.nodes.clone();
    let of_loss = graph.type_of(loss);
    if of_loss.element_count() != 1 || !of_loss.element.is_float() {
        return Err(GraphError::BadNode {
            node: loss.to_owned(),
            operator: "loss".to_owned(),
            what: "type".to_owned(),
            expected: "one float".to_owned(),
            found: of_loss.to_string(),
        });
    }
    let mut influenced: HashSet<&str> = wrt.iter().map(String::as_str).collect();
    for node in &nodes {
        if node
            .inputs
            .iter()
            .any(|name| influenced.contains(name.as_str()))
        {
            let floats = node.outputs.iter().filter(|name| {
                graph
                    .find_type(name)
                    .is_some_and(|of| of.element.is_float())
            });
            influenced.extend(floats.map(String::as_str));
        }
    }
    let shape = graph.shape(loss).to_vec();
    let one = graph.scalar_like(1.0, loss);
    let one = graph.reshape(&one, &shape)?;
    let mut sums: HashMap<String, String> = HashMap::from([(loss.to_owned(), one)]);
    for node in nodes.iter().rev() {
        let needed: Vec<bool> = node
            .inputs
            .iter()
            .map(|name| influenced.contains(name.as_str()))
            .collect();
        let output_gradients: Vec<Option<String>> = node
            .outputs
            .iter()
            .map(|name| sums.get(name).cloned())
            .collect();
        if !needed.contains(&true) || output_gradients.iter().all(Option::is_none) {
            continue;
        }
        let inputs = operators::adjoint(graph, node, &output_gradients, &needed, backend)?;
        for ((input, gradient), needed) in node.inputs.iter().zip(inputs).zip(needed) {
            let Some(gradient) = gradient.filter(|_| needed) else {
                continue;
            };
            debug_assert_eq!(graph.shape(&gradient), graph.shape(input), "{node:?}");
            let sum = match sums.get(input) {
                Some(other) => graph.add(&other.clone(), &gradient)?,
                None => gradient,
            };
            sums.insert(input.clone(), sum);
        }
    }
    wrt.iter()
        .map(|value| {
            sums.get(value).cloned().ok_or_else(|| GraphError::BadNode {
                node: value.clone(),
                operator: "gradient".to_owned(),
                what: "loss".to_owned(),
                expected: "a loss that this value influences".to_owned(),
                found: loss.to_owned(),
            })
        })
        .collect()
}
