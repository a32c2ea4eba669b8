//! Paints drawn faces: background, hair, skin under a light from one side, eyes, brows, nose and mouth, noise.

use super::face::{Face, Place, place};
use crate::{
    frame::Frame,
    geometry::Point,
    train::augment::{chance, generator, normal, symmetric},
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Painted this many times larger in each direction and averaged, for smooth edges.
const FINE: usize = 2;

type Rgb = [f32; 3];

/// Paints a picture; everything random comes from `seed`.
pub(super) fn scene(width: usize, height: usize, faces: &[Face], seed: u64) -> Frame {
    let mut generator = generator(seed, 0, 0, 0x0070_6169_6e74);
    let mut canvas = Canvas::new(width, height);
    background(&mut canvas, &mut generator);
    let looks: Vec<Looks> = faces.iter().map(|_| Looks::new(&mut generator)).collect();
    // Bodies first: nobody's shoulders hide a face.
    for (face, looks) in faces.iter().zip(&looks) {
        paint_body(&mut canvas, face, looks, &mut generator);
    }
    for (face, looks) in faces.iter().zip(&looks) {
        paint_head(&mut canvas, face, looks, &mut generator);
    }
    canvas.develop(&mut generator)
}

/// A picture under way, in colours from 0 to 255.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Rgb>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        let (width, height) = (width * FINE, height * FINE);
        Self {
            width,
            height,
            pixels: vec![[0.0; 3]; width * height],
        }
    }

    /// From picture pixels to canvas pixels; both count centres.
    fn fine(point: Point) -> Point {
        let scale = |value: f32| (value + 0.5) * FINE as f32 - 0.5;
        Point::new(scale(point.x), scale(point.y))
    }

    /// Fills a polygon, given in picture pixels; `colour` is asked at picture pixels.
    fn polygon(&mut self, points: &[Point], colour: impl Fn(Point) -> Rgb) {
        let fine: Vec<Point> = points.iter().map(|&point| Self::fine(point)).collect();
        let low = fine.iter().map(|point| point.y).fold(f32::MAX, f32::min);
        let high = fine.iter().map(|point| point.y).fold(f32::MIN, f32::max);
        let mut crossings = Vec::new();
        let last_row = (high.floor().max(-1.0) + 1.0) as usize;
        for y in low.ceil().max(0.0) as usize..last_row.min(self.height) {
            crossings.clear();
            for (index, from) in fine.iter().enumerate() {
                let to = fine[(index + 1) % fine.len()];
                if (from.y <= y as f32) != (to.y <= y as f32) {
                    crossings
                        .push(from.x + (y as f32 - from.y) / (to.y - from.y) * (to.x - from.x));
                }
            }
            crossings.sort_by(f32::total_cmp);
            for span in crossings.chunks_exact(2) {
                let end = (span[1].floor().max(-1.0) + 1.0) as usize;
                for x in span[0].ceil().max(0.0) as usize..end.min(self.width) {
                    let at = Point::new(x as f32 / FINE as f32, y as f32 / FINE as f32);
                    self.pixels[y * self.width + x] = colour(at);
                }
            }
        }
    }

    /// A poly-line `thickness` picture pixels wide.
    fn line(&mut self, points: &[Point], thickness: f32, colour: Rgb) {
        for pair in points.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            let length = from.distance(to).max(1e-3);
            let half = 0.5 * thickness / length;
            let (nx, ny) = (half * (from.y - to.y), half * (to.x - from.x));
            let corners = [
                Point::new(from.x + nx, from.y + ny),
                Point::new(to.x + nx, to.y + ny),
                Point::new(to.x - nx, to.y - ny),
                Point::new(from.x - nx, from.y - ny),
            ];
            self.polygon(&corners, |_| colour);
            self.ellipse(to, 0.5 * thickness, 0.5 * thickness, |_| colour);
        }
    }

    fn ellipse(&mut self, center: Point, across: f32, down: f32, colour: impl Fn(Point) -> Rgb) {
        let outline: Vec<Point> = (0..20)
            .map(|step| {
                let (sin, cos) = (step as f32 / 20.0 * std::f32::consts::TAU).sin_cos();
                Point::new(center.x + across * cos, center.y + down * sin)
            })
            .collect();
        self.polygon(&outline, colour);
    }

    /// The mean of each block, with sensor noise.
    fn develop(&self, generator: &mut ChaCha8Rng) -> Frame {
        let (width, height) = (self.width / FINE, self.height / FINE);
        let noise = 1.0 + 4.0 * generator.random::<f32>();
        let mut frame = Frame::new(width, height);
        let weight = 1.0 / (FINE * FINE) as f32;
        for (index, pixel) in frame.rgb_mut().chunks_exact_mut(3).enumerate() {
            let (x, y) = (index % width * FINE, index / width * FINE);
            // The sum of two uniform numbers is near enough to a normal one.
            let grain = symmetric(generator, noise) + symmetric(generator, noise);
            for (channel, byte) in pixel.iter_mut().enumerate() {
                let mut sum = 0.0;
                for row in y..y + FINE {
                    for column in x..x + FINE {
                        sum += self.pixels[row * self.width + column][channel];
                    }
                }
                *byte = (sum * weight + grain + 0.5) as u8;
            }
        }
        frame
    }
}

fn any_colour(generator: &mut ChaCha8Rng) -> Rgb {
    std::array::from_fn(|_| generator.random_range(10.0..245.0))
}

fn scaled(colour: Rgb, factor: f32) -> Rgb {
    colour.map(|channel| channel * factor)
}

fn mixed(from: Rgb, to: Rgb, part: f32) -> Rgb {
    std::array::from_fn(|channel| from[channel] + part * (to[channel] - from[channel]))
}

/// A gradient with boxes and blobs in front of it.
fn background(canvas: &mut Canvas, generator: &mut ChaCha8Rng) {
    let (top, bottom) = (any_colour(generator), any_colour(generator));
    let (width, height) = ((canvas.width / FINE) as f32, (canvas.height / FINE) as f32);
    let corners = [
        Point::new(-1.0, -1.0),
        Point::new(width, -1.0),
        Point::new(width, height),
        Point::new(-1.0, height),
    ];
    canvas.polygon(&corners, |at| {
        mixed(top, bottom, (at.y / height).clamp(0.0, 1.0))
    });
    for _ in 0..generator.random_range(3..14) {
        let center = Point::new(
            generator.random_range(0.0..width),
            generator.random_range(0.0..height),
        );
        let across = width * generator.random_range(0.02f32..0.25);
        let down = height * generator.random_range(0.02f32..0.25);
        let (colour, other) = (any_colour(generator), any_colour(generator));
        if chance(generator, 0.5) {
            canvas.ellipse(center, across, down, |_| colour);
        } else {
            let corners = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
                .map(|(x, y)| Point::new(center.x + x * across, center.y + y * down));
            let stripes = 2.0 + 6.0 * generator.random::<f32>();
            canvas.polygon(&corners, |at| {
                if (at.x / stripes).rem_euclid(2.0) < 1.0 {
                    colour
                } else {
                    other
                }
            });
        }
    }
}

/// Colours of one face.
struct Looks {
    skin: Rgb,
    hair: Rgb,
    iris: Rgb,
    lip: Rgb,
    long_hair: bool,
    /// Brightness gained per half width of the head, to the right and down.
    light: Point,
}

impl Looks {
    fn new(generator: &mut ChaCha8Rng) -> Self {
        const SKIN: [Rgb; 4] = [
            [244.0, 208.0, 184.0],
            [222.0, 172.0, 138.0],
            [168.0, 116.0, 82.0],
            [98.0, 64.0, 46.0],
        ];
        const HAIR: [Rgb; 5] = [
            [28.0, 22.0, 20.0],
            [72.0, 46.0, 30.0],
            [150.0, 104.0, 58.0],
            [205.0, 178.0, 120.0],
            [150.0, 150.0, 150.0],
        ];
        const IRIS: [Rgb; 3] = [[62.0, 40.0, 24.0], [70.0, 96.0, 60.0], [76.0, 112.0, 150.0]];
        let shade = generator.random_range(0.0f32..2.99);
        let skin = mixed(
            SKIN[shade as usize],
            SKIN[shade as usize + 1],
            shade.fract(),
        );
        let exposure = 0.75 + 0.35 * generator.random::<f32>();
        Self {
            skin: scaled(skin, exposure),
            hair: scaled(HAIR[generator.random_range(0..HAIR.len())], exposure),
            iris: scaled(IRIS[generator.random_range(0..IRIS.len())], exposure),
            lip: mixed(scaled(skin, exposure), [170.0 * exposure, 40.0, 50.0], 0.4),
            long_hair: chance(generator, 0.45),
            light: Point::new(
                (0.14 * normal(generator)).clamp(-0.35, 0.35),
                (0.06 * normal(generator)).clamp(-0.15, 0.15),
            ),
        }
    }
}

fn paint_head(canvas: &mut Canvas, face: &Face, looks: &Looks, generator: &mut ChaCha8Rng) {
    let landmarks = face.landmarks();
    let middle = face.project(place(0.0, 0.2, 0.0));
    let unit = face.unit;
    let lit = |colour: Rgb| {
        move |at: Point| {
            let right = (at.x - middle.x) / unit;
            let down = (at.y - middle.y) / unit;
            let round = 1.0 - 0.12 * right * right;
            scaled(
                colour,
                round * (1.0 + looks.light.x * right + looks.light.y * down),
            )
        }
    };
    let to_picture = |places: &[Place]| -> Vec<Point> {
        places.iter().map(|&spot| face.project(spot)).collect()
    };

    let mut head: Vec<Point> = landmarks[..17].to_vec();
    head.extend(to_picture(&face.skull(1.0)));
    for ear in [-1.0, 1.0] {
        let center = face.project(place(1.03 * ear, 0.0, -0.55));
        canvas.ellipse(
            center,
            0.12 * unit,
            0.22 * unit,
            lit(scaled(looks.skin, 0.85)),
        );
    }
    canvas.polygon(&head, lit(looks.skin));
    let mut fringe = to_picture(&face.skull(1.04));
    let low = -0.62 - 0.25 * generator.random::<f32>();
    fringe.extend(to_picture(&[
        place(-0.9, -0.45, -0.3),
        place(-0.6, low, 0.0),
        place(0.0, low - 0.1, 0.1),
        place(0.6, low, 0.0),
        place(0.9, -0.45, -0.3),
    ]));
    canvas.polygon(&fringe, lit(looks.hair));
    // The jaw stands out from the neck.
    canvas.line(&landmarks[2..15], 0.035 * unit, scaled(looks.skin, 0.68));

    for (side, first) in [(-1.0, 36), (1.0, 42)] {
        paint_eye(canvas, face, looks, side, &landmarks[first..first + 6]);
    }
    let brow = mixed(looks.hair, scaled(looks.skin, 0.5), 0.3);
    canvas.line(&landmarks[17..22], 0.075 * unit, brow);
    canvas.line(&landmarks[22..27], 0.075 * unit, brow);
    paint_nose(canvas, looks, &landmarks, unit);
    paint_mouth(canvas, face, looks, &landmarks);
}

fn paint_body(canvas: &mut Canvas, face: &Face, looks: &Looks, generator: &mut ChaCha8Rng) {
    let unit = face.unit;
    let shirt = any_colour(generator);
    let neck = face.project(place(0.0, 1.2, -0.4));
    let body = [
        (-0.5, 0.25),
        (0.5, 0.25),
        (1.9, 0.9),
        (2.1, 6.0),
        (-2.1, 6.0),
        (-1.9, 0.9),
    ]
    .map(|(x, y)| Point::new(neck.x + x * unit, neck.y + y * unit));
    if looks.long_hair {
        let mut outline: Vec<Point> = face
            .skull(1.22)
            .into_iter()
            .map(|spot| face.project(spot))
            .collect();
        outline.push(face.project(place(-1.25, 1.3, -0.6)));
        outline.push(face.project(place(1.25, 1.3, -0.6)));
        canvas.polygon(&outline, |_| scaled(looks.hair, 0.85));
    } else {
        let outline: Vec<Point> = face
            .skull(1.12)
            .into_iter()
            .map(|spot| face.project(spot))
            .collect();
        canvas.polygon(&outline, |_| looks.hair);
    }
    let skin = scaled(looks.skin, 0.72);
    let sides = [(-0.5, -0.9), (0.5, -0.9), (0.55, 0.4), (-0.55, 0.4)]
        .map(|(x, y)| Point::new(neck.x + x * unit, neck.y + y * unit));
    canvas.polygon(&sides, |_| skin);
    canvas.polygon(&body, |_| shirt);
}

fn paint_eye(canvas: &mut Canvas, face: &Face, looks: &Looks, side: f32, outline: &[Point]) {
    let unit = face.unit;
    canvas.polygon(outline, |_| scaled([235.0; 3], 0.9));
    let eye = face.eye(side);
    let (across, open) = (face.eye_width(), face.eye_open());
    let center = face.project(place(
        eye.right + across * face.gaze.x,
        eye.down + open * face.gaze.y,
        eye.near + 0.02,
    ));
    // The iris is as high as the eye is open at most: it would be seen through the lids otherwise.
    let radius = 0.5 * across * unit;
    let height = radius.min(0.95 * open * unit);
    canvas.ellipse(center, radius, height, |_| looks.iris);
    canvas.ellipse(center, 0.45 * radius, 0.6 * height, |_| [12.0; 3]);
    let glint = Point::new(center.x - 0.25 * radius, center.y - 0.3 * height);
    canvas.ellipse(glint, 0.18 * radius, 0.2 * height, |_| [245.0; 3]);
    canvas.line(&outline[..4], 0.035 * unit, scaled(looks.skin, 0.3));
    let lower = [outline[3], outline[4], outline[5], outline[0]];
    canvas.line(&lower, 0.02 * unit, scaled(looks.skin, 0.55));
}

fn paint_nose(canvas: &mut Canvas, looks: &Looks, landmarks: &[Point], unit: f32) {
    let shadow = scaled(looks.skin, 0.74);
    let flank = if looks.light.x > 0.0 { 31 } else { 35 };
    let side = [
        landmarks[27],
        landmarks[30],
        landmarks[33],
        landmarks[flank],
    ];
    canvas.polygon(&side, |_| scaled(looks.skin, 0.86));
    canvas.line(&landmarks[27..31], 0.05 * unit, scaled(looks.skin, 1.1));
    canvas.ellipse(landmarks[30], 0.06 * unit, 0.05 * unit, |_| {
        scaled(looks.skin, 1.14)
    });
    canvas.line(&landmarks[31..36], 0.04 * unit, shadow);
    for nostril in [32, 34] {
        canvas.ellipse(landmarks[nostril], 0.05 * unit, 0.03 * unit, |_| {
            scaled(looks.skin, 0.35)
        });
    }
}

fn paint_mouth(canvas: &mut Canvas, face: &Face, looks: &Looks, landmarks: &[Point]) {
    canvas.polygon(&landmarks[48..60], |_| looks.lip);
    let inner = &landmarks[60..68];
    if face.mouth_open() > 0.0 {
        canvas.polygon(inner, |_| [52.0, 20.0, 22.0]);
        let teeth: Vec<Point> = [0, 1, 2, 3, 4]
            .map(|index| inner[index])
            .into_iter()
            .chain([3, 2, 1].map(|index| inner[index].midpoint(inner[(8 - index) % 8])))
            .collect();
        canvas.polygon(&teeth, |_| scaled([232.0, 228.0, 216.0], 0.9));
    } else {
        let line = [inner[0], inner[2], inner[4]];
        canvas.line(&line, 0.025 * face.unit, scaled(looks.lip, 0.45));
    }
}
