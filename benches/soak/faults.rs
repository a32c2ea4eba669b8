//! What goes wrong on purpose: outputs that fail, block, panic or are slow, which the run must survive; and faults of the
//! program itself, which the soak must notice.

use facemark::sink::{FrameRecord, RecordSink, SinkError};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A fault of the program, to prove that it would be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    Memory,
    Descriptor,
    Thread,
    Panic,
    Slower,
    Loss,
}

/// What a fault shows in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    Memory,
    Descriptors,
    Threads,
    Panics,
    Drift,
    Outputs,
    Frames,
}

impl Plant {
    pub(crate) const ALL: [Self; 6] = [
        Self::Memory,
        Self::Descriptor,
        Self::Thread,
        Self::Panic,
        Self::Slower,
        Self::Loss,
    ];

    pub(crate) fn caught_by(self) -> Check {
        match self {
            Self::Memory => Check::Memory,
            Self::Descriptor => Check::Descriptors,
            Self::Thread => Check::Threads,
            Self::Panic => Check::Panics,
            Self::Slower => Check::Drift,
            Self::Loss => Check::Outputs,
        }
    }

    /// What is done once a run of the program.
    pub(crate) fn do_once(self) {
        match self {
            Self::Memory => std::mem::forget(std::hint::black_box(vec![1u8; 16 << 20])),
            Self::Descriptor => {
                if let Ok(file) = std::fs::File::open("/dev/null") {
                    std::mem::forget(file);
                }
            }
            Self::Thread => drop(std::thread::spawn(|| {
                std::thread::sleep(Duration::from_secs(3600))
            })),
            Self::Panic => drop(std::thread::spawn(|| panic!("out of place")).join()),
            Self::Slower | Self::Loss => {}
        }
    }
}

/// Panics with this word are made on purpose.
const PLANTED: &str = "planted";

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Counts panics from now on, those on purpose aside, which are not printed either.
pub(crate) fn count_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let said = info
            .payload()
            .downcast_ref::<&str>()
            .copied()
            .unwrap_or_default();
        if !said.contains(PLANTED) {
            PANICS.fetch_add(1, Ordering::Relaxed);
            usual(info);
        }
    }));
}

pub(crate) fn take_panics() -> u64 {
    PANICS.swap(0, Ordering::Relaxed)
}

/// How an output behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Takes everything.
    Sound,
    /// Takes its time with each record, though not too long.
    Slow,
    /// Refuses a record.
    Fails,
    /// Panics at a record.
    Panics,
    /// Stays in a record for longer than anybody waits.
    Blocks,
}

/// An output that counts what it takes.
pub(crate) struct Odd {
    pub(crate) manner: Manner,
    /// Records until it goes wrong.
    pub(crate) after: u64,
    pub(crate) block: Duration,
    pub(crate) taken: Arc<AtomicU64>,
    /// Loses each so many-th record without saying so; 0: none.
    pub(crate) loses_each: u64,
    pub(crate) seen: u64,
}

impl RecordSink for Odd {
    fn write(&mut self, _record: &FrameRecord<'_>) -> Result<(), SinkError> {
        self.seen += 1;
        if self.seen > self.after {
            match self.manner {
                Manner::Sound => {}
                Manner::Slow => std::thread::sleep(Duration::from_millis(15)),
                Manner::Fails => {
                    return Err(SinkError::Write {
                        path: "planted".into(),
                        source: std::io::Error::other("no space left"),
                    });
                }
                Manner::Panics => panic!("planted"),
                Manner::Blocks => std::thread::sleep(self.block),
            }
        }
        if self.loses_each == 0 || !self.seen.is_multiple_of(self.loses_each) {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Option<String>, SinkError> {
        Ok(None)
    }
}
