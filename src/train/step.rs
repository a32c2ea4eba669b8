//! A whole training step as one graph: forward pass, losses, gradients, optimiser and running statistics.
//!
//! The network's parameters are not constants there but slices of one flat input vector, so that the step is a function
//! `(state, batch, scalars) -> (next state, losses)` with a handful of inputs and outputs, whatever the network.

mod error;
mod ranges;
mod state;

pub use error::StepError;
pub use state::TrainingState;

use super::{
    autodiff::{self, Backend},
    graph::{
        ElementType, Graph, GraphError, Node, Tensor, TensorType, operators::in_stock_operators,
    },
    loss::LossTerm,
    optimizer::{Moments, OptimizerConfig, Placed},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::Range,
};

/// Name of the step's scalar output with the sum of all terms.
pub(super) const LOSS: &str = "step.loss";
/// Name of the step's scalar output with the gradient's global norm before clipping.
pub(super) const GRADIENT_NORM: &str = "step.gradient_norm";

/// Where a constant of the forward graph lies in a flat vector.
#[derive(Clone, Debug, PartialEq)]
struct Slot {
    name: String,
    shape: Vec<usize>,
    range: Range<usize>,
}

/// A training step for one batch size.
#[derive(Clone, Debug)]
pub struct TrainingStep {
    forward: Graph,
    graph: Graph,
    optimizer: OptimizerConfig,
    parameters: Vec<Slot>,
    running: Vec<Slot>,
    ranges: Vec<Slot>,
    batch_inputs: Vec<(String, TensorType)>,
    terms: Vec<String>,
}

impl TrainingStep {
    /// Builds the step that trains `forward` on batches of `batch` for the sum of `terms`.
    ///
    /// Parameters that do not influence the loss stay as they are.
    ///
    /// # Errors
    /// A setting makes no sense, an operator has no gradient, a term names an output that is not there, or nothing is
    /// left to train.
    pub fn build(
        forward: &Graph,
        batch: usize,
        terms: &[LossTerm],
        optimizer: &OptimizerConfig,
        backend: Backend,
    ) -> Result<Self, StepError> {
        Self::build_part(forward, batch, terms, optimizer, backend, &|_| true)
    }

    /// [`TrainingStep::build`] that trains those parameters alone whose name `learns`; the others stay as they are.
    ///
    /// # Errors
    /// As [`TrainingStep::build`].
    pub fn build_part(
        forward: &Graph,
        batch: usize,
        terms: &[LossTerm],
        optimizer: &OptimizerConfig,
        backend: Backend,
        learns: &dyn Fn(&str) -> bool,
    ) -> Result<Self, StepError> {
        check_settings(terms, optimizer)?;
        let forward = with_own_constants(forward)?;
        let base = forward.with_batch(batch)?;

        // Which parameters a loss sees: found on a copy with the losses added.
        let mut probe = base.clone();
        let mut losses = Vec::new();
        for term in terms {
            losses.push(term.emit(&mut probe)?);
        }
        let influences = ancestors(&probe, &losses);
        let mut parameters = Vec::new();
        let mut end = 0;
        for name in base.parameters() {
            if !influences.contains(name.as_str()) || !learns(&name) {
                continue;
            }
            let tensor = &base.initializers[&name];
            if tensor.data.element() != ElementType::F32 {
                return Err(StepError::ParameterType {
                    parameter: name,
                    found: tensor.tensor_type(),
                });
            }
            parameters.push(slot(name, &tensor.shape, &mut end));
        }
        let parameter_count = end;
        if parameters.is_empty() {
            return Err(StepError::NoParameters {
                graph: forward.name.clone(),
            });
        }

        let mut graph = Graph::new("training_step");
        for (name, of) in &base.inputs {
            graph.input(name, of.clone())?;
        }
        let ranges = ranges::slots(&base);
        let of_state: HashSet<&str> = parameters
            .iter()
            .chain(&ranges)
            .map(|slot| slot.name.as_str())
            .collect();
        for (name, tensor) in &base.initializers {
            if !of_state.contains(name.as_str()) {
                graph.parameter(name, tensor.clone())?;
            }
        }
        let state = graph.input("parameters", TensorType::f32(&[parameter_count]))?;
        split(&mut graph, &state, &parameters)?;
        let range_state = match ranges.last() {
            Some(last) => {
                let state = graph.input("ranges", TensorType::f32(&[last.range.end]))?;
                split(&mut graph, &state, &ranges)?;
                Some(state)
            }
            None => None,
        };
        for node in &base.nodes {
            graph.push(node.clone())?;
        }
        let statistics = autodiff::training_form(&mut graph)?;

        let mut total: Option<String> = None;
        for term in terms {
            let loss = term.emit(&mut graph)?;
            graph.apply_named("Identity", &[&loss], &[], &term_output(&term.name))?;
            total = Some(match total {
                Some(sum) => graph.add(&sum, &loss)?,
                None => loss,
            });
        }
        let total = total.expect("there is at least one term");
        graph.apply_named("Identity", &[&total], &[], LOSS)?;
        let batch_inputs: Vec<(String, TensorType)> = graph
            .inputs
            .iter()
            .filter(|(name, _)| *name != state && Some(name) != range_state.as_ref())
            .cloned()
            .collect();

        let names: Vec<String> = parameters.iter().map(|slot| slot.name.clone()).collect();
        let gradients = autodiff::gradients(&mut graph, &total, &names, backend)?;
        let gradient = join(&mut graph, &gradients)?;
        let moment = TensorType::f32(&[parameter_count]);
        let moments = Moments {
            first: graph.input("moment1", moment.clone())?,
            second: match optimizer.has_second_moment() {
                true => Some(graph.input("moment2", moment)?),
                false => None,
            },
        };
        let placed: Vec<Placed> = parameters
            .iter()
            .map(|slot| Placed {
                shape: slot.shape.clone(),
                range: slot.range.clone(),
            })
            .collect();
        let updated = optimizer.emit(&mut graph, &state, &gradient, &moments, &placed)?;

        let mut running = Vec::new();
        let mut end = 0;
        let mut fresh = Vec::new();
        let mut factors = Vec::new();
        for batch_norm in &statistics {
            // PyTorch's running variance is the unbiased one, the normalisation itself uses the biased one.
            for (name, value, factor) in [
                (&batch_norm.mean_init, &batch_norm.batch_mean, 1.0),
                (
                    &batch_norm.var_init,
                    &batch_norm.batch_var,
                    batch_norm.unbiased_factor,
                ),
            ] {
                let slot = slot(name.clone(), &[batch_norm.channels], &mut end);
                let factor = factor * optimizer.batch_norm_momentum;
                factors.extend(std::iter::repeat_n(factor, slot.range.len()));
                fresh.push(value.clone());
                running.push(slot);
            }
        }
        let mut next = vec![
            ("parameters", updated.parameters.clone()),
            ("moment1", updated.moments.first),
        ];
        next.extend(updated.moments.second.map(|name| ("moment2", name)));
        let mut averaged = (state, updated.parameters);
        if !running.is_empty() {
            let old = graph.input("running", TensorType::f32(&[end]))?;
            let fresh = join(&mut graph, &fresh)?;
            let factors = graph.constant_f32(&factors, &[end]);
            let added = graph.mul(&fresh, &factors)?;
            let kept = graph.scale(&old, 1.0 - f64::from(optimizer.batch_norm_momentum))?;
            let new = graph.add(&kept, &added)?;
            averaged.1 = graph.concat(&[&averaged.1, &new], 0)?;
            next.push(("running", new));
        }
        if optimizer.ema_alpha.is_some() {
            let ema = graph.input("ema", TensorType::f32(&[parameter_count + end]))?;
            let new = optimizer.emit_ema(&mut graph, &ema, &averaged.1)?;
            next.push(("ema", new));
        }

        if let Some(state) = &range_state {
            let new = ranges::emit(&mut graph, optimizer, state, &ranges)?;
            next.push(("ranges", new));
        }

        graph.outputs.push(LOSS.to_owned());
        graph
            .outputs
            .extend(terms.iter().map(|term| term_output(&term.name)));
        graph.rename_output(&updated.gradient_norm, GRADIENT_NORM)?;
        graph.outputs.push(GRADIENT_NORM.to_owned());
        for (vector, value) in next {
            let output = next_name(vector);
            graph.rename_output(&value, &output)?;
            graph.outputs.push(output);
        }
        if backend == Backend::Cuda {
            graph = in_stock_operators(&graph)?;
        }
        Ok(Self {
            forward,
            graph,
            optimizer: *optimizer,
            parameters,
            running,
            ranges,
            batch_inputs,
            terms: terms.iter().map(|term| term.name.clone()).collect(),
        })
    }

    /// The step's graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The tensors that a batch must have: the network's inputs and the terms' targets and weights.
    pub fn batch_inputs(&self) -> &[(String, TensorType)] {
        &self.batch_inputs
    }

    /// The names of the loss terms.
    pub fn term_names(&self) -> &[String] {
        &self.terms
    }

    /// The names of the trained parameters, in the order in which they lie in the flat vectors.
    pub fn parameter_names(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(|slot| slot.name.as_str())
    }

    /// Whether the network rounds values to ranges that are learnt.
    pub fn learns_ranges(&self) -> bool {
        !self.ranges.is_empty()
    }

    /// Number of trained values.
    pub fn parameter_count(&self) -> usize {
        self.parameters.last().map_or(0, |slot| slot.range.end)
    }

    /// The optimiser.
    pub fn optimizer(&self) -> &OptimizerConfig {
        &self.optimizer
    }

    /// The state before the first step: the forward graph's own weights and statistics, and moments of zero.
    pub fn initial_state(&self) -> TrainingState {
        let read = |slots: &[Slot]| -> Vec<f32> {
            slots
                .iter()
                .flat_map(|slot| self.forward.initializers[&slot.name].as_f32())
                .flatten()
                .copied()
                .collect()
        };
        let parameters = read(&self.parameters);
        let running = read(&self.running);
        let zeros = vec![0.0; parameters.len()];
        TrainingState {
            step: 0,
            moment1: zeros.clone(),
            moment2: match self.optimizer.has_second_moment() {
                true => zeros,
                false => Vec::new(),
            },
            ema: match self.optimizer.ema_alpha {
                Some(_) => [parameters.as_slice(), &running].concat(),
                None => Vec::new(),
            },
            parameters,
            running,
            ranges: read(&self.ranges),
        }
    }

    /// Checks that a state belongs to this step.
    ///
    /// # Errors
    /// A vector has another length.
    pub fn check_state(&self, state: &TrainingState) -> Result<(), StepError> {
        let initial = self.initial_state();
        for ((vector, expected), (_, found)) in initial.vectors().into_iter().zip(state.vectors()) {
            if expected.len() != found.len() {
                return Err(StepError::State {
                    vector,
                    expected: expected.len(),
                    found: found.len(),
                });
            }
        }
        Ok(())
    }

    /// The forward graph with the weights and running statistics of a state; those of the moving average with `use_ema`,
    /// when there is one.
    ///
    /// # Errors
    /// The state does not belong to this step.
    pub fn write_back(&self, state: &TrainingState, use_ema: bool) -> Result<Graph, StepError> {
        self.check_state(state)?;
        let (parameters, running) = if use_ema && !state.ema.is_empty() {
            state.ema.split_at(state.parameters.len())
        } else {
            (state.parameters.as_slice(), state.running.as_slice())
        };
        let mut graph = self.forward.clone();
        for (slots, values) in [
            (&self.parameters, parameters),
            (&self.running, running),
            (&self.ranges, &state.ranges),
        ] {
            for slot in slots {
                let tensor = Tensor::f32(&slot.shape, values[slot.range.clone()].to_vec());
                graph.initializers.insert(slot.name.clone(), tensor);
            }
        }
        Ok(graph)
    }
}

/// Name of a term's scalar output.
pub(super) fn term_output(term: &str) -> String {
    format!("term.{term}")
}

/// Name of the output that is state vector `vector` of the next step.
pub(super) fn next_name(vector: &str) -> String {
    format!("next.{vector}")
}

fn slot(name: String, shape: &[usize], end: &mut usize) -> Slot {
    let start = *end;
    *end += shape.iter().product::<usize>();
    Slot {
        name,
        shape: shape.to_vec(),
        range: start..*end,
    }
}

fn check_settings(terms: &[LossTerm], optimizer: &OptimizerConfig) -> Result<(), StepError> {
    if let Some(fault) = optimizer.fault() {
        let of = "optimizer".to_owned();
        return Err(StepError::Setting { of, fault });
    }
    let mut names = BTreeSet::new();
    for term in terms {
        let fault = match term.kind.fault() {
            Some(fault) => Some(fault),
            None if !term.coefficient.is_finite() => Some(format!(
                "coefficient: expected a number, found {}",
                term.coefficient
            )),
            None if !names.insert(&term.name) => Some("the name is used twice".to_owned()),
            None => None,
        };
        if let Some(fault) = fault {
            let of = format!("loss term {}", term.name);
            return Err(StepError::Setting { of, fault });
        }
    }
    if terms.is_empty() {
        let (of, fault) = ("loss".to_owned(), "expected at least one term".to_owned());
        return Err(StepError::Setting { of, fault });
    }
    Ok(())
}

/// The graph with constants of its own for each batch normalisation: exporters share equal ones, training must not.
fn with_own_constants(forward: &Graph) -> Result<Graph, StepError> {
    let mut graph = forward.clone();
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for name in graph.nodes.iter().flat_map(|node| &node.inputs) {
        *uses.entry(name.clone()).or_default() += 1;
    }
    for index in 0..graph.nodes.len() {
        if graph.nodes[index].op != "BatchNormalization" {
            continue;
        }
        for input in 1..graph.nodes[index].inputs.len() {
            let name = graph.nodes[index].inputs[input].clone();
            let Some(tensor) = graph.initializers.get(&name).cloned() else {
                continue;
            };
            let shared = uses.get_mut(&name).filter(|count| **count > 1);
            if let Some(count) = shared {
                *count -= 1;
                let own = graph.fresh_name(&format!("{name}_own"));
                graph.parameter(&own, tensor)?;
                graph.nodes[index].inputs[input] = own;
            }
        }
    }
    Ok(graph)
}

/// Names of all values that `values` are computed from.
fn ancestors(graph: &Graph, values: &[String]) -> HashSet<String> {
    let mut found: HashSet<String> = values.iter().cloned().collect();
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().any(|output| found.contains(output)) {
            found.extend(node.inputs.iter().cloned());
        }
    }
    found
}

/// Defines each slot's value as a part of a flat vector.
fn split(graph: &mut Graph, flat: &str, slots: &[Slot]) -> Result<(), GraphError> {
    let sizes: Vec<i64> = slots.iter().map(|slot| slot.range.len() as i64).collect();
    let sizes = graph.ints(&sizes);
    // Names of our own: those that the graph would make up may be in use by the nodes that follow.
    let parts: Vec<String> = slots
        .iter()
        .map(|slot| format!("flat.{}", slot.name))
        .collect();
    graph.push(Node {
        name: format!("split_{flat}"),
        op: "Split".to_owned(),
        domain: String::new(),
        inputs: vec![flat.to_owned(), sizes],
        outputs: parts.clone(),
        attributes: BTreeMap::new(),
    })?;
    for (slot, part) in slots.iter().zip(&parts) {
        let shape: Vec<i64> = slot.shape.iter().map(|&size| size as i64).collect();
        let shape = graph.ints(&shape);
        graph.apply_named("Reshape", &[part, &shape], &[], &slot.name)?;
    }
    Ok(())
}

/// Values joined to one flat vector.
fn join(graph: &mut Graph, values: &[String]) -> Result<String, GraphError> {
    let mut flat = Vec::with_capacity(values.len());
    for value in values {
        let count = graph.type_of(value).element_count();
        flat.push(graph.reshape(value, &[count])?);
    }
    let flat: Vec<&str> = flat.iter().map(String::as_str).collect();
    graph.concat(&flat, 0)
}
