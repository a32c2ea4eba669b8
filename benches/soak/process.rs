//! What this process holds, as Linux tells it.

use anyhow::Context;
use std::time::{Duration, Instant};

/// What a process holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    pub(crate) rss_kib: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

impl Held {
    pub(crate) fn now() -> anyhow::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
                .with_context(|| format!("/proc/self/status: expected {name}, found none"))
        };
        let descriptors = std::fs::read_dir("/proc/self/fd")
            .context("/proc/self/fd")?
            .count();
        Ok(Self {
            rss_kib: field("VmRSS:")?,
            // Without the one that lists them.
            descriptors: descriptors as u64 - 1,
            threads: field("Threads:")?,
        })
    }

    /// After a run: what is held when nothing is left to end, or after `patience`.
    pub(crate) fn settled(usual: Option<Self>, patience: Duration) -> anyhow::Result<Self> {
        let begun = Instant::now();
        loop {
            let held = Self::now()?;
            let rests = usual.is_none_or(|usual| {
                held.threads <= usual.threads && held.descriptors <= usual.descriptors
            });
            if (rests && usual.is_some()) || begun.elapsed() > patience {
                return Ok(held);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Time that the calling thread has spent on a processor, in milliseconds.
pub(crate) fn thread_cpu_ms() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    1e3 * time.tv_sec as f64 + time.tv_nsec as f64 / 1e6
}
