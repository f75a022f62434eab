//! How to look into a manifest of any form: a path that leads nowhere gives nothing, so that rules can read what is wrong as well.

use serde_json::{Map, Value};

static NOTHING: Value = Value::Null;

/// Access by paths such as `spec.template.metadata`; keys with dots are asked for with `entry`.
pub(crate) trait Look {
    fn at(&self, path: &str) -> &Value;
    fn entry(&self, key: &str) -> &Value;
    /// The string there, or an empty one.
    fn text(&self, path: &str) -> &str;
    /// The items there, or none.
    fn items(&self, path: &str) -> &[Value];
    /// Keys and values there, or none.
    fn entries<'a>(&'a self, path: &str) -> Box<dyn Iterator<Item = (&'a str, &'a Value)> + 'a>;
    fn has(&self, path: &str) -> bool;
    fn is_true(&self, path: &str) -> bool;
    /// The number there, also one that is written as a string.
    fn number(&self, path: &str) -> Option<i64>;
}

// === impl Look for Value ===

impl Look for Value {
    fn at(&self, path: &str) -> &Value {
        path.split('.').fold(self, |value, key| value.entry(key))
    }

    fn entry(&self, key: &str) -> &Value {
        self.get(key).unwrap_or(&NOTHING)
    }

    fn text(&self, path: &str) -> &str {
        self.at(path).as_str().unwrap_or_default()
    }

    fn items(&self, path: &str) -> &[Value] {
        self.at(path).as_array().map(Vec::as_slice).unwrap_or_default()
    }

    fn entries<'a>(&'a self, path: &str) -> Box<dyn Iterator<Item = (&'a str, &'a Value)> + 'a> {
        let map = self.at(path).as_object().into_iter().flat_map(Map::iter);
        Box::new(map.map(|(key, value)| (key.as_str(), value)))
    }

    fn has(&self, path: &str) -> bool {
        !self.at(path).is_null()
    }

    fn is_true(&self, path: &str) -> bool {
        self.at(path).as_bool() == Some(true)
    }

    fn number(&self, path: &str) -> Option<i64> {
        let value = self.at(path);
        value.as_i64().or_else(|| value.as_str()?.parse().ok())
    }
}

/// Every string in a value, with the key it stands at.
pub(crate) fn strings<'a>(key: &'a str, value: &'a Value, each: &mut dyn FnMut(&'a str, &'a str)) {
    match value {
        Value::String(text) => each(key, text),
        Value::Array(items) => items.iter().for_each(|item| strings(key, item, each)),
        Value::Object(map) => map.iter().for_each(|(key, value)| strings(key, value, each)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
