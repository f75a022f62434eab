//! What a consumer is: an identity that can stand in labels, logs and keys of Redis.

use std::sync::Arc;

use vlinders_edge::{ApiError, ErrorKind};

/// Who asks. Identities are one namespace: a token, a key and a gateway that name `alice` mean the same consumer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Consumer {
    id: Arc<str>,
    source: Source,
}

/// What vouches for a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// An API key of ours.
    Key,
    /// A signed token.
    Jwt,
    /// A gateway that knows our secret.
    Gateway,
    /// Nothing does: the server is open, or the gateway says that nobody has signed in.
    Anonymous,
}

/// The identity of everybody without one. No key and no token may have it.
const ANONYMOUS: &str = "anonymous";
/// The longest identity, in characters.
const MAX_ID: usize = 128;

// === impl Consumer ===

impl Consumer {
    /// Everybody without an identity; they share one budget.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { id: ANONYMOUS.into(), source: Source::Anonymous }
    }

    /// `id` as `source` gave it; `None` if it has no characters, more than 128 of them, others than visible ASCII, or
    /// is the name of those without one.
    #[must_use]
    pub fn new(id: &str, source: Source) -> Option<Self> {
        let visible = id.bytes().all(|byte| byte.is_ascii_graphic());
        let taken = id == ANONYMOUS;
        (visible && !taken && (1..=MAX_ID).contains(&id.len())).then(|| Self { id: id.into(), source })
    }

    /// The identity: 1 to 128 visible ASCII characters.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What vouches for it.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    pub(crate) fn shared_id(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }
}

// === impl Source ===

impl Source {
    /// The word for logs and labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Jwt => "jwt",
            Self::Gateway => "gateway",
            Self::Anonymous => "anonymous",
        }
    }
}

/// The answer to somebody whose identity can not be used, from whatever source.
pub(crate) fn unusable() -> ApiError {
    let message = "the consumer's name must be 1 to 128 visible ASCII characters, and not 'anonymous'";
    refused(message, "invalid_consumer")
}

/// 401 with a word for programs.
pub(crate) fn refused(message: &str, code: &'static str) -> ApiError {
    ApiError::new(ErrorKind::Unauthorized, message).with_code(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_bounded_and_visible() {
        let (longest, longer) = ("x".repeat(128), "x".repeat(129));
        for id in ["a", "team|blue", "auth0|5f7c8ec7c33c6c004bbafe82", "a@b.c", &longest] {
            assert_eq!(Consumer::new(id, Source::Key).expect("usable").id(), id);
        }
        for id in ["", " ", "a b", "a\n", "\u{e4}", "anonymous", "\u{202e}x", "a\0", &longer] {
            assert_eq!(Consumer::new(id, Source::Jwt), None, "{id:?}");
        }
    }
}
