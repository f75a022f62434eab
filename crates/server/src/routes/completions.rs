//! `POST /v1/completions`.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::Response;
use vlinders_api::CompletionRequest;
use vlinders_edge::{ApiError, RequestId, Trace, UsageReport};

use super::{Envelope, list};
use crate::completion_output::CompletionOutput;
use crate::config::ServerConfig;
use crate::logprobs::TokenNames;
use crate::output::{Delivery, deliver};
use crate::params::params;
use crate::prompt::encode_texts;
use crate::server::Server;
use crate::submit::{EchoKind, FieldNames, Job};

/// What OpenAI generates if nothing else is said.
const DEFAULT_MAX_TOKENS: u32 = 16;

const NAMES: FieldNames = FieldNames { prompt: "prompt", max_tokens: "max_tokens", logprobs: "logprobs" };

/// Continue texts.
pub(crate) async fn completions(
    State(server): State<Server>,
    request: Request,
) -> Result<Response, ApiError> {
    let arrival = Instant::now();
    let config = server.config();
    let tell_usage = UsageReport::is_asked(request.headers());
    let trace = Trace::begun(&request);
    let id = request.extensions().get::<RequestId>().cloned();
    let receiving = trace.stage("receive");
    let (mut request, lease): (CompletionRequest, _) = server.bodies().read_json(request).await?;
    drop(receiving);
    let permit = server.admission().try_admit()?;
    let model = server.model(request.sampling.model.as_deref())?;
    let listed = list(&server, id, model, arrival);

    check(&request, config)?;
    let logprobs = request.logprobs;
    let echoes = request.echo.unwrap_or(false);
    let max_tokens = request.sampling.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
    let mut params = params(&mut request.sampling, model, config)?;
    params.sampling.logprobs = logprobs;
    if echoes {
        // Without tokens to generate, log-probabilities of the prompt are what the engine is asked for.
        params.sampling.prompt_logprobs = logprobs.or((max_tokens == 0).then_some(0));
    }
    let inputs = request.prompt.take().unwrap_or_default().0;
    let add_special_tokens = request.sampling.add_special_tokens.unwrap_or(true);
    let encoding = trace.stage("prompt");
    let prompts = encode_texts(model, inputs, add_special_tokens, lease).await?;
    drop(encoding);

    let job = Job {
        model,
        config,
        prompts,
        params,
        max_tokens: Some(max_tokens as usize),
        tools: false,
        echo: if echoes { EchoKind::Prompt } else { EchoKind::Nothing },
        names: NAMES,
        arrival,
        trace: &trace,
        listed,
    };
    let generation = job.submit()?;
    let token_names = logprobs.map(|_| TokenNames {
        text: model.text.clone(),
        as_ids: request.sampling.return_tokens_as_token_ids.unwrap_or(false),
    });
    let output = CompletionOutput::new(Envelope::new("cmpl", model), token_names, generation.num_choices());
    deliver(generation, output, permit, Delivery::new(&request.sampling, arrival, tell_usage, config)).await
}

fn check(request: &CompletionRequest, config: &ServerConfig) -> Result<(), ApiError> {
    let count = request.prompt.as_ref().map_or(0, |prompt| prompt.0.len());
    if count == 0 {
        return Err(ApiError::invalid(
            "prompt",
            "prompt is empty; send a text, a list of texts or token ids",
        ));
    }
    if count > config.max_prompts {
        let message = format!("prompt has {count} prompts; at most {} are allowed", config.max_prompts);
        return Err(ApiError::invalid("prompt", message));
    }
    if request.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty()) {
        return Err(ApiError::unsupported("suffix", "suffix is not supported"));
    }
    Ok(())
}
