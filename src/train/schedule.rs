//! Learning-rate schedules: pure functions of the step, so that a resumed training continues exactly.

use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Decay {
    /// It does not fall.
    Constant,
    /// Half a cosine from the base rate to `final_fraction` of it (Loshchilov and Hutter, 2017, eq. 5, one cycle).
    Cosine {
        /// Last rate over base rate.
        #[serde(default)]
        final_fraction: f32,
    },
    /// Multiplied by `factor` at each of `milestones`, which are fractions of the whole training in (0, 1).
    Step {
        /// Where the rate falls.
        milestones: Vec<f32>,
        /// What it is multiplied by there.
        factor: f32,
    },
}

/// A linear warm-up followed by a decay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The highest learning rate.
    pub base_learning_rate: f32,
    /// Steps over which the rate rises linearly to the base rate; step `i` of `n` has `(i + 1) / n` of it.
    #[serde(default)]
    pub warmup_steps: u64,
    /// What follows.
    pub decay: Decay,
}

impl Schedule {
    /// The learning rate of step `step` (from 0) of `total_steps`. Steps past the end have the last rate.
    pub fn learning_rate(&self, step: u64, total_steps: u64) -> f32 {
        if step < self.warmup_steps {
            return self.base_learning_rate * (step + 1) as f32 / self.warmup_steps as f32;
        }
        let factor = match &self.decay {
            Decay::Constant => 1.0,
            Decay::Cosine { final_fraction } => {
                let decaying = total_steps.saturating_sub(self.warmup_steps).max(1);
                let done = (step - self.warmup_steps).min(decaying) as f64 / decaying as f64;
                let cosine = (0.5 * (1.0 + (std::f64::consts::PI * done).cos())) as f32;
                final_fraction + (1.0 - final_fraction) * cosine
            }
            Decay::Step { milestones, factor } => {
                let done = step as f64 / total_steps.max(1) as f64;
                let passed = milestones.iter().filter(|&&m| done >= f64::from(m)).count();
                factor.powi(passed as i32)
            }
        };
        self.base_learning_rate * factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(warmup_steps: u64, decay: Decay) -> Schedule {
        Schedule {
            base_learning_rate: 0.01,
            warmup_steps,
            decay,
        }
    }

    #[test]
    fn rates_at_the_turning_points() {
        struct Case {
            schedule: Schedule,
            expected: &'static [(u64, f32)],
        }
        let cases = [
            Case {
                schedule: schedule(10, Decay::Constant),
                expected: &[(0, 0.001), (4, 0.005), (9, 0.01), (10, 0.01), (500, 0.01)],
            },
            Case {
                schedule: schedule(
                    10,
                    Decay::Cosine {
                        final_fraction: 0.1,
                    },
                ),
                // 110 steps: the middle of the decay is step 60, the end step 110.
                expected: &[
                    (9, 0.01),
                    (10, 0.01),
                    (60, 0.0055),
                    (110, 0.001),
                    (999, 0.001),
                ],
            },
            Case {
                schedule: schedule(
                    0,
                    Decay::Step {
                        milestones: vec![0.5, 0.9],
                        factor: 0.1,
                    },
                ),
                expected: &[
                    (0, 0.01),
                    (54, 0.01),
                    (55, 0.001),
                    (98, 0.001),
                    (99, 0.0001),
                ],
            },
        ];
        for case in cases {
            for &(step, expected) in case.expected {
                let found = case.schedule.learning_rate(step, 110);
                assert!(
                    (found - expected).abs() < 1e-7,
                    "{:?} at step {step}: expected {expected}, found {found}",
                    case.schedule.decay
                );
            }
        }
    }

    #[test]
    fn the_cosine_never_rises_after_the_warm_up() {
        let schedule = schedule(
            7,
            Decay::Cosine {
                final_fraction: 0.0,
            },
        );
        let rates: Vec<f32> = (7..100).map(|i| schedule.learning_rate(i, 100)).collect();
        assert!(rates.is_sorted_by(|a, b| a >= b));
    }
}
