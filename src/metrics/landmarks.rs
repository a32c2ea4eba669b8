//! Errors of landmarks against their labels, a face and a set of faces.

use super::{bootstrap_mean_interval, mean, percentile};
use crate::{
    geometry::{FaceBox, Point},
    scheme::Scheme,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A face whose NME lies above this many percent counts as a failure, and the area under the CED curve ends here.
pub const FAILURE_NME: f64 = 8.0;

/// Resamples and seed of the confidence interval, fixed so that a report can be reproduced.
const BOOTSTRAP: (usize, u64) = (1000, 1);

/// The length that makes an error independent of the picture's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalizer {
    /// Distance of the labelled outer eye corners (iBUG 36 and 45).
    OuterEyeCorners,
    /// Distance of the labelled eye centres.
    EyeCenters,
    /// Square root of the face box's area, for schemes without eyes.
    BoxSize,
}

impl Normalizer {
    /// The normaliser of a scheme.
    pub const fn of(scheme: Scheme) -> Self {
        match scheme {
            Scheme::Ibug68 | Scheme::Imm58 | Scheme::ImmFrontal73 => Self::OuterEyeCorners,
            Scheme::Mtfl5 => Self::EyeCenters,
            Scheme::Nose1 => Self::BoxSize,
        }
    }

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OuterEyeCorners => "outer eye corners",
            Self::EyeCenters => "eye centres",
            Self::BoxSize => "square root of the box area",
        }
    }
}

/// The length that a face's error is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormalizingLength {
    /// What it is.
    pub normalizer: Normalizer,
    /// Its pixels, in the picture of the labels.
    pub pixels: f64,
}

impl NormalizingLength {
    /// From the labels of a face; `None` when the length is not positive.
    pub fn of(scheme: Scheme, truth: &[Point], face_box: &FaceBox) -> Option<Self> {
        let pixels = match scheme.inter_ocular_distance(truth) {
            Some(distance) => distance,
            None => face_box.area().sqrt(),
        };
        (pixels > 0.0).then_some(Self {
            normalizer: Normalizer::of(scheme),
            pixels: f64::from(pixels),
        })
    }
}

/// The error of one face.
#[derive(Clone, Debug, PartialEq)]
pub struct FaceError {
    /// Normalised mean error: mean point-to-point distance over the normaliser, in percent.
    pub nme: f64,
    /// What it is normalised by.
    pub normalizer: Normalizer,
    /// The same over the 51 points without the jaw; ibug68 only.
    pub nme_inner51: Option<f64>,
    /// Mean of |dx| and |dy| over all coordinates, in pixels of the SOURCE picture.
    pub mae_px: f64,
    /// The same as `nme` over each region of the scheme, in the order of [`Scheme::regions`].
    pub regions: Vec<(&'static str, f64)>,
}

impl FaceError {
    /// Compares `predicted` with `truth`, both in the same picture; `original_scale` is the source picture's pixels in
    /// one pixel of that picture ([`crate::annotation::LandmarkRecord::original_scale`]).
    ///
    /// `None` when the number of points is not the scheme's.
    pub fn measure(
        scheme: Scheme,
        predicted: &[Point],
        truth: &[Point],
        length: NormalizingLength,
        original_scale: f32,
    ) -> Option<Self> {
        let count = scheme.landmark_count();
        if predicted.len() != count || truth.len() != count {
            return None;
        }
        let percent = 100.0 / length.pixels;
        let distances: Vec<f64> = predicted
            .iter()
            .zip(truth)
            .map(|(predicted, truth)| f64::from(predicted.distance(*truth)))
            .collect();
        let absolute: f64 = predicted
            .iter()
            .zip(truth)
            .map(|(predicted, truth)| {
                f64::from((predicted.x - truth.x).abs()) + f64::from((predicted.y - truth.y).abs())
            })
            .sum();
        let region = |ranges: &[std::ops::Range<usize>]| {
            let inside: Vec<f64> = ranges
                .iter()
                .flat_map(|range| distances[range.clone()].iter().copied())
                .collect();
            mean(&inside).map(|distance| distance * percent)
        };
        Some(Self {
            nme: mean(&distances)? * percent,
            normalizer: length.normalizer,
            nme_inner51: match scheme {
                Scheme::Ibug68 => Some(mean(&distances[17..])? * percent),
                _ => None,
            },
            mae_px: absolute / (2 * count) as f64 * f64::from(original_scale),
            regions: scheme
                .regions()
                .iter()
                .filter_map(|part| Some((part.name, region(part.ranges)?)))
                .collect(),
        })
    }
}

/// The fraction of faces with an error above `limit`; a missed face (infinite error) is one. `None` without faces.
pub fn failure_rate(errors: &[f64], missed: usize, limit: f64) -> Option<f64> {
    let faces = errors.len() + missed;
    let failures = errors.iter().filter(|&&error| error > limit).count() + missed;
    (faces > 0).then(|| failures as f64 / faces as f64)
}

/// Area under the CED curve from 0 to `limit`, over `limit`: 0 to 1, higher is better. Exact, not sampled: a face adds
/// `max(0, 1 - error / limit) / faces`. A missed face adds nothing. `None` without faces.
pub fn auc(errors: &[f64], missed: usize, limit: f64) -> Option<f64> {
    let faces = errors.len() + missed;
    let area: f64 = errors
        .iter()
        .map(|error| (1.0 - error / limit).max(0.0))
        .sum();
    (faces > 0).then(|| area / faces as f64)
}

/// A point of the cumulative error distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CedPoint {
    /// Error in percent.
    pub nme: f64,
    /// Fraction of faces, 0 to 1, whose error is at most `nme`.
    pub fraction: f64,
}

impl CedPoint {
    /// The curve at `count + 1` equally spaced errors from 0 to `limit`. Missed faces count among all faces.
    pub fn curve(errors: &[f64], missed: usize, limit: f64, count: usize) -> Vec<Self> {
        let mut sorted = errors.to_vec();
        sorted.sort_by(f64::total_cmp);
        let faces = (sorted.len() + missed).max(1) as f64;
        (0..=count)
            .map(|step| {
                let nme = limit * step as f64 / count.max(1) as f64;
                let below = sorted.partition_point(|&error| error <= nme);
                Self {
                    nme,
                    fraction: below as f64 / faces,
                }
            })
            .collect()
    }
}

/// The landmark errors of a set of faces. Means and medians are over the faces that were measured; `fr8` and `auc8`
/// count a missed face as a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LandmarkSummary {
    /// Pictures.
    pub images: usize,
    /// Labelled faces, the missed ones included.
    pub faces: usize,
    /// Faces for which there is no prediction (not detected).
    pub missed: usize,
    /// Mean NME in percent.
    pub nme_mean: Option<f64>,
    /// 95 % bootstrap interval of `nme_mean`.
    pub nme_mean_interval95: Option<[f64; 2]>,
    /// Median NME in percent.
    pub nme_median: Option<f64>,
    /// 95th percentile of the NME in percent.
    pub nme_p95: Option<f64>,
    /// Mean NME in percent over the 51 points without the jaw; ibug68 only.
    pub nme_inner51_mean: Option<f64>,
    /// Failure rate at 8 %: the fraction of faces, 0 to 1, with an NME above it.
    pub fr8: Option<f64>,
    /// Area under the CED curve up to 8 %, 0 to 1.
    pub auc8: Option<f64>,
    /// Mean of |dx| and |dy| in pixels of the source pictures.
    pub mae_px: Option<f64>,
    /// What the errors (of the first face) are normalised by.
    pub normalizer: String,
    /// Mean NME in percent a region.
    pub regions: BTreeMap<String, f64>,
}

impl LandmarkSummary {
    /// Sums up `errors` of faces of `scheme` in `images` pictures; `missed` further faces have no prediction.
    pub fn of(scheme: Scheme, errors: &[FaceError], images: usize, missed: usize) -> Self {
        let nmes: Vec<f64> = errors.iter().map(|error| error.nme).collect();
        let mut sorted = nmes.clone();
        sorted.sort_by(f64::total_cmp);
        let inner: Vec<f64> = errors
            .iter()
            .filter_map(|error| error.nme_inner51)
            .collect();
        let absolute: Vec<f64> = errors.iter().map(|error| error.mae_px).collect();
        let regions = scheme.regions().iter().filter_map(|region| {
            let named = |error: &FaceError| {
                let found = error.regions.iter().find(|(name, _)| *name == region.name);
                found.map(|&(_, nme)| nme)
            };
            let values: Vec<f64> = errors.iter().filter_map(named).collect();
            Some((region.name.to_owned(), mean(&values)?))
        });
        let (resamples, seed) = BOOTSTRAP;
        Self {
            images,
            faces: errors.len() + missed,
            missed,
            nme_mean: mean(&nmes),
            nme_mean_interval95: bootstrap_mean_interval(&nmes, resamples, seed),
            nme_median: percentile(&sorted, 50.0),
            nme_p95: percentile(&sorted, 95.0),
            nme_inner51_mean: mean(&inner),
            fr8: failure_rate(&nmes, missed, FAILURE_NME),
            auc8: auc(&nmes, missed, FAILURE_NME),
            mae_px: mean(&absolute),
            normalizer: errors
                .first()
                .map_or_else(|| Normalizer::of(scheme), |error| error.normalizer)
                .name()
                .to_owned(),
            regions: regions.collect(),
        }
    }
}

/// Collects predictions and labels to tell a model that looks at the picture from one that says the mean face.
#[derive(Clone, Debug, Default)]
pub struct PredictionSpread {
    count: f64,
    /// Sum and sum of squares a coordinate.
    predicted: Vec<[f64; 2]>,
    labelled: Vec<[f64; 2]>,
}

impl PredictionSpread {
    /// Adds one face: flat coordinates in the units of the crop, prediction and label alike. Panics when the lengths
    /// differ from each other or from earlier faces.
    pub fn push(&mut self, predicted: &[f32], labelled: &[f32]) {
        if self.count == 0.0 {
            self.predicted = vec![[0.0; 2]; predicted.len()];
            self.labelled = vec![[0.0; 2]; predicted.len()];
        }
        assert_eq!(predicted.len(), labelled.len(), "a coordinate has a label");
        assert_eq!(predicted.len(), self.predicted.len(), "one scheme a spread");
        self.count += 1.0;
        let add = |sums: &mut [[f64; 2]], values: &[f32]| {
            for (sum, &value) in sums.iter_mut().zip(values) {
                sum[0] += f64::from(value);
                sum[1] += f64::from(value) * f64::from(value);
            }
        };
        add(&mut self.predicted, predicted);
        add(&mut self.labelled, labelled);
    }

    /// The prediction variance ratio: the mean over coordinates of var(prediction) / var(label), population variances.
    /// 0 for a constant prediction, 1 for a perfect one; below some 0.3 the model says little more than the mean shape.
    /// Coordinates whose labels do not vary are left out; `None` when none is left.
    pub fn ratio(&self) -> Option<f64> {
        let variance = |[sum, squares]: [f64; 2]| {
            let mean = sum / self.count;
            (squares / self.count - mean * mean).max(0.0)
        };
        let ratios: Vec<f64> = self
            .predicted
            .iter()
            .zip(&self.labelled)
            .map(|(&predicted, &labelled)| (variance(predicted), variance(labelled)))
            .filter(|&(_, labelled)| labelled > 1e-12)
            .map(|(predicted, labelled)| predicted / labelled)
            .collect();
        mean(&ratios)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACE: FaceBox = FaceBox::new(0.0, 0.0, 100.0, 25.0);

    fn assert_close(found: f64, expected: f64, what: &str) {
        assert!(
            (found - expected).abs() < 1e-5,
            "{what}: {found} {expected}"
        );
    }

    fn length(truth: &[Point]) -> NormalizingLength {
        NormalizingLength::of(Scheme::Ibug68, truth, &FACE).expect("eyes")
    }

    /// An ibug68 face whose outer eye corners are 50 pixels apart.
    fn face68() -> Vec<Point> {
        let mut points: Vec<Point> = (0..68)
            .map(|i| Point::new(i as f32, 2.0 * i as f32))
            .collect();
        points[36] = Point::new(10.0, 20.0);
        points[45] = Point::new(40.0, 60.0);
        points
    }

    #[test]
    fn errors_of_one_face_are_as_computed_by_hand() {
        let truth = face68();
        let mut predicted = truth.clone();
        for point in &mut predicted[..17] {
            *point = Point::new(point.x + 3.0, point.y - 4.0); // jaw off by 5 pixels
        }
        for point in &mut predicted[48..68] {
            point.x += 1.0; // mouth off by 1 pixel
        }
        let error = FaceError::measure(Scheme::Ibug68, &predicted, &truth, length(&truth), 2.0)
            .expect("68");
        assert_close(error.nme, (17.0 * 5.0 + 20.0) / 68.0 / 50.0 * 100.0, "nme");
        let inner = error.nme_inner51.expect("ibug68");
        assert_close(inner, 20.0 / 51.0 / 50.0 * 100.0, "inner51");
        // Coordinates: jaw 17 x (3 + 4), mouth 20 x 1, over 136, at two source pixels a pixel.
        assert_close(error.mae_px, (17.0 * 7.0 + 20.0) / 136.0 * 2.0, "mae");
        for (name, expected) in [
            ("jaw", 10.0),
            ("brows", 0.0),
            ("nose", 0.0),
            ("eyes", 0.0),
            ("mouth", 2.0),
        ] {
            let found = error.regions.iter().find(|(region, _)| *region == name);
            assert_close(found.expect(name).1, expected, name);
        }
    }

    #[test]
    fn a_scheme_without_eyes_is_normalised_by_the_box() {
        let (truth, predicted) = ([Point::new(5.0, 5.0)], [Point::new(8.0, 9.0)]);
        let by = NormalizingLength::of(Scheme::Nose1, &truth, &FACE).expect("a box");
        let error = FaceError::measure(Scheme::Nose1, &predicted, &truth, by, 1.0).expect("one");
        assert_close(error.nme, 5.0 / 50.0 * 100.0, "nme");
        assert_eq!(error.nme_inner51, None);
        assert_close(error.mae_px, 3.5, "mae");
    }

    #[test]
    fn what_cannot_be_measured_is_none() {
        let truth = face68();
        let short = &truth[..67];
        assert_eq!(
            FaceError::measure(Scheme::Ibug68, short, &truth, length(&truth), 1.0),
            None
        );
        let same = vec![Point::new(1.0, 1.0); 68];
        assert_eq!(NormalizingLength::of(Scheme::Ibug68, &same, &FACE), None);
    }

    fn faces(nmes: &[f64]) -> Vec<FaceError> {
        nmes.iter()
            .map(|&nme| FaceError {
                nme,
                normalizer: Normalizer::OuterEyeCorners,
                nme_inner51: Some(nme / 2.0),
                mae_px: 3.0 * nme,
                regions: vec![("jaw", nme + 1.0)],
            })
            .collect()
    }

    #[test]
    fn a_summary_is_as_computed_by_hand() {
        let summary = LandmarkSummary::of(Scheme::Ibug68, &faces(&[2.0, 4.0, 6.0, 16.0]), 3, 1);
        assert_eq!((summary.images, summary.faces, summary.missed), (3, 5, 1));
        for (found, expected, what) in [
            (summary.nme_mean, 7.0, "mean"),
            (summary.nme_median, 5.0, "median"),
            (summary.nme_p95, 14.5, "p95"), // rank 2.85
            (summary.nme_inner51_mean, 3.5, "inner51"),
            (summary.fr8, 2.0 / 5.0, "fr8"), // 16 % and the missed one
            (summary.auc8, (0.75 + 0.5 + 0.25) / 5.0, "auc8"),
            (summary.mae_px, 21.0, "mae"),
            (summary.regions.get("jaw").copied(), 8.0, "jaw"),
        ] {
            assert_close(found.expect(what), expected, what);
        }
        assert_eq!(summary.normalizer, "outer eye corners");
        let empty = LandmarkSummary::of(Scheme::Ibug68, &[], 0, 0);
        assert_eq!((empty.nme_mean, empty.fr8, empty.auc8), (None, None, None));
    }

    #[test]
    fn an_error_of_exactly_the_limit_is_no_failure() {
        assert_eq!(failure_rate(&[8.0, 8.1], 0, 8.0), Some(0.5));
    }

    #[test]
    fn the_curve_rises_to_the_fraction_that_was_found() {
        let curve = CedPoint::curve(&[1.0, 2.0, 7.9], 1, 8.0, 4);
        let fractions: Vec<f64> = curve.iter().map(|point| point.fraction).collect();
        assert_eq!(fractions, [0.0, 0.5, 0.5, 0.5, 0.75]);
        assert_eq!(curve[3].nme, 6.0);
    }

    #[test]
    fn the_curve_and_its_area_agree() {
        let errors = [0.5, 1.7, 3.3, 5.1, 9.0];
        let curve = CedPoint::curve(&errors, 1, 8.0, 80_000);
        let area = curve.iter().map(|point| point.fraction).sum::<f64>() / 80_001.0;
        let exact = auc(&errors, 1, 8.0).expect("faces");
        assert!((area - exact).abs() < 1e-4, "{area} {exact}");
    }

    #[test]
    fn the_variance_ratio_is_as_computed_by_hand() {
        // Labels of coordinate 0: -1, 1 (variance 1), of coordinate 1: 0, 4 (variance 4), of coordinate 2: constant.
        // Predictions: -0.5, 0.5 (0.25), 1, 3 (1), 0, 9 (left out). Ratio: (0.25 + 0.25) / 2.
        let mut spread = PredictionSpread::default();
        assert_eq!(spread.ratio(), None);
        spread.push(&[-0.5, 1.0, 0.0], &[-1.0, 0.0, 5.0]);
        spread.push(&[0.5, 3.0, 9.0], &[1.0, 4.0, 5.0]);
        assert_close(spread.ratio().expect("two vary"), 0.25, "ratio");
    }

    #[test]
    fn a_model_that_says_the_mean_shape_has_ratio_zero() {
        let mut spread = PredictionSpread::default();
        for label in [-1.0, 0.0, 2.0] {
            spread.push(&[0.25], &[label]);
        }
        assert_close(spread.ratio().expect("labels vary"), 0.0, "ratio");
    }
}
