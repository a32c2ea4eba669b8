//! The live pipeline: a thread that captures, one that infers, and the caller's own that shows and writes. Between them
//! stand slots for one frame each; from a live source the newest frame wins, a recorded one waits.

mod drawing;
mod lane;
mod latency;
mod motion;
mod outputs;
mod slot;
mod stage;
mod status;
mod summary;
mod view;

pub use drawing::Painting;
pub use lane::Patience;
pub use latency::{Latencies, Stage};
pub use motion::{KnownMotion, TrackingError};
pub use outputs::{Output, OutputReport};
pub use slot::{Slot, Taken};
pub use summary::Summary;

use crate::{
    frame::Frame,
    geometry::Affine,
    model::{Infer, InferError},
    scheme::Scheme,
    sink::{SinkError, Window},
    source::{Source, SourceError, SourceKind, SourceState},
    tracker::{TrackedFace, Tracker, TrackerCounts},
};
use lane::Ending;
use outputs::{OutputSettings, Outputs};
use stage::{Captured, Inferred, Pace};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use view::{Subject, View};

/// What the pipeline needs of a tracker, whatever networks it holds.
pub trait FaceTracker: Send {
    /// Layout of the landmarks.
    fn scheme(&self) -> Scheme;

    /// Name of the landmark network.
    fn model_name(&self) -> &str;

    /// The faces of the next frame.
    ///
    /// # Errors
    /// A network failed.
    fn track(&mut self, frame: &Frame, time_secs: f64) -> Result<&[TrackedFace], InferError>;

    /// Forgets every face.
    fn reset(&mut self);

    /// What it has done so far.
    fn counts(&self) -> TrackerCounts;
}

impl<D: Infer + Send, L: Infer + Send> FaceTracker for Tracker<D, L> {
    fn scheme(&self) -> Scheme {
        Tracker::scheme(self)
    }

    fn model_name(&self) -> &str {
        &self.landmarker().model().card().name
    }

    fn track(&mut self, frame: &Frame, time_secs: f64) -> Result<&[TrackedFace], InferError> {
        Tracker::update(self, frame, time_secs)
    }

    fn reset(&mut self) {
        Tracker::reset(self);
    }

    fn counts(&self) -> TrackerCounts {
        Tracker::counts(self)
    }
}

/// Where the results of a run go, and how it goes.
pub struct RunConfig {
    /// Where results go besides the window. None of them can hold up or break another.
    pub outputs: Vec<Output>,
    /// How long outputs are waited for that make no progress.
    pub patience: Patience,
    /// What is drawn on frames.
    pub painting: Painting,
    /// Show frames in a window.
    pub window: Option<Window>,
    /// Play a recorded source at its own speed and drop frames when inference is slower, as a camera would.
    pub realtime: bool,
    /// End after this many analysed frames.
    pub frame_limit: Option<u64>,
    /// Set from outside, it ends the run as if the source had ended.
    pub stop: Arc<AtomicBool>,
    /// Map from a known still to the frame at a time in seconds, to measure tracking against.
    pub known_motion: Option<fn(f64) -> Affine>,
    /// What computes, in words, for displays: kernels, threads.
    pub engine: String,
    /// Folder for snapshots; empty: the current one.
    pub snapshot_folder: std::path::PathBuf,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            outputs: Vec::new(),
            patience: Patience::default(),
            painting: Painting::default(),
            window: None,
            realtime: false,
            frame_limit: None,
            stop: Arc::default(),
            known_motion: None,
            engine: String::new(),
            snapshot_folder: std::path::PathBuf::new(),
        }
    }
}

/// Why a run ended early. What was measured and written until then is in the [`Summary`] beside it.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A network failed.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// An output failed; the others went on. The summary tells of each.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A thread could not be started, or panicked.
    #[error("the {thread} thread failed: {reason}")]
    Thread {
        /// Which one.
        thread: &'static str,
        /// What is known.
        reason: String,
    },
}

/// How long the main thread waits for a frame before it looks at keys and at the stop flag.
const POLL: Duration = Duration::from_millis(10);

/// How long a source that does not give its next frame is waited for at the end.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Runs `source` through `tracker` until the source ends, the user quits or `stop` is set. The window, if any, belongs to
/// the calling thread, which must be the main one. Outputs are completed whatever ends the run.
pub fn run(
    source: Box<dyn Source>,
    tracker: Box<dyn FaceTracker>,
    mut config: RunConfig,
) -> (Summary, Option<RunError>) {
    let kind = source.kind();
    let newest_wins = kind == SourceKind::Live || config.realtime;
    let mut view = View::new(
        Subject {
            source: source.description(),
            model: tracker.model_name().to_owned(),
            engine: config.engine,
        },
        tracker.scheme(),
        config.snapshot_folder.clone(),
        config.painting,
    );
    let stills = kind == SourceKind::Stills;
    let mut main = MainStage {
        window: config.window.take(),
        stop: Arc::clone(&config.stop),
        captured: Arc::new(Slot::default()),
        inferred: Arc::new(Slot::default()),
        // A viewer of stills may look at the last one for as long as they like.
        stays: stills,
        ended: false,
        state: source.state(),
    };
    let state = main.state.clone();
    let pace = Pace {
        newest_wins,
        in_time: kind != SourceKind::Live && (config.realtime || main.window.is_some()),
    };
    let watched = main.window.is_some();
    let mut summary = Summary::new(source.description(), tracker.model_name().to_owned());
    let mut error = None;
    let ending = Ending {
        stop: config.stop,
        ..Ending::default()
    };
    let outputs = Outputs::start(
        config.outputs,
        OutputSettings {
            painting: config.painting,
            scheme: tracker.scheme(),
            newest_wins,
            patience: config.patience,
            ending: ending.clone(),
            watched,
        },
    );
    let outputs = match outputs {
        Ok(outputs) => outputs,
        Err(failed) => return (summary, Some(failed)),
    };
    let capture = {
        let slot = Arc::clone(&main.captured);
        spawn("capture", move || stage::capture(source, &slot, pace))
    };
    let infer = {
        let (from, to) = (Arc::clone(&main.captured), Arc::clone(&main.inferred));
        let motion = config.known_motion;
        let settings = stage::InferSettings {
            newest_wins,
            keep_all_results: !newest_wins,
            independent_frames: stills,
            frame_limit: config.frame_limit,
            outputs,
            motion: motion.map(|map| KnownMotion::new(map, tracker.scheme())),
        };
        spawn("inference", move || {
            stage::infer(tracker, &from, &to, settings)
        })
    };
    if capture.is_ok() && infer.is_ok() {
        error = main.run(&mut view).err();
    }
    // Whatever ended the main stage before its input did.
    ending.quit.store(!main.ended, Ordering::Relaxed);
    state.stop();
    main.captured.close();
    main.inferred.close();
    match infer.and_then(|thread| join("inference", thread, None)) {
        Ok(Some(end)) => {
            summary.take_inference(end.tally);
            summary.take_outputs(end.outputs.reports);
            error = error.or(end.error);
            error = error.or(end.outputs.error.map(RunError::from));
        }
        Ok(None) => {}
        Err(failed) => error = error.or(Some(failed)),
    }
    if watched {
        summary.take_stages([Stage::Show, Stage::All], view.latencies());
    }
    match capture.and_then(|thread| join("capture", thread, Some(PATIENCE))) {
        Ok(Some(end)) => {
            summary.skipped = end.skipped;
            error = error.or(end.error.map(RunError::from));
        }
        // A reader that hangs in its driver or pipe is left behind.
        Ok(None) => tracing::warn!("the source did not end in time"),
        Err(failed) => error = error.or(Some(failed)),
    }
    (summary, error)
}

fn spawn<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, RunError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| RunError::Thread {
            thread: name,
            reason: error.to_string(),
        })
}

/// Waits for a thread's end, for at most `patience`; `None` when it goes on.
fn join<T>(
    name: &'static str,
    thread: JoinHandle<T>,
    patience: Option<Duration>,
) -> Result<Option<T>, RunError> {
    if let Some(patience) = patience {
        let deadline = Instant::now() + patience;
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        if !thread.is_finished() {
            return Ok(None);
        }
    }
    thread.join().map(Some).map_err(|_| RunError::Thread {
        thread: name,
        reason: "it panicked".to_owned(),
    })
}

/// What the calling thread holds.
struct MainStage {
    window: Option<Window>,
    stop: Arc<AtomicBool>,
    captured: Arc<Slot<Captured>>,
    inferred: Arc<Slot<Inferred>>,
    stays: bool,
    /// There are no further frames.
    ended: bool,
    state: SourceState,
}

impl MainStage {
    fn run(&mut self, view: &mut View) -> Result<(), RunError> {
        let mut current = Inferred::default();
        while !self.stop.load(Ordering::Relaxed) {
            let taken = if self.ended || view.is_paused() {
                std::thread::sleep(POLL);
                Taken::Nothing
            } else {
                self.inferred.take_within(&mut current, POLL)
            };
            match taken {
                Taken::Fresh if self.window.is_some() => view.draw(&current),
                Taken::Fresh => {}
                Taken::Closed => {
                    self.ended = true;
                    if !(self.stays && self.window.is_some()) {
                        break;
                    }
                }
                Taken::Nothing => {}
            }
            if let Some(window) = &mut self.window {
                view.note_outage(self.state.outage());
                let fresh = taken == Taken::Fresh;
                if fresh || view.needs_redraw() || window.was_resized() {
                    let picture =
                        view.picture_with_panels(|frame, canvas| window.fit(frame, canvas));
                    window.show(picture)?;
                } else {
                    window.keep()?;
                }
                if fresh {
                    view.note_shown(&current);
                }
                for command in window.commands() {
                    view.handle(command);
                }
                if view.wants_to_quit() || !window.is_open() {
                    break;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
