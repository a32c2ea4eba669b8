//! The arguments that choose how networks run, the same for every command that runs one.

use clap::Args;
use facemark::engine::{EngineOptions, KernelSet};

#[derive(Args)]
pub(crate) struct EngineArguments {
    /// Integer kernels: portable, avx2, avx-vnni, avx512-vnni, neon or neon-dot [default: the fastest of this machine]
    #[arg(long, value_name = "NAME")]
    kernels: Option<KernelSet>,
    /// Threads for int8 networks, 1 to 16; results do not depend on it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=16))]
    threads: u64,
}

impl EngineArguments {
    pub(crate) fn options(&self) -> EngineOptions {
        EngineOptions {
            kernels: self.kernels,
            threads: self.threads as usize,
        }
    }
}
