//! The outputs of a run, each in a lane of its own (`lane.rs`): what one of them does, be it slow, blocked or broken, the
//! others and the pipeline do not notice.
//!
//! Records go straight from inference to their outputs. Frames go through one more lane, which paints them once for all.

use super::{
    RunError,
    drawing::{Drawing, Painting},
    lane::{Consumer, Ending, Lane, LaneEnd, LaneSettings, Patience, WhenFull},
    stage::Inferred,
};
use crate::{
    frame::Frame,
    scheme::Scheme,
    sink::{DrawnFrame, FrameRecord, FrameSink, RecordSink, SinkError},
    source::FrameStamp,
    tracker::TrackedFace,
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Records that may wait for an output.
const RECORDS_QUEUED: usize = 256;
/// Painted frames that may wait for an output: a hiccup of an encoder, in memory that a board has.
const FRAMES_QUEUED: usize = 8;
/// Frames that may wait to be painted.
const UNPAINTED_QUEUED: usize = 2;

/// Where results go, with the name that messages use.
pub struct Output {
    name: String,
    kind: Kind,
}

enum Kind {
    Records(Box<dyn RecordSink>),
    Frames {
        sink: Box<dyn FrameSink>,
        every: u64,
    },
}

impl Output {
    /// Every analysed frame's record.
    pub fn records(name: impl Into<String>, sink: impl RecordSink + 'static) -> Self {
        Self {
            name: name.into(),
            kind: Kind::Records(Box::new(sink)),
        }
    }

    /// Each `every`-th analysed frame, drawn; 0 counts as 1.
    pub fn frames(name: impl Into<String>, sink: Box<dyn FrameSink>, every: u64) -> Self {
        Self {
            name: name.into(),
            kind: Kind::Frames {
                sink,
                every: every.max(1),
            },
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Output({})", self.name)
    }
}

/// What became of an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputReport {
    /// The output.
    pub name: String,
    /// Frames that it took.
    pub taken: u64,
    /// Frames that it lost, because it was too slow for a live source or was given up.
    pub dropped: u64,
    /// What it wrote, in words.
    pub written: Option<String>,
    /// Why it was closed before the end.
    pub failure: Option<String>,
}

/// How outputs are set up.
pub(super) struct OutputSettings {
    pub(super) painting: Painting,
    pub(super) scheme: Scheme,
    /// A full queue drops what comes, else the pipeline waits.
    pub(super) newest_wins: bool,
    pub(super) patience: Patience,
    pub(super) ending: Ending,
    /// Somebody watches beside the outputs.
    pub(super) watched: bool,
}

/// A frame's record in a queue.
#[derive(Debug, Default)]
struct Record {
    stamp: FrameStamp,
    faces: Vec<TrackedFace>,
    dropped: u64,
}

/// A painted frame in a queue.
#[derive(Debug, Default)]
struct Painted {
    frame: Frame,
    stamp: FrameStamp,
    name: Option<String>,
}

type OutputLane<T> = (String, Lane<T, Option<String>>);

/// All outputs of a run, as the inference thread holds them.
pub(super) struct Outputs {
    records: Vec<OutputLane<Record>>,
    painter: Option<Lane<Inferred, Vec<Ended>>>,
    /// Names of the outputs behind the painter.
    painted: Vec<String>,
    open: Arc<AtomicUsize>,
    watched: bool,
}

/// How the outputs ended.
pub(super) struct OutputsEnd {
    pub(super) reports: Vec<OutputReport>,
    /// The first failure.
    pub(super) error: Option<SinkError>,
}

type Ended = (OutputReport, Option<SinkError>);

impl Outputs {
    /// Starts a lane for each output.
    pub(super) fn start(outputs: Vec<Output>, settings: OutputSettings) -> Result<Self, RunError> {
        let open = Arc::new(AtomicUsize::new(0));
        let mut patience = settings.patience;
        if outputs.len() == 1 && !settings.watched {
            // Whom would it harm? A pipe's reader may take its time, such as a pager.
            patience.item = None;
        }
        let lane = |name: &str, capacity| LaneSettings {
            name: name.to_owned(),
            capacity,
            when_full: if settings.newest_wins {
                WhenFull::Drop
            } else {
                WhenFull::Wait
            },
            patience,
            ending: settings.ending.clone(),
            open: Arc::clone(&open),
        };
        let failed = |error: std::io::Error| RunError::Thread {
            thread: "output",
            reason: error.to_string(),
        };
        let mut records = Vec::new();
        let mut frames = Vec::new();
        for Output { name, kind } in outputs {
            match kind {
                Kind::Records(sink) => {
                    let consumer = Box::new(Records(sink));
                    let lane = Lane::start(lane(&name, RECORDS_QUEUED), consumer);
                    records.push((name, lane.map_err(failed)?));
                }
                Kind::Frames { sink, every } => {
                    let consumer = Box::new(Frames(sink));
                    let lane = Lane::start(lane(&name, FRAMES_QUEUED), consumer);
                    frames.push((every, (name, lane.map_err(failed)?)));
                }
            }
        }
        let painted = frames.iter().map(|(_, (name, _))| name.clone()).collect();
        let painter = if frames.is_empty() {
            None
        } else {
            let painter = Box::new(Painter {
                drawing: Drawing::new(settings.scheme, settings.painting),
                picture: Frame::default(),
                given: 0,
                outputs: frames,
            });
            let settings = LaneSettings {
                // The painter waits for its outputs, and each of these waits is bounded.
                patience: Patience::ENDLESS,
                // It is no output itself.
                open: Arc::default(),
                ..lane("painter", UNPAINTED_QUEUED)
            };
            Some(Lane::start(settings, painter).map_err(failed)?)
        };
        Ok(Self {
            records,
            painter,
            painted,
            open,
            watched: settings.watched,
        })
    }

    /// Gives every output a frame's results.
    pub(super) fn offer(&mut self, inferred: &Inferred) {
        for (_, lane) in &mut self.records {
            lane.offer(|record| {
                record.stamp = inferred.stamp;
                record.dropped = inferred.dropped;
                keep_faces(&mut record.faces, &inferred.faces);
            });
        }
        if let Some(painter) = &mut self.painter {
            painter.offer(|kept| kept.copy_for_painting(inferred));
        }
    }

    /// There were outputs, each has ended, and nobody watches: nothing that follows can be of use.
    pub(super) fn nobody_is_left(&self) -> bool {
        let any = !self.records.is_empty() || self.painter.is_some();
        any && !self.watched && self.open.load(Ordering::Relaxed) == 0
    }

    /// Lets every output complete what it makes; each is waited for while it makes progress.
    pub(super) fn finish(self) -> OutputsEnd {
        // All of them begin to finish before the first is waited for.
        for (_, lane) in &self.records {
            lane.close();
        }
        if let Some(painter) = &self.painter {
            painter.close();
        }
        let mut ended: Vec<Ended> = self
            .records
            .into_iter()
            .map(|(name, lane)| report(name, lane.end()))
            .collect();
        if let Some(painter) = self.painter {
            let LaneEnd {
                dropped, result, ..
            } = painter.end();
            match result {
                Ok(painted) => ended.extend(painted.into_iter().map(|(mut report, error)| {
                    report.dropped += dropped;
                    (report, error)
                })),
                Err(failed) => {
                    let reason = failed.to_string();
                    ended.extend(self.painted.into_iter().map(|name| {
                        let report = OutputReport {
                            name,
                            failure: Some(reason.clone()),
                            ..OutputReport::default()
                        };
                        (report, None)
                    }));
                    // One error for all of them.
                    if let Some(last) = ended.last_mut() {
                        last.1 = Some(failed);
                    }
                }
            }
        }
        let (reports, errors): (Vec<_>, Vec<_>) = ended.into_iter().unzip();
        OutputsEnd {
            reports,
            error: errors.into_iter().flatten().next(),
        }
    }
}

fn report(name: String, end: LaneEnd<Option<String>>) -> Ended {
    let (written, error) = match end.result {
        Ok(written) => (written, None),
        Err(SinkError::ReaderGone) => (None, None),
        Err(error) => (None, Some(error)),
    };
    let report = OutputReport {
        name,
        taken: end.taken,
        dropped: end.dropped,
        written,
        failure: error.as_ref().map(ToString::to_string),
    };
    (report, error)
}

struct Records(Box<dyn RecordSink>);

impl Consumer<Record> for Records {
    type End = Option<String>;

    fn take(&mut self, record: &Record) -> Result<(), SinkError> {
        self.0.write(&FrameRecord {
            frame: record.stamp.index,
            time_secs: record.stamp.time_secs,
            faces: &record.faces,
            dropped: record.dropped,
            left_out: 0,
        })
    }

    fn finish(self: Box<Self>) -> Result<Self::End, SinkError> {
        self.0.finish()
    }
}

struct Frames(Box<dyn FrameSink>);

impl Consumer<Painted> for Frames {
    type End = Option<String>;

    fn take(&mut self, painted: &Painted) -> Result<(), SinkError> {
        self.0.write(DrawnFrame {
            frame: &painted.frame,
            index: painted.stamp.index,
            time_secs: painted.stamp.time_secs,
            name: painted.name.as_deref(),
        })
    }

    fn finish(self: Box<Self>) -> Result<Self::End, SinkError> {
        self.0.finish()
    }
}

/// Paints each frame once and passes it on.
struct Painter {
    drawing: Drawing,
    picture: Frame,
    given: u64,
    /// Each with how many frames make one for it.
    outputs: Vec<(u64, OutputLane<Painted>)>,
}

impl Consumer<Inferred> for Painter {
    type End = Vec<Ended>;

    fn take(&mut self, inferred: &Inferred) -> Result<(), SinkError> {
        // Also where nobody is due: what is blurred depends on the frames before.
        self.picture.clone_from(&inferred.frame);
        self.drawing.draw(&mut self.picture, inferred);
        self.drawing.write(&mut self.picture, inferred, false);
        for (every, (_, lane)) in &mut self.outputs {
            if self.given.is_multiple_of(*every) {
                lane.offer(|painted| {
                    painted.frame.clone_from(&self.picture);
                    painted.stamp = inferred.stamp;
                    painted.name.clone_from(&inferred.name);
                });
            }
        }
        self.given += 1;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Self::End, SinkError> {
        for (_, (_, lane)) in &self.outputs {
            lane.close();
        }
        let ends = self.outputs.into_iter();
        Ok(ends
            .map(|(_, (name, lane))| report(name, lane.end()))
            .collect())
    }
}

/// Copies faces into the buffers of earlier ones.
pub(super) fn keep_faces(kept: &mut Vec<TrackedFace>, faces: &[TrackedFace]) {
    kept.truncate(faces.len());
    for (kept, face) in kept.iter_mut().zip(faces) {
        let mut landmarks = std::mem::take(&mut kept.landmarks);
        landmarks.clone_from(&face.landmarks);
        let mut expected_errors_px = std::mem::take(&mut kept.expected_errors_px);
        expected_errors_px.clone_from(&face.expected_errors_px);
        *kept = TrackedFace {
            landmarks,
            expected_errors_px,
            ..*face
        };
    }
    for face in &faces[kept.len()..] {
        kept.push(face.clone());
    }
}

#[cfg(test)]
mod tests;
