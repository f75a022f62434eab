//! Holds the embedded tokenizer and chat template against what Jinja2 and the Python tokenizer make of them.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, json};
use vlinders_text::{RenderInput, TextModel, TextOptions};

#[derive(Deserialize)]
struct Case {
    messages: Vec<Value>,
    tools: Option<Vec<Value>>,
    text: String,
    ids: Vec<u32>,
}

fn model() -> TextModel {
    TextModel::load(|name| Ok(vlinders_demo::file(name).map(Cow::Borrowed)), TextOptions::default())
        .expect("the embedded files are usable")
}

fn render(model: &TextModel, messages: Vec<Value>, tools: Option<Vec<Value>>) -> Result<String, String> {
    let input = RenderInput { messages, tools, add_generation_prompt: true, ..Default::default() };
    model.render(&input).map_err(|error| error.to_string())
}

#[test]
fn conversations_render_and_encode_as_in_python() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("rendered.json")).expect("rendered.json");
    let model = model();
    assert!(cases.len() >= 7);
    for case in cases {
        let text = render(&model, case.messages, case.tools).expect("renders");
        assert_eq!(text, case.text);
        assert_eq!(model.encode(&text, false).expect("encodes"), case.ids);
    }
}

#[test]
fn lists_of_text_parts_are_joined() {
    let parts = json!({"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo!"}]});
    let whole = json!({"role": "user", "content": "Hello!"});
    let model = model();
    assert_eq!(render(&model, vec![parts], None), render(&model, vec![whole], None));
}

#[test]
fn an_unknown_role_is_an_error_that_names_it() {
    let error = render(&model(), vec![json!({"role": "robot", "content": "x"})], None).expect_err("refused");
    assert!(error.contains("robot") && error.contains("assistant"), "{error}");
}

#[test]
fn any_text_survives_the_tokenizer() {
    let model = model();
    for text in [
        "",
        " ",
        "\n\n a\t",
        "e\u{301} नमस्ते 👩‍👩‍👧 中文 naïve",
        "\0\u{7f}",
        "12345 + 67",
        "<tool_call>\n{}\n</tool_call>",
    ] {
        let ids = model.encode(text, false).expect("encodes");
        assert_eq!(model.decode(&ids, false).expect("decodes"), text);
    }
}

#[test]
fn each_digit_is_a_token_of_its_own() {
    assert_eq!(model().encode("8472", false).expect("encodes").len(), 4);
}

#[test]
fn a_turn_ends_with_the_end_of_turn_token() {
    let model = model();
    let end = model.token_id("<|im_end|>").expect("in the vocabulary");
    assert!(model.eos_token_ids().contains(&end));
    assert!(model.is_special(end));
    assert!(!model.is_special(model.token_id("<tool_call>").expect("in the vocabulary")));
}
