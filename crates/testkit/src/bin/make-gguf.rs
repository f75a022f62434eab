//! Writes a GGUF file from a Hugging Face folder, as llama.cpp's converter would: to hold other programs against ours
//! on the same weights.
//!
//!     cargo run --release -p vlinders-testkit --bin make-gguf -- --folder DIR --out FILE

use std::path::PathBuf;
use std::process::ExitCode;

use vlinders_testkit::{Dtype, GgufFile, gguf_floats};

const USAGE: &str = "usage: make-gguf --folder DIR --out FILE [--dtype f32|f16|bf16]";

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
    let (mut folder, mut out, mut dtype) = (None, None, Dtype::Bf16);
    for pair in args.chunks(2) {
        match pair {
            [key, value] if key == "--folder" => folder = Some(PathBuf::from(value)),
            [key, value] if key == "--out" => out = Some(PathBuf::from(value)),
            [key, value] if key == "--dtype" => {
                dtype = Dtype::named(value).ok_or_else(|| format!("{value}: no such dtype\n{USAGE}"))?;
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
    let (Some(folder), Some(out)) = (folder, out) else { return Err(USAGE.to_owned()) };
    let encode = |_: &str, shape: &[usize], numbers: &[f32]| gguf_floats(dtype, shape, numbers);
    GgufFile::from_folder(&folder, &encode).and_then(|file| file.write(&out)).map_err(|e| e.to_string())
}
