//! Several GPUs: how long a sum over ranks takes by each way between them, and whole models that are split.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use candle_core::DType;
use vlinders_device::{DeviceError, Gpu, GpuLinks};
use vlinders_kernels::gpu::{GpuGroup, Peers};
use vlinders_runner::{DeviceChoice, LoadOptions};

use crate::clock::{memory, report};
use crate::measured::median;
use crate::{Setting, serving};

/// Sizes of groups, as far as there are devices.
const SIZES: [usize; 3] = [2, 4, 8];
/// Sums of a graph: the layers of a model have two each.
const SUMS: usize = 64;

pub(crate) fn run(setting: Setting) {
    let devices = match setting.device {
        DeviceChoice::Cuda(first) => Gpu::count().expect("a driver") - first,
        _ => SIZES[0],
    };
    if devices < SIZES[0] {
        eprintln!("there are {devices} devices: several are not measured");
    }
    for ranks in SIZES.into_iter().filter(|ranks| *ranks <= devices) {
        for tokens in setting.model.summed_rows {
            sums(setting, ranks, *tokens);
        }
        split(setting, ranks);
    }
}

/// The sum of the hidden states of so many tokens.
fn sums(setting: Setting, ranks: usize, tokens: usize) {
    let id = GpuLinks::fresh_id(&setting.gpu_of(0));
    if let Err(error) = &id {
        eprintln!("links are not measured: {error}");
    }
    let (peers, start) = (Peers::new(ranks).expect("few ranks"), Barrier::new(ranks));
    let of_rank = |rank: usize| -> [Option<f64>; 2] {
        let gpu = setting.gpu_of(rank);
        // Each sum has a result of its own until it is given back.
        gpu.set_aside(4 * tokens * setting.model.hidden * DType::BF16.size_in_bytes()).expect("memory");
        peers.bring(&gpu, rank).expect("memory");
        start.wait();
        let by_peers = peers.join(&gpu, rank).expect("a group").map(GpuGroup::Peers);
        let by_links = id
            .as_ref()
            .ok()
            .map(|id| GpuGroup::Links(GpuLinks::join(&gpu, id, rank, ranks, &|| false).expect("links")));
        [by_peers, by_links].map(|group| group.map(|group| seconds(setting, &gpu, &group, &start, tokens)))
    };
    let of_ranks: Vec<[Option<f64>; 2]> = thread::scope(|scope| {
        let threads: Vec<_> = (0..ranks).map(|rank| scope.spawn(move || of_rank(rank))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a rank")).collect()
    });
    for (way, name) in ["peers", "links"].into_iter().enumerate() {
        // A sum is there when the last rank has it.
        let slowest = of_ranks.iter().filter_map(|ways| ways[way]).reduce(f64::max);
        if let Some(seconds) = slowest {
            report(&format!("sum of {ranks} by {name} n={tokens}"), 1e6 * seconds, "us", "");
        }
    }
}

/// Seconds of one sum, while all ranks make the same calls.
fn seconds(setting: Setting, gpu: &Gpu, group: &GpuGroup, start: &Barrier, tokens: usize) -> f64 {
    let x = memory(gpu, &[tokens, setting.model.hidden], DType::BF16);
    let sum = || group.all_reduce(&x).map(drop).map_err(|error| DeviceError::Tensor(error.to_string()));
    // Kernels are loaded when they are first launched, which no rank may do while another waits for it.
    start.wait();
    sum().and_then(|()| gpu.wait()).expect("a sum");
    let graph = gpu.capture(|| (0..SUMS).try_for_each(|_| sum())).expect("a graph");
    let round = || {
        start.wait();
        let started = Instant::now();
        graph.launch().and_then(|()| gpu.wait()).expect("a launch");
        started.elapsed().as_secs_f64() / SUMS as f64
    };
    round();
    median((0..setting.model.rounds).map(|_| round()).collect())
}

/// One stream and one long prompt, of a model that is split.
fn split(setting: Setting, ranks: usize) {
    let split = |len| LoadOptions { tensor_parallel_size: ranks, ..serving::options(setting, 1, len) };
    let (prompt, answer) = setting.model.single;
    let rate = serving::single(setting, &split(prompt + answer)).rate;
    report(&format!("decode 1 stream bf16 on {ranks}"), rate, "tokens/s", "");
    let prompt = setting.model.prompt;
    let seconds = serving::prompt_seconds(setting, &split(prompt + 2));
    report(&format!("prefill {prompt} on {ranks}"), prompt as f64 / seconds, "tokens/s", "");
}
