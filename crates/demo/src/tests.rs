//! Checks that the embedded files are one complete, consistent model.

use std::collections::BTreeSet;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::{FILES, GREEDY_ANSWERS, file};

fn json(name: &str) -> Value {
    serde_json::from_slice(file(name).expect(name)).expect(name)
}

fn size(config: &Value, field: &str) -> usize {
    config[field].as_u64().expect(field) as usize
}

#[test]
fn the_files_fit_into_eight_megabytes() {
    let total: usize = FILES.iter().map(|(_, content)| content.len()).sum();
    assert!(total <= 8 << 20, "{total} bytes");
}

#[test]
fn the_weights_are_those_that_the_configuration_describes() {
    let config = json("config.json");
    let weights = SafeTensors::deserialize(file("model.safetensors").expect("weights")).expect("safetensors");
    let (hidden, inner) = (size(&config, "hidden_size"), size(&config, "intermediate_size"));
    let head = size(&config, "head_dim");
    let queries = head * size(&config, "num_attention_heads");
    let keys = head * size(&config, "num_key_value_heads");
    let mut expected = vec![
        ("model.embed_tokens.weight".to_owned(), vec![size(&config, "vocab_size"), hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    for layer in 0..size(&config, "num_hidden_layers") {
        for (name, shape) in [
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![queries, hidden]),
            ("self_attn.k_proj", vec![keys, hidden]),
            ("self_attn.v_proj", vec![keys, hidden]),
            ("self_attn.o_proj", vec![hidden, queries]),
            ("mlp.gate_proj", vec![inner, hidden]),
            ("mlp.up_proj", vec![inner, hidden]),
            ("mlp.down_proj", vec![hidden, inner]),
        ] {
            expected.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    assert_eq!(weights.len(), expected.len());
    for (name, shape) in expected {
        let tensor = weights.tensor(&name).expect(&name);
        assert_eq!((tensor.shape(), tensor.dtype()), (shape.as_slice(), Dtype::BF16), "{name}");
    }
}

#[test]
fn the_tokenizer_has_as_many_tokens_as_the_embedding_and_all_bytes() {
    let tokenizer = json("tokenizer.json");
    let vocabulary = tokenizer["model"]["vocab"].as_object().expect("vocab");
    let ids: BTreeSet<u64> = vocabulary.values().filter_map(Value::as_u64).collect();
    let size = json("config.json")["vocab_size"].as_u64().expect("vocab_size");
    assert_eq!(ids, (0..size).collect());
    // In byte-level BPE each of the 256 bytes is written as one character of its own.
    let bytes = vocabulary.keys().filter(|token| token.chars().count() == 1).count();
    assert_eq!(bytes, 256);
}

#[test]
fn the_end_of_turn_ends_generation() {
    let config = json("tokenizer_config.json");
    let vocabulary = &json("tokenizer.json")["model"]["vocab"];
    let end = &vocabulary[config["eos_token"].as_str().expect("eos_token")];
    let stops = json("generation_config.json")["eos_token_id"].clone();
    assert!(stops.as_array().expect("a list").contains(end), "{end} is not in {stops}");
}
#[test]
fn each_greedy_answer_has_a_question_and_a_safe_margin() {
    let answers: Vec<Value> = serde_json::from_str(GREEDY_ANSWERS).expect("greedy.json");
    assert!(answers.len() >= 12);
    for entry in answers {
        assert!(entry["messages"].as_array().is_some_and(|messages| !messages.is_empty()), "{entry}");
        assert!(entry["answer"].as_str().is_some_and(|answer| !answer.is_empty()), "{entry}");
        assert!(entry["margin"].as_f64().is_some_and(|margin| margin > 0.1), "{entry}");
    }
}
