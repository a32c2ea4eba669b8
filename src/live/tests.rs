//! The pipeline with fake trackers and sources: what arrives, what is dropped, how it ends.

use super::*;
use crate::{
    geometry::{FaceBox, Point},
    sink::{self, JsonLines},
    source::{FrameStamp, SourceState, demo},
};
use std::thread;

/// Knows where the demo's face is; takes `delay` for it.
struct Oracle {
    delay: Duration,
    faces: Vec<TrackedFace>,
    counts: TrackerCounts,
    resets: Arc<AtomicBool>,
}

impl Oracle {
    fn new(delay: Duration) -> Self {
        Self {
            delay,
            faces: Vec::new(),
            counts: TrackerCounts::default(),
            resets: Arc::default(),
        }
    }
}

impl FaceTracker for Oracle {
    fn scheme(&self) -> Scheme {
        Scheme::Mtfl5
    }

    fn model_name(&self) -> &str {
        "oracle"
    }

    fn track(&mut self, _: &Frame, time_secs: f64) -> Result<&[TrackedFace], InferError> {
        thread::sleep(self.delay);
        let map = demo::frame_from_portrait(time_secs);
        let places = [
            (200.0, 110.0),
            (250.0, 110.0),
            (225.0, 130.0),
            (210.0, 150.0),
            (240.0, 150.0),
        ];
        let landmarks: Vec<Point> = places.map(|(x, y)| map * Point::new(x, y)).to_vec();
        self.counts.frames += 1;
        self.faces = vec![TrackedFace {
            id: 1,
            face_box: FaceBox::around(&landmarks).expect("five points"),
            score: 0.9,
            landmarks,
            confidence: 0.8,
            expected_errors_px: Vec::new(),
            pose: None,
            signals: None,
        }];
        Ok(&self.faces)
    }

    fn reset(&mut self) {
        self.resets.store(true, Ordering::Relaxed);
    }

    fn counts(&self) -> TrackerCounts {
        self.counts
    }
}

/// Small frames, one each millisecond, then the end, an error, or silence.
struct Clock {
    kind: SourceKind,
    frames: u64,
    next: u64,
    end: fn() -> Result<Option<FrameStamp>, SourceError>,
}

impl Clock {
    fn new(kind: SourceKind, frames: u64) -> Self {
        Self {
            kind,
            frames,
            next: 0,
            end: || Ok(None),
        }
    }
}

impl Source for Clock {
    fn kind(&self) -> SourceKind {
        self.kind
    }

    fn description(&self) -> String {
        "clock".to_owned()
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Option<FrameStamp>, SourceError> {
        if self.next == self.frames {
            return (self.end)();
        }
        thread::sleep(Duration::from_millis(1));
        frame.reshape(32, 24);
        frame.rgb_mut().fill(self.next as u8);
        self.next += 1;
        Ok(Some(FrameStamp {
            index: self.next - 1,
            time_secs: 1e-3 * (self.next - 1) as f64,
        }))
    }
}

fn oracle(millis: u64) -> Box<Oracle> {
    Box::new(Oracle::new(Duration::from_millis(millis)))
}

#[test]
fn a_recorded_source_loses_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let (json, pictures) = (
        folder.path().join("out.jsonl"),
        folder.path().join("pictures"),
    );
    let config = RunConfig {
        outputs: vec![
            Output::records("json", JsonLines::create(&json).expect("json")),
            Output::frames(
                "pictures",
                sink::open(&pictures, 30.0).expect("pictures"),
                4,
            ),
        ],
        known_motion: Some(demo::frame_from_portrait),
        ..RunConfig::default()
    };
    let source = Box::new(Clock::new(SourceKind::Recorded, 40));
    let (summary, error) = run(source, oracle(2), config);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(
        (summary.frames, summary.frames_with_face, summary.dropped),
        (40, 40, 0)
    );
    let tracking = summary.tracking_error.expect("known motion");
    assert!(
        tracking.percent.p99 < 0.01 && tracking.missed == 0,
        "{tracking:?}"
    );
    let latency = summary.latency_ms.expect("frames");
    assert!(latency.p50 >= 2.0, "{latency:?}");
    let text = std::fs::read_to_string(&json).expect("json");
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    let indices: Vec<u64> = lines
        .iter()
        .filter_map(|line| line["frame"].as_u64())
        .collect();
    assert_eq!(indices, (0..40).collect::<Vec<u64>>());
    assert_eq!(std::fs::read_dir(&pictures).expect("folder").count(), 10);
    assert_eq!(summary.written.len(), 2);
    assert!(
        summary.to_string().contains("tracking error  mean 0.00 %"),
        "{summary}"
    );
}

#[test]
fn a_live_source_never_waits_and_what_it_loses_is_counted() {
    let source = Box::new(Clock::new(SourceKind::Live, 150));
    let (summary, error) = run(source, oracle(10), RunConfig::default());
    assert!(error.is_none(), "{error:?}");
    assert_eq!(summary.frames + summary.dropped, 150);
    assert!(summary.dropped > 75, "{summary}");
}

#[test]
fn stills_are_looked_at_each_for_itself() {
    let tracker = oracle(0);
    let resets = Arc::clone(&tracker.resets);
    let (summary, _) = run(
        Box::new(Clock::new(SourceKind::Stills, 3)),
        tracker,
        RunConfig::default(),
    );
    assert_eq!((summary.frames, resets.load(Ordering::Relaxed)), (3, true));
}

#[test]
fn a_failing_source_keeps_what_was_done() {
    let folder = tempfile::tempdir().expect("folder");
    let json = folder.path().join("out.jsonl");
    let mut source = Clock::new(SourceKind::Recorded, 5);
    source.end = || Err(SourceError::CameraFeatureMissing);
    let config = RunConfig {
        outputs: vec![Output::records(
            "json",
            JsonLines::create(&json).expect("json"),
        )],
        ..RunConfig::default()
    };
    let (summary, error) = run(Box::new(source), oracle(0), config);
    assert!(matches!(error, Some(RunError::Source(_))), "{error:?}");
    assert_eq!(summary.frames, 5);
    assert_eq!(
        std::fs::read_to_string(&json)
            .expect("json")
            .lines()
            .count(),
        5
    );
}

#[test]
fn stopping_ends_a_source_that_hangs() {
    let mut source = Clock::new(SourceKind::Live, 3);
    source.end = || {
        thread::sleep(Duration::from_secs(600));
        Ok(None)
    };
    let stop = Arc::new(AtomicBool::new(false));
    let config = RunConfig {
        stop: Arc::clone(&stop),
        ..RunConfig::default()
    };
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        stop.store(true, Ordering::Relaxed);
    });
    let begun = Instant::now();
    let (summary, error) = run(Box::new(source), oracle(0), config);
    assert!(
        error.is_none() && summary.frames >= 1,
        "{error:?} {summary}"
    );
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_frame_limit_ends_the_run() {
    let config = RunConfig {
        frame_limit: Some(4),
        ..RunConfig::default()
    };
    let (summary, _) = run(
        Box::new(Clock::new(SourceKind::Recorded, 50)),
        oracle(0),
        config,
    );
    assert_eq!(summary.frames, 4);
}

/// Gives frames, is gone for a moment after the third, and waits for its end after the sixth.
struct Unplugged {
    frames: Clock,
    state: SourceState,
}

impl Source for Unplugged {
    fn kind(&self) -> SourceKind {
        SourceKind::Recorded
    }

    fn description(&self) -> String {
        "unplugged".to_owned()
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Option<FrameStamp>, SourceError> {
        if self.frames.next == 3 {
            self.state.lost("it was unplugged");
            self.state.back();
        }
        if self.frames.next == 6 {
            while self.state.pause(Duration::from_secs(60)) {}
            return Ok(None);
        }
        self.frames.next(frame)
    }

    fn state(&self) -> SourceState {
        self.state.clone()
    }
}

#[test]
fn after_an_outage_the_tracker_starts_anew_and_a_source_that_waits_is_ended() {
    let state = SourceState::default();
    let source = Box::new(Unplugged {
        frames: Clock::new(SourceKind::Recorded, 6),
        state: state.clone(),
    });
    let tracker = oracle(0);
    let resets = Arc::clone(&tracker.resets);
    let config = RunConfig {
        frame_limit: Some(6),
        ..RunConfig::default()
    };
    let (summary, error) = run(source, tracker, config);
    assert!(error.is_none(), "{error:?}");
    assert_eq!((summary.frames, state.outages()), (6, 1));
    assert!(resets.load(Ordering::Relaxed) && state.is_stopped());
}
