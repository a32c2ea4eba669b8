//! The two threads behind the main one: capture and inference.

use super::{
    FaceTracker, KnownMotion, RunError, Slot,
    outputs::{Outputs, OutputsEnd, keep_faces},
    summary::Tally,
};
use crate::{
    frame::Frame,
    geometry::{Affine, FaceBox, Point},
    source::{FrameStamp, Source, SourceError},
    tracker::TrackedFace,
};
use std::time::{Duration, Instant};

/// A frame on its way to inference.
#[derive(Debug, Default)]
pub(super) struct Captured {
    frame: Frame,
    stamp: FrameStamp,
    name: Option<String>,
    at: Option<Instant>,
    /// How often the source's frames came again until this one.
    returns: u64,
}

/// A frame with its faces on its way to the main thread.
#[derive(Debug, Default)]
pub(super) struct Inferred {
    pub(super) frame: Frame,
    pub(super) stamp: FrameStamp,
    pub(super) name: Option<String>,
    pub(super) faces: Vec<TrackedFace>,
    /// When it passed what; `None` before the first frame.
    pub(super) times: Option<FrameTimes>,
    /// Analysed frames a second, lately.
    pub(super) frame_rate: f64,
    /// Frames of the source dropped so far.
    pub(super) dropped: u64,
    /// Whether the detector ran on this frame.
    pub(super) searched: bool,
}

/// When a frame passed what.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameTimes {
    /// Its capture; of a source that waits, the moment when it was taken up.
    pub(super) arrived: Instant,
    /// The beginning of its analysis.
    pub(super) begun: Instant,
    /// Its landmarks.
    pub(super) done: Instant,
}

impl FrameTimes {
    /// From its arrival to its landmarks.
    pub(super) fn latency(&self) -> Duration {
        self.done - self.arrived
    }
}

impl Inferred {
    /// Copies what a painter needs into the buffers of an earlier frame.
    pub(super) fn copy_for_painting(&mut self, from: &Self) {
        self.frame.clone_from(&from.frame);
        self.stamp = from.stamp;
        self.name.clone_from(&from.name);
        keep_faces(&mut self.faces, &from.faces);
        self.searched = from.searched;
    }
}

impl Inferred {
    /// Takes the faces of `from`, moved by a map that keeps shapes.
    pub(super) fn place_faces(&mut self, from: &Self, map: &Affine) {
        keep_faces(&mut self.faces, &from.faces);
        self.searched = from.searched;
        for face in &mut self.faces {
            for point in &mut face.landmarks {
                *point = *map * *point;
            }
            let FaceBox {
                x,
                y,
                width,
                height,
            } = face.face_box;
            let corner = *map * Point::new(x, y);
            let scale = map.scale();
            face.face_box = FaceBox::new(corner.x, corner.y, scale * width, scale * height);
            for error in &mut face.expected_errors_px {
                *error *= scale;
            }
        }
    }
}

/// How fast frames are taken from the source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// A frame that nobody took in time is dropped; else the source waits.
    pub(super) newest_wins: bool,
    /// No frame before its own time.
    pub(super) in_time: bool,
}

/// How the capture thread ended.
pub(super) struct CaptureEnd {
    pub(super) skipped: Vec<String>,
    pub(super) error: Option<SourceError>,
}

/// Reads frames until the source ends or the slot is closed.
pub(super) fn capture(
    mut source: Box<dyn Source>,
    slot: &Slot<Captured>,
    pace: Pace,
) -> CaptureEnd {
    let error = capture_all(source.as_mut(), slot, pace).err();
    slot.close();
    CaptureEnd {
        skipped: source.skipped().to_vec(),
        error,
    }
}

fn capture_all(
    source: &mut dyn Source,
    slot: &Slot<Captured>,
    pace: Pace,
) -> Result<(), SourceError> {
    let mut captured = Captured::default();
    let state = source.state();
    let mut start = None;
    while let Some(stamp) = source.next(&mut captured.frame)? {
        if pace.in_time {
            let due = Duration::from_secs_f64(stamp.time_secs.max(0.0));
            let start = *start.get_or_insert_with(Instant::now);
            if !slot.is_open_until(start + due) {
                break;
            }
        }
        captured.stamp = stamp;
        captured.name = source.frame_name();
        captured.at = Some(source.captured_at().unwrap_or_else(Instant::now));
        captured.returns = state.returns();
        let open = if pace.newest_wins {
            slot.replace(&mut captured)
        } else {
            slot.hand_over(&mut captured)
        };
        if !open {
            break;
        }
    }
    Ok(())
}

/// What the inference thread does besides inference.
pub(super) struct InferSettings {
    /// A live source: latency counts from the frame's arrival, else from the moment it was taken.
    pub(super) newest_wins: bool,
    /// The main thread gets every result, else the newest.
    pub(super) keep_all_results: bool,
    /// No frame has to do with the one before.
    pub(super) independent_frames: bool,
    /// Frames after which it is enough.
    pub(super) frame_limit: Option<u64>,
    pub(super) outputs: Outputs,
    pub(super) motion: Option<KnownMotion>,
}

/// How the inference thread ended.
pub(super) struct InferEnd {
    pub(super) tally: Tally,
    pub(super) outputs: OutputsEnd,
    pub(super) error: Option<RunError>,
}

/// Analyses frames until the first slot is closed and empty, or the second is closed.
pub(super) fn infer(
    mut tracker: Box<dyn FaceTracker>,
    from: &Slot<Captured>,
    to: &Slot<Inferred>,
    mut settings: InferSettings,
) -> InferEnd {
    let mut tally = Tally::new(settings.motion.take());
    let error = infer_all(tracker.as_mut(), from, to, &mut settings, &mut tally).err();
    from.close();
    to.close();
    tally.counts = tracker.counts();
    InferEnd {
        tally,
        outputs: settings.outputs.finish(),
        error,
    }
}

fn infer_all(
    tracker: &mut dyn FaceTracker,
    from: &Slot<Captured>,
    to: &Slot<Inferred>,
    settings: &mut InferSettings,
    tally: &mut Tally,
) -> Result<(), RunError> {
    let mut captured = Captured::default();
    let mut inferred = Inferred::default();
    let mut returns = 0;
    while settings
        .frame_limit
        .is_none_or(|limit| tally.frames < limit)
        && from.take(&mut captured)
    {
        let begun = Instant::now();
        // A face before an outage says nothing of where it is after it, and time has made a jump.
        if settings.independent_frames || captured.returns != returns {
            returns = captured.returns;
            tracker.reset();
        }
        let searches = tracker.counts().detector_runs;
        let faces = tracker.track(&captured.frame, captured.stamp.time_secs)?;
        let done = Instant::now();
        keep_faces(&mut inferred.faces, faces);
        let arrived = captured.at.filter(|_| settings.newest_wins);
        let times = FrameTimes {
            // A driver's clock may say a moment that is still to come.
            arrived: arrived.map_or(begun, |arrived| arrived.min(begun)),
            begun,
            done,
        };
        inferred.times = Some(times);
        tally.add(captured.stamp, &inferred.faces, &times);
        inferred.searched = tracker.counts().detector_runs > searches;
        inferred.stamp = captured.stamp;
        inferred.name.clone_from(&captured.name);
        inferred.dropped = tally.dropped;
        inferred.frame_rate = tally.recent_frame_rate();
        std::mem::swap(&mut inferred.frame, &mut captured.frame);
        settings.outputs.offer(&inferred);
        if settings.outputs.nobody_is_left() {
            break;
        }
        let open = if settings.keep_all_results {
            to.hand_over(&mut inferred)
        } else {
            to.replace(&mut inferred)
        };
        if !open {
            break;
        }
    }
    Ok(())
}
