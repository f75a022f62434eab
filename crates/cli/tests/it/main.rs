//! The binary as a user runs it: started, asked, loaded and stopped, with the built-in model.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can not go on fails")]

mod answers;
mod commands;
mod deploy;
mod descriptors;
mod failures;
mod gguf;
mod head;
mod loading;
mod pack;
mod process;
mod pull;
mod quantize;
mod ranks;
mod scripted;
mod stopping;
mod terminal;
mod tls;
mod tracing;
