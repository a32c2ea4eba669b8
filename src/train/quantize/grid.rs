//! The grids that values are rounded to: 256 levels for activations, symmetric ones for weights. The one place that
//! turns a range into scale and zero point, for the int8 file and for quantisation-aware training alike.

/// Levels above the zero point of a weight: [`WeightBits::Eight`] uses -127 to 127, so that the grid is symmetric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightBits {
    /// -63 to 63, for CPUs whose 8-bit multiply-add would saturate.
    Seven,
    /// -127 to 127.
    #[default]
    Eight,
}

impl WeightBits {
    /// The largest weight in steps.
    pub const fn largest(self) -> i8 {
        match self {
            Self::Seven => 63,
            Self::Eight => 127,
        }
    }
}

/// Smaller steps are taken for none: they would make multipliers that no 32-bit float holds.
pub const SMALLEST_SCALE: f32 = 1e-12;

/// The 256 values `(q - zero_point) * scale`, q from 0 to 255.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Distance of two levels; more than 0.
    pub scale: f32,
    /// The level that stands for 0.
    pub zero_point: u8,
}

impl Grid {
    /// The grid from `low` to `high`, widened to hold 0, which is always a level. A range without width gets scale 1.
    pub fn of_range(low: f32, high: f32) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = (high - low) / 255.0;
        if !(scale.is_finite() && scale >= SMALLEST_SCALE) {
            return Self {
                scale: 1.0,
                zero_point: 0,
            };
        }
        Self {
            scale,
            zero_point: (-low / scale).round_ties_even().clamp(0.0, 255.0) as u8,
        }
    }

    /// The level nearest to a value, as ONNX's QuantizeLinear finds it: ties to even, saturated.
    pub fn quantize(self, value: f32) -> u8 {
        let level = (value / self.scale).round_ties_even() + f32::from(self.zero_point);
        level.clamp(0.0, 255.0) as u8
    }

    /// The value of a level.
    pub fn dequantize(self, level: u8) -> f32 {
        (i32::from(level) - i32::from(self.zero_point)) as f32 * self.scale
    }

    /// The smallest and the largest value of the grid.
    pub fn ends(self) -> (f32, f32) {
        (self.dequantize(0), self.dequantize(255))
    }
}

/// The step of a symmetric weight grid whose largest weight in size is `largest_weight`; 1 when all of them are 0.
pub fn weight_scale(largest_weight: f32, bits: WeightBits) -> f32 {
    let scale = largest_weight / f32::from(bits.largest());
    if scale.is_finite() && scale >= SMALLEST_SCALE {
        scale
    } else {
        1.0
    }
}

/// A weight in steps of `scale`: ties to even, saturated.
pub fn quantize_weight(weight: f32, scale: f32, bits: WeightBits) -> i8 {
    let largest = f32::from(bits.largest());
    (weight / scale).round_ties_even().clamp(-largest, largest) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_inside_is_off_by_half_a_step_at_most_and_zero_is_exact() {
        for (low, high) in [
            (-1.0, 3.0),
            (0.0, 6.0),
            (-0.02, 0.01),
            (-5.0, -1.0),
            (2.0, 9.0),
        ] {
            let grid = Grid::of_range(low, high);
            assert_eq!(grid.dequantize(grid.quantize(0.0)), 0.0);
            let (first, last) = grid.ends();
            for step in 0..=1000 {
                let value = first + (last - first) * step as f32 / 1000.0;
                let rounded = grid.dequantize(grid.quantize(value));
                assert!(
                    (rounded - value).abs() <= grid.scale * 0.5001,
                    "{low} to {high}: {value} became {rounded}"
                );
            }
            assert!(first <= low.min(0.0) + grid.scale && last >= high.max(0.0) - grid.scale);
        }
    }

    #[test]
    fn values_outside_saturate_and_ties_go_to_even() {
        let grid = Grid {
            scale: 2.0,
            zero_point: 10,
        };
        for (value, level) in [
            (1.0, 10),
            (3.0, 12),
            (-1.0, 10),
            (-3.0, 8),
            (1e9, 255),
            (-1e9, 0),
        ] {
            assert_eq!(grid.quantize(value), level, "{value}");
        }
    }

    #[test]
    fn ranges_without_width_still_give_a_grid() {
        for (low, high) in [(0.0, 0.0), (f32::NAN, f32::NAN), (0.0, f32::INFINITY)] {
            let grid = Grid::of_range(low, high);
            assert_eq!((grid.scale, grid.zero_point), (1.0, 0), "{low} {high}");
        }
        assert_eq!(weight_scale(0.0, WeightBits::Eight), 1.0);
    }

    #[test]
    fn the_largest_weight_is_the_last_level() {
        for bits in [WeightBits::Seven, WeightBits::Eight] {
            let scale = weight_scale(0.37, bits);
            assert_eq!(quantize_weight(0.37, scale, bits), bits.largest());
            assert_eq!(quantize_weight(-0.37, scale, bits), -bits.largest());
        }
    }
}
