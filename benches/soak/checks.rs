//! What a soak has seen, and what of it may not be.

pub(crate) use crate::faults::Check;
use crate::{process::Held, source::Events};
use facemark::{live::Summary, metrics::Percentiles};
use std::fmt;

/// Runs until caches, pools and the allocator have what they need.
const WARM_UP: usize = 2;
/// Growth of memory from the first to the last third that may be, in KiB, and as a part.
const RSS_SLACK_KIB: u64 = 16 * 1024;
const RSS_SLACK: f64 = 0.1;
/// By what factor the processor time of a dear frame may change.
const DRIFT: f64 = 1.5;

/// A check that failed.
pub(crate) struct Failure {
    pub(crate) check: Check,
    words: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.words)
    }
}

/// What was seen so far.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) panics: u64,
    held: Vec<Held>,
    /// Processor time of each frame in each run, in milliseconds: all but the first frame, which fills buffers.
    costs_ms: Vec<Vec<f32>>,
    events: Events,
    analysed: u64,
    dropped: u64,
    planted_failures: u64,
    wrong: Vec<(Check, String)>,
}

impl Record {
    pub(crate) fn runs(&self) -> usize {
        self.held.len()
    }

    /// What the process held after its first runs.
    pub(crate) fn usual(&self) -> Option<Held> {
        self.held.get(WARM_UP - 1).copied()
    }

    pub(crate) fn add_round(&mut self, events: Events, mut costs_ms: Vec<f32>, held: Held) {
        self.events.stalls += events.stalls;
        self.events.unplugs += events.unplugs;
        self.events.resizes += events.resizes;
        self.events.clips += events.clips;
        self.events.frames += events.frames;
        if events.frames == 0 {
            self.wrong
                .push((Check::Frames, "a run without a frame".to_owned()));
        }
        costs_ms.drain(..costs_ms.len().min(1));
        self.costs_ms.push(costs_ms);
        self.held.push(held);
    }

    /// `sound` and `lines`: records that the sound outputs took; `failing`: outputs that were to go wrong.
    pub(crate) fn add_outputs(
        &mut self,
        summary: &Summary,
        error: Option<String>,
        sound: u64,
        lines: u64,
        failing: u64,
    ) {
        self.analysed += summary.frames;
        self.dropped += summary.dropped;
        self.planted_failures += summary
            .outputs
            .iter()
            .filter(|output| output.failure.is_some())
            .count() as u64;
        let mut wrong = |words: String| self.wrong.push((Check::Outputs, words));
        for (name, taken) in [("the sound output", sound), ("the JSON file", lines)] {
            if taken != summary.frames {
                wrong(format!("{name} took {taken} of {} frames", summary.frames));
            }
        }
        for output in &summary.outputs {
            let may_fail = ["fails", "panics", "blocks"].contains(&output.name.as_str());
            if let (false, Some(failure)) = (may_fail, &output.failure) {
                wrong(format!("{}: {failure}", output.name));
            }
        }
        match error {
            Some(error) if failing == 0 => wrong(format!(
                "a run without a planted failure ended with: {error}"
            )),
            _ => {}
        }
    }

    pub(crate) fn status(&self) -> String {
        let held = self.held.last().copied().unwrap_or_default();
        let last = self
            .costs_ms
            .last()
            .and_then(|costs| percentiles(costs.iter().copied()));
        format!(
            "{} runs, {} frames, {:.1} MiB, {} descriptors, {} threads, p99 {:.2} ms of processor time, {} failures of outputs",
            self.held.len(),
            self.analysed,
            held.rss_kib as f64 / 1024.0,
            held.descriptors,
            held.threads,
            last.map_or(f64::NAN, |last| last.p99),
            self.planted_failures,
        )
    }

    /// Runs after the warm-up: those of the first, second and last third.
    fn thirds<T>(of: &[T]) -> [&[T]; 3] {
        let warm = &of[of.len().min(WARM_UP)..];
        let third = warm.len() / 3;
        [
            &warm[..third],
            &warm[third..warm.len() - third],
            &warm[warm.len() - third..],
        ]
    }

    fn thirds_of_memory(&self) -> [Option<u64>; 3] {
        Self::thirds(&self.held).map(|held| {
            let mut rss: Vec<u64> = held.iter().map(|held| held.rss_kib).collect();
            rss.sort_unstable();
            rss.get(rss.len() / 2).copied()
        })
    }

    fn thirds_of_costs(&self) -> [Option<Percentiles>; 3] {
        Self::thirds(&self.costs_ms).map(|runs| percentiles(runs.iter().flatten().copied()))
    }

    /// Everything that may not be.
    pub(crate) fn failures(&self) -> Vec<Failure> {
        let mut failures: Vec<Failure> = self
            .wrong
            .iter()
            .map(|(check, words)| Failure {
                check: *check,
                words: words.clone(),
            })
            .collect();
        let mut fail = |check, words| failures.push(Failure { check, words });
        if self.panics > 0 {
            fail(
                Check::Panics,
                format!("{} panics that nobody planted", self.panics),
            );
        }
        if let [Some(first), _, Some(last)] = self.thirds_of_memory() {
            let most = first + RSS_SLACK_KIB.max((RSS_SLACK * first as f64) as u64);
            if last > most {
                fail(
                    Check::Memory,
                    format!("memory grew from {first} to {last} KiB"),
                );
            }
        }
        if let (Some(usual), Some(last)) = (self.usual(), self.held.last()) {
            if last.descriptors > usual.descriptors {
                fail(
                    Check::Descriptors,
                    format!(
                        "descriptors grew from {} to {}",
                        usual.descriptors, last.descriptors
                    ),
                );
            }
            if last.threads > usual.threads {
                fail(
                    Check::Threads,
                    format!("threads grew from {} to {}", usual.threads, last.threads),
                );
            }
        }
        if let [Some(first), _, Some(last)] = self.thirds_of_costs()
            && (last.p99 > DRIFT * first.p99 || last.p50 > DRIFT * first.p50)
        {
            fail(
                Check::Drift,
                format!(
                    "a frame's processor time went from p50 {:.2} and p99 {:.2} to {:.2} and {:.2} ms",
                    first.p50, first.p99, last.p50, last.p99
                ),
            );
        }
        failures
    }
}

fn percentiles(costs_ms: impl Iterator<Item = f32>) -> Option<Percentiles> {
    let costs: Vec<f64> = costs_ms.map(f64::from).collect();
    Percentiles::of(&costs)
}

impl fmt::Display for Record {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Events {
            stalls,
            unplugs,
            resizes,
            clips,
            frames,
        } = self.events;
        writeln!(
            out,
            "{} runs: {frames} frames of {clips} clips, {} analysed, {} dropped; {stalls} stalls, {unplugs} unplugs, {resizes} \
             resizes, {} failures of outputs, {} panics that nobody planted",
            self.held.len(),
            self.analysed,
            self.dropped,
            self.planted_failures,
            self.panics
        )?;
        let memory = self.thirds_of_memory();
        let costs = self.thirds_of_costs();
        for (name, (memory, costs)) in ["first", "middle", "last"]
            .iter()
            .zip(memory.iter().zip(costs))
        {
            if let (Some(memory), Some(costs)) = (memory, costs) {
                writeln!(
                    out,
                    "{name} third: {:.1} MiB, processor time a frame p50 {:.2}, p99 {:.2} ms",
                    *memory as f64 / 1024.0,
                    costs.p50,
                    costs.p99
                )?;
            }
        }
        if let (Some(usual), Some(last)) = (self.usual(), self.held.last()) {
            write!(
                out,
                "descriptors {} and {}, threads {} and {} after run {WARM_UP} and at the end",
                usual.descriptors, last.descriptors, usual.threads, last.threads
            )?;
        }
        Ok(())
    }
}
