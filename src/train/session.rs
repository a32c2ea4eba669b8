//! The only user of ONNX Runtime: forward graphs and training steps on the CPU or a CUDA GPU.
//!
//! The library is loaded at run time (see [`find_library`]), so nothing here needs it to build. The runtime binary never
//! comes here.

mod depthwise;
mod file;
mod forward;
mod library;
mod operators;
mod training;

pub use file::FileSession;
pub use forward::{ForwardSession, NamedValues, SessionModel};
pub use library::{arithmetic_in_words, find_library, load_library};
pub use training::{StartError, StepReport, StepSettings, TrainingSession};

use super::{
    autodiff::Backend,
    graph::{Graph, TensorType},
};
use ort::{
    ep::{self, ExecutionProvider},
    session::{Session, builder::GraphOptimizationLevel},
};
use std::{
    fmt,
    path::PathBuf,
    str::FromStr,
    sync::{Mutex, PoisonError},
};

/// Where a graph runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// A CUDA GPU when ONNX Runtime's CUDA provider starts, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA GPU; an error when there is none.
    Cuda,
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            _ => Err(format!("expected auto, cpu or cuda, found {text:?}")),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

/// Why a graph does not run.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// ONNX Runtime's shared library is not there.
    #[error(
        "ONNX Runtime's library (libonnxruntime.so) is missing: run `make onnxruntime` or \
         `scripts/fetch-onnxruntime.sh` in the project, or give its path with --onnxruntime PATH; looked in: {}",
        list(.searched)
    )]
    LibraryMissing {
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// The library is there and cannot be used.
    #[error("{path}: cannot load ONNX Runtime: {reason}")]
    LibraryLoad {
        /// The library.
        path: PathBuf,
        /// What the loader says.
        reason: String,
    },
    /// The device that was asked for cannot be used.
    #[error("device {device} cannot be used: {reason}")]
    Device {
        /// The device.
        device: Device,
        /// What ONNX Runtime says.
        reason: String,
    },
    /// ONNX Runtime refuses a graph.
    #[error("ONNX Runtime does not accept graph {graph:?}: {reason}")]
    Graph {
        /// The graph's name.
        graph: String,
        /// What ONNX Runtime says.
        reason: String,
    },
    /// A tensor is missing or does not fit the graph.
    #[error("tensor {name:?}: expected {expected}, found {found}")]
    Tensor {
        /// Its name.
        name: String,
        /// What the graph has.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A run failed.
    #[error("ONNX Runtime failed while running graph {graph:?}: {reason}")]
    Run {
        /// The graph's name.
        graph: String,
        /// What ONNX Runtime says.
        reason: String,
    },
}

fn list(folders: &[PathBuf]) -> String {
    let folders: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
    folders.join(", ")
}

/// As many threads as the process has cores.
pub fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Device {
    /// The device that this one stands for: never [`Device::Auto`], which is CUDA when a graph runs there, else the CPU.
    ///
    /// # Errors
    /// ONNX Runtime's library is missing, or CUDA was asked for and cannot be used.
    pub fn resolve(self) -> Result<Self, SessionError> {
        if self == Self::Cpu {
            return Ok(self);
        }
        match (try_cuda()?, self) {
            (Ok(()), _) => {
                tracing::info!("running on CUDA");
                Ok(Self::Cuda)
            }
            (Err(reason), Self::Auto) => {
                tracing::info!(reason, "running on the CPU");
                Ok(Self::Cpu)
            }
            (Err(reason), device) => Err(SessionError::Device { device, reason }),
        }
    }

    /// Which form of the gradients suits a resolved device.
    pub fn backend(self) -> Backend {
        match self {
            Self::Auto | Self::Cpu => Backend::Cpu,
            Self::Cuda => Backend::Cuda,
        }
    }
}

/// Whether a graph runs on CUDA, or why not.
fn try_cuda() -> Result<Result<(), String>, SessionError> {
    // The provider can only be asked for when the library is there.
    library::environment()?;
    match ep::CUDA::is_available() {
        Ok(true) => {}
        Ok(false) => return Ok(Err("this ONNX Runtime has no CUDA provider".to_owned())),
        Err(error) => return Ok(Err(error.to_string())),
    }
    let mut probe = Graph::new("probe");
    let one = TensorType::f32(&[1]);
    let added = probe
        .input("x", one)
        .and_then(|x| probe.apply("Add", &[&x, &x], &[]))
        .expect("a graph of one addition");
    probe.outputs.push(added);
    let tried = ForwardSession::on_resolved(&probe, Device::Cuda, 1)
        .and_then(|mut session| session.run(&[("x", &[1], &[1.0])]));
    Ok(tried.map(drop).map_err(|error| error.to_string()))
}

/// Held while a session is opened.
static OPENING: Mutex<()> = Mutex::new(());

/// A session of ONNX Runtime for a graph on a resolved device.
fn open(graph: &Graph, device: Device, threads: usize) -> Result<Session, SessionError> {
    let environment = library::environment()?;
    let build = || -> ort::Result<Session> {
        let mut builder = Session::builder(&environment)?
            .with_intra_threads(threads.max(1))?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_operators(operators::domain()?)?
            // Spinning threads would take the cores that the loader's workers need.
            .with_intra_op_spinning(false)?;
        if device == Device::Cuda {
            let provider = ep::CUDA::default()
                .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
                .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
                .build()
                .error_on_failure();
            builder = builder.with_execution_providers([provider])?;
        }
        builder.commit_from_memory(&graph.to_onnx())
    };
    // ONNX Runtime keeps one list of operator domains for all sessions: two that are opened at once can both find ours
    // missing there, and the second to add it fails.
    let _one_at_a_time = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    build().map_err(|error| SessionError::Graph {
        graph: graph.name.clone(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_its_own_text() {
        for device in [Device::Auto, Device::Cpu, Device::Cuda] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert!("gpu".parse::<Device>().is_err());
    }
}
