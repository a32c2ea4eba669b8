//! A few threads that do one piece of work after another together, with as little delay as a step of a network allows.
//!
//! A thread that waits for the next piece spins for some microseconds, which is how long the steps of a network lie apart,
//! and then sleeps.

use std::{
    cell::UnsafeCell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::JoinHandle,
};

/// Most threads of a [`Pool`].
pub(crate) const MOST_THREADS: usize = 16;

/// Looks at the shared state before a thread sleeps.
const SPINS: u32 = 4000;

type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// Threads that wait for work. The calling thread is one of them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Grows with each piece of work.
    round: AtomicUsize,
    /// Workers that have not finished the round.
    busy: AtomicUsize,
    /// The work of the round; written by the caller alone, while no worker is busy.
    work: UnsafeCell<Option<&'static Work<'static>>>,
    failed: AtomicBool,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `work` is written only by `Pool::run`, which holds the pool exclusively, while `busy` is 0; workers read it only
// between the new `round` and their decrement of `busy`.
unsafe impl Sync for Shared {}
// SAFETY: the reference inside is to a `Sync` value.
unsafe impl Send for Shared {}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Pool of {}", self.threads())
    }
}

impl Pool {
    /// A pool of `threads` threads, 2 to [`MOST_THREADS`], the caller's included.
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            round: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            work: UnsafeCell::new(None),
            failed: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        });
        let workers = (1..threads.clamp(2, MOST_THREADS)).map(|index| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.serve(index))
        });
        Self {
            workers: workers.collect(),
            shared,
        }
    }

    /// Number of threads with the caller's.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` with 0 to [`Pool::threads`] - 1, each on its own thread, and returns when all have ended.
    ///
    /// # Panics
    /// When `work` panics.
    pub(crate) fn run(&mut self, work: &Work<'_>) {
        let shared = &*self.shared;
        // SAFETY: the reference is used by workers only until `busy` is 0 again, which this function awaits before it
        // returns or unwinds; no worker reads the cell now.
        unsafe {
            *shared.work.get() = Some(std::mem::transmute::<&Work<'_>, &'static Work<'static>>(
                work,
            ));
        }
        shared.busy.store(self.workers.len(), SeqCst);
        shared.round.fetch_add(1, SeqCst);
        if shared.sleepers.load(SeqCst) > 0 {
            let _held = shared.hold();
            shared.wake.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| work(0)));
        let mut spins = 0u32;
        while shared.busy.load(SeqCst) > 0 {
            spins += 1;
            if spins.is_multiple_of(SPINS) {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(
            !shared.failed.swap(false, SeqCst),
            "the work panicked on another thread"
        );
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        {
            let _held = self.shared.hold();
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker catches what its work throws, so it ends in good order.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn hold(&self) -> MutexGuard<'_, ()> {
        // Nothing is behind the lock that could be half done.
        self.lock
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn serve(&self, index: usize) {
        let mut seen = 0;
        while let Some(round) = self.next_round(seen) {
            seen = round;
            // SAFETY: a new round was seen and this worker has not left it, so the caller awaits it.
            let work = unsafe { *self.work.get() };
            if let Some(work) = work
                && catch_unwind(AssertUnwindSafe(|| work(index))).is_err()
            {
                self.failed.store(true, SeqCst);
            }
            self.busy.fetch_sub(1, SeqCst);
        }
    }

    /// Waits for a round after `seen`; `None` when the pool ends.
    fn next_round(&self, seen: usize) -> Option<usize> {
        let changed = || {
            if self.stop.load(SeqCst) {
                return Some(None);
            }
            let round = self.round.load(SeqCst);
            (round != seen).then_some(Some(round))
        };
        for _ in 0..SPINS {
            if let Some(next) = changed() {
                return next;
            }
            std::hint::spin_loop();
        }
        let mut held = self.hold();
        self.sleepers.fetch_add(1, SeqCst);
        let next = loop {
            if let Some(next) = changed() {
                break next;
            }
            held = self
                .wake
                .wait(held)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        };
        self.sleepers.fetch_sub(1, SeqCst);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_works_in_every_round() {
        for threads in [2, 3, 5] {
            let mut pool = Pool::new(threads);
            let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            for round in 0..200 {
                if round % 50 == 49 {
                    // Long enough for the workers to fall asleep.
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                pool.run(&|index| {
                    counts[index].fetch_add(1, SeqCst);
                });
            }
            assert!(counts.iter().all(|count| count.load(SeqCst) == 200));
        }
    }

    #[test]
    fn a_panic_on_any_thread_reaches_the_caller_and_the_pool_goes_on() {
        let mut pool = Pool::new(3);
        for thread in 0..3 {
            let run = AssertUnwindSafe(|| pool.run(&|index| assert_ne!(index, thread)));
            assert!(catch_unwind(run).is_err());
            let calls = AtomicUsize::new(0);
            pool.run(&|_| {
                calls.fetch_add(1, SeqCst);
            });
            assert_eq!(calls.load(SeqCst), 3);
        }
    }
}
