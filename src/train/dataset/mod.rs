//! Labelled pictures in memory, whatever the format on disk: opening a set, what was skipped and why, and the mix of
//! several sets. The formats have a file each; cropping and augmenting are not here.

mod asf;
mod drawn;
mod false_alarms;
mod imglab;
mod json_lines;
mod kaggle;
mod original;
#[cfg(test)]
mod original_tests;
mod picture;
mod pts;
mod teacher;

pub use false_alarms::{FalseAlarm, is_empty, possible_faces};
pub use picture::Picture;

use crate::{
    annotation::{DetectionRecord, LandmarkRecord, Split},
    geometry::{FaceBox, Point},
    metrics::NormalizingLength,
    model::ModelError,
    scheme::Scheme,
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// What an example says.
#[derive(Clone, Debug, PartialEq)]
pub enum Label {
    /// One face with its landmarks.
    Landmarks {
        /// Landmark layout.
        scheme: Scheme,
        /// The landmarks, in the picture.
        points: Vec<Point>,
        /// The face, in the picture.
        face_box: FaceBox,
        /// See [`LandmarkRecord::measured_by`].
        measured_by: Option<NormalizingLength>,
    },
    /// Every face of a picture.
    Detection {
        /// Faces; none: the picture shows no face.
        boxes: Vec<FaceBox>,
        /// Possible faces, neither right nor wrong to find.
        ignore: Vec<FaceBox>,
    },
}

/// One labelled picture (landmarks: one face of it).
#[derive(Clone, Debug)]
pub struct Example {
    /// The picture.
    pub picture: Picture,
    /// Index into [`Dataset::sets`].
    pub set: usize,
    /// Split.
    pub split: Split,
    /// See [`LandmarkRecord::orig_split`].
    pub orig_split: String,
    /// Person or photo; splits never share one.
    pub id: String,
    /// Pixels of the source picture in one pixel of this one.
    pub original_scale: f32,
    /// Landmarks or boxes.
    pub label: Label,
}

impl Example {
    /// From a checked landmark record; its picture is relative to `folder`.
    fn of_face(folder: &Path, record: LandmarkRecord) -> Self {
        Self {
            picture: Picture::File {
                path: folder.join(&record.image),
                size: (record.width, record.height),
            },
            set: 0,
            split: record.split,
            original_scale: record.original_scale(),
            orig_split: record.orig_split,
            id: record.id,
            label: Label::Landmarks {
                scheme: record.scheme,
                points: record.points,
                face_box: record.face_box,
                measured_by: record.measured_by,
            },
        }
    }

    /// What landmark errors are divided by; `None` without landmarks or when they give no positive length.
    pub fn normalizing_length(&self) -> Option<NormalizingLength> {
        match &self.label {
            Label::Landmarks {
                scheme,
                points,
                face_box,
                measured_by,
            } => measured_by.or_else(|| NormalizingLength::of(*scheme, points, face_box)),
            Label::Detection { .. } => None,
        }
    }

    /// Keeps one landmark of a face, in scheme nose1: `index`, or the nose tip where the layout has one.
    fn keep_one_landmark(&mut self, index: Option<usize>) {
        let length = self.normalizing_length();
        if let Label::Landmarks {
            scheme,
            points,
            measured_by,
            ..
        } = &mut self.label
            && let Some(&point) = index
                .or_else(|| scheme.nose_tip())
                .and_then(|index| points.get(index))
        {
            *scheme = Scheme::Nose1;
            *points = vec![point];
            *measured_by = length;
        }
    }

    /// From a checked detection record; its picture is relative to `folder`.
    fn of_picture(folder: &Path, record: DetectionRecord) -> Self {
        Self {
            picture: Picture::File {
                path: folder.join(&record.image),
                size: (record.width, record.height),
            },
            set: 0,
            split: record.split,
            original_scale: 1.0,
            orig_split: String::new(),
            id: record.image,
            label: Label::Detection {
                boxes: record.boxes,
                ignore: record.ignore,
            },
        }
    }
}

/// A set in a mix.
#[derive(Clone, Debug, PartialEq)]
pub struct SetInfo {
    /// The set's name.
    pub name: String,
    /// Part of the drawn examples that come from this set, relative to the other sets'; `None`: as many as it has
    /// examples.
    pub share: Option<f32>,
    /// Weight of the set's landmarks in the loss.
    pub weight: f32,
}

/// A record that was left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Skipped {
    /// Which one: file and line, or picture file.
    pub item: String,
    /// Why.
    pub reason: String,
}

/// Labelled pictures of one or more sets.
#[derive(Clone, Debug, Default)]
pub struct Dataset {
    /// The sets, in the order in which they were given.
    pub sets: Vec<SetInfo>,
    /// The usable examples.
    pub examples: Vec<Example>,
    /// Records that cannot be used. A record of another split or scheme than asked for is not counted.
    pub skipped: Vec<Skipped>,
    /// Where the sets' detectors see a face and none is.
    pub false_alarms: Vec<FalseAlarm>,
}

/// Where data comes from and how much of it is drawn: one entry of a recipe's `data`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSource {
    /// A folder or file in a known format, or `synthetic:SEED`.
    pub path: String,
    /// See [`SetInfo::share`].
    #[serde(default)]
    pub share: Option<f32>,
    /// See [`SetInfo::weight`].
    #[serde(default = "one")]
    pub weight: f32,
    /// For scheme nose1: the landmark of the set's own layout that is learnt, instead of its nose tip (of imm58 for
    /// instance 52, the middle of the nose's base).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landmark: Option<usize>,
    /// Only faces whose [`LandmarkRecord::orig_split`] this is. The parts of a set may be of different sources, with
    /// pictures and habits of labelling of their own: named apart, each has its own share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orig_split: Option<String>,
    /// A landmark model whose answers, in its own layout, take the place of the set's labels (distillation). Training
    /// pictures alone have a teacher: a set is validated and tested on its own labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// For pictures without faces: a detector whose false alarms in the training pictures are half of the places where
    /// crops without a face are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detector: Option<PathBuf>,
}

fn one() -> f32 {
    1.0
}

impl DataSource {
    /// The whole of `path` at weight 1.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            share: None,
            weight: 1.0,
            landmark: None,
            orig_split: None,
            teacher: None,
            detector: None,
        }
    }
}

/// What to read of a data set.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    /// Only this split.
    pub split: Option<Split>,
    /// Landmark examples in this scheme only; `None` takes any.
    pub scheme: Option<Scheme>,
    /// Decoded pictures are kept in memory up to this many bytes a set; the rest is decoded at each use.
    pub cache_bytes: usize,
    /// Decode every picture once, so that a broken one is found now and not in the middle of a training.
    pub check_pictures: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            split: None,
            scheme: None,
            cache_bytes: 3 << 30,
            check_pictures: true,
        }
    }
}

/// Why a data set cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The path does not exist or cannot be read.
    #[error("{path}: cannot read the data set: {source}")]
    Read {
        /// File or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The path is no data set that a reader knows.
    #[error("{path}: expected {expected}; found {found}")]
    UnknownFormat {
        /// File or folder.
        path: PathBuf,
        /// Formats that there are.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Nothing in it can be used.
    #[error("{path}: expected {expected}; found {found}")]
    Empty {
        /// File or folder.
        path: PathBuf,
        /// What was asked for.
        expected: String,
        /// What is there instead, with the first reason.
        found: String,
    },
    /// The model that is to look at the set cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model that is to label the set cannot do that.
    #[error("{path}: cannot label {data:?}: {reason}")]
    Teacher {
        /// The model file.
        path: PathBuf,
        /// The source as given.
        data: String,
        /// Why, in words.
        reason: String,
    },
    /// The model whose false alarms are wanted cannot tell them.
    #[error("{path}: cannot look for faces in {data:?}: {reason}")]
    Detector {
        /// The model file.
        path: PathBuf,
        /// The source as given.
        data: String,
        /// Why, in words.
        reason: String,
    },
    /// A value that describes the data set is wrong.
    #[error("data {data:?}: expected {expected}; found {found}")]
    BadSource {
        /// The source as given.
        data: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
}

/// What a reader makes of a path: all records it can read, whatever their split, before pictures are opened.
#[derive(Debug, Default)]
struct Records {
    name: String,
    examples: Vec<Example>,
    skipped: Vec<Skipped>,
}

impl Records {
    fn skip(&mut self, item: impl Into<String>, reason: impl ToString) {
        let (item, reason) = (item.into(), reason.to_string());
        tracing::warn!(%item, %reason, "skipped");
        self.skipped.push(Skipped { item, reason });
    }

    /// Keeps the examples of one part of the source set; `data` is the set's path.
    fn retain_part(&mut self, part: &str, data: &str) -> Result<(), DatasetError> {
        let (kept, others): (Vec<Example>, Vec<Example>) = std::mem::take(&mut self.examples)
            .into_iter()
            .partition(|example| example.orig_split == part);
        if kept.is_empty() {
            let parts: BTreeSet<&str> = others
                .iter()
                .map(|example| example.orig_split.as_str())
                .collect();
            return Err(DatasetError::BadSource {
                data: data.to_owned(),
                expected: format!("records with orig_split {part:?}"),
                found: format!("orig_split {}", Vec::from_iter(parts).join(", ")),
            });
        }
        self.examples = kept;
        Ok(())
    }
}

impl Dataset {
    /// Opens one set at full share.
    ///
    /// # Errors
    /// See [`DatasetError`]; broken records and pictures are no errors but in [`Dataset::skipped`].
    pub fn open(path: &str, options: &OpenOptions) -> Result<Self, DatasetError> {
        Self::open_all(&[DataSource::new(path)], options)
    }

    /// Opens several sets.
    ///
    /// # Errors
    /// See [`DatasetError`]; the first set that cannot be used at all.
    pub fn open_all(sources: &[DataSource], options: &OpenOptions) -> Result<Self, DatasetError> {
        let mut dataset = Self::default();
        for source in sources {
            dataset.add(source, options)?;
        }
        Ok(dataset)
    }

    fn add(&mut self, source: &DataSource, options: &OpenOptions) -> Result<(), DatasetError> {
        for (value, name) in [
            (source.share.unwrap_or(1.0), "share"),
            (source.weight, "weight"),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(DatasetError::BadSource {
                    data: source.path.clone(),
                    expected: format!("a {name} that is not negative"),
                    found: value.to_string(),
                });
            }
        }
        let mut records = read(source)?;
        let skipped_labels = records.skipped.len();
        if let Some(part) = &source.orig_split {
            records.retain_part(part, &source.path)?;
        }
        if let Some(teacher) = &source.teacher {
            let split =
                |example: &Example| options.split.is_none_or(|split| split == example.split);
            records.examples.retain(split);
            teacher::relabel(&mut records, &source.path, teacher)?;
        }
        if options.scheme == Some(Scheme::Nose1) {
            for example in &mut records.examples {
                example.keep_one_landmark(source.landmark);
            }
        }
        let all = records.examples.len();
        records.examples.retain(|example| wanted(example, options));
        let chosen = records.examples.len();
        if options.check_pictures {
            load_pictures(&mut records, options.cache_bytes);
        }
        if records.examples.is_empty() {
            return Err(DatasetError::Empty {
                path: PathBuf::from(&source.path),
                expected: describe(options),
                found: match records.skipped.first() {
                    Some(first) if chosen > 0 || all == 0 => format!(
                        "{} unusable records, the first: {}: {}",
                        records.skipped.len(),
                        first.item,
                        first.reason
                    ),
                    _ => format!(
                        "{all} usable records of other splits or schemes and {skipped_labels} unusable ones"
                    ),
                },
            });
        }
        let set = self.sets.len();
        self.sets.push(SetInfo {
            name: records.name,
            share: source.share,
            weight: source.weight,
        });
        for example in &mut records.examples {
            example.set = set;
        }
        if let Some(detector) = &source.detector {
            let first = self.examples.len();
            let found = false_alarms::find(&records.examples, first, &source.path, detector)?;
            self.false_alarms.extend(found);
        }
        self.examples.append(&mut records.examples);
        self.skipped.append(&mut records.skipped);
        Ok(())
    }

    /// Bytes of the pictures kept in memory.
    pub fn cached_bytes(&self) -> usize {
        self.examples
            .iter()
            .filter_map(|example| example.picture.in_memory())
            .map(|frame| frame.rgb().len())
            .sum()
    }
}

fn wanted(example: &Example, options: &OpenOptions) -> bool {
    let scheme_fits = match (&example.label, options.scheme) {
        (Label::Landmarks { scheme, .. }, Some(wanted)) => *scheme == wanted,
        _ => true,
    };
    scheme_fits && options.split.is_none_or(|split| split == example.split)
}

fn describe(options: &OpenOptions) -> String {
    let split = options.split.map_or("any", Split::name);
    let scheme = options.scheme.map_or("any", Scheme::name);
    format!("at least one usable example (split {split}, scheme {scheme})")
}

/// Decodes every picture on all cores. Those that fit in `cache_bytes` stay in memory, broken ones are skipped.
fn load_pictures(records: &mut Records, cache_bytes: usize) {
    let used = std::sync::atomic::AtomicUsize::new(0);
    let failures: Vec<Option<String>> = records
        .examples
        .par_iter_mut()
        .map(|example| example.picture.check_and_keep(&used, cache_bytes).err())
        .collect();
    let mut kept = Vec::with_capacity(records.examples.len());
    for (example, failure) in std::mem::take(&mut records.examples)
        .into_iter()
        .zip(failures)
    {
        match failure {
            None => kept.push(example),
            Some(reason) => records.skip(example.picture.name(), reason),
        }
    }
    records.examples = kept;
}

const FORMATS: &str = "a folder with annotations.jsonl, with .pts or .asf files beside their pictures, or with one \
    imglab .xml or Kaggle .csv file; such a file; or synthetic:SEED";

/// Finds the reader for a source by what is there.
fn read(source: &DataSource) -> Result<Records, DatasetError> {
    if let Some(seed) = source.path.strip_prefix(drawn::PREFIX) {
        return drawn::read(seed);
    }
    let path = Path::new(&source.path);
    let unreadable = |source| DatasetError::Read {
        path: path.to_owned(),
        source,
    };
    let unknown = |found: String| DatasetError::UnknownFormat {
        path: path.to_owned(),
        expected: FORMATS.to_owned(),
        found,
    };
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return read_file(path)?.ok_or_else(|| unknown("a file of another kind".to_owned()));
    }
    if path.join(json_lines::FILE_NAME).exists() {
        return json_lines::read(path);
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)
        .map_err(unreadable)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    files.sort();
    let ending_in = |ending: &str| -> Vec<PathBuf> {
        let matches = |file: &&PathBuf| original::has_ending(file, ending);
        files.iter().filter(matches).cloned().collect()
    };
    let (pts, asf) = (ending_in("pts"), ending_in("asf"));
    if !pts.is_empty() {
        return Ok(pts::read(path, &pts));
    }
    if !asf.is_empty() {
        return Ok(asf::read(path, &asf));
    }
    let tables: Vec<PathBuf> = [ending_in("xml"), ending_in("csv")].concat();
    match tables.as_slice() {
        [table] => read_file(table)?
            .ok_or_else(|| unknown(format!("{}, which is of another kind", table.display()))),
        [] if files.is_empty() => Err(unknown("an empty folder".to_owned())),
        [] => Err(unknown(format!(
            "{} entries such as {:?}",
            files.len(),
            files[0].file_name().unwrap_or_default()
        ))),
        several => Err(unknown(format!(
            "{} tables such as {}: name one of them",
            several.len(),
            several[0].display()
        ))),
    }
}

/// Reads a file that holds a whole set, by how it begins; `None` if it begins like none.
fn read_file(file: &Path) -> Result<Option<Records>, DatasetError> {
    use std::io::Read;
    let unreadable = |source| DatasetError::Read {
        path: file.to_owned(),
        source,
    };
    let mut start = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(4096).read_to_end(&mut start))
        .map_err(unreadable)?;
    let start = String::from_utf8_lossy(&start);
    let first_line = start.trim_start_matches('\u{feff}').lines().next();
    if start
        .trim_start_matches('\u{feff}')
        .trim_start()
        .starts_with('<')
    {
        imglab::read(file).map(Some)
    } else if first_line.is_some_and(kaggle::is_header) {
        kaggle::read(file).map(Some)
    } else {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{frame::Frame, picture};

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data");

    /// A folder with two good faces (train and val), and whatever `lines` and `files` add.
    fn folder(lines: &[String], files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::create_dir(folder.path().join("images")).expect("images");
        picture::save(&Frame::new(80, 60), &folder.path().join("images/good.jpg")).expect("jpg");
        for (name, bytes) in files {
            std::fs::write(folder.path().join("images").join(name), bytes).expect("file");
        }
        let good = [
            record("good.jpg", "train", "[40.5,30.25]"),
            record("good.jpg", "val", "[41.5,30.25]"),
        ];
        let text: Vec<&str> = good.iter().chain(lines).map(String::as_str).collect();
        std::fs::write(folder.path().join("annotations.jsonl"), text.join("\n")).expect("labels");
        folder
    }

    fn record(image: &str, split: &str, points: &str) -> String {
        format!(
            r#"{{"image":"images/{image}","dataset":"t","split":"{split}","id":"p","width":80,"height":60,"#
        ) + &format!(r#""box":[10.0,5.0,40.0,50.0],"scheme":"nose1","points":{points}}}"#)
    }

    fn open(folder: &Path, options: &OpenOptions) -> Result<Dataset, DatasetError> {
        Dataset::open(&folder.display().to_string(), options)
    }

    #[test]
    fn broken_records_and_pictures_are_named_counted_and_skipped() {
        let mut jpeg = Vec::new();
        let whole = picture_bytes();
        jpeg.extend_from_slice(&whole[..whole.len() / 2]);
        let lines = [
            record("cut.jpg", "train", "[1,2]"),
            record("empty.jpg", "train", "[1,2]"),
            record("text.jpg", "train", "[1,2]"),
            record("missing.jpg", "train", "[1,2]"),
            record("good.jpg", "train", "[NaN,2]"),
            record("good.jpg", "train", "[1,2,3,4]"),
            record("good.jpg", "train", "[900,2]"),
            "no JSON at all".to_owned(),
            String::new(),
        ];
        let folder = folder(
            &lines,
            &[
                ("cut.jpg", &jpeg),
                ("empty.jpg", b""),
                ("text.jpg", b"not a picture"),
            ],
        );
        let data = open(folder.path(), &OpenOptions::default()).expect("two good records");
        assert_eq!(data.examples.len(), 2);
        let cases = [
            ("annotations.jsonl:7", "not a record"),
            ("annotations.jsonl:8", "expected 1 points, found 2"),
            ("annotations.jsonl:9", "point 0 is at (900, 2)"),
            ("annotations.jsonl:10", "not a record"),
            ("cut.jpg", "cut off"),
            ("empty.jpg", "0 bytes"),
            ("text.jpg", "expected a picture"),
            ("missing.jpg", "cannot read"),
        ];
        assert_eq!(data.skipped.len(), cases.len(), "{:#?}", data.skipped);
        for (skipped, (item, reason)) in data.skipped.iter().zip(cases) {
            assert!(skipped.item.ends_with(item), "{skipped:?}");
            assert!(skipped.reason.contains(reason), "{skipped:?}");
        }
    }

    /// A JPEG with enough in it to be cut.
    fn picture_bytes() -> Vec<u8> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.jpg");
        let mut frame = Frame::new(80, 60);
        for (index, byte) in frame.rgb_mut().iter_mut().enumerate() {
            *byte = (index * 7919 % 251) as u8;
        }
        picture::save(&frame, &path).expect("jpg");
        std::fs::read(path).expect("bytes")
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_an_error_that_says_why() {
        let empty = tempfile::tempdir().expect("folder");
        let error = |path: &Path, options| open(path, &options).expect_err("error").to_string();
        let message = error(empty.path(), OpenOptions::default());
        assert!(
            message.contains("an empty folder") && message.contains("annotations.jsonl"),
            "{message}"
        );
        let message = error(&empty.path().join("nowhere"), OpenOptions::default());
        assert!(
            message.contains("nowhere: cannot read the data set"),
            "{message}"
        );

        let folder = folder(&[], &[]);
        let test_only = OpenOptions {
            split: Some(Split::Test),
            ..OpenOptions::default()
        };
        let message = error(folder.path(), test_only);
        assert!(
            message.contains("split test") && message.contains("2 usable records of other"),
            "{message}"
        );

        std::fs::write(folder.path().join("annotations.jsonl"), "{}\n{}").expect("labels");
        let message = error(folder.path(), OpenOptions::default());
        assert!(
            message.contains("2 unusable records, the first: "),
            "{message}"
        );
        for seed in ["", "x", "-1", "1.5"] {
            let source = format!("synthetic:{seed}");
            let error = Dataset::open(&source, &OpenOptions::default()).expect_err(seed);
            assert!(error.to_string().contains("synthetic:SEED"), "{error}");
        }
    }

    #[test]
    fn splits_schemes_shares_and_the_memory_limit_are_kept() {
        let folder = folder(&[], &[]);
        let with = |options| open(folder.path(), &options).expect("data");
        let train = with(OpenOptions {
            split: Some(Split::Train),
            ..OpenOptions::default()
        });
        assert_eq!(
            (train.examples.len(), train.cached_bytes()),
            (1, 80 * 60 * 3)
        );
        let one_fits = with(OpenOptions {
            cache_bytes: 80 * 60 * 3 + 10,
            ..OpenOptions::default()
        });
        assert_eq!(
            (one_fits.examples.len(), one_fits.cached_bytes()),
            (2, 80 * 60 * 3)
        );
        for example in &one_fits.examples {
            assert_eq!(example.picture.load().expect("picture").width(), 80);
        }
        let source = |share| DataSource {
            share: Some(share),
            weight: 0.3,
            ..DataSource::new(folder.path().display().to_string())
        };
        let two = Dataset::open_all(&[source(0.7), source(0.3)], &OpenOptions::default());
        let two = two.expect("data");
        assert_eq!((two.sets.len(), two.examples[3].set), (2, 1));
        assert_eq!((two.sets[1].share, two.sets[1].weight), (Some(0.3), 0.3));
        let error = Dataset::open_all(&[source(-1.0)], &OpenOptions::default()).expect_err("share");
        assert!(error.to_string().contains("not negative"), "{error}");
    }

    #[test]
    fn a_part_of_the_source_set_can_have_a_share_of_its_own() {
        let in_part = |part: &str| {
            record("good.jpg", "train", "[42.0,30.0]")
                .replace(r#""id""#, &format!(r#""orig_split":"{part}","id""#))
        };
        let folder = folder(&[in_part("a"), in_part("b"), in_part("b")], &[]);
        let open = |part: &str| {
            let source = DataSource {
                orig_split: Some(part.to_owned()),
                ..DataSource::new(folder.path().display().to_string())
            };
            Dataset::open_all(&[source], &OpenOptions::default())
        };
        assert_eq!(open("a").expect("data").examples.len(), 1);
        assert_eq!(open("b").expect("data").examples.len(), 2);
        let error = open("c").expect_err("no such part").to_string();
        assert!(
            error.contains(r#"expected records with orig_split "c""#),
            "{error}"
        );
        assert!(error.contains("found orig_split , a, b"), "{error}");
    }

    #[test]
    fn the_public_sets_open_without_a_skipped_record() {
        if !Path::new(FOLDER).exists() {
            println!("skipped: {FOLDER} is not there");
            return;
        }
        for (name, train, val, test) in [
            ("imm58", 22, 4, 6),
            ("imm_frontal73", 70, 10, 20),
            ("det", 1019, 155, 315),
        ] {
            let options = OpenOptions {
                check_pictures: name != "det",
                ..OpenOptions::default()
            };
            let data = Dataset::open(&format!("{FOLDER}/{name}"), &options).expect(name);
            assert_eq!(data.skipped, [], "{name}");
            for (split, expected) in [
                (Split::Train, train),
                (Split::Val, val),
                (Split::Test, test),
            ] {
                let found = data
                    .examples
                    .iter()
                    .filter(|example| example.split == split)
                    .count();
                assert_eq!(found, expected, "{name} {}", split.name());
            }
        }
    }
}
