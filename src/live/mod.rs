//! The live pipeline: a thread that captures, one that infers, and the caller's own that shows and writes. Between them
//! stand slots for one frame each; from a live source the newest frame wins, a recorded one waits.

mod motion;
mod slot;
mod stage;
mod summary;
mod view;

pub use motion::{KnownMotion, TrackingError};
pub use slot::{Slot, Taken};
pub use summary::{Latencies, Summary};

use crate::{
    frame::Frame,
    geometry::Affine,
    model::{Infer, InferError},
    scheme::Scheme,
    sink::{DrawnFrame, FrameSink, JsonLines, SinkError, Window},
    source::{Source, SourceError, SourceKind},
    tracker::{TrackedFace, Tracker, TrackerCounts},
};
use stage::{Captured, Inferred, Pace};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use view::View;

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
    /// Every analysed frame as a JSON line.
    pub json: Option<JsonLines>,
    /// Every analysed frame, drawn; see `output_every`.
    pub output: Option<Box<dyn FrameSink>>,
    /// Write only each n-th frame to `output`.
    pub output_every: u64,
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
    /// Folder for snapshots; empty: the current one.
    pub snapshot_folder: std::path::PathBuf,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            json: None,
            output: None,
            output_every: 1,
            window: None,
            realtime: false,
            frame_limit: None,
            stop: Arc::default(),
            known_motion: None,
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
    /// An output failed.
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
        source.description(),
        tracker.model_name().to_owned(),
        tracker.scheme(),
        config.snapshot_folder.clone(),
    );
    let stills = kind == SourceKind::Stills;
    let mut main = MainStage {
        window: config.window.take(),
        output: config.output.take(),
        output_every: config.output_every.max(1),
        stop: Arc::clone(&config.stop),
        captured: Arc::new(Slot::default()),
        inferred: Arc::new(Slot::default()),
        // A viewer of stills may look at the last one for as long as they like.
        stays: stills,
        given: 0,
    };
    let state = source.state();
    let pace = Pace {
        newest_wins,
        in_time: kind != SourceKind::Live && (config.realtime || main.window.is_some()),
    };
    let mut summary = Summary::new(source.description(), tracker.model_name().to_owned());
    let mut error = None;
    let capture = {
        let slot = Arc::clone(&main.captured);
        spawn("capture", move || stage::capture(source, &slot, pace))
    };
    let infer = {
        let (from, to) = (Arc::clone(&main.captured), Arc::clone(&main.inferred));
        let motion = config.known_motion;
        let settings = stage::InferSettings {
            newest_wins,
            keep_all_results: main.output.is_some() || !newest_wins,
            independent_frames: stills,
            frame_limit: config.frame_limit,
            json: config.json.take(),
            motion: motion.map(|map| KnownMotion::new(map, tracker.scheme())),
        };
        spawn("inference", move || {
            stage::infer(tracker, &from, &to, settings)
        })
    };
    if capture.is_ok() && infer.is_ok() {
        error = main.run(&mut view).err();
    }
    state.stop();
    main.captured.close();
    main.inferred.close();
    match infer.and_then(|thread| join("inference", thread, None)) {
        Ok(Some(end)) => {
            summary.take_inference(end.tally);
            error = error.or(end.error);
        }
        Ok(None) => {}
        Err(failed) => error = error.or(Some(failed)),
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
    if let Some(output) = main.output.take() {
        match output.finish() {
            Ok(written) => summary.written.extend(written),
            Err(failed) => error = error.or(Some(failed.into())),
        }
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
    output: Option<Box<dyn FrameSink>>,
    output_every: u64,
    stop: Arc<AtomicBool>,
    captured: Arc<Slot<Captured>>,
    inferred: Arc<Slot<Inferred>>,
    stays: bool,
    given: u64,
}

impl MainStage {
    fn run(&mut self, view: &mut View) -> Result<(), RunError> {
        let mut current = Inferred::default();
        let mut ended = false;
        while !self.stop.load(Ordering::Relaxed) {
            let taken = if ended || view.is_paused() {
                std::thread::sleep(POLL);
                Taken::Nothing
            } else {
                self.inferred.take_within(&mut current, POLL)
            };
            match taken {
                Taken::Fresh => self.give(view, &current)?,
                Taken::Closed => {
                    ended = true;
                    if !(self.stays && self.window.is_some()) {
                        break;
                    }
                }
                Taken::Nothing => {}
            }
            if let Some(window) = &mut self.window {
                match taken {
                    Taken::Fresh => window.show(view.picture_with_panels())?,
                    _ if view.needs_redraw() => window.show(view.picture_with_panels())?,
                    _ => window.keep()?,
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

    /// Draws a frame and passes it to the output.
    fn give(&mut self, view: &mut View, inferred: &Inferred) -> Result<(), RunError> {
        view.draw(inferred);
        let due = self.given.is_multiple_of(self.output_every);
        self.given += 1;
        if let (Some(output), true) = (&mut self.output, due) {
            output.write(DrawnFrame {
                frame: view.picture(),
                index: inferred.stamp.index,
                time_secs: inferred.stamp.time_secs,
                name: inferred.name.as_deref(),
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
