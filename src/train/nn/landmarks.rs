//! Networks that find the landmarks of the face in a crop.

use super::{Kernel, Layers};
use crate::train::graph::GraphError;

/// Channels of the map from which the landmarks are read.
const PLACES: usize = 64;

/// Dense 3x3 convolutions while the maps are large and channels few, inverted residuals after; landmarks by the
/// mean of a heat map each, of an eighth of the crop's size.
pub(super) fn by_heat_map(net: &mut Layers, landmark_count: usize) -> Result<(), GraphError> {
    let maps = backbone(net)?;
    // What the whole face looks like comes down to where its parts are.
    let whole = net.conv_bn("places.whole", &maps.coarse, PLACES, Kernel::new(1, 1))?;
    let whole = net.upsample_twice(&whole)?;
    let parts = net.conv_bn("places.parts", &maps.fine, PLACES, Kernel::new(1, 1))?;
    let places = net.graph.apply("Add", &[&parts, &whole], &[])?;
    let places = net.graph.apply("Relu", &[&places], &[])?;
    let places = net.inverted_residual("places", &places, 2, PLACES, Kernel::new(3, 1))?;
    let landmarks = net.integral("landmarks", &places, landmark_count)?;
    net.output(&landmarks, "landmarks")?;
    presence(net, &maps)?;
    let mean = net.graph.apply("GlobalAveragePool", &[&maps.coarse], &[])?;
    let uncertainty = net.fully_connected("uncertainty", &mean, landmark_count)?;
    net.output(&uncertainty, "uncertainty")
}

/// The same network with one fully connected layer for the landmarks: what heat maps are compared with.
pub(super) fn by_regression(net: &mut Layers, landmark_count: usize) -> Result<(), GraphError> {
    let maps = backbone(net)?;
    landmark_head(net, &maps.coarse, 32, landmark_count)
}

/// Whether there is a face, from layers of its own beside those that place landmarks: what tells a face from what looks like
/// one is not what tells where its parts are, and the landmarks can be left as they are when it learns on.
fn presence(net: &mut Layers, maps: &Maps) -> Result<(), GraphError> {
    let texture = net.conv_bn("presence.early", &maps.early, 24, Kernel::new(3, 2))?;
    let parts = net.conv_bn("presence.fine", &maps.fine, 24, Kernel::new(1, 1))?;
    let parts = net.graph.apply("Add", &[&texture, &parts], &[])?;
    let parts = net.graph.apply("Relu", &[&parts], &[])?;
    let parts = net.conv_bn("presence.parts", &parts, 48, Kernel::new(3, 2))?;
    let whole = net.conv_bn("presence.coarse", &maps.coarse, 48, Kernel::new(1, 1))?;
    let face = net.graph.apply("Add", &[&parts, &whole], &[])?;
    let face = net.graph.apply("Relu", &[&face], &[])?;
    let face = net.inverted_residual("presence.face", &face, 2, 48, Kernel::new(3, 1))?;
    let face = net.graph.apply("Relu", &[&face], &[])?;
    let mean = net.graph.apply("GlobalAveragePool", &[&face], &[])?;
    let presence = net.fully_connected("presence", &mean, 1)?;
    net.output(&presence, "presence")
}

/// Maps of a crop, each with what its name says of a face.
struct Maps {
    /// A quarter of the crop's size.
    early: String,
    /// An eighth.
    fine: String,
    /// A sixteenth.
    coarse: String,
}

fn backbone(net: &mut Layers) -> Result<Maps, GraphError> {
    let x = net.conv_bn_relu("stem", "image", 16, Kernel::new(3, 2))?;
    let x = net.conv_bn_relu("stage1.reduce", &x, 32, Kernel::new(3, 2))?;
    let early = net.residual("stage1.0", &x)?;
    let fine = stage(net, "stage2", &early, 48)?;
    let coarse = stage(net, "stage3", &fine, 96)?;
    Ok(Maps {
        early,
        fine,
        coarse,
    })
}

/// Three inverted residuals; the first halves the map.
fn stage(net: &mut Layers, name: &str, x: &str, width: usize) -> Result<String, GraphError> {
    let mut x = x.to_owned();
    for block in 0..3 {
        let kernel = Kernel::new(3, if block == 0 { 2 } else { 1 });
        x = net.inverted_residual(&format!("{name}.{block}"), &x, 3, width, kernel)?;
    }
    Ok(x)
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
