//! Type rules of convolutions and the geometry that their gradients share.

use super::{Site, Types, with_shape};
use crate::train::graph::{GraphError, TensorType};

/// The attributes of a convolution over `spatial` axes, with the defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConvGeometry {
    pub(super) kernel: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) dilations: Vec<usize>,
    pub(super) pads_before: Vec<usize>,
    pub(super) pads_after: Vec<usize>,
    pub(super) groups: usize,
}

impl ConvGeometry {
    /// Reads the attributes; `kernel` is the spatial shape of the weight.
    pub(super) fn of(site: &Site, kernel: &[usize]) -> Result<Self, GraphError> {
        let spatial = kernel.len();
        if let Some(auto_pad) = site.node.text("auto_pad").filter(|&mode| mode != "NOTSET") {
            return Err(site.bad("auto_pad", "NOTSET with explicit pads", auto_pad));
        }
        let sizes = |name: &str, default: usize, count: usize| match site.node.ints(name) {
            None => Ok(vec![default; count]),
            Some(values) => values
                .iter()
                .map(|&value| usize::try_from(value).ok())
                .collect::<Option<Vec<_>>>()
                .filter(|values| values.len() == count && values.iter().all(|&v| v >= default))
                .ok_or_else(|| {
                    site.bad(
                        name,
                        format!("{count} numbers from {default} up"),
                        format!("{values:?}"),
                    )
                }),
        };
        let declared = sizes("kernel_shape", 1, spatial)?;
        if site.node.attributes.contains_key("kernel_shape") && declared != kernel {
            return Err(site.bad(
                "kernel_shape",
                format!("{kernel:?}, as the weight"),
                format!("{declared:?}"),
            ));
        }
        let pads = sizes("pads", 0, 2 * spatial)?;
        Ok(Self {
            kernel: kernel.to_vec(),
            strides: sizes("strides", 1, spatial)?,
            dilations: sizes("dilations", 1, spatial)?,
            pads_before: pads[..spatial].to_vec(),
            pads_after: pads[spatial..].to_vec(),
            groups: usize::try_from(site.int("group", 1))
                .ok()
                .filter(|&groups| groups > 0)
                .ok_or_else(|| site.bad("group", "at least 1", site.int("group", 1)))?,
        })
    }

    /// Extent of the dilated kernel along an axis.
    pub(super) fn extent(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilations[axis] + 1
    }

    /// Size of the padded input along an axis.
    pub(super) fn padded(&self, axis: usize, size: usize) -> usize {
        size + self.pads_before[axis] + self.pads_after[axis]
    }

    /// Spatial shape of the output of a convolution (rounded down) or pooling.
    pub(super) fn output(
        &self,
        site: &Site,
        input: &[usize],
        round_up: bool,
    ) -> Result<Vec<usize>, GraphError> {
        (0..input.len())
            .map(|axis| {
                let stride = self.strides[axis];
                let room = self
                    .padded(axis, input[axis])
                    .checked_sub(self.extent(axis))
                    .ok_or_else(|| {
                        site.bad(
                            "input 0",
                            format!("at least {} padded on axis {axis}", self.extent(axis)),
                            format!("{input:?}"),
                        )
                    })?;
                if !round_up {
                    return Ok(room / stride + 1);
                }
                let steps = room.div_ceil(stride);
                // A window that would begin in the padding behind the input is left out.
                let begins_inside = steps * stride < input[axis] + self.pads_before[axis];
                Ok(if begins_inside { steps + 1 } else { steps })
            })
            .collect()
    }

    /// Whether this is a 1x1 convolution that changes nothing but channels.
    pub(super) fn is_pointwise(&self) -> bool {
        let ones = |sizes: &[usize]| sizes.iter().all(|&size| size == 1);
        let zeros = |sizes: &[usize]| sizes.iter().all(|&size| size == 0);
        ones(&self.kernel)
            && ones(&self.strides)
            && zeros(&self.pads_before)
            && zeros(&self.pads_after)
            && self.groups == 1
    }
}

/// Conv: x `[N, C, spatial..]`, w `[M, C / groups, kernel..]`, b `[M]` to `[N, M, spatial..]`.
pub(super) fn conv(site: &Site) -> Types {
    let (x, w) = (site.float_input(0)?, site.like_first(1)?);
    let shape = convolved(site, x, w)?;
    check_bias(site, w.shape[0])?;
    Ok(vec![with_shape(x, shape)])
}

/// The shape of the convolution of `x` with `w`.
pub(super) fn convolved(
    site: &Site,
    x: &TensorType,
    w: &TensorType,
) -> Result<Vec<usize>, GraphError> {
    if x.rank() < 3 || w.rank() != x.rank() {
        return Err(site.bad(
            "input and weight",
            "equal ranks of at least 3",
            format!("{x}, {w}"),
        ));
    }
    let geometry = ConvGeometry::of(site, &w.shape[2..])?;
    let (channels, filters) = (x.shape[1], w.shape[0]);
    if w.shape[1] * geometry.groups != channels || filters % geometry.groups != 0 {
        return Err(site.bad(
            "weight",
            format!("one for {channels} channels in {} groups", geometry.groups),
            w,
        ));
    }
    let mut shape = vec![x.shape[0], filters];
    shape.extend(geometry.output(site, &x.shape[2..], false)?);
    Ok(shape)
}

/// ConvTranspose: x `[N, C, spatial..]`, w `[C, M / groups, kernel..]`, b `[M]` to `[N, M, spatial..]`.
pub(super) fn conv_transpose(site: &Site) -> Types {
    let (x, w) = (site.float_input(0)?, site.like_first(1)?);
    if x.rank() < 3 || w.rank() != x.rank() {
        return Err(site.bad(
            "inputs 0 and 1",
            "equal ranks of at least 3",
            format!("{x}, {w}"),
        ));
    }
    if let Some(shape) = site.node.ints("output_shape") {
        return Err(site.bad("output_shape", "pads instead", format!("{shape:?}")));
    }
    let geometry = ConvGeometry::of(site, &w.shape[2..])?;
    if w.shape[0] != x.shape[1] || !x.shape[1].is_multiple_of(geometry.groups) {
        return Err(site.bad(
            "input 1",
            format!(
                "a weight for {} channels in {} groups",
                x.shape[1], geometry.groups
            ),
            w,
        ));
    }
    let filters = w.shape[1] * geometry.groups;
    check_bias(site, filters)?;
    let extra = output_padding(site, &geometry)?;
    let mut shape = vec![x.shape[0], filters];
    for (axis, extra) in extra.into_iter().enumerate() {
        let full = geometry.strides[axis] * x.shape[2 + axis].saturating_sub(1)
            + geometry.extent(axis)
            + extra;
        let pads = geometry.pads_before[axis] + geometry.pads_after[axis];
        let size = full.checked_sub(pads).ok_or_else(|| {
            site.bad(
                "pads",
                format!("at most {full} in all on axis {axis}"),
                pads,
            )
        })?;
        shape.push(size);
    }
    Ok(vec![with_shape(x, shape)])
}

/// The `output_padding` of a ConvTranspose, zeros when there is none. It stays below the stride, so that a convolution
/// with the same attributes gives back the input's shape.
fn output_padding(site: &Site, geometry: &ConvGeometry) -> Result<Vec<usize>, GraphError> {
    let axes = geometry.kernel.len();
    let Some(values) = site.node.ints("output_padding") else {
        return Ok(vec![0; axes]);
    };
    values
        .iter()
        .map(|&value| usize::try_from(value).ok())
        .collect::<Option<Vec<_>>>()
        .filter(|sizes| {
            sizes.len() == axes && sizes.iter().zip(&geometry.strides).all(|(a, b)| a < b)
        })
        .ok_or_else(|| {
            site.bad(
                "output_padding",
                format!("below the strides {:?}", geometry.strides),
                format!("{values:?}"),
            )
        })
}

/// The window of an operator of ours that has no weight to tell its kernel, on images x `[N, C, H, W]`.
fn window_on(site: &Site, rank: usize) -> Result<ConvGeometry, GraphError> {
    let kernel: Vec<usize> = site
        .node
        .ints("kernel_shape")
        .unwrap_or_default()
        .iter()
        .filter_map(|&size| usize::try_from(size).ok())
        .filter(|&size| size > 0)
        .collect();
    if rank != 4 || kernel.len() != 2 {
        return Err(site.bad(
            "input 0 and kernel_shape",
            "four axes and two sizes",
            format!("{rank} axes, {kernel:?}"),
        ));
    }
    ConvGeometry::of(site, &kernel)
}

/// DepthwiseGradW: x `[N, C, H, W]`, dy `[N, C, h, w]` to the weight gradient `[C, 1, kernel..]` of the depthwise Conv
/// with the same `kernel_shape`, `strides`, `pads` and `dilations`.
pub(super) fn depthwise_grad_w(site: &Site) -> Types {
    let (x, dy) = (site.float_input(0)?, site.like_first(1)?);
    let geometry = window_on(site, x.rank())?;
    let mut expected = vec![x.shape[0], x.shape[1]];
    expected.extend(geometry.output(site, &x.shape[2..], false)?);
    if dy.shape != expected {
        return Err(site.bad("input 1", format!("{expected:?}"), dy));
    }
    let shape = vec![x.shape[1], 1, geometry.kernel[0], geometry.kernel[1]];
    Ok(vec![with_shape(x, shape)])
}

/// DepthwiseGradX: dy `[N, C, h, w]`, w `[C, 1, kernel..]` to the input gradient `[N, C, H, W]` of the depthwise Conv with
/// the same attributes; `input_shape` is (H, W).
pub(super) fn depthwise_grad_x(site: &Site) -> Types {
    let (dy, w) = (site.float_input(0)?, site.like_first(1)?);
    let geometry = window_on(site, dy.rank())?;
    let input: Vec<usize> = site
        .node
        .ints("input_shape")
        .unwrap_or_default()
        .iter()
        .filter_map(|&size| usize::try_from(size).ok())
        .collect();
    let channels = dy.shape[1];
    if w.shape != [channels, 1, geometry.kernel[0], geometry.kernel[1]] || input.len() != 2 {
        return Err(site.bad(
            "input 1 and input_shape",
            format!(
                "one filter of {:?} a channel and two sizes",
                geometry.kernel
            ),
            format!("{w}, {input:?}"),
        ));
    }
    if geometry.output(site, &input, false)? != dy.shape[2..] {
        return Err(site.bad("input 0", format!("what {input:?} gives"), dy));
    }
    Ok(vec![with_shape(dy, [&dy.shape[..2], &input].concat())])
}

/// Columns: x `[N, C, H, W]` to `[N, C taps, places]`: what each tap of a convolution with these attributes meets.
pub(super) fn columns(site: &Site) -> Types {
    let x = site.float_input(0)?;
    let geometry = window_on(site, x.rank())?;
    let taps: usize = geometry.kernel.iter().product();
    let places = geometry
        .output(site, &x.shape[2..], false)?
        .iter()
        .product();
    Ok(vec![with_shape(
        x,
        vec![x.shape[0], x.shape[1] * taps, places],
    )])
}

fn check_bias(site: &Site, filters: usize) -> Result<(), GraphError> {
    match site.optional(2) {
        Some(bias) if bias.shape != [filters] => {
            Err(site.bad("input 2", format!("[{filters}]"), bias))
        }
        _ => Ok(()),
    }
}
