//! A small client of OpenAI-compatible servers, for `chat` and `bench`: addresses, certificates, keys, errors, streams.

mod error;
mod http;
mod sse;
mod stream;
mod tls;

pub(crate) use self::{
    error::ClientError,
    http::Client,
    sse::{StreamEvent, Usage},
    stream::follow,
    tls::trust,
};
