//! Landmark schemes: how many points there are, which of them mirror each other, how they join to contours and which
//! of them make the normaliser of the error.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "a region is a list of ranges, often of one"
)]

mod mean_shape;

use crate::geometry::Point;
use serde::{Deserialize, Serialize};
use std::{fmt, ops::Range, str::FromStr};

/// A landmark layout. "Left" and "right" are as seen in the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// 68 points of iBUG 300-W / Multi-PIE.
    Ibug68,
    /// 58 points of the IMM face database; point 52 is the middle of the nose BASE.
    Imm58,
    /// 73 points of the IMM frontal face database.
    ImmFrontal73,
    /// Eye centres, nose tip and mouth corners (MTFL).
    Mtfl5,
    /// The nose tip alone.
    Nose1,
}

/// A named group of landmarks (`jaw`, `brows`, ...), as index ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// The region's name in reports.
    pub name: &'static str,
    /// Index ranges that belong to it.
    pub ranges: &'static [Range<usize>],
}

/// A poly-line through consecutive landmarks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contour {
    /// First and last index, both included.
    pub first: usize,
    /// Last index.
    pub last: usize,
    /// Whether the last point joins the first.
    pub closed: bool,
}

const fn line(first: usize, last: usize) -> Contour {
    Contour {
        first,
        last,
        closed: false,
    }
}

const fn ring(first: usize, last: usize) -> Contour {
    Contour {
        first,
        last,
        closed: true,
    }
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 5] = [
        Self::Ibug68,
        Self::Imm58,
        Self::ImmFrontal73,
        Self::Mtfl5,
        Self::Nose1,
    ];

    /// The scheme's name in files and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ibug68 => "ibug68",
            Self::Imm58 => "imm58",
            Self::ImmFrontal73 => "imm_frontal73",
            Self::Mtfl5 => "mtfl5",
            Self::Nose1 => "nose1",
        }
    }

    /// Index of the landmark on the tip of the nose; `None` where there is none (imm58 has the middle of the nose's base).
    pub const fn nose_tip(self) -> Option<usize> {
        match self {
            Self::Ibug68 => Some(30),
            Self::Mtfl5 => Some(2),
            Self::Nose1 => Some(0),
            Self::Imm58 | Self::ImmFrontal73 => None,
        }
    }

    /// Number of landmarks.
    pub const fn landmark_count(self) -> usize {
        match self {
            Self::Ibug68 => 68,
            Self::Imm58 => 58,
            Self::ImmFrontal73 => 73,
            Self::Mtfl5 => 5,
            Self::Nose1 => 1,
        }
    }

    /// `mirrored[i] = points[permutation[i]]` after x has been mirrored.
    pub fn mirror_permutation(self) -> Vec<usize> {
        match self {
            Self::Ibug68 => ibug68_mirror(),
            Self::Imm58 => imm58_mirror(),
            Self::ImmFrontal73 => imm_frontal73_mirror(),
            Self::Mtfl5 => vec![1, 0, 2, 4, 3],
            Self::Nose1 => vec![0],
        }
    }

    /// Indices of the two points whose distance normalises the error, and the normaliser's name; `None` for a scheme
    /// without eyes (normalise by the box then).
    pub const fn inter_ocular(self) -> Option<(usize, usize, &'static str)> {
        match self {
            Self::Ibug68 => Some((36, 45, "outer eye corners")),
            Self::Imm58 => Some((21, 13, "outer eye corners")),
            Self::ImmFrontal73 => Some((16, 24, "outer eye corners")),
            Self::Mtfl5 => Some((0, 1, "eye centres")),
            Self::Nose1 => None,
        }
    }

    /// Distance between the normalising points, in the pixels of `points`.
    pub fn inter_ocular_distance(self, points: &[Point]) -> Option<f32> {
        let (left, right, _) = self.inter_ocular()?;
        Some(points.get(left)?.distance(*points.get(right)?))
    }

    /// Landmark groups for error tables.
    pub const fn regions(self) -> &'static [Region] {
        match self {
            Self::Ibug68 => {
                const REGIONS: [Region; 5] = [
                    Region {
                        name: "jaw",
                        ranges: &[0..17],
                    },
                    Region {
                        name: "brows",
                        ranges: &[17..27],
                    },
                    Region {
                        name: "nose",
                        ranges: &[27..36],
                    },
                    Region {
                        name: "eyes",
                        ranges: &[36..48],
                    },
                    Region {
                        name: "mouth",
                        ranges: &[48..68],
                    },
                ];
                &REGIONS
            }
            Self::Imm58 => {
                const REGIONS: [Region; 5] = [
                    Region {
                        name: "jaw",
                        ranges: &[0..13],
                    },
                    Region {
                        name: "brows",
                        ranges: &[29..39],
                    },
                    Region {
                        name: "nose",
                        ranges: &[47..58],
                    },
                    Region {
                        name: "eyes",
                        ranges: &[13..29],
                    },
                    Region {
                        name: "mouth",
                        ranges: &[39..47],
                    },
                ];
                &REGIONS
            }
            Self::ImmFrontal73 => {
                const REGIONS: [Region; 5] = [
                    Region {
                        name: "jaw",
                        ranges: &[62..73],
                    },
                    Region {
                        name: "brows",
                        ranges: &[0..16],
                    },
                    Region {
                        name: "nose",
                        ranges: &[34..46],
                    },
                    Region {
                        name: "eyes",
                        ranges: &[16..34],
                    },
                    Region {
                        name: "mouth",
                        ranges: &[46..62],
                    },
                ];
                &REGIONS
            }
            Self::Mtfl5 => {
                const REGIONS: [Region; 3] = [
                    Region {
                        name: "eyes",
                        ranges: &[0..2],
                    },
                    Region {
                        name: "nose",
                        ranges: &[2..3],
                    },
                    Region {
                        name: "mouth",
                        ranges: &[3..5],
                    },
                ];
                &REGIONS
            }
            Self::Nose1 => {
                const REGIONS: [Region; 1] = [Region {
                    name: "nose",
                    ranges: &[0..1],
                }];
                &REGIONS
            }
        }
    }

    /// Lines to draw between landmarks; empty where the data set documents none.
    pub const fn contours(self) -> &'static [Contour] {
        match self {
            Self::Ibug68 => {
                const CONTOURS: [Contour; 9] = [
                    line(0, 16),
                    line(17, 21),
                    line(22, 26),
                    line(27, 30),
                    line(31, 35),
                    ring(36, 41),
                    ring(42, 47),
                    ring(48, 59),
                    ring(60, 67),
                ];
                &CONTOURS
            }
            Self::Imm58 => {
                const CONTOURS: [Contour; 7] = [
                    line(0, 12),
                    ring(13, 20),
                    ring(21, 28),
                    line(29, 33),
                    line(34, 38),
                    ring(39, 46),
                    line(47, 57),
                ];
                &CONTOURS
            }
            Self::ImmFrontal73 => {
                const CONTOURS: [Contour; 9] = [
                    ring(0, 7),
                    ring(8, 15),
                    ring(16, 23),
                    ring(24, 31),
                    line(34, 44),
                    ring(46, 55),
                    line(56, 58),
                    line(59, 61),
                    line(62, 72),
                ];
                &CONTOURS
            }
            Self::Mtfl5 | Self::Nose1 => &[],
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The name is none of [`Scheme::ALL`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown landmark scheme {found:?}; expected one of ibug68, imm58, imm_frontal73, mtfl5, nose1"
)]
pub struct UnknownScheme {
    /// What was given.
    pub found: String,
}

impl FromStr for Scheme {
    type Err = UnknownScheme;

    fn from_str(name: &str) -> Result<Self, UnknownScheme> {
        Self::ALL
            .into_iter()
            .find(|scheme| scheme.name() == name)
            .ok_or_else(|| UnknownScheme {
                found: name.to_owned(),
            })
    }
}

fn swap_pairs(count: usize, pairs: &[(usize, usize)]) -> Vec<usize> {
    let mut permutation: Vec<usize> = (0..count).collect();
    for &(left, right) in pairs {
        permutation.swap(left, right);
    }
    permutation
}

fn ibug68_mirror() -> Vec<usize> {
    let mut pairs: Vec<(usize, usize)> = (0..8)
        .map(|i| (i, 16 - i))
        .chain((17..22).map(|i| (i, 43 - i)))
        .collect();
    pairs.extend([
        (31, 35),
        (32, 34),
        (36, 45),
        (37, 44),
        (38, 43),
        (39, 42),
        (40, 47),
        (41, 46),
    ]);
    pairs.extend([
        (48, 54),
        (49, 53),
        (50, 52),
        (55, 59),
        (56, 58),
        (60, 64),
        (61, 63),
        (65, 67),
    ]);
    swap_pairs(68, &pairs)
}

/// Each landmark's mirror is the nearest landmark of the mirrored mean shape of the 32 public pictures.
fn imm58_mirror() -> Vec<usize> {
    let mut pairs: Vec<(usize, usize)> = (0..6).map(|i| (i, 12 - i)).collect();
    // Both eyes run from the outer corner, both brows from the inner end; mouth and nose run from left to right.
    pairs.extend((13..21).map(|i| (i, i + 8)));
    pairs.extend((29..34).map(|i| (i, i + 5)));
    pairs.extend([(39, 43), (40, 42), (44, 46)]);
    pairs.extend((47..52).map(|i| (i, 104 - i)));
    swap_pairs(58, &pairs)
}

/// Each landmark's mirror is the nearest landmark of the mirrored mean shape of the 100 public pictures.
fn imm_frontal73_mirror() -> Vec<usize> {
    let mut pairs = vec![(0, 8), (16, 24), (32, 33)];
    pairs.extend((1..8).map(|i| (i, 16 - i)));
    pairs.extend((17..24).map(|i| (i, 48 - i)));
    pairs.extend((34..39).map(|i| (i, 78 - i)));
    pairs.extend([(46, 52), (47, 51), (48, 50), (53, 55), (56, 58), (59, 61)]);
    pairs.extend((62..67).map(|i| (i, 134 - i)));
    swap_pairs(73, &pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirroring_twice_changes_nothing() {
        for scheme in Scheme::ALL {
            let permutation = scheme.mirror_permutation();
            assert_eq!(permutation.len(), scheme.landmark_count(), "{scheme}");
            for (index, &mirrored) in permutation.iter().enumerate() {
                assert_eq!(permutation[mirrored], index, "{scheme} point {index}");
            }
        }
    }

    #[test]
    fn regions_cover_every_landmark_once() {
        for scheme in Scheme::ALL {
            let mut seen = vec![0; scheme.landmark_count()];
            for range in scheme.regions().iter().flat_map(|region| region.ranges) {
                range.clone().for_each(|index| seen[index] += 1);
            }
            assert!(seen.iter().all(|&count| count == 1), "{scheme}: {seen:?}");
        }
    }

    #[test]
    fn names_round_trip() {
        for scheme in Scheme::ALL {
            assert_eq!(scheme.name().parse(), Ok(scheme));
        }
        assert!("ibug86".parse::<Scheme>().is_err());
    }
}
