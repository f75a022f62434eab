//! The API through a real socket, with a model that repeats what it is told.

mod access;
mod bad_input;
mod chat;
mod completions;
mod leaving;
mod limits;
mod metrics;
mod probes;
mod shutdown;
mod support;
mod text;
mod tools;
