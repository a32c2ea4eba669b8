//! `facemark-train synthesize`: writes drawn faces as a data set.

use crate::failure::Failure;
use clap::Args;
use facemark::train::synthetic::write_folder;
use std::path::PathBuf;

/// Writes the drawn faces that `--data synthetic:SEED` stands for as folders of pictures and labels.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Folder to write to: `landmarks` and `detection` in it.
    output: PathBuf,
    /// Seed of the drawing.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// At most so many pictures of each split and kind.
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    most: usize,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    write_folder(arguments.seed, &arguments.output, arguments.most).map_err(Failure::running)?;
    eprintln!(
        "wrote {0}/landmarks and {0}/detection",
        arguments.output.display()
    );
    Ok(())
}
