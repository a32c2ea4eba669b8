//! Where ONNX Runtime's shared library is looked for, and the one-time loading of it.
//!
//! No environment variable: the library lies in `.onnxruntime/` of the project, where `scripts/fetch-onnxruntime.sh`
//! puts it, or next to the executable, or where `--onnxruntime PATH` says. A process loads it once; every session
//! shares it.

use super::SessionError;
use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

/// The folder of the project that the fetch script fills.
const PROJECT_FOLDER: &str = ".onnxruntime";
const LIBRARY_PREFIX: &str = "libonnxruntime.so";

/// The library that this process has loaded.
struct Loaded {
    environment: ort::environment::Environment,
    path: PathBuf,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// Finds ONNX Runtime's shared library.
///
/// `explicit` is a library or a folder that holds one, and then nothing else is looked at. Otherwise: `.onnxruntime/` in
/// the executable's folder and every folder above it, then in the current folder and every folder above it, then next
/// to the executable.
///
/// # Errors
/// There is none: the error names the places and the command that installs it.
pub fn find_library(explicit: Option<&Path>) -> Result<PathBuf, SessionError> {
    let executable = std::env::current_exe().ok();
    let executable_folder = executable.as_deref().and_then(Path::parent);
    let current_folder = std::env::current_dir().ok();
    find_in(explicit, executable_folder, current_folder.as_deref())
}

fn find_in(
    explicit: Option<&Path>,
    executable_folder: Option<&Path>,
    current_folder: Option<&Path>,
) -> Result<PathBuf, SessionError> {
    if let Some(path) = explicit {
        let found = if path.is_dir() {
            library_in(path)
        } else {
            path.is_file().then(|| path.to_owned())
        };
        return found.ok_or_else(|| SessionError::LibraryMissing {
            searched: vec![path.to_owned()],
        });
    }
    let mut searched: Vec<PathBuf> = Vec::new();
    for start in [executable_folder, current_folder].into_iter().flatten() {
        for folder in start.ancestors().map(|folder| folder.join(PROJECT_FOLDER)) {
            if !searched.contains(&folder) {
                searched.push(folder);
            }
        }
    }
    searched.extend(executable_folder.map(Path::to_owned));
    searched
        .iter()
        .find_map(|folder| library_in(folder))
        .ok_or(SessionError::LibraryMissing { searched })
}

/// The newest `libonnxruntime.so*` of a folder; the provider libraries beside it have other names.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let version = |path: &Path| -> Option<Vec<u32>> {
        let name = path.file_name()?.to_str()?.strip_prefix(LIBRARY_PREFIX)?;
        if name.is_empty() {
            return Some(Vec::new());
        }
        let numbers: Result<Vec<u32>, _> =
            name.strip_prefix('.')?.split('.').map(str::parse).collect();
        numbers.ok()
    };
    std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .filter_map(|path| Some((version(&path)?, path)))
        .max()
        .map(|(_, path)| path)
}

/// Loads ONNX Runtime, once a process, and returns the library's path. Sessions do this themselves with no explicit
/// path; a program with an `--onnxruntime PATH` option calls it first.
///
/// # Errors
/// There is no library, it cannot be loaded, or another one is loaded already.
pub fn load_library(explicit: Option<&Path>) -> Result<PathBuf, SessionError> {
    with_loaded(explicit, |loaded| loaded.path.clone())
}

/// Which library computes on which kind of processor: where this is the same, so is every bit of a result on one thread.
///
/// # Errors
/// As [`load_library`].
pub fn arithmetic_in_words() -> Result<String, SessionError> {
    let library = with_loaded(None, |loaded| loaded.path.clone())?;
    let library = library
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    #[cfg(target_arch = "x86_64")]
    let features: Vec<&str> = [
        (std::arch::is_x86_feature_detected!("avx2"), "avx2"),
        (std::arch::is_x86_feature_detected!("fma"), "fma"),
        (std::arch::is_x86_feature_detected!("avx512f"), "avx512f"),
    ]
    .into_iter()
    .filter_map(|(there, name)| there.then_some(name))
    .collect();
    #[cfg(not(target_arch = "x86_64"))]
    let features: Vec<&str> = Vec::new();
    let processor = [&[std::env::consts::ARCH], features.as_slice()].concat();
    Ok(format!("{library} on {}", processor.join(" ")))
}

/// The process's environment, with the library loaded on the first call.
pub(super) fn environment() -> Result<ort::environment::Environment, SessionError> {
    with_loaded(None, |loaded| loaded.environment.clone())
}

fn with_loaded<T>(
    explicit: Option<&Path>,
    take: impl FnOnce(&Loaded) -> T,
) -> Result<T, SessionError> {
    // A panic while the lock was held leaves nothing half done: the value is only set at the end.
    let mut slot = LOADED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(loaded) = slot.as_ref() {
        if let Some(explicit) = explicit {
            let wanted = find_library(Some(explicit))?;
            if wanted != loaded.path {
                return Err(SessionError::LibraryLoad {
                    path: wanted,
                    reason: format!("{} is loaded already", loaded.path.display()),
                });
            }
        }
        return Ok(take(loaded));
    }
    let path = find_library(explicit)?;
    let failed = |reason: String| SessionError::LibraryLoad {
        path: path.clone(),
        reason,
    };
    let environment = ort::init_from(&path)
        .map_err(|error| failed(error.to_string()))?
        .with_name("facemark")
        .with_telemetry(false)
        .with_logger(std::sync::Arc::new(forward_log))
        .build()
        .map_err(|error| failed(error.to_string()))?;
    tracing::debug!(path = %path.display(), "ONNX Runtime loaded");
    let loaded = slot.insert(Loaded { environment, path });
    Ok(take(loaded))
}

/// ONNX Runtime's own messages become events; its warnings are about graph clean-up and interest nobody by default.
fn forward_log(
    level: ort::logging::LogLevel,
    category: &str,
    _id: &str,
    location: &str,
    message: &str,
) {
    use ort::logging::LogLevel;
    match level {
        LogLevel::Fatal | LogLevel::Error => {
            tracing::warn!(target: "onnxruntime", category, location, "{message}");
        }
        LogLevel::Warning => {
            tracing::debug!(target: "onnxruntime", category, location, "{message}");
        }
        LogLevel::Info | LogLevel::Verbose => {
            tracing::trace!(target: "onnxruntime", category, location, "{message}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_folder_comes_before_the_executable_folder() {
        let root = tempfile::tempdir().expect("folder");
        let target = root.path().join("target/debug");
        let project = root.path().join(PROJECT_FOLDER);
        for folder in [&target, &project] {
            std::fs::create_dir_all(folder).expect("folder");
        }
        let beside = target.join("libonnxruntime.so.1.31.1");
        std::fs::write(&beside, "x").expect("file");
        assert_eq!(find_in(None, Some(&target), None).expect("found"), beside);
        for name in [
            "libonnxruntime.so.1.9.0",
            "libonnxruntime.so.1.31.1",
            "libonnxruntime_providers_cuda.so",
            "libonnxruntime.so.old",
        ] {
            std::fs::write(project.join(name), "x").expect("file");
        }
        assert_eq!(
            find_in(None, Some(&target), None).expect("found"),
            project.join("libonnxruntime.so.1.31.1"),
            "the newest version of the project's folder"
        );
    }

    #[test]
    fn a_missing_library_names_the_places_and_the_command() {
        let root = tempfile::tempdir().expect("folder");
        let message = find_in(None, Some(root.path()), Some(root.path()))
            .expect_err("nothing there")
            .to_string();
        let project = root.path().join(PROJECT_FOLDER).display().to_string();
        for part in ["scripts/fetch-onnxruntime.sh", "make onnxruntime", &project] {
            assert!(message.contains(part), "{message} should name {part}");
        }
        let explicit = root.path().join("nothing.so");
        let message = find_in(Some(&explicit), Some(root.path()), None)
            .expect_err("nothing there")
            .to_string();
        assert!(message.contains("nothing.so"), "{message}");
    }
}
