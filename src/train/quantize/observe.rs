//! Running a graph on calibration crops and looking at its values, one batch after the other.

use super::QuantizeError;
use crate::{
    crop::Crop,
    model::ModelCard,
    train::{
        graph::{Graph, TensorData},
        session::{Device, ForwardSession},
    },
};
use std::collections::HashSet;

/// Crops a run. Fixed, as is the one thread: the last bits of the sums must not depend on the machine's load.
const BATCH: usize = 8;

/// The pictures that a quantisation learns from, as the network sees them.
#[derive(Clone, Copy)]
pub struct CalibrationCrops<'a> {
    /// What the model says of itself: how bytes become numbers.
    pub card: &'a ModelCard,
    /// The crops, each of the card's size and colour.
    pub crops: &'a [Crop],
}

/// How far a calibration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: &'static str,
    /// Crops done in this stage.
    pub done: usize,
    /// Crops of the stage.
    pub total: usize,
}

/// Hears how far a calibration is; `false` ends it.
pub type Watch<'a> = dyn FnMut(Progress) -> bool + 'a;

impl CalibrationCrops<'_> {
    /// Runs `graph` (batch 1, one input) on every crop and hands over each of `values`: its place in the list and one
    /// crop's numbers.
    pub(super) fn observe(
        &self,
        graph: &Graph,
        values: &[String],
        stage: &mut Stage,
        mut each: impl FnMut(usize, &[f32]) -> Result<(), QuantizeError>,
    ) -> Result<(), QuantizeError> {
        let [(input, _)] = graph.inputs.as_slice() else {
            return Err(QuantizeError::Inputs {
                found: graph.inputs.len(),
            });
        };
        let pruned = pruned(graph, values)?.with_batch(BATCH)?;
        let mut session = ForwardSession::new(&pruned, Device::Cpu, 1)?;
        let shape = pruned.inputs[0].1.shape.clone();
        let count: usize = shape[1..].iter().product();
        let mut planes = vec![0.0; BATCH * count];
        for group in self.crops.chunks(BATCH) {
            planes.fill(0.0);
            for (planes, crop) in planes.chunks_exact_mut(count).zip(group) {
                self.card.normalization.write_planes(crop, planes);
            }
            let tensor = crate::train::graph::Tensor::f32(&shape, std::mem::take(&mut planes));
            let outputs = session.run_tensors(&[(input.as_str(), &tensor)])?;
            for (index, value) in values.iter().enumerate() {
                let found = outputs.iter().find(|(name, _)| name == value);
                let (_, tensor) = found.expect("every output comes back");
                let TensorData::F32(numbers) = &tensor.data else {
                    unreachable!("only values of 32-bit floats are observed");
                };
                let size = numbers.len() / BATCH;
                for crop in numbers.chunks_exact(size.max(1)).take(group.len()) {
                    each(index, crop)?;
                }
            }
            if let TensorData::F32(buffer) = tensor.data {
                planes = buffer;
            }
            stage.advance(group.len())?;
        }
        Ok(())
    }
}

/// A part of a calibration that goes over crops.
pub(super) struct Stage<'a, 'b> {
    watch: &'a mut Watch<'b>,
    progress: Progress,
}

impl<'a, 'b> Stage<'a, 'b> {
    pub(super) fn new(watch: &'a mut Watch<'b>, name: &'static str, total: usize) -> Self {
        Self {
            watch,
            progress: Progress {
                stage: name,
                done: 0,
                total,
            },
        }
    }

    fn advance(&mut self, count: usize) -> Result<(), QuantizeError> {
        self.progress.done += count;
        match (self.watch)(self.progress) {
            true => Ok(()),
            false => Err(QuantizeError::Interrupted),
        }
    }
}

/// The interquartile mean: the mean of the middle half.
pub(super) fn typical(mut numbers: Vec<f32>) -> f32 {
    numbers.sort_unstable_by(f32::total_cmp);
    let quarter = numbers.len() / 4;
    let middle = &numbers[quarter..numbers.len() - quarter];
    let sum: f64 = middle.iter().map(|&number| f64::from(number)).sum();
    (sum / middle.len().max(1) as f64) as f32
}

/// The part of `graph` that `values` depend on, with them as outputs.
pub(super) fn pruned(graph: &Graph, values: &[String]) -> Result<Graph, QuantizeError> {
    let mut needed: HashSet<&str> = values.iter().map(String::as_str).collect();
    let mut kept = Vec::new();
    for node in graph.nodes.iter().rev() {
        if node
            .outputs
            .iter()
            .any(|output| needed.contains(output.as_str()))
        {
            needed.extend(node.inputs.iter().map(String::as_str));
            kept.push(node.clone());
        }
    }
    let mut pruned = Graph::new(&graph.name);
    for (name, of) in &graph.inputs {
        pruned.input(name, of.clone())?;
    }
    for (name, tensor) in &graph.initializers {
        if needed.contains(name.as_str()) {
            pruned.parameter(name, tensor.clone())?;
        }
    }
    for node in kept.into_iter().rev() {
        pruned.push(node)?;
    }
    pruned.outputs = values.to_vec();
    Ok(pruned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_typical_number_is_the_middle_half_s_mean() {
        for (numbers, expected) in [
            (vec![3.0], 3.0),
            (vec![1.0, 2.0], 1.5),
            (vec![9e9, 2.0, 4.0, -7e9], 3.0),
            (vec![1.0, 2.0, 3.0, 4.0, 1e30, 5.0, 6.0, -1e30], 3.5),
            (vec![], 0.0),
        ] {
            assert_eq!(typical(numbers), expected);
        }
    }
}
