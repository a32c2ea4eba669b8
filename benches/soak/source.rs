//! A camera that behaves badly, made of clips in a loop: it stalls, is unplugged, comes back with another frame size.

use facemark::{
    frame::Frame,
    source::{
        self, FrameStamp, Input, Source, SourceError, SourceKind, SourceState, demo::DemoSource,
    },
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Between two frames.
const FRAME: Duration = Duration::from_micros(33_333);

#[derive(Clone, Debug)]
pub(crate) enum Clip {
    File(PathBuf),
    Demo,
}

impl Clip {
    fn open(&self) -> Result<Box<dyn Source>, SourceError> {
        match self {
            Self::File(path) => source::open(&Input::Path(path.clone())),
            Self::Demo => Ok(Box::new(DemoSource::new())),
        }
    }
}

pub(crate) fn names(clips: &[Clip]) -> String {
    let name = |clip: &Clip| match clip {
        Clip::File(path) => path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        Clip::Demo => "demo".to_owned(),
    };
    clips.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Events {
    pub(crate) stalls: u64,
    pub(crate) unplugs: u64,
    pub(crate) resizes: u64,
    pub(crate) clips: u64,
    pub(crate) frames: u64,
}

/// A live source with a seed.
pub(crate) struct BadCamera {
    pub(crate) clips: Vec<Clip>,
    pub(crate) random: fastrand::Rng,
    pub(crate) until: Instant,
    pub(crate) events: Arc<Mutex<Events>>,
    pub(crate) state: SourceState,
    pub(crate) playing: Option<Box<dyn Source>>,
    pub(crate) whole: Frame,
    /// Frames are made smaller by this.
    pub(crate) shrink: usize,
    pub(crate) begun: Instant,
    pub(crate) due: Instant,
    pub(crate) index: u64,
}

impl BadCamera {
    fn note(&self, change: impl FnOnce(&mut Events)) {
        change(&mut self.events.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Something goes wrong about each eight seconds; whether to go on.
    fn misbehave(&mut self) -> bool {
        if self.random.u32(0..240) != 0 {
            return true;
        }
        match self.random.u32(0..3) {
            0 => {
                self.note(|events| events.stalls += 1);
                let secs = 0.2 + 1.6 * self.random.f64();
                self.state.pause(Duration::from_secs_f64(secs))
            }
            1 => {
                self.note(|events| events.unplugs += 1);
                self.state.lost("the soak's camera was unplugged");
                // What a camera was doing is gone with it.
                self.playing = None;
                let secs = 0.3 + 2.0 * self.random.f64();
                let goes_on = self.state.pause(Duration::from_secs_f64(secs));
                self.state.back();
                goes_on
            }
            _ => {
                self.note(|events| events.resizes += 1);
                self.shrink = self.random.usize(1..4);
                true
            }
        }
    }

    fn read(&mut self) -> Result<(), SourceError> {
        // A clip that is shorter than a frame would go round for ever.
        for _ in 0..3 {
            if let Some(playing) = &mut self.playing
                && playing.next(&mut self.whole)?.is_some()
            {
                return Ok(());
            }
            let clip = &self.clips[self.random.usize(0..self.clips.len())];
            self.playing = Some(clip.open()?);
            self.note(|events| events.clips += 1);
        }
        Ok(())
    }
}

impl Source for BadCamera {
    fn kind(&self) -> SourceKind {
        SourceKind::Live
    }

    fn description(&self) -> String {
        "the soak's camera".to_owned()
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Option<FrameStamp>, SourceError> {
        if !self.misbehave() {
            return Ok(None);
        }
        self.read()?;
        shrink(&self.whole, self.shrink, frame);
        let now = Instant::now();
        self.due = (self.due + FRAME).max(now);
        if !self.state.pause(self.due - now) || self.due > self.until {
            return Ok(None);
        }
        let stamp = FrameStamp {
            index: self.index,
            time_secs: (self.due - self.begun).as_secs_f64(),
        };
        self.index += 1;
        self.note(|events| events.frames += 1);
        Ok(Some(stamp))
    }

    fn captured_at(&self) -> Option<Instant> {
        Some(self.due)
    }

    fn state(&self) -> SourceState {
        self.state.clone()
    }
}

/// Every `factor`-th pixel.
fn shrink(from: &Frame, factor: usize, to: &mut Frame) {
    if factor == 1 {
        to.clone_from(from);
        return;
    }
    let (width, height) = (
        (from.width() / factor).max(1),
        (from.height() / factor).max(1),
    );
    to.reshape(width, height);
    for y in 0..height {
        for x in 0..width {
            to.set_pixel(x, y, from.pixel(factor * x, factor * y));
        }
    }
}
