//! `facemark-train recipe`: the parts of the project as one command each. A recipe is a TOML file of the folder `recipes`,
//! which is built in; a copy of it with changes is used with `--recipe`.

mod collapse_study;
mod course;
mod measure;
mod parts;
mod sweep;

use crate::failure::Failure;
use clap::{Args, Subcommand};

/// Trains a model of the project, measures it on test, quantises it and writes one HTML report; or studies what goes wrong.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    which: Which,
}

#[derive(Subcommand)]
enum Which {
    /// Part 1: the nose tip, from the whole picture.
    Nose(course::Arguments),
    /// Part 2: every point of a frontal face, from the whole picture.
    FullFace(course::Arguments),
    /// Part 3: 68 points of faces in the wild with ResNet18, and the contest's table.
    InTheWild(course::Arguments),
    /// The compact network of the live program.
    Live(course::Arguments),
    CollapseStudy(collapse_study::Arguments),
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.which {
        Which::Nose(arguments) => course::run(&parts::NOSE, arguments),
        Which::FullFace(arguments) => course::run(&parts::FULL_FACE, arguments),
        Which::InTheWild(arguments) => course::run(&parts::IN_THE_WILD, arguments),
        Which::Live(arguments) => course::run(&parts::LIVE, arguments),
        Which::CollapseStudy(arguments) => collapse_study::run(arguments),
    }
}
