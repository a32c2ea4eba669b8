//! Contact sheets: the pictures that a network was shown, and its best and worst answers beside the labels.

use super::Report;
use crate::{
    crop::{Color, Crop, CropRegion},
    frame::Frame,
    geometry::{Affine, FaceBox, Point},
    metrics::{Match, Outcome, judge_detections},
    model::{ModelCard, Task},
    overlay::{self, ORANGE, PAPER, SKY_BLUE, Style},
    scheme::Scheme,
    train::{
        dataset::{Dataset, Label},
        evaluate::{DetectorResult, Evaluation, FaceResult, LandmarkResult, PictureResult},
        graph::Graph,
        target::{Batch, BatchTensor},
    },
};

/// Tiles of a sheet.
const COLUMNS: usize = 6;
const TILES: usize = 18;
/// Edge of a face's tile, in pixels.
const FACE_TILE: usize = 200;
/// Size of a picture's tile, in pixels.
const PICTURE_TILE: (usize, usize) = (288, 240);
/// Smallest size of a tile of a batch; smaller inputs are enlarged.
const SAMPLE_TILE: usize = 180;
/// Score from which a box is drawn.
const SHOWN_SCORE: f32 = 0.5;

/// A picture of the report.
pub(super) struct Sheet {
    pub(super) file: &'static str,
    pub(super) caption: &'static str,
    pub(super) frame: Frame,
}

/// The sheets of a report.
pub(super) fn all(report: &Report<'_>) -> Vec<Sheet> {
    let mut sheets = Vec::new();
    if let Some(frame) = report
        .sample
        .and_then(|batch| sample_sheet(batch, report.card))
    {
        sheets.push(Sheet {
            file: "samples.png",
            caption: "Augmented training examples with their labels, as the network sees them",
            frame,
        });
    }
    let (best, worst) = match report.evaluation {
        Evaluation::Landmarks(result) => face_sheets(result, report.dataset, report.card),
        Evaluation::Detector(result) => picture_sheets(result, report.dataset),
    };
    sheets.push(Sheet {
        file: "worst.png",
        caption: "Worst results: labels in blue, predictions in orange",
        frame: worst,
    });
    sheets.push(Sheet {
        file: "best.png",
        caption: "Best results: labels in blue, predictions in orange",
        frame: best,
    });
    sheets
}

/// The filters of a network's first convolution, enlarged: grey is 0, white and black are the largest weight of the filter.
/// Three channels are shown as colours. `None`: the first convolution does not read the picture, or has other channels.
pub(super) fn first_filters(graph: &Graph) -> Option<Frame> {
    const EDGE: usize = 84;
    let conv = graph.nodes.iter().find(|node| node.op == "Conv")?;
    let weight = graph.initializers.get(conv.input(1)?)?;
    let [filters, channels, height, width] = weight.shape[..] else {
        return None;
    };
    if channels != 1 && channels != 3 {
        return None;
    }
    let values = weight.as_f32()?;
    let zoom = EDGE.div_ceil(width);
    let (plane, size) = (height * width, channels * height * width);
    let tiles: Vec<Frame> = (0..filters)
        .map(|filter| {
            let taps = &values[filter * size..][..size];
            let largest = taps
                .iter()
                .fold(f32::MIN_POSITIVE, |most, tap| most.max(tap.abs()));
            let mut tile = Frame::new(width * zoom + 6, height * zoom + 6);
            tile.rgb_mut().fill(255);
            for y in 0..height * zoom {
                for x in 0..width * zoom {
                    let tap = |channel: usize| {
                        let at = channel.min(channels - 1) * plane + y / zoom * width + x / zoom;
                        (127.5 + 127.5 * taps[at] / largest).round() as u8
                    };
                    tile.set_pixel(x + 3, y + 3, [0, 1, 2].map(tap));
                }
            }
            tile
        })
        .collect();
    Some(sheet_in_columns(&tiles, 8))
}

fn sheet_of(tiles: &[Frame]) -> Frame {
    sheet_in_columns(tiles, COLUMNS)
}

fn sheet_in_columns(tiles: &[Frame], columns: usize) -> Frame {
    let Some(first) = tiles.first() else {
        return Frame::new(1, 1);
    };
    let (width, height) = (first.width(), first.height());
    let rows = tiles.len().div_ceil(columns);
    let mut sheet = Frame::new(width * columns.min(tiles.len()), height * rows);
    sheet.rgb_mut().fill(255);
    for (index, tile) in tiles.iter().enumerate() {
        let (left, top) = (index % columns * width, index / columns * height);
        for y in 0..height {
            for x in 0..width {
                sheet.set_pixel(left + x, top + y, tile.pixel(x, y));
            }
        }
    }
    sheet
}

/// Best and worst faces.
fn face_sheets(result: &LandmarkResult, dataset: &Dataset, card: &ModelCard) -> (Frame, Frame) {
    best_and_worst(result, dataset, card, TILES, (FACE_TILE, FACE_TILE))
}

/// The `count` best and the `count` worst faces of a result, each a tile of `size` pixels.
pub(super) fn best_and_worst(
    result: &LandmarkResult,
    dataset: &Dataset,
    card: &ModelCard,
    count: usize,
    size: (usize, usize),
) -> (Frame, Frame) {
    let mut order: Vec<&FaceResult> = result.faces.iter().collect();
    order.sort_by(|a, b| a.error.nme.total_cmp(&b.error.nme));
    let tiles = |faces: &mut dyn Iterator<Item = &&FaceResult>| -> Frame {
        let tiles: Vec<Frame> = faces
            .take(count)
            .filter_map(|face| face_tile(face, dataset, card, size))
            .collect();
        sheet_of(&tiles)
    };
    (tiles(&mut order.iter()), tiles(&mut order.iter().rev()))
}

/// Pictures of a data set with their labels, `count` of them spread evenly, each a tile of `size` pixels.
pub(super) fn labelled(
    dataset: &Dataset,
    card: &ModelCard,
    count: usize,
    size: (usize, usize),
) -> Frame {
    let total = dataset.examples.len();
    let tiles: Vec<Frame> = (0..count.min(total))
        .filter_map(|step| {
            let (tile, _) = labelled_tile(dataset, step * total / count.min(total), card, size)?;
            Some(tile)
        })
        .collect();
    sheet_of(&tiles)
}

/// A face with its label, and the map of its picture to the tile.
fn labelled_tile(
    dataset: &Dataset,
    example: usize,
    card: &ModelCard,
    (width, height): (usize, usize),
) -> Option<(Frame, Affine)> {
    let Task::Landmarks { scheme, crop: rule } = card.task else {
        return None;
    };
    let example = dataset.examples.get(example)?;
    let Label::Landmarks {
        points, face_box, ..
    } = &example.label
    else {
        return None;
    };
    let frame = example.picture.load().ok()?;
    let tile_from_frame = rule
        .region(face_box, (frame.width(), frame.height()))
        .crop_from_frame(width, height);
    let mut crop = Crop::new(width, height, Color::Rgb);
    crop.fill(&frame, &tile_from_frame);
    let mut tile = Frame::from_rgb(width, height, crop.bytes().to_vec())?;
    let in_tile: Vec<Point> = points.iter().map(|&p| tile_from_frame * p).collect();
    draw_thin(&mut tile, &in_tile, scheme, SKY_BLUE);
    Some((tile, tile_from_frame))
}

fn face_tile(
    face: &FaceResult,
    dataset: &Dataset,
    card: &ModelCard,
    size: (usize, usize),
) -> Option<Frame> {
    let Task::Landmarks { scheme, .. } = card.task else {
        return None;
    };
    let (mut tile, tile_from_frame) = labelled_tile(dataset, face.example, card, size)?;
    let predicted: Vec<Point> = face
        .predicted_in_frame
        .iter()
        .map(|&point| tile_from_frame * point)
        .collect();
    draw_thin(&mut tile, &predicted, scheme, ORANGE);
    label(&mut tile, &format!("{:.1} %", face.error.nme));
    Some(tile)
}

fn draw_thin(tile: &mut Frame, points: &[Point], scheme: Scheme, color: overlay::Rgb) {
    // Sizes follow from the face's, which a single point does not tell.
    let style = Style {
        size: if points.len() == 1 { 5.0 } else { 0.7 },
        ..Style::in_color(color)
    };
    overlay::draw_landmarks(tile, points, scheme, &style);
}

fn label(tile: &mut Frame, text: &str) {
    overlay::draw_text(tile, Point::new(4.0, 4.0), 1, PAPER, text);
}

/// Pictures with the fewest and the most mistakes.
fn picture_sheets(result: &DetectorResult, dataset: &Dataset) -> (Frame, Frame) {
    let mut order: Vec<(usize, &PictureResult)> = result
        .pictures
        .iter()
        .map(|picture| (mistakes(picture), picture))
        .collect();
    // Among equally good pictures those with more faces say more.
    order.sort_by_key(|(mistakes, picture)| {
        (*mistakes, std::cmp::Reverse(picture.judged.faces.len()))
    });
    let tiles = |pictures: &mut dyn Iterator<Item = &(usize, &PictureResult)>| -> Frame {
        let tiles: Vec<Frame> = pictures
            .take(TILES)
            .filter_map(|(mistakes, picture)| picture_tile(picture, *mistakes, dataset))
            .collect();
        sheet_of(&tiles)
    };
    (tiles(&mut order.iter()), tiles(&mut order.iter().rev()))
}

/// Missed faces and false positives.
fn mistakes(picture: &PictureResult) -> usize {
    let shown: Vec<_> = picture
        .judged
        .detections
        .iter()
        .filter(|detection| detection.score >= SHOWN_SCORE)
        .copied()
        .collect();
    let outcomes = judge_detections(
        &shown,
        &picture.judged.faces,
        &picture.judged.ignore,
        Match::Overlap(0.5),
    );
    let count = |wanted| outcomes.iter().filter(|&&found| found == wanted).count();
    picture.judged.faces.len() - count(Outcome::Right) + count(Outcome::Wrong)
}

fn picture_tile(picture: &PictureResult, mistakes: usize, dataset: &Dataset) -> Option<Frame> {
    let frame = dataset.examples.get(picture.example)?.picture.load().ok()?;
    let (width, height) = PICTURE_TILE;
    let tile_from_frame = CropRegion::whole(&frame).crop_from_frame(width, height);
    let mut crop = Crop::new(width, height, Color::Rgb);
    crop.fill(&frame, &tile_from_frame);
    let mut tile = Frame::from_rgb(width, height, crop.bytes().to_vec())?;
    let in_tile = |face: &FaceBox| {
        let corner = tile_from_frame * Point::new(face.x, face.y);
        let scale = tile_from_frame.scale();
        FaceBox::new(corner.x, corner.y, scale * face.width, scale * face.height)
    };
    for face in &picture.judged.faces {
        overlay::draw_face_box(&mut tile, &in_tile(face), SKY_BLUE);
    }
    for found in &picture.judged.detections {
        if found.score >= SHOWN_SCORE {
            overlay::draw_face_box(&mut tile, &in_tile(&found.face_box), ORANGE);
        }
    }
    label(&mut tile, &format!("{mistakes} mistakes"));
    Some(tile)
}

/// The first examples of a batch with their targets.
pub(super) fn sample_sheet(batch: &Batch, card: &ModelCard) -> Option<Frame> {
    let images = batch.tensors.get("image")?;
    let tiles: Option<Vec<Frame>> = (0..images.shape[0].min(TILES))
        .map(|index| sample_tile(batch, images, index, card))
        .collect();
    Some(sheet_of(&tiles?))
}

fn sample_tile(
    batch: &Batch,
    images: &BatchTensor,
    index: usize,
    card: &ModelCard,
) -> Option<Frame> {
    let [_, channels, height, width] = images.shape[..] else {
        return None;
    };
    let zoom = SAMPLE_TILE.div_ceil(width).max(1);
    let mut tile = Frame::new(width * zoom, height * zoom);
    let plane = height * width;
    let planes = &images.values[index * channels * plane..][..channels * plane];
    let byte = |channel: usize, x: usize, y: usize| {
        let value = planes[channel.min(channels - 1) * plane + y / zoom * width + x / zoom];
        (value / card.normalization.scale + f32::from(card.normalization.zero_point)).round() as u8
    };
    for y in 0..height * zoom {
        for x in 0..width * zoom {
            tile.set_pixel(x, y, [0, 1, 2].map(|channel| byte(channel, x, y)));
        }
    }
    match &card.task {
        Task::Landmarks { scheme, .. } => {
            let weight = batch.tensors.get("landmarks_weight")?.values[index];
            let targets = &batch.tensors.get("landmarks_target")?.values;
            let count = scheme.landmark_count();
            let points: Vec<Point> = targets[index * 2 * count..][..2 * count]
                .chunks_exact(2)
                .map(|pair| {
                    Point::new(
                        (pair[0] + 0.5) * tile.width() as f32 - 0.5,
                        (pair[1] + 0.5) * tile.height() as f32 - 0.5,
                    )
                })
                .collect();
            if weight > 0.0 {
                draw_thin(&mut tile, &points, *scheme, SKY_BLUE);
            } else {
                label(&mut tile, "no face");
            }
        }
        Task::FaceDetection { strides } => {
            for &stride in strides {
                for face in target_boxes(batch, index, stride)? {
                    let zoomed = FaceBox::new(
                        face.x * zoom as f32,
                        face.y * zoom as f32,
                        face.width * zoom as f32,
                        face.height * zoom as f32,
                    );
                    overlay::draw_face_box(&mut tile, &zoomed, SKY_BLUE);
                }
            }
        }
    }
    Some(tile)
}

/// The boxes of the positive cells of a stride, in the input; see [`Task::FaceDetection`].
fn target_boxes(batch: &Batch, index: usize, stride: usize) -> Option<Vec<FaceBox>> {
    let targets = batch.tensors.get(&format!("box_target_{stride}"))?;
    let weights = &batch.tensors.get(&format!("box_weight_{stride}"))?.values;
    let [_, _, rows, columns] = targets.shape[..] else {
        return None;
    };
    let cells = rows * columns;
    let side = stride as f32;
    let positive = (0..cells).filter(|cell| weights[index * cells + cell] > 0.0);
    Some(
        positive
            .map(|cell| {
                let value = |channel: usize| targets.values[(index * 4 + channel) * cells + cell];
                let (column, row) = ((cell % columns) as f32, (cell / columns) as f32);
                let (width, height) = (side * value(2).exp(), side * value(3).exp());
                let middle_x = (column + 0.5 + value(0)) * side - 0.5;
                let middle_y = (row + 0.5 + value(1)) * side - 0.5;
                FaceBox::new(
                    middle_x - 0.5 * width,
                    middle_y - 0.5 * height,
                    width,
                    height,
                )
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_laid_out_in_rows() {
        let tiles: Vec<Frame> = (0..8)
            .map(|value| {
                let mut tile = Frame::new(3, 2);
                tile.rgb_mut().fill(value);
                tile
            })
            .collect();
        let sheet = sheet_of(&tiles);
        assert_eq!((sheet.width(), sheet.height()), (18, 4));
        assert_eq!(sheet.pixel(4, 3), [7; 3]);
        assert_eq!(sheet.pixel(17, 0), [5; 3]);
    }
}
