//! ResNet18 (He et al. 2016, table 1) with as many outputs as there are coordinates.

use super::{Kernel, Layers, max_pool};
use crate::train::graph::GraphError;

/// Channels of the four stages; each has two blocks.
const WIDTHS: [usize; 4] = [64, 128, 256, 512];

pub(super) fn resnet18(net: &mut Layers, landmark_count: usize) -> Result<(), GraphError> {
    let x = net.conv_bn_relu("stem", "image", WIDTHS[0], Kernel::new(7, 2))?;
    let mut x = max_pool(net, &x, 3, 2)?;
    for (stage, width) in WIDTHS.into_iter().enumerate() {
        for block in 0..2 {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = basic_block(net, &format!("stage{stage}.{block}"), &x, width, stride)?;
        }
    }
    let mean = net.graph.apply("GlobalAveragePool", &[&x], &[])?;
    let landmarks = net.fully_connected("landmarks", &mean, 2 * landmark_count)?;
    net.output(&landmarks, "landmarks")
}

/// Two 3x3 convolutions beside a short cut, which is a pointwise convolution where the size changes.
fn basic_block(
    net: &mut Layers,
    name: &str,
    x: &str,
    width: usize,
    stride: usize,
) -> Result<String, GraphError> {
    let branch = net.conv_bn_relu(&format!("{name}.a"), x, width, Kernel::new(3, stride))?;
    let branch = net.conv_bn(&format!("{name}.b"), &branch, width, Kernel::new(3, 1))?;
    let short = if net.graph.shape(x)[1] == width && stride == 1 {
        x.to_owned()
    } else {
        net.conv_bn(&format!("{name}.short"), x, width, Kernel::new(1, stride))?
    };
    let sum = net.graph.apply("Add", &[&short, &branch], &[])?;
    net.graph.apply("Relu", &[&sum], &[])
}
