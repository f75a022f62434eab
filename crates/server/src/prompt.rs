//! Conversations and texts → token ids.

use std::sync::Arc;

use serde_json::{Map, Value};
use vlinders_api::{ChatRequest, Content, Message, PromptInput, Role, Tool, ToolChoice};
use vlinders_edge::{ApiError, BodyLease};
use vlinders_text::{RenderInput, TextError};

use crate::model::ServedModel;

/// A prompt, ready for the engine.
#[derive(Debug, Clone)]
pub(crate) struct EncodedPrompt {
    pub(crate) tokens: Vec<u32>,
    /// The text it was made of, if it was text.
    pub(crate) text: Option<String>,
}

/// A conversation for the chat template.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    pub(crate) messages: Vec<Message>,
    pub(crate) tools: Option<Vec<Tool>>,
    pub(crate) tool_choice: Option<ToolChoice>,
    pub(crate) documents: Option<Vec<Value>>,
    pub(crate) add_generation_prompt: Option<bool>,
    pub(crate) continue_final_message: Option<bool>,
    pub(crate) kwargs: Option<Map<String, Value>>,
    pub(crate) add_special_tokens: bool,
}

/// Texts of more bytes than this are rendered and encoded on a thread where they hold up nobody.
const INLINE_BYTES: usize = 8 << 10;

// === impl Conversation ===

impl Conversation {
    /// The conversation of a chat request, taken out of it.
    pub(crate) fn take(request: &mut ChatRequest) -> Self {
        Self {
            messages: request.messages.take().unwrap_or_default(),
            tools: request.tools.take(),
            tool_choice: request.tool_choice.take(),
            documents: request.documents.take(),
            add_generation_prompt: request.add_generation_prompt,
            continue_final_message: request.continue_final_message,
            kwargs: request.chat_template_kwargs.take(),
            add_special_tokens: request.sampling.add_special_tokens.unwrap_or(false),
        }
    }

    /// Tools that the model is told of.
    pub(crate) fn offers_tools(&self) -> bool {
        self.tool_choice != Some(ToolChoice::None)
            && self.tools.as_ref().is_some_and(|tools| !tools.is_empty())
    }

    /// The text of the last message.
    pub(crate) fn last_text(&self) -> Option<String> {
        match self.messages.last()?.content.as_ref()? {
            Content::Text(text) => Some(text.clone()),
            Content::Parts(parts) => parts.last().map(|part| part.text.clone()),
        }
    }

    fn check(&self) -> Result<(), ApiError> {
        if self.messages.is_empty() {
            return Err(ApiError::invalid("messages", "messages is empty; send at least one message"));
        }
        for (index, message) in self.messages.iter().enumerate() {
            let called = message.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
            if message.content.is_none() && !(message.role == Role::Assistant && called) {
                let message = "a message needs content; only an assistant's that calls tools may go without";
                return Err(ApiError::invalid(format!("messages[{index}].content"), message)
                    .with_code("missing_required_parameter"));
            }
        }
        if let Some(ToolChoice::Function(name)) = &self.tool_choice
            && !self.tools.iter().flatten().any(|tool| tool.name == *name)
        {
            return Err(ApiError::invalid(
                "tool_choice",
                format!("tool_choice names '{name}', which is not in tools"),
            ));
        }
        Ok(())
    }

    fn render_input(self) -> RenderInput {
        let offers_tools = self.offers_tools();
        let continues = self.continue_final_message.unwrap_or(false);
        let mut kwargs = self.kwargs.unwrap_or_default();
        let chosen = match self.tool_choice {
            Some(ToolChoice::Required) => {
                kwargs.entry("tool_choice").or_insert_with(|| "required".into());
                None
            }
            Some(ToolChoice::Function(name)) => {
                kwargs.entry("tool_choice").or_insert_with(|| name.clone().into());
                Some(name)
            }
            _ => None,
        };
        let tools = self.tools.filter(|_| offers_tools).map(|tools| {
            let shown =
                tools.into_iter().filter(|tool| chosen.as_ref().is_none_or(|name| tool.name == *name));
            shown.map(|tool| tool.value).collect()
        });
        RenderInput {
            messages: self.messages.into_iter().map(Message::into_value).collect(),
            tools,
            documents: self.documents,
            add_generation_prompt: self.add_generation_prompt.unwrap_or(!continues),
            continue_final_message: continues,
            kwargs,
            now: None,
        }
    }

    fn num_bytes(&self) -> usize {
        let content = |message: &Message| match &message.content {
            None => 0,
            Some(Content::Text(text)) => text.len(),
            Some(Content::Parts(parts)) => parts.iter().map(|part| part.text.len()).sum(),
        };
        self.messages.iter().map(content).sum()
    }
}

/// Render and encode a conversation.
///
/// # Errors
/// The messages are not what the template takes, or far too long.
pub(crate) async fn encode_chat(
    model: &Arc<ServedModel>,
    conversation: Conversation,
    lease: BodyLease,
) -> Result<EncodedPrompt, ApiError> {
    conversation.check()?;
    let bytes = conversation.num_bytes();
    refuse_hopeless(model, bytes, "messages")?;
    let add_special_tokens = conversation.add_special_tokens;
    // Tool definitions and history count too, but rarely for much.
    let served = Arc::clone(model);
    let work = move || {
        let text = served.text.render(&conversation.render_input())?;
        let tokens = served.text.encode(&text, add_special_tokens)?;
        Ok(EncodedPrompt { tokens, text: Some(text) })
    };
    run(bytes, lease, work).await?.map_err(|error| text_error(&error, "messages"))
}

/// Encode the prompts of a completion, or of `/tokenize`.
///
/// # Errors
/// The tokenizer can not take a text, or it is far too long.
pub(crate) async fn encode_texts(
    model: &Arc<ServedModel>,
    prompts: Vec<PromptInput>,
    add_special_tokens: bool,
    lease: BodyLease,
) -> Result<Vec<EncodedPrompt>, ApiError> {
    let lengths = prompts.iter().map(|prompt| match prompt {
        PromptInput::Text(text) => text.len(),
        PromptInput::Tokens(_) => 0,
    });
    for length in lengths.clone() {
        refuse_hopeless(model, length, "prompt")?;
    }
    let bytes = lengths.sum();
    let text_model = Arc::clone(&model.text);
    let work = move || {
        let encode = |prompt| match prompt {
            PromptInput::Tokens(tokens) => Ok(EncodedPrompt { tokens, text: None }),
            PromptInput::Text(text) => {
                Ok(EncodedPrompt { tokens: text_model.encode(&text, add_special_tokens)?, text: Some(text) })
            }
        };
        prompts.into_iter().map(encode).collect::<Result<Vec<_>, TextError>>()
    };
    run(bytes, lease, work).await?.map_err(|error| text_error(&error, "prompt"))
}

/// Run `work` here if it is short, else on a thread for blocking work. The bytes of the request count until then: work
/// that was begun goes on when the client leaves.
async fn run<T: Send + 'static>(
    bytes: usize,
    lease: BodyLease,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let work = move || {
        let result = work();
        drop(lease);
        result
    };
    if bytes <= INLINE_BYTES {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "encoding a prompt failed");
        ApiError::internal("the prompt could not be encoded")
    })
}

/// A text that is too long whatever its tokens are is not worth the time of the tokenizer.
fn refuse_hopeless(model: &ServedModel, bytes: usize, param: &'static str) -> Result<(), ApiError> {
    let least = model.least_tokens(bytes);
    let max = model.settings.max_model_len;
    // Tokenizers may drop some characters, never most of them.
    if least / 4 <= max {
        return Ok(());
    }
    Err(ApiError::invalid(
        param,
        format!(
            "{param} has {bytes} bytes, more than {max} tokens, which the model takes, can hold; shorten it"
        ),
    )
    .with_code("context_length_exceeded"))
}

/// Errors of one request's text are the client's, but for those of loading, which can not happen here.
fn text_error(error: &TextError, param: &'static str) -> ApiError {
    let message = error.to_string();
    match error {
        TextError::InvalidMessage { index, .. } | TextError::UnsupportedContent { index, .. } => {
            ApiError::invalid(format!("messages[{index}].content"), message)
        }
        TextError::ReservedKwarg(_) => ApiError::invalid("chat_template_kwargs", message),
        TextError::CannotContinue(_) => ApiError::invalid("continue_final_message", message),
        TextError::NoChatTemplate => ApiError::unsupported("messages", message).with_code("no_chat_template"),
        _ => ApiError::invalid(param, message),
    }
}
