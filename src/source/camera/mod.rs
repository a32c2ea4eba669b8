//! Webcams. A [`Device`] is a camera behind its driver; [`CameraSource`] makes a source of one that lasts: a thread of its
//! own reads without a pause, the newest picture wins and is the only one that is decoded, and a camera that falls silent
//! or is unplugged is waited for. `v4l2` is the device of Linux; tests plant others.

mod decode;
mod device;
mod errors;
#[cfg(feature = "camera")]
mod find;
pub mod ladder;
mod offer;
mod reader;
#[cfg(feature = "camera")]
mod v4l2;

pub use device::{Device, Mode, Opened, Picture, PixelFormat, Rate};
pub use errors::CameraError;
pub use offer::{Offer, Rates, Sizes, modes};

use super::{FrameStamp, Source, SourceError, SourceKind, SourceState};
use crate::frame::Frame;
use decode::Decoder;
use reader::{Found, Shared, Taken, Words};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long is waited for what.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// A camera that gives no picture for so long is gone.
    silence: Duration,
    /// A driver that does not come back from a call for so long is left alone with its thread.
    stuck: Duration,
    /// The first opening; each refused mode costs calls of the driver.
    opening: Duration,
    /// The longest single wait, after which it is looked whether anybody still wants pictures.
    slice: Duration,
    /// Before the first attempt to open a camera again; doubles up to the longest.
    first_pause: Duration,
    longest_pause: Duration,
}

const PATIENCE: Patience = Patience {
    silence: Duration::from_secs(2),
    stuck: Duration::from_secs(15),
    opening: Duration::from_secs(20),
    slice: Duration::from_millis(100),
    first_pause: Duration::from_millis(100),
    longest_pause: Duration::from_secs(1),
};

/// Threads that may be left behind in a driver that does not answer. Then the last one is waited for.
const STUCK_THREADS: u32 = 3;

/// Makes a device for the same camera; the one before it may still hang in its driver.
pub type DeviceMaker = Box<dyn FnMut() -> Box<dyn Device> + Send>;

/// A camera that is waited for when it is gone.
pub struct CameraSource {
    index: u32,
    make: DeviceMaker,
    shared: Arc<Shared>,
    state: SourceState,
    words: Words,
    opened: Arc<Opened>,
    decoder: Decoder,
    /// The picture that is being decoded; changes places with the newest one.
    picture: Picture,
    /// The opening that the last picture came from.
    connection: u64,
    /// Pictures made by earlier threads, and by this one at the last frame.
    made_before: u64,
    made: u64,
    start: Option<Instant>,
    captured_at: Option<Instant>,
    /// When the first damaged picture came after which there was no whole one.
    damaged_since: Option<Instant>,
    stuck_threads: u32,
    skipped: Vec<String>,
}

impl CameraSource {
    /// Opens camera `index` of Linux. `give_up_after`: how long it may be gone later before the source fails.
    ///
    /// # Errors
    /// [`SourceError::NoCamera`] and [`SourceError::Camera`].
    #[cfg(feature = "camera")]
    pub fn open(index: u32, give_up_after: Option<Duration>) -> Result<Self, SourceError> {
        let nodes = v4l2::nodes();
        let Some(node) = nodes.iter().find(|node| node.number == index).cloned() else {
            return Err(SourceError::NoCamera {
                index,
                found: what_there_is(&nodes),
            });
        };
        let make = move || {
            Box::new(v4l2::LinuxCamera::new(node.clone(), nodes.clone())) as Box<dyn Device>
        };
        Self::with_device(index, Box::new(make), give_up_after)
    }

    /// Opens a camera whose devices `make` makes, one after the other; `index` is for messages.
    ///
    /// # Errors
    /// [`SourceError::Camera`].
    pub fn with_device(
        index: u32,
        make: DeviceMaker,
        give_up_after: Option<Duration>,
    ) -> Result<Self, SourceError> {
        Self::with_patience(index, make, give_up_after, PATIENCE)
    }

    fn with_patience(
        index: u32,
        mut make: DeviceMaker,
        give_up_after: Option<Duration>,
        patience: Patience,
    ) -> Result<Self, SourceError> {
        let failed = |reason| SourceError::Camera { index, reason };
        let state = SourceState::default();
        let mut words = Words {
            camera: format!("camera {index}"),
            patience,
            give_up_after,
            again: false,
        };
        let shared = reader::start(make(), state.clone(), words.clone()).map_err(failed)?;
        let opened = match shared.wait_until_opened(patience.opening) {
            Ok(opened) => opened,
            Err(error) => {
                shared.abandon();
                return Err(failed(error));
            }
        };
        words.again = true;
        Ok(Self {
            index,
            make,
            shared,
            state,
            words,
            opened,
            decoder: Decoder::default(),
            picture: Picture::default(),
            connection: 0,
            made_before: 0,
            made: 0,
            start: None,
            captured_at: None,
            damaged_since: None,
            stuck_threads: 0,
            skipped: Vec::new(),
        })
    }

    fn failed(&self, reason: CameraError) -> SourceError {
        SourceError::Camera {
            index: self.index,
            reason,
        }
    }

    /// Decodes the picture that was taken; `false` when it is damaged.
    fn decode(&mut self, taken: &Taken, frame: &mut Frame) -> bool {
        if taken.connection != self.connection {
            self.connection = taken.connection;
            self.decoder = Decoder::default();
            self.damaged_since = None;
            self.opened = Arc::clone(&taken.opened);
        }
        match self.decoder.decode(&self.picture, &taken.opened, frame) {
            Ok(()) => {
                self.damaged_since = None;
                true
            }
            Err(found) => {
                self.count_damaged(found);
                false
            }
        }
    }

    fn count_damaged(&mut self, found: String) {
        self.state.count_damaged();
        let damaged = self.state.damaged();
        if damaged == 1 {
            tracing::warn!(
                "camera {}: a damaged picture is skipped: {found}",
                self.index
            );
        } else {
            tracing::debug!("camera {}: damaged picture {damaged}: {found}", self.index);
        }
        // Counted from a damaged picture, not from the last whole one: whoever asks for frames may have been busy since.
        let since = *self.damaged_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.words.patience.silence {
            self.damaged_since = None;
            self.shared.reopen(CameraError::Damaged {
                found: found.clone(),
            });
        }
        // One line however many there are: a camera may run for weeks.
        match self.skipped.first_mut() {
            None => self
                .skipped
                .push(format!("camera {}: a damaged picture: {found}", self.index)),
            Some(line) => {
                let index = self.index;
                *line = format!("camera {index}: {damaged} damaged pictures, the last: {found}");
            }
        }
    }

    /// Leaves a thread behind that its driver does not give back, and starts another.
    fn watch(&mut self, alive: Instant) -> Result<(), CameraError> {
        let silent = alive.elapsed();
        let patience = self.words.patience;
        if silent < patience.silence {
            return Ok(());
        }
        let stuck = || CameraError::Stuck {
            seconds: silent.as_secs_f64(),
        };
        if self.state.outage().is_none() {
            let reason = format!("camera {} is gone: {}; waiting for it", self.index, stuck());
            tracing::warn!("{reason}");
            self.state.lost(reason);
        }
        if let (Some(limit), Some(outage)) = (self.words.give_up_after, self.state.outage())
            && outage.since.elapsed() >= limit
        {
            return Err(stuck());
        }
        if silent >= patience.stuck && self.stuck_threads < STUCK_THREADS {
            tracing::warn!("camera {}: opened anew, because {}", self.index, stuck());
            self.stuck_threads += 1;
            self.shared.abandon();
            self.made_before += self.made;
            self.made = 0;
            self.connection = 0;
            self.shared = reader::start((self.make)(), self.state.clone(), self.words.clone())?;
        }
        Ok(())
    }
}

impl Source for CameraSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Live
    }

    fn description(&self) -> String {
        format!(
            "camera {} ({}), {}",
            self.index, self.opened.name, self.opened.mode
        )
    }

    fn frame_rate(&self) -> Option<f64> {
        self.opened.mode.rate.map(Rate::hertz)
    }

    fn frame_size(&self) -> Option<(usize, usize)> {
        let mode = &self.opened.mode;
        Some((mode.width as usize, mode.height as usize))
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Option<FrameStamp>, SourceError> {
        while !self.state.is_stopped() {
            let slice = self.words.patience.slice;
            let taken = match self.shared.take(&mut self.picture, slice) {
                Found::Picture(taken) => taken,
                Found::Nothing(alive) => {
                    self.watch(alive).map_err(|error| self.failed(error))?;
                    continue;
                }
                Found::End(error) => return Err(self.failed(error)),
            };
            self.made = taken.made;
            if !self.decode(&taken, frame) {
                continue;
            }
            if let Some(gone) = self.shared.say_back(taken.connection, &self.state) {
                tracing::warn!(
                    "camera {} is back after {:.1} s",
                    self.index,
                    gone.as_secs_f64()
                );
            }
            let captured_at = self.picture.captured_at.unwrap_or_else(Instant::now);
            // Drivers' clocks are not trusted to run forwards.
            let captured_at = self
                .captured_at
                .map_or(captured_at, |at| at.max(captured_at));
            self.captured_at = Some(captured_at);
            let start = *self.start.get_or_insert(captured_at);
            return Ok(Some(FrameStamp {
                index: self.made_before + taken.made - 1,
                time_secs: captured_at.duration_since(start).as_secs_f64(),
            }));
        }
        Ok(None)
    }

    fn captured_at(&self) -> Option<Instant> {
        self.captured_at
    }

    fn state(&self) -> SourceState {
        self.state.clone()
    }

    fn skipped(&self) -> &[String] {
        &self.skipped
    }
}

#[cfg(feature = "camera")]
fn what_there_is(nodes: &[find::Node]) -> String {
    let there: Vec<String> = nodes
        .iter()
        .map(|node| format!("{} ({})", node.number, node.name))
        .collect();
    let there = if there.is_empty() {
        "none".to_owned()
    } else {
        there.join(", ")
    };
    format!("looked for {} and found {there}", super::CAMERA_PLACES)
}

/// The cameras of this machine and what they offer. None of them is started.
#[cfg(feature = "camera")]
pub(super) fn list() -> Vec<super::CameraDescription> {
    v4l2::nodes()
        .into_iter()
        .map(|node| {
            let (offers, note, problem) = match v4l2::inspect(&node) {
                Ok(inspection) => (inspection.offers, inspection.note, None),
                Err(error) => (Vec::new(), None, Some(error)),
            };
            super::CameraDescription::new(
                node.number,
                node.name,
                &node.place,
                offers,
                note,
                problem,
            )
        })
        .collect()
}

impl Drop for CameraSource {
    fn drop(&mut self) {
        self.state.stop();
        self.shared.abandon();
        // The camera is free for others when this returns, unless its driver hangs.
        let deadline = Instant::now() + Duration::from_millis(500);
        while Arc::strong_count(&self.shared) > 1 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests;
