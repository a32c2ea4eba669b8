//! How long frames take on their way, stage by stage.

use crate::metrics::Percentiles;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Latencies that are kept: the percentiles of a long run are those of its last frames, in constant memory.
const KEPT: usize = 20_000;
/// Latencies behind a figure that is shown while it runs.
const SHOWN: usize = 150;
/// How long a shown figure stays, so that it can be read.
const STAYS: Duration = Duration::from_millis(500);

/// The latest latencies.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    milliseconds: VecDeque<f64>,
}

impl Latencies {
    /// Takes one.
    pub fn add(&mut self, latency: Duration) {
        if self.milliseconds.len() == KEPT {
            self.milliseconds.pop_front();
        }
        self.milliseconds.push_back(1e3 * latency.as_secs_f64());
    }

    /// Their distribution, in milliseconds; `None` without any.
    pub fn percentiles(&self) -> Option<Percentiles> {
        self.of_last(KEPT)
    }

    fn of_last(&self, count: usize) -> Option<Percentiles> {
        let skipped = self.milliseconds.len().saturating_sub(count);
        let values: Vec<f64> = self.milliseconds.iter().skip(skipped).copied().collect();
        Percentiles::of(&values)
    }
}

/// A stage of a frame's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From its capture until it is taken up: what a camera's queue and a busy processor cost.
    Wait,
    /// Finding its faces and landmarks.
    Faces,
    /// From its landmarks to its picture in the window.
    Show,
    /// From its capture to its picture in the window.
    All,
}

impl Stage {
    /// In the order of the way.
    pub const ALL: [Self; 4] = [Self::Wait, Self::Faces, Self::Show, Self::All];

    /// A word for displays.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Faces => "faces",
            Self::Show => "show",
            Self::All => "all",
        }
    }
}

/// The latencies of each stage.
#[derive(Clone, Debug, Default)]
pub(super) struct StageLatencies {
    stages: [Latencies; 4],
    shown: [Option<Percentiles>; 4],
    shown_since: Option<Instant>,
}

impl StageLatencies {
    pub(super) fn add(&mut self, stage: Stage, latency: Duration) {
        self.stages[stage as usize].add(latency);
    }

    /// The distribution over the whole run.
    pub(super) fn percentiles(&self, stage: Stage) -> Option<Percentiles> {
        self.stages[stage as usize].percentiles()
    }

    /// The distribution over the last frames; stays the same for half a second.
    pub(super) fn shown(&mut self, stage: Stage) -> Option<Percentiles> {
        if self.shown_since.is_none_or(|since| since.elapsed() > STAYS) {
            for (shown, latencies) in self.shown.iter_mut().zip(&self.stages) {
                *shown = latencies.of_last(SHOWN);
            }
            self.shown_since = self.shown[0].map(|_| Instant::now());
        }
        self.shown[stage as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_are_shown_are_of_the_last_frames_and_stay_a_moment() {
        let mut latencies = StageLatencies::default();
        assert!(latencies.shown(Stage::All).is_none());
        let many = |latencies: &mut StageLatencies, count: usize, millis: u64| {
            for _ in 0..count {
                for stage in Stage::ALL {
                    latencies.add(stage, Duration::from_millis(millis));
                }
            }
        };
        many(&mut latencies, SHOWN, 40);
        many(&mut latencies, SHOWN, 20);
        assert_eq!(latencies.shown(Stage::All).map(|all| all.p50), Some(20.0));
        assert_eq!(
            latencies.percentiles(Stage::Show).map(|show| show.p95),
            Some(40.0)
        );
        many(&mut latencies, SHOWN, 10);
        assert_eq!(
            latencies.shown(Stage::Wait).map(|wait| wait.p50),
            Some(20.0)
        );
        std::thread::sleep(STAYS + Duration::from_millis(20));
        assert_eq!(
            latencies.shown(Stage::Wait).map(|wait| wait.p50),
            Some(10.0)
        );
    }
}
