//! Where the library's events go in either program.

use tracing_subscriber::EnvFilter;

/// Sends events to standard error, one line each: those that `RUST_LOG` asks for, or `usual` without it.
pub(crate) fn to_stderr(usual: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .init();
}
