//! The way that every part of the project goes: training in stages, evaluation, quantisation, report. What is done already
//! in the output folder is not done again.

use super::{
    measure::{self, Models, Quantized},
    parts::Course,
    sweep,
};
use crate::{failure::Failure, fit, quantize::command, runtime::RuntimeArguments};
use anyhow::{Context, anyhow};
use clap::Args;
use facemark::{
    annotation::Split,
    scheme::Scheme,
    train::{
        checkpoint::Checkpoint,
        dataset::{DataSource, Dataset, Label, OpenOptions},
        export::fold_batch_norm,
        fit::{FitOptions, Start, Trained, checkpoint_file, restore},
        quantize::qat::without_fake_quantization,
        recipe::Recipe,
        report::course::{CourseReport, Stage},
        submission::kaggle_csv,
        whole_file::write_whole,
    },
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// What all of these commands have in common.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Folder for checkpoints, models and the report [default: runs/NAME]. A training that is there already is gone on
    /// with, or used when it is complete.
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Edited copy of the recipe (TOML) instead of the one built in; for a command of several stages once a stage, in
    /// their order.
    #[arg(long, value_name = "FILE")]
    recipe: Vec<PathBuf>,
    /// Labelled pictures instead of the recipe's: a folder, a label file or synthetic:SEED; may be repeated.
    #[arg(long, value_name = "PATH")]
    data: Vec<String>,
    /// Passes of each stage.
    #[arg(long)]
    epochs: Option<usize>,
    /// Steps of an epoch.
    #[arg(long)]
    steps_per_epoch: Option<usize>,
    /// Seed of weights, order and augmentation.
    #[arg(long)]
    seed: Option<u64>,
    /// Epochs of each training of the sweep over hyper-parameters, where there is one; 0: no sweep.
    #[arg(long, value_name = "EPOCHS")]
    sweep_epochs: Option<usize>,
    /// Part of the data that is reported; without pictures in it val, which the report then says.
    #[arg(long, default_value = "test")]
    split: Split,
    #[command(flatten)]
    pub(super) runtime: RuntimeArguments,
}

/// A training of a command: its name and its recipe.
pub(super) struct Planned {
    name: String,
    pub(super) recipe: Recipe,
}

/// A run of a command.
pub(super) struct Run<'a> {
    pub(super) arguments: &'a Arguments,
    pub(super) output: PathBuf,
    pub(super) stop: Arc<AtomicBool>,
}

pub(crate) fn run(course: &Course, arguments: &Arguments) -> Result<(), Failure> {
    let mut stages = arguments.stages(course)?;
    let run = Run {
        arguments,
        output: arguments
            .output
            .clone()
            .unwrap_or_else(|| PathBuf::from("runs").join(course.name)),
        stop: fit::stop_on_interrupt()?,
    };
    arguments.runtime.load()?;
    let mut trained: Option<Trained> = None;
    let mut views = Vec::new();
    let taught = stages
        .iter_mut()
        .any(|stage| stage.teachers().next().is_some());
    if let Some((name, text)) = course.teacher.filter(|_| taught) {
        let teacher = arguments.planned(name, built_in(text)?)?;
        let Some((result, view)) = run.train(&teacher)? else {
            return Ok(());
        };
        let path = run.output.join(TEACHER);
        write(&path, &fold_batch_norm(&result.graph)?.to_onnx())?;
        for teacher in stages.iter_mut().flat_map(Planned::teachers) {
            teacher.clone_from(&path);
        }
        views.push(view);
    }
    for mut stage in stages {
        if trained.is_some() {
            stage.start_from(&run.output.join(FLOAT_WITH_NORMALIZATION));
        }
        let Some((result, view)) = run.train(&stage)? else {
            return Ok(());
        };
        write_stage(&result, &run.output.join(FLOAT_WITH_NORMALIZATION))?;
        trained = Some(result);
        views.push(view);
    }
    let trained = trained.ok_or_else(|| Failure::input(anyhow!("there is no recipe")))?;
    run.report(course, &trained, &views)
}

/// The newest stage's model as the next stage takes it.
pub(super) const FLOAT_WITH_NORMALIZATION: &str = "stage.onnx";

fn write_stage(trained: &Trained, path: &Path) -> Result<(), Failure> {
    let (graph, _) = without_fake_quantization(&trained.graph).map_err(Failure::running)?;
    write(path, &graph.to_onnx())
}

/// The model of a command's teacher. Data of a recipe whose teacher is a file of this name is labelled by it.
const TEACHER: &str = "teacher.onnx";

impl Planned {
    /// Where the recipe's data names the command's own teacher.
    fn teachers(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let sources = self.recipe.data.iter_mut();
        sources
            .filter_map(|source| source.teacher.as_mut())
            .filter(|teacher| teacher.ends_with(TEACHER))
    }

    /// Begins with the model of the stage before.
    pub(super) fn start_from(&mut self, model: &Path) {
        if self.recipe.quantization.is_some() {
            self.recipe.init = Some(model.to_owned());
        } else if self.recipe.init.is_none() {
            self.recipe.weights = Some(model.to_owned());
        }
    }
}

impl Run<'_> {
    /// Trains what is not trained yet; `None` when it was stopped before the end.
    pub(super) fn train(&self, stage: &Planned) -> Result<Option<(Trained, Stage)>, Failure> {
        let folder = self.output.join(&stage.name);
        let there = checkpoint_file(&folder);
        let complete = if there.exists() {
            let newest = Checkpoint::read(&folder.join(facemark::train::checkpoint::LATEST))?;
            newest
                .recipe
                .check_same(&stage.recipe, &folder)
                .map_err(Failure::input)?;
            newest.progress.epoch >= stage.recipe.epochs
        } else {
            false
        };
        if !complete {
            let recipe = Box::new(stage.recipe.clone());
            let start = if there.exists() {
                Start::Resume {
                    expected: Some(recipe),
                }
            } else {
                Start::New(recipe)
            };
            let outcome = fit::train(start, &self.options(folder.clone()))?;
            if !outcome.complete || self.stop.load(Ordering::Relaxed) {
                eprintln!("the same command goes on from there");
                return Ok(None);
            }
        }
        let newest = Checkpoint::read(&folder.join(facemark::train::checkpoint::LATEST))?;
        let trained = restore(&folder, None)?;
        let view = Stage {
            name: stage.name.clone(),
            recipe: toml::to_string(&stage.recipe).map_err(Failure::running)?,
            parameters: parameters(&trained),
            history: newest.progress.history,
        };
        Ok(Some((trained, view)))
    }

    fn options(&self, output: PathBuf) -> FitOptions {
        let runtime = &self.arguments.runtime;
        FitOptions {
            output,
            device: runtime.device(),
            threads: runtime.threads(),
            loader_threads: runtime.threads(),
            sitting_epochs: None,
            report: false,
            stop: Arc::clone(&self.stop),
        }
    }

    fn report(&self, course: &Course, trained: &Trained, stages: &[Stage]) -> Result<(), Failure> {
        let mut remarks = Vec::new();
        let models = self.models(course.name, trained)?;
        let data = if trained.recipe.validation.is_empty() {
            trained.recipe.data.clone()
        } else {
            trained
                .recipe
                .validation
                .iter()
                .cloned()
                .map(DataSource::new)
                .collect()
        };
        let (dataset, split) = self.reported(&data, trained.recipe.scheme)?;
        if split != self.arguments.split {
            remarks.push(format!(
                "The data has no {} pictures: what follows is measured on {}, on which the checkpoint was chosen too.",
                self.arguments.split.name(),
                split.name()
            ));
        }
        let main = measure::measure(self, &models, &dataset, &trained.recipe)?;
        let beside = match self.arguments.data.is_empty() {
            true => course.beside,
            false => &[],
        };
        let mut others = Vec::new();
        for other in beside {
            others.extend(self.beside(other, trained, &models, &mut remarks)?);
        }
        let looks = self.looks()? + 1;
        let sweep = sweep::run(self, course, &trained.recipe)?;
        let sample = measure::sample(trained, self.arguments.runtime.threads())?;
        let name = |what: &str| format!("{what} ({})", split.name());
        let mut results = vec![main.view(
            name("Results"),
            course.note.to_owned(),
            &models.card,
            &dataset,
        )];
        results.extend(
            others
                .iter()
                .map(|other: &super::parts::Beside| other.view()),
        );
        let report = CourseReport {
            title: course.title,
            introduction: course.introduction,
            command: &command(),
            stages,
            graph: &models.float,
            sample: Some(&sample),
            results: &results,
            sweep: sweep.as_ref(),
            speeds: &measure::speeds(&models)?,
            looks,
            remarks: &remarks,
        };
        let html = report
            .html()
            .map_err(|reason| Failure::running(anyhow!(reason)))?;
        let page = self.output.join("report.html");
        write(&page, html.as_bytes())?;
        let figures = serde_json::to_string_pretty(&report.figures()).map_err(Failure::running)?;
        write(&self.output.join(SUMMARY), figures.as_bytes())?;
        if course.submission {
            let path = self.output.join("submission.csv");
            write(&path, kaggle_csv(&main.int8.faces, &dataset).as_bytes())?;
            eprintln!("contest table: {}", path.display());
        }
        for measured in &results {
            eprintln!(
                "{}: float {}; int8 {}",
                measured.name,
                in_words(measured.float),
                in_words(measured.int8)
            );
        }
        eprintln!("report: {}", page.display());
        Ok(())
    }

    /// The float model as it is released, and its int8 form.
    pub(super) fn models(&self, name: &str, trained: &Trained) -> Result<Models, Failure> {
        let (graph, ranges) =
            without_fake_quantization(&trained.graph).map_err(Failure::running)?;
        let float = fold_batch_norm(&graph)?;
        let float_path = self.output.join(format!("{name}.onnx"));
        write(&float_path, &float.to_onnx())?;
        let quantized = Quantized::make(self, trained, &float, ranges)?;
        let int8_path = self.output.join(format!("{name}-int8.onnx"));
        write(&int8_path, &quantized.graph.to_onnx())?;
        let ranges_path = self.output.join(format!("{name}-int8.json"));
        write(&ranges_path, &quantized.calibration.to_json())?;
        Ok(Models {
            card: trained.card.clone(),
            float,
            int8: quantized.graph,
            float_path,
            int8_path,
        })
    }

    /// The split that is reported, or val where it is empty.
    pub(super) fn reported(
        &self,
        data: &[DataSource],
        scheme: Scheme,
    ) -> Result<(Dataset, Split), Failure> {
        let open = |split| {
            let options = OpenOptions {
                split: Some(split),
                scheme: Some(scheme),
                ..OpenOptions::default()
            };
            Dataset::open_all(data, &options)
        };
        match open(self.arguments.split) {
            Ok(dataset) => Ok((dataset, self.arguments.split)),
            Err(_) => Ok((open(Split::Val)?, Split::Val)),
        }
    }

    /// How often the split was measured by earlier runs.
    fn looks(&self) -> Result<usize, Failure> {
        let path = self.output.join(SUMMARY);
        let Ok(bytes) = std::fs::read(&path) else {
            return Ok(0);
        };
        let summary: Value = serde_json::from_slice(&bytes)
            .with_context(|| format!("{}: damaged", path.display()))
            .map_err(Failure::input)?;
        Ok(summary["looks"].as_u64().unwrap_or(0) as usize)
    }
}

/// The figures of a report, for programs; also where its looks at test are counted.
const SUMMARY: &str = "summary.json";

fn in_words(result: &facemark::train::evaluate::LandmarkResult) -> String {
    facemark::train::progress::Validation::Landmarks(result.validation.clone()).in_words()
}

/// Numbers in weights and biases, running statistics left out.
fn parameters(trained: &Trained) -> usize {
    let graph = &trained.graph;
    let names = graph.parameters();
    let statistic = |name: &str| name.ends_with(".bn.mean") || name.ends_with(".bn.variance");
    names
        .iter()
        .filter(|name| !statistic(name))
        .filter_map(|name| graph.initializers.get(name))
        .map(|tensor| tensor.shape.iter().product::<usize>())
        .sum()
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_whole(path, bytes).map_err(|error| {
        let context = format!("{}: cannot write", path.display());
        Failure::running(anyhow::Error::new(error).context(context))
    })
}

impl Arguments {
    /// The trainings of the command.
    fn stages(&self, course: &Course) -> Result<Vec<Planned>, Failure> {
        if !self.recipe.is_empty() && self.recipe.len() != course.stages.len() {
            return Err(Failure::input(anyhow!(
                "--recipe: expected {} files, one a stage ({}), found {}",
                course.stages.len(),
                course
                    .stages
                    .iter()
                    .map(|stage| stage.0)
                    .collect::<Vec<_>>()
                    .join(", "),
                self.recipe.len()
            )));
        }
        let stages = course.stages.iter().enumerate();
        let planned = stages.map(|(index, &(name, text))| {
            let recipe = match self.recipe.get(index) {
                Some(path) => Recipe::read(path).map_err(Failure::input)?,
                None => built_in(text)?,
            };
            self.planned(name, recipe)
        });
        planned.collect()
    }

    /// A training with what the options change.
    pub(super) fn planned(&self, name: &str, mut recipe: Recipe) -> Result<Planned, Failure> {
        if !self.data.is_empty() {
            recipe.data = self.data.iter().map(DataSource::new).collect();
            recipe.validation.clear();
            recipe.backgrounds.clear();
            recipe.training_data = format!("{} (not stated further)", self.data.join(", "));
            suit(&mut recipe)?;
        }
        if let Some(epochs) = self.epochs {
            recipe.epochs = epochs;
        }
        if let Some(steps) = self.steps_per_epoch {
            recipe.steps_per_epoch = steps;
        }
        if let Some(seed) = self.seed {
            recipe.seed = seed;
        }
        recipe.check().map_err(Failure::input)?;
        Ok(Planned {
            name: name.to_owned(),
            recipe,
        })
    }

    /// A training by that recipe as it is.
    pub(super) fn exactly(&self, name: &str, recipe: Recipe) -> Planned {
        Planned {
            name: name.to_owned(),
            recipe,
        }
    }

    pub(super) fn sweep_epochs(&self) -> Option<usize> {
        self.sweep_epochs
    }
}

pub(super) fn built_in(text: &str) -> Result<Recipe, Failure> {
    toml::from_str(text)
        .context("the built-in recipe")
        .map_err(Failure::running)
}

/// Suits a recipe to data of another landmark layout: all of its landmarks are learnt, or of a recipe for the nose its
/// tip, or where the layout has none the middle of the nose's base.
fn suit(recipe: &mut Recipe) -> Result<(), Failure> {
    for source in &mut recipe.data {
        let options = OpenOptions {
            check_pictures: false,
            ..OpenOptions::default()
        };
        let dataset = Dataset::open(&source.path, &options)?;
        let found = dataset
            .examples
            .iter()
            .find_map(|example| match example.label {
                Label::Landmarks { scheme, .. } => Some(scheme),
                Label::Detection { .. } => None,
            });
        match (recipe.scheme, found) {
            (Scheme::Nose1, Some(Scheme::Imm58)) => source.landmark = Some(NOSE_BASE_OF_IMM58),
            (Scheme::Nose1, _) | (_, None) => (),
            (_, Some(scheme)) => recipe.scheme = scheme,
        }
    }
    Ok(())
}

/// The middle of the nose's base in imm58, which has no nose tip.
pub(super) const NOSE_BASE_OF_IMM58: usize = 52;
