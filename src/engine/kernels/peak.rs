//! The most multiply-accumulates a second that an instruction set can do, measured in registers alone.

use super::{
    KernelSet,
    simd::{Instance, PEAK_MACS},
};
use std::{hint::black_box, time::Instant};

/// Billions of multiply-accumulates of bytes a second on one core with everything in registers: the yardstick for kernels.
/// The best of several short runs. AVX2 is measured with the dot product for weights of 7 bits.
pub(crate) fn peak_gmacs(set: KernelSet) -> f64 {
    const RUNS: usize = 20;
    let run = || match Instance::choose(set, true) {
        // SAFETY: the instance was chosen because the processor has its instructions.
        Some(instance) => timed(PEAK_MACS * instance.bytes as f64, || unsafe {
            (instance.peak)(black_box(1));
        }),
        None => portable(),
    };
    (0..RUNS).map(|_| run()).fold(0.0, f64::max)
}

/// Billions a second when `work` does so many.
fn timed(macs: f64, work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    macs / begin.elapsed().as_secs_f64() / 1e9
}

fn portable() -> f64 {
    const STEPS: u32 = 1 << 14;
    let (input, weights) = (black_box([3u8; 64]), black_box([5i8; 64]));
    let mut sums = [0i32; 64];
    timed(64.0 * f64::from(STEPS), || {
        for _ in 0..STEPS {
            for ((sum, &weight), &input) in sums.iter_mut().zip(&weights).zip(&black_box(input)) {
                *sum = sum.wrapping_add(i32::from(weight) * i32::from(input));
            }
        }
        black_box(sums);
    })
}
