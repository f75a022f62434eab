//! How loading is shown: to probes, and as a bar in a terminal or as log lines elsewhere.

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
}

impl Drop for ShownProgress<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
