//! Chat templates against transformers' renderings.

use serde_json::{Value, json};
use vlinders_text::{RenderInput, TextError, TextModel, TextOptions};

use crate::folder::{Folder, golden, golden_json};

/// A model with this template.
fn model(template: &str, special_tokens: &Value) -> Result<TextModel, TextError> {
    Folder::with_tokenizer("byte-bpe")
        .with("tokenizer_config.json", special_tokens.to_string())
        .with("chat_template.jinja", template)
        .load()
}

/// The request of a case; what the case lacks is taken from `shared`.
fn input(case: &Value, shared: &Value) -> RenderInput {
    let list = |name: &str| case[name].as_array().or(shared[name].as_array()).cloned();
    let kwargs = case["kwargs"].as_object().or(shared["kwargs"].as_object());
    RenderInput {
        messages: list("messages").unwrap_or_default(),
        tools: list("tools"),
        documents: list("documents"),
        add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap_or(false),
        continue_final_message: false,
        kwargs: kwargs.cloned().unwrap_or_default(),
        now: shared["now"].as_str().map(|now| now.parse().expect("an ISO 8601 time")),
    }
}

/// What went differently, if anything did.
fn difference(rendered: Result<String, TextError>, case: &Value) -> Option<String> {
    let name = case["name"].as_str().unwrap_or("?");
    let error = &case["error"];
    match (rendered, case["expected"].as_str()) {
        (Ok(text), Some(expected)) if text == expected => None,
        (Ok(text), Some(expected)) => Some(format!("{name}\n   expected {expected:?}\n   rendered {text:?}")),
        (Ok(text), None) => Some(format!("{name}\n   expected error {error}\n   rendered {text:?}")),
        (Err(error), Some(expected)) => {
            Some(format!("{name}\n   expected {expected:?}\n   failed   {error}"))
        }
        (Err(TextError::TemplateRefused(message)), None) if error["raised_by_template"] == json!(true) => {
            (error["message"] != json!(message)).then(|| format!("{name}\n   wrong message {message:?}"))
        }
        (Err(_), None) if error["raised_by_template"] == json!(false) => None,
        (Err(other), None) => Some(format!("{name}\n   expected error {error}\n   failed   {other}")),
    }
}

fn check_form(form: &str) {
    let goldens = golden_json(&format!("templates/{form}.json"));
    let model = model(&golden(&format!("templates/{form}.jinja")), &goldens["special_tokens"]).unwrap();
    let cases = goldens["cases"].as_array().unwrap();
    let differences: Vec<String> =
        cases.iter().filter_map(|case| difference(model.render(&input(case, &goldens)), case)).collect();
    assert!(cases.len() > 4, "{form} has too few cases");
    assert!(
        differences.is_empty(),
        "{form}: {} of {}\n{}",
        differences.len(),
        cases.len(),
        differences.join("\n")
    );
}

macro_rules! forms {
    ($($test:ident: $form:literal),+ $(,)?) => {
        const FORMS: &[&str] = &[$($form),+];
        $(#[test] fn $test() { check_form($form); })+
    };
}

forms! {
    chatml: "chatml",
    deepseek: "deepseek",
    documents: "documents",
    gemma: "gemma",
    gemma3: "gemma3",
    llama3: "llama3",
    mistral: "mistral",
    mistral_v1: "mistral-v1",
    qwen2_5: "qwen2.5",
    qwen3: "qwen3",
}

/// Features of Jinja2 that minijinja lacks, by the name of their case.
const LACKING: [&str; 1] = ["percent formatting"];

#[test]
fn features_of_jinja() {
    let goldens = golden_json("templates/snippets.json");
    let cases = goldens["cases"].as_array().unwrap();
    let differences: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let template = case["template"].as_str().unwrap();
            if LACKING.contains(&case["name"].as_str()?) {
                return None;
            }
            let rendered = model(template, &goldens["special_tokens"])
                .and_then(|model| model.render(&input(case, &goldens)));
            difference(rendered, case).map(|text| format!("{text}\n   template {template:?}"))
        })
        .collect();
    assert!(cases.len() > 100, "too few cases");
    assert!(differences.is_empty(), "{} of {}\n{}", differences.len(), cases.len(), differences.join("\n"));
}

/// Renders messages with a golden form and default arguments.
fn render(form: &str, messages: Value, change: impl FnOnce(&mut RenderInput)) -> Result<String, TextError> {
    let goldens = golden_json(&format!("templates/{form}.json"));
    let model = model(&golden(&format!("templates/{form}.jinja")), &goldens["special_tokens"]).unwrap();
    let mut input = input(&json!({"messages": messages}), &goldens);
    change(&mut input);
    model.render(&input)
}

#[test]
fn parts_become_text_where_the_template_takes_text_only() {
    let parts = json!([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]);
    let flattened = render("chatml", json!([{"role": "user", "content": parts}]), |_| {}).unwrap();
    let plain = render("chatml", json!([{"role": "user", "content": "one\ntwo"}]), |_| {}).unwrap();
    assert_eq!(flattened, plain);

    let image = json!([{"type": "image_url", "image_url": {"url": "x"}}]);
    let error = render("chatml", json!([{"role": "user", "content": image}]), |_| {}).unwrap_err();
    assert!(error.to_string().contains("messages[0] has content of type `image_url`"), "{error}");
}

#[test]
fn every_form_shows_the_text_of_parts() {
    let parts = json!([{"type": "text", "text": "first part"}, {"type": "text", "text": "second part"}]);
    for form in FORMS {
        let prompt = render(form, json!([{"role": "user", "content": parts}]), |_| {}).unwrap();
        assert!(prompt.contains("first part") && prompt.contains("second part"), "{form}: {prompt}");
        assert!(!prompt.contains("'text'") && !prompt.contains("\"text\""), "{form}: {prompt}");
    }
}

#[test]
fn a_model_is_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let model = Folder::with_tokenizer("byte-bpe").load().unwrap();
    shared(&model);
    shared(&model.detokenizer(&[], true));
}

#[test]
fn arguments_in_json_text_become_what_the_template_prints_as_json() {
    let history = |arguments: Value| {
        let call = json!({"id": "abc123def", "type": "function", "function": {"name": "clock", "arguments": arguments}});
        json!([
            {"role": "user", "content": "What time is it?"},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "abc123def", "name": "clock", "content": "noon"},
        ])
    };
    for form in ["llama3", "mistral", "qwen2.5"] {
        let object = render(form, history(json!({"zone": "UTC", "n": 1})), |_| {}).unwrap();
        let text = render(form, history(json!("{\"zone\":\"UTC\",\"n\":1}")), |_| {}).unwrap();
        assert_eq!(object, text, "{form}");
        assert!(text.contains(r#"{"zone": "UTC", "n": 1}"#), "{form}: {text}");
    }
    // These forms write a text as it is: the model sees what it wrote.
    for form in ["deepseek", "qwen3"] {
        let text = render(form, history(json!("{\"zone\":\"UTC\"}")), |_| {}).unwrap();
        assert!(text.contains(r#"{"zone":"UTC"}"#), "{form}: {text}");
    }
}

#[test]
fn the_last_message_is_left_open_on_request() {
    for form in ["chatml", "llama3", "qwen3", "gemma", "mistral"] {
        for content in ["The answer is", "The answer is "] {
            let messages =
                json!([{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": content}]);
            let prompt = render(form, messages.clone(), |input| input.continue_final_message = true).unwrap();
            assert!(prompt.trim_end().ends_with("The answer is"), "{form}: {prompt:?}");
            let whole = render(form, messages, |_| {}).unwrap();
            assert!(whole.starts_with(&prompt), "{form}: {prompt:?} does not begin {whole:?}");
        }
    }
    let both = render("chatml", json!([{"role": "user", "content": "a"}]), |input| {
        input.continue_final_message = true;
        input.add_generation_prompt = true;
    });
    assert!(matches!(both, Err(TextError::CannotContinue(_))), "{both:?}");
    let nothing = render("chatml", json!([]), |input| input.continue_final_message = true);
    assert!(matches!(nothing, Err(TextError::CannotContinue(_))), "{nothing:?}");
}

#[test]
fn a_template_that_takes_parts_only_gets_parts() {
    let template = "{% for m in messages %}{{ m.role }}:{% for part in m.content %}\
                    {% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %};{% endfor %}";
    let model = model(template, &json!({})).unwrap();
    let messages = vec![json!({"role": "user", "content": "hello"})];
    let prompt = model.render(&RenderInput { messages, ..RenderInput::default() }).unwrap();
    assert_eq!(prompt, "user:hello;");
}

#[test]
fn content_that_is_not_there_does_not_print_as_none() {
    let template = "{% for m in messages %}[{{ m.content }}]{% endfor %}";
    let model = model(template, &json!({})).unwrap();
    let messages = vec![json!({"role": "assistant", "content": null})];
    let prompt = model.render(&RenderInput { messages, ..RenderInput::default() }).unwrap();
    assert_eq!(prompt, "[]");
}

#[test]
fn long_conversations_are_within_the_limits() {
    for form in ["llama3", "mistral", "qwen3", "deepseek", "gemma3"] {
        let messages: Value = (0..5_001)
            .map(|turn| {
                let role = if turn % 2 == 0 { "user" } else { "assistant" };
                json!({"role": role, "content": "The butterfly has four wings. ".repeat(10)})
            })
            .collect();
        let prompt = render(form, messages, |_| {}).unwrap();
        assert!(prompt.len() > 1_400_000, "{form}: {}", prompt.len());
    }
}

#[test]
fn a_template_can_not_hang_or_fill_the_memory() {
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}\
                   {% set x = a %}{% endfor %}{% endfor %}{% endfor %}";
    let large = "{% for a in range(9999) %}{{ 'abcdefghij' * 10000 }}{% endfor %}";
    let doubling =
        "{% set ns = namespace(s='ab') %}{% for a in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}";
    for template in [endless, large, doubling] {
        let error = model(template, &json!({})).unwrap().render(&RenderInput::default()).unwrap_err();
        assert!(matches!(error, TextError::TemplateLimit { .. }), "{error}");
    }
    let deep = "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}";
    assert!(model(deep, &json!({})).unwrap().render(&RenderInput::default()).is_err());
}

#[test]
fn variables_that_the_request_sets_are_reserved() {
    let error = render("chatml", json!([]), |input| {
        input.kwargs.insert("messages".into(), json!([]));
    });
    assert_eq!(
        error.unwrap_err().to_string(),
        "chat_template_kwargs may not contain `messages`, which the request sets elsewhere"
    );
}

#[test]
fn a_configured_template_replaces_the_models_own() {
    let folder = Folder::with_tokenizer("byte-bpe").with("chat_template.jinja", "own");
    let options = TextOptions { chat_template: Some("configured".into()) };
    let model = folder.load_with(options).unwrap();
    assert_eq!(model.render(&RenderInput::default()).unwrap(), "configured");
}

#[test]
fn templates_are_found_where_models_keep_them() {
    let named = json!({"chat_template": [
        {"name": "default", "template": "plain"},
        {"name": "tool_use", "template": "with tools"},
    ]});
    let model =
        Folder::with_tokenizer("byte-bpe").with("tokenizer_config.json", named.to_string()).load().unwrap();
    assert_eq!(model.render(&RenderInput::default()).unwrap(), "plain");
    let tools = RenderInput { tools: Some(vec![]), ..RenderInput::default() };
    assert_eq!(model.render(&tools).unwrap(), "with tools");

    let one =
        Folder::with_tokenizer("byte-bpe").with("chat_template.json", r#"{"chat_template": "processor"}"#);
    assert_eq!(one.load().unwrap().render(&RenderInput::default()).unwrap(), "processor");
    let two = one.with("tokenizer_config.json", r#"{"chat_template": "tokenizer"}"#);
    assert_eq!(two.load().unwrap().render(&RenderInput::default()).unwrap(), "tokenizer");
    let three = two.with("chat_template.jinja", "file");
    assert_eq!(three.load().unwrap().render(&RenderInput::default()).unwrap(), "file");

    let none = Folder::with_tokenizer("byte-bpe").load().unwrap();
    assert!(!none.has_chat_template());
    let error = none.render(&RenderInput::default()).unwrap_err().to_string();
    assert!(error.contains("no chat template"), "{error}");
}
