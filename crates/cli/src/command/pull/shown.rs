//! How a pull is shown: a bar where somebody watches, lines elsewhere.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use vlinders_pull::{Event, Progress};

use crate::config::{format_bytes, format_duration};

/// Shows how one model is fetched.
pub(super) struct Shown<'a> {
    model: &'a str,
    bar: Option<ProgressBar>,
    total: AtomicU64,
    done: AtomicU64,
    /// Tenths of the bytes that were told.
    tenths: AtomicU64,
    /// Files of which nothing but the size is known; told once.
    unproven: AtomicU64,
}

// === impl Shown ===

impl<'a> Shown<'a> {
    pub(super) fn new(model: &'a str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(
                "{prefix}  {bar:32} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left",
            );
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style).with_prefix(model.to_owned())
        });
        let zero = AtomicU64::default;
        Self { model, bar, total: zero(), done: zero(), tenths: zero(), unproven: zero() }
    }

    fn line(&self, text: &str) {
        let line = format!("{}: {text}", self.model);
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    fn came(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            return;
        }
        let total = self.total.load(Ordering::Relaxed);
        let tenths = (done * 10).checked_div(total).unwrap_or(0);
        if self.tenths.fetch_max(tenths, Ordering::Relaxed) < tenths {
            self.line(&format!("{} of {} fetched", format_bytes(done), format_bytes(total)));
        }
    }
}

impl Progress for Shown<'_> {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Bytes(bytes) => self.came(bytes),
            Event::Waiting { folder } => {
                self.line(&format!(
                    "another loader is at work in {}; waiting for it to end",
                    folder.display()
                ));
            }
            Event::Listed { revision, files, to_fetch, bytes } => {
                self.total.store(bytes, Ordering::Relaxed);
                if let Some(bar) = &self.bar {
                    bar.set_length(bytes);
                }
                let bytes = format_bytes(bytes);
                self.line(&format!(
                    "{files} files of {revision}, {to_fetch} of them to fetch, {bytes} to come"
                ));
            }
            Event::Unpinned { revision } => {
                self.line(&format!(
                    "its revision may be another one tomorrow; to keep this one, write @{revision}"
                ));
            }
            Event::Unproven { path } => {
                if self.unproven.fetch_add(1, Ordering::Relaxed) == 0 {
                    let remedy = "put a SHA256SUMS beside it, made by `sha256sum * > SHA256SUMS`";
                    self.line(&format!(
                        "of {path} and perhaps others nothing but the size is known; {remedy}"
                    ));
                }
            }
            Event::Begun { path, from } if from > 0 => {
                self.line(&format!("{path} goes on at {}", format_bytes(from)));
            }
            Event::Begun { .. } => {}
            Event::Lost { path, bytes, reason } => {
                self.total.fetch_add(bytes, Ordering::Relaxed);
                if let Some(bar) = &self.bar {
                    bar.inc_length(bytes);
                }
                self.line(&format!("{} of {path} are thrown away: {reason}", format_bytes(bytes)));
            }
            Event::Retrying { what, reason, wait } => {
                self.line(&format!("{what}: {reason}; again in {}", format_duration(wait)));
            }
            Event::Verified { path, by } => self.line(&format!("{path} is whole ({by})")),
        }
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
