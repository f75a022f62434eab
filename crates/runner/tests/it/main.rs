//! Loading and executing, from files to tokens, with plans written by hand.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can not go on should stop")]

mod executor;
mod files;
mod gpu;
mod gpu_sampler;
mod pack;
mod ranks;
mod support;
