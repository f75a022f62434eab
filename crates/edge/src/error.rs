//! Which HTTP status an error has, and its body in OpenAI's form. Nowhere else is a status decided.

use std::any::Any;
use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode, Uri};
use tower_http::catch_panic::{CatchPanicLayer, ResponseForPanic};
use vlinders_api::{ErrorBody, ErrorDetail, ParseError};

use crate::admission::Rejected;

/// The families of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request can not be served as it is.
    InvalidRequest,
    /// No API key, or an unknown one.
    Unauthorized,
    /// No such route, or no such model.
    NotFound,
    /// The route exists, but not with this method.
    MethodNotAllowed,
    /// The client took too long to send its request.
    RequestTimeout,
    /// The body is larger than the server takes.
    PayloadTooLarge,
    /// The body is not JSON.
    UnsupportedMediaType,
    /// The server has as many requests as it takes.
    TooManyRequests,
    /// A fault of ours.
    Internal,
    /// Not now: the server is going away, or its engine has failed.
    Unavailable,
    /// The answer took longer than the deadline of a request.
    DeadlineExceeded,
}

/// An error on its way to the client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    kind: ErrorKind,
    message: String,
    param: Option<Cow<'static, str>>,
    code: Option<&'static str>,
    retry_after: Option<Duration>,
}

/// Turns a panic of a handler into an answer, so that it harms one request only.
#[derive(Debug, Clone, Copy)]
pub struct PanicAnswer;

// === impl ErrorKind ===

impl ErrorKind {
    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The `type` in the body.
    #[must_use]
    pub fn type_name(self) -> &'static str {
        match self {
            Self::InvalidRequest
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::RequestTimeout
            | Self::PayloadTooLarge
            | Self::UnsupportedMediaType => "invalid_request_error",
            Self::Unauthorized => "authentication_error",
            Self::TooManyRequests => "rate_limit_error",
            Self::Internal | Self::Unavailable | Self::DeadlineExceeded => "server_error",
        }
    }
}

// === impl ApiError ===

impl ApiError {
    /// An error of `kind`; `message` is a sentence for people.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), param: None, code: None, retry_after: None }
    }

    /// A field has a value that can not be: 400 with `param`.
    #[must_use]
    pub fn invalid(param: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message).with_param(param).with_code("invalid_value")
    }

    /// Something that OpenAI's API has and this server has not: 400 with `param`.
    #[must_use]
    pub fn unsupported(param: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message).with_param(param).with_code("unsupported_parameter")
    }

    /// A model that is not served: 404 that says which are.
    #[must_use]
    pub fn model_not_found(asked: &str, served: &[&str]) -> Self {
        let served = served.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
        Self::new(
            ErrorKind::NotFound,
            format!("the model '{asked}' does not exist; this server has {served}"),
        )
        .with_param("model")
        .with_code("model_not_found")
    }

    /// A fault of ours. What exactly went wrong belongs into the log, not into `message`.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message).with_code("internal_error")
    }

    /// Not now: 503 with Retry-After.
    #[must_use]
    pub fn unavailable(message: impl Into<String>, code: &'static str, retry_after: Duration) -> Self {
        Self::new(ErrorKind::Unavailable, message).with_code(code).with_retry_after(retry_after)
    }

    /// Too many: 429 with Retry-After.
    #[must_use]
    pub fn too_many(message: impl Into<String>, code: &'static str, retry_after: Duration) -> Self {
        Self::new(ErrorKind::TooManyRequests, message).with_code(code).with_retry_after(retry_after)
    }

    /// The answer took longer than `deadline`.
    #[must_use]
    pub fn deadline_exceeded(deadline: Duration) -> Self {
        let message = format!("the request took longer than {} s and was ended", deadline.as_secs_f64());
        Self::new(ErrorKind::DeadlineExceeded, message).with_code("deadline_exceeded")
    }

    /// Name the field at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Set the word for programs.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Say when to come back.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// The family.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The word for programs.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        self.code
    }

    /// The field at fault.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> ErrorBody<'_> {
        ErrorBody {
            error: ErrorDetail {
                message: &self.message,
                kind: self.kind.type_name(),
                param: self.param.as_deref(),
                code: self.code,
            },
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = Response::new(axum::body::Body::from(Bytes::from(body)));
        *response.status_mut() = self.kind.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(after) = self.retry_after {
            // Whole seconds, never 0: a client that takes it literally must not spin.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if self.kind == ErrorKind::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<ParseError> for ApiError {
    fn from(error: ParseError) -> Self {
        let answer = Self::new(ErrorKind::InvalidRequest, error.message).with_code(error.code);
        match error.param {
            Some(param) => answer.with_param(param),
            None => answer,
        }
    }
}

impl From<Rejected> for ApiError {
    fn from(rejected: Rejected) -> Self {
        let message = rejected.to_string();
        match rejected {
            Rejected::Full { retry_after, .. } => Self::too_many(message, "too_many_requests", retry_after),
            Rejected::Closed { retry_after } => Self::unavailable(message, "shutting_down", retry_after),
        }
    }
}

// === impl PanicAnswer ===

impl ResponseForPanic for PanicAnswer {
    type ResponseBody = axum::body::Body;

    fn response_for_panic(&mut self, panic: Box<dyn Any + Send + 'static>) -> Response {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        tracing::error!(panic = text, "a request handler panicked");
        ApiError::internal("the server made a mistake with this request").into_response()
    }
}

/// Isolates panics of handlers.
#[must_use]
pub fn catch_panics() -> CatchPanicLayer<PanicAnswer> {
    CatchPanicLayer::custom(PanicAnswer)
}

/// Answers what no route matches.
pub async fn not_found(method: Method, uri: Uri) -> ApiError {
    ApiError::new(ErrorKind::NotFound, format!("there is no route {method} {}", uri.path()))
        .with_code("unknown_url")
}

/// Answers a known route with an unknown method.
pub async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::new(ErrorKind::MethodNotAllowed, format!("{} does not take the method {method}", uri.path()))
        .with_code("method_not_allowed")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(error: ApiError) -> (u16, Option<String>, serde_json::Value) {
        let response = error.into_response();
        let retry = response.headers().get(RETRY_AFTER).map(|value| value.to_str().expect("text").to_owned());
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.expect("a body");
        (status, retry, serde_json::from_slice(&body).expect("json"))
    }

    #[tokio::test]
    async fn all_four_keys_are_there_even_when_null() {
        let (status, retry, body) = answer(ApiError::new(ErrorKind::Internal, "oh")).await;
        assert_eq!((status, retry), (500, None));
        assert_eq!(
            body,
            serde_json::json!({"error": {"message": "oh", "type": "server_error", "param": null, "code": null}})
        );
    }

    #[tokio::test]
    async fn retry_after_is_rounded_up_and_never_zero() {
        for (millis, expected) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2")] {
            let error = ApiError::too_many("full", "queue_full", Duration::from_millis(millis));
            let (status, retry, _) = answer(error).await;
            assert_eq!((status, retry.as_deref()), (429, Some(expected)));
        }
    }

    #[tokio::test]
    async fn an_unknown_model_lists_the_known_ones() {
        let (status, _, body) = answer(ApiError::model_not_found("gpt-9", &["a", "b"])).await;
        assert_eq!(status, 404);
        assert_eq!(body["error"]["code"], "model_not_found");
        assert_eq!(body["error"]["message"], "the model 'gpt-9' does not exist; this server has 'a', 'b'");
    }
}
