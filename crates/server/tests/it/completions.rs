//! Completions, whole and streamed.

use serde_json::{Value, json};

use crate::support::{MODEL, TestServer, merge, read, transcript};

fn body(prompt: Value, fields: Value) -> Value {
    let mut body = json!({ "model": MODEL, "prompt": prompt, "seed": 2 });
    merge(&mut body, fields);
    body
}

async fn complete(server: &TestServer, prompt: Value, fields: Value) -> Value {
    let (status, answer) = server.post("/v1/completions", &body(prompt, fields)).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

fn texts(answer: &Value) -> Vec<&str> {
    answer["choices"].as_array().unwrap().iter().map(|choice| choice["text"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_whole_answer() {
    let server = TestServer::start().await;
    let answer = complete(&server, json!("Hello"), json!({})).await;
    insta::assert_snapshot!(transcript(&answer.to_string()));
}

#[tokio::test]
async fn a_stream_with_usage_and_log_probabilities() {
    let server = TestServer::start().await;
    let fields = json!({ "stream": true, "logprobs": 1, "stream_options": { "include_usage": true } });
    let response = server.send("/v1/completions", &body(json!("aé"), fields)).await;
    insta::assert_snapshot!(transcript(&response.text().await.unwrap()));
}

#[tokio::test]
async fn prompts_in_all_forms_and_choices_in_order() {
    let server = TestServer::start().await;
    assert_eq!(texts(&complete(&server, json!([97, 98]), json!({})).await), ["ab"]);
    assert_eq!(texts(&complete(&server, json!(["a", "b"]), json!({})).await), ["a", "b"]);
    let answer = complete(&server, json!([[97], [98, 99]]), json!({ "n": 2 })).await;
    assert_eq!(texts(&answer), ["a", "A", "bc", "BC"]);
    let indices: Vec<_> =
        answer["choices"].as_array().unwrap().iter().map(|c| c["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [0, 1, 2, 3]);
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
}

#[tokio::test]
async fn sixteen_tokens_unless_said_otherwise() {
    let server = TestServer::start().await;
    let answer = complete(&server, json!("ab"), json!({ "ignore_eos": true })).await;
    assert_eq!(answer["usage"]["completion_tokens"], 16);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn the_prompt_is_echoed() {
    let server = TestServer::start().await;
    let fields = json!({ "echo": true, "max_tokens": 2 });
    assert_eq!(texts(&complete(&server, json!("Hello"), fields.clone()).await), ["HelloHe"]);
    assert_eq!(texts(&complete(&server, json!([72, 105]), fields.clone()).await), ["HiHi"]);
    let mut streamed = fields;
    streamed["stream"] = true.into();
    let stream = server.send("/v1/completions", &body(json!("Hello"), streamed)).await.text().await.unwrap();
    let events = crate::support::events(&stream);
    assert_eq!(events[0]["choices"][0]["text"], "Hello");
    let text: String = events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, "HelloHe");
}

#[tokio::test]
async fn an_echo_scores_the_prompt() {
    let server = TestServer::start().await;
    let answer =
        complete(&server, json!("aé"), json!({ "echo": true, "max_tokens": 1, "logprobs": 0 })).await;
    assert_eq!(answer["choices"][0]["text"], "aéa");
    insta::assert_snapshot!(answer["choices"][0]["logprobs"].to_string());
    let only = complete(&server, json!("ab"), json!({ "echo": true, "max_tokens": 0, "logprobs": 1 })).await;
    assert_eq!(only["choices"][0]["text"], "ab");
    assert_eq!(only["choices"][0]["logprobs"]["token_logprobs"], json!([null, -0.25]));
    assert_eq!(only["usage"]["completion_tokens"], 0);
    let silent = complete(&server, json!("ab"), json!({ "echo": true, "max_tokens": 0 })).await;
    assert_eq!((texts(&silent)[0], &silent["choices"][0]["logprobs"]), ("ab", &Value::Null));
}

#[tokio::test]
async fn special_tokens_are_shown_on_request() {
    let server = TestServer::start().await;
    let prompt = json!([257, 97, 260, 98]);
    assert_eq!(texts(&complete(&server, prompt.clone(), json!({})).await), ["ab"]);
    let shown = complete(&server, prompt, json!({ "skip_special_tokens": false })).await;
    assert_eq!(texts(&shown), ["a<|system|>b"]);
}

#[tokio::test]
async fn tokens_and_back() {
    let server = TestServer::start().await;
    let (status, tokens) =
        server.post("/tokenize", &json!({ "prompt": "é!", "return_token_strs": true })).await;
    assert_eq!(status, 200);
    assert_eq!(
        tokens,
        json!({ "count": 3, "max_model_len": 256, "tokens": [195, 169, 33], "token_strs": ["Ã", "©", "!"] })
    );
    let (_, text) = server.post("/detokenize", &json!({ "tokens": [195, 169, 33] })).await;
    assert_eq!(text, json!({ "prompt": "é!" }));
    let messages = json!({ "messages": [{ "role": "user", "content": "a" }] });
    let (_, chat) = server.post("/tokenize", &messages).await;
    assert_eq!(chat["tokens"], json!([257, 97, 256, 258]));
    let (status, error) = server.post("/detokenize", &json!({ "tokens": [1, 261] })).await;
    assert_eq!((status, error["error"]["param"].as_str()), (400, Some("tokens[1]")));
    let neither = read(server.send("/tokenize", &json!({})).await).await;
    assert_eq!((neither.0, neither.1["error"]["param"].as_str()), (400, Some("prompt")));
}

#[tokio::test]
async fn each_of_several_prompts_is_counted_once() {
    let server = TestServer::start().await;
    let body =
        json!({ "model": "parrot", "prompt": ["a first prompt", "the second one"], "max_tokens": 3, "n": 2 });
    let (_, cold) = server.post("/v1/completions", &body).await;
    assert_eq!(cold["usage"]["prompt_tokens"], 28, "{cold}");
    assert_eq!(cold["usage"]["completion_tokens"], 12);
    let (_, warm) = server.post("/v1/completions", &body).await;
    assert_eq!(warm["usage"]["prompt_tokens"], 28, "{warm}");
    assert_eq!(warm["usage"]["prompt_tokens_details"]["cached_tokens"], 24, "three blocks of each");
}
