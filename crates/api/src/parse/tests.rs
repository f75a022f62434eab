//! Every malformed field is named.

use proptest::prelude::*;

use super::{ParseError, parse};
use crate::{ChatRequest, CompletionRequest, Content, Prompt, PromptInput, Role, Seed, Stop, ToolChoice};

fn chat(body: &str) -> Result<ChatRequest, ParseError> {
    parse(body.as_bytes())
}

/// Code and param of the error that `body` gives.
fn fault(body: &str) -> (&'static str, Option<String>) {
    let error = chat(body).expect_err(body);
    assert!(!error.message.contains(" at line ") || error.code == "invalid_json", "{}", error.message);
    (error.code, error.param)
}

fn with(field: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{field}}}"#)
}

#[test]
fn a_full_request_is_read() {
    let request = chat(
        r#"{"model":"m","messages":[
            {"role":"developer","content":"be brief"},
            {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
            {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},
            {"role":"tool","tool_call_id":"c1","content":"2"}],
            "stop":"END","seed":-1,"top_k":-1,"logit_bias":{"7":-100,"9":1.5},"tool_choice":{"type":"function","function":{"name":"f"}},
            "stream":true,"stream_options":{"include_usage":true},"never_heard_of":{"a":[1,{}]}}"#,
    )
    .expect("valid");
    let messages = request.messages.expect("given");
    assert_eq!(messages[0].role, Role::Developer);
    assert_eq!(request.sampling.seed, Some(Seed(u64::MAX)));
    assert_eq!(request.sampling.stop, Some(Stop(vec!["END".into()])));
    assert_eq!(request.sampling.logit_bias.expect("given").0, [(7, -100.0), (9, 1.5)]);
    assert_eq!(request.tool_choice, Some(ToolChoice::Function("f".into())));
    assert!(request.sampling.stream_options.expect("given").include_usage);
    let values: Vec<_> = messages.into_iter().map(crate::Message::into_value).collect();
    assert_eq!(values[0]["role"], "system");
    assert_eq!(
        values[1]["content"],
        serde_json::json!([{"type":"text","text":"a"},{"type":"text","text":"b"}])
    );
    assert_eq!(values[2]["content"], serde_json::Value::Null);
    assert_eq!(values[2]["tool_calls"][0]["function"]["arguments"], "{\"x\":1}");
    assert_eq!(values[3]["tool_call_id"], "c1");
}

#[test]
fn null_is_the_same_as_absent() {
    let request = chat(&with(r#""temperature":null,"stop":null,"n":null,"logit_bias":null,"stream_options":null,"tools":null,"guided_json":null"#))
        .expect("valid");
    assert_eq!(request.sampling, crate::Sampling { model: Some("m".into()), ..Default::default() });
}

#[test]
fn wrong_types_name_the_field() {
    for (field, param) in [
        (r#""temperature":"hot""#, "temperature"),
        (r#""max_tokens":1.5"#, "max_tokens"),
        (r#""stream":"yes""#, "stream"),
        (r#""stop":{"a":1}"#, "stop"),
        (r#""stop":["a",7]"#, "stop[1]"),
        (r#""stop_token_ids":[1,"x"]"#, "stop_token_ids[1]"),
        (r#""logit_bias":{"5":"much"}"#, "logit_bias.5"),
        (r#""stream_options":{"include_usage":3}"#, "stream_options.include_usage"),
        (r#""messages":"hello""#, "messages"),
        (r#""messages":[{"role":"user","content":5}]"#, "messages[0].content"),
        (
            r#""messages":[{"role":"user","content":[{"type":"text","text":5}]}]"#,
            "messages[0].content[0].text",
        ),
        (r#""messages":[7]"#, "messages[0]"),
        (r#""response_format":"json""#, "response_format"),
        (r#""seed":"x""#, "seed"),
        (r#""tool_choice":7"#, "tool_choice"),
    ] {
        assert_eq!(fault(&with(field)), ("invalid_type", Some(param.into())), "{field}");
    }
}

#[test]
fn wrong_values_name_the_field() {
    for (field, param) in [
        (r#""max_tokens":-1"#, "max_tokens"),
        (r#""n":99999999999"#, "n"),
        (r#""messages":[{"role":"wizard","content":"x"}]"#, "messages[0].role"),
        (
            r#""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"u"}}]}]"#,
            "messages[0].content[0].type",
        ),
        (r#""logit_bias":{"five":1}"#, "logit_bias"),
        (r#""tools":[{"type":"retrieval"}]"#, "tools[0]"),
        (r#""tools":[{"type":"function","function":{}}]"#, "tools[0]"),
        (r#""tool_choice":"maybe""#, "tool_choice"),
        (r#""tool_choice":{"type":"function"}"#, "tool_choice"),
    ] {
        assert_eq!(fault(&with(field)), ("invalid_value", Some(param.into())), "{field}");
    }
}

#[test]
fn missing_fields_are_named_with_their_parents() {
    assert_eq!(fault(r#"{"model":"m"}"#), ("missing_required_parameter", Some("messages".into())));
    assert_eq!(
        fault(r#"{"messages":[{"content":"x"}]}"#),
        ("missing_required_parameter", Some("messages[0].role".into()))
    );
    assert_eq!(
        fault(r#"{"messages":[{"role":"user","content":[{"type":"text"}]}]}"#),
        ("missing_required_parameter", Some("messages[0].content[0].text".into()))
    );
}

#[test]
fn numbers_that_json_lacks_are_syntax_errors_in_their_field() {
    for value in ["NaN", "Infinity", "-Infinity", "1e999"] {
        let (code, param) = fault(&with(&format!(r#""temperature":{value}"#)));
        assert_eq!((code, param.as_deref()), ("invalid_json", Some("temperature")), "{value}");
    }
}

#[test]
fn broken_json_is_one_error() {
    for body in ["", "{", "{\"model\":\"m\",}", "nonsense", "{\"messages\":[]} trailing"] {
        assert_eq!(fault(body).0, "invalid_json", "{body}");
    }
    assert_eq!(fault("[]"), ("invalid_type", None));
    let deep = format!("{{\"documents\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(fault(&deep).0, "invalid_json");
}

#[test]
fn invalid_utf8_says_where() {
    let error = parse::<ChatRequest>(b"{\"model\":\"\xff\"}").expect_err("not UTF-8");
    assert_eq!((error.code, error.param), ("invalid_utf8", None));
    assert!(error.message.contains("offset 10"), "{}", error.message);
}

#[test]
fn an_image_is_refused_by_name() {
    let error =
        chat(r#"{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#).expect_err("an image");
    assert!(error.message.contains("'image_url'"), "{}", error.message);
}

#[test]
fn prompts_have_four_forms() {
    let prompt = |json: &str| {
        parse::<CompletionRequest>(format!(r#"{{"prompt":{json}}}"#).as_bytes()).map(|request| request.prompt)
    };
    let text = |text: &str| PromptInput::Text(text.into());
    assert_eq!(prompt(r#""a""#), Ok(Some(Prompt(vec![text("a")]))));
    assert_eq!(prompt(r#"["a","b"]"#), Ok(Some(Prompt(vec![text("a"), text("b")]))));
    assert_eq!(prompt("[1,2]"), Ok(Some(Prompt(vec![PromptInput::Tokens(vec![1, 2])]))));
    assert_eq!(
        prompt("[[1],[2,3]]"),
        Ok(Some(Prompt(vec![PromptInput::Tokens(vec![1]), PromptInput::Tokens(vec![2, 3])])))
    );
    assert_eq!(prompt("[1,-2]").expect_err("negative").param.as_deref(), Some("prompt[1]"));
    assert_eq!(prompt("[1,\"a\"]").expect_err("mixed").param.as_deref(), Some("prompt"));
    assert_eq!(prompt("[[1,4294967296]]").expect_err("too large").param.as_deref(), Some("prompt[0][1]"));
}

#[test]
fn malformed_arguments_in_the_history_are_kept_as_text() {
    let request = chat(
        r#"{"messages":[{"role":"assistant","tool_calls":[
            {"function":{"name":"f","arguments":"{broken"}},
            {"function":{"name":"g","arguments":{"a":2}}},
            {"function":{"name":"h"}}]}]}"#,
    )
    .expect("valid");
    let value = request.messages.expect("given").remove(0).into_value();
    assert_eq!(value["tool_calls"][0]["function"]["arguments"], "{broken");
    assert_eq!(value["tool_calls"][1]["function"]["arguments"]["a"], 2);
    assert_eq!(value["tool_calls"][2]["function"]["arguments"], serde_json::Value::Null);
}

proptest! {
    #[test]
    fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse::<ChatRequest>(&body);
        let _ = parse::<CompletionRequest>(&body);
    }

    #[test]
    fn any_text_survives(text in ".{0,40}") {
        let body = serde_json::json!({"messages": [{"role": "user", "content": text}]}).to_string();
        let request = parse::<ChatRequest>(body.as_bytes()).expect("valid");
        prop_assert_eq!(&request.messages.expect("given")[0].content, &Some(Content::Text(text)));
    }
}
