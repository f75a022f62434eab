//! What can go wrong between us and a server, by kind.

use std::fmt;

use super::tls::certificate_problem;

/// A request that gave no whole answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No connection, or it broke.
    #[error("cannot reach {url}: {reason}; is the server running, and is --url right?")]
    Connect {
        /// What was asked.
        url: String,
        /// The innermost cause.
        reason: String,
    },
    /// The server is not believed to be who it says.
    #[error("the certificate of {url} can not be trusted: {problem}")]
    Certificate {
        /// What was asked.
        url: String,
        /// What is wrong with it, and a remedy where there is one.
        problem: String,
    },
    /// The server answered with an error.
    #[error("the server says {status}: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// Its `error.message`, or the start of the body.
        message: String,
    },
    /// An error event in the middle of a stream.
    #[error("the server broke off: {0}")]
    Event(String),
    /// The stream ended without `[DONE]`.
    #[error("the stream ended before the answer was complete")]
    Truncated,
    /// No answer in time.
    #[error("no complete answer within the time limit")]
    Timeout,
    /// Not what an OpenAI-compatible server sends.
    #[error("the server sent something unexpected: {0}")]
    Malformed(String),
}

impl ClientError {
    /// Tell apart what reqwest lumps together.
    pub(super) fn from_transport(url: &str, error: &reqwest::Error) -> Self {
        let url = url.to_owned();
        if error.is_timeout() {
            Self::Timeout
        } else if let Some(problem) = certificate_problem(error) {
            Self::Certificate { url, problem }
        } else {
            Self::Connect { url, reason: innermost(error) }
        }
    }

    /// A short name to count errors by.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Connect { .. } => "connection".to_owned(),
            Self::Certificate { .. } => "certificate".to_owned(),
            Self::Status { status, .. } => format!("http {status}"),
            Self::Event(_) => "error event".to_owned(),
            Self::Truncated => "truncated stream".to_owned(),
            Self::Timeout => "timeout".to_owned(),
            Self::Malformed(_) => "malformed answer".to_owned(),
        }
    }
}

/// reqwest's own message repeats the address and hides the cause; the last source says what happened.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    struct Shown<'a>(&'a dyn std::error::Error);
    impl fmt::Display for Shown<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", self.0)
        }
    }
    Shown(last).to_string()
}
