//! When a training is looked at, and what is kept in between: before the first step, after the first epochs, after a third
//! and at the end. Looking changes nothing of what is learnt.

use super::{
    BoxEvidence, Evidence, Finding, InputEvidence, Memory, Moment, Setting, ViewEvidence, diagnose,
    network, views,
};
use crate::{
    geometry::FaceBox,
    model::{ModelCard, Task},
    train::{
        dataset::{Dataset, Label},
        fit::FitError,
        graph::Graph,
        loader::Loader,
        loss::{LossKind, LossTerm},
        optimizer::OptimizerKind,
        recipe::Recipe,
        session::Device,
        step::{TrainingState, TrainingStep},
        target::Batch,
    },
};

/// Faces whose crops are compared with their pictures.
const FACES: usize = 24;
/// Labels whose boxes are checked.
const BOXES: usize = 500;
/// Epochs after which the network is looked at whatever the length of the training.
const FIRST_EPOCHS: usize = 3;

/// What is kept between two looks.
pub(in crate::train::fit) struct Watch {
    terms: Vec<LossTerm>,
    setting: Setting,
    boxes: Option<BoxEvidence>,
    views: Option<ViewEvidence>,
    batch: Batch,
}

/// A place in a training.
pub(in crate::train::fit) struct Place {
    pub(in crate::train::fit) steps: u64,
    pub(in crate::train::fit) total_steps: u64,
    /// Epochs that are done.
    pub(in crate::train::fit) epoch: usize,
    /// Examples drawn in a pass over the data, as a number of steps.
    pub(in crate::train::fit) steps_per_pass: f64,
}

impl Place {
    fn share_done(&self) -> f64 {
        self.steps as f64 / self.total_steps.max(1) as f64
    }
}

/// A network and where it runs.
pub(in crate::train::fit) struct Subject<'a> {
    pub(in crate::train::fit) step: &'a TrainingStep,
    pub(in crate::train::fit) state: &'a TrainingState,
    pub(in crate::train::fit) device: Device,
    pub(in crate::train::fit) threads: usize,
}

impl Watch {
    /// Looks at the data; the network's turn comes with [`Watch::look`].
    pub(in crate::train::fit) fn new(
        recipe: &Recipe,
        card: &ModelCard,
        forward: &Graph,
        terms: Vec<LossTerm>,
        boxes: Option<BoxEvidence>,
        loader: &Loader,
    ) -> Self {
        let count = network::PICTURES.div_ceil(recipe.batch).max(1);
        let batches = (0..count)
            .map(|index| loader.batch_of_first_epoch(index % loader.batches_per_epoch().max(1)))
            .collect();
        let views = match &card.task {
            Task::Landmarks { scheme, .. } => {
                views::inspect(&loader.inspected_faces(FACES), &scheme.mirror_permutation())
            }
            Task::FaceDetection { .. } => None,
        };
        Self {
            terms,
            setting: setting(recipe, forward),
            boxes,
            views,
            batch: network::joined(batches),
        }
    }

    /// Whether the coming step, number `step_in_epoch` (from 0) of `steps_per_epoch`, is to be measured: the second and one
    /// in the middle of each of the first epochs. Too long steps end in weights that no step moves any more: they show
    /// at the beginning; a learning rate that is warmed up shows later.
    pub(in crate::train::fit) fn measures_step(
        epoch: usize,
        step_in_epoch: usize,
        steps_per_epoch: usize,
    ) -> bool {
        epoch < FIRST_EPOCHS && (step_in_epoch == 1 || step_in_epoch == steps_per_epoch / 2)
    }

    /// How far a step moved the weights, over their length.
    pub(in crate::train::fit) fn relative_step(
        before: &TrainingState,
        after: &TrainingState,
    ) -> f64 {
        let (mut moved, mut length) = (0.0, 0.0);
        for (&a, &b) in before.parameters.iter().zip(&after.parameters) {
            moved += f64::from(b - a).powi(2);
            length += f64::from(a).powi(2);
        }
        (moved / length.max(1e-30)).sqrt()
    }

    /// Whether it is time to look, after `place.epoch` epochs.
    pub(in crate::train::fit) fn is_due(place: &Place, memory: &mut Memory) -> bool {
        let share = place.share_done();
        let third = share >= 1.0 / 3.0 && !memory.third_seen;
        memory.third_seen |= third;
        place.epoch <= FIRST_EPOCHS || third || share >= 1.0
    }

    /// Looks at the training. What has been said before is not said again.
    pub(in crate::train::fit) fn look(
        &self,
        subject: &Subject<'_>,
        place: &Place,
        memory: &mut Memory,
    ) -> Result<(Evidence, Vec<Finding>), FitError> {
        let seen = network::look(
            subject.step,
            subject.state,
            &self.terms,
            &self.batch,
            subject.device,
            subject.threads,
        )?;
        let evidence = Evidence {
            moment: Moment {
                steps: place.steps,
                share_done: place.share_done(),
                passes: place.steps as f64 / place.steps_per_pass.max(1e-9),
            },
            setting: self.setting,
            input: self
                .batch
                .tensors
                .get("image")
                .and_then(|image| InputEvidence::of(&image.values)),
            boxes: self.boxes,
            views: self.views.clone(),
            relus: seen.relus,
            gradients: seen.gradients,
            predictions: seen.predictions,
            loss: memory.loss(),
            relative_step: memory.relative_step,
        };
        let mut found = diagnose(&evidence);
        found.retain(|finding| memory.said.insert(finding.cause));
        Ok((evidence, found))
    }
}

fn setting(recipe: &Recipe, forward: &Graph) -> Setting {
    let normalizes = |op: &str| op.ends_with("Normalization");
    Setting {
        learning_rate: f64::from(recipe.schedule.base_learning_rate),
        adaptive: !matches!(recipe.optimizer.optimizer, OptimizerKind::Sgd { .. }),
        squared_error: recipe.loss.landmarks == LossKind::Mse,
        loss_coefficient: f64::from(recipe.loss.landmarks_coefficient),
        normalizations: forward
            .nodes
            .iter()
            .filter(|node| normalizes(&node.op))
            .count(),
    }
}

/// Boxes against points in the labels of a training set; `None` without faces with landmarks.
pub(in crate::train::fit) fn check_boxes(dataset: &Dataset) -> Option<BoxEvidence> {
    let step = (dataset.examples.len() / BOXES).max(1);
    let mut faces = 0;
    let mut missed = 0;
    for example in dataset.examples.iter().step_by(step) {
        let Label::Landmarks {
            points, face_box, ..
        } = &example.label
        else {
            continue;
        };
        let room = 0.1 * face_box.width.max(face_box.height);
        let wide = FaceBox::new(
            face_box.x - room,
            face_box.y - room,
            face_box.width + 2.0 * room,
            face_box.height + 2.0 * room,
        );
        let outside = points
            .iter()
            .filter(|&&point| !wide.contains(point))
            .count();
        faces += 1;
        missed += usize::from(5 * outside > points.len());
    }
    (faces > 0).then(|| BoxEvidence {
        faces,
        missed: missed as f64 / faces as f64,
    })
}
