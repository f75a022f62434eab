//! What Python does and minijinja does not: how values print, and methods of strings.

use minijinja::{
    Error, ErrorKind, Output, State, Value,
    value::{Kwargs, Tuple, ValueKind, from_args},
};
use minijinja_contrib::pycompat;

/// Containers nested deeper print as `...`.
const MAX_DEPTH: usize = 64;

/// Prints a value as Python's `str` does.
pub(super) fn formatter(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.write_str(text)?,
        None => out.write_str(&str_of(state, value)?)?,
    }
    Ok(())
}

/// The `string` filter.
pub(super) fn string(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => Ok(value.clone()),
        _ => str_of(state, value).map(Value::from),
    }
}

fn str_of(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::Number | ValueKind::Map | ValueKind::Seq => repr(state, value, 0, &mut out)?,
        _ => out = value.to_string(),
    }
    Ok(out)
}

/// Python's `repr` of the values that JSON and templates can make.
fn repr(state: &State<'_, '_>, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    state.consume_fuel(1)?;
    match value.kind() {
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            state.consume_fuel(text.len() as u64 / 8)?;
            repr_string(text, out);
        }
        ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
        ValueKind::Number => match f64::try_from(value.clone()) {
            Ok(float) => out.push_str(&float_repr(float)),
            Err(_) => out.push_str(&value.to_string()),
        },
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::Map | ValueKind::Seq if depth > MAX_DEPTH => out.push_str("..."),
        ValueKind::Map => {
            out.push('{');
            for (position, key) in value.try_iter()?.checked().enumerate() {
                let key = key?;
                out.push_str(if position > 0 { ", " } else { "" });
                repr(state, &key, depth + 1, out)?;
                out.push_str(": ");
                repr(state, &value.get_item(&key)?, depth + 1, out)?;
            }
            out.push('}');
        }
        ValueKind::Seq => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.push(open);
            for (position, item) in value.try_iter()?.checked().enumerate() {
                out.push_str(if position > 0 { ", " } else { "" });
                repr(state, &item?, depth + 1, out)?;
            }
            if value.is_tuple() && value.len() == Some(1) {
                out.push(',');
            }
            out.push(close);
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

/// Single quotes, unless the text has some and no double ones.
fn repr_string(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if (c as u32) < 0x20 || (0x7f..0xa1).contains(&(c as u32)) || c as u32 == 0xad => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// Python's shortest form of a float: an exponent below 1e-4 and from 1e16 on.
pub(super) fn float_repr(float: f64) -> String {
    if float.is_nan() {
        return "nan".to_owned();
    }
    if float.is_infinite() {
        return if float > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if float == 0.0 || (1e-4..1e16).contains(&float.abs()) {
        return format!("{float:?}");
    }
    let scientific = format!("{float:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Methods of Python's `str`, `dict` and `list`. Those that would change their object are refused, as
/// transformers' sandbox does.
pub(super) fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str()
        && let Some(result) = string_method(text, name, args)
    {
        return result;
    }
    let changes = matches!(
        (value.kind(), name),
        (ValueKind::Seq, "append" | "extend" | "insert" | "pop" | "remove" | "clear" | "sort" | "reverse")
            | (ValueKind::Map, "update" | "pop" | "popitem" | "setdefault" | "clear")
    );
    if changes {
        let reason = format!("`{name}` would change its object, which chat templates may not do");
        return Err(Error::new(ErrorKind::InvalidOperation, reason));
    }
    match (value.kind(), name) {
        (ValueKind::Seq | ValueKind::Map, "copy") => Ok(value.clone()),
        (ValueKind::Seq, "index") => {
            let (wanted,): (&Value,) = from_args(args)?;
            for (position, item) in value.try_iter()?.checked().enumerate() {
                if item? == *wanted {
                    return Ok(Value::from(position));
                }
            }
            Err(Error::new(ErrorKind::InvalidOperation, format!("{wanted} is not in the list")))
        }
        _ => pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// Those string methods that `pycompat` lacks or reads differently.
fn string_method(text: &str, name: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    let result = match name {
        "split" | "rsplit" => split(text, name == "rsplit", args),
        "partition" | "rpartition" => from_args(args).map(|(separator,): (&str,)| {
            let parts = match name {
                "partition" => text.split_once(separator).map(|(a, b)| [a, separator, b]),
                _ => text.rsplit_once(separator).map(|(a, b)| [a, separator, b]),
            };
            let missing = if name == "partition" { [text, "", ""] } else { ["", "", text] };
            Tuple::from(parts.unwrap_or(missing).map(Value::from).to_vec()).into()
        }),
        "removeprefix" => {
            from_args(args).map(|(prefix,): (&str,)| text.strip_prefix(prefix).unwrap_or(text).into())
        }
        "removesuffix" => {
            from_args(args).map(|(suffix,): (&str,)| text.strip_suffix(suffix).unwrap_or(text).into())
        }
        "ljust" | "rjust" | "center" => justify(text, name, args),
        "zfill" => from_args(args).and_then(|(width,): (usize,)| {
            let sign = usize::from(text.starts_with(['+', '-']));
            let zeros = "0".repeat(padding(text, width)?);
            Ok(Value::from([&text[..sign], &zeros, &text[sign..]].concat()))
        }),
        "index" | "rindex" => from_args(args).and_then(|(wanted,): (&str,)| {
            let found = if name == "index" { text.find(wanted) } else { text.rfind(wanted) };
            found
                .map(|position| Value::from(text[..position].chars().count()))
                .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "substring not found"))
        }),
        "casefold" => from_args(args).map(|()| text.to_lowercase().into()),
        "swapcase" => from_args(args).map(|()| {
            let swapped = text.chars().map(|c| match c.is_lowercase() {
                true => c.to_uppercase().to_string(),
                false => c.to_lowercase().to_string(),
            });
            Value::from(swapped.collect::<String>())
        }),
        "title" => from_args(args).map(|()| title(text).into()),
        _ => return None,
    };
    Some(result)
}

/// `split(sep=None, maxsplit=-1)` and `rsplit`.
fn split(text: &str, from_right: bool, args: &[Value]) -> Result<Value, Error> {
    let (separator, most, kwargs): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = separator.or(kwargs.get("sep")?).filter(|separator| !separator.is_none());
    let most = most.or(kwargs.get("maxsplit")?).and_then(|most| usize::try_from(most).ok());
    kwargs.assert_all_used()?;
    let Some(separator) = separator else { return Ok(split_whitespace(text, from_right, most)) };
    let separator = separator.as_str().filter(|separator| !separator.is_empty()).ok_or_else(|| {
        Error::new(ErrorKind::InvalidOperation, "the separator must be a text, and not empty")
    })?;
    let parts: Vec<&str> = match (most, from_right) {
        (None, _) => text.split(separator).collect(),
        (Some(most), false) => text.splitn(most.saturating_add(1), separator).collect(),
        (Some(most), true) => {
            let mut parts: Vec<&str> = text.rsplitn(most.saturating_add(1), separator).collect();
            parts.reverse();
            parts
        }
    };
    Ok(parts.into_iter().map(Value::from).collect())
}

/// Runs of whitespace separate; the rest after `most` parts keeps its inner whitespace.
fn split_whitespace(text: &str, from_right: bool, most: Option<usize>) -> Value {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let cut = match (most, from_right) {
            (Some(most), _) if parts.len() >= most => None,
            (_, false) => rest.split_once(char::is_whitespace),
            (_, true) => rest.rsplit_once(char::is_whitespace).map(|(before, last)| (last, before)),
        };
        let (part, remaining) = cut.unwrap_or((rest, ""));
        parts.push(Value::from(part));
        rest = remaining.trim();
    }
    if from_right {
        parts.reverse();
    }
    Value::from(parts)
}

fn justify(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (width, fill): (usize, Option<char>) = from_args(args)?;
    let fill = fill.unwrap_or(' ');
    let missing = padding(text, width)?;
    let left = match name {
        "ljust" => 0,
        "rjust" => missing,
        // Python puts the odd one left if the width is odd.
        _ => missing / 2 + (missing & width & 1),
    };
    let mut out = String::with_capacity(text.len() + missing);
    out.extend(std::iter::repeat_n(fill, left));
    out.push_str(text);
    out.extend(std::iter::repeat_n(fill, missing - left));
    Ok(Value::from(out))
}

fn padding(text: &str, width: usize) -> Result<usize, Error> {
    const MAX_WIDTH: usize = 10_000;
    if width > MAX_WIDTH {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("width {width} exceeds {MAX_WIDTH}")));
    }
    Ok(width.saturating_sub(text.chars().count()))
}

/// Upper case for each letter that no letter precedes.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        match inside {
            true => out.extend(c.to_lowercase()),
            false => out.extend(c.to_uppercase()),
        }
        inside = c.is_alphabetic();
    }
    out
}
