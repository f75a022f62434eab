//! A small client of OpenAI-compatible servers, for `chat` and `bench`: addresses, keys, errors, streams.

mod error;
mod http;
mod sse;
mod stream;

pub(crate) use self::{
    error::ClientError,
    http::Client,
    sse::{StreamEvent, Usage},
    stream::follow,
};
