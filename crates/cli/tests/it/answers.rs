//! The built-in model's greedy answers, over the API.

use serde_json::{Value, json};

use crate::process::{Server, http};

/// Whoever computes these rightly computes the whole model rightly: template, tokenizer, weights, sampling.
#[tokio::test]
async fn the_model_gives_its_known_answers() {
    let server = Server::start();
    let url = format!("{}/v1/chat/completions", server.url);
    let known: Vec<Value> = serde_json::from_str(vlinders_demo::GREEDY_ANSWERS).unwrap();
    assert!(known.len() >= 12, "only {} answers are known", known.len());
    let client = http();
    let asked = known.iter().map(|case| async {
        let mut body =
            json!({"model": vlinders_demo::MODEL_NAME, "messages": case["messages"], "temperature": 0});
        if let Some(tools) = case.get("tools") {
            body["tools"] = tools.clone();
        }
        let response = client.post(&url).json(&body).send().await.unwrap();
        response.json::<Value>().await.unwrap()
    });
    // All at once: what else is in the batch must not matter.
    let answers = futures::future::join_all(asked).await;
    for (case, answer) in known.iter().zip(answers) {
        let message = &answer["choices"][0]["message"];
        assert_eq!(said(message), expected(&case["answer"]), "to {} in {answer}", case["messages"]);
    }
}

/// Text, or the calls of tools, as one value.
fn said(message: &Value) -> Value {
    match message["tool_calls"].as_array() {
        None => message["content"].clone(),
        Some(calls) => calls.iter().map(|call| call_of(&call["function"])).collect(),
    }
}

/// The known answers are written as the model writes them: calls in tags.
fn expected(answer: &Value) -> Value {
    let text = answer.as_str().unwrap();
    if !text.contains("<tool_call>") {
        return answer.clone();
    }
    let calls = text.split("<tool_call>").skip(1).map(|part| part.split("</tool_call>").next().unwrap());
    calls.map(|call| call_of(&serde_json::from_str(call).unwrap())).collect()
}

/// Arguments come as JSON in a string or as an object; compared as values.
fn call_of(function: &Value) -> Value {
    let arguments = match &function["arguments"] {
        Value::String(text) => serde_json::from_str(text).unwrap(),
        object => object.clone(),
    };
    json!({"name": function["name"], "arguments": arguments})
}
