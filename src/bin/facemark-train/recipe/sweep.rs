//! Short trainings over a grid of two hyper-parameters: the learning rate and how far pictures are shifted.

use super::{course::Run, parts::Course};
use crate::failure::Failure;
use facemark::train::{
    progress::Validation,
    recipe::Recipe,
    report::course::{Sweep, SweepRun},
};

/// Epochs of each training unless the command line says otherwise.
const EPOCHS: usize = 4;

/// Trains each point of the course's grid; `None` without a grid, or when it was stopped.
pub(super) fn run(
    run: &Run<'_>,
    course: &Course,
    recipe: &Recipe,
) -> Result<Option<Sweep>, Failure> {
    let epochs = run.arguments.sweep_epochs().unwrap_or(EPOCHS);
    let (Some((rates, shifts)), true) = (course.sweep, epochs > 0) else {
        return Ok(None);
    };
    let mut runs = Vec::new();
    let mut steps = 0;
    for &second in shifts {
        for &first in rates {
            let mut recipe = recipe.clone();
            recipe.epochs = epochs;
            recipe.schedule.base_learning_rate = first;
            recipe.schedule.warmup_steps /= 2;
            recipe.augment.shift_sigma = second;
            let name = format!("sweep/rate-{first}-shift-{second}");
            let planned = run.arguments.exactly(&name, recipe);
            let Some((_, view)) = run.train(&planned)? else {
                return Ok(None);
            };
            let scores = view
                .history
                .iter()
                .filter_map(|epoch| epoch.validation.as_ref());
            let Some(last) = view.history.last() else {
                continue;
            };
            steps = last.step;
            runs.push(SweepRun {
                first,
                second,
                nme: scores.map(Validation::score).fold(f64::INFINITY, f64::min),
                loss: last.loss,
            });
        }
    }
    Ok(Some(Sweep {
        first: "learning rate",
        second: "shift (sides of the face box)",
        runs,
        steps,
    }))
}
