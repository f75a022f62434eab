//! `POST /tokenize` and `POST /detokenize`.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use vlinders_api::{DetokenizeRequest, DetokenizeResponse, PromptInput, TokenizeRequest, TokenizeResponse};
use vlinders_edge::ApiError;

use crate::prompt::{Conversation, encode_chat, encode_texts};
use crate::server::Server;

/// Tokens of a text or a conversation.
pub(crate) async fn tokenize(State(server): State<Server>, request: Request) -> Result<Response, ApiError> {
    let (request, lease): (TokenizeRequest, _) = server.bodies().read_json(request).await?;
    let _permit = server.admission().try_admit()?;
    let model = server.model(request.model.as_deref())?;
    let encoded = match (request.prompt, request.messages) {
        (Some(text), None) => {
            let add_special_tokens = request.add_special_tokens.unwrap_or(true);
            encode_texts(model, vec![PromptInput::Text(text)], add_special_tokens, lease)
                .await?
                .swap_remove(0)
        }
        (None, Some(messages)) => {
            let conversation = Conversation {
                messages,
                tools: request.tools,
                add_generation_prompt: request.add_generation_prompt,
                continue_final_message: request.continue_final_message,
                kwargs: request.chat_template_kwargs,
                add_special_tokens: request.add_special_tokens.unwrap_or(false),
                ..Conversation::default()
            };
            encode_chat(model, conversation, lease).await?
        }
        _ => {
            return Err(ApiError::invalid("prompt", "send either prompt or messages")
                .with_code("missing_required_parameter"));
        }
    };
    let name = |id: &u32| model.text.token_str(*id).unwrap_or_default();
    let token_strs =
        request.return_token_strs.unwrap_or(false).then(|| encoded.tokens.iter().map(name).collect());
    let answer = TokenizeResponse {
        count: encoded.tokens.len(),
        max_model_len: model.settings.max_model_len,
        tokens: encoded.tokens,
        token_strs,
    };
    Ok(Json(answer).into_response())
}

/// Text of tokens.
pub(crate) async fn detokenize(State(server): State<Server>, request: Request) -> Result<Response, ApiError> {
    let (request, _lease): (DetokenizeRequest, _) = server.bodies().read_json(request).await?;
    let _permit = server.admission().try_admit()?;
    let model = server.model(request.model.as_deref())?;
    let size = model.settings.vocab_size;
    if let Some((index, token)) =
        request.tokens.iter().enumerate().find(|(_, token)| **token as usize >= size)
    {
        let message = format!("tokens has token id {token}; ids must be below {size}");
        return Err(ApiError::invalid(format!("tokens[{index}]"), message));
    }
    let prompt = model
        .text
        .decode(&request.tokens, false)
        .map_err(|error| ApiError::invalid("tokens", format!("the tokens can not be decoded: {error}")))?;
    Ok(Json(DetokenizeResponse { prompt }).into_response())
}
