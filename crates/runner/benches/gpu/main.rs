//! Measures kernels and whole models on a GPU, and sums over several, with random weights of the shape of Llama-3-8B.
//!
//! `gpu [PART...] [--device cuda|cuda:N|emulated] [--tiny] [--of TEXT]` prints one line of JSON for each number. Parts are
//! ceilings, linear, variants, attention, sampling, step, decode, streams, streams_int8, streams_fp8, prefill and ranks (of several GPUs);
//! without any, all of them. With --of, `variants` measures those alone whose names begin with that. A test command finds one test in it: all parts on an emulated device, with a tiny model,
//! whose times mean nothing.

#![allow(missing_docs, reason = "a program")]

mod attention;
mod ceilings;
mod clock;
mod linear;
#[path = "../measured/mod.rs"]
mod measured;
mod ranks;
mod sampling;
mod serving;
mod shape;
mod step;

use std::process::ExitCode;

use vlinders_device::Gpu;
use vlinders_kernels::gpu as kernels;
use vlinders_runner::DeviceChoice;

use self::shape::Model;

const USAGE: &str = "usage: gpu [ceilings|linear|variants|attention|sampling|step|decode|streams|streams_int8|streams_fp8|prefill|ranks]... \
                     [--device cuda|cuda:N|emulated] [--tiny] [--of TEXT]";

/// What test commands know it by.
const TEST: &str = "every_part_runs_emulated_on_a_tiny_model";

/// Where and what is measured.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) device: DeviceChoice,
    pub(crate) model: &'static Model,
    /// What names of kernels begin with that are measured, where there are many.
    of: &'static str,
}

type Part = (&'static str, fn(Setting));

const PARTS: [Part; 12] = [
    ("ceilings", ceilings::run),
    ("linear", linear::run),
    ("variants", linear::variants),
    ("attention", attention::run),
    ("sampling", sampling::run),
    ("step", step::run),
    ("decode", serving::decode),
    ("streams", serving::streams),
    ("streams_int8", serving::streams_int8),
    ("streams_fp8", serving::streams_fp8),
    ("prefill", serving::prefill),
    ("ranks", ranks::run),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let given = |word: &str| words.iter().any(|given| given == word);
    if given("--list") {
        if !given("--ignored") {
            println!("{TEST}: test");
        }
        return ExitCode::SUCCESS;
    }
    if words.is_empty() || given(TEST) {
        let tiny = Setting { device: DeviceChoice::Emulated, model: &shape::TINY, of: "" };
        PARTS.iter().for_each(|(_, run)| run(tiny));
        return ExitCode::SUCCESS;
    }
    let mut setting = Setting { device: DeviceChoice::Cuda(0), model: &shape::LLAMA_3_8B, of: "" };
    let mut parts = Vec::new();
    let mut rest = words.iter().map(String::as_str).filter(|word| *word != "--bench");
    while let Some(word) = rest.next() {
        match word {
            "--device" => match rest.next().and_then(|device| device.parse().ok()) {
                Some(device) => setting.device = device,
                None => return usage(),
            },
            "--tiny" => setting.model = &shape::TINY,
            "--of" => match rest.next() {
                Some(text) => setting.of = text.to_owned().leak(),
                None => return usage(),
            },
            name => match PARTS.iter().find(|part| part.0 == name) {
                Some(part) => parts.push(*part),
                None => return usage(),
            },
        }
    }
    if parts.is_empty() {
        parts.extend(PARTS);
    }
    for (_, run) in parts {
        run(setting);
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::FAILURE
}

// === impl Setting ===

impl Setting {
    /// The device itself, for parts that need no engine, with room for what they compute.
    pub(crate) fn gpu(self) -> Gpu {
        let gpu = self.gpu_of(0);
        gpu.set_aside(self.model.room).expect("room for results");
        gpu
    }

    /// Whether this is measured.
    pub(crate) fn wants(self, what: &str) -> bool {
        what.starts_with(self.of)
    }

    /// The device of a rank.
    pub(crate) fn gpu_of(self, rank: usize) -> Gpu {
        let gpu = match self.device {
            DeviceChoice::Cuda(first) => Gpu::open(first + rank, kernels::code()),
            _ => kernels::emulated_device(),
        };
        gpu.expect("a device")
    }
}
