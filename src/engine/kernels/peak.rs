//! The most multiply-accumulates a second that an instruction set can do, measured in registers alone.

use super::KernelSet;
use std::{hint::black_box, time::Instant};

/// Billions of multiply-accumulates of bytes a second on one core with everything in registers: the yardstick for kernels.
pub(crate) fn peak_gmacs(set: KernelSet) -> f64 {
    let _ = set;
    portable()
}

fn portable() -> f64 {
    const STEPS: u32 = 1 << 20;
    let (input, weights) = (black_box([3u8; 64]), black_box([5i8; 64]));
    let mut sums = [0i32; 64];
    let begin = Instant::now();
    for _ in 0..STEPS {
        for ((sum, &weight), &input) in sums.iter_mut().zip(&weights).zip(&black_box(input)) {
            *sum = sum.wrapping_add(i32::from(weight) * i32::from(input));
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    black_box(sums);
    64.0 * f64::from(STEPS) / seconds / 1e9
}
