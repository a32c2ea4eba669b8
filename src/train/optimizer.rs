//! Optimisers as graph nodes on flat vectors: all parameters are one vector, so a whole optimiser is some twenty nodes
//! whatever the network (Muon, which looks at each weight as a matrix, adds some twenty a convolution).

mod muon;

use super::graph::{ElementType, Graph, GraphError};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Scalar inputs of the step graph.
const LEARNING_RATE: &str = "learning_rate";
const MOMENT1_CORRECTION: &str = "moment1_correction";
const MOMENT2_CORRECTION: &str = "moment2_correction";
const EMA_ALPHA: &str = "ema_alpha";
const RANGE_ALPHA: &str = "range_alpha";

/// Which optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2), as PyTorch's `AdamW`.
    AdamW {
        /// How much of the first moment stays.
        beta1: f32,
        /// How much of the second moment stays.
        beta2: f32,
        /// Added to the root of the second moment.
        epsilon: f32,
    },
    /// Muon (Jordan et al. 2024): the momentum of each convolution's weights, seen as a matrix `[out, in * taps]`, is
    /// replaced by the nearest matrix with equal singular values, so that no direction of a layer is learnt slower than
    /// the others. Its length is that of AdamW's steps (Liu et al. 2025, eq. 4), so one learning rate serves both.
    /// Depthwise weights, fully connected layers, biases and scales follow AdamW with the same first moment.
    Muon {
        /// How much of the first moment stays.
        momentum: f32,
        /// How much of AdamW's second moment stays.
        beta2: f32,
        /// Added to the root of AdamW's second moment.
        epsilon: f32,
    },
    /// Stochastic gradient descent with momentum, weight decay added to the gradient, as PyTorch's `SGD`.
    Sgd {
        /// How much of the velocity stays.
        momentum: f32,
        /// Whether the gradient is taken a step ahead (Sutskever et al. 2013).
        #[serde(default)]
        nesterov: bool,
    },
}

/// How gradients change the state.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// The optimiser.
    pub optimizer: OptimizerKind,
    /// Weight decay of weights with more than one axis longer than 1; biases, scales and slopes do not decay.
    pub weight_decay: f32,
    /// Gradients with a longer global norm are scaled down to it.
    pub max_gradient_norm: Option<f32>,
    /// Weight of the new value in the moving average of weights and running statistics; `None` keeps no average. In the
    /// first steps the new value weighs more: `9 / (10 + step)` when that is larger.
    pub ema_alpha: Option<f32>,
    /// Weight of the new batch in the running averages of batch normalisation.
    pub batch_norm_momentum: f32,
    /// Weight of the new batch in the ranges of quantisation-aware training (a moving average of the batches' least and
    /// greatest values; Jacob et al. 2018, section 3.1).
    pub range_alpha: f32,
    /// Ranges follow the batches for so many steps, then they are frozen.
    pub range_steps: u64,
}

impl Default for OptimizerConfig {
    /// AdamW with its authors' betas; clipping and averaging are on because they never hurt a small network.
    fn default() -> Self {
        Self {
            optimizer: OptimizerKind::AdamW {
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
            },
            weight_decay: 0.05,
            max_gradient_norm: Some(5.0),
            ema_alpha: Some(0.001),
            batch_norm_momentum: 0.1,
            range_alpha: 0.05,
            range_steps: 200,
        }
    }
}

/// Names of the vectors that an optimiser reads or writes. Unused moments are `None`.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    pub(super) first: String,
    pub(super) second: Option<String>,
}

/// Where a parameter lies in the flat vectors.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placed {
    pub(super) shape: Vec<usize>,
    pub(super) range: Range<usize>,
}

impl Placed {
    /// Whether weight decay applies: more than one axis is longer than 1.
    fn decays(&self) -> bool {
        self.shape.iter().filter(|&&size| size > 1).count() > 1
    }
}

/// What [`OptimizerConfig::emit`] leaves behind.
#[derive(Clone, Debug)]
pub(super) struct Updated {
    pub(super) parameters: String,
    pub(super) moments: Moments,
    pub(super) gradient_norm: String,
}

impl OptimizerConfig {
    /// Whether there is a second moment.
    pub fn has_second_moment(&self) -> bool {
        self.moments_of_adam().is_some()
    }

    /// AdamW's betas and epsilon, where (parts of) the parameters follow it.
    fn moments_of_adam(&self) -> Option<(f32, f32, f32)> {
        match self.optimizer {
            OptimizerKind::AdamW {
                beta1,
                beta2,
                epsilon,
            } => Some((beta1, beta2, epsilon)),
            OptimizerKind::Muon {
                momentum,
                beta2,
                epsilon,
            } => Some((momentum, beta2, epsilon)),
            OptimizerKind::Sgd { .. } => None,
        }
    }

    /// The first setting that makes no sense, in words.
    pub fn fault(&self) -> Option<String> {
        let fraction = |name: &str, value: f32| {
            (!(0.0..1.0).contains(&value))
                .then(|| format!("{name}: expected 0 to less than 1, found {value}"))
        };
        let positive = |name: &str, value: f32| {
            (!(value.is_finite() && value > 0.0))
                .then(|| format!("{name}: expected more than 0, found {value}"))
        };
        let own = match self.optimizer {
            OptimizerKind::AdamW {
                beta1,
                beta2,
                epsilon,
            } => fraction("beta1", beta1)
                .or_else(|| fraction("beta2", beta2))
                .or_else(|| positive("epsilon", epsilon)),
            OptimizerKind::Muon {
                momentum,
                beta2,
                epsilon,
            } => fraction("momentum", momentum)
                .or_else(|| fraction("beta2", beta2))
                .or_else(|| positive("epsilon", epsilon)),
            OptimizerKind::Sgd { momentum, .. } => fraction("momentum", momentum),
        };
        own.or_else(|| {
            let decay = self.weight_decay;
            (!(decay.is_finite() && decay >= 0.0))
                .then(|| format!("weight_decay: expected at least 0, found {decay}"))
        })
        .or_else(|| {
            self.max_gradient_norm
                .and_then(|norm| positive("max_gradient_norm", norm))
        })
        .or_else(|| {
            let alpha = self.ema_alpha?;
            (!(alpha > 0.0 && alpha <= 1.0))
                .then(|| format!("ema_alpha: expected more than 0 and at most 1, found {alpha}"))
        })
        .or_else(|| {
            let momentum = self.batch_norm_momentum;
            (!(0.0..=1.0).contains(&momentum))
                .then(|| format!("batch_norm_momentum: expected 0 to 1, found {momentum}"))
        })
        .or_else(|| {
            let alpha = self.range_alpha;
            (!(0.0..=1.0).contains(&alpha))
                .then(|| format!("range_alpha: expected 0 to 1, found {alpha}"))
        })
    }

    /// The scalar inputs of step `step` (from 0), by name.
    pub(super) fn scalars(&self, step: u64, learning_rate: f32) -> Vec<(&'static str, f32)> {
        let mut scalars = vec![(LEARNING_RATE, learning_rate)];
        if let Some((beta1, beta2, _)) = self.moments_of_adam() {
            let left = |beta: f32| 1.0 - f64::from(beta).powf((step + 1) as f64);
            scalars.push((MOMENT1_CORRECTION, (1.0 / left(beta1)) as f32));
            scalars.push((MOMENT2_CORRECTION, (1.0 / left(beta2).sqrt()) as f32));
        }
        if let Some(alpha) = self.ema_alpha {
            let early = (9.0 / (10.0 + step as f64)) as f32;
            scalars.push((EMA_ALPHA, alpha.max(early)));
        }
        scalars
    }

    /// The scalar input of a step that learns ranges, by name: 0 when they are frozen.
    pub(super) fn range_scalar(&self, step: u64) -> (&'static str, f32) {
        let learning = step < self.range_steps;
        (RANGE_ALPHA, if learning { self.range_alpha } else { 0.0 })
    }

    /// Adds the moving average of `ranges` `[n, 2]` towards `observed` `[n, 2]`. A range without width takes what was
    /// observed as it is, unless ranges are frozen.
    pub(super) fn emit_ranges(
        &self,
        graph: &mut Graph,
        ranges: &str,
        observed: &str,
    ) -> Result<String, GraphError> {
        let count = graph.shape(ranges)[0] as i64;
        let alpha = scalar_input(graph, RANGE_ALPHA)?;
        let low = graph.slice(ranges, &[0, 1], &[0, 0], &[count, 1], &[1, 1])?;
        let high = graph.slice(ranges, &[0, 1], &[0, 1], &[count, 2], &[1, 1])?;
        let empty = graph.apply("GreaterOrEqual", &[&low, &high], &[])?;
        let empty = graph.cast(&empty, ElementType::F32)?;
        let learning = graph.unary("Sign", &alpha)?;
        let first = graph.mul(&empty, &learning)?;
        let weight = graph.apply("Max", &[&first, &alpha], &[])?;
        // range + weight (observed - range)
        let apart = graph.sub(observed, ranges)?;
        let change = graph.mul(&apart, &weight)?;
        graph.add(ranges, &change)
    }

    /// Adds the clipping and the update of `parameters`, in which `placed` lie one after another.
    pub(super) fn emit(
        &self,
        graph: &mut Graph,
        parameters: &str,
        gradient: &str,
        moments: &Moments,
        placed: &[Placed],
    ) -> Result<Updated, GraphError> {
        let squares = graph.reduce("ReduceSumSquare", gradient, &[], false)?;
        let gradient_norm = graph.unary("Sqrt", &squares)?;
        let gradient = match self.max_gradient_norm {
            None => gradient.to_owned(),
            Some(max_norm) => {
                // As PyTorch's clip_grad_norm_: factor min(1, max_norm / (norm + 1e-6)).
                let divisor = graph.offset(&gradient_norm, 1e-6)?;
                let limit = graph.scalar(max_norm);
                let factor = graph.div(&limit, &divisor)?;
                let one = graph.scalar(1.0);
                let factor = graph.apply("Min", &[&factor, &one], &[])?;
                graph.mul(gradient, &factor)?
            }
        };
        let rate = scalar_input(graph, LEARNING_RATE)?;
        let decay: Vec<f32> = placed
            .iter()
            .flat_map(|parameter| {
                let decay = if parameter.decays() {
                    self.weight_decay
                } else {
                    0.0
                };
                std::iter::repeat_n(decay, parameter.range.len())
            })
            .collect();
        let decay =
            (decay.iter().any(|&d| d != 0.0)).then(|| graph.constant_f32(&decay, &[decay.len()]));
        let decayed = match &decay {
            Some(decay) => Some(graph.mul(parameters, decay)?),
            None => None,
        };
        let (direction, moments) = match self.optimizer {
            OptimizerKind::AdamW { .. } | OptimizerKind::Muon { .. } => {
                let (beta1, beta2, epsilon) = self.moments_of_adam().expect("both have them");
                let second = moments.second.as_deref().expect("both have two moments");
                let first = average(graph, &moments.first, &gradient, beta1)?;
                let square = graph.mul(&gradient, &gradient)?;
                let second = average(graph, second, &square, beta2)?;
                let correction1 = scalar_input(graph, MOMENT1_CORRECTION)?;
                let correction2 = scalar_input(graph, MOMENT2_CORRECTION)?;
                let root = graph.unary("Sqrt", &second)?;
                let root = graph.mul(&root, &correction2)?;
                let root = graph.offset(&root, f64::from(epsilon))?;
                let corrected = graph.mul(&first, &correction1)?;
                let mut direction = graph.div(&corrected, &root)?;
                if matches!(self.optimizer, OptimizerKind::Muon { .. }) {
                    // Nesterov's look-ahead, as in the authors' code.
                    let ahead = average(graph, &gradient, &first, 1.0 - beta1)?;
                    direction = muon::in_place_of_adam(graph, &direction, &ahead, placed)?;
                }
                if let Some(decayed) = &decayed {
                    direction = graph.add(&direction, decayed)?;
                }
                let moments = Moments {
                    first,
                    second: Some(second),
                };
                (direction, moments)
            }
            OptimizerKind::Sgd { momentum, nesterov } => {
                let gradient = match &decayed {
                    Some(decayed) => graph.add(&gradient, decayed)?,
                    None => gradient,
                };
                let kept = graph.scale(&moments.first, f64::from(momentum))?;
                let first = graph.add(&kept, &gradient)?;
                let direction = if nesterov {
                    let ahead = graph.scale(&first, f64::from(momentum))?;
                    graph.add(&gradient, &ahead)?
                } else {
                    first.clone()
                };
                let moments = Moments {
                    first,
                    second: None,
                };
                (direction, moments)
            }
        };
        let change = graph.mul(&direction, &rate)?;
        Ok(Updated {
            parameters: graph.sub(parameters, &change)?,
            moments,
            gradient_norm,
        })
    }

    /// Adds the moving average of weights and running statistics; `values` and `ema` are joined vectors.
    pub(super) fn emit_ema(
        &self,
        graph: &mut Graph,
        ema: &str,
        values: &str,
    ) -> Result<String, GraphError> {
        // ema + alpha (values - ema)
        let alpha = scalar_input(graph, EMA_ALPHA)?;
        let apart = graph.sub(values, ema)?;
        let change = graph.mul(&apart, &alpha)?;
        graph.add(ema, &change)
    }
}

/// `beta * old + (1 - beta) * new`.
fn average(graph: &mut Graph, old: &str, new: &str, beta: f32) -> Result<String, GraphError> {
    let kept = graph.scale(old, f64::from(beta))?;
    let added = graph.scale(new, 1.0 - f64::from(beta))?;
    graph.add(&kept, &added)
}

fn scalar_input(graph: &mut Graph, name: &str) -> Result<String, GraphError> {
    graph.input(name, super::graph::TensorType::f32(&[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrections_undo_the_zero_start_of_the_moments() {
        let config = OptimizerConfig::default();
        let scalars = config.scalars(0, 0.5);
        let value = |name: &str| {
            let found = scalars.iter().find(|(n, _)| *n == name);
            found.expect("scalar").1
        };
        assert_eq!(value(LEARNING_RATE), 0.5);
        assert!((value(MOMENT1_CORRECTION) - 10.0).abs() < 1e-4);
        assert!((value(MOMENT2_CORRECTION) - 1000f32.sqrt()).abs() < 1e-2);
        assert!((value(EMA_ALPHA) - 0.9).abs() < 1e-6);
        let late = config.scalars(1_000_000, 0.5);
        assert!((late[1].1 - 1.0).abs() < 1e-6 && (late[3].1 - 0.001).abs() < 1e-9);
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let fine = OptimizerConfig::default();
        assert_eq!(fine.fault(), None);
        let cases = [
            (
                "weight_decay",
                OptimizerConfig {
                    weight_decay: -1.0,
                    ..fine
                },
            ),
            (
                "max_gradient_norm",
                OptimizerConfig {
                    max_gradient_norm: Some(0.0),
                    ..fine
                },
            ),
            (
                "ema_alpha",
                OptimizerConfig {
                    ema_alpha: Some(f32::NAN),
                    ..fine
                },
            ),
            (
                "batch_norm_momentum",
                OptimizerConfig {
                    batch_norm_momentum: 1.5,
                    ..fine
                },
            ),
            (
                "momentum",
                OptimizerConfig {
                    optimizer: OptimizerKind::Sgd {
                        momentum: 1.0,
                        nesterov: false,
                    },
                    ..fine
                },
            ),
        ];
        for (name, config) in cases {
            let fault = config.fault().expect(name);
            assert!(fault.contains(name), "{fault}");
        }
    }
}
