//! The plain networks of the course's first two parts: convolutions with ReLU and max pool. They see grey pictures as a
//! whole. The course had no normalisation layers; these have.

use super::{Kernel, Layers};
use crate::train::graph::{Attribute, GraphError};

/// A convolution with ReLU, and max pool after it.
struct Block {
    kernel: Kernel,
    width: usize,
    /// Stride of the pool, if there is one; 1 keeps the size.
    pool: Option<usize>,
}

impl Block {
    const fn new(kernel: Kernel, width: usize) -> Self {
        Self {
            kernel,
            width,
            pool: Some(2),
        }
    }
}

/// Four convolutions for the nose tip, which is the mean of a heat map of a quarter of the picture's size: from a map that
/// fully connected layers can afford they could not tell well where in the picture the nose is.
pub(super) fn nose(net: &mut Layers, landmark_count: usize) -> Result<(), GraphError> {
    let blocks = [
        // A stride of 2 instead of a pool: the whole picture's size is where the time would go.
        Block {
            pool: None,
            ..Block::new(Kernel::new(5, 2), 32)
        },
        Block::new(Kernel::new(3, 1), 48),
        Block {
            pool: None,
            ..Block::new(Kernel::new(5, 1), 48)
        },
        Block {
            pool: None,
            ..Block::new(Kernel::new(5, 1), 64)
        },
    ];
    let places = convolutions(net, &blocks)?;
    let landmarks = net.integral("landmarks", &places, landmark_count)?;
    net.output(&landmarks, "landmarks")
}

/// Five convolutions up to 128 channels, and two fully connected layers, for all points of a face. The last convolution has a
/// heat map for each point, whose mean is a first guess (spatial soft arg max, Finn et al. 2016); the fully connected layers see
/// all guesses and add what is wrong with them. Layers that see the maps themselves cannot tell well where in the picture a face
/// is: 6.5 % on their own training pictures.
pub(super) fn full_face(net: &mut Layers, landmark_count: usize) -> Result<(), GraphError> {
    let blocks = [
        // With a stride of 2 a 7x7 kernel costs no more than a 3x3 one without, and shows more as a picture.
        Block::new(Kernel::new(7, 2), 16),
        Block::new(Kernel::new(3, 1), 32),
        Block {
            pool: Some(1),
            ..Block::new(Kernel::new(3, 1), 64)
        },
        Block {
            pool: Some(1),
            ..Block::new(Kernel::new(3, 1), 128)
        },
    ];
    let x = convolutions(net, &blocks)?;
    let maps = net.heat_maps("conv5", &x, landmark_count, Kernel::new(3, 1))?;
    let maps = max_pool(net, &maps, 3, 1)?;
    let guesses = net.expected_places(&maps)?;
    let hidden = net.fully_connected_bn("hidden", &guesses, 192)?;
    let hidden = net.graph.apply("Relu", &[&hidden], &[])?;
    let corrections = net.correction("landmarks", &hidden, 2 * landmark_count)?;
    let landmarks = net.graph.apply("Add", &[&guesses, &corrections], &[])?;
    net.output(&landmarks, "landmarks")
}

fn convolutions(net: &mut Layers, blocks: &[Block]) -> Result<String, GraphError> {
    let mut x = "image".to_owned();
    for (index, block) in blocks.iter().enumerate() {
        let name = format!("conv{}", index + 1);
        x = net.conv_bn_relu(&name, &x, block.width, block.kernel)?;
        if let Some(stride) = block.pool {
            let window = if stride == 1 { 3 } else { stride };
            x = max_pool(net, &x, window, stride)?;
        }
    }
    Ok(x)
}

/// The maximum of each `size` x `size` window; windows of an odd size are padded by `size / 2`.
pub(super) fn max_pool(
    net: &mut Layers,
    x: &str,
    size: usize,
    stride: usize,
) -> Result<String, GraphError> {
    let padding = if size % 2 == 1 { size / 2 } else { 0 };
    let attributes = [
        ("kernel_shape", Attribute::Ints(vec![size as i64; 2])),
        ("strides", Attribute::Ints(vec![stride as i64; 2])),
        ("pads", Attribute::Ints(vec![padding as i64; 4])),
    ];
    net.graph.apply("MaxPool", &[x], &attributes)
}
