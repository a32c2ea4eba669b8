//! `facemark-train export`: from a checkpoint to the model file that `facemark` runs.

use crate::failure::Failure;
use clap::Args;
use facemark::train::{
    export::fold_batch_norm,
    fit::{checkpoint_file, restore},
    recipe::Recipe,
    whole_file::write_whole,
};
use std::path::PathBuf;

/// Writes a checkpoint's network as an ONNX model: averaged weights, batch normalisation folded into the convolutions,
/// the model card as metadata.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Checkpoint file, or the folder of a training: its best checkpoint.
    #[arg(long, value_name = "PATH")]
    checkpoint: PathBuf,
    /// The model file to write.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Refuse a checkpoint that was not made with this recipe.
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Leave batch normalisation as it is, so that `fit --init` can go on training the model with it.
    #[arg(long)]
    keep_batch_norm: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let recipe = match &arguments.recipe {
        Some(path) => Some(Recipe::read(path).map_err(Failure::input)?),
        None => None,
    };
    let trained = restore(&arguments.checkpoint, recipe.as_ref())?;
    let bytes = if arguments.keep_batch_norm {
        trained.graph.to_onnx()
    } else {
        fold_batch_norm(&trained.graph)?.to_onnx()
    };
    write_whole(&arguments.output, &bytes).map_err(|error| {
        let context = format!("{}: cannot write", arguments.output.display());
        Failure::running(anyhow::Error::new(error).context(context))
    })?;
    eprintln!(
        "wrote {} ({} kB, {}) from {}",
        arguments.output.display(),
        bytes.len() / 1000,
        trained.card.name,
        checkpoint_file(&arguments.checkpoint).display()
    );
    Ok(())
}
