//! A few threads that do one piece of work after another together, with as little delay as a step of a network allows.
//!
//! Work comes in numbered parts that whoever is free takes. The caller takes parts as well and waits only for those that
//! another thread has begun, so a thread that sleeps or that the system has stopped costs nothing but its help. A thread
//! without work spins for some microseconds, which is how long the steps of a network lie apart, and then sleeps.

use std::{
    any::Any,
    cell::UnsafeCell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread::JoinHandle,
};

/// Most threads of a [`Pool`].
pub(crate) const MOST_THREADS: usize = 16;

/// Most parts of a piece of work.
pub(crate) const MOST_PARTS: usize = 2 * MOST_THREADS;

/// Looks at the shared state before a thread sleeps.
const SPINS: u32 = 4000;

type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// Threads that wait for work. The calling thread is one of them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// What is to be done now; see [`Round`].
    round: AtomicU64,
    /// Parts of the round that have ended.
    done: AtomicUsize,
    /// The work of the round; written by the caller alone, while every part of the round before has ended.
    work: UnsafeCell<Option<&'static Work<'static>>>,
    failed: AtomicBool,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `work` is written only by `Pool::run`, which holds the pool exclusively, while no part is open or unfinished;
// others read it only after they took a part, and the round does not end before that part has.
unsafe impl Sync for Shared {}
// SAFETY: the reference inside is to a `Sync` value.
unsafe impl Send for Shared {}

/// A round in 64 bits: its number, how many parts it has, the next part to take.
#[derive(Clone, Copy)]
struct Round {
    number: u32,
    parts: u16,
    next: u16,
}

impl Round {
    fn unpack(bits: u64) -> Self {
        Self {
            number: (bits >> 32) as u32,
            parts: (bits >> 16) as u16,
            next: bits as u16,
        }
    }

    fn pack(self) -> u64 {
        u64::from(self.number) << 32 | u64::from(self.parts) << 16 | u64::from(self.next)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Pool of {}", self.threads())
    }
}

impl Pool {
    /// A pool of `threads` threads, 2 to [`MOST_THREADS`], the caller's included.
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            round: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            work: UnsafeCell::new(None),
            failed: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        });
        let workers = (1..threads.clamp(2, MOST_THREADS)).map(|_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.serve())
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

    /// Calls `work` with 0 to `parts` - 1 (at most [`MOST_PARTS`] parts), each once on some thread, and returns when all
    /// have ended.
    ///
    /// # Panics
    /// When `work` panics or there are too many parts.
    pub(crate) fn run(&mut self, parts: usize, work: &Work<'_>) {
        assert!(parts <= MOST_PARTS, "{parts} parts");
        let shared = &*self.shared;
        // SAFETY: the reference is used only for parts of this round, all of which have ended before this function
        // returns or unwinds; no thread reads the cell now, as no part is open.
        unsafe {
            *shared.work.get() = Some(std::mem::transmute::<&Work<'_>, &'static Work<'static>>(
                work,
            ));
        }
        shared.done.store(0, SeqCst);
        let last = Round::unpack(shared.round.load(SeqCst));
        let round = Round {
            number: last.number.wrapping_add(1),
            parts: parts as u16,
            next: 0,
        };
        shared.round.store(round.pack(), SeqCst);
        if shared.sleepers.load(SeqCst) > 0 {
            let _held = shared.hold();
            shared.wake.notify_all();
        }
        let mut panic: Option<Box<dyn Any + Send>> = None;
        while let Some(part) = shared.take_part() {
            if panic.is_none() {
                panic = catch_unwind(AssertUnwindSafe(|| work(part))).err();
            }
            shared.done.fetch_add(1, SeqCst);
        }
        let mut spins = 0u32;
        while shared.done.load(SeqCst) < parts {
            spins += 1;
            if spins.is_multiple_of(SPINS) {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        if let Some(panic) = panic {
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

    /// Takes the next part of the round that is open, if there is one.
    fn take_part(&self) -> Option<usize> {
        let mut bits = self.round.load(SeqCst);
        loop {
            let round = Round::unpack(bits);
            if round.next >= round.parts {
                return None;
            }
            let taken = Round {
                next: round.next + 1,
                ..round
            };
            match self
                .round
                .compare_exchange(bits, taken.pack(), SeqCst, SeqCst)
            {
                Ok(_) => return Some(usize::from(round.next)),
                Err(now) => bits = now,
            }
        }
    }

    fn serve(&self) {
        while let Some(part) = self.next_part() {
            // SAFETY: a part was taken, so its round goes on and the caller awaits this thread.
            let work = unsafe { *self.work.get() };
            if let Some(work) = work
                && catch_unwind(AssertUnwindSafe(|| work(part))).is_err()
            {
                self.failed.store(true, SeqCst);
            }
            self.done.fetch_add(1, SeqCst);
        }
    }

    /// Waits for a part; `None` when the pool ends.
    fn next_part(&self) -> Option<usize> {
        for _ in 0..SPINS {
            if self.stop.load(SeqCst) {
                return None;
            }
            if let Some(part) = self.take_part() {
                return Some(part);
            }
            std::hint::spin_loop();
        }
        let mut held = self.hold();
        self.sleepers.fetch_add(1, SeqCst);
        let part = loop {
            if self.stop.load(SeqCst) {
                break None;
            }
            if let Some(part) = self.take_part() {
                break Some(part);
            }
            held = self
                .wake
                .wait(held)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        };
        self.sleepers.fetch_sub(1, SeqCst);
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_done_once_in_every_round() {
        for threads in [2, 3, 5] {
            let mut pool = Pool::new(threads);
            for (round, parts) in [1, 2, 7, MOST_PARTS, 0, 4]
                .into_iter()
                .cycle()
                .take(300)
                .enumerate()
            {
                if round % 50 == 49 {
                    // Long enough for the workers to fall asleep.
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                pool.run(parts, &|part| {
                    counts[part].fetch_add(1, SeqCst);
                });
                assert!(counts.iter().all(|count| count.load(SeqCst) == 1));
            }
        }
    }

    #[test]
    fn a_panic_in_any_part_reaches_the_caller_and_the_pool_goes_on() {
        let mut pool = Pool::new(3);
        for bad in 0..6 {
            let run = AssertUnwindSafe(|| pool.run(6, &|part| assert_ne!(part, bad)));
            assert!(catch_unwind(run).is_err());
            let calls = AtomicUsize::new(0);
            pool.run(4, &|_| {
                calls.fetch_add(1, SeqCst);
            });
            assert_eq!(calls.load(SeqCst), 4);
        }
    }
}
