//! The thread that reads a camera without a pause into a place for one picture, the newest. It notices when the camera is
//! gone, says so, and opens it again until it is back. Nobody ever waits for this thread: a driver may keep it for ever.

use super::{CameraError, Device, Opened, Patience, Picture};
use crate::source::SourceState;
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What the thread and its consumer share.
#[derive(Debug)]
pub(super) struct Shared {
    newest: Mutex<Newest>,
    changed: Condvar,
}

#[derive(Debug)]
struct Newest {
    picture: Picture,
    /// The opening that the picture comes from, and what was opened; `None` when the picture was taken. A picture that was
    /// read just before the camera went is still worth taking.
    fresh: Option<(u64, Arc<Opened>)>,
    /// Pictures that the camera made so far, also those that were lost before they were read.
    made: u64,
    /// How often the camera was opened, and as what; `None` while it is not open.
    connections: u64,
    opened: Option<Arc<Opened>>,
    /// Why the first opening failed, or why the camera is given up.
    end: Option<CameraError>,
    /// Last sign of life of the thread.
    alive: Instant,
    /// The consumer needs the thread no more.
    abandoned: bool,
    /// The consumer wants the camera opened anew.
    reopen: Option<CameraError>,
}

/// A picture that the consumer took.
pub(super) struct Taken {
    /// Counts the pictures that the camera made, from 1.
    pub(super) made: u64,
    /// The opening that it comes from, from 1, and what was opened.
    pub(super) connection: u64,
    pub(super) opened: Arc<Opened>,
}

/// What [`Shared::take`] found.
pub(super) enum Found {
    /// A picture.
    Picture(Taken),
    /// None in time; the last sign of life of the thread.
    Nothing(Instant),
    /// There will be none.
    End(CameraError),
}

impl Shared {
    fn new() -> Self {
        Self {
            newest: Mutex::new(Newest {
                picture: Picture::default(),
                fresh: None,
                made: 0,
                connections: 0,
                opened: None,
                end: None,
                alive: Instant::now(),
                abandoned: false,
                reopen: None,
            }),
            changed: Condvar::new(),
        }
    }

    /// Waits for a new picture, for `limit` at most, and exchanges `picture` for it.
    pub(super) fn take(&self, picture: &mut Picture, limit: Duration) -> Found {
        let nothing = |newest: &mut Newest| newest.fresh.is_none() && newest.end.is_none();
        let (mut newest, _) = self
            .changed
            .wait_timeout_while(self.lock(), limit, nothing)
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((connection, opened)) = newest.fresh.take() {
            std::mem::swap(picture, &mut newest.picture);
            return Found::Picture(Taken {
                made: newest.made,
                connection,
                opened,
            });
        }
        match newest.end.take() {
            Some(error) => Found::End(error),
            None => Found::Nothing(newest.alive),
        }
    }

    /// Waits for the first opening.
    pub(super) fn wait_until_opened(&self, limit: Duration) -> Result<Arc<Opened>, CameraError> {
        let opening = |newest: &mut Newest| newest.opened.is_none() && newest.end.is_none();
        let (mut newest, _) = self
            .changed
            .wait_timeout_while(self.lock(), limit, opening)
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = newest.end.take() {
            return Err(error);
        }
        newest.opened.clone().ok_or(CameraError::Stuck {
            seconds: limit.as_secs_f64(),
        })
    }

    /// Says that frames come again, if `connection` still is the camera's; whether this ended an outage.
    pub(super) fn say_back(&self, connection: u64, state: &SourceState) -> Option<Duration> {
        let newest = self.lock();
        if newest.connections != connection || newest.opened.is_none() || newest.abandoned {
            return None;
        }
        state.back().map(|outage| outage.since.elapsed())
    }

    /// Asks for the camera to be opened anew, because of `reason`.
    pub(super) fn reopen(&self, reason: CameraError) {
        self.lock().reopen = Some(reason);
    }

    /// Lets the thread end, whenever its driver gives it back.
    pub(super) fn abandon(&self) {
        self.lock().abandoned = true;
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        // A thread that panicked in a driver's wrapper leaves whole values behind.
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread.
///
/// # Errors
/// [`CameraError::Thread`].
pub(super) fn start(
    device: Box<dyn Device>,
    state: SourceState,
    words: Words,
) -> Result<Arc<Shared>, CameraError> {
    let shared = Arc::new(Shared::new());
    let reader = Reader {
        device,
        shared: Arc::clone(&shared),
        state,
        words,
    };
    std::thread::Builder::new()
        .name("camera".to_owned())
        .spawn(move || reader.run())
        .map_err(|error| CameraError::Thread {
            reason: error.to_string(),
        })?;
    Ok(shared)
}

/// How the thread speaks of the camera, and how long it waits for it.
#[derive(Clone, Debug)]
pub(super) struct Words {
    /// The camera, such as `camera 0`.
    pub(super) camera: String,
    pub(super) patience: Patience,
    /// How long a camera may be gone.
    pub(super) give_up_after: Option<Duration>,
    /// Whether the first opening may fail too: a thread that takes the place of one that hangs.
    pub(super) again: bool,
}

struct Reader {
    device: Box<dyn Device>,
    shared: Arc<Shared>,
    state: SourceState,
    words: Words,
}

impl Reader {
    fn run(mut self) {
        let patience = self.words.patience;
        let mut pause = patience.first_pause;
        loop {
            let error = match self.open() {
                Ok(()) => match self.read() {
                    Ok(()) => break,
                    Err((error, gave_pictures)) => {
                        if gave_pictures {
                            pause = patience.first_pause;
                        }
                        error
                    }
                },
                Err(error) if !self.words.again => {
                    self.end(error);
                    return;
                }
                Err(error) => error,
            };
            self.words.again = true;
            self.device.close();
            if !self.lose(error) || !self.state.pause(pause) || self.is_over() {
                break;
            }
            pause = (2 * pause).min(patience.longest_pause);
        }
        self.device.close();
    }

    fn open(&mut self) -> Result<(), CameraError> {
        self.shared.lock().alive = Instant::now();
        let opened = self.device.open()?;
        tracing::debug!("{} is open as {}", self.words.camera, opened.mode);
        let mut newest = self.shared.lock();
        newest.alive = Instant::now();
        newest.connections += 1;
        newest.opened = Some(Arc::new(opened));
        newest.reopen = None;
        drop(newest);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Reads until the camera fails, with whether it gave pictures until then, or nobody wants more.
    fn read(&mut self) -> Result<(), (CameraError, bool)> {
        let patience = self.words.patience;
        let mut picture = Picture::default();
        let (mut read, mut lost, mut sequence) = (0u64, 0u64, None);
        let mut last = Instant::now();
        let end = loop {
            if self.is_over() {
                break None;
            }
            let found = self.device.read(&mut picture, patience.slice);
            let now = Instant::now();
            let mut newest = self.shared.lock();
            newest.alive = now;
            if let Some(reason) = newest.reopen.take() {
                break Some(reason);
            }
            match found {
                Ok(true) => {
                    last = now;
                    let gap =
                        sequence.map_or(0, |sequence| lost_between(sequence, picture.sequence));
                    sequence = Some(picture.sequence);
                    (read, lost) = (read + 1, lost + gap);
                    newest.made += 1 + gap;
                    picture.captured_at.get_or_insert(now);
                    std::mem::swap(&mut newest.picture, &mut picture);
                    newest.fresh = newest
                        .opened
                        .clone()
                        .map(|opened| (newest.connections, opened));
                    drop(newest);
                    self.shared.changed.notify_all();
                    picture.captured_at = None;
                }
                Ok(false) if now.duration_since(last) >= patience.silence => {
                    break Some(CameraError::Silent {
                        seconds: patience.silence.as_secs_f64(),
                    });
                }
                Ok(false) => {}
                Err(error) => break Some(error),
            }
        };
        tracing::info!(
            "{}: {read} pictures read, {lost} lost before they were read",
            self.words.camera
        );
        match end {
            None => Ok(()),
            Some(error) => Err((error, read > 0)),
        }
    }

    /// Says that the camera is gone; whether it is still waited for.
    fn lose(&mut self, error: CameraError) -> bool {
        let camera = &self.words.camera;
        {
            let mut newest = self.shared.lock();
            if newest.abandoned {
                return false;
            }
            newest.opened = None;
            newest.alive = Instant::now();
            // Told under the lock: whoever says at the same time that frames come again is either earlier or refused.
            let reason = format!("{camera} is gone: {error}; waiting for it");
            if self
                .state
                .outage()
                .is_some_and(|known| known.reason == reason)
            {
                tracing::debug!("{reason}");
            } else {
                tracing::warn!("{reason}");
                self.state.lost(reason);
            }
        }
        let gone = self.state.outage().map(|outage| outage.since.elapsed());
        if let (Some(limit), Some(gone)) = (self.words.give_up_after, gone)
            && gone >= limit
        {
            self.end(error);
            return false;
        }
        true
    }

    fn end(&self, error: CameraError) {
        self.shared.lock().end = Some(error);
        self.shared.changed.notify_all();
    }

    fn is_over(&self) -> bool {
        self.state.is_stopped() || self.shared.lock().abandoned
    }
}

/// Pictures missing between two counts. A driver that counts backwards began anew; one that jumps far counts nonsense.
fn lost_between(before: u32, now: u32) -> u64 {
    match now.wrapping_sub(before) {
        gap @ 1..=1000 => u64::from(gap - 1),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_in_the_drivers_count_are_lost_pictures() {
        for (before, now, lost) in [
            (4, 5, 0),
            (4, 8, 3),
            (u32::MAX, 0, 0),
            (9, 0, 0),
            (4, 4, 0),
            (0, 1_000_000, 0),
        ] {
            assert_eq!(lost_between(before, now), lost, "{before} to {now}");
        }
    }
}
