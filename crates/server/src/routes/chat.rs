//! `POST /v1/chat/completions`.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::Response;
use vlinders_api::ChatRequest;
use vlinders_edge::{ApiError, RequestId, Trace, UsageReport};

use super::{Envelope, list};
use crate::chat_output::ChatOutput;
use crate::logprobs::TokenNames;
use crate::model::ToolParser;
use crate::output::{Delivery, deliver};
use crate::params::params;
use crate::prompt::{Conversation, encode_chat};
use crate::server::Server;
use crate::submit::{EchoKind, FieldNames, Job};

/// Continue a conversation.
pub(crate) async fn chat_completions(
    State(server): State<Server>,
    request: Request,
) -> Result<Response, ApiError> {
    let arrival = Instant::now();
    let config = server.config();
    let tell_usage = UsageReport::is_asked(request.headers());
    let trace = Trace::begun(&request);
    let id = request.extensions().get::<RequestId>().cloned();
    let receiving = trace.stage("receive");
    let (mut request, lease): (ChatRequest, _) = server.bodies().read_json(request).await?;
    drop(receiving);
    let permit = server.admission().try_admit()?;
    let model = server.model(request.sampling.model.as_deref())?;
    let listed = list(&server, id, model, arrival);

    let logprobs = top_logprobs(&request)?;
    refuse_unsupported(&request)?;
    let mut params = params(&mut request.sampling, model, config)?;
    params.sampling.logprobs = logprobs;
    let conversation = Conversation::take(&mut request);
    let tools = conversation.offers_tools() && model.settings.tool_parser == Some(ToolParser::Hermes);
    let echo = if request.echo == Some(true) && request.continue_final_message == Some(true) {
        conversation.last_text().map_or(EchoKind::Nothing, EchoKind::Text)
    } else {
        EchoKind::Nothing
    };
    let encoding = trace.stage("prompt");
    let prompt = encode_chat(model, conversation, lease).await?;
    drop(encoding);

    let names = FieldNames {
        prompt: "messages",
        max_tokens: if request.max_completion_tokens.is_some() {
            "max_completion_tokens"
        } else {
            "max_tokens"
        },
        logprobs: "top_logprobs",
    };
    let max_tokens =
        request.max_completion_tokens.or(request.sampling.max_tokens).map(|tokens| tokens as usize);
    let job = Job {
        model,
        config,
        prompts: vec![prompt],
        params,
        max_tokens,
        tools,
        echo,
        names,
        arrival,
        trace: &trace,
        listed,
    };
    let generation = job.submit()?;
    let token_names = logprobs.map(|_| TokenNames {
        text: model.text.clone(),
        as_ids: request.sampling.return_tokens_as_token_ids.unwrap_or(false),
    });
    let output = ChatOutput::new(Envelope::new("chatcmpl", model), token_names, generation.num_choices());
    let delivery = Delivery::new(&request.sampling, arrival, tell_usage, config);
    deliver(generation, output, permit, delivery).await
}

/// How many alternatives to report, if any are asked for.
fn top_logprobs(request: &ChatRequest) -> Result<Option<u32>, ApiError> {
    match (request.logprobs, request.top_logprobs) {
        (Some(true), top) => Ok(Some(top.unwrap_or(0))),
        (_, None | Some(0)) => Ok(None),
        (_, Some(_)) => Err(ApiError::invalid(
            "top_logprobs",
            "top_logprobs is only allowed together with logprobs: true",
        )),
    }
}

fn refuse_unsupported(request: &ChatRequest) -> Result<(), ApiError> {
    if request.functions.is_some() {
        return Err(ApiError::unsupported("functions", "functions is not supported; use tools"));
    }
    if let Some(other) = request.modalities.iter().flatten().find(|kind| *kind != "text") {
        return Err(ApiError::unsupported(
            "modalities",
            format!("the modality '{other}' is not supported; only 'text' is"),
        ));
    }
    if request.continue_final_message == Some(true) && request.add_generation_prompt == Some(true) {
        return Err(ApiError::invalid(
            "add_generation_prompt",
            "add_generation_prompt and continue_final_message exclude each other",
        ));
    }
    Ok(())
}
