//! From a checkpoint back to a network: what `export` and `evaluate` work on.

use super::{FitError, constant_channels::silence, setup::loss_terms};
use crate::{
    model::ModelCard,
    train::{
        autodiff::Backend,
        checkpoint::{BEST, Checkpoint, LATEST},
        evaluate::MeanShape,
        graph::Graph,
        recipe::Recipe,
        step::{StepError, TrainingState, TrainingStep},
    },
};
use std::path::{Path, PathBuf};

/// The network of a checkpoint.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The forward graph with the trained (averaged, where the recipe averages) weights, its card as metadata.
    pub graph: Graph,
    /// Its card.
    pub card: ModelCard,
    /// The recipe it was trained by.
    pub recipe: Recipe,
    /// Epochs it was trained for.
    pub epochs: usize,
    /// The mean shape of its training faces.
    pub mean_shape: Option<MeanShape>,
}

/// The checkpoint file that `path` means: itself, or the best (else the newest) checkpoint of an output folder.
pub fn checkpoint_file(path: &Path) -> PathBuf {
    if !path.is_dir() {
        return path.to_owned();
    }
    let best = path.join(BEST);
    if best.exists() {
        best
    } else {
        path.join(LATEST)
    }
}

/// Reads a checkpoint (see [`checkpoint_file`]) and puts its weights into its forward graph.
///
/// # Errors
/// The checkpoint is missing or damaged, or of another recipe than `expected`.
pub fn restore(path: &Path, expected: Option<&Recipe>) -> Result<Trained, FitError> {
    let file = checkpoint_file(path);
    let checkpoint = Checkpoint::read(&file)?;
    if let Some(expected) = expected {
        checkpoint.recipe.check_same(expected, &file)?;
    }
    let forward = Graph::from_onnx(&checkpoint.forward_onnx, &file)?;
    let card = ModelCard::from_metadata(&forward.metadata, &file)?;
    // The step is only asked which weight lies where, which does not depend on the back end or the batch.
    let step = TrainingStep::build_part(
        &forward,
        1,
        &loss_terms(&checkpoint.recipe, &card, &forward),
        &checkpoint.recipe.optimizer,
        Backend::Cuda,
        &|name| checkpoint.recipe.learns(name),
    )?;
    let state = checkpoint.state(&step)?;
    Ok(Trained {
        graph: trained_graph(&step, &state)?,
        card,
        epochs: checkpoint.progress.epoch,
        mean_shape: checkpoint.mean_shape.as_deref().map(MeanShape::from_flat),
        recipe: checkpoint.recipe,
    })
}

/// The forward graph with the trained weights, averaged where the state has averages, and without channels that fell
/// silent: what is validated, exported and evaluated.
pub(super) fn trained_graph(
    step: &TrainingStep,
    state: &TrainingState,
) -> Result<Graph, StepError> {
    let mut graph = step.write_back(state, true)?;
    let silenced = silence(&mut graph, &step.write_back(state, false)?);
    if silenced > 0 {
        tracing::info!(
            silenced,
            "channels that were constant in training stay constant"
        );
    }
    Ok(graph)
}
