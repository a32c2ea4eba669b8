//! Holds the source to the layers of `src/ARCHITECTURE.md`: which module may name which, which module may use which
//! crate, where `unsafe` and printing may stand. It reads tokens, not text, so comments and strings do not count.

use crate::fixtures::root;
use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// Top-level modules without I/O, clock or threads.
const CORE: &[&str] = &[
    "annotation",
    "crop",
    "frame",
    "geometry",
    "metrics",
    "onnx",
    "overlay",
    "pose",
    "scheme",
    "signals",
    "smoothing",
];
/// What a model file says of itself, and picture files.
const BASE: &[&str] = &["model", "picture"];
/// Pre- and post-processing around `model::Infer`.
const PIPELINE: &[&str] = &["detector", "evaluation", "finder", "landmarker", "tracker"];

/// The top-level modules that `unit` may name: a top-level module of the library, or `bin/NAME`. `None` for a unit that
/// has no layer yet.
fn allowed(unit: &str) -> Option<Vec<&'static str>> {
    let layers: &[&[&str]] = match unit {
        "model" => &[CORE, &["model"]],
        "picture" => &[CORE, &["picture"]],
        "engine" => &[CORE, BASE, &["engine"]],
        "source" => &[CORE, BASE, &["engine"], PIPELINE, &["source"]],
        "sink" => &[CORE, BASE, &["engine"], PIPELINE, &["source", "sink"]],
        "live" => &[
            CORE,
            BASE,
            &["engine"],
            PIPELINE,
            &["source", "sink", "live"],
        ],
        "train" => &[
            CORE,
            BASE,
            &[
                "engine",
                "detector",
                "finder",
                "landmarker",
                "evaluation",
                "train",
            ],
        ],
        "bin/shared" => &[CORE, BASE],
        "bin/facemark" => &[
            CORE,
            BASE,
            &["engine"],
            PIPELINE,
            &["source", "sink", "live"],
        ],
        "bin/facemark-train" => &[CORE, BASE, &["engine"], PIPELINE, &["train"]],
        unit if CORE.contains(&unit) => &[CORE],
        unit if PIPELINE.contains(&unit) => &[CORE, BASE, &["engine"], PIPELINE],
        _ => return None,
    };
    Some(layers.concat())
}

/// Crates that only one place may use: name (a trailing `*` stands for anything), and the start of the paths that may.
const CONFINED_CRATES: &[(&str, &[&str])] = &[
    ("tract_*", &["src/engine/", "src/engine.rs"]),
    ("ort", &["src/train/session/", "src/train/session.rs"]),
    ("nokhwa", &["src/source/", "src/source.rs"]),
    ("v4l", &["src/source/", "src/source.rs"]),
    ("zune_jpeg", &["src/source/", "src/source.rs"]),
    ("minifb", &["src/sink/", "src/sink.rs"]),
    ("rosc", &["src/sink/", "src/sink.rs"]),
    ("delaunator", &["src/overlay/", "src/overlay.rs"]),
    ("anyhow", &["src/bin/"]),
    ("indicatif", &["src/bin/"]),
];

/// Parts of `std` that only some places may use: the path after `std`, and the start of the paths that may.
const CONFINED_STD: &[(&str, &[&str])] = &[("net", &["src/sink/", "src/sink.rs"])];

/// Parts of `std` that core does without: it takes time as an argument and leaves files to its callers.
const NOT_IN_CORE: &[&str] = &["env", "fs", "net", "process", "thread", "time"];

const PRINTING: &[&str] = &["dbg", "eprint", "eprintln", "print", "println"];

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Mark(char),
    /// `::`
    Path,
}

struct Placed {
    token: Token,
    line: usize,
}

/// A line that the architecture forbids.
struct Violation {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Words and marks of Rust source without comments, strings, characters, numbers and lifetimes.
fn tokens(source: &str) -> Vec<Placed> {
    let text: Vec<char> = source.chars().collect();
    let at = |index: usize| text.get(index).copied().unwrap_or('\0');
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut found = Vec::new();
    let (mut index, mut line) = (0, 1);
    while index < text.len() {
        let start = index;
        match (at(index), at(index + 1)) {
            ('/', '/') => {
                while index < text.len() && at(index) != '\n' {
                    index += 1;
                }
            }
            ('/', '*') => {
                let mut depth = 0;
                loop {
                    match (at(index), at(index + 1)) {
                        ('/', '*') => (depth, index) = (depth + 1, index + 2),
                        ('*', '/') => (depth, index) = (depth - 1, index + 2),
                        _ => index += 1,
                    }
                    if depth == 0 || index >= text.len() {
                        break;
                    }
                }
            }
            ('"', _) => index = after_string(&text, index),
            ('\'', next) if next == '\\' || at(index + 2) == '\'' => {
                index += if next == '\\' { 3 } else { 2 };
                while index < text.len() && at(index) != '\'' {
                    index += 1;
                }
                index += 1;
            }
            ('\'', _) => {
                index += 1;
                while is_word(at(index)) {
                    index += 1;
                }
            }
            (':', ':') => {
                let token = Token::Path;
                found.push(Placed { token, line });
                index += 2;
            }
            (letter, _) if is_word(letter) => {
                while is_word(at(index)) {
                    index += 1;
                }
                let word: String = text[start..index].iter().collect();
                let raw = matches!(word.as_str(), "r" | "br" | "cr");
                let fences = text[index..]
                    .iter()
                    .take_while(|&&mark| mark == '#')
                    .count();
                if raw && at(index + fences) == '"' {
                    index = after_raw_string(&text, index + fences + 1, fences);
                } else if !letter.is_ascii_digit() {
                    let token = Token::Word(word);
                    found.push(Placed { token, line });
                }
            }
            (mark, _) => {
                if !mark.is_whitespace() {
                    let token = Token::Mark(mark);
                    found.push(Placed { token, line });
                }
                index += 1;
            }
        }
        let end = index.min(text.len());
        line += text[start..end].iter().filter(|&&c| c == '\n').count();
    }
    found
}

/// The index after the string whose opening quote is at `index`.
fn after_string(text: &[char], mut index: usize) -> usize {
    index += 1;
    while index < text.len() && text[index] != '"' {
        index += if text[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

/// The index after the raw string whose text begins at `index` and that ends at a quote with `fences` marks.
fn after_raw_string(text: &[char], mut index: usize, fences: usize) -> usize {
    while index < text.len() {
        let closing = text[index] == '"'
            && text[index + 1..].len() >= fences
            && text[index + 1..index + 1 + fences]
                .iter()
                .all(|&mark| mark == '#');
        if closing {
            return index + 1 + fences;
        }
        index += 1;
    }
    index
}

/// Every path of the use tree or path expression whose first word is at `index`: `a::{b, c::d}` gives a::b and a::c::d.
fn paths(tokens: &[Placed], index: usize) -> (Vec<Vec<String>>, usize) {
    let word = match tokens.get(index).map(|placed| &placed.token) {
        Some(Token::Word(word)) => word.clone(),
        Some(Token::Mark('*')) => "*".to_owned(),
        _ => return (Vec::new(), index + 1),
    };
    let is = |index: usize, token: &Token| tokens.get(index).is_some_and(|at| at.token == *token);
    if !is(index + 1, &Token::Path) {
        return (vec![vec![word]], index + 1);
    }
    let mut next = index + 2;
    let mut tails = Vec::new();
    if is(next, &Token::Mark('{')) {
        next += 1;
        while next < tokens.len() && !is(next, &Token::Mark('}')) {
            let (found, after) = paths(tokens, next);
            tails.extend(found);
            next = after;
        }
        next += 1;
    } else {
        (tails, next) = paths(tokens, next);
    }
    if tails.is_empty() {
        tails.push(Vec::new());
    }
    for tail in &mut tails {
        tail.insert(0, word.clone());
    }
    (tails, next)
}

/// Walks one file's tokens with the module they stand in.
struct File<'a> {
    /// Relative to the package, with `/`.
    name: &'a str,
    /// `geometry`, `train`, ..., `bin/facemark`, or `lib`.
    unit: String,
    /// Module path of the file within its crate.
    module: Vec<String>,
    is_test: bool,
}

impl<'a> File<'a> {
    fn new(name: &'a str) -> Self {
        let inside = name.strip_prefix("src/").expect("a path in src");
        let stem = inside.strip_suffix(".rs").expect("a Rust file");
        let mut module: Vec<String> = stem.split('/').map(str::to_owned).collect();
        let unit = if module[0] == "bin" {
            let unit = format!("bin/{}", module[1]);
            module.drain(..2);
            unit
        } else {
            module[0].clone()
        };
        if matches!(
            module.last().map(String::as_str),
            Some("lib" | "main" | "mod")
        ) {
            module.pop();
        }
        let is_test = module
            .iter()
            .any(|part| part == "tests" || part.ends_with("_tests"));
        Self {
            name,
            unit,
            module,
            is_test,
        }
    }

    fn in_library(&self) -> bool {
        !self.unit.starts_with("bin/")
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.name.starts_with(place))
    }

    fn violations(&self, source: &str) -> Vec<Violation> {
        let tokens = tokens(source);
        let mut found = Vec::new();
        let mut report = |line: usize, what: String| {
            found.push(Violation {
                file: self.name.to_owned(),
                line,
                what,
            });
        };
        if !source.starts_with("//!") {
            report(1, "the first lines do not say what the file is".to_owned());
        }
        let reach = allowed(&self.unit);
        if reach.is_none() && self.unit != "lib" {
            let what = format!("`{}` has no layer: give it one in {}", self.unit, file!());
            report(1, what);
        }
        let reach = reach.unwrap_or_default();
        // Inline modules that are open here: name, depth of their braces, whether they are tests.
        let mut open: Vec<(String, usize, bool)> = Vec::new();
        let mut depth = 0;
        let mut index = 0;
        while index < tokens.len() {
            let Placed { token, line } = &tokens[index];
            let before = |back: usize| index.checked_sub(back).map(|at| &tokens[at].token);
            let after = tokens.get(index + 1).map(|placed| &placed.token);
            let word = match token {
                Token::Mark('{') => {
                    depth += 1;
                    index += 1;
                    continue;
                }
                Token::Mark('}') => {
                    depth -= 1;
                    open.retain(|(_, opened, _)| *opened < depth + 1);
                    index += 1;
                    continue;
                }
                Token::Word(word) => word.as_str(),
                _ => {
                    index += 1;
                    continue;
                }
            };
            let is_test = self.is_test || open.iter().any(|(_, _, test)| *test);
            if word == "mod"
                && let Some(Token::Word(name)) = after
                && tokens.get(index + 2).map(|placed| &placed.token) == Some(&Token::Mark('{'))
            {
                let test = is_under_cfg_test(&tokens[..index]);
                open.push((name.clone(), depth + 1, test));
            }
            if word == "unsafe" && !self.is_in(&["src/engine/kernels/", "src/engine/kernels.rs"]) {
                report(*line, "`unsafe` outside engine/kernels".to_owned());
            }
            if PRINTING.contains(&word)
                && after == Some(&Token::Mark('!'))
                && self.in_library()
                && !is_test
            {
                report(*line, format!("`{word}!` in the library: use tracing"));
            }
            let names_crate = after == Some(&Token::Path) || before(1) == Some(&word_token("use"));
            for (name, places) in CONFINED_CRATES {
                let same = match name.strip_suffix('*') {
                    Some(start) => word.starts_with(start),
                    None => word == *name,
                };
                if same && names_crate && !self.is_in(places) {
                    report(*line, format!("`{word}` outside {}", places[0]));
                }
            }
            let starts_path =
                before(1) != Some(&Token::Path) || !matches!(before(2), Some(Token::Word(_)));
            if starts_path && after == Some(&Token::Path) {
                let mut module = self.module.clone();
                module.extend(open.iter().map(|(name, _, _)| name.clone()));
                for path in paths(&tokens, index).0 {
                    if let Some(what) = self.forbidden(&path, module.clone(), &reach) {
                        report(*line, what);
                    }
                }
            }
            index += 1;
        }
        found
    }

    /// What is wrong with naming `path` in `module`, if anything.
    fn forbidden(&self, path: &[String], module: Vec<String>, reach: &[&str]) -> Option<String> {
        if path[0] == "std" {
            let part = path[1].as_str();
            let (_, places) = CONFINED_STD
                .iter()
                .find(|(name, _)| *name == part)
                .unwrap_or(&("", &["src/"]));
            // A duration is a number; a clock is not.
            let is_clock = part != "time" || path.last().is_some_and(|name| name != "Duration");
            let not_in_core =
                CORE.contains(&self.unit.as_str()) && NOT_IN_CORE.contains(&part) && is_clock;
            return (not_in_core || !self.is_in(places))
                .then(|| format!("`std::{part}` does not belong here"));
        }
        let named = if self.in_library() {
            resolve(path, module)?
        } else {
            (path[0] == "facemark").then(|| path[1..].to_vec())?
        };
        let top = named.first()?.as_str();
        if top == "*" || self.unit == "lib" || reach.contains(&top) {
            return None;
        }
        Some(match allowed(top) {
            Some(_) => format!("`{}` must not use `{top}`", self.unit),
            None => format!("`{top}` is no module of a layer: write the path of its module"),
        })
    }
}

fn word_token(word: &str) -> Token {
    Token::Word(word.to_owned())
}

/// `crate::`, `self::` and `super::` paths from the root of the library; `None` for other paths, and for those that
/// stay in their own top-level module.
fn resolve(path: &[String], mut module: Vec<String>) -> Option<Vec<String>> {
    let mut rest = path;
    match rest[0].as_str() {
        "crate" => {
            module.clear();
            rest = &rest[1..];
        }
        "self" | "super" => {
            while let Some(first) = rest.first() {
                match first.as_str() {
                    "self" => {}
                    "super" => drop(module.pop()),
                    _ => break,
                }
                rest = &rest[1..];
            }
        }
        _ => return None,
    }
    module.extend_from_slice(rest);
    Some(module)
}

/// Whether the tokens end in `#[cfg(test)]`, perhaps with a visibility after it.
fn is_under_cfg_test(tokens: &[Placed]) -> bool {
    let tail: Vec<&Token> = tokens.iter().rev().take(12).map(|at| &at.token).collect();
    let pattern = [
        Token::Mark(']'),
        Token::Mark(')'),
        word_token("test"),
        Token::Mark('('),
        word_token("cfg"),
    ];
    tail.windows(pattern.len())
        .any(|window| window.iter().zip(&pattern).all(|(at, want)| *at == want))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_source_keeps_to_its_layers() {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    assert!(files.len() > 8, "read {} files only", files.len());
    let mut found = Vec::new();
    for path in files {
        let relative = path.strip_prefix(root()).expect("inside the package");
        let name = relative.to_str().expect("UTF-8").replace('\\', "/");
        let source = fs::read_to_string(&path).expect("readable source");
        found.extend(File::new(&name).violations(&source));
    }
    let list: Vec<String> = found.iter().map(Violation::to_string).collect();
    assert!(list.is_empty(), "\n{}", list.join("\n"));
}

#[test]
fn planted_lines_are_caught() {
    struct Case {
        file: &'static str,
        source: &'static str,
        expected: &'static str,
    }
    let case = |file, source, expected| Case {
        file,
        source,
        expected,
    };
    let cases = [
        case(
            "src/geometry.rs",
            "use crate::model::ModelCard;",
            "`geometry` must not use `model`",
        ),
        case(
            "src/crop.rs",
            "use crate::{frame::Frame, engine::{self, Engine}};",
            "`crop` must not use `engine`",
        ),
        case(
            "src/crop.rs",
            "fn f() { crate::tracker::Tracker::new() }",
            "`crop` must not use `tracker`",
        ),
        case(
            "src/crop.rs",
            "use super::sink::Sink;",
            "`crop` must not use `sink`",
        ),
        case(
            "src/crop.rs",
            "mod inner { use super::super::train::Graph; }",
            "`crop` must not use `train`",
        ),
        case(
            "src/model.rs",
            "use crate::detector::Detector;",
            "`model` must not use `detector`",
        ),
        case(
            "src/picture.rs",
            "use crate::model::Infer;",
            "`picture` must not use `model`",
        ),
        case(
            "src/engine/plan.rs",
            "use crate::landmarker::Landmarker;",
            "`engine` must not use `landmarker`",
        ),
        case(
            "src/engine/plan.rs",
            "use super::super::source::Source;",
            "`engine` must not use `source`",
        ),
        case(
            "src/detector.rs",
            "#[cfg(feature = \"train\")] use crate::train::graph::Graph;",
            "`detector` must not use `train`",
        ),
        case(
            "src/source/demo.rs",
            "use crate::sink::Window;",
            "`source` must not use `sink`",
        ),
        case(
            "src/train/fit.rs",
            "use crate::sink::Window;",
            "`train` must not use `sink`",
        ),
        case(
            "src/train/fit.rs",
            "use crate::Tracker;",
            "`Tracker` is no module of a layer",
        ),
        case(
            "src/bin/facemark/main.rs",
            "use facemark::{model::Task, train::fit};",
            "`bin/facemark` must not use `train`",
        ),
        case(
            "src/bin/facemark-train/main.rs",
            "use facemark::source;use facemark::source::Demo;",
            "`bin/facemark-train` must not use `source`",
        ),
        case("src/misc.rs", "", "`misc` has no layer"),
        case(
            "src/detector.rs",
            "use tract_onnx::prelude::*;",
            "`tract_onnx` outside src/engine/",
        ),
        case(
            "src/train/graph.rs",
            "fn f() -> tract_core::model::TypedModel {}",
            "`tract_core` outside src/engine/",
        ),
        case(
            "src/train/fit.rs",
            "use ort;",
            "`ort` outside src/train/session/",
        ),
        case(
            "src/train/fit.rs",
            "use ort::session::Session;",
            "`ort` outside src/train/session/",
        ),
        case(
            "src/bin/facemark/cameras.rs",
            "use nokhwa::query;",
            "`nokhwa` outside src/source/",
        ),
        case(
            "src/overlay.rs",
            "let key = minifb::Key::Q;",
            "`minifb` outside src/sink/",
        ),
        case(
            "src/model.rs",
            "fn f() -> anyhow::Result<()> {}",
            "`anyhow` outside src/bin/",
        ),
        case(
            "src/crop.rs",
            "fn f() { unsafe { g() } }",
            "`unsafe` outside engine/kernels",
        ),
        case(
            "src/bin/facemark/main.rs",
            "unsafe fn f() {}",
            "`unsafe` outside engine/kernels",
        ),
        case(
            "src/train/fit.rs",
            "fn f() { println!(\"epoch\") }",
            "`println!` in the library",
        ),
        case(
            "src/train/fit.rs",
            "#[cfg(test)] mod tests {} fn f() { eprintln!(\"epoch\") }",
            "`eprintln!` in the library",
        ),
        case(
            "src/smoothing.rs",
            "use std::time::{Duration, Instant};",
            "`std::time` does not belong here",
        ),
        case(
            "src/pose.rs",
            "fn f() { std::thread::sleep(x) }",
            "`std::thread` does not belong here",
        ),
        case(
            "src/train/fit.rs",
            "use std::net::TcpStream;",
            "`std::net` does not belong here",
        ),
        case(
            "src/train/fit.rs",
            "/* '\"' */ fn f<'a>(x: &'a str) { let c = '\"'; let s = r#\"\"\"#; unsafe {} }",
            "`unsafe` outside engine/kernels",
        ),
    ];
    let mut missed = Vec::new();
    for Case {
        file,
        source,
        expected,
    } in cases
    {
        let found = File::new(file).violations(&format!("//! Planted.\n{source}\n"));
        let hit = found
            .iter()
            .any(|at| at.what.starts_with(expected) && (at.line == 2 || source.is_empty()));
        if !hit {
            let found: Vec<String> = found.iter().map(Violation::to_string).collect();
            missed.push(format!(
                "{file}: {source}\n  expected {expected}, found {found:?}"
            ));
        }
    }
    assert!(missed.is_empty(), "\n{}", missed.join("\n"));
    let bare = File::new("src/crop.rs").violations("use crate::frame::Frame;\n");
    assert_eq!(bare.len(), 1, "a file without a first line");
}

#[test]
fn rightful_lines_pass() {
    let cases = [
        ("src/lib.rs", "pub mod train; pub use train::fit;"),
        (
            "src/crop.rs",
            "use crate::{frame::Frame, geometry::{Affine, Point}}; use std::time::Duration;",
        ),
        (
            "src/crop.rs",
            "#[cfg(test)] mod tests { use super::*; fn f() { println!(\"skipped\") } }",
        ),
        (
            "src/train/graph/tests.rs",
            "fn f() { println!(\"skipped\") }",
        ),
        (
            "src/crop.rs",
            "// use crate::train::fit; unsafe\n/* /* unsafe */ println!() */ const A: &str = \"unsafe { ort::x }\";",
        ),
        (
            "src/engine/plan.rs",
            "use tract_onnx::prelude::*; use crate::model::Infer; use super::qops;",
        ),
        ("src/engine/kernels/avx2.rs", "unsafe fn f() {}"),
        (
            "src/train/session/library.rs",
            "use ort::session::Session; use super::super::graph::Graph;",
        ),
        ("src/sink/udp.rs", "use std::net::UdpSocket;"),
        (
            "src/train/fit.rs",
            "use crate::evaluation::evaluate; use crate::onnx; let x = self::step::y;",
        ),
        (
            "src/bin/facemark-train/main.rs",
            "use facemark::train::fit; fn f() { println!(\"done\") }",
        ),
        (
            "src/bin/facemark/run.rs",
            "use crate::train::x; use super::main; use anyhow::Context;",
        ),
    ];
    for (file, source) in cases {
        let found = File::new(file).violations(&format!("//! Planted.\n{source}\n"));
        let found: Vec<String> = found.iter().map(Violation::to_string).collect();
        assert!(found.is_empty(), "{source}\n{found:?}");
    }
}
