//! How a network is to run: with which kernels, on how many threads. Neither changes what comes out of an int8 network.

use super::kernels::KernelSet;

/// Choices for a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// The integer kernels; `None` takes the fastest that the machine runs.
    pub kernels: Option<KernelSet>,
    /// Threads that the int8 part runs on, at least 1. Float operators run on the calling thread.
    pub threads: usize,
}

impl Default for EngineOptions {
    /// The machine's fastest kernels on one thread: a network of ours takes less than a millisecond.
    fn default() -> Self {
        Self {
            kernels: None,
            threads: 1,
        }
    }
}

impl EngineOptions {
    /// The integer kernels that these options stand for.
    pub fn kernel_set(&self) -> KernelSet {
        self.kernels.unwrap_or_else(KernelSet::best)
    }
}
