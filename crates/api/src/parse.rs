//! Bytes of a request body → a request, or an error that names the field.

use serde::Deserialize;

/// Why a body is not a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// What is wrong, and where.
    pub message: String,
    /// Path of the offending field; `None` if the body as a whole is at fault.
    pub param: Option<String>,
    /// `invalid_utf8`, `invalid_json`, `missing_required_parameter`, `invalid_type` or `invalid_value`.
    pub code: &'static str,
}

/// Read a request from the bytes of a JSON body, which it may borrow from.
///
/// # Errors
/// The body is not UTF-8, not JSON, or a field has a wrong form.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ParseError> {
    let text = std::str::from_utf8(body).map_err(|error| ParseError {
        message: format!(
            "the request body is not valid UTF-8: the byte at offset {} is wrong",
            error.valid_up_to()
        ),
        param: None,
        code: "invalid_utf8",
    })?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(field_error)?;
    deserializer.end().map_err(|error| syntax_error(&error, None))?;
    Ok(value)
}

fn field_error(error: serde_path_to_error::Error<serde_json::Error>) -> ParseError {
    let path = error.path().to_string();
    let error = error.into_inner();
    // The path of an error between fields ends in "?" or is the object itself, shown as ".".
    let path = path.trim_end_matches('?').trim_end_matches('.');
    let param = (!path.is_empty()).then(|| path.to_owned());
    if error.classify() != serde_json::error::Category::Data {
        return syntax_error(&error, param);
    }
    let text = in_words_of_json(without_position(&error.to_string()));
    if let Some(field) = missing_field(&text) {
        let param = param.map_or_else(|| field.to_owned(), |parent| format!("{parent}.{field}"));
        return ParseError {
            message: format!("missing required parameter: '{param}'"),
            param: Some(param),
            code: "missing_required_parameter",
        };
    }
    let code = if text.starts_with("invalid type") { "invalid_type" } else { "invalid_value" };
    let message = match &param {
        Some(param) => format!("'{param}': {text}"),
        None => text,
    };
    ParseError { message, param, code }
}

fn syntax_error(error: &serde_json::Error, param: Option<String>) -> ParseError {
    let place = param.as_ref().map_or_else(String::new, |param| format!(", in '{param}'"));
    ParseError {
        message: format!("the request body is not valid JSON{place}: {error}"),
        param,
        code: "invalid_json",
    }
}

/// serde_json's messages without their " at line 1 column 2": the path says it better.
fn without_position(message: &str) -> String {
    match message.rfind(" at line ") {
        Some(position) => message[..position].to_owned(),
        None => message.to_owned(),
    }
}

/// What serde expects, said in the words of JSON instead of Rust's.
fn in_words_of_json(message: String) -> String {
    const WORDS: [(&str, &str); 9] = [
        ("expected f32", "expected a number"),
        ("expected u32", "expected a whole number from 0 to 4294967295"),
        ("expected i32", "expected a whole number of 32 bits"),
        ("expected i64", "expected a whole number of 64 bits"),
        ("expected a sequence", "expected a list"),
        ("expected a map", "expected an object"),
        ("invalid type: map", "invalid type: object"),
        ("invalid type: sequence", "invalid type: list"),
        ("expected struct ", "expected an object of the form "),
    ];
    WORDS.iter().fold(message, |message, (rust, json)| message.replacen(rust, json, 1))
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

#[cfg(test)]
mod tests;
