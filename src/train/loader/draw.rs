//! One drawn example: crop, augment, label. Everything random in it depends on (seed, epoch, place in the epoch).

use crate::{
    crop::{Color, Crop, CropRegion},
    frame::Frame,
    geometry::{FaceBox, Point},
    train::{
        augment::{
            AugmentConfig, View, chance, change_pixels, detection_view, landmark_view, log_uniform,
            misplaced_view,
        },
        dataset::{Dataset, Label},
    },
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// How often another picture is tried when one cannot be read.
const ATTEMPTS: usize = 8;

/// Where drawn examples come from.
pub(super) struct Sources {
    pub(super) dataset: Arc<Dataset>,
    /// Pictures with face boxes whose empty places show no face.
    pub(super) negatives: Option<Arc<Dataset>>,
    pub(super) augment: AugmentConfig,
}

/// A crop of a face with its landmarks.
pub(super) struct DrawnFace {
    pub(super) crop: Crop,
    /// `None`: the crop shows no face, or none in its place.
    pub(super) landmarks_in_crop: Option<Vec<Point>>,
    /// Weight of the landmarks.
    pub(super) weight: f32,
}

/// What the landmark task fixes.
pub(super) struct FaceSpec {
    pub(super) size: usize,
    pub(super) margin: f32,
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
    fn readable<'a>(dataset: &'a Dataset, index: usize) -> Option<(&'a Label, usize, Arc<Frame>)> {
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
        let mut crop = Crop::new(spec.size, spec.size, spec.color);
        let mut landmarks_in_crop = None;
        let mut weight = 0.0;
        if negative && chance(generator, 0.6) {
            if let Some((frame, view)) = self.empty_place(spec, generator) {
                crop.fill(&frame, &view.crop_from_frame);
                change_pixels(&mut crop, &self.augment, generator);
                return DrawnFace {
                    crop,
                    landmarks_in_crop,
                    weight,
                };
            }
        }
        if let Some((
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
            let view = choose(face_box, spec.margin, spec.size, &self.augment, generator);
            crop.fill(&frame, &view.crop_from_frame);
            // An unreadable picture may have been replaced by one of another scheme.
            if !negative && points.len() == spec.mirror_permutation.len() {
                landmarks_in_crop = Some(view.landmarks(points, &spec.mirror_permutation));
                weight = self.dataset.sets[set].weight;
            }
        }
        change_pixels(&mut crop, &self.augment, generator);
        DrawnFace {
            crop,
            landmarks_in_crop,
            weight,
        }
    }

    /// A square somewhere in a negatives picture that holds no face of about its size.
    fn empty_place(
        &self,
        spec: &FaceSpec,
        generator: &mut ChaCha8Rng,
    ) -> Option<(Arc<Frame>, View)> {
        let pictures = self.negatives.as_deref()?;
        let index = generator.random_range(0..pictures.examples.len().max(1));
        let (label, _, frame) = Self::readable(pictures, index)?;
        let faces: Vec<FaceBox> = match label {
            Label::Landmarks { face_box, .. } => vec![*face_box],
            Label::Detection { boxes, ignore } => boxes.iter().chain(ignore).copied().collect(),
        };
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
            let far = |face: &FaceBox| {
                let much_smaller = face.area() < 0.1 * place.area();
                place.iou(face) < 0.1 && (much_smaller || !place.contains(face.center()))
            };
            if faces.iter().all(far) {
                let region = CropRegion::around_box(&place, spec.margin);
                let mirrored = chance(generator, 0.5);
                return Some((frame, View::new(&region, spec.size, spec.size, mirrored)));
            }
        }
        None
    }

    /// A picture for the detector, possibly put together from several.
    pub(super) fn picture(
        &self,
        index: usize,
        (width, height): (usize, usize),
        color: Color,
        generator: &mut ChaCha8Rng,
    ) -> DrawnPicture {
        let mut drawn = DrawnPicture {
            crop: Crop::new(width, height, color),
            boxes: Vec::new(),
            ignore: Vec::new(),
        };
        let mosaic = chance(generator, self.augment.mosaic_probability);
        let across = if !mosaic {
            1
        } else if chance(generator, 0.65) {
            2
        } else {
            3
        };
        for row in 0..across {
            for column in 0..across {
                let chosen = if row + column == 0 {
                    index
                } else {
                    generator.random_range(0..self.dataset.examples.len())
                };
                let (left, top) = (column * width / across, row * height / across);
                let tile = (
                    (column + 1) * width / across - left,
                    (row + 1) * height / across - top,
                );
                self.tile(chosen, &mut drawn, (left, top), tile, generator);
            }
        }
        let smallest = self.augment.face_size_ignored * height as f32;
        let (found, too_small) = drawn
            .boxes
            .iter()
            .partition(|face| face.area().sqrt() >= smallest);
        drawn.boxes = found;
        drawn.ignore.extend::<Vec<FaceBox>>(too_small);
        change_pixels(&mut drawn.crop, &self.augment, generator);
        drawn
    }

    /// Fills the rectangle at (`left`, `top`) of the picture's crop with a view of example `index`.
    fn tile(
        &self,
        index: usize,
        drawn: &mut DrawnPicture,
        (left, top): (usize, usize),
        (width, height): (usize, usize),
        generator: &mut ChaCha8Rng,
    ) {
        let Some((label, _, frame)) = Self::readable(&self.dataset, index) else {
            return;
        };
        let (boxes, ignore) = match label {
            Label::Landmarks { face_box, .. } => (vec![*face_box], Vec::new()),
            Label::Detection { boxes, ignore } => (boxes.clone(), ignore.clone()),
        };
        let full = drawn.crop.height() as f32;
        let whole = height == drawn.crop.height();
        let (smallest, largest) = (
            self.augment.face_size_min * full,
            self.augment.face_size_max * height as f32,
        );
        // A picture of its own mostly shows large faces: shrunk further it would drown in padding.
        let smallest = if whole {
            smallest.max(0.25 * full)
        } else {
            smallest
        };
        let view = detection_view(
            &boxes,
            (frame.width(), frame.height()),
            (width, height),
            (smallest, largest.max(smallest)),
            &self.augment,
            generator,
        );
        let mut tile = Crop::new(width, height, drawn.crop.color());
        tile.fill(&frame, &view.crop_from_frame);
        let channels = tile.color().channels();
        let stride = drawn.crop.width() * channels;
        for (y, source) in tile.bytes().chunks_exact(width * channels).enumerate() {
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
            let seen = view.face_box(face);
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

fn clip(face: &FaceBox, area: &FaceBox) -> FaceBox {
    let (left, top) = (face.x.max(area.x), face.y.max(area.y));
    let right = (face.x + face.width).min(area.x + area.width);
    let bottom = (face.y + face.height).min(area.y + area.height);
    FaceBox::new(left, top, (right - left).max(0.0), (bottom - top).max(0.0))
}

fn visible_part(face: &FaceBox, area: &FaceBox) -> f32 {
    clip(face, area).area() / face.area().max(f32::EPSILON)
}
