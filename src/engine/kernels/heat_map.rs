//! The mean of heat maps: from a map of scores to one point a channel. All kernel sets do this alike.

use super::layout::Layout;

/// Channels that are summed side by side.
const LANES: usize = 16;

/// Axes that a point may have.
pub(crate) const MOST_AXES: usize = 4;

/// For each channel `c` of a map of bytes the mean of `places[cell]` over its cells with weights
/// `exp(scale * byte[cell, c])`, which is what DequantizeLinear, Softmax over the cells and MatMul with the places make; the
/// zero point plays no part.
///
/// A byte has 256 values, and so has `exp`: weights come from a table. The sums are in f32 in the order of the cells, so a
/// result differs from that of the separate operators by rounding alone.
#[derive(Clone, Debug)]
pub(crate) struct HeatMapMean {
    input: Layout,
    /// Weight of a byte that is this much below its channel's greatest.
    weights: Box<[f32; 256]>,
    /// `[cells, axes]`.
    places: Vec<f32>,
    axes: usize,
}

impl HeatMapMean {
    /// Prepares the means of a map; `places` has `axes` values for each of its cells, row by row.
    ///
    /// # Panics
    /// When the places are not those of the map, or there are more than [`MOST_AXES`] axes.
    pub(crate) fn new(input: Layout, scale: f32, places: &[f32], axes: usize) -> Self {
        assert!((1..=MOST_AXES).contains(&axes));
        assert_eq!(places.len(), input.height * input.width * axes);
        let weight = |below: usize| (-f64::from(scale) * below as f64).exp() as f32;
        Self {
            input,
            weights: Box::new(std::array::from_fn(weight)),
            places: places.to_vec(),
            axes,
        }
    }

    /// The kernel in words.
    pub(crate) fn describe(&self) -> String {
        "mean of heat maps".to_owned()
    }

    /// Writes the points `[channels, axes]`.
    ///
    /// # Panics
    /// When a slice is too short.
    pub(crate) fn run(&self, input: &[u8], points: &mut [f32]) {
        self.input.check_input(input);
        let channels = self.input.channels;
        for first in (0..channels).step_by(LANES) {
            let greatest = self.greatest(input, first);
            let mut sums = [[0f32; LANES]; MOST_AXES];
            let mut total = [0f32; LANES];
            for (cell, bytes) in self.cells(input, first).enumerate() {
                let weights: [f32; LANES] = std::array::from_fn(|lane| {
                    self.weights[usize::from(greatest[lane].wrapping_sub(bytes[lane]))]
                });
                for (total, weight) in total.iter_mut().zip(weights) {
                    *total += weight;
                }
                let place = &self.places[cell * self.axes..][..self.axes];
                for (sums, along) in sums.iter_mut().zip(place) {
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum += along * weight;
                    }
                }
            }
            for lane in 0..LANES.min(channels - first) {
                let point = &mut points[(first + lane) * self.axes..][..self.axes];
                for (value, sums) in point.iter_mut().zip(&sums) {
                    *value = sums[lane] / total[lane];
                }
            }
        }
    }

    fn greatest(&self, input: &[u8], first: usize) -> [u8; LANES] {
        let mut greatest = [0; LANES];
        for bytes in self.cells(input, first) {
            for (greatest, byte) in greatest.iter_mut().zip(bytes) {
                *greatest = (*greatest).max(*byte);
            }
        }
        greatest
    }

    /// The bytes of channels `first..first + LANES`, cell by cell; lanes past the last channel hold anything.
    fn cells<'a>(&self, input: &'a [u8], first: usize) -> impl Iterator<Item = &'a [u8; LANES]> {
        let layout = self.input;
        (0..layout.height).flat_map(move |y| {
            (0..layout.width).map(move |x| {
                input[layout.offset(y, x) + first..]
                    .first_chunk()
                    .expect("maps have room for whole groups of channels")
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kernels::Buffer;

    #[test]
    fn a_point_is_the_softmax_weighted_mean_of_its_places() {
        let (height, width, channels, scale) = (5, 3, 21, 0.11f32);
        let layout = Layout::map(height, width, channels).with_border(1, 2, 0, 1);
        let byte = |cell: usize, channel: usize| ((cell * 37 + channel * 59 + 11) % 256) as u8;
        let mut buffer = Buffer::new(layout.len());
        buffer.fill(255);
        for cell in 0..height * width {
            for channel in 0..channels {
                buffer[layout.offset(cell / width, cell % width) + channel] = byte(cell, channel);
            }
        }
        let places: Vec<f32> = (0..height * width * 3)
            .map(|index| (index as f32 * 1.7).sin())
            .collect();
        let mut points = vec![f32::NAN; channels * 3];
        HeatMapMean::new(layout, scale, &places, 3).run(&buffer, &mut points);
        for channel in 0..channels {
            for axis in 0..3 {
                let mut total = 0.0;
                let mut sum = 0.0;
                for cell in 0..height * width {
                    let weight = (f64::from(scale) * f64::from(byte(cell, channel))).exp();
                    total += weight;
                    sum += weight * f64::from(places[cell * 3 + axis]);
                }
                let found = f64::from(points[channel * 3 + axis]);
                assert!((found - sum / total).abs() < 1e-6, "{channel} {axis}");
            }
        }
    }
}
