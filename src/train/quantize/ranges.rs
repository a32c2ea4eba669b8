//! What span of numbers the bytes of each activation stand for.

use super::{QuantizeError, grid::Grid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The span of an activation's values. It always holds 0, which padding and the zero point need.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Record", into = "Record")]
pub struct Range {
    min: f32,
    max: f32,
}

/// A range as it is stored: scale and zero point follow from the ends and are there for readers.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    min: f32,
    max: f32,
    scale: f32,
    zero_point: u8,
}

impl Range {
    /// The range from `min` to `max`, stretched to hold 0.
    ///
    /// # Errors
    /// An end is not finite, or they are in the wrong order.
    pub fn new(min: f32, max: f32) -> Result<Self, QuantizeError> {
        let usable = min.is_finite() && max.is_finite() && (max - min).is_finite() && min <= max;
        if !usable {
            return Err(QuantizeError::BadRange { min, max });
        }
        Ok(Self {
            // Adding 0 turns a negative zero into a positive one.
            min: min.min(0.0) + 0.0,
            max: max.max(0.0) + 0.0,
        })
    }

    /// The least value; at most 0.
    pub fn min(&self) -> f32 {
        self.min
    }

    /// The greatest value; at least 0.
    pub fn max(&self) -> f32 {
        self.max
    }

    /// The smallest range that holds both.
    pub fn union(&self, other: &Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    /// The range with its ends moved to `low` and `high` where they lie beyond; 0 stays inside.
    pub fn clamped(&self, low: f32, high: f32) -> Self {
        Self {
            min: self.min.max(low).min(0.0) + 0.0,
            max: self.max.min(high).max(0.0) + 0.0,
        }
    }

    /// The grid of bytes from end to end.
    pub fn grid(&self) -> Grid {
        Grid::of_range(self.min, self.max)
    }
}

impl TryFrom<Record> for Range {
    type Error = QuantizeError;

    fn try_from(record: Record) -> Result<Self, QuantizeError> {
        let range = Self::new(record.min, record.max)?;
        let expected = range.grid();
        if (record.scale, record.zero_point) != (expected.scale, expected.zero_point) {
            return Err(QuantizeError::InconsistentRange {
                min: record.min,
                max: record.max,
                expected: format!("{}, {}", expected.scale, expected.zero_point),
                found: format!("{}, {}", record.scale, record.zero_point),
            });
        }
        Ok(range)
    }
}

impl From<Range> for Record {
    fn from(range: Range) -> Self {
        let Grid { scale, zero_point } = range.grid();
        Self {
            min: range.min,
            max: range.max,
            scale,
            zero_point,
        }
    }
}

/// All that a quantisation takes from pictures: with the float model and the options it fixes the quantised model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranges {
    /// The range of each value that [`points`](super::points) finds, by the name it has in the float graph with batch
    /// normalisation folded and channels equalised.
    pub values: BTreeMap<String, Range>,
    /// What each channel of a value is divided by before it is quantised, and multiplied by where it is read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub equalization: BTreeMap<String, Vec<f32>>,
    /// What is added to the bias of each output channel of a Conv or Gemm before it is quantised, by the name of that
    /// node's output in the float graph.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bias_corrections: BTreeMap<String, Vec<f32>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_exact_and_the_error_at_most_half_a_step() {
        for (min, max) in [
            (-1.0, 1.0),
            (0.0, 6.0),
            (-3.7, 0.0),
            (-0.001, 12.5),
            (-9.0, 0.02),
            (-1.0, 0.992_187_5),
            (2.0, 3.0),
            (-5.0, -4.0),
            (0.0, 1e-9),
            (-1e20, 1e18),
        ] {
            let range = Range::new(min, max).unwrap();
            let grid = range.grid();
            assert_eq!(grid.quantize(0.0), grid.zero_point);
            assert_eq!(grid.dequantize(grid.zero_point), 0.0);
            assert!(grid.scale > 0.0);
            for step in 0..=1000 {
                let value = range.min() + (range.max() - range.min()) * step as f32 / 1000.0;
                let back = grid.dequantize(grid.quantize(value));
                // The ends may lie half a step beyond the first or last byte, since 0 must be on a byte.
                let error = (back - value).abs();
                assert!(error <= grid.scale * 0.5001, "{min} {max} {value}: {error}");
            }
        }
    }

    #[test]
    fn the_usual_normalisation_makes_bytes_their_own_quantisation() {
        let range = Range::new(-1.0, 127.0 / 128.0).unwrap();
        let expected = Grid {
            scale: 1.0 / 128.0,
            zero_point: 128,
        };
        assert_eq!(range.grid(), expected);
    }

    #[test]
    fn after_a_relu_the_zero_point_is_zero() {
        let range = Range::new(-2.0, 3.0).unwrap().clamped(0.0, f32::INFINITY);
        assert_eq!((range.min(), range.grid().zero_point), (0.0, 0));
        let empty = Range::new(-2.0, -1.0).unwrap().clamped(0.0, 6.0);
        assert_eq!(empty.grid().scale, 1.0);
    }

    #[test]
    fn ranges_survive_a_file_bit_for_bit() {
        let mut ranges = Ranges::default();
        let mut bits = 0x3a83_126fu32;
        for index in 0..2000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let max = f32::from_bits(0x3000_0000 + bits % 0x1800_0000);
            let range = Range::new(-max * (index % 3) as f32 * 0.7, max).unwrap();
            ranges.values.insert(format!("v{index}"), range);
            ranges
                .bias_corrections
                .insert(format!("v{index}"), vec![max, -max / 3.0]);
        }
        let text = serde_json::to_string_pretty(&ranges).unwrap();
        assert_eq!(serde_json::from_str::<Ranges>(&text).unwrap(), ranges);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for (min, max) in [
            (1.0, -1.0),
            (f32::NAN, 1.0),
            (0.0, f32::INFINITY),
            (-f32::MAX, f32::MAX),
        ] {
            assert!(Range::new(min, max).is_err(), "{min} {max}");
        }
        let tampered = r#"{"min":0.0,"max":2.55,"scale":0.02,"zero_point":0}"#;
        let error = serde_json::from_str::<Range>(tampered).unwrap_err();
        assert!(error.to_string().contains("0.01"), "{error}");
    }
}
