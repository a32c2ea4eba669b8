//! What Linux tells of this process. Elsewhere the figures are absent.

/// The most memory this process has held, in bytes (`VmHWM`).
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Time that this process has spent on processors, all threads together, in seconds. `/proc` tells it in steps of a
/// scheduler's tick, which is longer than a network's run; the clock is exact.
#[cfg(unix)]
pub(crate) fn process_cpu_secs() -> Option<f64> {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// Time that this process has spent on processors: not known here.
#[cfg(not(unix))]
pub(crate) fn process_cpu_secs() -> Option<f64> {
    None
}
