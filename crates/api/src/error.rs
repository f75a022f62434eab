//! The body of every error answer.

use serde::Serialize;

/// `{"error": {…}}`, as OpenAI sends it.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorBody<'a> {
    /// What went wrong.
    pub error: ErrorDetail<'a>,
}

/// What went wrong; all four keys are always there, clients read them without asking.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorDetail<'a> {
    /// A sentence for people: what is wrong and what to do.
    pub message: &'a str,
    /// The family, for instance `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// Path of the offending field, for instance `messages[0].role`.
    pub param: Option<&'a str>,
    /// The word for programs, for instance `model_not_found`.
    pub code: Option<&'a str>,
}
