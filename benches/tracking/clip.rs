//! A source, tracked once: what the landmark network says frame by frame, and what a frame costs.

use crate::{detector, landmarker};
use anyhow::{Context, bail};
use facemark::{
    frame::Frame,
    geometry::{Affine, FaceBox, Point},
    smoothing::{LandmarkFilter, OneEuroConfig},
    source::{self, Input, Source, demo},
    tracker::{Tracker, TrackerConfig},
};
use rustix::time::{ClockId, clock_gettime};

/// Frames before the clock counts: buffers grow and caches fill.
const WARM_UP: usize = 10;

/// What was seen of one face.
pub(crate) struct Clip {
    /// Times in seconds and landmarks as the network says them; frames without a face have none.
    pub(crate) frames: Vec<(f64, Vec<Point>)>,
    /// Time of the process on processors for each frame with the default tracker, in milliseconds.
    pub(crate) cpu_ms: Vec<f64>,
    /// Of a source whose motion is known: from the portrait to the frame at a time.
    pub(crate) motion: Option<fn(f64) -> Affine>,
}

impl Clip {
    /// Tracks one face through `source`: a path, `demo`, or `demo-fast`, the demo's camera at three times its speed.
    pub(crate) fn track(source: &str) -> anyhow::Result<Self> {
        let motion: Option<fn(f64) -> Affine> = match source {
            "demo" => Some(demo::frame_from_portrait),
            "demo-fast" => Some(FastDemo::frame_from_portrait),
            _ => None,
        };
        let raw = TrackerConfig {
            max_faces: 1,
            smoothing: None,
            ..TrackerConfig::default()
        };
        let mut frames = Vec::new();
        run(source, raw, |time_secs, landmarks, _| {
            frames.push((time_secs, landmarks.to_vec()));
        })?;
        let mut cpu_ms = Vec::new();
        let smooth = TrackerConfig {
            max_faces: 1,
            ..TrackerConfig::default()
        };
        run(source, smooth, |_, _, spent| cpu_ms.push(spent))?;
        if frames.len() <= WARM_UP {
            bail!(
                "{source}: expected more than {WARM_UP} frames, found {}",
                frames.len()
            );
        }
        cpu_ms.drain(..WARM_UP);
        Ok(Self {
            frames,
            cpu_ms,
            motion,
        })
    }

    /// The landmarks of each frame after a filter, or as they are.
    pub(crate) fn filtered(&self, config: Option<OneEuroConfig>) -> Vec<Vec<Point>> {
        let mut filter = config.map(LandmarkFilter::new);
        let mut smooth = |(time_secs, landmarks): &(f64, Vec<Point>)| {
            let mut landmarks = landmarks.clone();
            if let Some(filter) = &mut filter {
                let tight = FaceBox::around(&landmarks).unwrap_or_default();
                filter.smooth(&mut landmarks, tight.width.max(tight.height), *time_secs);
            }
            landmarks
        };
        self.frames.iter().map(&mut smooth).collect()
    }
}

/// Calls `each` with time, landmarks and CPU milliseconds of every frame.
fn run(
    source: &str,
    config: TrackerConfig,
    mut each: impl FnMut(f64, &[Point], f64),
) -> anyhow::Result<()> {
    let mut tracker = Tracker::new(detector()?, landmarker()?, config);
    let mut frames: Box<dyn Source> = match source {
        "demo-fast" => Box::new(FastDemo::default()),
        source => source::open(&Input::parse(source, None)).with_context(|| source.to_owned())?,
    };
    let mut frame = Frame::default();
    while let Some(stamp) = frames.next(&mut frame)? {
        let start = process_cpu_ms();
        let faces = tracker.update(&frame, stamp.time_secs)?;
        let spent = process_cpu_ms() - start;
        let landmarks = faces.first().map_or(&[][..], |face| &face.landmarks);
        each(stamp.time_secs, landmarks, spent);
    }
    Ok(())
}

fn process_cpu_ms() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    1e3 * time.tv_sec as f64 + time.tv_nsec as f64 / 1e6
}

/// The demo with a camera that moves three times as fast.
#[derive(Default)]
struct FastDemo {
    demo: demo::DemoSource,
    frames: u64,
}

const FASTER: f64 = 3.0;

impl FastDemo {
    fn frame_from_portrait(time_secs: f64) -> Affine {
        demo::frame_from_portrait(FASTER * time_secs)
    }
}

impl Source for FastDemo {
    fn kind(&self) -> source::SourceKind {
        source::SourceKind::Recorded
    }

    fn description(&self) -> String {
        "the demo, faster".to_owned()
    }

    fn next(
        &mut self,
        frame: &mut Frame,
    ) -> Result<Option<source::FrameStamp>, source::SourceError> {
        if self.frames == demo::FRAME_COUNT {
            return Ok(None);
        }
        let stamp = source::FrameStamp {
            index: self.frames,
            time_secs: self.frames as f64 / demo::FRAME_RATE,
        };
        self.demo.render(FASTER * stamp.time_secs, frame);
        self.frames += 1;
        Ok(Some(stamp))
    }
}
