//! `vlinders pack`: writes a model again with its weights as they lie in memory.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use vlinders_runner::{LoadOptions, pack};

use crate::args::PackArgs;
use crate::config::{format_bytes, format_duration, model_at};
use crate::progress::Bar;

/// Pack one model.
pub(crate) fn run(args: &PackArgs) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let files = model_at(&args.source, Path::new(""))?.files()?;
    let options = LoadOptions {
        dtype: args.dtype.into(),
        quantization: args.quantization.into(),
        ..LoadOptions::default()
    };
    let stats = pack(&files, &args.out, &options, &Bar::new())?;
    println!(
        "{}: {} of weights became {} as {}, in {}",
        args.out.display(),
        format_bytes(stats.bytes_read),
        format_bytes(stats.bytes_written),
        stats.format,
        format_duration(started.elapsed()),
    );
    println!("try it: vlinders serve {}", args.out.display());
    Ok(ExitCode::SUCCESS)
}
