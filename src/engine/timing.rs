//! The time of each kernel inside a network, and the yardstick beside it.

use super::{
    Engine, KernelSet,
    inspection::{InspectedNode, inspect_nodes},
    kernels,
};
use crate::{crop::Crop, model::InferError};

/// How long one kernel takes.
#[derive(Clone, Debug)]
pub struct LayerTime {
    /// The kernel.
    pub layer: InspectedNode,
    /// Median time of a run, in seconds.
    pub median_secs: f64,
}

impl Engine {
    /// Runs the network `runs` times on `crop` and takes the time of each kernel in each run, in the order they run.
    ///
    /// # Errors
    /// As [`crate::model::Infer::infer`].
    pub fn time_layers(&mut self, crop: &Crop, runs: usize) -> Result<Vec<LayerTime>, InferError> {
        self.fill_input(crop)?;
        let (plan, input) = self.plan_and_input();
        let layers = inspect_nodes(plan);
        let mut times: Vec<Vec<f64>> = vec![Vec::with_capacity(runs); layers.len()];
        let mut failure = None;
        for _ in 0..runs.max(1) {
            match plan.time_nodes([input.clone()]) {
                Ok(secs) => {
                    for (times, secs) in times.iter_mut().zip(secs) {
                        times.push(secs);
                    }
                }
                Err(error) => failure = Some(format!("{error:#}")),
            }
        }
        if let Some(reason) = failure {
            return Err(InferError::Engine {
                model: self.name().to_owned(),
                reason,
            });
        }
        let median = |mut times: Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied().unwrap_or_default()
        };
        let layers = layers.into_iter().zip(times);
        Ok(layers
            .map(|(layer, times)| LayerTime {
                layer,
                median_secs: median(times),
            })
            .collect())
    }
}

impl KernelSet {
    /// Billions of multiplications with addition a second that this machine does with the set's instructions on one
    /// core, everything in registers. Measured now.
    pub fn measured_peak_gmacs(self) -> f64 {
        kernels::peak_gmacs(self)
    }
}
