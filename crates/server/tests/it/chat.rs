//! Chat completions, whole and streamed.

use serde_json::json;

use crate::support::{MODEL, TestServer, chat_body, events, transcript};

#[tokio::test]
async fn a_whole_answer() {
    let server = TestServer::start().await;
    let answer = server.chat("Hello", json!({})).await;
    insta::assert_snapshot!(transcript(&answer.to_string()));
}

#[tokio::test]
async fn a_stream() {
    let server = TestServer::start().await;
    insta::assert_snapshot!(transcript(&server.chat_stream("Hi 🦋", json!({})).await));
}

#[tokio::test]
async fn a_stream_of_two_choices_with_usage() {
    let server = TestServer::start().await;
    server.gate.close();
    let fields = json!({ "n": 2, "stream_options": { "include_usage": true } });
    let reading = server.chat_stream("ab", fields);
    let (stream, ()) = tokio::join!(reading, async {
        // Both in the same steps, so that the order of chunks is always the same.
        server.until("both are there", |stats| stats.running + stats.waiting == 2).await;
        server.gate.set_open();
    });
    let mut lines: Vec<String> =
        events(&stream).iter().map(ToString::to_string).map(|line| transcript(&line)).collect();
    let usage = lines.pop().unwrap();
    for index in 0..2 {
        let mine: Vec<&String> =
            lines.iter().filter(|line| line.contains(&format!("\"index\":{index}"))).collect();
        insta::assert_snapshot!(
            format!("choice_{index}"),
            mine.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n")
        );
    }
    insta::assert_snapshot!("usage", usage);
}

#[tokio::test]
async fn choices_count_up_the_seed() {
    let server = TestServer::start().await;
    let answer = server.chat("Hello", json!({ "n": 3, "seed": 10 })).await;
    let texts: Vec<_> =
        answer["choices"].as_array().unwrap().iter().map(|c| &c["message"]["content"]).collect();
    assert_eq!(texts, ["Hello", "HELLO", "Hello"]);
    let prompt = answer["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(prompt, "u Hello e a".split_whitespace().count() as u64 + 4, "the prompt counts once");
    assert_eq!(answer["usage"]["completion_tokens"], 18, "five letters and the end, three times");
}

#[tokio::test]
async fn usage_counts_cached_tokens() {
    let server = TestServer::start().await;
    let text = "the same beginning";
    let first = server.chat(text, json!({})).await;
    let second = server.chat(text, json!({})).await;
    assert_eq!(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    // 21 tokens in blocks of 4, of which the last is always computed.
    assert_eq!(second["usage"]["prompt_tokens_details"]["cached_tokens"], 20);
}

#[tokio::test]
async fn a_prompt_is_counted_once_whatever_n_is() {
    let server = TestServer::start().await;
    let text = "a prompt that fills several blocks";
    let details = |answer: &serde_json::Value| {
        let usage = &answer["usage"];
        let number = |value: &serde_json::Value| value.as_u64().unwrap();
        let cached = number(&usage["prompt_tokens_details"]["cached_tokens"]);
        let (prompt, completion) = (number(&usage["prompt_tokens"]), number(&usage["completion_tokens"]));
        assert_eq!(number(&usage["total_tokens"]), prompt + completion);
        (prompt, cached, completion)
    };
    let one = details(&server.chat(text, json!({ "max_tokens": 4 })).await);
    assert_eq!(one, (text.len() as u64 + 3, 0, 4));
    let again = details(&server.chat(text, json!({ "max_tokens": 4 })).await);
    assert_eq!((again.0, again.1), (one.0, 36), "nine blocks of four");
    let three = json!({ "max_tokens": 4, "n": 3 });
    assert_eq!(details(&server.chat(text, three.clone()).await), (one.0, 36, 12));
    let mut streamed = three;
    streamed["stream_options"] = json!({ "include_usage": true });
    let last = events(&server.chat_stream(text, streamed).await).pop().unwrap();
    assert_eq!(details(&last), (one.0, 36, 12));

    // Without a cached prompt, the later choices find what the first has computed, which is no saving of the request.
    let new = "another prompt, as long as the other one";
    assert_eq!(details(&server.chat(new, json!({ "max_tokens": 4, "n": 3 })).await).0, new.len() as u64 + 3);
}

#[tokio::test]
async fn continuous_usage_is_in_every_chunk() {
    let server = TestServer::start().await;
    let fields = json!({ "stream_options": { "include_usage": true, "continuous_usage_stats": true } });
    let events = events(&server.chat_stream("abc", fields).await);
    let counts: Vec<_> =
        events.iter().map(|event| event["usage"]["completion_tokens"].as_u64().unwrap()).collect();
    assert_eq!(counts, [1, 1, 2, 3, 4, 4]);
}

#[tokio::test]
async fn log_probabilities() {
    let server = TestServer::start().await;
    let answer = server.chat("a", json!({ "logprobs": true, "top_logprobs": 2 })).await;
    insta::assert_snapshot!(answer["choices"][0]["logprobs"].to_string());
    let stream = server.chat_stream("é", json!({ "logprobs": true })).await;
    let chunk = &events(&stream)[1]["choices"][0];
    assert_eq!(chunk["delta"]["content"], "é");
    let tokens = chunk["logprobs"]["content"].as_array().unwrap();
    assert_eq!(tokens.len(), 2, "both halves come with the character");
    assert_eq!(tokens[0]["bytes"], json!([0xc3]));
    assert_eq!(tokens[0]["top_logprobs"], json!([]));
    let named = server.chat("a", json!({ "logprobs": true, "return_tokens_as_token_ids": true })).await;
    assert_eq!(named["choices"][0]["logprobs"]["content"][0]["token"], "token_id:97");
}

#[tokio::test]
async fn lengths_are_kept() {
    let server = TestServer::start().await;
    let answer = server.chat("Hello", json!({ "max_tokens": 3 })).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "Hel");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 3);
    let both = server.chat("Hello", json!({ "max_tokens": 5, "max_completion_tokens": 2 })).await;
    assert_eq!(both["choices"][0]["message"]["content"], "He");
    let at_least = server.chat("Hi", json!({ "min_tokens": 5 })).await;
    assert_eq!(at_least["choices"][0]["message"]["content"], "HiHiH");
    let no_end = server.chat("Hi", json!({ "ignore_eos": true })).await;
    assert_eq!(no_end["usage"]["total_tokens"], 256, "to the end of the context");
}

#[tokio::test]
async fn a_message_can_be_continued() {
    let server = TestServer::start().await;
    let mut body = chat_body("x", json!({ "continue_final_message": true, "echo": true }));
    body["messages"] =
        json!([{ "role": "user", "content": "Say it" }, { "role": "assistant", "content": "Say" }]);
    let (status, answer) = server.post("/v1/chat/completions", &body).await;
    assert_eq!(status, 200, "{answer}");
    // The parrot repeats what the user said; the echo comes before.
    assert_eq!(answer["choices"][0]["message"]["content"], "SaySay it");
}

#[tokio::test]
async fn a_model_is_found_by_its_names_and_need_not_be_named_where_there_is_one() {
    let server = TestServer::start().await;
    for model in [json!(MODEL), json!("org/parrot-small"), json!(null)] {
        let answer = server.chat("x", json!({ "model": model })).await;
        assert_eq!(answer["model"], MODEL);
    }
}

#[tokio::test]
async fn one_failed_request_harms_no_other() {
    let server = TestServer::start().await;
    let (status, answer) = server.post("/v1/chat/completions", &chat_body("FAIL ALONE", json!({}))).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (500, Some("engine_error")));
    let stream = server.chat_stream("FAIL ALONE", json!({})).await;
    let events = events(&stream);
    assert_eq!(events.len(), 1, "{stream}");
    assert_eq!(events[0]["error"]["code"], "engine_error");
    server.chat("Hello", json!({})).await;
}
