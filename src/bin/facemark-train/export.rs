//! `facemark-train export`: from a checkpoint to the model file that `facemark` runs.

use crate::{failure::Failure, quantize::command};
use clap::Args;
use facemark::train::{
    export::fold_batch_norm,
    fit::{checkpoint_file, restore},
    quantize::{
        Calibration, Form, Method, QuantizeOptions, qat::without_fake_quantization, sha256,
    },
    recipe::Recipe,
    whole_file::write_whole,
};
use std::path::{Path, PathBuf};

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
    /// Also write the calibration file of a quantisation-aware training, with the ranges that it has learnt: with the
    /// model it makes the int8 form (`facemark-train quantize MODEL --ranges FILE`).
    #[arg(long, value_name = "FILE")]
    ranges: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let recipe = match &arguments.recipe {
        Some(path) => Some(Recipe::read(path).map_err(Failure::input)?),
        None => None,
    };
    let trained = restore(&arguments.checkpoint, recipe.as_ref())?;
    // Of a training without rounding the graph stays as it is and there are no ranges.
    let (graph, ranges) = without_fake_quantization(&trained.graph).map_err(Failure::running)?;
    let bytes = if arguments.keep_batch_norm {
        graph.to_onnx()
    } else {
        fold_batch_norm(&graph)?.to_onnx()
    };
    match (&arguments.ranges, ranges.values.is_empty()) {
        (Some(path), false) => {
            let how = trained.recipe.quantization.clone().unwrap_or_default();
            let options = QuantizeOptions {
                method: Method::Training,
                reduce_range: how.reduce_range,
                equalize: false,
                bias_correction: false,
                keep_float: how.keep_float,
                form: Form::QOperator,
            };
            let name = &trained.card.name;
            let calibration =
                Calibration::new(name, sha256(&bytes), command(), options, None, ranges);
            write(path, &calibration.to_json())?;
        }
        (Some(_), true) => {
            let reason = "the checkpoint is not of a quantisation-aware training: it has no ranges";
            return Err(Failure::input(anyhow::anyhow!(reason)));
        }
        (None, _) => {}
    }
    write(&arguments.output, &bytes)?;
    eprintln!(
        "wrote {} ({} kB, {}) from {}",
        arguments.output.display(),
        bytes.len() / 1000,
        trained.card.name,
        checkpoint_file(&arguments.checkpoint).display()
    );
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_whole(path, bytes).map_err(|error| {
        let context = format!("{}: cannot write", path.display());
        Failure::running(anyhow::Error::new(error).context(context))
    })
}
