//! `cargo xtask cuda`: every kernel compiles without a warning, and takes the registers, stack and shared memory that
//! crates/kernels/cuda/resources.txt says.

#[cfg(test)]
#[path = "../../crates/kernels/build/fatbins.rs"]
mod fatbins;
#[path = "../../crates/kernels/build/nvcc.rs"]
mod nvcc;
mod ptxas;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Error, bail};
use clap::Args;

use self::nvcc::Nvcc;
use self::table::{Kernels, Table};
use crate::tools;

/// The architectures that are looked at: the oldest we have machine code for, and the one we tune for.
const ARCHS: [&str; 2] = ["80", "90"];

#[derive(Args, Default)]
pub(crate) struct CudaArgs {
    /// Write the table anew, when the differences are meant
    #[arg(long)]
    update: bool,
}

/// Compile all kernels, with an nvcc that is set up first where there is none, and compare with the table.
///
/// # Errors
/// No nvcc, a kernel that does not compile, or a difference from the table.
pub(crate) fn run(root: &Path, args: &CudaArgs) -> anyhow::Result<()> {
    let nvcc = ensure_nvcc(root)?;
    let start = Instant::now();
    let kernels = measure(root, &nvcc)?;
    let now = Table { nvcc: nvcc.version, kernels };
    println!(
        "cuda: {} kernels for {} compiled by nvcc {} in {:.1} s",
        now.num_kernels(),
        ARCHS.map(|arch| format!("sm_{arch}")).join(" and "),
        now.nvcc,
        start.elapsed().as_secs_f64()
    );

    let path = root.join("crates/kernels/cuda/resources.txt");
    if args.update {
        for line in now.spilling() {
            println!("cuda: {line}");
        }
        return fs::write(&path, now.to_string()).with_context(|| format!("cannot write {}", path.display()));
    }
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let table: Table = text.parse().with_context(|| path.display().to_string())?;
    if table.nvcc != now.nvcc {
        println!("cuda: the table is of nvcc {}: only spills and shared memory are compared", table.nvcc);
    }
    let differences = table.differences(&now);
    for difference in &differences {
        eprintln!("cuda: {difference}");
    }
    if !differences.is_empty() {
        bail!(
            "{} differences from {}; if they are meant: cargo xtask cuda --update",
            differences.len(),
            path.display()
        );
    }
    Ok(())
}

fn ensure_nvcc(root: &Path) -> anyhow::Result<Nvcc> {
    tools::ensure(&[tools::GXX])?;
    if let Some(nvcc) = Nvcc::find(root).map_err(Error::msg)? {
        return Ok(nvcc);
    }
    tools::ensure(&[tools::PYTHON])?;
    crate::run(&mut Command::new(root.join("scripts/cuda-toolchain.sh")))?;
    Nvcc::find(root).map_err(Error::msg)?.context(nvcc::MISSING)
}

fn measure(root: &Path, nvcc: &Nvcc) -> anyhow::Result<Kernels> {
    let folder = root.join("crates/kernels/cuda");
    let results = root.join("target/cuda-resources");
    fs::create_dir_all(&results).with_context(|| format!("cannot make {}", results.display()))?;
    let mut jobs = Vec::new();
    for source in nvcc::sources(&folder).map_err(Error::msg)? {
        for arch in ARCHS {
            jobs.push((source.clone(), nvcc::arch_of(&source, arch).map_err(Error::msg)?));
        }
    }
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let compile = |(source, arch): &(PathBuf, String)| compile(nvcc, &folder, &results, source, arch);
    let all = nvcc::in_parallel(threads, &jobs, compile).map_err(Error::msg)?;

    let mut kernels = Kernels::new();
    for ((source, arch), said) in jobs.iter().zip(all) {
        let found = ptxas::parse(&said).with_context(|| format!("{} for sm_{arch}", source.display()))?;
        for (kernel, resources) in found {
            if kernels.insert((kernel.clone(), format!("sm_{arch}")), resources).is_some() {
                bail!("two sources have a kernel {kernel}, one is {}", source.display());
            }
        }
    }
    Ok(kernels)
}

/// What ptxas says about `source`, kept in `results` for as long as nothing changes; the machine code lies beside it.
fn compile(nvcc: &Nvcc, folder: &Path, results: &Path, source: &Path, arch: &str) -> Result<String, String> {
    let mut args: Vec<_> = nvcc::FLAGS.map(str::to_owned).into();
    args.extend(["--cubin", "-Xptxas=-v", "-Werror=all-warnings"].map(str::to_owned));
    args.push(format!("-arch=sm_{arch}"));
    let head = format!("{}\n", nvcc.fingerprint(folder, source, &args)?);
    let name = nvcc::stem(source);
    let kept = results.join(format!("{name}-sm_{arch}.txt"));
    if let Some(said) = fs::read_to_string(&kept).ok().as_deref().and_then(|text| text.strip_prefix(&head)) {
        return Ok(said.to_owned());
    }
    let start = Instant::now();
    let file = source.file_name().unwrap_or_default();
    let cubin = kept.with_extension("cubin");
    let said = nvcc::run(nvcc.command().current_dir(folder).args(&args).arg("-o").arg(cubin).arg(file))?;
    eprintln!("cuda: {name}.cu for sm_{arch}: {:.1} s", start.elapsed().as_secs_f64());
    let part = kept.with_extension("part");
    fs::write(&part, head + &said)
        .and_then(|()| fs::rename(&part, &kept))
        .map_err(|error| format!("cannot write {}: {error}", kept.display()))?;
    Ok(said)
}
