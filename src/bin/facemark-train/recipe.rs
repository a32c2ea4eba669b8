//! `facemark-train recipe`: the parts of the project as one command each. A recipe is a TOML file of the folder `recipes`,
//! which is built in; a copy of it with changes is used with `--recipe`.

mod course;

use crate::failure::Failure;
use clap::{Args, Subcommand};

/// Trains a model of the project, measures it on test, quantises it and writes one HTML report.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    which: Which,
}

#[derive(Subcommand)]
enum Which {
    /// The compact network of the live program.
    Live(course::Arguments),
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.which {
        Which::Live(arguments) => course::run(&course::LIVE, arguments),
    }
}
