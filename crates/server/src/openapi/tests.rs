//! The document says what the code does.

use std::collections::BTreeSet;

use serde_json::Value;
use vlinders_api::{ChatRequest, CompletionRequest, Fields};

use super::DOCUMENT;

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

#[test]
fn requests_have_exactly_the_fields_that_are_read() {
    let document = document();
    for (name, mut fields) in
        [("ChatRequest", ChatRequest::names()), ("CompletionRequest", CompletionRequest::names())]
    {
        let schema = &document["components"]["schemas"][name]["properties"];
        let described: BTreeSet<&str> = schema.as_object().unwrap().keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(described.into_iter().collect::<Vec<_>>(), fields, "{name}");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(value: &Value, document: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let pointer = reference.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                }
                fields.values().for_each(|value| check(value, document));
            }
            Value::Array(values) => values.iter().for_each(|value| check(value, document)),
            _ => {}
        }
    }
    let document = document();
    check(&document, &document);
}
