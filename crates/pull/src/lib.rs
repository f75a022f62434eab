//! Fetching models: from the Hugging Face hub, from S3 and from plain folders of a web server.
//!
//! Files are fetched into a folder of their own inside the model's folder, verified there, and moved to their places when all are
//! whole. So a pull may be killed at any time and goes on where it was, and nobody ever sees half a model.

mod bucket;
mod digest;
mod error;
mod event;
mod fetch;
mod folder;
mod glob;
mod http;
mod hub;
mod lock;
mod options;
mod path;
mod pull;
mod record;
mod remote;
mod retry;
mod secret;
mod selection;
mod source;
mod space;
mod sums;

pub use self::{
    error::PullError,
    event::{Event, Progress},
    options::{BucketOptions, Credentials, HubOptions, PullOptions},
    pull::{Puller, Report, Target},
    retry::Retry,
    secret::Secret,
    source::{Source, SourceError},
};
