//! Pulls from real servers on this machine: a hub, an S3, a folder of a web server, and what can go wrong with each.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can not go on fails")]

mod bucket;
mod faults;
mod folder;
mod hub;
mod server;
mod signature;
mod support;
