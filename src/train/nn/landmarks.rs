//! Networks that find the landmarks of the face in a crop.

use super::{Kernel, Layers};
use crate::train::graph::GraphError;

pub(super) fn base(net: &mut Layers, landmark_count: usize) -> Result<(), GraphError> {
    let x = net.conv_bn_relu("stem", "image", 16, Kernel::new(3, 2))?; // 56
    let x = net.conv_bn_relu("stage1.reduce", &x, 32, Kernel::new(3, 2))?; // 28
    let x = net.residual("stage1.0", &x)?;
    let x = net.inverted_residual("stage2.0", &x, 3, 48, Kernel::new(3, 2))?; // 14
    let x = net.inverted_residual("stage2.1", &x, 3, 48, Kernel::new(3, 1))?;
    let x = net.inverted_residual("stage2.2", &x, 3, 48, Kernel::new(3, 1))?;
    let x = net.inverted_residual("stage3.0", &x, 3, 96, Kernel::new(3, 2))?; // 7
    let x = net.inverted_residual("stage3.1", &x, 3, 96, Kernel::new(3, 1))?;
    let x = net.inverted_residual("stage3.2", &x, 3, 96, Kernel::new(3, 1))?;
    landmark_head(net, &x, 32, landmark_count)
}

pub(super) fn tiny(net: &mut Layers, landmark_count: usize) -> Result<(), GraphError> {
    let x = net.conv_bn_relu("stem", "image", 8, Kernel::new(3, 2))?;
    let x = net.inverted_residual("stage1", &x, 2, 16, Kernel::new(3, 2))?;
    let x = net.inverted_residual("stage2", &x, 2, 32, Kernel::new(3, 2))?;
    landmark_head(net, &x, 8, landmark_count)
}

/// Where each landmark is: the map is squeezed to few channels but keeps its places, then one fully connected layer.
/// Whether there is a face: a fully connected layer on the mean of the map.
fn landmark_head(
    net: &mut Layers,
    x: &str,
    squeezed: usize,
    landmark_count: usize,
) -> Result<(), GraphError> {
    let places = net.conv_bn_relu("landmarks.squeeze", x, squeezed, Kernel::new(1, 1))?;
    let landmarks = net.fully_connected("landmarks", &places, 2 * landmark_count)?;
    let mean = net.graph.apply("GlobalAveragePool", &[x], &[])?;
    let presence = net.fully_connected("presence", &mean, 1)?;
    net.output(&landmarks, "landmarks")?;
    net.output(&presence, "presence")
}
