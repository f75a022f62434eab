//! `vlinders quantize`: writes a model again with quantised weights.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use vlinders_runner::{LoadPhase, LoadProgress, quantize};

use crate::args::QuantizeArgs;
use crate::config::{format_bytes, format_duration, model_at};

/// A bar where somebody watches.
struct Bar(Option<ProgressBar>);

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

// === impl Bar ===

impl Bar {
    fn new() -> Self {
        Self(std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:32} {bytes}/{total_bytes} {bytes_per_sec}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        }))
    }
}

impl LoadProgress for Bar {
    fn phase(&self, _: LoadPhase) {}

    fn bytes(&self, done: u64, total: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(total);
            bar.set_position(done);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
