//! Do augmented points still sit on the face? Judged by the pictures: the map from picture to crop that the LABELS imply
//! is fitted to the points, the picture is sampled by it, and patches around the points are compared with the crop. None
//! of the code that cut the crop is used.

use crate::{
    crop::Crop,
    frame::Frame,
    geometry::{Affine, Point},
    train::loader::InspectedFace,
};
use serde::Serialize;

/// What crops and points say of each other. Correlations are means over the faces of the median over the points.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ViewEvidence {
    /// Faces looked at.
    pub faces: usize,
    /// Part of the points outside of the crop.
    pub outside: f64,
    /// Mean distance of points, mapped back by the map that filled the crop, from their labels, in sides of the crop.
    pub round_trip: f64,
    /// Correlation of patches around the points in the crop and around the labels in the picture; absent when the
    /// patches show nothing.
    pub correlation: Option<f64>,
    /// The crops that are turned by more than 5 degrees; absent when there are few.
    pub turned: Option<TurnedEvidence>,
    /// What moving the points would change; absent when there is nothing to compare.
    pub shifted: Option<ShiftEvidence>,
}

/// Two hypotheses on turned crops.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TurnedEvidence {
    /// Crops.
    pub faces: usize,
    /// Correlation as labelled.
    pub labelled: f64,
    /// Correlation with the points turned the other way.
    pub reversed: f64,
}

/// Whether crops fit their points better when all points of a face are moved alike.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ShiftEvidence {
    /// Correlation of the whole crop with the picture as the labels put it there.
    pub unshifted: f64,
    /// With the best shift of each face.
    pub correlation: f64,
    /// Mean length of that shift, in sides of the crop.
    pub distance: f64,
    /// Correlation over the faces of the shift's length and the angle by which the crop is turned.
    pub follows_turn: f64,
}

/// Turns from which the sense of the turn can be told.
const TURN_DEG: f32 = 5.0;
/// Fewest turned crops.
const TURNED_FACES: usize = 4;
/// Points compared a face, and fewest that must show something.
const POINTS: usize = 20;
const FEWEST_POINTS: usize = 4;
/// Standard deviation in bytes from which a patch shows something.
const CONTRAST: f64 = 4.0;
/// Side of the small pictures that are shifted against each other, and the largest shift.
const SMALL: usize = 32;
const SMALL_SHIFT: i32 = 11;

/// Looks at faces as a loader shows them; `None` without faces. `mirror_permutation` is the scheme's.
pub(super) fn inspect(
    faces: &[InspectedFace],
    mirror_permutation: &[usize],
) -> Option<ViewEvidence> {
    let looked: Vec<Look> = faces
        .iter()
        .filter_map(|face| Look::at(face, mirror_permutation))
        .collect();
    if looked.is_empty() {
        return None;
    }
    let all = |value: &dyn Fn(&Look) -> f64| mean(looked.iter().map(value)).unwrap_or(0.0);
    let turned: Vec<(f64, f64)> = looked
        .iter()
        .filter(|look| look.turn_deg.abs() > TURN_DEG)
        .filter_map(|look| Some((look.labelled?, look.reversed?)))
        .collect();
    let shifts: Vec<(&Shift, f64)> = looked
        .iter()
        .filter_map(|look| Some((look.shift.as_ref()?, f64::from(look.turn_deg.abs()))))
        .collect();
    let of_shifts =
        |value: &dyn Fn(&Shift) -> f64| mean(shifts.iter().map(|(shift, _)| value(shift)));
    Some(ViewEvidence {
        faces: looked.len(),
        outside: all(&|look| look.outside),
        round_trip: all(&|look| look.round_trip),
        correlation: mean(looked.iter().filter_map(|look| look.labelled)),
        turned: (turned.len() >= TURNED_FACES).then(|| TurnedEvidence {
            faces: turned.len(),
            labelled: mean(turned.iter().map(|pair| pair.0)).unwrap_or(0.0),
            reversed: mean(turned.iter().map(|pair| pair.1)).unwrap_or(0.0),
        }),
        shifted: of_shifts(&|shift| shift.unshifted).map(|unshifted| {
            let lengths: Vec<f64> = shifts.iter().map(|(shift, _)| shift.distance).collect();
            let turns: Vec<f64> = shifts.iter().map(|&(_, turn)| turn).collect();
            ShiftEvidence {
                unshifted,
                correlation: of_shifts(&|shift| shift.correlation).unwrap_or(0.0),
                distance: of_shifts(&|shift| shift.distance).unwrap_or(0.0),
                follows_turn: correlation(&lengths, &turns, 1e-9).unwrap_or(0.0),
            }
        }),
    })
}

/// One face.
struct Look {
    outside: f64,
    round_trip: f64,
    turn_deg: f32,
    labelled: Option<f64>,
    reversed: Option<f64>,
    shift: Option<Shift>,
}

struct Shift {
    unshifted: f64,
    correlation: f64,
    distance: f64,
}

impl Look {
    fn at(face: &InspectedFace, mirror_permutation: &[usize]) -> Option<Self> {
        let (width, height) = (face.crop.width() as f32, face.crop.height() as f32);
        let side = width.max(height);
        let mirrored_points: Vec<Point> = mirror_permutation
            .iter()
            .map(|&source| face.points_in_frame[source])
            .collect();
        let inside = |point: &Point| {
            (-0.5..width - 0.5).contains(&point.x) && (-0.5..height - 0.5).contains(&point.y)
        };
        let outside = face
            .points_in_crop
            .iter()
            .filter(|point| !inside(point))
            .count();
        let frame_from_crop = face.view.crop_from_frame.inverse()?;
        let sources = if face.view.mirrored {
            &mirrored_points
        } else {
            &face.points_in_frame
        };
        let back = face
            .points_in_crop
            .iter()
            .zip(sources)
            .map(|(&point, &label)| {
                let apart = (frame_from_crop * point).distance(label);
                f64::from(apart * face.view.crop_from_frame.scale() / side)
            });
        // Upright and mirrored, whichever fits the points: the labels alone decide.
        let mirror = Affine::mirror_x(face.crop.width());
        let unmirrored: Vec<Point> = face.points_in_crop.iter().map(|&p| mirror * p).collect();
        let plain = fit(&face.points_in_frame, &face.points_in_crop);
        let flipped = fit(&mirrored_points, &unmirrored);
        let (upright, mirror, points) = match (plain, flipped) {
            (Some(plain), Some(flipped)) if flipped.1 < plain.1 => {
                (flipped.0, mirror, &mirrored_points)
            }
            (None, Some(flipped)) => (flipped.0, mirror, &mirrored_points),
            (Some(plain), _) => (plain.0, Affine::IDENTITY, &face.points_in_frame),
            (None, None) => return None,
        };
        let turn_rad = upright.rows[1][0].atan2(upright.rows[0][0]);
        let middle = Point::new(0.5 * (width - 1.0), 0.5 * (height - 1.0));
        let reversed = Affine::similarity(1.0, -2.0 * turn_rad, middle, middle) * upright;
        let labelled = mirror * upright;
        Some(Self {
            outside: outside as f64 / face.points_in_crop.len().max(1) as f64,
            round_trip: mean(back)?,
            turn_deg: turn_rad.to_degrees(),
            labelled: patches(face, &labelled, points),
            reversed: patches(face, &(mirror * reversed), points),
            shift: shift(face, &labelled),
        })
    }
}

/// The similarity that takes `from` nearest to `to`, and the mean square of what is left (Umeyama 1991, without
/// reflection); `None` when the points are one.
fn fit(from: &[Point], to: &[Point]) -> Option<(Affine, f64)> {
    let count = from.len() as f64;
    let center = |points: &[Point]| {
        let sum = points.iter().fold((0.0, 0.0), |sum, p| {
            (sum.0 + f64::from(p.x), sum.1 + f64::from(p.y))
        });
        (sum.0 / count, sum.1 / count)
    };
    let (a, b) = (center(from), center(to));
    let (mut dot, mut cross, mut length) = (0.0, 0.0, 0.0);
    for (p, q) in from.iter().zip(to) {
        let (px, py) = (f64::from(p.x) - a.0, f64::from(p.y) - a.1);
        let (qx, qy) = (f64::from(q.x) - b.0, f64::from(q.y) - b.1);
        dot += px * qx + py * qy;
        cross += px * qy - py * qx;
        length += px * px + py * py;
    }
    if length <= 0.0 {
        return None;
    }
    let map = Affine::similarity(
        (dot.hypot(cross) / length) as f32,
        cross.atan2(dot) as f32,
        Point::new(a.0 as f32, a.1 as f32),
        Point::new(b.0 as f32, b.1 as f32),
    );
    let left = mean(
        from.iter()
            .zip(to)
            .map(|(&p, &q)| f64::from((map * p).distance(q)).powi(2)),
    )?;
    Some((map, left))
}

/// Median correlation of patches around the points as `crop_from_frame` puts them: crop against picture.
fn patches(
    face: &InspectedFace,
    crop_from_frame: &Affine,
    points_in_frame: &[Point],
) -> Option<f64> {
    let frame_from_crop = crop_from_frame.inverse()?;
    let (width, height) = (face.crop.width() as i32, face.crop.height() as i32);
    let radius = (width.min(height) / 14).clamp(4, 12);
    let samples = samples(crop_from_frame);
    let mut found = Vec::new();
    for point in points_in_frame
        .iter()
        .step_by((points_in_frame.len() / POINTS).max(1))
    {
        let at = *crop_from_frame * *point;
        let (x, y) = (at.x.round() as i32, at.y.round() as i32);
        if x < radius || y < radius || x + radius >= width || y + radius >= height {
            continue;
        }
        let (mut seen, mut expected) = (Vec::new(), Vec::new());
        for (row, column) in (y - radius..=y + radius)
            .flat_map(|row| (x - radius..=x + radius).map(move |column| (row, column)))
        {
            let Some(value) = sampled(
                &face.frame,
                &frame_from_crop,
                (column as f32, row as f32),
                samples,
            ) else {
                break;
            };
            seen.push(luma_of(&face.crop, column as usize, row as usize));
            expected.push(value);
        }
        if seen.len() == ((2 * radius + 1) * (2 * radius + 1)) as usize {
            found.extend(correlation(&seen, &expected, CONTRAST));
        }
    }
    found.sort_by(f64::total_cmp);
    (found.len() >= FEWEST_POINTS).then(|| found[found.len() / 2])
}

/// The shift between the crop and the picture as `crop_from_frame` puts it there, both made small.
fn shift(face: &InspectedFace, crop_from_frame: &Affine) -> Option<Shift> {
    let frame_from_crop = crop_from_frame.inverse()?;
    let (width, height) = (face.crop.width(), face.crop.height());
    let (across, down) = (width as f32 / SMALL as f32, height as f32 / SMALL as f32);
    let samples = samples(crop_from_frame).max(2);
    let ends = |start: f32, cell: f32, end: usize| {
        start as usize..((start + cell).ceil() as usize).min(end)
    };
    let (mut seen, mut expected) = (Vec::new(), Vec::new());
    for place in 0..SMALL * SMALL {
        let left = (place % SMALL) as f32 * across;
        let top = (place / SMALL) as f32 * down;
        let (mut sum, mut pixels) = (0.0, 0.0);
        for row in ends(top, down, height) {
            for column in ends(left, across, width) {
                sum += luma_of(&face.crop, column, row);
                pixels += 1.0;
            }
        }
        seen.push(sum / f64::max(pixels, 1.0));
        let center = (left + 0.5 * (across - 1.0), top + 0.5 * (down - 1.0));
        expected.push(sampled(&face.frame, &frame_from_crop, center, samples));
    }
    let overlap = |dx: i32, dy: i32| -> Option<f64> {
        let (mut a, mut b) = (
            Vec::with_capacity(SMALL * SMALL),
            Vec::with_capacity(SMALL * SMALL),
        );
        for place in 0..(SMALL * SMALL) as i32 {
            let (x, y) = (place % SMALL as i32 + dx, place / SMALL as i32 + dy);
            let range = 0..SMALL as i32;
            if let Some(value) = expected[place as usize]
                && range.contains(&x)
                && range.contains(&y)
            {
                a.push(value);
                b.push(seen[(y * SMALL as i32 + x) as usize]);
            }
        }
        (a.len() > SMALL * SMALL / 5)
            .then(|| correlation(&a, &b, CONTRAST))
            .flatten()
    };
    let unshifted = overlap(0, 0)?;
    let mut best = (unshifted, 0.0);
    for dy in -SMALL_SHIFT..=SMALL_SHIFT {
        for dx in -SMALL_SHIFT..=SMALL_SHIFT {
            if let Some(found) = overlap(dx, dy)
                && found > best.0
            {
                best = (found, f64::from(dx).hypot(f64::from(dy)) / SMALL as f64);
            }
        }
    }
    Some(Shift {
        unshifted,
        correlation: best.0,
        distance: best.1,
    })
}

/// Samples along a crop pixel's edge so that no picture pixel is left out.
fn samples(crop_from_frame: &Affine) -> usize {
    (1.0 / crop_from_frame.scale()).ceil().clamp(1.0, 6.0) as usize
}

/// Mean luma of `samples` x `samples` places in the crop's pixel `at`; `None` beyond the picture.
fn sampled(frame: &Frame, frame_from_crop: &Affine, at: (f32, f32), samples: usize) -> Option<f64> {
    let mut sum = 0.0;
    for index in 0..samples * samples {
        let place = |i: usize| (i as f32 + 0.5) / samples as f32 - 0.5;
        let point = *frame_from_crop
            * Point::new(at.0 + place(index % samples), at.1 + place(index / samples));
        sum += bilinear(frame, point)?;
    }
    Some(sum / (samples * samples) as f64)
}

fn bilinear(frame: &Frame, point: Point) -> Option<f64> {
    let (left, top) = (point.x.floor(), point.y.floor());
    let inside = left >= 0.0
        && top >= 0.0
        && left + 1.0 < frame.width() as f32
        && top + 1.0 < frame.height() as f32;
    if !inside {
        return None;
    }
    let (x, y) = (left as usize, top as usize);
    let (u, v) = (f64::from(point.x - left), f64::from(point.y - top));
    let at = |x, y| luma(frame.pixel(x, y));
    Some(
        (1.0 - v) * ((1.0 - u) * at(x, y) + u * at(x + 1, y))
            + v * ((1.0 - u) * at(x, y + 1) + u * at(x + 1, y + 1)),
    )
}

fn luma(rgb: [u8; 3]) -> f64 {
    let [red, green, blue] = rgb.map(f64::from);
    0.299 * red + 0.587 * green + 0.114 * blue
}

fn luma_of(crop: &Crop, x: usize, y: usize) -> f64 {
    let channels = crop.color().channels();
    let pixel = &crop.bytes()[(y * crop.width() + x) * channels..][..channels];
    match *pixel {
        [red, green, blue] => luma([red, green, blue]),
        _ => f64::from(pixel[0]),
    }
}

/// Pearson's correlation; `None` when either varies by less than `contrast`.
fn correlation(a: &[f64], b: &[f64], contrast: f64) -> Option<f64> {
    let (mean_a, mean_b) = (mean(a.iter().copied())?, mean(b.iter().copied())?);
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        aa += a * a;
        bb += b * b;
        ab += a * b;
    }
    let least = contrast * contrast * a.len() as f64;
    (aa > least && bb > least).then(|| ab / (aa * bb).sqrt())
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| {
        (sum + value, count + 1)
    });
    (count > 0).then(|| sum / count as f64)
}
