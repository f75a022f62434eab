//! Filters, tests and functions where minijinja's own differ from those of Jinja2 and transformers.

use std::{borrow::Cow, fmt};

use minijinja::{
    Environment, Error, ErrorKind, State, Value,
    value::{Kwargs, ValueKind},
};

use super::{json, python};

/// What `raise_exception` was given: the source of the error that ends the rendering.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

/// Adds all of them.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("string", python::string);
    for name in ["default", "d"] {
        environment.add_filter(name, default);
    }
    for name in ["escape", "e", "forceescape"] {
        environment.add_filter(name, escape);
    }
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_iterable);
    environment.add_function("raise_exception", raise_exception);
    let builtin = environment.globals().find(|(name, _)| *name == "namespace").map(|(_, function)| function);
    if let Some(builtin) = builtin {
        environment.add_function(
            "namespace",
            move |state: &mut State<'_, '_>, defaults: Option<Value>, kwargs: Kwargs| {
                builtin.call(state, &[attributes(defaults, kwargs)?])
            },
        );
    }
}

/// `default(value, default_value='', boolean=False)`
fn default(
    value: &Value,
    other: Option<Value>,
    boolean: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let other = other.or(kwargs.get("default_value")?).unwrap_or_else(|| Value::from(""));
    let boolean = boolean.or(kwargs.get("boolean")?).is_some_and(|flag| flag.is_true());
    kwargs.assert_all_used()?;
    let missing = value.is_undefined() || (boolean && !value.is_true());
    Ok(if missing { other } else { value.clone() })
}

/// As Python's MarkupSafe spells them.
fn escape(text: Cow<'_, str>) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// What Python can index: also texts and dicts.
fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Undefined)
}

/// What Python can iterate: also texts, but not `none`.
fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || (!value.is_none() && value.try_iter().is_ok())
}

fn raise_exception(message: Cow<'_, str>) -> Result<Value, Error> {
    let raised = Raised(message.into_owned());
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(raised))
}

/// The attributes of a new namespace, from a dict and keywords.
fn attributes(defaults: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let mut pairs = Vec::new();
    if let Some(defaults) = defaults {
        for name in defaults.try_iter()?.checked() {
            let name = name?;
            pairs.push((name.clone(), defaults.get_item(&name)?));
        }
    }
    for name in kwargs.args() {
        pairs.push((Value::from(name), kwargs.get(name)?));
    }
    match pairs.iter().find(|(name, _)| name.as_str().is_some_and(|name| name.starts_with('_'))) {
        Some((name, _)) => {
            let reason = format!("attribute `{name}` of a namespace begins with an underscore");
            Err(Error::new(ErrorKind::InvalidOperation, reason))
        }
        None => Ok(Value::from_pairs(pairs)),
    }
}

// === impl Raised ===

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}
