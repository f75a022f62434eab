//! Amounts may be written as numbers, which the API server reads as strings; so do we, before types are asked.

use serde_json::Value;

/// Fields whose entries are amounts.
const MAPS: &[&str] = &["limits", "requests", "capacity", "hard", "default", "defaultRequest"];
/// Fields that are amounts themselves.
const FIELDS: &[&str] = &["sizeLimit", "divisor", "averageValue"];

/// The same, with every amount as a string.
pub(super) fn as_strings(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let entries = map.iter().map(|(key, inner)| {
                let read = match inner {
                    Value::Object(amounts) if MAPS.contains(&key.as_str()) => {
                        let entries = amounts.iter().map(|(name, amount)| (name.clone(), as_string(amount)));
                        Value::Object(entries.collect())
                    }
                    Value::Number(_) if FIELDS.contains(&key.as_str()) => as_string(inner),
                    _ => as_strings(inner),
                };
                (key.clone(), read)
            });
            Value::Object(entries.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(as_strings).collect()),
        other => other.clone(),
    }
}

fn as_string(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::String(number.to_string()),
        other => as_strings(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_amounts_change() {
        assert_eq!(
            as_strings(&json!({"a": [{"limits": {"cpu": 1}, "port": 2}], "sizeLimit": 3})),
            json!({"a": [{"limits": {"cpu": "1"}, "port": 2}], "sizeLimit": "3"})
        );
    }
}
