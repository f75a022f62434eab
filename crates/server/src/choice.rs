//! One answer on its way from tokens to text: detokenized, cut at stop strings, tool calls taken out.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use vlinders_api::{FinishReason, ToolCall};
use vlinders_edge::ApiError;
use vlinders_engine::{FinishReason as EngineFinish, PromptLogprobs, TokenEvent, TokenLogprobs, TokenStream};
use vlinders_text::{Detokenizer, StopStrings};

use crate::logprobs::LoggedToken;
use crate::timing::Timer;
use crate::tool_calls::{HermesParser, Parsed};

/// What is new of an answer.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    pub(crate) text: String,
    pub(crate) calls: Vec<ToolCall>,
    /// The tokens of this text, if log-probabilities were asked for. Those of text that is held back come with it.
    pub(crate) tokens: Vec<LoggedToken>,
    /// Nothing follows.
    pub(crate) finish: Option<FinishReason>,
}

/// How tokens become text.
#[derive(Debug)]
pub(crate) struct TextRules {
    pub(crate) detokenizer: Detokenizer,
    pub(crate) stops: StopStrings,
    pub(crate) tools: Option<HermesParser>,
    /// Stop strings in fewer tokens than this do not count.
    pub(crate) min_tokens: usize,
    /// Stop tokens that are written when they end the answer.
    pub(crate) shown_stop_tokens: Vec<u32>,
    /// Report tokens.
    pub(crate) logprobs: bool,
    /// What the answer begins with.
    pub(crate) echo: Option<Echo>,
}

/// A prompt that is repeated.
#[derive(Debug, Clone)]
pub(crate) struct Echo {
    pub(crate) text: String,
    /// Its tokens, if their log-probabilities were asked for.
    pub(crate) tokens: Option<Arc<[u32]>>,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Choice {
    /// `None` once the answer has ended: dropping it cancels.
    stream: Option<TokenStream>,
    rules: TextRules,
    timer: Timer,
    /// Log-probabilities of tokens whose text is held back.
    held: Vec<LoggedToken>,
    num_tokens: usize,
    cached_tokens: usize,
}

// === impl Choice ===

impl Choice {
    pub(crate) fn new(stream: TokenStream, rules: TextRules, timer: Timer) -> Self {
        Self { stream: Some(stream), rules, timer, held: Vec::new(), num_tokens: 0, cached_tokens: 0 }
    }

    /// Tokens generated so far.
    pub(crate) fn num_tokens(&self) -> usize {
        self.num_tokens
    }

    /// Prompt tokens found in the prefix cache.
    pub(crate) fn cached_tokens(&self) -> usize {
        self.cached_tokens
    }

    /// What is new; `None` after the end.
    pub(crate) fn poll_delta(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delta, ApiError>>> {
        loop {
            let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
            let Some(event) = ready!(stream.poll_next(cx)) else {
                self.stream = None;
                return Poll::Ready(None);
            };
            let delta = match event {
                TokenEvent::Scheduled { cached_tokens } => {
                    self.cached_tokens = cached_tokens;
                    self.timer.scheduled();
                    self.echo_text()
                }
                TokenEvent::PromptLogprobs(logprobs) => self.echo_logprobs(logprobs),
                TokenEvent::Token { token, logprobs } => self.token(token, logprobs),
                TokenEvent::Finished { reason } => Some(self.finish(reason)),
                TokenEvent::Failed(why) => {
                    self.stream = None;
                    self.timer.failed();
                    tracing::warn!(%why, "a request failed in the engine");
                    return Poll::Ready(Some(Err(ApiError::internal(format!(
                        "the answer could not be completed: {why}"
                    ))
                    .with_code("engine_error"))));
                }
            };
            if let Some(delta) = delta {
                return Poll::Ready(Some(Ok(delta)));
            }
        }
    }

    fn echo_text(&mut self) -> Option<Delta> {
        let echo = self.rules.echo.take_if(|echo| echo.tokens.is_none())?;
        Some(Delta { text: echo.text, ..Delta::default() })
    }

    fn echo_logprobs(&mut self, logprobs: PromptLogprobs) -> Option<Delta> {
        let echo = self.rules.echo.take_if(|echo| echo.tokens.is_some())?;
        let first = logprobs.start as usize;
        let mut known = logprobs.tokens.into_iter();
        let tokens = echo.tokens.iter().flat_map(|tokens| tokens.iter()).enumerate();
        let tokens = tokens
            .map(|(position, &token)| LoggedToken {
                token,
                logprobs: if position < first { None } else { known.next().map(Box::new) },
            })
            .collect();
        Some(Delta { text: echo.text, tokens, ..Delta::default() })
    }

    /// `None` while the text of the token is held back.
    fn token(&mut self, token: u32, logprobs: Option<Box<TokenLogprobs>>) -> Option<Delta> {
        self.timer.token();
        self.num_tokens += 1;
        if self.rules.logprobs {
            self.held.push(LoggedToken { token, logprobs });
        }
        let piece = self.rules.detokenizer.push(token);
        if piece.is_empty() {
            return None;
        }
        let (text, stopped) = if self.num_tokens < self.rules.min_tokens {
            (self.rules.stops.pass(&piece), false)
        } else {
            let step = self.rules.stops.push(&piece);
            (step.text, step.stopped.is_some())
        };
        let mut parsed = self.rules.parse(text);
        if stopped {
            self.rules.parse_rest(&mut parsed);
            return Some(self.end(parsed, FinishReason::Stop));
        }
        if parsed.text.is_empty() && parsed.calls.is_empty() {
            return None;
        }
        Some(Delta {
            text: parsed.text,
            calls: parsed.calls,
            tokens: std::mem::take(&mut self.held),
            finish: None,
        })
    }

    fn finish(&mut self, reason: EngineFinish) -> Delta {
        let mut tail = String::new();
        let reason = match reason {
            EngineFinish::Length => FinishReason::Length,
            EngineFinish::Stop { token } => {
                self.timer.token();
                self.num_tokens += 1;
                if self.rules.shown_stop_tokens.contains(&token) {
                    tail = self.rules.detokenizer.push(token);
                }
                FinishReason::Stop
            }
        };
        tail.push_str(&self.rules.detokenizer.finish());
        let step = self.rules.stops.push(&tail);
        let mut text = step.text;
        let reason = if step.stopped.is_some() { FinishReason::Stop } else { reason };
        text.push_str(&self.rules.stops.finish());
        let mut parsed = self.rules.parse(text);
        self.rules.parse_rest(&mut parsed);
        self.end(parsed, reason)
    }

    fn end(&mut self, parsed: Parsed, reason: FinishReason) -> Delta {
        let called = self.rules.tools.as_ref().is_some_and(|tools| tools.num_calls() > 0);
        let reason = if called { FinishReason::ToolCalls } else { reason };
        self.stream = None;
        self.timer.finished(reason, self.num_tokens);
        Delta {
            text: parsed.text,
            calls: parsed.calls,
            tokens: std::mem::take(&mut self.held),
            finish: Some(reason),
        }
    }
}

// === impl TextRules ===

impl TextRules {
    fn parse(&mut self, text: String) -> Parsed {
        match &mut self.tools {
            Some(tools) => tools.push(&text),
            None => Parsed { text, calls: Vec::new() },
        }
    }

    fn parse_rest(&mut self, parsed: &mut Parsed) {
        if let Some(tools) = &mut self.tools {
            let rest = tools.finish();
            parsed.text.push_str(&rest.text);
            parsed.calls.extend(rest.calls);
        }
    }
}
