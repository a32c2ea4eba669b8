//! The operators of the domain `facemark`: gradients and roundings for which standard operators pass over the activations
//! many times.
//!
//! They run on the CPU in ONNX Runtime's own threads and are in training graphs only, never in a model file.

mod batch_norm;
mod columns;
mod depthwise_input;
mod fake_quantize;
mod relu;

use super::depthwise;
use ort::operator::{ComputeContext, OperatorDomain};
use std::sync::{Mutex, PoisonError};

/// The domain with all of its operators.
pub(super) fn domain() -> ort::Result<OperatorDomain> {
    OperatorDomain::new("facemark")?
        .add(depthwise::DepthwiseGradW)?
        .add(depthwise_input::DepthwiseGradX)?
        .add(columns::Columns)?
        .add(relu::ReluGrad)?
        .add(fake_quantize::FakeQuantize)?
        .add(fake_quantize::FakeQuantizeGrad)?
        .add(fake_quantize::FakeQuantizeWeight)?
        .add(batch_norm::BatchNormalizationGrad)
}

/// Calls `fill(index, chunk)` for each chunk of `chunk` elements of `output`, on all threads.
fn fill_chunks(
    context: &ComputeContext,
    output: &mut [f32],
    chunk: usize,
    fill: impl Fn(usize, &mut [f32]) + Sync + Send,
) -> ort::Result<()> {
    let chunks: Vec<Mutex<&mut [f32]>> = output.chunks_mut(chunk.max(1)).map(Mutex::new).collect();
    context.par_for(chunks.len(), 0, |index| {
        // Each lock is taken once: it only proves that no two threads write the same chunk.
        let mut chunk = chunks[index].lock().unwrap_or_else(PoisonError::into_inner);
        fill(index, &mut chunk);
    })
}

fn wrong(operator: &str, what: impl std::fmt::Display) -> ort::Error {
    ort::Error::new(format!("{operator}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::{columns::ColumnsKernel, depthwise::Window, depthwise_input::Planes};
    use rand::{RngExt, SeedableRng};

    /// Both against their definitions, one product at a time: `columns[i, j, r, c] = x[r s + i d - p, c s + j d - p]` and
    /// `dx[r s + i d - p, c s + j d - p] += w[i, j] dy[r, c]`.
    #[test]
    fn columns_and_input_gradients_equal_their_definitions() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let mut checked = 0;
        for _ in 0..2000 {
            let mut pick = |low: usize, high: usize| rng.random_range(low..=high);
            let window = Window {
                kernel: [pick(1, 5), pick(1, 5)],
                strides: [pick(1, 3), pick(1, 3)],
                pads: [pick(0, 3), pick(0, 3)],
                dilations: [pick(1, 2), pick(1, 2)],
            };
            let kernel = ColumnsKernel {
                window: window.clone(),
                pads_after: [pick(0, 3), pick(0, 3)],
            };
            let size = [pick(1, 15), pick(1, 25)];
            let Some(windows) = kernel.windows(size) else {
                continue;
            };
            checked += 1;
            let mut random = |count: usize| -> Vec<f32> {
                (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
            };
            let x = random(size[0] * size[1]);
            let dy = random(windows[0] * windows[1]);
            let w = random(window.kernel[0] * window.kernel[1]);
            let mut columns = vec![f32::NAN; w.len() * dy.len()];
            kernel.fill(&x, size, windows, &mut columns);
            let mut expected_dx = vec![0.0; x.len()];
            for (index, &column) in columns.iter().enumerate() {
                let (tap, place) = (index / dy.len(), index % dy.len());
                let (i, j) = (tap / window.kernel[1], tap % window.kernel[1]);
                let (r, c) = (place / windows[1], place % windows[1]);
                let y =
                    (r * window.strides[0] + i * window.dilations[0]).checked_sub(window.pads[0]);
                let z =
                    (c * window.strides[1] + j * window.dilations[1]).checked_sub(window.pads[1]);
                let met = match (y, z) {
                    (Some(y), Some(z)) if y < size[0] && z < size[1] => Some(y * size[1] + z),
                    _ => None,
                };
                assert_eq!(
                    column,
                    met.map_or(0.0, |at| x[at]),
                    "{window:?} {size:?} tap {tap} place {place}"
                );
                if let Some(at) = met {
                    expected_dx[at] += w[tap] * dy[place];
                }
            }
            let mut planes = Planes::new(&window, windows);
            let mut dx = vec![f32::NAN; x.len()];
            // The second time the buffers hold what the first has left.
            for _ in 0..2 {
                planes.fill(&dy, &w);
                planes.take(size, &mut dx);
            }
            for (found, expected) in dx.iter().zip(&expected_dx) {
                assert!(
                    (found - expected).abs() < 1e-4,
                    "{window:?} {size:?}: {found}, not {expected}"
                );
            }
        }
        assert!(checked > 1000, "only {checked} cases fit");
    }
}
