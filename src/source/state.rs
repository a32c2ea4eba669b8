//! Whether a source gives frames just now, told beside its frames: a camera that was unplugged gives none for a while and
//! the run goes on.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A cell that a source writes and anybody reads; clones are the same cell. Whoever shows frames asks [`Self::outage`] now
/// and then, and shows its reason when no frames come; whoever follows faces starts anew when [`Self::returns`] has
/// grown, because the frames before and after an outage have nothing to do with each other.
#[derive(Clone, Debug, Default)]
pub struct SourceState(Arc<Cell>);

#[derive(Debug, Default)]
struct Cell {
    now: Mutex<Now>,
    changed: Condvar,
    outages: AtomicU64,
    returns: AtomicU64,
    damaged: AtomicU64,
}

#[derive(Debug, Default)]
struct Now {
    outage: Option<Outage>,
    stopped: bool,
}

/// A source that gives no frames for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// What is wrong and what is waited for, in words for the user, such as `camera 0 (USB Camera) is gone: it was
    /// unplugged; waiting for it`.
    pub reason: String,
    /// When it began.
    pub since: Instant,
}

impl SourceState {
    /// Why no frames come; `None` while they do.
    pub fn outage(&self) -> Option<Outage> {
        self.lock().outage.clone()
    }

    /// Outages so far, the present one included.
    pub fn outages(&self) -> u64 {
        self.0.outages.load(Ordering::Relaxed)
    }

    /// How often frames came again. It changes while the source reads, before it gives the first frame.
    pub fn returns(&self) -> u64 {
        self.0.returns.load(Ordering::Relaxed)
    }

    /// Damaged pictures so far, which were skipped.
    pub fn damaged(&self) -> u64 {
        self.0.damaged.load(Ordering::Relaxed)
    }

    /// Asks the source for its end: its `next` returns `None` soon, also while it waits.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.0.changed.notify_all();
    }

    /// Whether [`Self::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// For sources: no frames come from now on. A second reason of the same outage takes the place of the first.
    pub fn lost(&self, reason: impl Into<String>) {
        let reason = reason.into();
        let mut now = self.lock();
        if let Some(outage) = &mut now.outage {
            outage.reason = reason;
        } else {
            self.0.outages.fetch_add(1, Ordering::Relaxed);
            now.outage = Some(Outage {
                reason,
                since: Instant::now(),
            });
        }
    }

    /// For sources: frames come again. Gives the outage that is over.
    pub fn back(&self) -> Option<Outage> {
        let over = self.lock().outage.take();
        if over.is_some() {
            self.0.returns.fetch_add(1, Ordering::Relaxed);
        }
        over
    }

    /// For sources: one more damaged picture.
    pub fn count_damaged(&self) {
        self.0.damaged.fetch_add(1, Ordering::Relaxed);
    }

    /// For sources: waits for `time`, or until [`Self::stop`]; whether to go on.
    pub fn pause(&self, time: Duration) -> bool {
        let (now, _) = self
            .0
            .changed
            .wait_timeout_while(self.lock(), time, |now| !now.stopped)
            .unwrap_or_else(PoisonError::into_inner);
        !now.stopped
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        // Every change is whole at once: a thread that panicked left nothing half-written.
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_counts_once_whatever_its_reasons() {
        let state = SourceState::default();
        let seen = state.clone();
        assert_eq!((seen.outage(), seen.outages()), (None, 0));
        state.lost("it was unplugged");
        let since = seen.outage().expect("an outage").since;
        state.lost("it is in use");
        let outage = seen.outage().expect("an outage");
        assert_eq!(
            (outage.reason.as_str(), outage.since),
            ("it is in use", since)
        );
        assert_eq!(seen.outages(), 1);
        assert_eq!(state.back(), Some(outage));
        assert_eq!((seen.outage(), state.back()), (None, None));
        assert_eq!(seen.returns(), 1);
        state.lost("again");
        assert_eq!((seen.outages(), seen.returns()), (2, 1));
    }

    #[test]
    fn stopping_ends_a_pause() {
        let state = SourceState::default();
        assert!(state.pause(Duration::from_millis(1)));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| state.pause(Duration::from_secs(60)));
            state.stop();
            assert!(!waits.join().expect("thread"));
        });
        assert!(state.is_stopped() && !state.pause(Duration::from_secs(60)));
    }
}
