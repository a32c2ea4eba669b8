//! The only user of ONNX Runtime: forward graphs and training steps on the CPU or a CUDA GPU.
//!
//! The library is loaded at run time (see [`find_library`]), so nothing here needs it to build. The runtime binary never
//! comes here.

mod depthwise;
mod forward;
mod library;
mod training;

pub use forward::{ForwardSession, SessionModel};
pub use library::{find_library, load_library};
pub use training::{StepReport, StepSettings, TrainingSession};

use super::graph::Graph;
use ort::{
    ep::{self, ExecutionProvider},
    operator::OperatorDomain,
    session::{Session, builder::GraphOptimizationLevel},
};
use std::{fmt, path::PathBuf, str::FromStr};

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
    /// The device that was asked for is not there.
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

/// A session of ONNX Runtime for a graph, and the device it runs on: never [`Device::Auto`].
fn open(graph: &Graph, device: Device, threads: usize) -> Result<(Session, Device), SessionError> {
    let environment = library::environment()?;
    let bytes = graph.to_onnx();
    let refused = |error: ort::Error| SessionError::Graph {
        graph: graph.name.clone(),
        reason: error.to_string(),
    };
    let build = |device: Device| -> ort::Result<Session> {
        let domain = OperatorDomain::new("facemark")?.add(depthwise::DepthwiseGradW)?;
        let mut builder = Session::builder(&environment)?
            .with_intra_threads(threads.max(1))?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_operators(domain)?;
        if device == Device::Cuda {
            let provider = ep::CUDA::default()
                .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
                .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
                .build()
                .error_on_failure();
            builder = builder.with_execution_providers([provider])?;
        }
        builder.commit_from_memory(&bytes)
    };
    let cuda_reason = || match ep::CUDA::default().is_available() {
        Ok(true) => None,
        Ok(false) => Some("this ONNX Runtime was built without CUDA".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    match device {
        Device::Cpu => Ok((build(Device::Cpu).map_err(refused)?, Device::Cpu)),
        Device::Cuda => {
            let failed = |reason: String| SessionError::Device { device, reason };
            if let Some(reason) = cuda_reason() {
                return Err(failed(reason));
            }
            let session = build(Device::Cuda).map_err(|error| failed(error.to_string()))?;
            Ok((session, Device::Cuda))
        }
        Device::Auto => {
            let attempt = match cuda_reason() {
                Some(reason) => Err(reason),
                None => build(Device::Cuda).map_err(|error| error.to_string()),
            };
            match attempt {
                Ok(session) => {
                    tracing::info!(graph = graph.name, "running on CUDA");
                    Ok((session, Device::Cuda))
                }
                Err(reason) => {
                    tracing::info!(graph = graph.name, reason, "running on the CPU");
                    Ok((build(Device::Cpu).map_err(refused)?, Device::Cpu))
                }
            }
        }
    }
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
