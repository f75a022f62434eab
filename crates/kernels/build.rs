//! Compiles device code: for GPUs with feature `cuda`, for the host with feature `emulation`.

#[path = "build/emulation.rs"]
mod emulation;
#[path = "build/fatbins.rs"]
mod fatbins;
#[path = "build/nvcc.rs"]
mod nvcc;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use fatbins::Targets;
use nvcc::Nvcc;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    if env::var_os("CARGO_FEATURE_EMULATION").is_some() {
        emulation::build();
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_some()
        && let Err(error) = cuda()
    {
        for line in error.lines() {
            println!("cargo::error={line}");
        }
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn cuda() -> Result<(), String> {
    println!("cargo::rerun-if-changed=cuda");
    for name in nvcc::ENVIRONMENT {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let setting = |name| env::var_os(name).unwrap_or_default();
    let package = PathBuf::from(setting("CARGO_MANIFEST_DIR"));
    let workspace = package.ancestors().nth(2).unwrap_or(&package);
    let nvcc = Nvcc::find(workspace)?.ok_or(nvcc::MISSING)?;
    println!("cargo::rerun-if-changed={}", nvcc.program.display());
    let targets = Targets::choose(&nvcc, setting("VLINDERS_CUDA_ARCHS").to_str())?;
    let jobs = setting("NUM_JOBS").to_str().and_then(|jobs| jobs.parse().ok()).unwrap_or(2);
    let folder = package.join("cuda");
    let mut sources = nvcc::sources(&folder)?;
    // Programs that can emulate devices are those that test them.
    if env::var_os("CARGO_FEATURE_EMULATION").is_some() {
        sources.extend(nvcc::sources(&folder.join("tests"))?);
    }
    fatbins::build(&nvcc, &folder, &sources, &PathBuf::from(setting("OUT_DIR")), &targets, jobs)
}
