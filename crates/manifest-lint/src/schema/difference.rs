//! What a round trip through a type has changed.

use serde_json::Value;

/// In words: fields that the type does not know, fields that it demands, values that it reads otherwise.
pub(crate) fn differences(given: &Value, typed: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", given, typed, &mut found);
    found
}

fn compare(path: &str, given: &Value, typed: &Value, found: &mut Vec<String>) {
    match (given, typed) {
        (Value::Object(given), Value::Object(typed)) => {
            for (key, value) in given {
                let path = under(path, key);
                match typed.get(key) {
                    Some(read) => compare(&path, value, read, found),
                    // `creationTimestamp: null` and the like say nothing.
                    None if value.is_null() => {}
                    None => found.push(format!("{path}: there is no such field")),
                }
            }
            // Types write their own name into templates of claims, where the API server does not ask for it.
            let is_name = |key: &str| !path.is_empty() && matches!(key, "apiVersion" | "kind");
            let missing = typed.iter().filter(|(key, _)| !given.contains_key(*key) && !is_name(key));
            found.extend(missing.map(|(key, _)| format!("{}: this field is needed", under(path, key))));
        }
        (Value::Array(given), Value::Array(typed)) if given.len() == typed.len() => {
            for (idx, (given, typed)) in given.iter().zip(typed).enumerate() {
                compare(&format!("{path}[{idx}]"), given, typed, found);
            }
        }
        (given, typed) if given == typed => {}
        (Value::Null, _) => {}
        (given, typed) => found.push(format!("{path}: `{given}` is read as `{typed}`")),
    }
}

fn under(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_difference_has_its_path() {
        let given = json!({"a": [{"known": 1, "typo": 2}], "b": "x", "n": null});
        let typed = json!({"a": [{"known": 1, "must": ""}], "b": "y"});
        assert_eq!(
            differences(&given, &typed),
            [
                "a[0].typo: there is no such field",
                "a[0].must: this field is needed",
                "b: `\"x\"` is read as `\"y\"`"
            ]
        );
        assert!(differences(&given, &given).is_empty());
    }

    #[test]
    fn a_nested_object_need_not_name_its_type() {
        let typed = json!({"kind": "A", "claim": {"kind": "B", "apiVersion": "v1"}});
        assert_eq!(differences(&json!({"claim": {}}), &typed), ["kind: this field is needed"]);
    }
}
