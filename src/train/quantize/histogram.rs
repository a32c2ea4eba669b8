//! How often an activation takes which value, and the range that each calibration method reads from it.

use super::{Method, QuantizeError, Range, grid::Grid};

/// Bins from the least to the greatest value.
const BINS: usize = 2048;
/// Candidates a side for the least squared error.
const MSE_STEPS: usize = 64;
/// The smallest candidate of the least squared error and of the entropy, as a share of the whole span.
const SMALLEST_SHARE: f64 = 0.1;
/// Levels of a byte.
const LEVELS: usize = 256;

/// Counts of an activation's values between its extremes. Exact zeros are counted apart: every range holds them.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    low: f64,
    width: f64,
    zeros: u64,
    bins: Vec<u64>,
}

impl Histogram {
    /// An empty histogram for values from `min` to `max`, which is stretched to hold 0.
    ///
    /// # Errors
    /// The ends are no range.
    pub(super) fn new(min: f32, max: f32) -> Result<Self, QuantizeError> {
        let range = Range::new(min, max)?;
        let (low, high) = (f64::from(range.min()), f64::from(range.max()));
        Ok(Self {
            low,
            width: (high - low).max(f64::from(f32::MIN_POSITIVE)) / BINS as f64,
            zeros: 0,
            bins: vec![0; BINS],
        })
    }

    /// Counts values; those beyond the ends go to the last bin there.
    pub(super) fn add(&mut self, values: &[f32]) {
        let per_width = 1.0 / self.width;
        for &value in values {
            if value == 0.0 {
                self.zeros += 1;
            } else {
                let bin = (f64::from(value) - self.low) * per_width;
                self.bins[(bin as usize).min(BINS - 1)] += 1;
            }
        }
    }

    /// The range that `method` chooses.
    pub(super) fn range(&self, method: Method) -> Result<Range, QuantizeError> {
        let (low, high) = match method {
            // Calibration refuses ranges by training before it counts anything.
            Method::MinMax | Method::Training => (0, BINS),
            Method::Percentile(percent) => self.percentile(f64::from(percent)),
            Method::Entropy => self.least_divergence(),
            Method::Mse => return self.least_error(),
        };
        Range::new(self.edge(low), self.edge(high))
    }

    /// The lower end of a bin; of `BINS`: the upper end of the last.
    fn edge(&self, bin: usize) -> f32 {
        (self.low + bin as f64 * self.width) as f32
    }

    fn middle(&self, bin: usize) -> f64 {
        self.low + (bin as f64 + 0.5) * self.width
    }

    /// The bin where positive values begin; negative ones lie before it.
    fn zero_bin(&self) -> usize {
        ((-self.low / self.width).round() as usize).min(BINS)
    }

    /// The bins that hold all values but the share beyond `percent`, half of it on each side when there are two sides.
    fn percentile(&self, percent: f64) -> (usize, usize) {
        let total = self.zeros + self.bins.iter().sum::<u64>();
        let outside = total as f64 * (1.0 - percent / 100.0);
        let two_sided = self.low < 0.0 && self.zero_bin() < BINS;
        let allowed = if two_sided { outside / 2.0 } else { outside };
        let cut = |bins: &mut dyn Iterator<Item = &u64>| {
            let mut passed = 0.0;
            bins.take_while(|&&count| {
                passed += count as f64;
                passed <= allowed
            })
            .count()
        };
        let zero = self.zero_bin();
        let low = cut(&mut self.bins.iter()).min(zero);
        let high = BINS - cut(&mut self.bins.iter().rev());
        (low, high.max(zero))
    }

    /// The ends with the least sum of squared differences between values and their levels, by descent along one end
    /// after the other.
    fn least_error(&self) -> Result<Range, QuantizeError> {
        let (mut low, mut high) = (f64::from(self.edge(0)), f64::from(self.edge(BINS)));
        let (whole_low, whole_high) = (low, high);
        let shares = || {
            (0..MSE_STEPS)
                .map(|step| 1.0 - (1.0 - SMALLEST_SHARE) * step as f64 / (MSE_STEPS - 1) as f64)
        };
        for _ in 0..3 {
            if whole_high > 0.0 {
                high = least(shares().map(|share| share * whole_high), |high| {
                    self.squared_error(low, high)
                });
            }
            if whole_low < 0.0 {
                low = least(shares().map(|share| share * whole_low), |low| {
                    self.squared_error(low, high)
                });
            } else {
                break;
            }
        }
        Range::new(low as f32, high as f32)
    }

    fn squared_error(&self, low: f64, high: f64) -> f64 {
        let grid = Grid::of_range(low as f32, high as f32);
        let scale = f64::from(grid.scale);
        let zero_point = f64::from(grid.zero_point);
        let mut sum = 0.0;
        for (bin, &count) in self
            .bins
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
        {
            let value = self.middle(bin);
            let level = ((value / scale).round_ties_even() + zero_point).clamp(0.0, 255.0);
            let difference = value - (level - zero_point) * scale;
            sum += count as f64 * difference * difference;
        }
        sum
    }

    /// The bins whose distribution, seen through 256 levels, loses least information: the smallest Kullback-Leibler
    /// divergence from the clipped distribution (Migacz 2017, "8-bit inference with TensorRT"). Both ends shrink together.
    fn least_divergence(&self) -> (usize, usize) {
        let zero = self.zero_bin();
        let (below, above) = (zero as f64, (BINS - zero) as f64);
        let first = (SMALLEST_SHARE * 100.0).round() as usize;
        let candidates = (first..=200).rev().map(|step| {
            let share = step as f64 / 200.0;
            (
                zero - (below * share).round() as usize,
                zero + (above * share).round() as usize,
            )
        });
        let mut best = (0, BINS);
        let mut smallest = f64::INFINITY;
        for (low, high) in candidates.filter(|(low, high)| high - low >= LEVELS) {
            let divergence = self.divergence(low, high);
            if divergence < smallest {
                smallest = divergence;
                best = (low, high);
            }
        }
        best
    }

    /// Divergence between the values of bins `low` to `high` (those beyond moved to the ends) and what 256 levels of
    /// them still tell.
    fn divergence(&self, low: usize, high: usize) -> f64 {
        let inside = &self.bins[low..high];
        let mut clipped: Vec<f64> = inside.iter().map(|&count| count as f64).collect();
        let last = clipped.len() - 1;
        clipped[0] += self.bins[..low].iter().sum::<u64>() as f64;
        clipped[last] += self.bins[high..].iter().sum::<u64>() as f64;
        let total: f64 = clipped.iter().sum();
        let kept: f64 = inside.iter().sum::<u64>() as f64;
        if total == 0.0 || kept == 0.0 {
            return f64::INFINITY;
        }
        let mut divergence = 0.0;
        for level in 0..LEVELS {
            let span = level * inside.len() / LEVELS..(level + 1) * inside.len() / LEVELS;
            let sum: u64 = inside[span.clone()].iter().sum();
            let filled = span.clone().filter(|&bin| clipped[bin] > 0.0).count();
            // A level spreads its count evenly over the bins that are not empty.
            let share = sum as f64 / filled.max(1) as f64 / kept;
            for bin in span.filter(|&bin| clipped[bin] > 0.0) {
                let p = clipped[bin] / total;
                divergence += p * (p / share.max(1e-12)).ln();
            }
        }
        divergence
    }
}

/// The candidate with the least cost; the first of equal ones.
fn least(candidates: impl Iterator<Item = f64>, cost: impl Fn(f64) -> f64) -> f64 {
    let mut best = (0.0, f64::INFINITY);
    for candidate in candidates {
        let found = cost(candidate);
        if found < best.1 {
            best = (candidate, found);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between 0 and 1, the same on each run.
    fn uniform(count: usize) -> impl Iterator<Item = f64> {
        let mut bits = 12345u64;
        (0..count).map(move |_| {
            bits = bits
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (bits >> 11) as f64 / (1u64 << 53) as f64
        })
    }

    fn gaussian(count: usize) -> Vec<f32> {
        let numbers: Vec<f64> = uniform(2 * count).collect();
        numbers
            .chunks_exact(2)
            .map(|pair| {
                let radius = (-2.0 * (1.0 - pair[0]).ln()).sqrt();
                (radius * (std::f64::consts::TAU * pair[1]).cos()) as f32
            })
            .collect()
    }

    fn histogram(values: &[f32]) -> Histogram {
        let (min, max) = values
            .iter()
            .fold((0.0f32, 0.0f32), |(min, max), &v| (min.min(v), max.max(v)));
        let mut histogram = Histogram::new(min, max).unwrap();
        histogram.add(values);
        histogram
    }

    #[test]
    fn minmax_takes_everything() {
        let range = histogram(&[-0.25, 3.0, 0.0, 1.5])
            .range(Method::MinMax)
            .unwrap();
        assert_eq!((range.min(), range.max()), (-0.25, 3.0));
    }

    #[test]
    fn a_percentile_leaves_its_share_outside() {
        let values: Vec<f32> = uniform(100_000).map(|v| (v * 10.0) as f32).collect();
        let range = histogram(&values).range(Method::Percentile(90.0)).unwrap();
        assert!(
            (range.max() - 9.0).abs() < 0.05 && range.min() == 0.0,
            "{range:?}"
        );
        let centered: Vec<f32> = values.iter().map(|v| v - 5.0).collect();
        let range = histogram(&centered)
            .range(Method::Percentile(90.0))
            .unwrap();
        assert!((range.max() - 4.5).abs() < 0.05, "{range:?}");
        assert!((range.min() + 4.5).abs() < 0.05, "{range:?}");
        // Zeros after a ReLU count as values.
        let sparse = [&values[..], &vec![0.0; 900_000]].concat();
        let range = histogram(&sparse).range(Method::Percentile(99.0)).unwrap();
        assert!((range.max() - 9.0).abs() < 0.05, "{range:?}");
    }

    #[test]
    fn an_even_distribution_is_not_clipped_and_an_outlier_is() {
        let even: Vec<f32> = uniform(200_000).map(|v| v as f32).collect();
        let outlier = [&even[..], &[3.0]].concat();
        // Clipping at t costs (t / 255)^2 / 12 a value by rounding and (3 - t)^2 once: least in all at 2.36.
        for (method, least, most) in [(Method::Mse, 2.3, 2.4), (Method::Entropy, 0.9, 1.6)] {
            let range = histogram(&even).range(method).unwrap();
            assert!(range.max() > 0.97, "{method}: {range:?}");
            let range = histogram(&outlier).range(method).unwrap();
            assert!((least..most).contains(&range.max()), "{method}: {range:?}");
        }
    }

    /// The error of rounding `values` to a range's grid.
    fn error(values: &[f32], range: Range) -> f64 {
        let grid = range.grid();
        values
            .iter()
            .map(|&v| f64::from(v - grid.dequantize(grid.quantize(v))).powi(2))
            .sum()
    }

    #[test]
    fn mse_finds_the_least_error_on_a_gaussian() {
        let values = gaussian(200_000);
        let histogram = histogram(&values);
        let chosen = histogram.range(Method::Mse).unwrap();
        let found = error(&values, chosen);
        for limit in 10..=50 {
            let limit = limit as f32 / 10.0;
            let other = error(&values, Range::new(-limit, limit).unwrap());
            assert!(
                found < other * 1.03,
                "{chosen:?}: {found}, at {limit}: {other}"
            );
        }
        let whole = error(&values, histogram.range(Method::MinMax).unwrap());
        assert!(found < 0.95 * whole, "{found} {whole}");
    }

    #[test]
    fn entropy_clips_a_long_tail_to_where_it_thins_out() {
        // Half of the values below ln 2, one in a thousand above 6.9, the largest near 12.
        let values: Vec<f32> = uniform(200_000).map(|v| -(1.0 - v).ln() as f32).collect();
        let range = histogram(&values).range(Method::Entropy).unwrap();
        let largest = values.iter().copied().fold(0.0, f32::max);
        assert!(
            (3.0..0.95 * largest).contains(&range.max()),
            "{range:?} of {largest}"
        );
    }

    #[test]
    fn empty_and_constant_activations_have_a_range() {
        for values in [&[0.0; 10][..], &[], &[2.0; 7], &[-1e-30, 0.0]] {
            for method in [
                Method::MinMax,
                Method::Percentile(99.0),
                Method::Entropy,
                Method::Mse,
            ] {
                let range = histogram(values).range(method).unwrap();
                let grid = range.grid();
                for &value in values {
                    let back = grid.dequantize(grid.quantize(value));
                    assert!(
                        (back - value).abs() <= 0.51 * grid.scale.min(0.02),
                        "{method} {range:?}"
                    );
                }
            }
        }
    }
}
