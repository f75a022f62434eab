//! Compiles a model's templates and renders conversations with them.

use std::{error::Error as _, fmt::Write as _, io};

use chrono::{Local, NaiveDateTime};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value, syntax::SyntaxConfig};

use super::{
    Habits,
    builtins::{self, Raised},
    generation_tag, python,
};
use crate::{
    RenderInput, TextError,
    files::{Source, TextFiles},
    messages::{message, to_arg},
};

/// The compiled templates of one model.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: Vec<(String, Value)>,
    chat: Compiled,
    tools: Option<Compiled>,
}

/// A template of the environment.
#[derive(Debug)]
struct Compiled {
    name: String,
    habits: Habits,
}

/// A string that stops to grow.
struct Bounded(Vec<u8>);

/// Steps of the template engine. Templates take some hundred for a message; this many take a good part of
/// a second, and bound the memory of a template to some 300 MiB.
const FUEL: u64 = 5_000_000;

/// Steps for the samples of [`Habits::find`], which are short.
const PROBE_FUEL: u64 = 100_000;

/// Bytes of a prompt: more than any context holds.
const MAX_OUTPUT: usize = 32 << 20;

const RECURSION_LIMIT: usize = 100;

/// Variables that a request sets by other means than `chat_template_kwargs`.
const RESERVED: [&str; 7] = [
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "continue_final_message",
    "raise_exception",
    "strftime_now",
];

/// Stands behind the text of the last message, to find where it ends. It begins with a character that no
/// template removes, and ends with a space, which a template that trims does remove.
const MARK: &str = "\u{e000}vlinders-end-of-message\u{e000} ";

// === impl ChatTemplate ===

impl ChatTemplate {
    /// The templates that the files give, if there are any.
    pub(crate) fn compile(files: &TextFiles) -> Result<Option<Self>, TextError> {
        let Some(chat) = &files.template else { return Ok(None) };
        let mut environment = environment();
        let special_tokens =
            files.special_tokens.iter().map(|(name, content)| (name.clone(), to_arg(content))).collect();
        let chat = add(&mut environment, chat)?;
        let tools = files.tool_template.as_ref().map(|source| add(&mut environment, source)).transpose()?;
        let mut template = Self { environment, special_tokens, chat, tools };
        template.environment.set_fuel(Some(PROBE_FUEL));
        let chat_habits = template.find_habits(&template.chat);
        let tool_habits = template.tools.as_ref().map(|tools| template.find_habits(tools));
        template.environment.set_fuel(Some(FUEL));
        template.chat.habits = chat_habits;
        if let (Some(tools), Some(habits)) = (&mut template.tools, tool_habits) {
            tools.habits = habits;
        }
        Ok(Some(template))
    }

    pub(crate) fn render(&self, input: &RenderInput) -> Result<String, TextError> {
        if let Some(name) = input.kwargs.keys().find(|name| RESERVED.contains(&name.as_str())) {
            return Err(TextError::ReservedKwarg(name.clone()));
        }
        let compiled = match &self.tools {
            Some(tools) if input.tools.is_some() => tools,
            _ => &self.chat,
        };
        if input.continue_final_message {
            self.render_open(compiled, input)
        } else {
            self.run(compiled, input, None)
        }
    }

    /// Renders with a mark behind the last message, and cuts there.
    fn render_open(&self, compiled: &Compiled, input: &RenderInput) -> Result<String, TextError> {
        if input.add_generation_prompt {
            return Err(TextError::CannotContinue("and add_generation_prompt exclude each other"));
        }
        if input.messages.last().is_none_or(|last| last.get("content").is_none()) {
            return Err(TextError::CannotContinue("needs a last message with content"));
        }
        let mut prompt = self.run(compiled, input, Some(MARK))?;
        let mark = prompt
            .rfind(MARK.trim_end())
            .ok_or(TextError::CannotContinue("fails: the chat template does not show the last message"))?;
        let trims = !prompt[mark..].starts_with(MARK);
        prompt.truncate(mark);
        if trims {
            // Without the mark, the template would have removed these spaces.
            prompt.truncate(prompt.trim_end().len());
        }
        Ok(prompt)
    }

    fn run(&self, compiled: &Compiled, input: &RenderInput, mark: Option<&str>) -> Result<String, TextError> {
        let last = input.messages.len().wrapping_sub(1);
        let messages = input
            .messages
            .iter()
            .enumerate()
            .map(|(index, value)| message(index, value, &compiled.habits, mark.filter(|_| index == last)))
            .collect::<Result<Vec<Value>, TextError>>()?;
        let list = |values: &Option<Vec<serde_json::Value>>| {
            values.as_ref().map_or(Value::from(()), |values| values.iter().map(to_arg).collect())
        };
        let now = input.now;
        let variables = self
            .special_tokens
            .iter()
            .map(|(name, content)| (name.as_str(), content.clone()))
            .chain(input.kwargs.iter().map(|(name, value)| (name.as_str(), to_arg(value))))
            .chain([
                ("messages", Value::from(messages)),
                ("tools", list(&input.tools)),
                ("documents", list(&input.documents)),
                ("add_generation_prompt", Value::from(input.add_generation_prompt)),
                ("strftime_now", Value::from_function(move |format: &str| strftime(now, format))),
            ]);
        let template = self.environment.get_template(&compiled.name).map_err(failure)?;
        let mut output = Bounded(Vec::new());
        template.render_captured_to(Value::from_pairs(variables), &mut output).map_err(failure)?;
        String::from_utf8(output.0).map_err(|error| TextError::TemplateFailed(error.to_string()))
    }

    fn find_habits(&self, compiled: &Compiled) -> Habits {
        Habits::find(|messages, habits| {
            let probe = Compiled { name: compiled.name.clone(), habits };
            let input = RenderInput { messages, add_generation_prompt: true, ..RenderInput::default() };
            self.run(&probe, &input, None).ok()
        })
    }
}

/// An environment as transformers sets it up.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.unwrap_or_default());
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    // As Jinja2's own: an undefined value prints as nothing, and asking it for an attribute fails.
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_recursion_limit(RECURSION_LIMIT);
    environment.set_debug(true);
    environment.set_formatter(python::formatter);
    environment.set_unknown_method_callback(python::method);
    builtins::add(&mut environment);
    environment
}

fn add(environment: &mut Environment<'static>, source: &Source) -> Result<Compiled, TextError> {
    let text = generation_tag::replace(&source.text);
    environment.add_template_owned(source.origin.clone(), text).map_err(|error| {
        TextError::TemplateSyntax {
            origin: source.origin.clone(),
            line: error.line().unwrap_or(1),
            reason: error.detail().map_or_else(|| error.kind().to_string(), str::to_owned),
        }
    })?;
    Ok(Compiled { name: source.origin.clone(), habits: Habits::default() })
}

fn strftime(now: Option<NaiveDateTime>, format: &str) -> Result<String, Error> {
    let now = now.unwrap_or_else(|| Local::now().naive_local());
    let mut text = String::new();
    write!(text, "{}", now.format(format)).map_err(|_| {
        Error::new(ErrorKind::InvalidOperation, format!("strftime_now does not know the format {format:?}"))
    })?;
    Ok(text)
}

/// What the caller is told.
fn failure(error: Error) -> TextError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return TextError::TemplateRefused(message.clone());
        }
        cause = inner.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel => TextError::TemplateLimit { limit: "5 million steps" },
        ErrorKind::WriteFailure => TextError::TemplateLimit { limit: "32 MiB of output" },
        _ => TextError::TemplateFailed(error.to_string()),
    }
}

// === impl Bounded ===

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other("output limit"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
