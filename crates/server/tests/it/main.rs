//! The API through a real socket, with a model that repeats what it is told.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that finds something else than it expects has failed"
)]

mod access;
mod bad_input;
mod chat;
mod completions;
mod head;
mod leaving;
mod limits;
mod loading;
mod metrics;
mod probes;
mod shutdown;
mod support;
mod text;
mod tools;
