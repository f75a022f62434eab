//! How loading is shown: to probes, and as a bar in a terminal or as log lines elsewhere; and how writing a model is.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use vlinders_runner::{LoadPhase, LoadProgress};
use vlinders_server::LoadingModel;

use crate::config::format_bytes;

/// Shows the load of one model.
pub(crate) struct ShownProgress<'a> {
    place: &'a LoadingModel,
    bar: Option<ProgressBar>,
    /// Tenths of the bytes that were logged.
    tenths: AtomicU64,
}

/// Shows how a model is written: a bar where somebody watches.
pub(crate) struct Bar(Option<ProgressBar>);

// === impl ShownProgress ===

impl<'a> ShownProgress<'a> {
    /// For the model of `place`: a bar where somebody watches.
    pub(crate) fn new(place: &'a LoadingModel) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(
                "{prefix}  {msg:10} {bar:32} {bytes}/{total_bytes} {bytes_per_sec}",
            );
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style).with_prefix(place.name().to_owned())
        });
        Self { place, bar, tenths: AtomicU64::new(0) }
    }
}

impl LoadProgress for ShownProgress<'_> {
    fn phase(&self, phase: LoadPhase) {
        self.place.phase(phase.name());
        match &self.bar {
            Some(bar) => bar.set_message(phase.name()),
            None => tracing::info!(model = self.place.name(), phase = phase.name(), "loading"),
        }
    }

    fn bytes(&self, done: u64, total: u64) {
        self.place.bytes(done, total);
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            return;
        }
        let tenths = done * 10 / total.max(1);
        if self.tenths.fetch_max(tenths, Ordering::Relaxed) < tenths {
            let (done, total) = (format_bytes(done), format_bytes(total));
            tracing::info!(model = self.place.name(), %done, %total, "loading weights");
        }
    }

    fn graphs(&self, done: usize, total: usize) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("graphs of steps {done}/{total}")),
            None if done == total => {
                tracing::info!(model = self.place.name(), total, "captured graphs of steps");
            }
            None => {}
        }
    }
}

impl Drop for ShownProgress<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

// === impl Bar ===

impl Bar {
    pub(crate) fn new() -> Self {
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
