//! Random changes to crops and labels.

use serde::{Deserialize, Serialize};

/// Strengths of the augmentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Standard deviation of the box shift, in sides of the box.
    pub shift_sigma: f32,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self { shift_sigma: 0.05 }
    }
}
