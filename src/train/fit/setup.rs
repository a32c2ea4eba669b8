//! Everything a training needs before its first step: the recipe's model, data and losses, new or from a checkpoint.

use super::{BoxEvidence, FitError, FitOptions, Start, diagnosis::watch::check_boxes};
use crate::{
    annotation::Split,
    crop::CropRule,
    model::{ModelCard, ModelError, Task},
    scheme::Scheme,
    train::{
        checkpoint::{Checkpoint, LATEST},
        dataset::{DataSource, Dataset, Example, Label, OpenOptions},
        evaluate::{Cases, MeanShape},
        export::fold_batch_norm,
        graph::{CONSTANT_PREFIX, Graph, TensorData},
        loader::{Loader, LoaderConfig},
        loss::{LossKind, LossTerm},
        nn::Architecture,
        progress::Progress,
        quantize::{Ranges, qat::with_fake_quantization},
        recipe::{Recipe, Sees, TaskKind},
        whole_file::write_whole,
    },
};
use std::{fs, path::Path, sync::Arc};

/// Name of the recipe in an output folder.
const RECIPE: &str = "recipe.toml";

/// Batches that the loader may be ahead by.
const BATCHES_AHEAD: usize = 4;

/// How many reasons for skipped records are passed on.
const REASONS: usize = 5;

/// A training set, counted.
#[derive(Clone, Debug, PartialEq)]
pub struct SetSummary {
    /// Its name.
    pub name: String,
    /// Its training examples.
    pub examples: usize,
}

pub(super) struct Setup {
    pub(super) recipe: Recipe,
    pub(super) card: ModelCard,
    pub(super) forward: Graph,
    pub(super) forward_onnx: Vec<u8>,
    pub(super) resumed: Option<Checkpoint>,
    pub(super) progress: Progress,
    pub(super) mean_shape: Option<MeanShape>,
    pub(super) boxes: Option<BoxEvidence>,
    pub(super) loader: Loader,
    pub(super) cases: Cases,
    pub(super) validation: Dataset,
    pub(super) sets: Vec<SetSummary>,
    pub(super) skipped: Vec<String>,
    pub(super) skipped_count: usize,
}

impl Setup {
    pub(super) fn prepare(start: Start, options: &FitOptions) -> Result<Self, FitError> {
        let latest = options.output.join(LATEST);
        let (recipe, mut forward, progress, resumed) = match start {
            Start::New(recipe) => {
                recipe.check()?;
                if latest.exists() {
                    return Err(FitError::AlreadyThere { path: latest });
                }
                let forward = new_forward(&recipe)?;
                (*recipe, forward, Progress::default(), None)
            }
            Start::Resume { expected } => {
                let checkpoint = Checkpoint::read(&latest)?;
                if let Some(expected) = expected {
                    checkpoint.recipe.check_same(&expected, &latest)?;
                }
                let forward = Graph::from_onnx(&checkpoint.forward_onnx, &latest)?;
                (
                    checkpoint.recipe.clone(),
                    forward,
                    checkpoint.progress.clone(),
                    Some(checkpoint),
                )
            }
        };
        let card = ModelCard::from_metadata(&forward.metadata, &latest)?;
        check_task(&recipe, &card)?;
        let mut data = Data::open(&recipe, &card)?;
        let faults = recipe.faults.unwrap_or_default();
        faults.spoil_labels(&mut data.train);
        faults.spoil_labels(&mut data.validation);
        if resumed.is_none() && recipe.start_at_mean {
            start_at_mean(&mut forward, &data.train, &card)?;
        }
        let mean_shape = match &card.task {
            Task::Landmarks { scheme, crop } => MeanShape::of(&data.train, *scheme, *crop),
            Task::FaceDetection { .. } => None,
        };
        let cases = Cases::prepare(
            &data.validation,
            data.validation_backgrounds.as_ref(),
            &card,
            mean_shape.clone(),
            recipe.validation_limit,
        )?;
        let (sets, skipped, skipped_count) = data.summary(&card);
        let boxes = check_boxes(&data.train);
        let loader = Loader::new(
            Arc::new(data.train),
            data.backgrounds.map(Arc::new),
            LoaderConfig {
                batch: recipe.batch,
                batches_per_epoch: (recipe.steps_per_epoch > 0).then_some(recipe.steps_per_epoch),
                seed: recipe.seed,
                threads: options.loader_threads,
                ahead: BATCHES_AHEAD,
                task: card.task.clone(),
                input_width: card.input_width,
                input_height: card.input_height,
                color: card.color,
                normalization: card.normalization,
                negative_share: recipe.negative_share,
                augment: recipe.augment.clone(),
                faults,
                start: (progress.epoch, progress.step_in_epoch),
            },
        )?;
        write_recipe(&recipe, &options.output)?;
        Ok(Self {
            forward_onnx: forward.to_onnx(),
            recipe,
            card,
            forward,
            resumed,
            progress,
            mean_shape,
            boxes,
            loader,
            cases,
            validation: data.validation,
            sets,
            skipped,
            skipped_count,
        })
    }
}

/// The graph that a new training begins with, its card as metadata; with the roundings of the int8 form when the recipe
/// asks for them.
fn new_forward(recipe: &Recipe) -> Result<Graph, FitError> {
    let mut float = float_forward(recipe)?;
    if !recipe.learns.is_empty() {
        // The statistics of a batch would change what the other layers answer.
        float = fold_batch_norm(&float)?;
        let parameters = float.parameters();
        if !parameters.iter().any(|name| recipe.learns(name)) {
            return Err(FitError::Unsuitable {
                field: "learns",
                expected: "beginnings of names of the network's weights".to_owned(),
                found: recipe.learns.join(", "),
            });
        }
    }
    let Some(how) = &recipe.quantization else {
        return Ok(float);
    };
    let ranges = Ranges::default();
    Ok(with_fake_quantization(
        &fold_batch_norm(&float)?,
        how,
        &ranges,
    )?)
}

fn float_forward(recipe: &Recipe) -> Result<Graph, FitError> {
    let Some(init) = &recipe.init else {
        let architecture: Architecture =
            recipe
                .architecture
                .parse()
                .map_err(|_| FitError::Unsuitable {
                    field: "architecture",
                    expected: Architecture::ALL.map(Architecture::name).join(", "),
                    found: format!("{:?}", recipe.architecture),
                })?;
        let mut card = architecture.card(&recipe.name, recipe.scheme, recipe.crop_margin);
        card.training_data.clone_from(&recipe.training_data);
        if let Some([width, height]) = recipe.input_size {
            (card.input_width, card.input_height) = (width, height);
        }
        if let Task::Landmarks { crop, .. } = &mut card.task {
            match recipe.sees {
                Sees::Face => {}
                Sees::WholeFrame => *crop = CropRule::WholeFrame,
                Sees::MiddleOfFrame => {
                    let aspect = card.input_width as f32 / card.input_height as f32;
                    *crop = CropRule::MiddleOfFrame { aspect };
                }
            }
        }
        if let Some(color) = recipe.input_color {
            card.color = color;
        }
        let graph = architecture.build(&card, recipe.seed)?;
        return match &recipe.weights {
            Some(path) => with_weights(graph, path, recipe),
            None => Ok(graph),
        };
    };
    let bytes = fs::read(init).map_err(|source| ModelError::Read {
        path: init.clone(),
        source,
    })?;
    let mut forward = Graph::from_onnx(&bytes, init)?;
    let mut card = ModelCard::from_metadata(&forward.metadata, init)?;
    card.name.clone_from(&recipe.name);
    card.training_data.clone_from(&recipe.training_data);
    if let Some([width, height]) = recipe.input_size {
        (card.input_width, card.input_height) = (width, height);
        forward = forward.with_image_size(width, height)?;
    }
    forward.metadata.extend(card.to_metadata());
    Ok(forward)
}

/// `graph` with the weights of the same names in the file. Those whose shape follows the number of landmarks stay as they are when
/// that is another, as do those of a recipe's layers that learn and that the file has not in their shape.
/// Where the file's batch normalisation is folded, as a released file's is, the graph's is folded too.
fn with_weights(mut graph: Graph, path: &Path, recipe: &Recipe) -> Result<Graph, FitError> {
    let bytes = fs::read(path).map_err(|source| ModelError::Read {
        path: path.to_owned(),
        source,
    })?;
    let from = Graph::from_onnx(&bytes, path)?;
    let normalizes = |graph: &Graph| {
        graph
            .nodes
            .iter()
            .any(|node| node.op == "BatchNormalization")
    };
    if normalizes(&graph) && !normalizes(&from) {
        graph = fold_batch_norm(&graph)?;
    }
    let landmarks = |graph: &Graph| {
        let answer = graph.find_type("landmarks");
        answer.and_then(|answer| answer.shape.get(1).copied())
    };
    let counts = landmarks(&graph).zip(landmarks(&from));
    for (name, tensor) in &mut graph.initializers {
        if name.starts_with(CONSTANT_PREFIX) {
            continue;
        }
        match from.initializers.get(name) {
            Some(found) if found.shape == tensor.shape => tensor.clone_from(found),
            Some(found) if follows_landmarks(&tensor.shape, &found.shape, counts) => {}
            _ if !recipe.learns.is_empty() && recipe.learns(name) => {}
            found => {
                let found = found.map_or("none".to_owned(), |found| format!("{:?}", found.shape));
                return Err(FitError::Unsuitable {
                    field: "weights",
                    expected: format!("{}: {name} of shape {:?}", path.display(), tensor.shape),
                    found,
                });
            }
        }
    }
    Ok(graph)
}

/// Whether two shapes differ as the numbers of landmarks do, `counts`, and not otherwise.
fn follows_landmarks(ours: &[usize], theirs: &[usize], counts: Option<(usize, usize)>) -> bool {
    let Some((our_count, their_count)) = counts else {
        return false;
    };
    let same =
        |(&our, &their): (&usize, &usize)| our == their || our * their_count == their * our_count;
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(same)
}

/// Sets the bias of the output layer to the mean of the labels, as the network says them, and shrinks its weights.
fn start_at_mean(forward: &mut Graph, train: &Dataset, card: &ModelCard) -> Result<(), FitError> {
    const SHRINK: f32 = 0.1;
    let mean = MeanShape::as_answer(train, card).unwrap_or_default();
    let answers = forward
        .nodes
        .iter()
        .any(|node| node.op == "Gemm" && node.outputs[0] == "landmarks");
    let bias = forward.initializers.get_mut("landmarks.bias");
    match bias.filter(|_| answers).map(|tensor| &mut tensor.data) {
        Some(TensorData::F32(values)) if values.len() == mean.len() => values.clone_from(&mean),
        _ => {
            return Err(FitError::Unsuitable {
                field: "start_at_mean",
                expected: "an architecture with a fully connected output layer".to_owned(),
                found: card.name.clone(),
            });
        }
    }
    if let Some(TensorData::F32(weights)) = forward
        .initializers
        .get_mut("landmarks.weight")
        .map(|tensor| &mut tensor.data)
    {
        weights.iter_mut().for_each(|weight| *weight *= SHRINK);
    }
    Ok(())
}

fn check_task(recipe: &Recipe, card: &ModelCard) -> Result<(), FitError> {
    let fits = match (&card.task, recipe.task) {
        (Task::Landmarks { scheme, .. }, TaskKind::Landmarks) => *scheme == recipe.scheme,
        (Task::FaceDetection { .. }, TaskKind::Detector) => true,
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(FitError::Unsuitable {
        field: "task and scheme",
        expected: match &card.task {
            Task::Landmarks { scheme, .. } => format!("landmarks in {scheme}, as the model says"),
            Task::FaceDetection { .. } => "detector, as the model says".to_owned(),
        },
        found: match recipe.task {
            TaskKind::Landmarks => format!("landmarks in {}", recipe.scheme),
            TaskKind::Detector => "detector".to_owned(),
        },
    })
}

/// The terms of the loss that the model's outputs and the recipe's coefficients ask for.
pub fn loss_terms(recipe: &Recipe, card: &ModelCard, forward: &Graph) -> Vec<LossTerm> {
    let term = |output: String, target: String, weight: String, kind, coefficient| LossTerm {
        name: output.clone(),
        kind,
        output,
        target,
        weight: Some(weight),
        coefficient,
    };
    let loss = &recipe.loss;
    let terms = match &card.task {
        Task::Landmarks { .. } => vec![
            term(
                "landmarks".to_owned(),
                "landmarks_target".to_owned(),
                "landmarks_weight".to_owned(),
                loss.landmarks,
                loss.landmarks_coefficient,
            ),
            term(
                "presence".to_owned(),
                "presence_target".to_owned(),
                "presence_weight".to_owned(),
                LossKind::BinaryCrossEntropy,
                loss.presence_coefficient,
            ),
            term(
                "uncertainty".to_owned(),
                "landmarks_target".to_owned(),
                "landmarks_weight".to_owned(),
                LossKind::Laplace,
                loss.uncertainty_coefficient,
            ),
        ],
        Task::FaceDetection { strides } => strides
            .iter()
            .flat_map(|stride| {
                [
                    term(
                        format!("score_{stride}"),
                        format!("score_target_{stride}"),
                        format!("score_weight_{stride}"),
                        loss.scores,
                        loss.scores_coefficient * share_of_cells(*stride, strides),
                    ),
                    term(
                        format!("box_{stride}"),
                        format!("box_target_{stride}"),
                        format!("box_weight_{stride}"),
                        loss.boxes,
                        loss.boxes_coefficient,
                    ),
                ]
            })
            .collect(),
    };
    terms
        .into_iter()
        .filter(|term| term.coefficient > 0.0 && forward.outputs.contains(&term.output))
        .collect()
}

/// The part of a detector's cells that the head of `stride` has. A term is a mean over its own head's cells: with this
/// factor each cell counts the same, whichever head it belongs to. Without it a small face on the fine head would weigh
/// a sixteenth of a large one on a head with a quarter of the resolution.
fn share_of_cells(stride: usize, strides: &[usize]) -> f32 {
    let density = |stride: usize| 1.0 / (stride * stride) as f32;
    density(stride) / strides.iter().copied().map(density).sum::<f32>()
}

/// The data sets of a recipe, opened.
struct Data {
    train: Dataset,
    validation: Dataset,
    backgrounds: Option<Dataset>,
    validation_backgrounds: Option<Dataset>,
}

impl Data {
    fn open(recipe: &Recipe, card: &ModelCard) -> Result<Self, FitError> {
        let scheme = match card.task {
            Task::Landmarks { scheme, .. } => Some(scheme),
            Task::FaceDetection { .. } => None,
        };
        let of = |split| OpenOptions {
            split: Some(split),
            scheme,
            ..OpenOptions::default()
        };
        let validation: Vec<DataSource> = if recipe.validation.is_empty() {
            recipe.data.clone()
        } else {
            recipe
                .validation
                .iter()
                .cloned()
                .map(DataSource::new)
                .collect()
        };
        let backgrounds = |split| -> Result<Option<Dataset>, FitError> {
            if recipe.backgrounds.is_empty() {
                return Ok(None);
            }
            let options = OpenOptions {
                scheme: None,
                ..of(split)
            };
            Ok(Some(Dataset::open_all(&recipe.backgrounds, &options)?))
        };
        Ok(Self {
            train: Dataset::open_all(&recipe.data, &of(Split::Train))?,
            validation: Dataset::open_all(&validation, &of(Split::Val))?,
            backgrounds: backgrounds(Split::Train)?,
            validation_backgrounds: backgrounds(Split::Val)?,
        })
    }

    /// The training sets counted, the first reasons why records were skipped, and how many were.
    fn summary(&self, card: &ModelCard) -> (Vec<SetSummary>, Vec<String>, usize) {
        let sets = self.train.sets.iter().enumerate();
        let skipped = || self.train.skipped.iter().chain(&self.validation.skipped);
        (
            sets.map(|(index, set)| SetSummary {
                name: set.name.clone(),
                examples: self
                    .train
                    .examples
                    .iter()
                    .filter(|example| example.set == index && suits(example, card))
                    .count(),
            })
            .collect(),
            skipped()
                .take(REASONS)
                .map(|skipped| format!("{}: {}", skipped.item, skipped.reason))
                .collect(),
            skipped().count(),
        )
    }
}

/// Whether an example is for the model's task: drawn sets have both kinds.
fn suits(example: &Example, card: &ModelCard) -> bool {
    matches!(
        (&example.label, &card.task),
        (Label::Landmarks { .. }, Task::Landmarks { .. })
            | (
                Label::Detection { .. }
                    | Label::Landmarks {
                        scheme: Scheme::Ibug68,
                        ..
                    },
                Task::FaceDetection { .. }
            )
    )
}

fn write_recipe(recipe: &Recipe, folder: &Path) -> Result<(), FitError> {
    let path = folder.join(RECIPE);
    let text = toml::to_string(recipe).expect("a recipe is plain values");
    write_whole(&path, text.as_bytes()).map_err(|source| FitError::Write { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{scheme::Scheme, train::nn::Architecture};

    #[test]
    fn another_layout_takes_over_what_does_not_follow_its_landmarks() {
        let build = |architecture: Architecture, scheme, seed| {
            let card = architecture.card("net", scheme, 1.0);
            architecture.build(&card, seed).expect("a graph")
        };
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("net.onnx");
        let taught = build(Architecture::FullFace, Scheme::ImmFrontal73, 1);
        fs::write(&path, taught.to_onnx()).expect("a file");
        let plain = build(Architecture::FullFace, Scheme::Imm58, 2);
        let graph = with_weights(plain.clone(), &path, &Recipe::default()).expect("weights");
        for (name, taken) in [
            ("conv4.weight", true),
            ("hidden.bn.bias", true),
            ("conv5.weight", false),
            ("hidden.weight", false),
            ("landmarks.weight", false),
        ] {
            let source = if taken { &taught } else { &plain };
            assert_eq!(
                graph.initializers[name].data, source.initializers[name].data,
                "{name}"
            );
        }
        // The shapes of another network differ by more than that.
        let other = build(Architecture::Nose, Scheme::Nose1, 1);
        let message = with_weights(other, &path, &Recipe::default()).expect_err("another network");
        assert!(message.to_string().contains("of shape"), "{message}");
    }
}
