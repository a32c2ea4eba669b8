//! From labels in a crop to what a network should answer, and the named tensors of a training step.

use crate::geometry::{FaceBox, Point};
use std::collections::BTreeMap;

/// A tensor of a batch, row by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchTensor {
    /// Shape; the first axis is the batch.
    pub shape: Vec<usize>,
    /// Values.
    pub values: Vec<f32>,
}

impl BatchTensor {
    /// Zeros.
    pub fn zeros(shape: &[usize]) -> Self {
        Self {
            shape: shape.to_vec(),
            values: vec![0.0; shape.iter().product()],
        }
    }
}

/// The inputs of one training step.
///
/// `image` `[N, C, H, W]` and, for landmarks: `landmarks_target` `[N, 2n]`, `landmarks_weight` `[N, 1]` (0 for
/// negatives, else the set's weight), `presence_target` `[N, 1]`, `presence_weight` `[N, 1]`; for detection and each
/// stride S: `score_target_S` `[N, 1, h, w]`, `score_weight_S` (0: ignored), `box_target_S` `[N, 4, h, w]` and
/// `box_weight_S` `[N, 1, h, w]` (1 at positive cells).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Index within the epoch, from 0.
    pub index: usize,
    /// The tensors by name.
    pub tensors: BTreeMap<String, BatchTensor>,
}

/// Writes landmarks in a `width` x `height` crop as a network's answer: units of the crop, 0 in the middle.
pub fn write_landmarks(points_in_crop: &[Point], width: usize, height: usize, target: &mut [f32]) {
    for (point, pair) in points_in_crop.iter().zip(target.chunks_exact_mut(2)) {
        pair[0] = (point.x + 0.5) / width as f32 - 0.5;
        pair[1] = (point.y + 0.5) / height as f32 - 0.5;
    }
}

/// Faces per stride: a face whose size (square root of its area) is within these numbers of cells belongs to a stride.
const CELLS: (f32, f32) = (1.5, 5.0);
/// Faces beyond [`CELLS`] by less than this factor are neither right nor wrong for the stride.
const NEAR: f32 = 1.3;
/// Cells whose middle is this near to the face's middle, in cells, are positive; any point is this near to some cell.
const RADIUS: f32 = 0.75;
/// ... or within this part of the face's size.
const RELATIVE_RADIUS: f32 = 0.2;
/// Width of the ring around the positive cells that is neither right nor wrong, in cells and in parts of the size.
const RING: (f32, f32) = (0.5, 0.2);

/// What one head of a detector should answer for one picture, `height` x `width` cells each.
#[derive(Debug)]
pub struct HeadTarget<'a> {
    /// Stride in input pixels.
    pub stride: usize,
    /// Cells across.
    pub width: usize,
    /// 1 where a face is.
    pub score: &'a mut [f32],
    /// 0 where a face may or may not be found.
    pub score_weight: &'a mut [f32],
    /// dx, dy, ln w, ln h in cells: four planes.
    pub box_values: &'a mut [f32],
    /// 1 at positive cells.
    pub box_weight: &'a mut [f32],
}

/// How a face and a stride go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// The stride should find the face.
    Right,
    /// It may.
    Near,
    /// It should not.
    Wrong,
}

fn fit(cells: f32, is_smallest: bool, is_largest: bool) -> Fit {
    let (mut low, mut high) = CELLS;
    if is_smallest {
        low = 0.0;
    }
    if is_largest {
        high = f32::INFINITY;
    }
    if (low..=high).contains(&cells) {
        Fit::Right
    } else if (low / NEAR..=high * NEAR).contains(&cells) {
        Fit::Near
    } else {
        Fit::Wrong
    }
}

impl HeadTarget<'_> {
    /// Fills every value from the faces `boxes` and the possible faces `ignore`, both in input pixels. `is_smallest`
    /// and `is_largest` say which end of the row of strides this one is: it takes all faces beyond that end.
    ///
    /// Centre sampling after FCOS (Tian et al. 2019): cells near a face's middle are positive, a ring around them counts
    /// for nothing, and where two faces meet the one whose middle is nearer wins.
    pub fn fill(
        &mut self,
        boxes: &[FaceBox],
        ignore: &[FaceBox],
        is_smallest: bool,
        is_largest: bool,
    ) {
        self.score.fill(0.0);
        self.score_weight.fill(1.0);
        self.box_values.fill(0.0);
        self.box_weight.fill(0.0);
        for face in ignore {
            self.ignore(face);
        }
        let stride = self.stride as f32;
        let cells_in_plane = self.score.len();
        let mut nearest = vec![f32::INFINITY; cells_in_plane];
        for face in boxes {
            let size = face.area().sqrt() / stride;
            let fits = fit(size, is_smallest, is_largest);
            if fits == Fit::Wrong {
                continue;
            }
            let radius = RADIUS.max(RELATIVE_RADIUS * size);
            let ring = radius + RING.0.max(RING.1 * size);
            let center = self.in_cells(face.center());
            for (cell, closest) in nearest.iter_mut().enumerate() {
                let (column, row) = ((cell % self.width) as f32, (cell / self.width) as f32);
                let (dx, dy) = (center.x - column, center.y - row);
                let distance = dx.hypot(dy);
                if distance > ring {
                    continue;
                }
                if fits == Fit::Near || distance > radius {
                    if closest.is_infinite() {
                        self.score_weight[cell] = 0.0;
                    }
                } else if distance < *closest {
                    *closest = distance;
                    self.score[cell] = 1.0;
                    self.score_weight[cell] = 1.0;
                    self.box_weight[cell] = 1.0;
                    let sizes = [face.width / stride, face.height / stride].map(f32::ln);
                    for (plane, value) in [dx, dy, sizes[0], sizes[1]].into_iter().enumerate() {
                        self.box_values[plane * cells_in_plane + cell] = value;
                    }
                }
            }
        }
    }

    /// A point in units of cells, where cell (i, j) has its middle at (i, j).
    fn in_cells(&self, point: Point) -> Point {
        let stride = self.stride as f32;
        Point::new(
            (point.x + 0.5) / stride - 0.5,
            (point.y + 0.5) / stride - 0.5,
        )
    }

    fn ignore(&mut self, face: &FaceBox) {
        let center = self.in_cells(face.center());
        let (across, down) = (
            (0.5 * face.width / self.stride as f32).max(RADIUS),
            (0.5 * face.height / self.stride as f32).max(RADIUS),
        );
        for (cell, weight) in self.score_weight.iter_mut().enumerate() {
            let (column, row) = ((cell % self.width) as f32, (cell / self.width) as f32);
            if (column - center.x).abs() <= across && (row - center.y).abs() <= down {
                *weight = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STRIDES: [usize; 3] = [8, 16, 32];

    struct Head {
        stride: usize,
        width: usize,
        score: Vec<f32>,
        weight: Vec<f32>,
        values: Vec<f32>,
        box_weight: Vec<f32>,
    }

    fn heads(boxes: &[FaceBox], ignore: &[FaceBox]) -> Vec<Head> {
        STRIDES
            .iter()
            .enumerate()
            .map(|(index, &stride)| {
                let (width, height) = (192 / stride, 160 / stride);
                let cells = width * height;
                let mut head = Head {
                    stride,
                    width,
                    score: vec![9.0; cells],
                    weight: vec![9.0; cells],
                    values: vec![9.0; 4 * cells],
                    box_weight: vec![9.0; cells],
                };
                HeadTarget {
                    stride,
                    width,
                    score: &mut head.score,
                    score_weight: &mut head.weight,
                    box_values: &mut head.values,
                    box_weight: &mut head.box_weight,
                }
                .fill(boxes, ignore, index == 0, index == 2);
                head
            })
            .collect()
    }

    /// The documented meaning of the detector's outputs, read backwards.
    fn decode(head: &Head, cell: usize) -> FaceBox {
        let (stride, cells) = (head.stride as f32, head.score.len());
        let value = |plane: usize| head.values[plane * cells + cell];
        let x = ((cell % head.width) as f32 + 0.5) * stride - 0.5 + value(0) * stride;
        let y = ((cell / head.width) as f32 + 0.5) * stride - 0.5 + value(1) * stride;
        let (width, height) = (value(2).exp() * stride, value(3).exp() * stride);
        FaceBox::new(x - 0.5 * width, y - 0.5 * height, width, height)
    }

    proptest! {
        #[test]
        fn every_positive_cell_decodes_to_its_face(
            x in -0.5f32..191.5, y in -0.5f32..159.5, size in 8f32..180.0, aspect in 0.7f32..1.4,
        ) {
            let (width, height) = (size * aspect, size / aspect);
            let face = FaceBox::new(x - 0.5 * width, y - 0.5 * height, width, height);
            let mut positives = 0;
            for head in heads(&[face], &[]) {
                for cell in (0..head.score.len()).filter(|&cell| head.score[cell] == 1.0) {
                    positives += 1;
                    let decoded = decode(&head, cell);
                    prop_assert!(decoded.iou(&face) > 0.999, "{decoded:?} {face:?}");
                    prop_assert_eq!((head.weight[cell], head.box_weight[cell]), (1.0, 1.0));
                }
                for cell in (0..head.score.len()).filter(|&cell| head.score[cell] == 0.0) {
                    prop_assert_eq!(head.box_weight[cell], 0.0);
                }
            }
            prop_assert!(positives > 0);
        }
    }

    #[test]
    fn the_stride_follows_the_size_and_neighbours_overlap() {
        for (size, expected) in [
            (6.0, [true, false, false]),
            (20.0, [true, false, false]),
            (30.0, [true, true, false]),
            (60.0, [false, true, true]),
            (100.0, [false, false, true]),
            (190.0, [false, false, true]),
        ] {
            let face = FaceBox::new(96.0 - 0.5 * size, 80.0 - 0.5 * size, size, size);
            let found: Vec<bool> = heads(&[face], &[])
                .iter()
                .map(|head| head.score.contains(&1.0))
                .collect();
            assert_eq!(found, expected, "{size}");
        }
    }

    #[test]
    fn ignored_faces_are_neither_right_nor_wrong_unless_a_face_is_there() {
        let face = FaceBox::new(80.0, 60.0, 30.0, 30.0);
        let possible = FaceBox::new(70.0, 50.0, 60.0, 60.0);
        for head in heads(&[face], &[possible]) {
            assert!(head.weight.contains(&0.0), "stride {}", head.stride);
            for (score, weight) in head.score.iter().zip(&head.weight) {
                assert!(*score == 0.0 || *weight == 1.0);
            }
            assert_eq!(head.weight[0], 1.0, "far cells stay negatives");
        }
    }

    #[test]
    fn of_two_faces_the_nearer_one_gets_the_cell() {
        let (left, right) = (
            FaceBox::new(68.0, 60.0, 30.0, 30.0),
            FaceBox::new(80.0, 60.0, 30.0, 30.0),
        );
        for pair in [[left, right], [right, left]] {
            let head = &heads(&pair, &[])[0];
            for cell in (0..head.score.len()).filter(|&cell| head.score[cell] == 1.0) {
                let middle = ((cell % head.width) as f32 + 0.5) * 8.0 - 0.5;
                let expected = if middle < 89.0 { left } else { right };
                assert!(decode(head, cell).iou(&expected) > 0.99);
            }
        }
    }

    #[test]
    fn landmarks_are_in_units_of_the_crop() {
        let mut target = [0.0; 4];
        write_landmarks(
            &[Point::new(-0.5, 55.5), Point::new(111.5, 0.0)],
            112,
            112,
            &mut target,
        );
        assert_eq!(target, [-0.5, 0.0, 0.5, 0.5 / 112.0 - 0.5]);
    }
}
