//! One drawn example: crop, augment, label. Everything random in it depends on (seed, epoch, place in the epoch).

use super::InspectedFace;
use crate::{
    crop::{Color, Crop, CropRegion, CropRule},
    frame::Frame,
    geometry::{Affine, FaceBox, Point},
    train::{
        augment::{
            AugmentConfig, Place, View, chance, change_pixels, detection_view, hide_part_of_face,
            landmark_view, log_uniform, misplaced_view,
        },
        dataset::{Dataset, Label, is_empty, possible_faces},
        faults::Faults,
    },
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// How often another picture is tried when one cannot be read.
const ATTEMPTS: usize = 8;

/// Where drawn examples come from.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) dataset: Arc<Dataset>,
    /// Pictures with face boxes whose empty places show no face.
    pub(super) negatives: Option<Arc<Dataset>>,
    pub(super) augment: AugmentConfig,
    pub(super) faults: Faults,
}

/// A crop of a face with its landmarks.
pub(super) struct DrawnFace {
    pub(super) crop: Crop,
    /// `None`: the crop shows no face, or none in its place.
    pub(super) landmarks_in_crop: Option<Vec<Point>>,
    /// Weight of the landmarks.
    pub(super) weight: f32,
    /// Where it was taken from; `None` for an empty place.
    origin: Option<Origin>,
}

/// The picture of a crop, its labels, and how the crop was filled.
struct Origin {
    frame: Arc<Frame>,
    points_in_frame: Vec<Point>,
    view: View,
}

/// What the landmark task fixes.
#[derive(Debug)]
pub(super) struct FaceSpec {
    /// Width and height of the crop.
    pub(super) size: (usize, usize),
    pub(super) rule: CropRule,
    pub(super) color: Color,
    pub(super) mirror_permutation: Vec<usize>,
}

/// A crop of a picture with its faces.
pub(super) struct DrawnPicture {
    pub(super) crop: Crop,
    pub(super) boxes: Vec<FaceBox>,
    pub(super) ignore: Vec<FaceBox>,
}

impl Sources {
    /// The example at `index`, or one near it when its picture cannot be read any more.
    fn readable(dataset: &Dataset, index: usize) -> Option<(&Label, usize, Arc<Frame>)> {
        for attempt in 0..ATTEMPTS.min(dataset.examples.len()) {
            let example = &dataset.examples[(index + attempt) % dataset.examples.len()];
            match example.picture.load() {
                Ok(frame) => return Some((&example.label, example.set, frame)),
                Err(reason) => {
                    tracing::warn!(picture = %example.picture.name(), %reason, "skipped");
                }
            }
        }
        None
    }

    /// A face with landmarks, or with `negative` a crop without a face in its place.
    pub(super) fn face(
        &self,
        index: usize,
        negative: bool,
        spec: &FaceSpec,
        generator: &mut ChaCha8Rng,
    ) -> DrawnFace {
        let mut drawn = self.cut_face(index, negative, spec, generator);
        change_pixels(&mut drawn.crop, &self.augment, generator);
        drawn
    }

    /// The face of example `index` before the crop's bytes are changed; `None` when its picture cannot be read.
    pub(super) fn inspect(
        &self,
        index: usize,
        spec: &FaceSpec,
        generator: &mut ChaCha8Rng,
    ) -> Option<InspectedFace> {
        let drawn = self.cut_face(index, false, spec, generator);
        let origin = drawn.origin?;
        Some(InspectedFace {
            frame: origin.frame,
            points_in_frame: origin.points_in_frame,
            crop: drawn.crop,
            points_in_crop: drawn.landmarks_in_crop?,
            view: origin.view,
        })
    }

    fn cut_face(
        &self,
        index: usize,
        negative: bool,
        spec: &FaceSpec,
        generator: &mut ChaCha8Rng,
    ) -> DrawnFace {
        let mut crop = Crop::new(spec.size.0, spec.size.1, spec.color);
        let mut landmarks_in_crop = None;
        let mut weight = 0.0;
        let mut origin = None;
        let empty_place = if negative && chance(generator, 0.6) {
            self.empty_place(spec, generator)
        } else {
            None
        };
        if let Some((frame, view)) = empty_place {
            fill(&mut crop, &frame, &view.crop_from_frame);
        } else if let Some((
            Label::Landmarks {
                points, face_box, ..
            },
            set,
            frame,
        )) = Self::readable(&self.dataset, index)
        {
            let choose = if negative {
                misplaced_view
            } else {
                landmark_view
            };
            let mut same_draws = generator.clone();
            let cut = |face_box: &FaceBox, generator: &mut ChaCha8Rng| {
                let place = Place {
                    rule: spec.rule,
                    face_box: *face_box,
                    frame_size: (frame.width(), frame.height()),
                };
                choose(&place, spec.size, &self.augment, generator)
            };
            let view = cut(&self.faults.crop_box(index, face_box), generator);
            fill(&mut crop, &frame, &view.crop_from_frame);
            // An unreadable picture may have been replaced by one of another scheme.
            if !negative && points.len() == spec.mirror_permutation.len() {
                let labelled = cut(face_box, &mut same_draws);
                let labelled = self.faults.points_view(labelled, spec.size);
                landmarks_in_crop = Some(labelled.landmarks(points, &spec.mirror_permutation));
                weight = self.dataset.sets[set].weight;
                origin = Some(Origin {
                    frame,
                    points_in_frame: points.clone(),
                    view,
                });
            }
        }
        DrawnFace {
            crop,
            landmarks_in_crop,
            weight,
            origin,
        }
    }

    /// A square somewhere in a negatives picture that holds no face of about its size: every other time one in which a
    /// detector saw a face, where false alarms are known.
    fn empty_place(
        &self,
        spec: &FaceSpec,
        generator: &mut ChaCha8Rng,
    ) -> Option<(Arc<Frame>, View)> {
        let pictures = self.negatives.as_deref()?;
        let alarms = &pictures.false_alarms;
        if !alarms.is_empty() && chance(generator, 0.5) {
            let alarm = alarms[generator.random_range(0..alarms.len())];
            let frame = pictures.examples[alarm.example].picture.load().ok()?;
            let place = Place {
                rule: spec.rule,
                face_box: alarm.face_box,
                frame_size: (frame.width(), frame.height()),
            };
            let view = landmark_view(&place, spec.size, &self.augment, generator);
            return Some((frame, view));
        }
        let index = generator.random_range(0..pictures.examples.len().max(1));
        let (label, _, frame) = Self::readable(pictures, index)?;
        let faces = possible_faces(label);
        let (width, height) = (frame.width() as f32, frame.height() as f32);
        for _ in 0..ATTEMPTS {
            let face_size = width.min(height) * log_uniform(generator, 0.12, 0.8);
            let center = Point::new(
                width * generator.random::<f32>(),
                height * generator.random::<f32>(),
            );
            let place = FaceBox::new(
                center.x - 0.5 * face_size,
                center.y - 0.5 * face_size,
                face_size,
                face_size,
            );
            if is_empty(&place, &faces) {
                let region = match spec.rule {
                    CropRule::AroundFace { margin } => CropRegion::around_box(&place, margin),
                    CropRule::WholeFrame | CropRule::MiddleOfFrame { .. } => {
                        CropRegion::around_box(&place, 1.0)
                    }
                };
                let mirrored = chance(generator, 0.5);
                let (width, height) = spec.size;
                return Some((frame, View::new(&region, width, height, mirrored)));
            }
        }
        None
    }

    /// A picture for the detector, possibly put together from several: the tiles after the first show examples of
    /// `order`, which has each set at its share.
    pub(super) fn picture(
        &self,
        index: usize,
        order: &[usize],
        (width, height): (usize, usize),
        color: Color,
        generator: &mut ChaCha8Rng,
    ) -> DrawnPicture {
        let mut drawn = DrawnPicture {
            crop: Crop::new(width, height, color),
            boxes: Vec::new(),
            ignore: Vec::new(),
        };
        let whole = Tile {
            left: 0,
            top: 0,
            width,
            height,
        };
        let mut chosen = Some(index);
        for tile in self.tiles(whole, self.augment.mosaic_probability, generator) {
            let index = chosen
                .take()
                .unwrap_or_else(|| order[generator.random_range(0..order.len())]);
            self.fill_tile(index, &mut drawn, tile, generator);
        }
        let smallest = self.augment.face_size_ignored * height as f32;
        let (found, too_small) = drawn
            .boxes
            .iter()
            .partition(|face| face.area().sqrt() >= smallest);
        drawn.boxes = found;
        drawn.ignore.extend::<Vec<FaceBox>>(too_small);
        for face in &drawn.boxes {
            if chance(generator, self.augment.face_occlusion_probability) {
                hide_part_of_face(&mut drawn.crop, face, generator);
            }
        }
        change_pixels(&mut drawn.crop, &self.augment, generator);
        drawn
    }

    /// `tile`, or with `probability` its quarters, each of which may be quartered again.
    fn tiles(&self, tile: Tile, probability: f32, generator: &mut ChaCha8Rng) -> Vec<Tile> {
        let quartered = chance(generator, probability);
        if !quartered || tile.height < 2 * SMALLEST_TILE || tile.width < 2 * SMALLEST_TILE {
            return vec![tile];
        }
        let (left_width, top_height) = (tile.width / 2, tile.height / 2);
        let columns = [
            (tile.left, left_width),
            (tile.left + left_width, tile.width - left_width),
        ];
        let rows = [
            (tile.top, top_height),
            (tile.top + top_height, tile.height - top_height),
        ];
        let mut tiles = Vec::new();
        for (top, height) in rows {
            for (left, width) in columns {
                let quarter = Tile {
                    left,
                    top,
                    width,
                    height,
                };
                let again = self.augment.mosaic_again_probability;
                tiles.extend(self.tiles(quarter, again, generator));
            }
        }
        tiles
    }

    /// Fills a rectangle of the picture's crop with a view of example `index`.
    fn fill_tile(
        &self,
        index: usize,
        drawn: &mut DrawnPicture,
        tile: Tile,
        generator: &mut ChaCha8Rng,
    ) {
        let Tile {
            left,
            top,
            width,
            height,
        } = tile;
        let Some((label, _, frame)) = Self::readable(&self.dataset, index) else {
            return;
        };
        let (boxes, ignore) = match label {
            Label::Landmarks { face_box, .. } => (vec![*face_box], elsewhere(face_box, &frame)),
            Label::Detection { boxes, ignore } => (boxes.clone(), ignore.clone()),
        };
        let smallest = self.augment.face_size_min * drawn.crop.height() as f32;
        let largest = self.augment.face_size_max * height as f32;
        // Faces get as small as the whole picture makes them; shrunk much further it would drown in padding.
        let whole =
            (width as f32 / frame.width() as f32).min(height as f32 / frame.height() as f32);
        let whole = whole * if chance(generator, 0.25) { 0.6 } else { 1.0 };
        let labelled = boxes.iter().map(|face| face.area().sqrt());
        let smallest = smallest.max(whole * labelled.fold(f32::INFINITY, f32::min).min(1e4));
        let view = detection_view(
            &boxes,
            (frame.width(), frame.height()),
            (width, height),
            (smallest, largest.max(smallest)),
            &self.augment,
            generator,
        );
        let mut part = Crop::new(width, height, drawn.crop.color());
        fill(&mut part, &frame, &view.crop_from_frame);
        let channels = part.color().channels();
        let stride = drawn.crop.width() * channels;
        for (y, source) in part.bytes().chunks_exact(width * channels).enumerate() {
            let start = (top + y) * stride + left * channels;
            drawn.crop.bytes_mut()[start..start + width * channels].copy_from_slice(source);
        }
        let shift = |face: FaceBox| {
            FaceBox::new(
                face.x + left as f32,
                face.y + top as f32,
                face.width,
                face.height,
            )
        };
        let area = FaceBox::new(-0.5, -0.5, width as f32, height as f32);
        for face in &boxes {
            let seen = match label {
                Label::Landmarks { points, .. } => {
                    FaceBox::around(points.iter().map(|&point| view.crop_from_frame * point))
                        .unwrap_or(view.face_box(face))
                }
                Label::Detection { .. } => view.face_box(face),
            };
            match visible_part(&seen, &area) {
                part if part >= 0.4 && area.contains(seen.center()) => {
                    drawn.boxes.push(shift(seen));
                }
                part if part > 0.05 => drawn.ignore.push(shift(clip(&seen, &area))),
                _ => {}
            }
        }
        for face in &ignore {
            let seen = view.face_box(face);
            if visible_part(&seen, &area) > 0.0 {
                drawn.ignore.push(shift(clip(&seen, &area)));
            }
        }
    }
}

/// Smallest edge of a mosaic's tile, in crop pixels.
const SMALLEST_TILE: usize = 24;

/// A rectangle of a crop.
#[derive(Clone, Copy)]
struct Tile {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

/// A landmark record tells of one face only: whether there are others in the picture is unknown. What is further than
/// [`KNOWN_MARGIN`] from the face is therefore neither right nor wrong: up to four rectangles of the frame.
fn elsewhere(face: &FaceBox, frame: &Frame) -> Vec<FaceBox> {
    let (width, height) = (frame.width() as f32, frame.height() as f32);
    let left = face.x - KNOWN_MARGIN * face.width;
    let right = face.x + (1.0 + KNOWN_MARGIN) * face.width;
    let top = face.y - KNOWN_MARGIN * face.height;
    let bottom = face.y + (1.0 + KNOWN_MARGIN) * face.height;
    [
        FaceBox::new(0.0, 0.0, left, height),
        FaceBox::new(right, 0.0, width - right, height),
        FaceBox::new(0.0, 0.0, width, top),
        FaceBox::new(0.0, bottom, width, height - bottom),
    ]
    .into_iter()
    .filter(|part| part.width > 0.0 && part.height > 0.0)
    .collect()
}

/// Width of the ring around a face in which another one would have been seen to overlap it, in sides of the face's box.
const KNOWN_MARGIN: f32 = 0.5;

/// Fills `crop` as the runtime does. A frame that is to be shrunk a lot is halved first, each pixel the mean of four:
/// the runtime would take the mean of as many samples, only far more slowly.
fn fill(crop: &mut Crop, frame: &Frame, crop_from_frame: &Affine) {
    const FRAME_FROM_HALF: Affine = Affine {
        rows: [[2.0, 0.0, 0.5], [0.0, 2.0, 0.5]],
    };
    let mut half: Option<Frame> = None;
    let mut map = *crop_from_frame;
    while map.scale() < 1.0 / 3.0 {
        half = Some(halved(half.as_ref().unwrap_or(frame)));
        map = map * FRAME_FROM_HALF;
    }
    crop.fill(half.as_ref().unwrap_or(frame), &map);
}

fn halved(frame: &Frame) -> Frame {
    let (width, height) = (frame.width() / 2, frame.height() / 2);
    let mut half = Frame::new(width, height);
    let rows = frame.rgb().chunks_exact(2 * 3 * frame.width().max(1));
    for (pair, target) in rows.zip(half.rgb_mut().chunks_exact_mut(3 * width.max(1))) {
        let (upper, lower) = pair.split_at(3 * frame.width());
        let blocks = upper.chunks_exact(6).zip(lower.chunks_exact(6));
        for ((upper, lower), pixel) in blocks.zip(target.chunks_exact_mut(3)) {
            for channel in 0..3 {
                let sum = u32::from(upper[channel])
                    + u32::from(upper[channel + 3])
                    + u32::from(lower[channel])
                    + u32::from(lower[channel + 3]);
                pixel[channel] = ((sum + 2) / 4) as u8;
            }
        }
    }
    half
}

fn clip(face: &FaceBox, area: &FaceBox) -> FaceBox {
    let (left, top) = (face.x.max(area.x), face.y.max(area.y));
    let right = (face.x + face.width).min(area.x + area.width);
    let bottom = (face.y + face.height).min(area.y + area.height);
    FaceBox::new(left, top, (right - left).max(0.0), (bottom - top).max(0.0))
}

fn visible_part(face: &FaceBox, area: &FaceBox) -> f32 {
    clip(face, area).area() / face.area().max(f32::EPSILON)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::augment::generator;

    #[test]
    fn halving_first_shows_what_the_runtime_shows() {
        let mut frame = Frame::new(301, 203);
        for y in 0..203 {
            for x in 0..301 {
                let wave = 60.0 * ((x as f32 * 0.11).sin() + (y as f32 * 0.07).cos());
                frame.set_pixel(x, y, [(128.0 + wave) as u8, (x * y / 300) as u8, 90]);
            }
        }
        let region = CropRegion {
            center: Point::new(150.0, 100.0),
            width: 290.0,
            height: 190.0,
            roll_rad: 0.1,
        };
        for (width, height) in [(90, 60), (48, 40), (20, 13)] {
            let map = region.crop_from_frame(width, height);
            let (mut direct, mut halved_first) = (
                Crop::new(width, height, Color::Rgb),
                Crop::new(width, height, Color::Rgb),
            );
            direct.fill(&frame, &map);
            fill(&mut halved_first, &frame, &map);
            let difference: u32 = direct
                .bytes()
                .iter()
                .zip(halved_first.bytes())
                .map(|(&a, &b)| u32::from(a.abs_diff(b)))
                .sum();
            let mean = difference as f32 / direct.bytes().len() as f32;
            assert!(mean < 2.0, "{width}x{height}: {mean}");
        }
    }

    #[test]
    fn tiles_cover_the_picture_once() {
        let sources = Sources {
            dataset: Arc::default(),
            negatives: None,
            augment: AugmentConfig::default(),
            faults: Faults::default(),
        };
        let whole = Tile {
            left: 0,
            top: 0,
            width: 251,
            height: 190,
        };
        let mut counts = Vec::new();
        for index in 0..40 {
            let mut generator = generator(1, 0, index, 0);
            let tiles = sources.tiles(whole, 0.8, &mut generator);
            let mut covered = vec![0; 251 * 190];
            for tile in &tiles {
                assert!(tile.width >= SMALLEST_TILE && tile.height >= SMALLEST_TILE);
                for y in tile.top..tile.top + tile.height {
                    for x in tile.left..tile.left + tile.width {
                        covered[y * 251 + x] += 1;
                    }
                }
            }
            assert!(covered.iter().all(|&times| times == 1));
            counts.push(tiles.len());
        }
        assert!(counts.contains(&1) && counts.contains(&4), "{counts:?}");
        assert!(counts.iter().any(|&count| count > 4), "{counts:?}");
    }

    #[test]
    fn around_a_labelled_face_nothing_is_known_of_others() {
        let frame = Frame::new(100, 80);
        let face = FaceBox::new(30.0, 20.0, 20.0, 20.0);
        let unknown = elsewhere(&face, &frame);
        assert_eq!(unknown.len(), 4);
        let is_unknown = |x, y| unknown.iter().any(|part| part.contains(Point::new(x, y)));
        for (x, y, expected) in [
            (40.0, 30.0, false),
            (22.0, 12.0, false),
            (58.0, 48.0, false),
            (15.0, 30.0, true),
            (70.0, 30.0, true),
            (40.0, 5.0, true),
            (40.0, 60.0, true),
        ] {
            assert_eq!(is_unknown(x, y), expected, "{x} {y}");
        }
        // A face that fills its picture leaves nothing open.
        assert!(elsewhere(&FaceBox::new(5.0, 5.0, 90.0, 70.0), &frame).is_empty());
    }

    #[test]
    fn parts_outside_the_picture_are_cut_off() {
        let area = FaceBox::new(-0.5, -0.5, 100.0, 100.0);
        let face = FaceBox::new(79.5, 10.0, 40.0, 40.0);
        assert_eq!(visible_part(&face, &area), 0.5);
        assert_eq!(clip(&face, &area).width, 20.0);
        assert_eq!(
            visible_part(&FaceBox::new(200.0, 0.0, 5.0, 5.0), &area),
            0.0
        );
    }
}
