//! Batches ahead of time: worker threads that crop, augment and rasterise while the training step runs.

mod config;
mod draw;
mod order;

pub use config::LoaderConfig;

use super::{
    augment::{View, generator},
    dataset::{Dataset, Label},
    target::{Batch, BatchTensor, HeadTarget, write_landmarks},
};
use crate::{
    crop::{Color, Crop, CropRule, Normalization},
    frame::Frame,
    geometry::Point,
    model::Task,
    scheme::Scheme,
};
use draw::{FaceSpec, Sources};
use order::Order;
use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

/// Why there are no batches.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// The data set or the configuration does not suit the task.
    #[error("cannot make batches: expected {expected}; found {found}")]
    Unsuitable {
        /// What the task needs.
        expected: String,
        /// What there is.
        found: String,
    },
    /// A worker thread cannot be started, or panicked.
    #[error("a loader thread failed: {reason}")]
    Worker {
        /// The panic's message.
        reason: String,
    },
}

/// An endless stream of batches; batch i of epoch e depends on (seed, e, i) alone, whatever the number of threads.
/// Dropping it stops the workers.
#[derive(Debug)]
pub struct Loader {
    batches_per_epoch: usize,
    maker: Arc<Maker>,
    desk: Arc<Desk>,
    workers: Vec<JoinHandle<()>>,
}

/// Where workers lay down batches and the trainer picks them up, in order.
#[derive(Debug)]
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the next batch that no worker has begun.
    next_to_make: usize,
    /// Number of the next batch to hand out.
    next_to_take: usize,
    ready: BTreeMap<usize, Batch>,
    stopped: bool,
    failure: Option<String>,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panicking worker holds no lock while it works, so that a poisoned state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loader {
    /// Starts the workers. `negatives` are pictures with face boxes whose empty places become landmark negatives; without
    /// them all negatives are misplaced faces.
    ///
    /// # Errors
    /// The data set or the configuration does not suit the task.
    pub fn new(
        dataset: Arc<Dataset>,
        negatives: Option<Arc<Dataset>>,
        config: LoaderConfig,
    ) -> Result<Self, LoaderError> {
        let maker = Maker::new(dataset, negatives, &config)?;
        let batches_per_epoch = maker.batches_per_epoch;
        let first = config.start.0 * batches_per_epoch + config.start.1;
        let desk = Arc::new(Desk {
            state: Mutex::new(State {
                next_to_make: first,
                next_to_take: first,
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        let threads = match config.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let mut loader = Self {
            batches_per_epoch,
            maker: Arc::new(maker),
            desk,
            workers: Vec::new(),
        };
        let ahead = config.ahead.max(1);
        for index in 0..threads {
            let (maker, desk) = (Arc::clone(&loader.maker), Arc::clone(&loader.desk));
            let worker = std::thread::Builder::new()
                .name(format!("loader {index}"))
                .spawn(move || work(&maker, &desk, ahead))
                .map_err(|error| LoaderError::Worker {
                    reason: error.to_string(),
                })?;
            loader.workers.push(worker);
        }
        Ok(loader)
    }

    /// Batches in an epoch.
    pub fn batches_per_epoch(&self) -> usize {
        self.batches_per_epoch
    }

    /// Batch `index` of the first epoch, made now and out of turn: training does not notice.
    pub fn batch_of_first_epoch(&self, index: usize) -> Batch {
        let order = self.maker.order.epoch(0);
        self.maker.make(0, index, &order)
    }

    /// Up to `count` faces of the first epoch, spread over it, as their crops are cut in training, before the crops'
    /// bytes are changed; none for detection.
    pub fn inspected_faces(&self, count: usize) -> Vec<InspectedFace> {
        self.maker.inspect(count)
    }

    /// The next batch, waiting for it if need be. After an epoch's last batch comes the next epoch's first.
    ///
    /// # Errors
    /// A worker panicked.
    pub fn next_batch(&mut self) -> Result<Batch, LoaderError> {
        let mut state = self.desk.lock();
        loop {
            if let Some(reason) = &state.failure {
                return Err(LoaderError::Worker {
                    reason: reason.clone(),
                });
            }
            let number = state.next_to_take;
            if let Some(batch) = state.ready.remove(&number) {
                state.next_to_take += 1;
                drop(state);
                self.desk.changed.notify_all();
                return Ok(batch);
            }
            state = self
                .desk
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.desk.lock().stopped = true;
        self.desk.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A panic has been reported through the desk.
            let _ = worker.join();
        }
    }
}

fn work(maker: &Maker, desk: &Desk, ahead: usize) {
    let mut order = (usize::MAX, Vec::new());
    loop {
        let mut state = desk.lock();
        while !state.stopped && state.next_to_make >= state.next_to_take + ahead {
            state = desk
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.stopped || state.failure.is_some() {
            return;
        }
        let number = state.next_to_make;
        state.next_to_make += 1;
        drop(state);
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let (epoch, index) = (
                number / maker.batches_per_epoch,
                number % maker.batches_per_epoch,
            );
            if order.0 != epoch {
                order = (epoch, maker.order.epoch(epoch));
            }
            maker.make(epoch, index, &order.1)
        }));
        let mut state = desk.lock();
        match made {
            Ok(batch) => {
                state.ready.insert(number, batch);
            }
            Err(panic) => state.failure = Some(panic_message(panic.as_ref())),
        }
        drop(state);
        desk.changed.notify_all();
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

/// A face as it was labelled and as training shows it.
#[derive(Clone, Debug)]
pub struct InspectedFace {
    /// The picture.
    pub frame: Arc<Frame>,
    /// Its labels, in the picture.
    pub points_in_frame: Vec<Point>,
    /// What the network sees.
    pub crop: Crop,
    /// What it is to answer.
    pub points_in_crop: Vec<Point>,
    /// The map by which the crop was filled.
    pub view: View,
}

/// Makes any batch from its epoch and index.
#[derive(Debug)]
struct Maker {
    sources: Sources,
    order: Order,
    kind: Kind,
    batches_per_epoch: usize,
    batch: usize,
    seed: u64,
    size: (usize, usize),
    color: Color,
    normalization: Normalization,
}

#[derive(Debug)]
enum Kind {
    Landmarks { spec: FaceSpec, negative_share: f32 },
    Detection { strides: Vec<usize> },
}

const DRAW: u64 = 3;

impl Maker {
    fn new(
        dataset: Arc<Dataset>,
        negatives: Option<Arc<Dataset>>,
        config: &LoaderConfig,
    ) -> Result<Self, LoaderError> {
        let unsuitable = |expected: &str, found: String| LoaderError::Unsuitable {
            expected: expected.to_owned(),
            found,
        };
        let (width, height) = (config.input_width, config.input_height);
        if config.batch == 0 || config.batches_per_epoch == Some(0) {
            return Err(unsuitable("at least one example a batch", "0".to_owned()));
        }
        let (kind, expected) = match &config.task {
            Task::Landmarks { scheme, crop } => {
                let square = matches!(crop, CropRule::AroundFace { .. });
                if square && width != height {
                    return Err(unsuitable(
                        "a square input for crops of faces",
                        format!("{width}x{height}"),
                    ));
                }
                let spec = FaceSpec {
                    size: (width, height),
                    rule: *crop,
                    color: config.color,
                    mirror_permutation: scheme.mirror_permutation(),
                };
                let negative_share = config.negative_share;
                (
                    Kind::Landmarks {
                        spec,
                        negative_share,
                    },
                    format!("faces with {scheme} landmarks"),
                )
            }
            Task::FaceDetection { strides } => {
                if strides
                    .iter()
                    .any(|&stride| stride == 0 || width % stride + height % stride > 0)
                {
                    return Err(unsuitable(
                        "strides that divide the input",
                        format!("{strides:?} for {width}x{height}"),
                    ));
                }
                let strides = strides.clone();
                (
                    Kind::Detection { strides },
                    "pictures with face boxes".to_owned(),
                )
            }
        };
        let suits = |index: usize| match (&dataset.examples[index].label, &config.task) {
            (Label::Landmarks { scheme: found, .. }, Task::Landmarks { scheme, .. }) => {
                found == scheme
            }
            // The box that a detector learns is the tight one around these landmarks.
            (
                Label::Detection { .. }
                | Label::Landmarks {
                    scheme: Scheme::Ibug68,
                    ..
                },
                Task::FaceDetection { .. },
            ) => true,
            _ => false,
        };
        let length = config.batches_per_epoch.map(|count| count * config.batch);
        let order = Order::new(&dataset, config.seed, length, suits).ok_or_else(|| {
            unsuitable(
                &expected,
                format!(
                    "none with a share among {} examples",
                    dataset.examples.len()
                ),
            )
        })?;
        let batches_per_epoch = config
            .batches_per_epoch
            .unwrap_or((order.epoch_length() / config.batch).max(1));
        Ok(Self {
            sources: Sources {
                dataset,
                negatives: negatives.filter(|pictures| !pictures.examples.is_empty()),
                augment: config.augment.clone(),
                faults: config.faults,
            },
            order,
            kind,
            batches_per_epoch,
            batch: config.batch,
            seed: config.seed,
            size: (width, height),
            color: config.color,
            normalization: config.normalization,
        })
    }

    fn inspect(&self, count: usize) -> Vec<InspectedFace> {
        let Kind::Landmarks { spec, .. } = &self.kind else {
            return Vec::new();
        };
        let order = self.order.epoch(0);
        let count = count.min(order.len());
        (0..count)
            .filter_map(|step| {
                let place = step * order.len() / count;
                let mut generator = generator(self.seed, 0, place, DRAW);
                self.sources.inspect(order[place], spec, &mut generator)
            })
            .collect()
    }

    fn make(&self, epoch: usize, index: usize, order: &[usize]) -> Batch {
        let first = index * self.batch;
        let draws = (first..first + self.batch).map(|place| {
            let generator = generator(self.seed, epoch, place, DRAW);
            (order[place % order.len()], place, generator)
        });
        let (width, height) = self.size;
        let shape = [self.batch, self.color.channels(), height, width];
        let mut image = BatchTensor::zeros(&shape);
        let planes = image.values.chunks_exact_mut(shape[1] * height * width);
        let mut tensors = BTreeMap::new();
        match &self.kind {
            Kind::Landmarks {
                spec,
                negative_share,
            } => {
                let values = 2 * spec.mirror_permutation.len();
                let mut target = BatchTensor::zeros(&[self.batch, values]);
                let mut weight = BatchTensor::zeros(&[self.batch, 1]);
                let mut presence = BatchTensor::zeros(&[self.batch, 1]);
                let mut presence_weight = BatchTensor::zeros(&[self.batch, 1]);
                for (slot, ((example, place, mut generator), plane)) in
                    draws.zip(planes).enumerate()
                {
                    // Negatives are spread evenly: every batch gets its share, whatever its size.
                    let before = (place as f32 * negative_share).floor();
                    let negative = ((place + 1) as f32 * negative_share).floor() > before;
                    let drawn = self.sources.face(example, negative, spec, &mut generator);
                    self.write(&drawn.crop, plane);
                    if let Some(points) = drawn.landmarks_in_crop {
                        let row = &mut target.values[slot * values..(slot + 1) * values];
                        write_landmarks(&points, width, height, row);
                        weight.values[slot] = drawn.weight;
                        presence.values[slot] = 1.0;
                    }
                    presence_weight.values[slot] = 1.0;
                }
                tensors.insert("landmarks_target".to_owned(), target);
                tensors.insert("landmarks_weight".to_owned(), weight);
                tensors.insert("presence_target".to_owned(), presence);
                tensors.insert("presence_weight".to_owned(), presence_weight);
            }
            Kind::Detection { strides } => {
                let drawn: Vec<_> = draws
                    .zip(planes)
                    .map(|((example, _, mut generator), plane)| {
                        let drawn = self.sources.picture(
                            example,
                            order,
                            self.size,
                            self.color,
                            &mut generator,
                        );
                        self.write(&drawn.crop, plane);
                        (drawn.boxes, drawn.ignore)
                    })
                    .collect();
                for (level, &stride) in strides.iter().enumerate() {
                    let (columns, rows) = (width / stride, height / stride);
                    let cells = columns * rows;
                    let plane =
                        |channels| BatchTensor::zeros(&[self.batch, channels, rows, columns]);
                    let (mut score, mut score_weight) = (plane(1), plane(1));
                    let (mut box_values, mut box_weight) = (plane(4), plane(1));
                    for (slot, (boxes, ignore)) in drawn.iter().enumerate() {
                        let range = slot * cells..(slot + 1) * cells;
                        HeadTarget {
                            stride,
                            width: columns,
                            score: &mut score.values[range.clone()],
                            score_weight: &mut score_weight.values[range.clone()],
                            box_values: &mut box_values.values[4 * range.start..4 * range.end],
                            box_weight: &mut box_weight.values[range],
                        }
                        .fill(
                            boxes,
                            ignore,
                            level == 0,
                            level + 1 == strides.len(),
                        );
                    }
                    tensors.insert(format!("score_target_{stride}"), score);
                    tensors.insert(format!("score_weight_{stride}"), score_weight);
                    tensors.insert(format!("box_target_{stride}"), box_values);
                    tensors.insert(format!("box_weight_{stride}"), box_weight);
                }
            }
        }
        tensors.insert("image".to_owned(), image);
        Batch {
            epoch,
            index,
            tensors,
        }
    }

    fn write(&self, crop: &Crop, planes: &mut [f32]) {
        self.normalization.write_planes(crop, planes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        annotation::Split,
        frame::Frame,
        geometry::{FaceBox, Point},
        scheme::Scheme,
        train::{
            augment::AugmentConfig,
            dataset::{Example, FalseAlarm, Picture, SetInfo},
        },
    };

    fn noise_frame(seed: u64) -> Arc<Frame> {
        let mut frame = Frame::new(96, 80);
        rand::Rng::fill_bytes(&mut generator(seed, 0, 0, 0), frame.rgb_mut());
        Arc::new(frame)
    }

    fn example(index: usize, label: Label) -> Example {
        Example {
            picture: Picture::Memory {
                name: format!("picture {index}"),
                frame: noise_frame(index as u64),
            },
            set: 0,
            split: Split::Train,
            orig_split: String::new(),
            id: index.to_string(),
            original_scale: 1.0,
            label,
        }
    }

    fn dataset(count: usize, label: impl Fn(usize) -> Label) -> Arc<Dataset> {
        Arc::new(Dataset {
            sets: vec![SetInfo {
                name: "drawn".to_owned(),
                share: None,
                weight: 0.5,
            }],
            examples: (0..count)
                .map(|index| example(index, label(index)))
                .collect(),
            ..Dataset::default()
        })
    }

    fn faces() -> Arc<Dataset> {
        dataset(23, |_| Label::Landmarks {
            scheme: Scheme::Mtfl5,
            points: [
                (35.0, 30.0),
                (55.0, 31.0),
                (45.0, 40.0),
                (38.0, 52.0),
                (53.0, 51.0),
            ]
            .map(|(x, y)| Point::new(x, y))
            .to_vec(),
            face_box: FaceBox::new(28.0, 20.0, 34.0, 38.0),
            measured_by: None,
        })
    }

    fn pictures() -> Arc<Dataset> {
        dataset(9, |index| Label::Detection {
            boxes: (0..index % 3)
                .map(|face| FaceBox::new(10.0 + 40.0 * face as f32, 20.0, 25.0, 30.0))
                .collect(),
            ignore: vec![FaceBox::new(5.0, 60.0, 12.0, 12.0)],
        })
    }

    fn landmark_config() -> LoaderConfig {
        let task = Task::Landmarks {
            scheme: Scheme::Mtfl5,
            crop: CropRule::AroundFace { margin: 1.3 },
        };
        LoaderConfig {
            seed: 11,
            negative_share: 0.25,
            ..LoaderConfig::new(task, 48, 48, 8)
        }
    }

    fn detection_config() -> LoaderConfig {
        let strides = vec![8, 16, 32];
        LoaderConfig::new(Task::FaceDetection { strides }, 192, 160, 3)
    }

    fn batches(
        data: &Arc<Dataset>,
        negatives: Option<Arc<Dataset>>,
        config: LoaderConfig,
        count: usize,
    ) -> Vec<Batch> {
        let mut loader = Loader::new(Arc::clone(data), negatives, config).expect("loader");
        (0..count)
            .map(|_| loader.next_batch().expect("batch"))
            .collect()
    }

    #[test]
    fn batches_do_not_depend_on_the_number_of_threads_or_on_where_one_starts() {
        for (data, negatives, config) in [
            (faces(), Some(pictures()), landmark_config()),
            (pictures(), None, detection_config()),
        ] {
            let with = |threads, start, count| {
                let config = LoaderConfig {
                    threads,
                    start,
                    ..config.clone()
                };
                batches(&data, negatives.clone(), config, count)
            };
            let alone = with(1, (0, 0), 7);
            assert_eq!(alone, with(4, (0, 0), 7));
            let third = &alone[3];
            assert_eq!(alone[3..], with(2, (third.epoch, third.index), 4));
            assert_ne!(alone[0].tensors["image"], third.tensors["image"]);
            assert!(alone[6].epoch > 0, "the stream goes on into the next epoch");
        }
    }

    #[test]
    fn landmark_batches_have_the_tensors_that_the_losses_name() {
        let batch = &batches(&faces(), Some(pictures()), landmark_config(), 1)[0];
        for (name, shape) in [
            ("image", vec![8, 3, 48, 48]),
            ("landmarks_target", vec![8, 10]),
            ("landmarks_weight", vec![8, 1]),
            ("presence_target", vec![8, 1]),
            ("presence_weight", vec![8, 1]),
        ] {
            let tensor = &batch.tensors[name];
            assert_eq!(tensor.shape, shape, "{name}");
            assert_eq!(
                tensor.values.len(),
                shape.iter().product::<usize>(),
                "{name}"
            );
        }
        let presence = &batch.tensors["presence_target"].values;
        assert_eq!(presence.iter().sum::<f32>(), 6.0, "a quarter are negatives");
        for (present, weight) in presence
            .iter()
            .zip(&batch.tensors["landmarks_weight"].values)
        {
            assert_eq!(*weight, 0.5 * present);
        }
        let image = &batch.tensors["image"].values;
        assert!(image.iter().all(|value| (-1.0..1.0).contains(value)));
    }

    #[test]
    fn false_alarms_of_a_detector_are_crops_without_a_face() {
        // A picture without a face, black but for one white square, which a detector takes for one.
        let mut frame = Frame::new(480, 480);
        for y in 400..440 {
            let start = 3 * (480 * y + 400);
            frame.rgb_mut()[start..start + 3 * 40].fill(255);
        }
        let label = Label::Detection {
            boxes: Vec::new(),
            ignore: Vec::new(),
        };
        let mut pictures = Dataset {
            examples: vec![example(0, label)],
            ..Dataset::default()
        };
        pictures.examples[0].picture = Picture::Memory {
            name: "square".to_owned(),
            frame: Arc::new(frame),
        };
        let white_middles = |pictures: &Dataset| {
            let config = LoaderConfig {
                negative_share: 0.5,
                augment: AugmentConfig::NONE,
                ..landmark_config()
            };
            let batches = batches(&faces(), Some(Arc::new(pictures.clone())), config, 20);
            let mut count = 0;
            for batch in &batches {
                let images = batch.tensors["image"].values.chunks_exact(3 * 48 * 48);
                for (image, present) in images.zip(&batch.tensors["presence_target"].values) {
                    count += usize::from(*present == 0.0 && image[48 * 24 + 24] > 0.9);
                }
            }
            count
        };
        let without = white_middles(&pictures);
        pictures.false_alarms.push(FalseAlarm {
            example: 0,
            face_box: FaceBox::new(400.0, 400.0, 40.0, 40.0),
        });
        let with = white_middles(&pictures);
        // Of 80 negatives some 48 are of that picture, and half of these of the square.
        assert!(without <= 4 && with >= 12, "{without} and {with}");
    }

    #[test]
    fn detection_batches_have_a_target_a_stride() {
        let batches = batches(&pictures(), None, detection_config(), 6);
        assert_eq!(batches[0].tensors["score_target_8"].shape, [3, 1, 20, 24]);
        assert_eq!(batches[0].tensors["box_target_32"].shape, [3, 4, 5, 6]);
        assert_eq!(batches[0].tensors.len(), 13);
        let positives: f32 = batches
            .iter()
            .flat_map(|batch| {
                [8, 16, 32].map(|stride| &batch.tensors[&format!("score_target_{stride}")])
            })
            .flat_map(|tensor| &tensor.values)
            .sum();
        assert!(positives > 0.0);
    }

    #[test]
    fn dropping_a_loader_that_nobody_reads_does_not_hang() {
        let loader = Loader::new(faces(), None, landmark_config()).expect("loader");
        drop(loader);
        let mut read_once = Loader::new(faces(), None, landmark_config()).expect("loader");
        read_once.next_batch().expect("batch");
    }

    #[test]
    fn a_worker_that_panics_is_an_error_and_not_a_hang() {
        // A face of a scheme's name with too few points cannot come out of a reader.
        let broken = dataset(4, |_| Label::Landmarks {
            scheme: Scheme::Mtfl5,
            points: vec![Point::default(); 2],
            face_box: FaceBox::new(f32::NAN, 0.0, 10.0, 10.0),
            measured_by: None,
        });
        let mut config = landmark_config();
        config.augment.scale_sigma = f32::NAN;
        config.augment.rotation_limit_deg = f32::NAN;
        let mut loader = Loader::new(broken, None, config).expect("loader");
        let error = loader.next_batch().expect_err("clamp panics on NaN");
        assert!(matches!(error, LoaderError::Worker { .. }), "{error}");
    }

    #[test]
    fn unsuitable_data_and_sizes_are_named() {
        let refuse = |data: Arc<Dataset>, config: LoaderConfig, expected: &str| {
            let error = Loader::new(data, None, config)
                .expect_err(expected)
                .to_string();
            assert!(error.contains(expected), "{error}");
        };
        refuse(pictures(), landmark_config(), "mtfl5 landmarks");
        refuse(faces(), detection_config(), "face boxes");
        let mut config = detection_config();
        config.input_width = 190;
        refuse(pictures(), config, "strides that divide");
        let mut config = landmark_config();
        config.batch = 0;
        refuse(faces(), config, "at least one example");
    }

    #[test]
    #[ignore = "a measurement: run it with --release --nocapture"]
    fn pictures_a_second() {
        let data = Dataset::open(
            "synthetic:1",
            &crate::train::dataset::OpenOptions::default(),
        );
        let data = Arc::new(data.expect("drawn"));
        let landmarks = Task::Landmarks {
            scheme: Scheme::Ibug68,
            crop: CropRule::AroundFace { margin: 1.3 },
        };
        let detection = Task::FaceDetection {
            strides: vec![8, 16, 32],
        };
        for (task, width, height) in [(landmarks, 112, 112), (detection, 192, 160)] {
            let config = LoaderConfig {
                threads: 1,
                ..LoaderConfig::new(task, width, height, 64)
            };
            let name = format!("{:?}", config.task);
            let mut loader = Loader::new(Arc::clone(&data), None, config).expect("loader");
            // The first batches paint the pictures.
            for _ in 0..40 {
                loader.next_batch().expect("batch");
            }
            let start = std::time::Instant::now();
            for _ in 0..20 {
                loader.next_batch().expect("batch");
            }
            let rate = 20.0 * 64.0 / start.elapsed().as_secs_f64();
            println!("{name}: {rate:.0} pictures a second on one thread");
        }
    }
}
