//! Time of each layer of the released networks' shapes, by hand:
//! `cargo test --release --lib kernels::tests::speed -- --ignored --nocapture`, with `KERNELS=avx2` for another set than the best and
//! `BITS=7` for weights of 7 bits.

use super::super::{
    Add, AddSpec, Buffer, ConvSpec, Convolution, FullyConnected, FullyOutput, FullySpec,
    GlobalAveragePool, KernelSet, Layout, ResidualSpec, peak_gmacs,
};
use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

/// A layer by its shapes: sides are the input's.
enum Layer {
    /// Side of the kernel, stride, height, width, input channels, output channels, whether an addition follows.
    Conv([usize; 6], bool),
    /// Kernel, stride, height, width, channels.
    Depthwise([usize; 5]),
    /// Height, width, channels.
    Add([usize; 3]),
    Average([usize; 3]),
    /// Height, width, channels, outputs.
    Fully([usize; 4]),
}

use Layer::{Average, Conv, Depthwise, Fully};

fn landmarks() -> Vec<Layer> {
    let mut layers = vec![
        Conv([3, 2, 112, 112, 3, 16], false),
        Conv([3, 2, 56, 56, 16, 32], false),
        Conv([3, 1, 28, 28, 32, 32], true),
        Conv([1, 1, 28, 28, 32, 96], false),
        Depthwise([3, 2, 28, 28, 96]),
        Conv([1, 1, 14, 14, 96, 48], false),
    ];
    for _ in 0..2 {
        layers.push(Conv([1, 1, 14, 14, 48, 144], false));
        layers.push(Depthwise([3, 1, 14, 14, 144]));
        layers.push(Conv([1, 1, 14, 14, 144, 48], true));
    }
    layers.push(Conv([1, 1, 14, 14, 48, 144], false));
    layers.push(Depthwise([3, 2, 14, 14, 144]));
    layers.push(Conv([1, 1, 7, 7, 144, 96], false));
    for _ in 0..2 {
        layers.push(Conv([1, 1, 7, 7, 96, 288], false));
        layers.push(Depthwise([3, 1, 7, 7, 288]));
        layers.push(Conv([1, 1, 7, 7, 288, 96], true));
    }
    layers.push(Conv([1, 1, 7, 7, 96, 32], false));
    layers.push(Fully([7, 7, 32, 136]));
    layers.push(Average([7, 7, 96]));
    layers.push(Fully([1, 1, 96, 1]));
    layers
}

fn detector() -> Vec<Layer> {
    let mut layers = vec![
        Conv([3, 2, 160, 192, 3, 16], false),
        Depthwise([3, 2, 80, 96, 16]),
        Conv([1, 1, 40, 48, 16, 32], false),
        Conv([1, 1, 40, 48, 32, 96], false),
        Depthwise([3, 2, 40, 48, 96]),
        Conv([1, 1, 20, 24, 96, 48], false),
        Conv([1, 1, 20, 24, 48, 144], false),
        Depthwise([3, 1, 20, 24, 144]),
        Conv([1, 1, 20, 24, 144, 48], true),
        Conv([1, 1, 20, 24, 48, 144], false),
        Depthwise([3, 2, 20, 24, 144]),
        Conv([1, 1, 10, 12, 144, 64], false),
        Conv([1, 1, 10, 12, 64, 192], false),
        Depthwise([3, 1, 10, 12, 192]),
        Conv([1, 1, 10, 12, 192, 64], true),
        Conv([1, 1, 10, 12, 64, 192], false),
        Depthwise([3, 2, 10, 12, 192]),
        Conv([1, 1, 5, 6, 192, 96], false),
        Conv([1, 1, 5, 6, 96, 288], false),
        Depthwise([3, 1, 5, 6, 288]),
        Conv([1, 1, 5, 6, 288, 96], true),
        Conv([1, 1, 5, 6, 96, 64], false),
        Layer::Add([10, 12, 64]),
        Conv([1, 1, 10, 12, 64, 48], false),
        Layer::Add([20, 24, 48]),
    ];
    for (height, width, channels) in [(20, 24, 48), (10, 12, 64), (5, 6, 96)] {
        layers.push(Depthwise([3, 1, height, width, channels]));
        layers.push(Conv([1, 1, height, width, channels, 48], false));
        layers.push(Conv([1, 1, height, width, 48, 1], false));
        layers.push(Conv([1, 1, height, width, 48, 4], false));
    }
    layers
}

/// Any weight, or with `BITS=7` one of 7 bits.
fn weight(at: usize) -> i8 {
    static HAS_7_BITS: LazyLock<bool> =
        LazyLock::new(|| std::env::var("BITS").is_ok_and(|bits| bits == "7"));
    match *HAS_7_BITS {
        true => (at * 37 % 127) as i8 - 63,
        false => (at * 37 % 253) as i8,
    }
}

/// A layer that can be run: its name, multiply-accumulates, work.
struct Job {
    name: String,
    macs: u64,
    run: Box<dyn FnMut()>,
}

const ADD: AddSpec = AddSpec {
    a_scale: 0.9,
    a_zero: 3,
    b_scale: 1.1,
    b_zero: 7,
    output_scale: 1.3,
    output_zero: 5,
};

fn buffer(layout: &Layout) -> Buffer {
    let bytes: Vec<u8> = (0..layout.len())
        .map(|at| ((at * 7919) >> 3) as u8)
        .collect();
    Buffer::copied(&bytes)
}

fn convolution(
    set: KernelSet,
    [kernel, stride, height, width, channels, outputs]: [usize; 6],
    group: usize,
    is_added: bool,
) -> Job {
    let pad = kernel / 2;
    let input = match channels {
        3 => Layout::image(height, width, channels),
        _ => Layout::map(height, width, channels),
    };
    let input = input.with_border(pad, pad, pad, pad);
    let output = Layout::map(height.div_ceil(stride), width.div_ceil(stride), outputs);
    let output = output.with_border(1, 1, 1, 1);
    let depth = channels / group * kernel * kernel;
    let weights: Vec<i8> = (0..outputs * depth).map(weight).collect();
    let kernel = Convolution::new(
        set,
        &ConvSpec {
            input,
            output,
            kernel: (kernel, kernel),
            stride: (stride, stride),
            pad_top: pad,
            pad_left: pad,
            group,
            weights: &weights,
            bias: &vec![10; outputs],
            multipliers: &vec![1e-4; outputs],
            input_zero: 3,
            // After a ReLU, as where channels grow; else not.
            output_zero: if outputs > channels || group > 1 {
                0
            } else {
                5
            },
            residual: is_added.then_some(ResidualSpec {
                add: ADD,
                result_is_a: true,
                other: output,
            }),
        },
    );
    let (from, other, mut to) = (buffer(&input), buffer(&output), buffer(&output));
    Job {
        name: format!(
            "{height}x{width}x{channels} to {outputs} {}",
            kernel.describe()
        ),
        macs: kernel.macs(),
        run: Box::new(move || {
            let range = output.row_range(0..output.height);
            let other = is_added.then_some(&other[..]);
            kernel.run(0..output.height, &from, other, &mut to[range]);
        }),
    }
}

fn job(set: KernelSet, layer: &Layer) -> Job {
    match *layer {
        Conv(shape, is_added) => convolution(set, shape, 1, is_added),
        Depthwise([kernel, stride, height, width, channels]) => {
            let shape = [kernel, stride, height, width, channels, channels];
            convolution(set, shape, channels, false)
        }
        Layer::Add([height, width, channels]) => {
            let map = Layout::map(height, width, channels);
            let kernel = Add::new(set, map, map, map, &ADD);
            let (a, b, mut to) = (buffer(&map), buffer(&map), buffer(&map));
            Job {
                name: format!("{height}x{width}x{channels} {}", kernel.describe()),
                macs: 0,
                run: Box::new(move || kernel.run(0..height, &a, &b, &mut to)),
            }
        }
        Average([height, width, channels]) => {
            let input = Layout::map(height, width, channels);
            let output = Layout::map(1, 1, channels);
            let kernel = GlobalAveragePool::new(set, input, output, (1.0, 3), (1.0, 5));
            let (from, mut to) = (buffer(&input), buffer(&output));
            Job {
                name: format!("{height}x{width}x{channels} {}", kernel.describe()),
                macs: 0,
                run: Box::new(move || kernel.run(&from, &mut to)),
            }
        }
        Fully([height, width, channels, outputs]) => {
            let input = Layout::map(height, width, channels);
            let count = height * width * channels * outputs;
            let weights: Vec<i8> = (0..count).map(weight).collect();
            let spec = FullySpec {
                input,
                weights: &weights,
                bias: &vec![10; outputs],
                input_zero: 3,
                output: FullyOutput::Float {
                    scales: &vec![1e-4; outputs],
                },
            };
            let kernel = FullyConnected::new(set, &spec);
            let (from, mut to) = (buffer(&input), vec![0.0; outputs]);
            Job {
                name: format!(
                    "{height}x{width}x{channels} to {outputs} {}",
                    kernel.describe()
                ),
                macs: kernel.macs(),
                run: Box::new(move || kernel.run_float(&from, &mut to)),
            }
        }
    }
}

/// Microseconds of a run: the least mean of many short batches, which nothing else interrupts.
fn time(work: &mut dyn FnMut()) -> f64 {
    let mut least = f64::MAX;
    let mut runs = 1;
    let end = Instant::now() + Duration::from_millis(60);
    while Instant::now() < end {
        let begin = Instant::now();
        for _ in 0..runs {
            work();
        }
        let micros = begin.elapsed().as_secs_f64() * 1e6;
        least = least.min(micros / f64::from(runs));
        runs = ((60.0 / least) as u32).max(1);
    }
    least
}

#[test]
#[ignore = "a measurement"]
fn layers() {
    let set = std::env::var("KERNELS").map_or(KernelSet::best(), |name| name.parse().unwrap());
    for (name, layers) in [("landmarks68", landmarks()), ("face-detector", detector())] {
        let peak = peak_gmacs(set);
        println!("{name}, {set}, peak {peak:.0} GMAC/s");
        let mut jobs: Vec<Job> = layers.iter().map(|layer| job(set, layer)).collect();
        let (mut total, mut macs) = (0.0, 0);
        for job in &mut jobs {
            let micros = time(&mut job.run);
            let speed = job.macs as f64 / micros / 1e3;
            let share = 100.0 * speed / peak;
            println!(
                "{:60} {micros:8.2} us {speed:7.1} GMAC/s {share:5.1} %",
                job.name
            );
            total += micros;
            macs += job.macs;
        }
        let in_turn = time(&mut || jobs.iter_mut().for_each(|job| (job.run)()));
        let speed = macs as f64 / in_turn / 1e3;
        let share = 100.0 * speed / peak;
        println!("sum {total:.1} us; in turn {in_turn:.1} us, {speed:.1} GMAC/s, {share:.1} %");
    }
}
