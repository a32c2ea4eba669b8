//! The report of a part of the project (`facemark-train recipe`): one page with what went in, what was trained, how, and
//! what came out, as float and as int8, beside the answers that do not look at the picture.

use super::{
    charts::{self, Chart},
    document::Document,
    sheets,
};
use crate::{
    crop::CropRule,
    metrics::{CedPoint, FAILURE_NME, FaceError, LandmarkSummary, Percentiles},
    model::{ModelCard, Task},
    picture::Encoding,
    scheme::Scheme,
    train::{
        dataset::Dataset,
        evaluate::{Evaluation, LandmarkResult},
        graph::Graph,
        progress::{EpochRecord, Validation, trouble_in_words},
        target::Batch,
    },
};
use serde_json::{Value, json};

/// Everything that the page shows.
#[derive(Debug)]
pub struct CourseReport<'a> {
    /// Heading.
    pub title: &'a str,
    /// What was asked for and what is done differently, a paragraph each.
    pub introduction: &'a [&'a str],
    /// The command that made the report.
    pub command: &'a str,
    /// Trainings in their order.
    pub stages: &'a [Stage],
    /// The trained float model, batch normalisation folded.
    pub graph: &'a Graph,
    /// A batch as the network saw it.
    pub sample: Option<&'a Batch>,
    /// What was measured, the part's own data first.
    pub results: &'a [Measured<'a>],
    /// Trainings with other hyper-parameters.
    pub sweep: Option<&'a Sweep>,
    /// Time of a run.
    pub speeds: &'a [Speed],
    /// How often this folder's model has been measured on the split that is reported, this time included.
    pub looks: usize,
    /// What else there is to say, a paragraph each.
    pub remarks: &'a [String],
}

/// A training.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Its recipe as TOML.
    pub recipe: String,
    /// Trainable numbers.
    pub parameters: usize,
    /// Its epochs.
    pub history: Vec<EpochRecord>,
}

/// A model and its int8 form on a split of a data set.
#[derive(Debug)]
pub struct Measured<'a> {
    /// What it is, for a heading.
    pub name: String,
    /// What a reader should know of it.
    pub note: String,
    /// The model's card.
    pub card: &'a ModelCard,
    /// The pictures.
    pub dataset: &'a Dataset,
    /// The float model's answers.
    pub float: &'a LandmarkResult,
    /// The int8 model's.
    pub int8: &'a LandmarkResult,
    /// Answers that do not look, by name.
    pub baselines: Vec<(String, Vec<FaceError>)>,
}

/// Short trainings over a grid of two hyper-parameters.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The first hyper-parameter's name.
    pub first: &'static str,
    /// The second's.
    pub second: &'static str,
    /// Both values, the best validation NME in percent and the last training loss.
    pub runs: Vec<SweepRun>,
    /// Steps of each training.
    pub steps: u64,
}

/// One training of a [`Sweep`].
#[derive(Clone, Copy, Debug)]
pub struct SweepRun {
    /// Value of the first hyper-parameter.
    pub first: f32,
    /// Of the second.
    pub second: f32,
    /// Best validation NME in percent.
    pub nme: f64,
    /// Mean training loss of the last epoch.
    pub loss: f64,
}

/// How fast a model runs in facemark's own engine.
#[derive(Clone, Debug)]
pub struct Speed {
    /// The model file.
    pub model: String,
    /// Size of the file.
    pub bytes: usize,
    /// Millions of multiplications with addition a run.
    pub mmac: f64,
    /// Milliseconds a run on one thread.
    pub milliseconds: Percentiles,
    /// Runs.
    pub runs: usize,
}

/// Tiles of the sheets of best and worst answers.
const BEST_AND_WORST: usize = 6;
const LABELLED: usize = 12;
const CED_STEPS: usize = 160;

impl CourseReport<'_> {
    /// The page.
    ///
    /// # Errors
    /// A curve or a picture cannot be drawn, in words.
    pub fn html(&self) -> Result<String, String> {
        let mut page = Document::new(self.title);
        self.introduce(&mut page);
        self.inputs(&mut page)?;
        self.architecture(&mut page)?;
        self.training(&mut page)?;
        for (index, measured) in self.results.iter().enumerate() {
            page.section(&measured.name);
            if index == 0 {
                page.paragraph(&format!(
                    "The model of this folder has been measured on this split {} time{}, this one included. Checkpoints \
                     and hyper-parameters are chosen on val.",
                    self.looks,
                    if self.looks == 1 { "" } else { "s" }
                ));
            }
            measured.show(&mut page)?;
        }
        if let Some(sweep) = self.sweep {
            sweep.show(&mut page)?;
        }
        self.speed(&mut page);
        page.section("How this report was made");
        page.code(None, self.command);
        for stage in self.stages {
            page.code(Some(&format!("recipe of {}", stage.name)), &stage.recipe);
        }
        Ok(page.html())
    }

    /// The figures of the page, for programs.
    pub fn figures(&self) -> Value {
        json!({
            "title": self.title,
            "command": self.command,
            "looks": self.looks,
            "results": self.results.iter().map(Measured::figures).collect::<Vec<_>>(),
            "sweep": self.sweep.map(|sweep| sweep.runs.iter().map(|run| json!({
                sweep.first: run.first,
                sweep.second: run.second,
                "val_nme_mean": run.nme,
                "train_loss": run.loss,
            })).collect::<Vec<_>>()),
            "speed": self.speeds.iter().map(|speed| json!({
                "model": speed.model,
                "bytes": speed.bytes,
                "mmac": speed.mmac,
                "milliseconds": speed.milliseconds,
                "runs": speed.runs,
            })).collect::<Vec<_>>(),
        })
    }

    fn introduce(&self, page: &mut Document) {
        for paragraph in self.introduction {
            page.paragraph(paragraph);
        }
        for remark in self.remarks {
            page.paragraph(remark);
        }
        if let Some(measured) = self.results.first() {
            page.table(&FIGURES, &measured.rows());
            let validation = Validation::Landmarks(measured.float.validation.clone());
            if let Some(warning) = trouble_in_words(&validation, 1.0) {
                page.warning(&warning);
            }
        }
    }

    fn inputs(&self, page: &mut Document) -> Result<(), String> {
        page.section("Pictures and labels");
        if let Some(measured) = self.results.first() {
            let frame = sheets::labelled(
                measured.dataset,
                measured.card,
                LABELLED,
                measured.tile_size(),
            );
            let caption = "Pictures in the network's frame, undisturbed and in their own colours, with their labels";
            page.picture(&frame, Encoding::Jpeg, caption)?;
            if let Some(frame) = self
                .sample
                .and_then(|batch| sheets::sample_sheet(batch, measured.card))
            {
                let caption =
                    "Training examples with every random change, exactly the network's input";
                page.picture(&frame, Encoding::Jpeg, caption)?;
            }
        }
        Ok(())
    }

    fn architecture(&self, page: &mut Document) -> Result<(), String> {
        page.section("Network");
        if let Some(measured) = self.results.first() {
            let card = measured.card;
            page.paragraph(&format!(
                "Input {} x {} pixels, {}, (byte - {}) x {:.6}; {}. {} trainable numbers; batch normalisation is shown folded \
                 into the convolutions, as the model file has it.",
                card.input_width,
                card.input_height,
                card.color.name(),
                card.normalization.zero_point,
                card.normalization.scale,
                match card.task {
                    Task::Landmarks { crop: CropRule::WholeFrame, .. } =>
                        "the whole picture, fitted in; no face box".to_owned(),
                    Task::Landmarks { crop: CropRule::MiddleOfFrame { .. }, .. } =>
                        "the largest rectangle of that shape in the middle of the picture; no face box".to_owned(),
                    Task::Landmarks { crop: CropRule::AroundFace { margin }, .. } =>
                        format!("a square of {margin} times the face box"),
                    Task::FaceDetection { .. } => "a frame".to_owned(),
                },
                self.stages.last().map_or(0, |stage| stage.parameters),
            ));
        }
        page.table(
            &["operator", "input", "weights", "output"],
            &layers(self.graph),
        );
        if let Some(frame) = sheets::first_filters(self.graph) {
            let caption = "The learnt filters of the first layer: grey is 0, white and black the largest weight of each";
            page.picture(&frame, Encoding::Png, caption)?;
        }
        Ok(())
    }

    fn training(&self, page: &mut Document) -> Result<(), String> {
        page.section("Training");
        for stage in self.stages {
            if let Some(last) = stage.history.last() {
                page.paragraph(&format!(
                    "{}: {} steps in {} epochs, {:.0} seconds with validation.",
                    stage.name, last.step, last.epoch, last.seconds
                ));
            }
            for mut chart in charts::of_history(&stage.history) {
                chart.caption = format!("{}: {}", stage.name, chart.caption);
                page.chart(&chart)?;
            }
        }
        Ok(())
    }

    fn speed(&self, page: &mut Document) {
        page.section("Speed");
        page.paragraph(
            "One run of the network in facemark's engine on one thread, on the machine that made this report, whatever else \
             it was doing.",
        );
        let rows: Vec<Vec<String>> = self
            .speeds
            .iter()
            .map(|speed| {
                vec![
                    speed.model.clone(),
                    (speed.bytes / 1000).to_string(),
                    format!("{:.1}", speed.mmac),
                    format!("{:.3}", speed.milliseconds.p50),
                    format!("{:.3}", speed.milliseconds.p95),
                    format!("{:.3}", speed.milliseconds.p99),
                    speed.runs.to_string(),
                ]
            })
            .collect();
        let headings = ["model", "kB", "MMAC", "p50 ms", "p95 ms", "p99 ms", "runs"];
        page.table(&headings, &rows);
    }
}

const FIGURES: [&str; 10] = [
    "answer",
    "faces",
    "NME %",
    "95 % interval",
    "median",
    "p95",
    "FR@8 %",
    "AUC@8 %",
    "MAE px",
    "variance ratio",
];

impl Measured<'_> {
    fn scheme(&self) -> Scheme {
        match self.card.task {
            Task::Landmarks { scheme, .. } => scheme,
            Task::FaceDetection { .. } => Scheme::Nose1,
        }
    }

    /// Of a tile of a sheet of six columns: the shape of what the network sees.
    fn tile_size(&self) -> (usize, usize) {
        let (width, height) = (self.card.input_width, self.card.input_height);
        (240, 240 * height / width.max(1))
    }

    fn answers(&self) -> [(&'static str, &LandmarkResult); 2] {
        [("float", self.float), ("int8", self.int8)]
    }

    fn summaries(&self) -> Vec<(String, LandmarkSummary, Option<f64>)> {
        let baselines = self.baselines.iter().map(|(name, errors)| {
            let summary = LandmarkSummary::of(self.scheme(), errors, errors.len(), 0);
            (name.clone(), summary, None)
        });
        let models = self.answers().map(|(name, result)| {
            let validation = &result.validation;
            let ratio = validation.prediction_variance_ratio;
            (name.to_owned(), validation.summary.clone(), ratio)
        });
        baselines.chain(models).collect()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let rows = self.summaries().into_iter().map(|(name, summary, ratio)| {
            let [low, high] = summary.nme_mean_interval95.unwrap_or([f64::NAN; 2]);
            vec![
                name,
                summary.faces.to_string(),
                number(summary.nme_mean, 2),
                format!("{low:.2} to {high:.2}"),
                number(summary.nme_median, 2),
                number(summary.nme_p95, 2),
                number(summary.fr8.map(|share| 100.0 * share), 1),
                number(summary.auc8.map(|share| 100.0 * share), 1),
                number(summary.mae_px, 2),
                number(ratio, 3),
            ]
        });
        rows.collect()
    }

    fn figures(&self) -> Value {
        let answers: serde_json::Map<String, Value> = self
            .summaries()
            .into_iter()
            .map(|(name, summary, ratio)| {
                (
                    name,
                    json!({ "summary": summary, "prediction_variance_ratio": ratio }),
                )
            })
            .collect();
        json!({
            "name": self.name,
            "sets": { "float": self.float.validation.sets, "int8": self.int8.validation.sets },
            "answers": answers,
        })
    }

    fn show(&self, page: &mut Document) -> Result<(), String> {
        page.paragraph(&self.note);
        page.paragraph(&format!(
            "NME is the mean distance between answer and label in percent of: {}. FR@8 is the share of faces above 8 %, \
             AUC@8 the area under the curve below up to 8 %, MAE the mean of |dx| and |dy| in pixels of the original \
             pictures. Intervals are 95 % percentile bootstrap over faces. The variance ratio is the spread of the answers \
             over the spread of the labels: 0 for the mean face, 1 for perfect answers.",
            self.float.validation.summary.normalizer
        ));
        page.table(&FIGURES, &self.rows());
        self.sets(page);
        page.chart(&self.ced())?;
        self.regions(page);
        let (best, worst) = sheets::best_and_worst(
            self.float,
            self.dataset,
            self.card,
            BEST_AND_WORST,
            self.tile_size(),
        );
        let caption = |which: &str| {
            format!(
                "The {BEST_AND_WORST} {which} answers of the float model: labels in blue, answers in orange"
            )
        };
        page.picture(&best, Encoding::Jpeg, &caption("best"))?;
        page.picture(&worst, Encoding::Jpeg, &caption("worst"))
    }

    /// Each set of several on its own.
    fn sets(&self, page: &mut Document) {
        let sets = &self.float.validation.sets;
        if sets.len() < 2 {
            return;
        }
        let rows: Vec<Vec<String>> = sets
            .iter()
            .map(|(name, nme)| {
                let int8 = self.int8.validation.sets.get(name).copied();
                vec![name.clone(), format!("{nme:.2}"), number(int8, 2)]
            })
            .collect();
        page.table(&["set", "float NME %", "int8 NME %"], &rows);
    }

    fn ced(&self) -> Chart {
        let curve = |errors: &mut dyn Iterator<Item = &FaceError>, missed: usize| {
            let nmes: Vec<f64> = errors.map(|error| error.nme).collect();
            CedPoint::curve(&nmes, missed, 3.0 * FAILURE_NME, CED_STEPS)
                .into_iter()
                .map(|point| (point.nme, point.fraction))
                .collect::<Vec<_>>()
        };
        let models = self.answers().map(|(name, result)| {
            let missed = result.validation.summary.missed;
            let mut errors = result.faces.iter().map(|face| &face.error);
            (name.to_owned(), curve(&mut errors, missed))
        });
        let baselines = self
            .baselines
            .iter()
            .map(|(name, errors)| (name.clone(), curve(&mut errors.iter(), 0)));
        Chart {
            caption: "Cumulative error distribution (CED): the part of the faces whose NME is at most the abscissa".to_owned(),
            x: "NME in percent",
            y: "part of the faces",
            lines: models.into_iter().chain(baselines).collect(),
            ..Chart::default()
        }
    }

    fn regions(&self, page: &mut Document) {
        let summaries = self.summaries();
        let mut headings = vec!["region of the face"];
        headings.extend(summaries.iter().map(|(name, ..)| name.as_str()));
        let rows: Vec<Vec<String>> =
            self.scheme()
                .regions()
                .iter()
                .map(|region| {
                    let mut row = vec![region.name.to_owned()];
                    row.extend(summaries.iter().map(|(_, summary, _)| {
                        number(summary.regions.get(region.name).copied(), 2)
                    }));
                    row
                })
                .collect();
        page.paragraph("Mean NME in percent by region:");
        page.table(&headings, &rows);
    }
}

impl Sweep {
    fn show(&self, page: &mut Document) -> Result<(), String> {
        page.section("Sweep over hyper-parameters");
        page.paragraph(&format!(
            "Short trainings of {} steps with everything else as in the recipe; judged on val, and much shorter than the \
             training above: what they show is how much each number matters.",
            self.steps
        ));
        let rows: Vec<Vec<String>> = self
            .runs
            .iter()
            .map(|run| {
                vec![
                    format!("{} = {}", self.first, run.first),
                    format!("{} = {}", self.second, run.second),
                    format!("{:.2}", run.nme),
                    format!("{:.5}", run.loss),
                ]
            })
            .collect();
        page.table(&["", "", "val NME %", "training loss"], &rows);
        let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
        for run in &self.runs {
            let name = format!("{} = {}", self.second, run.second);
            let point = (f64::from(run.first).log10(), run.nme);
            match lines.iter_mut().find(|(found, _)| *found == name) {
                Some((_, points)) => points.push(point),
                None => lines.push((name, vec![point])),
            }
        }
        page.chart(&Chart {
            caption: format!("Validation NME over {}", self.first),
            x: "decimal logarithm of the first hyper-parameter",
            y: "NME in percent",
            lines,
            ..Chart::default()
        })
    }
}

/// The nodes with weights, and those that change the size.
fn layers(graph: &Graph) -> Vec<Vec<String>> {
    let shape = |name: Option<&str>| {
        let of = name.and_then(|name| graph.find_type(name));
        of.map_or(String::new(), |of| {
            of.shape
                .iter()
                .skip(1)
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join(" x ")
        })
    };
    let nodes = graph.nodes.iter().map(|node| {
        let weights = node
            .input(1)
            .and_then(|name| graph.initializers.get(name))
            .filter(|tensor| tensor.shape.len() > 1)
            .map_or(String::new(), |tensor| {
                tensor
                    .shape
                    .iter()
                    .map(usize::to_string)
                    .collect::<Vec<_>>()
                    .join(" x ")
            });
        vec![
            node.op.clone(),
            shape(node.input(0)),
            weights,
            shape(node.outputs.first().map(String::as_str)),
        ]
    });
    nodes.collect()
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// The landmark result of an evaluation; `None` of a detector's.
pub fn landmark_result(evaluation: Evaluation) -> Option<LandmarkResult> {
    match evaluation {
        Evaluation::Landmarks(result) => Some(result),
        Evaluation::Detector(_) => None,
    }
}
