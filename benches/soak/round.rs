//! One run of the live path within a soak: a bad camera, the released networks, outputs of which some go wrong.

use crate::{
    checks::Record,
    faults::{Manner, Odd, Plant},
    process::{Held, thread_cpu_ms},
    source::{BadCamera, Clip, Events},
};
use anyhow::Context;
use facemark::{
    detector::{Detector, DetectorConfig},
    engine::{Engine, EngineOptions},
    frame::Frame,
    landmarker::Landmarker,
    live::{self, FaceTracker, Output, Patience, RunConfig},
    model::{Infer, InferError},
    scheme::Scheme,
    sink::{self, JsonLines},
    source::SourceState,
    tracker::{TrackedFace, Tracker, TrackerConfig, TrackerCounts},
};
use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What a run is to be.
pub(crate) struct Order<'a> {
    pub(crate) clips: &'a [Clip],
    pub(crate) duration: Duration,
    pub(crate) plant: Option<Plant>,
}

/// A tracker that notes what each frame costs its thread.
struct Timed {
    tracker: Tracker<Engine, Engine>,
    cpu_ms: Arc<Mutex<Vec<f32>>>,
    /// Milliseconds of useless work a frame.
    burden_ms: f64,
}

impl FaceTracker for Timed {
    fn scheme(&self) -> Scheme {
        self.tracker.scheme()
    }

    fn model_name(&self) -> &str {
        &self.tracker.landmarker().model().card().name
    }

    fn track(&mut self, frame: &Frame, time_secs: f64) -> Result<&[TrackedFace], InferError> {
        let begun = thread_cpu_ms();
        self.tracker.update(frame, time_secs)?;
        while thread_cpu_ms() - begun < self.burden_ms {
            std::hint::spin_loop();
        }
        let spent = (thread_cpu_ms() - begun) as f32;
        self.cpu_ms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(spent);
        Ok(self.tracker.faces())
    }

    fn reset(&mut self) {
        self.tracker.reset();
    }

    fn counts(&self) -> TrackerCounts {
        self.tracker.counts()
    }
}

fn load(name: &str) -> anyhow::Result<Engine> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("models")
        .join(name);
    Engine::load_with(&path, &EngineOptions::default()).with_context(|| path.display().to_string())
}

/// Runs once and adds what was seen to `record`.
pub(crate) fn run(
    order: &Order<'_>,
    random: &mut fastrand::Rng,
    record: &mut Record,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let detector = Detector::new(load("face-detector-int8.onnx")?, DetectorConfig::default())?;
    let landmarker = Landmarker::new(load("landmarks68-int8.onnx")?)?;
    let cpu_ms = Arc::new(Mutex::new(Vec::new()));
    let tracker = Timed {
        tracker: Tracker::new(detector, landmarker, TrackerConfig::default()),
        cpu_ms: Arc::clone(&cpu_ms),
        burden_ms: match order.plant {
            Some(Plant::Slower) => 4.0 * record.runs() as f64,
            _ => 0.0,
        },
    };
    let begun = Instant::now();
    let events = Arc::new(Mutex::new(Events::default()));
    let camera = BadCamera {
        clips: order.clips.to_vec(),
        random: random.fork(),
        until: begun + order.duration,
        events: Arc::clone(&events),
        state: SourceState::default(),
        playing: None,
        whole: Frame::default(),
        shrink: 1,
        begun,
        due: begun,
        index: 0,
    };
    let patience = Patience {
        item: Some(Duration::from_secs(2)),
        item_when_ending: Duration::from_secs(1),
        finish: Some(Duration::from_secs(10)),
    };
    let sound = Arc::new(AtomicU64::new(0));
    let mut outputs = vec![
        Output::records(
            "sound",
            Odd {
                manner: Manner::Sound,
                after: 0,
                block: Duration::ZERO,
                taken: Arc::clone(&sound),
                loses_each: if order.plant == Some(Plant::Loss) {
                    10
                } else {
                    0
                },
                seen: 0,
            },
        ),
        Output::records(
            "lines",
            JsonLines::create(&folder.path().join("faces.jsonl"))?,
        ),
        Output::frames(
            "pictures",
            sink::open(&folder.path().join("last.png"), 30.0)?,
            1,
        ),
    ];
    let mut failing = 0;
    for (name, manner) in [
        ("slow", Manner::Slow),
        ("fails", Manner::Fails),
        ("panics", Manner::Panics),
        ("blocks", Manner::Blocks),
    ] {
        if random.bool() {
            failing += u64::from(manner != Manner::Slow);
            let odd = Odd {
                manner,
                after: random.u64(1..120),
                // Its thread ends some time after it was given up.
                block: Duration::from_secs(4),
                taken: Arc::default(),
                loses_each: 0,
                seen: 0,
            };
            outputs.push(Output::records(name, odd));
        }
    }
    let config = RunConfig {
        outputs,
        patience,
        stop: Arc::new(AtomicBool::new(false)),
        ..RunConfig::default()
    };
    let (summary, error) = live::run(Box::new(camera), Box::new(tracker), config);
    if let Some(plant) = order.plant {
        plant.do_once();
    }
    let lines = std::fs::read_to_string(folder.path().join("faces.jsonl")).unwrap_or_default();
    record.add_outputs(
        &summary,
        error.map(|error| error.to_string()),
        sound.load(Ordering::Relaxed),
        lines.lines().count() as u64,
        failing,
    );
    drop(lines);
    folder.close()?;
    let events = *events.lock().unwrap_or_else(PoisonError::into_inner);
    let costs = std::mem::take(&mut *cpu_ms.lock().unwrap_or_else(PoisonError::into_inner));
    record.add_round(
        events,
        costs,
        Held::settled(record.usual(), Duration::from_secs(8))?,
    );
    Ok(())
}
