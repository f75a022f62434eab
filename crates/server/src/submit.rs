//! Prompts and parameters → running answers.

use std::sync::Arc;
use std::time::Instant;

use vlinders_edge::{ApiError, Listed, Trace};
use vlinders_engine::{GenerateRequest, InvalidRequest, SubmitError};
use vlinders_text::StopStrings;

use crate::choice::{Choice, Echo, TextRules};
use crate::config::ServerConfig;
use crate::generation::Generation;
use crate::model::ServedModel;
use crate::params::Params;
use crate::prompt::EncodedPrompt;
use crate::timing::Timer;
use crate::tool_calls::HermesParser;

/// A request that only lacks its tokens.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) model: &'a Arc<ServedModel>,
    pub(crate) config: &'a ServerConfig,
    pub(crate) prompts: Vec<EncodedPrompt>,
    pub(crate) params: Params,
    /// As asked for; `None` is the room the prompt leaves.
    pub(crate) max_tokens: Option<usize>,
    /// Read tool calls out of the answers.
    pub(crate) tools: bool,
    pub(crate) echo: EchoKind,
    pub(crate) names: FieldNames,
    pub(crate) arrival: Instant,
    pub(crate) trace: &'a Trace,
    /// The request in the list of those that run.
    pub(crate) listed: Listed,
}

/// What answers begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EchoKind {
    Nothing,
    /// This text.
    Text(String),
    /// The prompt; with its tokens if log-probabilities were asked for.
    Prompt,
}

/// What the route calls the fields that the engine checks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FieldNames {
    pub(crate) prompt: &'static str,
    pub(crate) max_tokens: &'static str,
    pub(crate) logprobs: &'static str,
}

/// Tokens of the prompt that a detokenizer looks at.
const PROMPT_TAIL: usize = 16;

// === impl Job ===

impl Job<'_> {
    /// Hand everything to the engine. If one answer is not taken none is: those already running are cancelled.
    ///
    /// # Errors
    /// The request is not valid, the queue is full, or the engine takes nothing.
    pub(crate) fn submit(self) -> Result<Generation, ApiError> {
        let prompt_tokens = self.prompts.iter().map(|prompt| prompt.tokens.len()).sum();
        let mut choices = Vec::with_capacity(self.prompts.len() * self.params.n);
        for prompt in &self.prompts {
            for i in 0..self.params.n {
                choices.push(self.choice(prompt, i)?);
            }
        }
        Ok(Generation::new(choices, self.params.n, prompt_tokens, self.listed))
    }

    fn choice(&self, prompt: &EncodedPrompt, i: usize) -> Result<Choice, ApiError> {
        let Self { model, params, .. } = self;
        let tokens = &prompt.tokens;
        let mut sampling = params.sampling.clone();
        sampling.seed = sampling.seed.wrapping_add(i as u64);
        let mut conditions = params.conditions.clone();
        // A prompt without room is refused for its own length, not for a max_tokens that nobody asked for.
        conditions.max_tokens = self.max_tokens.unwrap_or_else(|| model.room(tokens.len()).max(1));
        let shown_stop_tokens =
            if params.include_stop { conditions.stop_token_ids.clone() } else { Vec::new() };
        let (logprobs, min_tokens) = (sampling.logprobs.is_some(), conditions.min_tokens);
        let limits = model.limits(self.config.max_logprobs);
        let request = GenerateRequest::new(tokens.clone(), sampling, conditions, params.priority, &limits)
            .map_err(|error| self.names.invalid(&error))?;
        let rules = TextRules {
            detokenizer: model
                .text
                .detokenizer(&tokens[tokens.len().saturating_sub(PROMPT_TAIL)..], params.skip_special_tokens),
            stops: StopStrings::new(params.stop_strings.clone(), params.include_stop),
            tools: self.tools.then(HermesParser::default),
            min_tokens,
            shown_stop_tokens,
            logprobs,
            echo: self.echo(prompt, &request, logprobs)?,
        };
        let stream = model.engine.submit(request).map_err(|error| self.refused(&error))?;
        Ok(Choice::new(
            stream,
            rules,
            Timer::new(
                Arc::clone(&model.metrics),
                self.arrival,
                tokens.len(),
                self.trace.clone(),
                Arc::clone(&self.listed.request),
            ),
        ))
    }

    fn echo(
        &self,
        prompt: &EncodedPrompt,
        request: &GenerateRequest,
        logprobs: bool,
    ) -> Result<Option<Echo>, ApiError> {
        match &self.echo {
            EchoKind::Nothing => Ok(None),
            EchoKind::Text(text) => Ok(Some(Echo { text: text.clone(), tokens: None })),
            EchoKind::Prompt => {
                let text = match &prompt.text {
                    // The log-probabilities tell the text token by token, special ones included.
                    Some(text) if !logprobs => text.clone(),
                    _ => self.model.text.decode(&prompt.tokens, false).map_err(|error| {
                        ApiError::invalid(self.names.prompt, format!("the prompt can not be echoed: {error}"))
                    })?,
                };
                Ok(Some(Echo { text, tokens: logprobs.then(|| Arc::clone(request.prompt())) }))
            }
        }
    }

    fn refused(&self, error: &SubmitError) -> ApiError {
        let message = error.to_string();
        let retry_after = self.config.retry_after;
        match error {
            SubmitError::QueueFull { .. } => ApiError::too_many(message, "queue_full", retry_after),
            SubmitError::NeverFits(_) => {
                ApiError::invalid(self.names.prompt, message).with_code("context_length_exceeded")
            }
            SubmitError::Draining | SubmitError::Stopped => {
                ApiError::unavailable(message, "shutting_down", retry_after)
            }
            SubmitError::Failed(why) => {
                tracing::error!(%why, "a request was refused since the engine has failed");
                ApiError::unavailable(
                    "the model has failed and takes no requests",
                    "engine_failed",
                    retry_after,
                )
            }
        }
    }
}

// === impl FieldNames ===

impl FieldNames {
    /// An error of the engine in the words of the route.
    pub(crate) fn invalid(&self, error: &InvalidRequest) -> ApiError {
        let param = match error.field() {
            "prompt" => self.prompt,
            "max_tokens" => self.max_tokens,
            "logprobs" | "prompt_logprobs" => self.logprobs,
            other => other,
        };
        let code = match error {
            InvalidRequest::PromptTooLong { .. } | InvalidRequest::TooManyTokens { .. } => {
                "context_length_exceeded"
            }
            _ => "invalid_value",
        };
        let message = error.to_string();
        // Where the engine names the field first, it is to be the name the client used.
        let message = match message.strip_prefix(error.field()) {
            Some(rest) => format!("{param}{rest}"),
            None => message,
        };
        ApiError::invalid(param, message).with_code(code)
    }
}
