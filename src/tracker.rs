//! Detect, then track: the detector runs only while a face is missing; a known face is cropped from its last landmarks.
//! The state machine of the live path; time comes in as an argument.

use crate::{
    detector::Detector,
    finder::{Acceptance, SAME_FACE_IOU, confirm, is_in_frame, is_same_face},
    frame::Frame,
    geometry::{FaceBox, Point},
    landmarker::Landmarker,
    metrics::Detection,
    model::{Infer, InferError},
    pose::{Pose, TYPICAL_FOCAL_LENGTH},
    scheme::Scheme,
    signals::{BlinkDetector, Openness, Signals},
    smoothing::{LandmarkFilter, OneEuroConfig},
};
use serde::{Deserialize, Serialize};

/// How faces are found, kept and lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrackerConfig {
    /// Faces to follow at a time; the detector rests while there are that many.
    pub max_faces: usize,
    /// From when on a detected face is followed.
    pub acceptance: Acceptance,
    /// Confidence below which a followed face is lost, 0 to 1: lower than that of `acceptance`, so that a face at the limit
    /// does not flicker.
    pub keep_confidence: f32,
    /// Pause between looks for further faces while some, but not `max_faces`, are followed, in seconds: the first of these
    /// after a face came or went, twice as long after each look that found nothing new, at most the second. Longer: cheaper,
    /// later acquisition.
    pub search_pause_secs: (f64, f64),
    /// A face found again within this time, in seconds, near the place where it was lost keeps its id.
    pub memory_secs: f64,
    /// Smoothing; `None` leaves the landmarks as the network says them.
    pub smoothing: Option<OneEuroConfig>,
}

impl Default for TrackerConfig {
    fn default() -> Self {
        Self {
            max_faces: 4,
            acceptance: Acceptance::STREAM,
            keep_confidence: 0.4,
            // Each third to each twelfth frame of a usual camera.
            search_pause_secs: (0.1, 0.4),
            memory_secs: 1.0,
            smoothing: Some(OneEuroConfig::default()),
        }
    }
}

/// Detections that are looked at beyond the wanted number of faces: some turn out to be none.
const SPARE_DETECTIONS: usize = 4;

/// A face in a frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackedFace {
    /// The same number as long as the face is followed, counted from 1.
    pub id: u64,
    /// Tight box of the landmarks, in the frame.
    #[serde(rename = "box")]
    pub face_box: FaceBox,
    /// The detector's score when it found the face, 0 to 1.
    pub score: f32,
    /// Landmarks, smoothed, in the frame.
    pub landmarks: Vec<Point>,
    /// The landmark network's confidence in this frame, 0 to 1.
    pub confidence: f32,
    /// How far off each landmark is expected to be along an axis, in pixels of the frame; empty when the network does not
    /// say.
    pub expected_errors_px: Vec<f32>,
    /// How the head is turned; `None` for a scheme without pose.
    pub pose: Option<Pose>,
    /// What eyes and mouth do; `None` for a scheme without them.
    pub signals: Option<Signals>,
}

/// What a tracker did, for displays and benches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackerCounts {
    /// Frames seen.
    pub frames: u64,
    /// Runs of the detector.
    pub detector_runs: u64,
    /// Runs of the landmark network.
    pub landmark_runs: u64,
    /// Faces that began to be followed.
    pub acquired: u64,
    /// Faces that were lost.
    pub lost: u64,
}

/// What the next frame needs to know of a face.
struct Track {
    /// The landmarks as the network said them: the next crop comes from them, since smoothed ones lag.
    raw: Vec<Point>,
    filter: Option<LandmarkFilter>,
    blinks: BlinkDetector,
}

/// A face that was lost a moment ago.
#[derive(Clone, Copy)]
struct Memory {
    id: u64,
    face_box: FaceBox,
    lost_secs: f64,
}

/// Follows faces from frame to frame.
pub struct Tracker<D, L> {
    detector: Detector<D>,
    landmarker: Landmarker<L>,
    config: TrackerConfig,
    /// One track a face, in the same order.
    faces: Vec<TrackedFace>,
    tracks: Vec<Track>,
    memories: Vec<Memory>,
    candidates: Vec<Detection>,
    next_id: u64,
    last_search_secs: Option<f64>,
    search_pause_secs: f64,
    /// Landmarks of a detected face that may turn out to be none.
    spare: Vec<Point>,
    counts: TrackerCounts,
}

impl<D: Infer, L: Infer> Tracker<D, L> {
    /// A tracker that has seen nothing.
    pub fn new(detector: Detector<D>, landmarker: Landmarker<L>, config: TrackerConfig) -> Self {
        Self {
            detector,
            landmarker,
            config,
            faces: Vec::new(),
            tracks: Vec::new(),
            memories: Vec::new(),
            candidates: Vec::new(),
            next_id: 1,
            last_search_secs: None,
            search_pause_secs: config.search_pause_secs.0,
            spare: Vec::new(),
            counts: TrackerCounts::default(),
        }
    }

    /// Finds or follows the faces of `frame`, taken at `time_secs` on a clock that never goes back: those that are
    /// followed now, the longest followed first.
    ///
    /// # Errors
    /// A network failed. The tracker can be used further.
    pub fn update(&mut self, frame: &Frame, time_secs: f64) -> Result<&[TrackedFace], InferError> {
        self.counts.frames += 1;
        let memory_secs = self.config.memory_secs;
        self.memories
            .retain(|memory| (0.0..=memory_secs).contains(&(time_secs - memory.lost_secs)));
        let mut index = 0;
        while index < self.faces.len() {
            if self.follow(index, frame, time_secs)? && !self.is_double(index) {
                index += 1;
            } else {
                self.lose(index, time_secs);
            }
        }
        if self.search_is_due(time_secs) {
            self.search(frame, time_secs)?;
        }
        Ok(&self.faces)
    }

    /// The faces of the last frame.
    pub fn faces(&self) -> &[TrackedFace] {
        &self.faces
    }

    /// Layout of the landmarks.
    pub fn scheme(&self) -> Scheme {
        self.landmarker.scheme()
    }

    /// The detector.
    pub fn detector(&self) -> &Detector<D> {
        &self.detector
    }

    /// The landmarker.
    pub fn landmarker(&self) -> &Landmarker<L> {
        &self.landmarker
    }

    /// What it has done so far.
    pub fn counts(&self) -> TrackerCounts {
        self.counts
    }

    /// Forgets every face, for a new recording: the next frame is searched. Ids go on.
    pub fn reset(&mut self) {
        self.faces.clear();
        self.tracks.clear();
        self.memories.clear();
        self.last_search_secs = None;
        self.search_pause_secs = self.config.search_pause_secs.0;
    }

    /// Looks for face `index` where it was last; false when it is not there any more.
    fn follow(&mut self, index: usize, frame: &Frame, time_secs: f64) -> Result<bool, InferError> {
        let (face, track) = (&mut self.faces[index], &mut self.tracks[index]);
        let Some(region) = self
            .landmarker
            .region_of_landmarks(&track.raw, (frame.width(), frame.height()))
        else {
            return Ok(false);
        };
        self.counts.landmark_runs += 1;
        face.confidence = self.landmarker.locate(frame, &region, &mut track.raw)?;
        if face.confidence < self.config.keep_confidence || !is_in_frame(&track.raw, frame) {
            return Ok(false);
        }
        let errors = self.landmarker.expected_errors_px();
        face.expected_errors_px.clear();
        face.expected_errors_px.extend_from_slice(errors);
        let moment = Moment::of(frame, self.landmarker.scheme(), time_secs);
        show(face, track, &moment);
        Ok(true)
    }

    /// Whether an older face lies in the same place: two tracks have run into one.
    fn is_double(&self, index: usize) -> bool {
        is_known(&self.faces[..index], &self.faces[index].face_box)
    }

    fn lose(&mut self, index: usize, time_secs: f64) {
        let face = self.faces.remove(index);
        self.tracks.remove(index);
        self.counts.lost += 1;
        self.memories.push(Memory {
            id: face.id,
            face_box: face.face_box,
            lost_secs: time_secs,
        });
        self.search_pause_secs = self.config.search_pause_secs.0;
    }

    fn search_is_due(&self, time_secs: f64) -> bool {
        let pause = self.search_pause_secs;
        let is_recent = |last: f64| (0.0..pause).contains(&(time_secs - last));
        let rests = !self.faces.is_empty() && self.last_search_secs.is_some_and(is_recent);
        self.faces.len() < self.config.max_faces && !rests
    }

    fn search(&mut self, frame: &Frame, time_secs: f64) -> Result<(), InferError> {
        self.last_search_secs = Some(time_secs);
        self.counts.detector_runs += 1;
        self.candidates.clear();
        let faces = &self.faces;
        let wanted = self.config.max_faces - faces.len() + SPARE_DETECTIONS;
        let found = self.detector.detect(frame)?.iter();
        let new = found.filter(|found| !is_known(faces, &found.face_box));
        self.candidates.extend(new.take(wanted));
        let before = faces.len();
        for index in 0..self.candidates.len() {
            if self.faces.len() == self.config.max_faces {
                break;
            }
            let candidate = self.candidates[index];
            if !is_known(&self.faces, &candidate.face_box) {
                self.acquire(frame, &candidate, time_secs)?;
            }
        }
        let (shortest, longest) = self.config.search_pause_secs;
        self.search_pause_secs = if self.faces.len() > before {
            shortest
        } else {
            (2.0 * self.search_pause_secs).min(longest)
        };
        Ok(())
    }

    /// Begins to follow a detected face if the landmark network sees one there.
    fn acquire(
        &mut self,
        frame: &Frame,
        detection: &Detection,
        time_secs: f64,
    ) -> Result<(), InferError> {
        let confirmation = confirm(&mut self.landmarker, frame, detection, &mut self.spare)?;
        self.counts.landmark_runs += confirmation.runs;
        if !self.config.acceptance.accepts(&confirmation) {
            return Ok(());
        }
        let face_box = confirmation.face_box;
        if is_known(&self.faces, &face_box) {
            return Ok(());
        }
        let mut face = TrackedFace {
            id: self.id_of(&face_box),
            face_box,
            score: detection.score,
            landmarks: Vec::new(),
            confidence: confirmation.confidence.unwrap_or(1.0),
            expected_errors_px: self.landmarker.expected_errors_px().to_vec(),
            pose: None,
            signals: None,
        };
        let mut track = Track {
            raw: std::mem::take(&mut self.spare),
            filter: self.config.smoothing.map(LandmarkFilter::new),
            blinks: BlinkDetector::default(),
        };
        show(
            &mut face,
            &mut track,
            &Moment::of(frame, self.scheme(), time_secs),
        );
        self.faces.push(face);
        self.tracks.push(track);
        self.counts.acquired += 1;
        Ok(())
    }

    /// The id of the face that was lost here a moment ago, or a new one.
    fn id_of(&mut self, face_box: &FaceBox) -> u64 {
        let overlaps = self
            .memories
            .iter()
            .map(|memory| memory.face_box.iou(face_box));
        let nearest = overlaps.enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((index, _)) = nearest.filter(|(_, overlap)| *overlap > SAME_FACE_IOU) {
            return self.memories.swap_remove(index).id;
        }
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}

/// What faces of one frame have in common.
struct Moment {
    scheme: Scheme,
    time_secs: f64,
    focal_length_px: f32,
}

impl Moment {
    fn of(frame: &Frame, scheme: Scheme, time_secs: f64) -> Self {
        Self {
            scheme,
            time_secs,
            focal_length_px: TYPICAL_FOCAL_LENGTH * frame.width() as f32,
        }
    }
}

/// Brings what is shown of a face up to date with what the network said.
fn show(face: &mut TrackedFace, track: &mut Track, moment: &Moment) {
    face.landmarks.clone_from(&track.raw);
    let raw_box = FaceBox::around(&track.raw).unwrap_or_default();
    if let Some(filter) = &mut track.filter {
        let face_size = raw_box.width.max(raw_box.height);
        filter.smooth(&mut face.landmarks, face_size, moment.time_secs);
    }
    face.face_box = FaceBox::around(&face.landmarks).unwrap_or_default();
    face.pose = Pose::estimate(moment.scheme, &face.landmarks, moment.focal_length_px);
    face.signals = signals(face, track, moment);
}

/// Openness as shown; blinks, which are short, from what the network said.
fn signals(face: &TrackedFace, track: &mut Track, moment: &Moment) -> Option<Signals> {
    let shown = Openness::measure(moment.scheme, &face.landmarks)?;
    let seen = Openness::measure(moment.scheme, &track.raw)?;
    let blink = track.blinks.update(seen.eyes(), moment.time_secs);
    Some(Signals {
        left_eye: shown.left_eye,
        right_eye: shown.right_eye,
        mouth: shown.mouth,
        eyes_closed: track.blinks.eyes_closed(),
        blink,
        blinks: track.blinks.blinks(),
    })
}

fn is_known(faces: &[TrackedFace], face_box: &FaceBox) -> bool {
    faces
        .iter()
        .any(|face| is_same_face(&face.face_box, face_box))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crop::{Color, Crop, CropRule, Normalization},
        detector::DetectorConfig,
        geometry::Affine,
        model::{ModelCard, Outputs, Task},
    };
    use std::{cell::Cell, rc::Rc};

    /// A face is five discs, one colour a landmark, in the order of mtfl5.
    const COLORS: [[u8; 3]; 5] = [
        [255, 0, 0],
        [0, 255, 0],
        [0, 0, 255],
        [255, 255, 0],
        [255, 0, 255],
    ];
    const SHAPE: [Point; 5] = [
        Point::new(-20.0, -16.0),
        Point::new(20.0, -16.0),
        Point::new(0.0, 4.0),
        Point::new(-16.0, 22.0),
        Point::new(16.0, 22.0),
    ];

    fn face_at(x: f32, y: f32, scale: f32, roll_rad: f32) -> [Point; 5] {
        let place = Affine::similarity(scale, roll_rad, Point::default(), Point::new(x, y));
        SHAPE.map(|point| place * point)
    }

    fn picture(faces: &[[Point; 5]]) -> Frame {
        let mut frame = Frame::new(320, 240);
        for (center, color) in faces.iter().flat_map(|face| face.iter().zip(COLORS)) {
            for y in 0..frame.height() {
                for x in 0..frame.width() {
                    if center.distance(Point::new(x as f32, y as f32)) <= 5.0 {
                        frame.set_pixel(x, y, color);
                    }
                }
            }
        }
        frame
    }

    fn card(task: Task, width: usize, height: usize) -> ModelCard {
        ModelCard {
            name: "fake".to_owned(),
            task,
            input_width: width,
            input_height: height,
            color: Color::Rgb,
            normalization: Normalization::SYMMETRIC,
            training_data: String::new(),
        }
    }

    /// Middle of the pixels of `color` in the crop, and their number.
    fn disc(crop: &Crop, color: [u8; 3]) -> (Point, usize) {
        let (mut sum, mut count) = (Point::default(), 0);
        for (index, pixel) in crop.bytes().chunks_exact(3).enumerate() {
            let distance: u32 = pixel
                .iter()
                .zip(color)
                .map(|(&a, b)| u32::from(a.abs_diff(b)))
                .sum();
            if distance < 120 {
                sum.x += (index % crop.width()) as f32;
                sum.y += (index / crop.width()) as f32;
                count += 1;
            }
        }
        let weight = 1.0 / count.max(1) as f32;
        (Point::new(sum.x * weight, sum.y * weight), count)
    }

    /// Says where the discs are, and that a face is there when it sees all five.
    struct DiscLandmarks {
        card: ModelCard,
        presence: Rc<Cell<Option<f32>>>,
    }

    impl Infer for DiscLandmarks {
        fn card(&self) -> &ModelCard {
            &self.card
        }

        fn infer(&mut self, crop: &Crop, outputs: &mut Outputs) -> Result<(), InferError> {
            let discs = COLORS.map(|color| disc(crop, color));
            let values: Vec<f32> = discs
                .iter()
                .flat_map(|(center, _)| [center.x, center.y])
                .map(|pixel| (pixel + 0.5) / 128.0 - 0.5)
                .collect();
            let seen = discs.iter().all(|&(_, count)| count > 0);
            let logit = self.presence.get().unwrap_or(if seen { 4.0 } else { -4.0 });
            outputs.set("landmarks", &[1, 10], &values);
            outputs.set("presence", &[1, 1], &[logit]);
            Ok(())
        }
    }

    /// Says that a face is at each red disc, with a box around where the discs of an upright face of scale 1 are.
    struct RedDetector {
        card: ModelCard,
    }

    impl Infer for RedDetector {
        fn card(&self) -> &ModelCard {
            &self.card
        }

        fn infer(&mut self, crop: &Crop, outputs: &mut Outputs) -> Result<(), InferError> {
            let (columns, rows) = (20, 15);
            let mut scores = vec![-5.0; columns * rows];
            let mut boxes = vec![0.0; 4 * columns * rows];
            for cell in 0..columns * rows {
                let (x, y) = (cell % columns * 16 + 8, cell / columns * 16 + 8);
                let start = (y * crop.width() + x) * 3;
                if crop.bytes()[start..start + 3] == [255, 0, 0] {
                    scores[cell] = 3.0;
                    boxes[cell] = 20.0 / 16.0;
                    boxes[columns * rows + cell] = 19.0 / 16.0;
                    boxes[2 * columns * rows + cell] = (50.0f32 / 16.0).ln();
                    boxes[3 * columns * rows + cell] = (50.0f32 / 16.0).ln();
                }
            }
            outputs.set("score_16", &[1, 1, rows, columns], &scores);
            outputs.set("box_16", &[1, 4, rows, columns], &boxes);
            Ok(())
        }
    }

    type TestTracker = Tracker<RedDetector, DiscLandmarks>;

    fn tracker(config: TrackerConfig) -> (TestTracker, Rc<Cell<Option<f32>>>) {
        let presence = Rc::new(Cell::new(None));
        let detector = RedDetector {
            card: card(Task::FaceDetection { strides: vec![16] }, 320, 240),
        };
        let landmarks = DiscLandmarks {
            card: card(
                Task::Landmarks {
                    scheme: Scheme::Mtfl5,
                    crop: CropRule::AroundFace { margin: 2.0 },
                },
                128,
                128,
            ),
            presence: presence.clone(),
        };
        let detector = Detector::new(detector, DetectorConfig::default()).unwrap();
        let landmarker = Landmarker::new(landmarks).unwrap();
        (Tracker::new(detector, landmarker, config), presence)
    }

    fn raw() -> TrackerConfig {
        TrackerConfig {
            max_faces: 1,
            smoothing: None,
            ..TrackerConfig::default()
        }
    }

    /// A face whose left eye, the red disc, is where the fake detector looks.
    fn detectable() -> [Point; 5] {
        face_at(124.0, 120.0, 1.0, 0.0)
    }

    #[test]
    fn a_moving_and_rolling_face_is_followed_with_one_detection() {
        let (mut tracker, _) = tracker(raw());
        for step in 0..40u8 {
            let t = f32::from(step);
            let truth = face_at(124.0 + 2.0 * t, 120.0 - t, 1.0 + 0.01 * t, 0.03 * t);
            let faces = tracker
                .update(&picture(&[truth]), f64::from(step) / 30.0)
                .unwrap();
            assert_eq!(faces.len(), 1, "frame {step}");
            assert_eq!(faces[0].id, 1);
            for (found, truth) in faces[0].landmarks.iter().zip(truth) {
                assert!(
                    found.distance(truth) < 1.0,
                    "frame {step}: {found:?} {truth:?}"
                );
            }
        }
        let counts = tracker.counts();
        assert_eq!(
            (counts.frames, counts.detector_runs, counts.lost),
            (40, 1, 0)
        );
        assert!(counts.landmark_runs <= 41, "{counts:?}");
    }

    #[test]
    fn smoothing_shows_calmer_landmarks_but_crops_from_the_raw_ones() {
        let (mut smooth, _) = tracker(TrackerConfig::default());
        let mut travelled = 0.0;
        let mut last = None;
        for step in 0..60u8 {
            let shake = if step % 2 == 0 { 1.0 } else { -1.0 };
            let frame = picture(&[face_at(124.0 + shake, 120.0, 1.0, 0.0)]);
            let faces = smooth.update(&frame, f64::from(step) / 30.0).unwrap();
            let nose = faces[0].landmarks[2];
            travelled += last.map_or(0.0, |last| nose.distance(last));
            last = Some(nose);
        }
        // The face itself travels 2 pixels a frame, 118 in all.
        assert!(travelled < 100.0, "{travelled}");
        assert_eq!(smooth.counts().lost, 0);
    }

    #[test]
    fn a_face_that_goes_is_lost_and_keeps_its_id_if_it_returns_soon() {
        let (mut tracker, _) = tracker(raw());
        let (face, nothing) = (picture(&[detectable()]), picture(&[]));
        assert_eq!(tracker.update(&face, 0.0).unwrap()[0].id, 1);
        assert_eq!(tracker.update(&nothing, 0.1).unwrap(), []);
        assert_eq!(tracker.update(&face, 0.9).unwrap()[0].id, 1);
        assert_eq!(tracker.update(&nothing, 1.0).unwrap(), []);
        assert_eq!(tracker.update(&face, 2.5).unwrap()[0].id, 2);
        assert_eq!(tracker.counts().lost, 2);
    }

    #[test]
    fn a_face_that_jumps_is_found_again_in_the_same_frame() {
        let (mut tracker, _) = tracker(raw());
        tracker.update(&picture(&[detectable()]), 0.0).unwrap();
        let far = face_at(252.0, 56.0, 1.0, 0.0);
        let faces = tracker.update(&picture(&[far]), 0.03).unwrap();
        assert_eq!((faces.len(), faces[0].id), (1, 2));
        assert!(faces[0].landmarks[0].distance(far[0]) < 1.0);
    }

    #[test]
    fn confidence_has_hysteresis() {
        let (mut tracker, presence) = tracker(raw());
        let frame = picture(&[detectable()]);
        let mut time = 0.0;
        // Probability 1/2 lies between keeping (0.4) and acquiring (0.7).
        for (logit, expected) in [(0.0, 0), (1.0, 1), (0.0, 1), (-1.0, 0), (0.0, 0), (1.0, 1)] {
            presence.set(Some(logit));
            time += 0.04;
            let found = tracker.update(&frame, time).unwrap().len();
            assert_eq!(found, expected, "logit {logit} at {time}");
        }
    }

    #[test]
    fn a_face_that_leaves_the_frame_is_lost() {
        let (mut tracker, presence) = tracker(raw());
        // Only the landmarks can tell: the network says that it sees a face whatever happens.
        presence.set(Some(4.0));
        for step in 0..30u8 {
            let x = 124.0 - 6.0 * f32::from(step);
            let frame = picture(&[face_at(x, 120.0, 1.0, 0.0)]);
            let found = tracker
                .update(&frame, f64::from(step) / 30.0)
                .unwrap()
                .len();
            // Discs that are cut by the edge still have a middle inside, so the limit is not sharp.
            match x {
                10.0.. => assert_eq!(found, 1, "x {x}"),
                ..-30.0 => assert_eq!(found, 0, "x {x}"),
                _ => (),
            }
        }
    }

    fn ids(faces: &[TrackedFace]) -> Vec<u64> {
        faces.iter().map(|face| face.id).collect()
    }

    fn several() -> TrackerConfig {
        TrackerConfig {
            max_faces: 4,
            ..raw()
        }
    }

    #[test]
    fn further_faces_are_searched_for_ever_more_rarely_while_there_are_none() {
        let (mut tracker, _) = tracker(several());
        let (one, two) = (detectable(), face_at(252.0, 152.0, 1.0, 0.0));
        let frame = picture(&[one]);
        let mut searched = Vec::new();
        for step in 0..90u32 {
            let before = tracker.counts().detector_runs;
            tracker.update(&frame, f64::from(step) / 30.0).unwrap();
            let runs = tracker.counts().detector_runs - before;
            assert!(runs <= 1, "never more than one a frame");
            if runs == 1 {
                searched.push(step);
            }
        }
        // Pauses of 0.1, 0.2, 0.4 and 0.4 s end with the first frame after them.
        let pauses: Vec<u32> = searched.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (pause, frames) in pauses.iter().zip([3..=4, 6..=7, 12..=13, 12..=13]) {
            assert!(frames.contains(pause), "{pauses:?}");
        }
        assert!(pauses.iter().all(|&pause| pause <= 13), "{pauses:?}");
        let both = picture(&[one, two]);
        let found = (90..104u32)
            .find(|&step| tracker.update(&both, f64::from(step) / 30.0).unwrap().len() == 2);
        assert!(found.is_some(), "within the longest pause");
        assert_eq!(ids(tracker.faces()), [1, 2]);
        // The older face goes: the other keeps its id.
        assert_eq!(ids(tracker.update(&picture(&[two]), 3.5).unwrap()), [2]);
    }

    #[test]
    fn while_all_are_followed_the_detector_rests() {
        let (mut tracker, _) = tracker(raw());
        let frame = picture(&[detectable(), face_at(252.0, 152.0, 1.0, 0.0)]);
        for step in 0..60 {
            let faces = tracker.update(&frame, f64::from(step) / 30.0).unwrap();
            assert_eq!(ids(faces), [1]);
        }
        assert_eq!(tracker.counts().detector_runs, 1);
    }

    #[test]
    fn faces_that_are_hidden_a_moment_get_their_own_ids_back() {
        let (mut tracker, _) = tracker(several());
        let (one, two) = (detectable(), face_at(188.0, 152.0, 1.0, 0.0));
        let both = picture(&[one, two]);
        let before = tracker.update(&both, 0.0).unwrap().to_vec();
        assert_eq!(ids(&before), [1, 2]);
        assert!(tracker.update(&picture(&[]), 0.1).unwrap().is_empty());
        let after = tracker.update(&both, 0.2).unwrap();
        assert_eq!(after.len(), 2);
        for face in after {
            let same = before.iter().find(|known| known.id == face.id).unwrap();
            assert!(same.face_box.iou(&face.face_box) > 0.9, "{face:?}");
        }
    }

    #[test]
    fn two_tracks_that_run_into_one_face_become_one() {
        let (mut tracker, _) = tracker(several());
        let (one, two) = (detectable(), face_at(252.0, 120.0, 1.0, 0.0));
        assert_eq!(tracker.update(&picture(&[one, two]), 0.0).unwrap().len(), 2);
        // Both crops see the same discs.
        for step in 1..40u8 {
            let t = f32::from(step);
            let near = face_at((252.0 - 4.0 * t).max(124.0), 120.0, 1.0, 0.0);
            tracker
                .update(&picture(&[near]), f64::from(step) / 30.0)
                .unwrap();
        }
        assert_eq!(tracker.faces().len(), 1);
    }

    #[test]
    fn a_box_in_a_face_is_that_face_and_one_beside_it_is_not() {
        let (mut tracker, _) = tracker(several());
        let faces = tracker.update(&picture(&[detectable()]), 0.0).unwrap();
        let FaceBox { x, y, width, .. } = faces[0].face_box;
        for (part, right, down, expected) in [
            (1.0, 0.0, 0.0, true),
            // Far below the limit of intersection over union.
            (0.4, 0.3, 0.3, true),
            (0.4, 0.7, 0.3, true),
            (2.5, -0.7, -0.7, true),
            // A cheek that another's hides.
            (1.0, 0.6, 0.0, false),
            (0.4, 0.9, 0.3, false),
            (0.4, 1.2, 0.3, false),
        ] {
            let side = part * width;
            let other = FaceBox::new(x + right * width, y + down * width, side, side);
            assert_eq!(is_known(faces, &other), expected, "{part} {right} {down}");
        }
    }

    #[test]
    fn a_clock_that_steps_back_does_no_harm() {
        let (mut tracker, _) = tracker(TrackerConfig::default());
        let frame = picture(&[detectable()]);
        for time in [5.0, 5.1, 1.0, 1.0, 1.1] {
            assert_eq!(tracker.update(&frame, time).unwrap().len(), 1);
        }
        tracker.reset();
        assert!(tracker.faces().is_empty());
        assert_eq!(tracker.update(&frame, 0.0).unwrap()[0].id, 2);
    }
}
