//! Networks that find faces: anchor-free heads at several strides, joined top-down.

use super::{Architecture, Kernel, Layers};
use crate::train::graph::GraphError;

pub(super) fn detector(
    net: &mut Layers,
    architecture: Architecture,
    strides: &[usize],
) -> Result<(), GraphError> {
    let widths: &[usize] = if architecture == Architecture::FaceDetector {
        &[48, 64, 96]
    } else {
        &[16, 24]
    };
    let stem = if architecture == Architecture::FaceDetector {
        16
    } else {
        8
    };
    let x = net.conv_bn_relu("stem", "image", stem, Kernel::new(3, 2))?;
    let mut x = net.separable("stage1", &x, 2 * stem, Kernel::new(3, 2))?; // stride 4
    let mut levels = Vec::new();
    for (level, &width) in widths.iter().enumerate() {
        x = net.inverted_residual(
            &format!("stage{}.0", level + 2),
            &x,
            3,
            width,
            Kernel::new(3, 2),
        )?;
        x = net.inverted_residual(
            &format!("stage{}.1", level + 2),
            &x,
            3,
            width,
            Kernel::new(3, 1),
        )?;
        levels.push(x.clone());
    }
    // What the coarse level sees flows down to the finer ones.
    for level in (0..levels.len() - 1).rev() {
        let lateral = net.conv_bn(
            &format!("down{level}"),
            &levels[level + 1],
            widths[level],
            Kernel::new(1, 1),
        )?;
        let upsampled = net.upsample_twice(&lateral)?;
        let joined = net.graph.apply("Add", &[&levels[level], &upsampled], &[])?;
        levels[level] = net.graph.apply("Relu", &[&joined], &[])?;
    }
    let head_width = widths[0];
    for (level, &stride) in levels.iter().zip(strides) {
        let shared = net.separable(
            &format!("head{stride}"),
            level,
            head_width,
            Kernel::new(3, 1),
        )?;
        // A prior of 1 % keeps the many empty cells from drowning the first steps (Lin et al. 2017, section 4.1).
        let score = net.conv_bias(&format!("score_{stride}"), &shared, 1, -(99f32.ln()))?;
        let boxes = net.conv_bias(&format!("box_{stride}"), &shared, 4, 0.0)?;
        net.output(&score, &format!("score_{stride}"))?;
        net.output(&boxes, &format!("box_{stride}"))?;
    }
    Ok(())
}
