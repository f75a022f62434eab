//! Writes a model of random weights that can be served: for benches where no real weights are at hand.
//!
//!     cargo run --release -p vlinders-testkit --bin make-checkpoint -- --shape llama-3.2-1b --out DIR

use std::path::PathBuf;
use std::process::ExitCode;

use vlinders_testkit::{Dtype, RandomModel, Shape};

const USAGE: &str = "usage: make-checkpoint --shape llama-3.2-1b|qwen2.5-0.5b|llama-tiny --out DIR \
                     [--dtype f32|f16|bf16] [--shards N] [--seed N]";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Vec<String>) -> Result<(), String> {
    let (mut shape, mut out, mut dtype, mut shards, mut seed) = (None, None, Dtype::Bf16, 1, 1);
    for pair in args.chunks(2) {
        let [key, value] = pair else { return Err(USAGE.to_owned()) };
        let number = || value.parse().map_err(|_| format!("{key} {value}: not a number\n{USAGE}"));
        match key.as_str() {
            "--shape" => {
                shape = Some(Shape::named(value).ok_or_else(|| format!("{value}: no such shape\n{USAGE}"))?)
            }
            "--out" => out = Some(PathBuf::from(value)),
            "--dtype" => {
                dtype = Dtype::named(value).ok_or_else(|| format!("{value}: no such dtype\n{USAGE}"))?;
            }
            "--shards" => shards = number()?,
            "--seed" => seed = number()? as u64,
            _ => return Err(USAGE.to_owned()),
        }
    }
    let (Some(shape), Some(out)) = (shape, out) else { return Err(USAGE.to_owned()) };
    RandomModel { shape, dtype, seed, shards }.write(&out).map_err(|e| e.to_string())
}
