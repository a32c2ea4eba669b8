//! The parts of the project: which recipes make each, and what its report says of it.

use super::{
    course::{FLOAT_WITH_NORMALIZATION, NOSE_BASE_OF_IMM58, Run, built_in},
    measure::{self, MeasuredSet, Models},
};
use crate::failure::Failure;
use facemark::{
    annotation::Split,
    train::{
        dataset::{DataSource, Dataset},
        fit::Trained,
        report::course::Measured,
    },
};
use std::path::Path;

/// One part of the project.
pub(crate) struct Course {
    /// Its name on the command line.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// Paragraphs: what was asked for, what is different here.
    pub(super) introduction: &'static [&'static str],
    /// What a reader should know of the results.
    pub(super) note: &'static str,
    /// Name and recipe of the network that labels pictures for the stages (see `course::TEACHER`).
    pub(super) teacher: Option<(&'static str, &'static str)>,
    /// Name and recipe of each stage.
    pub(super) stages: &'static [(&'static str, &'static str)],
    /// What is shown beside the part's own data.
    pub(super) beside: &'static [Other],
    /// The sweep's values: learning rates and shifts.
    pub(super) sweep: Option<(&'static [f32], &'static [f32])>,
    /// Whether predictions are written as the contest's table.
    pub(super) submission: bool,
}

/// What is shown beside a part's own data.
pub(crate) enum Other {
    /// The same model on one landmark of another set.
    Landmark {
        data: &'static str,
        landmark: usize,
        name: &'static str,
        note: &'static str,
    },
    /// A model of its own, trained by another recipe.
    Model {
        stage: (&'static str, &'static str),
        name: &'static str,
        note: &'static str,
    },
}

/// The nose tip.
pub(crate) const NOSE: Course = Course {
    name: "nose",
    title: "Nose tip",
    introduction: &[
        "Part 1 of the project asked for a small network of three to four convolutions that finds the tip of the nose in 80 x \
         60 grey pictures in -0.5..0.5 with the mean squared error, on the IMM face database (people 1 to 32 for training, 33 \
         to 40 for validation).",
        "Here the pictures are mtfl5's, faces in the wild with labels that are off by some tenth of the eye distance \
         themselves. So a first stage learns noses from the released large landmark network, which labels the training \
         pictures, and from sets with 68 points; the second learns mtfl5's own labels, those of its two sources in shares of \
         their own. The network sees the picture as a whole, without a face box; random shifts keep it from learning where the \
         nose usually is. With --data FOLDER of the IMM database (.asf files) the course's own split is used, in both stages. \
         Unlike the course's, the convolutions have batch normalisation, and the nose is the mean of a heat map.",
    ],
    note: "Landmark: the tip of the nose (point 2 of mtfl5), measured by the distance of the eye centres. \"Mean position\" is \
           the mean label of the training pictures in the whole picture; \"mean in the true box\" knows where the face is.",
    teacher: None,
    stages: &[
        (
            "nose-first",
            include_str!("../../../../recipes/nose-first.toml"),
        ),
        ("nose", include_str!("../../../../recipes/nose.toml")),
    ],
    beside: &[Other::Landmark {
        data: "../shared/data/imm58",
        landmark: NOSE_BASE_OF_IMM58,
        name: "Beside it: the nose's base in imm58",
        note: "imm58 has no nose tip: its point 52, which the course took, is the middle of the nose's BASE, below the tip. The \
               model above learnt the tip and never saw this set, so that its answers lie too high by what separates tip and \
               base; the two figures must not be mixed. Measured by the distance of the outer eye corners.",
    }],
    sweep: None,
    submission: false,
};

/// Every point of a frontal face.
pub(crate) const FULL_FACE: Course = Course {
    name: "full-face",
    title: "Full face",
    introduction: &[
        "Part 2 of the project asked for all points of a face: at least five convolutions, each with ReLU and max pool, then \
         two fully connected layers, 240 x 180 grey pictures, and augmentation by rotation within 15 degrees and shifts.",
        "Here imm_frontal73 is learnt: 73 points, seventy pictures of few people for training, split by person. The network \
         sees the whole picture and no face box. One affine map turns picture and points by the same angle about the same \
         centre. Seven people do not teach a network what faces have in common. So the released landmark network, taught the 73 \
         points in crops of the same seventy pictures, labels faces in the wild (helen, lfpw, afw, YouTube Faces), which are \
         learnt as whole pictures together with the seventy. \
         Batch normalisation, which the original had not, keeps every layer alive. The last convolution has a heat map for each \
         point, whose mean is a first guess, and the fully connected layers see all guesses and correct them. The loss is the \
         wing loss. imm58 has other points and is a model of its own, which goes on from this one, shown after.",
    ],
    note: "\"Mean position\" is the mean label of the training pictures in the whole picture. \"Mean shape in the true box\" is \
           told where the face is and how large, which the network is not: a strong answer on frontal studio pictures.",
    teacher: Some((
        "full-face-teacher",
        include_str!("../../../../recipes/full-face-teacher.toml"),
    )),
    stages: &[(
        "full-face",
        include_str!("../../../../recipes/full-face.toml"),
    )],
    beside: &[Other::Model {
        stage: (
            "full-face-imm58",
            include_str!("../../../../recipes/full-face-imm58.toml"),
        ),
        name: "Beside it: a model of its own for imm58",
        note: "58 points, one picture a person: 22 people for training, 4 for validation, 6 for test. So few faces say little of \
               how good the method is; the intervals show it.",
    }],
    sweep: Some((&[0.0002, 0.001, 0.01], &[0.0, 0.2])),
    submission: false,
};

/// 68 points of faces in the wild.
pub(crate) const IN_THE_WILD: Course = Course {
    name: "in-the-wild",
    title: "Faces in the wild",
    introduction: &[
        "Part 3 of the project asked for ResNet18 with 136 outputs on 224 x 224 crops of faces in the wild, 68 points, smooth \
         L1, predictions scaled back to the original pictures, and a table for the contest, which was judged by the mean \
         absolute error in original pixels. The original's author scored 24.57, good students 7.5, on the contest's own \
         pictures: those figures and the ones below are of different sets.",
        "Here helen, lfpw and afw are learnt with frames of YouTube Faces beside them, from drawn weights: there is no network \
         to download. The first stage sees crops of 112 pixels, which cost a quarter; the second goes on at 224. On a slow \
         processor the default number of epochs is little; --epochs trains longer.",
    ],
    note: "Crops are squares around the labelled boxes. Original pixels are those of the pictures before they were stored at \
           their present size.",
    teacher: None,
    stages: &[
        (
            "in-the-wild-first",
            include_str!("../../../../recipes/in-the-wild-first.toml"),
        ),
        (
            "in-the-wild",
            include_str!("../../../../recipes/in-the-wild.toml"),
        ),
    ],
    beside: &[],
    sweep: None,
    submission: true,
};

/// The released network.
pub(crate) const LIVE: Course = Course {
    name: "live",
    title: "The live program's network",
    introduction: &[
        "The compact network that facemark runs live and that is released as landmarks68: the landmarks first; then, with \
         everything else as it is, the layers that tell a face from what the detector takes for one.",
    ],
    note: "Crops are squares around the labelled boxes.",
    teacher: None,
    stages: &[
        (
            "landmarks68",
            include_str!("../../../../recipes/landmarks68.toml"),
        ),
        (
            "landmarks68-presence",
            include_str!("../../../../recipes/landmarks68-presence.toml"),
        ),
    ],
    beside: &[],
    sweep: None,
    submission: false,
};

/// What was measured beside a part's own data, with what it was measured on.
pub(super) struct Beside {
    name: String,
    note: String,
    models: Models,
    dataset: Dataset,
    measured: MeasuredSet,
}

impl Beside {
    pub(super) fn view(&self) -> Measured<'_> {
        self.measured.view(
            self.name.clone(),
            self.note.clone(),
            &self.models.card,
            &self.dataset,
        )
    }
}

impl Run<'_> {
    /// Measures what is shown beside; `None` where its data is not there, which `remarks` then say.
    pub(super) fn beside(
        &self,
        other: &Other,
        trained: &Trained,
        models: &Models,
        remarks: &mut Vec<String>,
    ) -> Result<Option<Beside>, Failure> {
        match other {
            Other::Landmark {
                data,
                landmark,
                name,
                note,
            } => {
                if !there(data, remarks) {
                    return Ok(None);
                }
                let source = DataSource {
                    landmark: Some(*landmark),
                    ..DataSource::new(*data)
                };
                let mut recipe = trained.recipe.clone();
                recipe.data = vec![source];
                let models = models.clone();
                self.measured_beside(name, note, recipe, models).map(Some)
            }
            Other::Model { stage, name, note } => {
                let mut planned = self.arguments.planned(stage.0, built_in(stage.1)?)?;
                planned.start_from(&self.output.join(FLOAT_WITH_NORMALIZATION));
                if !planned
                    .recipe
                    .data
                    .iter()
                    .all(|source| there(&source.path, remarks))
                {
                    return Ok(None);
                }
                let Some((trained, _)) = self.train(&planned)? else {
                    return Ok(None);
                };
                let models = self.models(stage.0, &trained)?;
                self.measured_beside(name, note, trained.recipe, models)
                    .map(Some)
            }
        }
    }

    fn measured_beside(
        &self,
        name: &str,
        note: &str,
        recipe: facemark::train::recipe::Recipe,
        models: Models,
    ) -> Result<Beside, Failure> {
        let (dataset, split): (Dataset, Split) = self.reported(&recipe.data, recipe.scheme)?;
        let measured = measure::measure(self, &models, &dataset, &recipe)?;
        Ok(Beside {
            name: format!("{name} ({})", split.name()),
            note: note.to_owned(),
            models,
            dataset,
            measured,
        })
    }
}

fn there(data: &str, remarks: &mut Vec<String>) -> bool {
    let found = Path::new(data).exists();
    if !found {
        remarks.push(format!("{data} is not there, and so not shown beside."));
    }
    found
}
