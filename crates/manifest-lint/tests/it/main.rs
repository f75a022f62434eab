//! The linter over the platform's manifests, over the first draft of them, and as a program.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can not go on fails")]

mod binary;
mod deploy;
mod first_draft;
mod metrics;
mod mutations;
mod overlays;
mod secrets;
