//! The HTTP API of a process that serves models: routes, and the way from a request to tokens and back to text.
//!
//! A server answers from the start; each model is put into its place when it is loaded:
//!
//! ```no_run
//! use std::{future, net::Ipv4Addr, sync::Arc};
//! use vlinders_server::{ModelNames, ModelSettings, Server, ServerConfig, ServerMetrics, serve};
//! # use vlinders_engine::{EngineConfig, Executor};
//! # async fn example<E: Executor>(
//! #     load: impl Fn(&str) -> (ModelSettings, EngineConfig, E, Arc<vlinders_text::TextModel>),
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let names = ModelNames { name: "parrot".to_owned(), aliases: Vec::new() };
//! let metrics = Arc::new(ServerMetrics::new());
//! let (server, loading) = Server::new(ServerConfig::default(), vec![names], metrics)?;
//! let listener = tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8000)).await?;
//! let serving = tokio::spawn(serve(listener, server, future::pending()));
//! for model in loading {
//!     let (settings, sizes, executor, text) = load(model.name());
//!     let engine = vlinders_engine::start(sizes, executor, model.observer())?;
//!     model.serve(settings, engine, text);
//! }
//! serving.await?;
//! # Ok(()) }
//! ```

mod board;
mod chat_output;
mod choice;
mod completion_output;
mod config;
mod generation;
mod logprobs;
mod metrics;
mod model;
mod openapi;
mod output;
mod params;
mod progress;
mod prompt;
mod router;
mod routes;
mod serve;
mod server;
mod slot;
mod submit;
mod timing;
mod tool_calls;

pub use self::{
    config::ServerConfig,
    metrics::ServerMetrics,
    model::{ModelNames, ModelSettings, ToolParser},
    router::router,
    serve::serve,
    server::{InvalidModels, Server},
    slot::LoadingModel,
};
