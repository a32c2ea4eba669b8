//! How far a training is: what the log, the checkpoint and the report say of it.

use super::fit::{Finding, Memory};
use crate::metrics::{DetectionSummary, LandmarkSummary};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How far a training is. With the state vectors it decides every later step: a batch depends only on the recipe's
/// seed, the epoch and the batch's index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Epochs that are complete; also the index of the epoch that comes next or is under way.
    pub epoch: usize,
    /// Steps done in that epoch.
    pub step_in_epoch: usize,
    /// Steps done in all.
    pub step: u64,
    /// Sum of the losses of the steps done in that epoch.
    pub loss_sum: f64,
    /// Sums of the loss terms of the steps done in that epoch.
    pub term_sums: BTreeMap<String, f64>,
    /// Seconds spent in training steps and validation, over all sittings.
    pub seconds: f64,
    /// The smallest [`Validation::score`] so far.
    pub best_score: Option<f64>,
    /// One record a complete epoch.
    pub history: Vec<EpochRecord>,
    /// What the next look at the training needs.
    #[serde(default)]
    pub memory: Memory,
}

/// One epoch, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: usize,
    /// Steps done in all.
    pub step: u64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Mean loss of the epoch's steps.
    pub loss: f64,
    /// Mean of each loss term.
    pub terms: BTreeMap<String, f64>,
    /// Result on the validation split, with the averaged weights.
    pub validation: Option<Validation>,
    /// Seconds since the training began, over all sittings.
    pub seconds: f64,
    /// What was found to be wrong since the last record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// Result on a validation or test split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Validation {
    /// Of a landmark model.
    Landmarks(LandmarkValidation),
    /// Of a detector.
    Detector(DetectorValidation),
}

impl Validation {
    /// The number that chooses the best epoch: smaller is better.
    pub fn score(&self) -> f64 {
        match self {
            Self::Landmarks(result) => result.summary.nme_mean.unwrap_or(f64::INFINITY),
            // A false positive a picture costs as much as all recall.
            Self::Detector(result) => {
                1.0 - result.summary.recall50.unwrap_or(0.0)
                    + result
                        .summary
                        .false_positives_per_face_free_image
                        .unwrap_or(0.0)
            }
        }
    }

    /// The result in a line of words.
    pub fn in_words(&self) -> String {
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        match self {
            Self::Landmarks(result) => {
                let mut words = format!(
                    "NME {} % (median {}, mean shape {}), prediction variance ratio {}",
                    number(result.summary.nme_mean, 2),
                    number(result.summary.nme_median, 2),
                    number(result.baseline_nme_mean, 2),
                    number(result.prediction_variance_ratio, 2),
                );
                if let Some(presence) = &result.presence {
                    words += &format!(
                        ", presence right on {:.1} % of faces and {} % of backgrounds",
                        100.0 * presence.faces,
                        number(presence.backgrounds.map(|share| 100.0 * share), 1)
                    );
                }
                words
            }
            Self::Detector(result) => format!(
                "recall {} at IoU 0.5, precision {}, {} false positives a face-free picture, AP {}",
                number(result.summary.recall50, 3),
                number(result.summary.precision, 3),
                number(result.summary.false_positives_per_face_free_image, 3),
                number(result.summary.ap50, 3),
            ),
        }
    }
}

/// Landmark errors on a split, with true boxes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LandmarkValidation {
    /// The errors.
    #[serde(flatten)]
    pub summary: LandmarkSummary,
    /// Mean NME in percent of the mean training shape put into each true box.
    pub baseline_nme_mean: Option<f64>,
    /// Spread of the predictions over the spread of the labels, in the crop: near 0 the model has collapsed to the
    /// mean face.
    pub prediction_variance_ratio: Option<f64>,
    /// Mean NME in percent of each data set.
    pub sets: BTreeMap<String, f64>,
    /// How often the presence output is right; absent when the model has none.
    pub presence: Option<PresenceValidation>,
}

/// How often the presence output is right.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PresenceValidation {
    /// Share of the faces that are called a face.
    pub faces: f64,
    /// Share of the face-free crops that are called none; absent without such crops.
    pub backgrounds: Option<f64>,
}

/// Detection results on a split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DetectorValidation {
    /// The results.
    #[serde(flatten)]
    pub summary: DetectionSummary,
}

/// What is wrong with a training, in words, when its results say too little: `None` when nothing is.
///
/// `progress` is the share of the training that is done, 0 to 1.
pub fn trouble_in_words(result: &Validation, progress: f64) -> Option<String> {
    match result {
        Validation::Landmarks(result) => collapse_in_words(result, progress),
        Validation::Detector(result) => {
            let recall = result.summary.recall50?;
            (progress >= 1.0 / 3.0 && recall < 0.05).then(|| {
                format!(
                    "NOT LEARNING: {:.1} % of the faces are found at IoU 0.5. Check learning rate, labels and the \
                     factors of the loss",
                    100.0 * recall
                )
            })
        }
    }
}

/// What is wrong with a training, in words, when its landmark predictions say too little: `None` when nothing is.
///
/// `progress` is the share of the training that is done, 0 to 1.
fn collapse_in_words(result: &LandmarkValidation, progress: f64) -> Option<String> {
    if progress < 1.0 / 3.0 {
        return None;
    }
    if let Some(ratio) = result.prediction_variance_ratio
        && ratio < 0.1
    {
        return Some(format!(
            "COLLAPSED: the predictions vary {ratio:.3} times as much as the labels: the model answers every face \
             with nearly the same (mean) face. Change the learning rate, check the labels, or train longer"
        ));
    }
    let (nme, baseline) = (result.summary.nme_mean?, result.baseline_nme_mean?);
    (nme.is_nan() || nme >= 0.95 * baseline).then(|| {
        format!(
            "NOT LEARNING: NME {nme:.2} % is no better than the mean shape's {baseline:.2} %. Check learning rate, \
             labels and augmentation"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheme::Scheme;

    fn result(nme_mean: f64, prediction_variance_ratio: f64) -> LandmarkValidation {
        LandmarkValidation {
            summary: LandmarkSummary {
                nme_mean: Some(nme_mean),
                ..LandmarkSummary::of(Scheme::Ibug68, &[], 0, 0)
            },
            baseline_nme_mean: Some(17.0),
            prediction_variance_ratio: Some(prediction_variance_ratio),
            sets: BTreeMap::new(),
            presence: None,
        }
    }

    #[test]
    fn a_detector_that_finds_nothing_is_called_so() {
        for (recall50, progress, warned) in [
            (Some(0.0), 0.2, false),
            (Some(0.0), 0.5, true),
            (Some(0.6), 1.0, false),
            (None, 1.0, false),
        ] {
            let result = Validation::Detector(DetectorValidation {
                summary: DetectionSummary {
                    recall50,
                    ..DetectionSummary::default()
                },
            });
            assert_eq!(
                trouble_in_words(&result, progress).is_some(),
                warned,
                "{recall50:?} {progress}"
            );
        }
    }

    #[test]
    fn a_collapse_is_said_in_words_after_a_third() {
        for (nme, ratio, progress, expected) in [
            (17.0, 0.01, 0.2, None),
            (17.0, 0.01, 0.5, Some("COLLAPSED")),
            (16.5, 0.4, 0.5, Some("NOT LEARNING")),
            (30.0, 1.4, 1.0, Some("NOT LEARNING")),
            (9.0, 0.7, 1.0, None),
        ] {
            let words = collapse_in_words(&result(nme, ratio), progress);
            assert_eq!(
                words.as_deref().and_then(|words| words.split(':').next()),
                expected,
                "{nme} {ratio} {progress}"
            );
        }
    }
}
