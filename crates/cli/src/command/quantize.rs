//! `vlinders quantize`: writes a model again with quantised weights.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use vlinders_runner::quantize;

use crate::args::QuantizeArgs;
use crate::config::{format_bytes, format_duration, model_at};
use crate::progress::Bar;

/// Quantise one model.
pub(crate) fn run(args: &QuantizeArgs) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let files = model_at(&args.source, Path::new(""))?.files()?;
    let stats = quantize(&files, &args.out, args.format.into(), &Bar::new())?;
    let file = if stats.num_files == 1 { "file" } else { "files" };
    println!(
        "{}: {} of weights became {} in {} {file}, in {}",
        args.out.display(),
        format_bytes(stats.bytes_read),
        format_bytes(stats.bytes_written),
        stats.num_files,
        format_duration(started.elapsed()),
    );
    println!("try it: vlinders serve {}", args.out.display());
    Ok(ExitCode::SUCCESS)
}
