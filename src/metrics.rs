//! What facemark measures, with exact definitions: landmark errors ([`FaceError`], [`LandmarkSummary`]), detection
//! quality ([`DetectionSummary`]) and distributions ([`Percentiles`]). Numbers in, numbers out; nothing is read here.

mod detection;
mod landmarks;

pub use detection::{
    Detection, DetectionIntervals, DetectionSummary, JudgedImage, Match, Outcome,
    average_precision, judge_detections,
};
pub use landmarks::{
    CedPoint, FAILURE_NME, FaceError, LandmarkSummary, Normalizer, NormalizingLength,
    PredictionSpread, auc, failure_rate,
};

use serde::{Deserialize, Serialize};

/// The value below which `percent` percent of `sorted` lie, interpolated linearly between neighbours: rank
/// `percent / 100 * (n - 1)`, counted from 0 (numpy's default). `sorted` ascends; `None` when it is empty.
pub fn percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let rank = (percent / 100.0).clamp(0.0, 1.0) * last as f64;
    let (below, above) = (rank.floor() as usize, rank.ceil() as usize);
    let fraction = rank - below as f64;
    Some(sorted[below] + fraction * (sorted[above] - sorted[below]))
}

/// The middle and the tail of a distribution, in the unit of its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Arithmetic mean.
    pub mean: f64,
}

impl Percentiles {
    /// Of `values` in any order; `None` without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            p50: percentile(&sorted, 50.0)?,
            p95: percentile(&sorted, 95.0)?,
            p99: percentile(&sorted, 99.0)?,
            mean: mean(&sorted)?,
        })
    }
}

/// Arithmetic mean; `None` without values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Arithmetic mean of the largest tenth of `values` (rounded up to whole values): how bad the bad cases are. `None`
/// without values.
pub fn worst_decile_mean(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted.truncate(values.len().div_ceil(10));
    mean(&sorted)
}

/// The 95 % confidence interval of the mean of `values` by the percentile bootstrap (Efron 1979): the 2.5th and 97.5th
/// percentile of the means of `resamples` samples drawn with replacement. The same `seed` gives the same interval.
/// `None` without values or resamples.
pub fn bootstrap_mean_interval(values: &[f64], resamples: usize, seed: u64) -> Option<[f64; 2]> {
    if values.is_empty() {
        return None;
    }
    let mut random = SplitMix64 { state: seed };
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| {
            let draw = |_| values[random.below(values.len())];
            (0..values.len()).map(draw).sum::<f64>() / values.len() as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Some([percentile(&means, 2.5)?, percentile(&means, 97.5)?])
}

/// The 95 % confidence interval of a figure of `count` things by the percentile bootstrap (Efron 1979): `figure` gets the
/// indices of each of `resamples` samples drawn with replacement; a sample for which it has no value is left out. The
/// same `seed` gives the same interval. `None` without things or values.
pub fn bootstrap_interval(
    count: usize,
    resamples: usize,
    seed: u64,
    figure: impl Fn(&[usize]) -> Option<f64>,
) -> Option<[f64; 2]> {
    if count == 0 {
        return None;
    }
    let mut random = SplitMix64 { state: seed };
    let mut drawn = vec![0; count];
    let mut figures: Vec<f64> = (0..resamples)
        .filter_map(|_| {
            drawn.fill_with(|| random.below(count));
            figure(&drawn)
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    Some([percentile(&figures, 2.5)?, percentile(&figures, 97.5)?])
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, good enough to draw bootstrap samples.
struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound - 1`, by the high half of a 128-bit product (Lemire 2019, without rejection).
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate_between_ranks() {
        // Ranks of ten values are 0 to 9: p50 is rank 4.5, p95 rank 8.55, p99 rank 8.91.
        let values: Vec<f64> = (0..10).rev().map(f64::from).collect();
        let found = Percentiles::of(&values).expect("values");
        for (found, expected) in [
            (found.p50, 4.5),
            (found.p95, 8.55),
            (found.p99, 8.91),
            (found.mean, 4.5),
        ] {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        assert_eq!(percentile(&[3.0], 99.0), Some(3.0));
        assert_eq!(Percentiles::of(&[]), None);
    }

    #[test]
    fn the_worst_decile_is_the_mean_of_the_largest_tenth() {
        let values: Vec<f64> = (0..20).map(f64::from).collect();
        assert_eq!(worst_decile_mean(&values), Some(18.5));
        assert_eq!(worst_decile_mean(&values[..11]), Some(9.5));
        assert_eq!(worst_decile_mean(&[3.0, 1.0]), Some(3.0));
        assert_eq!(worst_decile_mean(&[]), None);
    }

    #[test]
    fn splitmix_gives_the_published_sequence() {
        // First outputs for seed 1234567, as in the reference implementation by Vigna.
        let mut random = SplitMix64 { state: 1_234_567 };
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn a_bootstrap_interval_is_seeded_and_as_wide_as_theory_says() {
        // 400 values of standard deviation 1/sqrt(12): the mean's is 0.01443, so the interval is 2 x 1.96 x that wide.
        let mut random = SplitMix64 { state: 7 };
        let values: Vec<f64> = (0..400)
            .map(|_| random.next() as f64 / u64::MAX as f64)
            .collect();
        let interval = bootstrap_mean_interval(&values, 2000, 1).expect("values");
        assert_eq!(bootstrap_mean_interval(&values, 2000, 1), Some(interval));
        let width = interval[1] - interval[0];
        assert!((width - 0.0566).abs() < 0.006, "{width}");
        let middle = mean(&values).expect("values");
        assert!(interval[0] < middle && middle < interval[1]);
        assert_eq!(bootstrap_mean_interval(&[], 10, 1), None);
        assert_eq!(bootstrap_mean_interval(&[2.0; 5], 10, 1), Some([2.0, 2.0]));
    }
}
