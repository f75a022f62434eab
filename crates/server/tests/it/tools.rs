//! Tools: offered to the template, read out of the answer.

use serde_json::{Value, json};

use crate::support::{TestServer, events, transcript};

const CALL: &str = "ok <tool_call>\n{\"name\": \"find\", \"arguments\": {\"q\": \"a b\"}}\n</tool_call>";

fn tools() -> Value {
    json!([{ "type": "function", "function": { "name": "find", "parameters": {} } }])
}

#[tokio::test]
async fn a_call_is_read_out_of_the_answer() {
    let server = TestServer::start().await;
    let answer = server.chat(CALL, json!({ "tools": tools() })).await;
    insta::assert_snapshot!(transcript(&answer["choices"][0].to_string()));
}

#[tokio::test]
async fn a_streamed_call_comes_whole() {
    let server = TestServer::start().await;
    let events = events(&server.chat_stream(CALL, json!({ "tools": tools() })).await);
    let text: String =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "ok");
    let calls: Vec<_> =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["tool_calls"].as_array()).collect();
    assert_eq!(calls.len(), 1);
    insta::assert_snapshot!(transcript(&json!(calls[0]).to_string()));
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn without_tools_nothing_is_a_call() {
    let server = TestServer::start().await;
    for fields in [json!({}), json!({ "tools": tools(), "tool_choice": "none" }), json!({ "tools": [] })] {
        let answer = server.chat(CALL, fields).await;
        assert_eq!(answer["choices"][0]["message"]["content"], CALL);
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    }
}

#[tokio::test]
async fn the_template_sees_the_tools_on_offer() {
    let server = TestServer::start().await;
    let mut two = tools();
    two.as_array_mut().unwrap().push(json!({ "type": "function", "function": { "name": "now" } }));
    let one = json!({ "type": "function", "function": { "name": "now" } });
    let mut prompts = Vec::new();
    for fields in [json!({}), json!({ "tools": two }), json!({ "tools": two, "tool_choice": one })] {
        let answer = server.chat("x", fields).await;
        prompts.push(answer["usage"]["prompt_tokens"].as_u64().unwrap());
    }
    assert_eq!(prompts, [4, 13, 13], "nothing, '2 tools', '1 tools'");
}

#[tokio::test]
async fn history_may_hold_broken_calls() {
    let server = TestServer::start().await;
    let messages = json!([
        { "role": "user", "content": "find it" },
        { "role": "assistant", "content": null, "tool_calls": [
            { "id": "c", "type": "function", "function": { "name": "find", "arguments": "{\"q\": tru" } }] },
        { "role": "tool", "tool_call_id": "c", "content": "found" }]);
    let answer = server.chat("", json!({ "messages": messages })).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "found");
}
