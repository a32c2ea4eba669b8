//! What several integration tests need: the data sets beside the checkout, when they are there.

#![allow(
    dead_code,
    reason = "which of these are used depends on the enabled features"
)]

use std::path::{Path, PathBuf};

/// The package's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file or folder of `../shared`; says that the test is skipped when it is not there.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let found = root().join("../shared").join(path);
    if found.exists() {
        return Some(found);
    }
    println!("skipped: {} is not there", found.display());
    None
}
