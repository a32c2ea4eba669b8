//! Losses: each emits the nodes that compute it, so that `autodiff` differentiates it like any layer.

use super::graph::{Graph, GraphError, TensorType};
use serde::{Deserialize, Serialize};

/// The output whose error [`LossKind::Laplace`] measures: x then y of each landmark.
pub const LOCATIONS: &str = "landmarks";

/// The distance between an output element and its target.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum LossKind {
    /// `d^2` with `d = output - target`.
    Mse,
    /// `|d|`.
    L1,
    /// `d^2 / (2 beta)` for `|d| < beta`, else `|d| - beta / 2` (Girshick 2015, eq. 3, with PyTorch's `beta`).
    SmoothL1 {
        /// Where the parabola ends; more than 0.
        beta: f32,
    },
    /// `width ln(1 + |d| / curvature)` for `|d| < width`, else `|d| - C` with the `C` that joins them (Feng et al. 2018,
    /// eq. 5).
    Wing {
        /// `w`: where the logarithm ends; more than 0.
        width: f32,
        /// `epsilon`: how sharply it bends at 0; more than 0.
        curvature: f32,
    },
    /// `(|dx| + |dy|) exp(-s) + 2 s`: the negative logarithm of Laplace's density, but for a constant, where `s`, the output,
    /// is the natural logarithm of each landmark's scale (its expected error along an axis), and `(dx, dy)` is how far
    /// the output [`LOCATIONS`] is from the target. It teaches both outputs.
    Laplace,
    /// `-t ln p - (1 - t) ln(1 - p)` of a logit and a target in [0, 1].
    BinaryCrossEntropy,
    /// `-alpha_t |t - p|^gamma (t ln p + (1 - t) ln(1 - p))` of a logit and a target in [0, 1]; for targets 0 and 1 this
    /// is the focal loss (Lin et al. 2017, eq. 5), between them the quality focal loss (Li et al. 2020, eq. 2) with
    /// `alpha_t = alpha t + (1 - alpha)(1 - t)`.
    Focal {
        /// Weight of targets 1; targets 0 have `1 - alpha`.
        alpha: f32,
        /// How strongly easy cells are played down; at least 0.
        gamma: f32,
    },
}

/// One term of a training loss:
/// `coefficient * sum(weight * l(output, target)) / max(1, sum of weight broadcast to the output)`, or `coefficient`
/// times the mean when there is no weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossTerm {
    /// Name in reports and of the step graph's output.
    pub name: String,
    /// The distance.
    pub kind: LossKind,
    /// Output of the forward graph.
    pub output: String,
    /// Name of the batch's tensor with the output's shape.
    pub target: String,
    /// Name of the batch's tensor of weights: the output's shape with 1 as second axis, so that what belongs to one row
    /// and place shares a weight.
    pub weight: Option<String>,
    /// Factor of the term in the sum.
    pub coefficient: f32,
}

impl LossKind {
    /// Adds the nodes of `l(output, target)`, element by element, and returns its name.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn elementwise(
        &self,
        graph: &mut Graph,
        output: &str,
        target: &str,
    ) -> Result<String, GraphError> {
        match *self {
            Self::Mse => {
                let d = graph.sub(output, target)?;
                graph.mul(&d, &d)
            }
            Self::L1 => {
                let d = graph.sub(output, target)?;
                graph.unary("Abs", &d)
            }
            Self::SmoothL1 { beta } => {
                // With e = clip(d, -beta, beta) both branches are e (d - e / 2) / beta.
                let d = graph.sub(output, target)?;
                let low = graph.scalar_like(f64::from(-beta), &d);
                let high = graph.scalar_like(f64::from(beta), &d);
                let e = graph.apply("Clip", &[&d, &low, &high], &[])?;
                let half = graph.scale(&e, 0.5)?;
                let rest = graph.sub(&d, &half)?;
                let product = graph.mul(&e, &rest)?;
                graph.scale(&product, 1.0 / f64::from(beta))
            }
            Self::Wing { width, curvature } => {
                // With m = min(|d|, width) both branches are width ln(1 + m / curvature) + |d| - m: past the width the
                // logarithm stays, before it the difference is 0.
                let d = graph.sub(output, target)?;
                let distance = graph.unary("Abs", &d)?;
                let zero = graph.scalar_like(0.0, &d);
                let limit = graph.scalar_like(f64::from(width), &d);
                let m = graph.apply("Clip", &[&distance, &zero, &limit], &[])?;
                let scaled = graph.scale(&m, 1.0 / f64::from(curvature))?;
                let raised = graph.offset(&scaled, 1.0)?;
                let logarithm = graph.unary("Log", &raised)?;
                let bend = graph.scale(&logarithm, f64::from(width))?;
                let line = graph.sub(&distance, &m)?;
                graph.add(&bend, &line)
            }
            Self::Laplace => {
                let d = graph.sub(LOCATIONS, target)?;
                let distance = graph.unary("Abs", &d)?;
                let mut pairs = graph.shape(output).to_vec();
                pairs.push(2);
                let pairs = graph.reshape(&distance, &pairs)?;
                let distance = graph.reduce("ReduceSum", &pairs, &[2], false)?;
                let opposite = graph.unary("Neg", output)?;
                let precision = graph.unary("Exp", &opposite)?;
                let misfit = graph.mul(&distance, &precision)?;
                let breadth = graph.scale(output, 2.0)?;
                graph.add(&misfit, &breadth)
            }
            Self::BinaryCrossEntropy => cross_entropy(graph, output, target),
            Self::Focal { alpha, gamma } => {
                let entropy = cross_entropy(graph, output, target)?;
                let probability = graph.unary("Sigmoid", output)?;
                let miss = graph.sub(target, &probability)?;
                // |t - p|^gamma; the common gamma 2 needs no logarithm.
                let modulation = if gamma == 2.0 {
                    graph.mul(&miss, &miss)?
                } else {
                    let distance = graph.unary("Abs", &miss)?;
                    let above_zero = graph.offset(&distance, 1e-12)?;
                    let logarithm = graph.unary("Log", &above_zero)?;
                    let exponent = graph.scale(&logarithm, f64::from(gamma))?;
                    graph.unary("Exp", &exponent)?
                };
                let (alpha, slope) = (f64::from(alpha), 2.0 * f64::from(alpha) - 1.0);
                let tilt = graph.scale(target, slope)?;
                let balance = graph.offset(&tilt, 1.0 - alpha)?;
                let balanced = graph.mul(&balance, &modulation)?;
                graph.mul(&balanced, &entropy)
            }
        }
    }

    /// The first parameter that makes no sense, in words.
    pub fn fault(&self) -> Option<String> {
        let positive = |name: &str, value: f32| {
            (!(value.is_finite() && value > 0.0))
                .then(|| format!("{name}: expected more than 0, found {value}"))
        };
        match *self {
            Self::Mse | Self::L1 | Self::Laplace | Self::BinaryCrossEntropy => None,
            Self::SmoothL1 { beta } => positive("beta", beta),
            Self::Wing { width, curvature } => {
                positive("width", width).or_else(|| positive("curvature", curvature))
            }
            Self::Focal { alpha, gamma } => {
                if !(0.0..=1.0).contains(&alpha) {
                    Some(format!("alpha: expected 0 to 1, found {alpha}"))
                } else if !(gamma.is_finite() && gamma >= 0.0) {
                    Some(format!("gamma: expected at least 0, found {gamma}"))
                } else {
                    None
                }
            }
        }
    }
}

/// Binary cross entropy of a logit `x`: `softplus(x) - t x`, which never takes the logarithm of a rounded probability.
fn cross_entropy(graph: &mut Graph, logit: &str, target: &str) -> Result<String, GraphError> {
    let softplus = graph.unary("Softplus", logit)?;
    let agreed = graph.mul(target, logit)?;
    graph.sub(&softplus, &agreed)
}

impl LossTerm {
    /// Adds the nodes of the term, `coefficient` included, and returns its scalar. Targets and weights that the graph has
    /// no input for yet become inputs: the target of the output's shape (Laplace: of [`LOCATIONS`]'s), the weight of that shape with 1 as second axis.
    ///
    /// # Errors
    /// The graph has no such output, or the shapes do not fit.
    pub fn emit(&self, graph: &mut Graph) -> Result<String, GraphError> {
        let of =
            graph
                .find_type(&self.output)
                .cloned()
                .ok_or_else(|| GraphError::UnknownValue {
                    node: format!("loss {}", self.name),
                    value: self.output.clone(),
                })?;
        let target_type = match self.kind {
            LossKind::Laplace => match graph.find_type(LOCATIONS) {
                Some(locations) if locations.element_count() == 2 * of.element_count() => {
                    locations.clone()
                }
                found => {
                    return Err(GraphError::BadNode {
                        node: format!("loss {}", self.name),
                        operator: "Laplace".to_owned(),
                        what: LOCATIONS.to_owned(),
                        expected: format!("two values for each of {of}"),
                        found: found.map_or("nothing".to_owned(), ToString::to_string),
                    });
                }
            },
            _ => of.clone(),
        };
        input_of(graph, &self.target, &target_type)?;
        let each = self.kind.elementwise(graph, &self.output, &self.target)?;
        let coefficient = f64::from(self.coefficient);
        let Some(weight) = &self.weight else {
            let mean = graph.reduce("ReduceMean", &each, &[], false)?;
            return graph.scale(&mean, coefficient);
        };
        let mut weight_shape = of.shape.clone();
        if let Some(channels) = weight_shape.get_mut(1) {
            *channels = 1;
        }
        let weight_type = TensorType::new(of.element, &weight_shape);
        input_of(graph, weight, &weight_type)?;
        let shared = of.element_count() as f64 / weight_type.element_count() as f64;
        let weighted = graph.mul(&each, weight)?;
        let sum = graph.reduce("ReduceSum", &weighted, &[], false)?;
        let weight_sum = graph.reduce("ReduceSum", weight, &[], false)?;
        let weight_sum = graph.scale(&weight_sum, shared)?;
        let one = graph.scalar_like(1.0, &weight_sum);
        let divisor = graph.apply("Max", &[&weight_sum, &one], &[])?;
        let coefficient = graph.scalar_like(coefficient, &divisor);
        let factor = graph.div(&coefficient, &divisor)?;
        graph.mul(&sum, &factor)
    }
}

/// An input of a type, shared by the terms that name it.
fn input_of(graph: &mut Graph, name: &str, of: &TensorType) -> Result<(), GraphError> {
    match graph.find_type(name) {
        Some(found) if found == of => Ok(()),
        _ => graph.input(name, of.clone()).map(drop),
    }
}
