//! What the head reads of a request: enough to route, to limit and to bill it. The worker checks the rest.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use vlinders_edge::{ApiError, BodyLease};
use xxhash_rust::xxh3::xxh3_64;

use crate::prefix_chain::{BLOCK_BYTES, PrefixChain};

/// A request on its way to a replica.
#[derive(Debug)]
pub(crate) struct RoutedRequest {
    /// Path of the route.
    pub(crate) path: &'static str,
    /// The name the client used, if any.
    pub(crate) model: Option<String>,
    /// As the client sent it.
    pub(crate) body: Bytes,
    /// Headers that go on to the worker.
    pub(crate) headers: HeaderMap,
    pub(crate) prefix: PrefixChain,
    /// Bytes of the prompt.
    pub(crate) prompt_bytes: usize,
    /// Tokens the answer may have, if the client says.
    pub(crate) max_tokens: Option<u64>,
    /// The same for all requests of a conversation.
    pub(crate) conversation: u64,
    /// Hash of the `user` that the client names.
    pub(crate) user: Option<u64>,
    /// It is to go where requests of this user go, whatever the model says.
    pub(crate) is_sticky: bool,
    /// Counts the body while it is at hand.
    _lease: BodyLease,
}

/// Bytes of JSON that make a token, roughly.
pub(crate) const BYTES_PER_TOKEN: usize = 4;

/// The fields that matter here.
#[derive(Debug, Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    user: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompt_cache_key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow, default)]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    max_completion_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    n: Option<&'a RawValue>,
}

/// The role of a message, whatever else it has.
#[derive(Debug, Deserialize)]
struct Speaker<'a> {
    #[serde(borrow, default)]
    role: Option<Cow<'a, str>>,
}

// === impl RoutedRequest ===

impl RoutedRequest {
    /// Read `body`, which came to `path` with `headers`, of which only those that a worker is to see are kept.
    ///
    /// # Errors
    /// The body is not a JSON object, or `model` has another type.
    pub(crate) fn read(
        path: &'static str,
        headers: HeaderMap,
        body: Bytes,
        lease: BodyLease,
    ) -> Result<Self, ApiError> {
        // A list would pass for an object whose fields have no names.
        if body.trim_ascii_start().first() != Some(&b'{') {
            vlinders_api::parse::<HashMap<String, IgnoredAny>>(&body)?;
        }
        let fields: Fields<'_> = vlinders_api::parse(&body)?;
        let text = |field: Option<&'_ RawValue>| field.map_or("", RawValue::get).len();
        let parts = [fields.tools, fields.messages, fields.prompt];
        let prefix = PrefixChain::of(parts.into_iter().flatten().map(|part| part.get().as_bytes()));
        let prompt_bytes = parts.into_iter().map(text).sum();
        let answers = fields.n.and_then(whole_number).unwrap_or(1).max(1);
        let limit = fields.max_completion_tokens.or(fields.max_tokens).and_then(whole_number);
        let key = fields.prompt_cache_key.filter(|key| key.get().starts_with('"'));
        let conversation = match key {
            Some(key) => xxh3_64(key.get().as_bytes()),
            None => conversation(&fields),
        };
        let user = fields.user.filter(|user| user.get().starts_with('"'));
        Ok(Self {
            path,
            model: fields.model.map(Cow::into_owned),
            prefix,
            prompt_bytes,
            max_tokens: limit.map(|limit| limit.saturating_mul(answers)),
            conversation,
            user: user.map(|user| xxh3_64(user.get().as_bytes())),
            is_sticky: false,
            headers,
            _lease: lease,
            body,
        })
    }

    /// Tokens it is likely to take: those of its prompt, and all that its answer may have. An answer without a bound counts
    /// as nothing until its tokens are known.
    pub(crate) fn estimated_tokens(&self) -> u64 {
        let prompt = self.prompt_bytes.div_ceil(BYTES_PER_TOKEN) as u64;
        prompt.saturating_add(self.max_tokens.unwrap_or(0))
    }

    /// Length of the prompt in blocks.
    pub(crate) fn blocks(&self) -> u32 {
        u32::try_from(self.prompt_bytes.div_ceil(BLOCK_BYTES)).unwrap_or(u32::MAX)
    }
}

/// What all requests of a conversation have in common: everything up to the first message of the user.
fn conversation(fields: &Fields<'_>) -> u64 {
    if let Some(prompt) = fields.prompt {
        let bytes = prompt.get().as_bytes();
        return xxh3_64(&bytes[..bytes.len().min(BLOCK_BYTES)]);
    }
    let messages = fields.messages.map_or("", RawValue::get);
    let Ok(each) = serde_json::from_str::<Vec<&RawValue>>(messages) else {
        return xxh3_64(messages.as_bytes());
    };
    let is_user = |message: &&RawValue| {
        let speaker = serde_json::from_str::<Speaker<'_>>(message.get());
        speaker.is_ok_and(|speaker| speaker.role.as_deref() == Some("user"))
    };
    let first = each.iter().position(is_user).unwrap_or(0);
    let beginning = each.iter().take(first + 1);
    beginning.fold(0, |hash, message| xxhash_rust::xxh3::xxh3_64_with_seed(message.get().as_bytes(), hash))
}

fn whole_number(field: &RawValue) -> Option<u64> {
    field.get().parse().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use vlinders_edge::{Bodies, BodyLimits};

    use super::*;

    /// A request with this body.
    pub(crate) async fn request(body: &Value) -> Result<RoutedRequest, ApiError> {
        let limits =
            BodyLimits { max_bytes: 1 << 20, max_total_bytes: 1 << 20, timeout: Duration::from_secs(9) };
        let bodies = Bodies::new(limits, Duration::from_secs(1));
        let sent = axum::extract::Request::new(axum::body::Body::from(body.to_string()));
        let (bytes, lease) = bodies.read(sent).await?;
        RoutedRequest::read("/v1/chat/completions", HeaderMap::new(), bytes, lease)
    }

    async fn chat(messages: Value) -> RoutedRequest {
        request(&json!({ "model": "m", "messages": messages })).await.expect("a request")
    }

    #[tokio::test]
    async fn what_matters_is_read_and_the_rest_is_not() {
        let body = json!({
            "model": "org/m\u{e9}", "user": "anne", "max_tokens": 7, "n": 3,
            "messages": "not even a list", "temperature": "hot"
        });
        let read = request(&body).await.expect("read");
        assert_eq!((read.model.as_deref(), read.max_tokens), (Some("org/m\u{e9}"), Some(21)));
        assert!(read.user.is_some());
        let odd = json!({ "user": 7, "max_tokens": -2, "n": "many" });
        let read = request(&odd).await.expect("read");
        assert_eq!((read.model, read.user, read.max_tokens), (None, None, None));
    }

    #[tokio::test]
    async fn what_can_not_be_routed_is_refused_in_the_words_of_a_worker() {
        for (body, param, code) in [
            (json!([1]), None, "invalid_type"),
            (json!({ "model": 7 }), Some("model"), "invalid_type"),
            (json!("m"), None, "invalid_type"),
        ] {
            let error = request(&body).await.expect_err("refused");
            assert_eq!((error.param(), error.code()), (param, Some(code)), "{body}");
        }
    }

    #[tokio::test]
    async fn a_conversation_is_known_by_its_beginning() {
        let system = json!({ "role": "system", "content": "s".repeat(600) });
        let ask = |text: &str| json!({ "role": "user", "content": text });
        let answer = json!({ "role": "assistant", "content": "a".repeat(600) });
        let first = chat(json!([system, ask("one")])).await;
        let second = chat(json!([system, ask("one"), answer, ask("more")])).await;
        let other = chat(json!([system, ask("two")])).await;
        assert_eq!(first.conversation, second.conversation);
        assert_ne!(first.conversation, other.conversation);
        let shared = first.prefix.hashes().len();
        assert!(shared >= 2 && second.prefix.hashes()[..shared] == *first.prefix.hashes());
        let keyed = |key: &str, text: &str| json!({ "prompt_cache_key": key, "messages": [{ "role": "user", "content": text }] });
        let (a, b) = (request(&keyed("k", "x")).await, request(&keyed("k", "y")).await);
        assert_eq!(a.expect("read").conversation, b.expect("read").conversation);
    }
}
