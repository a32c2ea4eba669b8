//! Random int8 networks with what ONNX Runtime makes of them, kept in a file: the engine can be held to it where ONNX
//! Runtime does not run. `tests/references/int8/cases.json` is written by the parity test with `FACEMARK_INT8_BUNDLE` set
//! to a folder and `FACEMARK_INT8_SMALL=1`; with `FACEMARK_INT8_BUNDLE` set, the cases in that folder are checked too.

#[cfg(feature = "train")]
use crate::int8_models::RandomModel;
use crate::{fixtures::root, int8_models::CodedInput};
use facemark::{
    engine::{EngineOptions, KernelSet, RawModel},
    model::Output,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Folder to write cases to, or to read them from.
pub(crate) const FOLDER: &str = "FACEMARK_INT8_BUNDLE";
pub(crate) const FILE: &str = "cases.json";

/// A network, an input and the outputs that are right. Bytes are hexadecimal.
#[derive(Serialize, Deserialize)]
pub(crate) struct Case {
    seed: u64,
    file: String,
    shape: Vec<usize>,
    step: f32,
    codes: String,
    outputs: Vec<CaseOutput>,
}

#[derive(Serialize, Deserialize)]
struct CaseOutput {
    name: String,
    shape: Vec<usize>,
    /// f32, little-endian.
    values: String,
}

/// What only the writer of a bundle needs: it asks ONNX Runtime.
#[cfg(feature = "train")]
impl Case {
    pub(crate) fn new(seed: u64, model: &RandomModel, outputs: &[Output]) -> Self {
        let outputs = outputs.iter().map(|output| CaseOutput {
            name: output.name.clone(),
            shape: output.shape.clone(),
            values: to_hex(output.values.iter().flat_map(|value| value.to_le_bytes())),
        });
        Self {
            seed,
            file: to_hex(model.file.iter().copied()),
            shape: model.input.shape.clone(),
            step: model.input.step,
            codes: to_hex(model.input.codes.iter().copied()),
            outputs: outputs.collect(),
        }
    }

    /// Characters that it takes.
    pub(crate) fn len(&self) -> usize {
        let outputs: usize = self.outputs.iter().map(|output| output.values.len()).sum();
        self.file.len() + self.codes.len() + outputs
    }
}

impl Case {
    fn input(&self) -> CodedInput {
        CodedInput {
            shape: self.shape.clone(),
            step: self.step,
            codes: from_hex(&self.codes),
        }
    }

    fn expected(&self) -> Vec<Output> {
        let output = |output: &CaseOutput| Output {
            name: output.name.clone(),
            shape: output.shape.clone(),
            values: from_hex(&output.values)
                .chunks_exact(4)
                .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")))
                .collect(),
        };
        self.outputs.iter().map(output).collect()
    }
}

#[cfg(feature = "train")]
fn to_hex(bytes: impl Iterator<Item = u8>) -> String {
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

/// Where two results differ in any bit, in words.
pub(crate) fn difference(expected: &[Output], found: &[Output]) -> Option<String> {
    let names = |outputs: &[Output]| -> Vec<(String, Vec<usize>)> {
        let name = |output: &Output| (output.name.clone(), output.shape.clone());
        outputs.iter().map(name).collect()
    };
    if names(expected) != names(found) {
        return Some(format!("{:?}, not {:?}", names(found), names(expected)));
    }
    for (expected, found) in expected.iter().zip(found) {
        let pairs = expected.values.iter().zip(&found.values);
        let wrong: Vec<_> = pairs
            .enumerate()
            .filter(|(_, (a, b))| a.to_bits() != b.to_bits())
            .collect();
        if let Some((at, (expected_value, value))) = wrong.first() {
            return Some(format!(
                "{}: {} of {} values differ, the first at {at}: {value}, not {expected_value}",
                expected.name,
                wrong.len(),
                expected.values.len()
            ));
        }
    }
    None
}

/// What the engine makes of a network with one set of kernels.
pub(crate) fn run(
    file: &[u8],
    name: &str,
    input: &CodedInput,
    kernels: KernelSet,
    threads: usize,
) -> Result<Vec<Output>, String> {
    let options = EngineOptions {
        kernels: Some(kernels),
        threads,
    };
    let mut model = RawModel::from_bytes_with(file, Path::new(name), &options)
        .map_err(|error| error.to_string())?;
    model
        .run(&[input.tensor()])
        .map_err(|error| error.to_string())
}

fn check(path: &Path) {
    let text = std::fs::read_to_string(path).expect("a file of cases");
    let cases: Vec<Case> = serde_json::from_str(&text).expect("cases");
    assert!(!cases.is_empty());
    let mut failures = Vec::new();
    for kernels in KernelSet::available() {
        for case in &cases {
            let (file, name) = (from_hex(&case.file), format!("random {}", case.seed));
            let wrong = match run(&file, &name, &case.input(), kernels, 1) {
                Ok(found) => difference(&case.expected(), &found),
                Err(error) => Some(error),
            };
            failures.extend(wrong.map(|wrong| format!("{name} with {kernels}: {wrong}")));
        }
        println!("{}: {} cases with {kernels}", path.display(), cases.len());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn kept_networks_give_what_onnx_runtime_gave() {
    check(&root().join("tests/references/int8").join(FILE));
}

#[test]
fn networks_of_a_given_folder_give_what_onnx_runtime_gave() {
    let path = std::env::var_os(FOLDER).map(|folder| PathBuf::from(folder).join(FILE));
    match path {
        Some(path) if path.exists() => check(&path),
        _ => println!("skipped: {FOLDER} names no folder with {FILE}"),
    }
}
