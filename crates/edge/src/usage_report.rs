//! How a worker tells the head what a request has taken so far: in a header of a whole answer, in comments of a stream.
//!
//! The head asks for it with a header. Counts come with every batch of events, so they are known for streams too whose
//! client leaves early.

use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue};
use vlinders_api::Usage;

/// Tokens of one request so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsageReport {
    /// Of the prompts, each counted once.
    pub prompt_tokens: u32,
    /// Those found in the prefix cache.
    pub cached_tokens: u32,
    /// Of all answers.
    pub completion_tokens: u32,
}

/// Not of the form `usage prompt cached completion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a report of usage")]
pub struct NoUsageReport;

/// Asks with the value `ask`, answers with counts.
const HEADER: HeaderName = HeaderName::from_static("x-vlinders-usage");

// === impl UsageReport ===

impl UsageReport {
    /// Whether these headers of a request ask for reports.
    #[must_use]
    pub fn is_asked(headers: &HeaderMap) -> bool {
        headers.contains_key(&HEADER)
    }

    /// Ask for reports.
    pub fn ask(headers: &mut HeaderMap) {
        headers.insert(HEADER, HeaderValue::from_static("ask"));
    }

    /// Put the counts into the headers of an answer.
    pub fn write(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.to_string()) {
            headers.insert(HEADER, value);
        }
    }

    /// Take the counts out of the headers of an answer.
    pub fn take(headers: &mut HeaderMap) -> Option<Self> {
        headers.remove(&HEADER)?.to_str().ok()?.parse().ok()
    }
}

impl fmt::Display for UsageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "usage {} {} {}", self.prompt_tokens, self.cached_tokens, self.completion_tokens)
    }
}

impl FromStr for UsageReport {
    type Err = NoUsageReport;

    fn from_str(text: &str) -> Result<Self, NoUsageReport> {
        let counts = text.strip_prefix("usage ").ok_or(NoUsageReport)?;
        let mut counts = counts.split(' ').map(|count| count.parse().map_err(|_| NoUsageReport));
        let mut next = || counts.next().unwrap_or(Err(NoUsageReport));
        let report = Self { prompt_tokens: next()?, cached_tokens: next()?, completion_tokens: next()? };
        if counts.next().is_some() { Err(NoUsageReport) } else { Ok(report) }
    }
}

impl From<Usage> for UsageReport {
    fn from(usage: Usage) -> Self {
        let count = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
        Self {
            prompt_tokens: count(usage.prompt_tokens),
            cached_tokens: count(usage.prompt_tokens_details.cached_tokens),
            completion_tokens: count(usage.completion_tokens),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let report = UsageReport { prompt_tokens: 12, cached_tokens: 8, completion_tokens: 3 };
        assert_eq!(report.to_string().parse(), Ok(report));
        let mut headers = HeaderMap::new();
        assert!(!UsageReport::is_asked(&headers));
        report.write(&mut headers);
        assert_eq!(UsageReport::take(&mut headers), Some(report));
        assert!(headers.is_empty());
        UsageReport::ask(&mut headers);
        assert!(UsageReport::is_asked(&headers));
        assert_eq!(UsageReport::take(&mut headers), None);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "usage",
            "usage 1 2",
            "usage 1 2 3 4",
            "usage 1 2 x",
            "usage 1 2 -3",
            "keep-alive",
            "Usage 1 2 3",
        ] {
            assert_eq!(text.parse::<UsageReport>(), Err(NoUsageReport), "{text}");
        }
    }
}
