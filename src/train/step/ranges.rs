//! The ranges of quantisation-aware training within the step: read from the state, and moved towards what the batch shows.

use super::{Slot, slot};
use crate::train::{
    graph::{Graph, GraphError},
    optimizer::OptimizerConfig,
};
use std::collections::HashSet;

const FAKE_QUANTIZE: &str = "FakeQuantize";

/// The constants that are ranges, in the order in which nodes first use them.
pub(super) fn slots(graph: &Graph) -> Vec<Slot> {
    let mut end = 0;
    let mut seen = HashSet::new();
    graph
        .nodes
        .iter()
        .filter(|node| node.op == FAKE_QUANTIZE)
        .map(|node| &node.inputs[1])
        .filter(|name| graph.initializers.contains_key(*name) && seen.insert(name.as_str()))
        .map(|name| slot(name.clone(), &[2], &mut end))
        .collect()
}

/// Adds the next state of the ranges `slots`, which lie one after another in `state`. A range that several nodes share
/// sees all that came into any of them.
pub(super) fn emit(
    graph: &mut Graph,
    optimizer: &OptimizerConfig,
    state: &str,
    slots: &[Slot],
) -> Result<String, GraphError> {
    let mut rows = Vec::with_capacity(slots.len());
    for slot in slots {
        let observed: Vec<String> = graph
            .nodes
            .iter()
            .filter(|node| node.op == FAKE_QUANTIZE && node.inputs[1] == slot.name)
            .map(|node| node.outputs[1].clone())
            .collect();
        let joined = match observed.as_slice() {
            [only] => only.clone(),
            several => extremes(graph, several)?,
        };
        rows.push(graph.reshape(&joined, &[1, 2])?);
    }
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let observed = graph.concat(&rows, 0)?;
    let ranges = graph.reshape(state, &[slots.len(), 2])?;
    let next = optimizer.emit_ranges(graph, &ranges, &observed)?;
    graph.reshape(&next, &[2 * slots.len()])
}

/// Of several ranges `[2]` the least first and the greatest second number.
fn extremes(graph: &mut Graph, ranges: &[String]) -> Result<String, GraphError> {
    let ranges: Vec<&str> = ranges.iter().map(String::as_str).collect();
    let least = graph.apply("Min", &ranges, &[])?;
    let greatest = graph.apply("Max", &ranges, &[])?;
    let low = graph.slice(&least, &[0], &[0], &[1], &[1])?;
    let high = graph.slice(&greatest, &[0], &[1], &[2], &[1])?;
    graph.concat(&[&low, &high], 0)
}
