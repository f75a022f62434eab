//! The HTTP API of a process that serves models: routes, and the way from a request to tokens and back to text.
//!
//! ```no_run
//! use std::{future, net::Ipv4Addr, sync::Arc};
//! use vlinders_server::{ModelSettings, ServedModel, Server, ServerConfig, ServerMetrics, serve};
//! # use vlinders_engine::{EngineConfig, Executor};
//! # async fn example(
//! #     settings: ModelSettings, sizes: EngineConfig, executor: impl Executor, text: Arc<vlinders_text::TextModel>,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let metrics = Arc::new(ServerMetrics::new());
//! let engine = vlinders_engine::start(sizes, executor, metrics.observer(&settings.name))?;
//! let model = ServedModel::new(settings, engine, text, &metrics);
//! let server = Server::new(ServerConfig::default(), vec![model], metrics)?;
//! let listener = tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8000)).await?;
//! serve(listener, server, future::pending()).await;
//! # Ok(()) }
//! ```

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
mod submit;
mod timing;
mod tool_calls;

pub use self::{
    config::ServerConfig,
    metrics::ServerMetrics,
    model::{ModelSettings, ServedModel, ToolParser},
    router::router,
    serve::serve,
    server::{InvalidModels, Server},
};
