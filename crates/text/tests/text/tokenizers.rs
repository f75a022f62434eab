//! Encoding and decoding against the reference, and what the files around tokenizer.json change.

use serde_json::{Value, json};

use crate::folder::{Folder, TOKENIZERS, golden, golden_json};

fn ids(list: &Value) -> Vec<u32> {
    list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn encoding_and_decoding_are_the_references() {
    for name in TOKENIZERS {
        let goldens = golden_json(&format!("tokenizers/{name}.json"));
        let model = Folder::with_tokenizer(name).load().unwrap();
        assert_eq!(json!(model.vocab_size()), goldens["vocab_size"], "{name}");
        for case in goldens["encode"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(model.encode(text, false).unwrap(), ids(&case["ids"]), "{name}: {text:?}");
            assert_eq!(model.encode(text, true).unwrap(), ids(&case["ids_with_special"]), "{name}: {text:?}");
        }
        for case in goldens["decode"].as_array().unwrap() {
            let ids = ids(&case["ids"]);
            assert_eq!(json!(model.decode(&ids, true).unwrap()), case["text"], "{name}: {ids:?}");
            assert_eq!(
                json!(model.decode(&ids, false).unwrap()),
                case["text_with_special"],
                "{name}: {ids:?}"
            );
        }
    }
}

#[test]
fn tokenizers_that_cut_and_pad_do_neither() {
    let mut tokenizer: Value = serde_json::from_str(&golden("tokenizers/byte-bpe.tokenizer.json")).unwrap();
    tokenizer["truncation"] =
        json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    tokenizer["padding"] = json!({
        "strategy": {"Fixed": 100}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "!",
    });
    let model = Folder::default().with("tokenizer.json", tokenizer.to_string()).load().unwrap();
    let plain = Folder::with_tokenizer("byte-bpe").load().unwrap();
    let text = "The butterfly has four wings.";
    assert_eq!(model.encode(text, true).unwrap(), plain.encode(text, true).unwrap());
}

#[test]
fn tokenizer_config_decides_on_the_tokens_around_a_text() {
    let with = |name, config: Value| {
        let folder = Folder::with_tokenizer(name).with("tokenizer_config.json", config.to_string());
        folder.load().unwrap().encode("a", true).unwrap()
    };
    let tokens = |extra: Value| {
        let mut config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}});
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        config
    };
    assert_eq!(with("metaspace-added", tokens(json!({}))), [1, 325, 2]);
    assert_eq!(with("metaspace-added", tokens(json!({"add_bos_token": false}))), [325, 2]);
    assert_eq!(with("metaspace-added", tokens(json!({"add_eos_token": false}))), [1, 325]);
    assert_eq!(with("metaspace-added", tokens(json!({"add_bos_token": true}))), [1, 325, 2]);
    assert_eq!(with("sentencepiece-bpe", tokens(json!({"add_eos_token": true}))), [1, 325, 2]);
}

#[test]
fn end_tokens_come_from_all_the_places_that_name_them() {
    let eos = |folder: Folder| folder.load().unwrap().eos_token_ids().to_vec();
    let plain = Folder::with_tokenizer("metaspace-added");
    assert_eq!(eos(plain.clone()), [0_u32; 0]);

    let config = plain.with("config.json", r#"{"eos_token_id": 2}"#);
    assert_eq!(eos(config.clone()), [2]);
    let listed = config.clone().with("generation_config.json", r#"{"eos_token_id": [520, 2]}"#);
    assert_eq!(eos(listed), [520, 2]);
    let named = config
        .with("generation_config.json", r#"{"eos_token_id": 2}"#)
        .with("tokenizer_config.json", r#"{"eos_token": "<|im_end|>"}"#);
    assert_eq!(eos(named), [2, 520]);
}

#[test]
fn recommended_sampling_is_read_and_nonsense_left_out() {
    let config = r#"{"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 7, "do_sample": true}"#;
    let model = Folder::with_tokenizer("byte-bpe").with("generation_config.json", config).load().unwrap();
    let defaults = model.generation_defaults();
    assert_eq!(
        (defaults.temperature, defaults.top_p, defaults.top_k, defaults.min_p, defaults.repetition_penalty),
        (Some(0.6), Some(0.95), Some(20), None, None)
    );
}

#[test]
fn a_model_that_is_not_to_be_sampled_is_greedy() {
    let temperature = |config| {
        let folder = Folder::with_tokenizer("byte-bpe").with("generation_config.json", config);
        folder.load().unwrap().generation_defaults().temperature
    };
    assert_eq!(temperature(r#"{"do_sample": false, "temperature": 0.6}"#), Some(0.0));
    assert_eq!(temperature(r#"{"do_sample": true}"#), None);
    assert_eq!(temperature("{}"), None);
}

#[test]
fn a_token_that_the_configuration_calls_special_is_skipped() {
    let folder = Folder::with_tokenizer("metaspace-added");
    let call = folder.load().unwrap().token_id("<tool_call>").unwrap();
    assert_eq!(folder.load().unwrap().decode(&[call], true).unwrap(), "<tool_call>");
    let config = r#"{"additional_special_tokens": ["<tool_call>", "<not-in-the-vocabulary>"]}"#;
    let model = folder.with("tokenizer_config.json", config).load().unwrap();
    assert!(model.is_special(call));
    assert_eq!(model.decode(&[call], true).unwrap(), "");
    assert_eq!(model.detokenizer(&[], true).push(call), "");
    assert_eq!(model.vocab_size(), 525);
}

#[test]
fn bytes_of_tokens_are_exact() {
    let text = "Größe 🦋 蝶";
    for name in TOKENIZERS {
        let model = Folder::with_tokenizer(name).load().unwrap();
        let ids = model.encode(text, false).unwrap();
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| model.token_bytes(id)).copied().collect();
        // Tokenizers of the sentencepiece kind put a space before the text.
        assert_eq!(String::from_utf8(bytes).unwrap().trim_start(), text, "{name}");
        assert!(model.token_bytes(1 << 30).is_empty());
        assert_eq!(model.token_str(1 << 30), None);
    }
}

#[test]
fn long_runs_of_anything_are_encoded() {
    for name in TOKENIZERS {
        let model = Folder::with_tokenizer(name).load().unwrap();
        for unit in ["a", " ", "\n", "0", "🦋", "The butterfly has four wings. ", "ab\u{301}"] {
            let text = unit.repeat((1 << 17) / unit.len());
            let ids = model.encode(&text, false).unwrap();
            assert!(ids.len() >= text.len() / 200, "{name}: {unit:?}");
        }
    }
}
