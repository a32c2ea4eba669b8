//! A soak: clips in a loop through the live path at a camera's rate, with stalls, unplugs, other frame sizes and outputs
//! that fail, block or panic, for as long as asked. It fails when memory, descriptors or threads grow, when something
//! panics that should not, when an output loses what another's failure must not cost it, or when frames come to cost
//! more. `--prove` plants each of these faults and fails when one is not noticed.
//!
//!     cargo bench --bench soak -- [--minutes N] [--seed S] [--clips FOLDER] [--prove]

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints its table"
)]

mod checks;
mod faults;
mod process;
mod round;
mod source;

use anyhow::{Context, bail};
use checks::Record;
use faults::Plant;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

/// A soak has as many runs as are needed to tell growth from chance.
const LEAST_RUNS: usize = 11;
const LONGEST_RUN: Duration = Duration::from_secs(90);

struct Arguments {
    minutes: f64,
    seed: u64,
    clips: Option<PathBuf>,
    prove: bool,
}

impl Arguments {
    /// `None` without arguments of our own: `cargo test --benches` comes by here.
    fn parse() -> anyhow::Result<Option<Self>> {
        // `cargo bench` adds `--bench`.
        let mut words = std::env::args()
            .skip(1)
            .filter(|word| word != "--bench")
            .peekable();
        if words.peek().is_none() {
            return Ok(None);
        }
        let mut arguments = Self {
            minutes: 60.0,
            seed: std::time::UNIX_EPOCH.elapsed()?.as_secs(),
            clips: None,
            prove: false,
        };
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .with_context(|| format!("{word}: expected a value, found nothing"))
            };
            match word.as_str() {
                "--minutes" => {
                    arguments.minutes = value()?.parse().context("--minutes: expected a number")?
                }
                "--seed" => {
                    arguments.seed = value()?
                        .parse()
                        .context("--seed: expected a whole number")?
                }
                "--clips" => arguments.clips = Some(value()?.into()),
                "--prove" => arguments.prove = true,
                other => {
                    bail!("unknown argument {other:?}: --minutes N --seed S --clips FOLDER --prove")
                }
            }
        }
        if !(arguments.minutes > 0.0 && arguments.minutes < 1e6) {
            bail!(
                "--minutes: expected more than 0, found {}",
                arguments.minutes
            );
        }
        Ok(Some(arguments))
    }
}

fn main() -> ExitCode {
    faults::count_panics();
    match Arguments::parse().and_then(|arguments| arguments.map_or(Ok(true), |found| run(&found))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all held.
fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let clips = clips(arguments.clips.as_deref())?;
    println!("seed {}, clips: {}", arguments.seed, source::names(&clips));
    if !arguments.prove {
        let record = soak(&clips, arguments, None)?;
        println!("{record}");
        let failures = record.failures();
        for failure in &failures {
            println!("FAILED: {failure}");
        }
        if failures.is_empty() {
            println!("passed");
        }
        return Ok(failures.is_empty());
    }
    let mut all_caught = true;
    for plant in Plant::ALL {
        let record = soak(&clips, arguments, Some(plant))?;
        let failures = record.failures();
        let caught = failures
            .iter()
            .any(|failure| failure.check == plant.caught_by());
        all_caught &= caught;
        let words = failures
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ");
        println!(
            "{}: planted {plant:?}: {words}",
            if caught { "caught" } else { "NOT CAUGHT" }
        );
    }
    Ok(all_caught)
}

/// The clips of a folder; without one those beside the project, and without those the demo.
fn clips(folder: Option<&Path>) -> anyhow::Result<Vec<source::Clip>> {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/video");
    let folder = match folder {
        Some(folder) => folder,
        None if usual.is_dir() => &usual,
        None => return Ok(vec![source::Clip::Demo]),
    };
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|ending| ["mp4", "mkv", "y4m"].iter().any(|known| ending == *known))
        })
        .collect();
    paths.sort();
    if paths.is_empty() {
        bail!(
            "{}: expected clips (.mp4, .mkv, .y4m), found none",
            folder.display()
        );
    }
    Ok(paths
        .into_iter()
        .map(source::Clip::File)
        .chain([source::Clip::Demo])
        .collect())
}

fn soak(
    clips: &[source::Clip],
    arguments: &Arguments,
    plant: Option<Plant>,
) -> anyhow::Result<Record> {
    let mut random = fastrand::Rng::with_seed(arguments.seed);
    let mut record = Record::default();
    let duration = Duration::from_secs_f64(60.0 * arguments.minutes);
    let begun = Instant::now();
    let mut said = begun;
    while begun.elapsed() < duration || record.runs() < LEAST_RUNS {
        // A run of the program now and then begins anew, as after a crash of what it serves.
        let longest = (duration / 12).min(LONGEST_RUN).as_secs_f64();
        let secs = longest * (0.5 + 0.5 * random.f64());
        let order = round::Order {
            clips,
            duration: Duration::from_secs_f64(secs.max(1.0)),
            plant,
        };
        round::run(&order, &mut random, &mut record)?;
        if said.elapsed() > Duration::from_secs(60) {
            said = Instant::now();
            println!(
                "{:5.1} min: {}",
                begun.elapsed().as_secs_f64() / 60.0,
                record.status()
            );
        }
    }
    record.panics = faults::take_panics();
    Ok(record)
}
