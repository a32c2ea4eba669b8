//! A lane: a thread of its own behind a bounded queue, for one consumer that may be slow, block or fail. Items go round
//! between the two ends, so that a warm lane allocates nothing.

use crate::sink::SinkError;
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// How long a wait lasts before its reasons are looked at again.
const POLL: Duration = Duration::from_millis(20);

/// What stands at the end of a lane.
pub(super) trait Consumer<T>: Send {
    /// What is left when it has finished.
    type End: Send;

    /// Takes one item.
    fn take(&mut self, item: &T) -> Result<(), SinkError>;

    /// Completes what it makes.
    fn finish(self: Box<Self>) -> Result<Self::End, SinkError>;
}

/// What is done with an item for which the queue has no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenFull {
    /// Whoever offers it waits.
    Wait,
    /// It is dropped and counted.
    Drop,
}

/// How long consumers are waited for that make no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// With one item, in a run that goes on; `None`: for as long as it takes.
    pub item: Option<Duration>,
    /// With one item once the run was asked to end.
    pub item_when_ending: Duration,
    /// With completing its file; `None`: for as long as it takes.
    pub finish: Option<Duration>,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            item: Some(Duration::from_secs(10)),
            item_when_ending: Duration::from_secs(2),
            // An encoder may hold dozens of frames back, and a small board takes its time for them.
            finish: Some(Duration::from_secs(30)),
        }
    }
}

impl Patience {
    /// For a consumer whose own waits are bounded.
    pub(super) const ENDLESS: Self = Self {
        item: None,
        item_when_ending: Duration::MAX,
        finish: None,
    };
}

/// Whether the run was asked to end before its source did.
#[derive(Clone, Debug, Default)]
pub(super) struct Ending {
    /// From outside the pipeline.
    pub(super) stop: Arc<AtomicBool>,
    /// In the window.
    pub(super) quit: Arc<AtomicBool>,
}

impl Ending {
    fn is_asked_for(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.quit.load(Ordering::Relaxed)
    }
}

/// How a lane is set up.
#[derive(Clone, Debug)]
pub(super) struct LaneSettings {
    /// In messages.
    pub(super) name: String,
    /// Items that may wait; buffers are made as they are needed.
    pub(super) capacity: usize,
    pub(super) when_full: WhenFull,
    pub(super) patience: Patience,
    pub(super) ending: Ending,
    /// Counted down when the lane ends.
    pub(super) open: Arc<AtomicUsize>,
}

/// The end at which items are offered.
pub(super) struct Lane<T, E> {
    shared: Arc<Shared<T, E>>,
    settings: LaneSettings,
    dropped: u64,
}

/// How a lane ended.
pub(super) struct LaneEnd<E> {
    /// Items that were taken whole.
    pub(super) taken: u64,
    /// Items for which there was no place.
    pub(super) dropped: u64,
    pub(super) result: Result<E, SinkError>,
}

struct Shared<T, E> {
    state: Mutex<State<T, E>>,
    changed: Condvar,
}

struct State<T, E> {
    queue: VecDeque<T>,
    spare: Vec<T>,
    made: usize,
    taken: u64,
    /// Nothing more will be offered.
    closed: bool,
    /// Everything was taken, the consumer completes what it makes.
    finishing: bool,
    result: Option<Result<E, SinkError>>,
    ended: bool,
}

impl<T: Default + Send + 'static, E: Send + 'static> Lane<T, E> {
    /// Starts the thread of `consumer`.
    pub(super) fn start(
        settings: LaneSettings,
        consumer: Box<dyn Consumer<T, End = E>>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: VecDeque::with_capacity(settings.capacity),
                spare: Vec::with_capacity(settings.capacity),
                made: 0,
                taken: 0,
                closed: false,
                finishing: false,
                result: None,
                ended: false,
            }),
            changed: Condvar::new(),
        });
        let (of_thread, name) = (Arc::clone(&shared), settings.name.clone());
        settings.open.fetch_add(1, Ordering::Relaxed);
        let open = Arc::clone(&settings.open);
        // Nobody joins this thread: one that blocks for ever is left behind.
        std::thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || of_thread.consume(&name, consumer, &open))?;
        Ok(Self {
            shared,
            settings,
            dropped: 0,
        })
    }

    /// Puts an item that `fill` makes out of an earlier one into the queue. A lane that has ended takes nothing.
    pub(super) fn offer(&mut self, fill: impl FnOnce(&mut T)) {
        if let Some(mut item) = self.free_item() {
            fill(&mut item);
            self.shared.lock().queue.push_back(item);
            self.shared.changed.notify_all();
        }
    }

    fn free_item(&mut self) -> Option<T> {
        let mut state = self.shared.lock();
        let mut progress = Progress::new(state.taken);
        loop {
            if state.ended {
                return None;
            }
            if let Some(item) = state.spare.pop() {
                return Some(item);
            }
            if state.made < self.settings.capacity {
                state.made += 1;
                return Some(T::default());
            }
            if self.settings.when_full == WhenFull::Drop {
                self.dropped += 1;
                return None;
            }
            let limit = self.settings.item_limit();
            if let Some(limit) = progress.is_missing_for(state.taken, limit) {
                self.dropped += 1;
                self.settings.give_up(&mut state, limit);
                return None;
            }
            state = self.shared.wait(state);
        }
    }

    /// Tells the consumer that nothing more comes: it takes what is queued and completes what it makes.
    pub(super) fn close(&self) {
        self.shared.close();
    }

    /// Waits for the consumer's end.
    pub(super) fn end(self) -> LaneEnd<E> {
        self.close();
        let mut state = self.shared.lock();
        let mut progress = Progress::new(state.taken);
        let mut finishing = state.finishing;
        loop {
            if let Some(result) = state.result.take() {
                return LaneEnd {
                    taken: state.taken,
                    dropped: self.dropped,
                    result,
                };
            }
            if finishing != state.finishing {
                finishing = state.finishing;
                progress = Progress::new(state.taken);
            }
            let limit = if finishing {
                self.settings.patience.finish
            } else {
                self.settings.item_limit()
            };
            if let Some(limit) = progress.is_missing_for(state.taken, limit) {
                self.settings.give_up(&mut state, limit);
            } else {
                state = self.shared.wait(state);
            }
        }
    }
}

impl<T, E> Drop for Lane<T, E> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// Whether a consumer makes progress.
struct Progress {
    taken: u64,
    since: Instant,
}

impl Progress {
    fn new(taken: u64) -> Self {
        Self {
            taken,
            since: Instant::now(),
        }
    }

    /// The limit that is over.
    fn is_missing_for(&mut self, taken: u64, limit: Option<Duration>) -> Option<Duration> {
        if self.taken != taken {
            *self = Self::new(taken);
        }
        limit.filter(|limit| self.since.elapsed() > *limit)
    }
}

impl LaneSettings {
    fn item_limit(&self) -> Option<Duration> {
        if self.ending.is_asked_for() {
            Some(self.patience.item_when_ending)
        } else {
            self.patience.item
        }
    }

    fn give_up<T, E>(&self, state: &mut State<T, E>, limit: Duration) {
        let error = SinkError::Stuck {
            name: self.name.clone(),
            limit,
        };
        state.end(Err(error), &self.name, &self.open);
    }
}

impl<T, E> State<T, E> {
    /// The first one says how it ended; a consumer that comes back after it was given up changes nothing.
    fn end(&mut self, result: Result<E, SinkError>, name: &str, open: &AtomicUsize) {
        if self.ended {
            return;
        }
        match &result {
            Ok(_) => {}
            Err(SinkError::ReaderGone) => tracing::debug!("{name}: nobody reads it any more"),
            Err(error) => tracing::warn!("output {name} is closed: {error}"),
        }
        self.result = Some(result);
        self.ended = true;
        self.closed = true;
        self.queue.clear();
        open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T, E: Send> Shared<T, E> {
    /// The consumer's thread.
    fn consume(&self, name: &str, consumer: Box<dyn Consumer<T, End = E>>, open: &AtomicUsize) {
        let work = AssertUnwindSafe(|| self.consume_all(consumer));
        let result = catch_unwind(work).unwrap_or_else(|_| {
            Err(SinkError::Panicked {
                name: name.to_owned(),
            })
        });
        self.lock().end(result, name, open);
        self.changed.notify_all();
    }

    fn consume_all(&self, mut consumer: Box<dyn Consumer<T, End = E>>) -> Result<E, SinkError> {
        loop {
            let mut state = self
                .changed
                .wait_while(self.lock(), |state| state.queue.is_empty() && !state.closed)
                .unwrap_or_else(PoisonError::into_inner);
            if state.ended {
                // It was given up: what it made is not whole, and its result is told already.
                return Err(SinkError::ReaderGone);
            }
            let Some(item) = state.queue.pop_front() else {
                state.finishing = true;
                break;
            };
            drop(state);
            consumer.take(&item)?;
            let mut state = self.lock();
            state.taken += 1;
            state.spare.push(item);
            drop(state);
            self.changed.notify_all();
        }
        consumer.finish()
    }
}

impl<T, E> Shared<T, E> {
    fn wait<'a>(&self, state: MutexGuard<'a, State<T, E>>) -> MutexGuard<'a, State<T, E>> {
        self.changed
            .wait_timeout(state, POLL)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        // No consumer runs under the lock, so whoever panicked left the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
