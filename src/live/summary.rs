//! What a run measured: counts, rate, latency, tracking error.

use super::{
    KnownMotion, OutputReport, Stage, TrackingError,
    latency::{Latencies, StageLatencies},
    stage::FrameTimes,
};
use crate::{
    metrics::Percentiles,
    source::FrameStamp,
    tracker::{TrackedFace, TrackerCounts},
};
use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, Instant},
};

/// Frames over which the shown rate is taken.
const RATE_FRAMES: usize = 30;

/// What the inference thread counts.
pub(super) struct Tally {
    pub(super) frames: u64,
    pub(super) frames_with_face: u64,
    pub(super) dropped: u64,
    pub(super) counts: TrackerCounts,
    latencies: Latencies,
    stages: StageLatencies,
    motion: Option<KnownMotion>,
    next_index: u64,
    first_done: Option<Instant>,
    recent: VecDeque<Instant>,
}

impl Tally {
    pub(super) fn new(motion: Option<KnownMotion>) -> Self {
        Self {
            frames: 0,
            frames_with_face: 0,
            dropped: 0,
            counts: TrackerCounts::default(),
            latencies: Latencies::default(),
            stages: StageLatencies::default(),
            motion,
            next_index: 0,
            first_done: None,
            recent: VecDeque::with_capacity(RATE_FRAMES + 1),
        }
    }

    pub(super) fn add(&mut self, stamp: FrameStamp, faces: &[TrackedFace], times: &FrameTimes) {
        self.frames += 1;
        self.frames_with_face += u64::from(!faces.is_empty());
        self.dropped += stamp.index.saturating_sub(self.next_index);
        self.next_index = stamp.index + 1;
        self.latencies.add(times.latency());
        self.stages.add(Stage::Wait, times.begun - times.arrived);
        self.stages.add(Stage::Faces, times.done - times.begun);
        self.first_done.get_or_insert(times.done);
        self.recent.push_back(times.done);
        if self.recent.len() > RATE_FRAMES {
            self.recent.pop_front();
        }
        if let Some(motion) = &mut self.motion {
            let largest = faces
                .iter()
                .max_by(|a, b| a.face_box.area().total_cmp(&b.face_box.area()));
            motion.add(
                stamp.time_secs,
                largest.map(|face| face.landmarks.as_slice()),
            );
        }
    }

    /// Analysed frames a second over the last frames; 0 before the second one.
    pub(super) fn recent_frame_rate(&self) -> f64 {
        match (self.recent.front(), self.recent.back()) {
            (Some(first), Some(last)) => rate(self.recent.len() as u64, *last - *first),
            _ => 0.0,
        }
    }
}

fn rate(frames: u64, time: Duration) -> f64 {
    if time.is_zero() {
        return 0.0;
    }
    frames.saturating_sub(1) as f64 / time.as_secs_f64()
}

/// What a run measured.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The source, in words.
    pub source: String,
    /// Name of the landmark network.
    pub model: String,
    /// Frames that were analysed.
    pub frames: u64,
    /// Frames in which a face was found.
    pub frames_with_face: u64,
    /// Frames of the source that were not analysed, because newer ones were there.
    pub dropped: u64,
    /// Analysed frames a second, from the first to the last; 0 below two frames.
    pub frame_rate: f64,
    /// Milliseconds from a frame's arrival (a recorded source: from the moment it is taken up) to its landmarks.
    pub latency_ms: Option<Percentiles>,
    /// Milliseconds that frames spent in each stage; the last two with a window only.
    pub stages_ms: Vec<(Stage, Percentiles)>,
    /// Against the source's known motion.
    pub tracking_error: Option<TrackingError>,
    /// Runs of the networks, faces found and lost.
    pub counts: TrackerCounts,
    /// What the source left out, in words.
    pub skipped: Vec<String>,
    /// What was written, in words.
    pub written: Vec<String>,
    /// What became of each output.
    pub outputs: Vec<OutputReport>,
}

impl Summary {
    pub(super) fn new(source: String, model: String) -> Self {
        Self {
            source,
            model,
            ..Self::default()
        }
    }

    pub(super) fn take_inference(&mut self, tally: Tally) {
        self.frames = tally.frames;
        self.frames_with_face = tally.frames_with_face;
        self.dropped = tally.dropped;
        self.counts = tally.counts;
        self.latency_ms = tally.latencies.percentiles();
        self.take_stages([Stage::Wait, Stage::Faces], &tally.stages);
        if let (Some(first), Some(last)) = (tally.first_done, tally.recent.back()) {
            self.frame_rate = rate(tally.frames, *last - first);
        }
        self.tracking_error = tally.motion.and_then(|motion| motion.error());
    }
}

impl Summary {
    /// Takes what is known of `stages`.
    pub(super) fn take_stages(&mut self, stages: [Stage; 2], latencies: &StageLatencies) {
        let known = |stage| Some((stage, latencies.percentiles(stage)?));
        self.stages_ms.extend(stages.into_iter().filter_map(known));
    }

    pub(super) fn take_outputs(&mut self, reports: Vec<OutputReport>) {
        let written = reports.iter().filter_map(|report| report.written.clone());
        self.written.extend(written);
        self.outputs = reports;
    }
}

/// A distribution of milliseconds, as displays say it.
fn in_words(times: &Percentiles) -> String {
    format!(
        "p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms",
        times.p50, times.p95, times.p99
    )
}

/// The closing lines of a run.
impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "source          {}", self.source)?;
        writeln!(out, "model           {}", self.model)?;
        writeln!(
            out,
            "frames          {} analysed, {} with a face, {} dropped, {:.1} fps",
            self.frames, self.frames_with_face, self.dropped, self.frame_rate
        )?;
        writeln!(
            out,
            "faces           {} found, {} lost, detector ran {} times",
            self.counts.acquired, self.counts.lost, self.counts.detector_runs
        )?;
        if let Some(latency) = &self.latency_ms {
            writeln!(out, "latency         {}", in_words(latency))?;
        }
        for (stage, times) in &self.stages_ms {
            writeln!(out, "  {:<14}{}", stage.name(), in_words(times))?;
        }
        if let Some(TrackingError {
            percent,
            frames,
            missed,
        }) = self.tracking_error
        {
            writeln!(
                out,
                "tracking error  mean {:.2} %, p95 {:.2} % of the inter-ocular distance, over {frames} frames ({missed} \
                 without the face)",
                percent.mean, percent.p95
            )?;
        }
        if let Some(first) = self.skipped.first() {
            writeln!(
                out,
                "skipped         {}, the first: {first}",
                self.skipped.len()
            )?;
        }
        for written in &self.written {
            writeln!(out, "written         {written}")?;
        }
        for report in &self.outputs {
            if report.dropped > 0 {
                let OutputReport { name, dropped, .. } = report;
                writeln!(out, "lost            {dropped} frames by output {name}")?;
            }
            if let Some(failure) = &report.failure {
                writeln!(out, "failed          output {}: {failure}", report.name)?;
            }
        }
        Ok(())
    }
}
