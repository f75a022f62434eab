//! A head between clients and workers that do what a test tells them, all through real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that finds something else than it expects has failed"
)]

mod consumers;
mod failures;
mod health;
mod leaving;
mod models;
mod passing;
mod support;
