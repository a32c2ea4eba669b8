//! The arguments that say where ONNX Runtime is and what it may use.

use crate::failure::Failure;
use clap::Args;
use facemark::train::session::{Device, available_threads, load_library};
use std::path::PathBuf;

#[derive(Args, Clone, Debug)]
pub(crate) struct RuntimeArguments {
    /// Where to compute: auto, cpu or cuda.
    #[arg(long, default_value = "auto")]
    device: Device,
    /// Threads of ONNX Runtime and, separately, of the batch makers; 0: one a core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// ONNX Runtime's shared library, when it is not where `scripts/fetch-onnxruntime.sh` puts it.
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,
}

impl RuntimeArguments {
    /// Loads the library, or says which command fetches it.
    pub(crate) fn load(&self) -> Result<(), Failure> {
        match (load_library(self.onnxruntime.as_deref()), &self.onnxruntime) {
            (Ok(_), _) => Ok(()),
            (Err(error), Some(_)) => Err(Failure::input(error)),
            (Err(error), None) => Err(Failure::running(error)),
        }
    }

    pub(crate) fn device(&self) -> Device {
        self.device
    }

    pub(crate) fn threads(&self) -> usize {
        match self.threads {
            0 => available_threads(),
            threads => threads,
        }
    }
}
