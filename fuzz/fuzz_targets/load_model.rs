//! Loads and runs whatever bytes come: a model file must be refused with an error or run, never panic, hang or take
//! memory without bound.
//!
//! `cargo +nightly fuzz run load_model -- -max_len=65536 -rss_limit_mb=2048 -timeout=20`

#![no_main]

use facemark::engine::{RawModel, RawTensor};
use libfuzzer_sys::{Corpus, fuzz_target};
use std::{panic, path::Path, sync::Once};

/// Most values that an input is filled with; a model that wants more is loaded and not run.
const MOST_VALUES: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| -> Corpus {
    // The loader catches the panics of the library beneath it, on which the fuzzer's hook would abort.
    static HOOK: Once = Once::new();
    HOOK.call_once(|| panic::set_hook(Box::new(|_| {})));
    match panic::catch_unwind(|| load_and_run(bytes)) {
        Ok(corpus) => corpus,
        Err(_) => {
            eprintln!("a panic left the loader");
            std::process::abort()
        }
    }
});

fn load_and_run(bytes: &[u8]) -> Corpus {
    let Ok(mut model) = RawModel::from_bytes(bytes, Path::new("fuzzed.onnx")) else {
        return Corpus::Keep;
    };
    let inputs: Option<Vec<RawTensor>> = model
        .inputs()
        .into_iter()
        .map(|port| {
            let count = port
                .shape
                .iter()
                .try_fold(1usize, |count, &edge| count.checked_mul(edge))
                .filter(|&count| count <= MOST_VALUES)?;
            let values = (0..count).map(|index| (index % 7) as f32 - 3.0).collect();
            Some(RawTensor {
                shape: port.shape,
                values,
            })
        })
        .collect();
    if let Some(inputs) = inputs {
        // Running may fail on what only shows at run time; it must not panic.
        let _ = model.run(&inputs);
    }
    Corpus::Keep
}
