//! A tokenizer of any size: bytes, filler words that only decoding meets, and the marks of ChatML.
//!
//! Text is encoded as its bytes. A model of random weights answers with random ids, and since each of them
//! decodes to some text, streams look as they do with a real model.

use serde_json::{Map, Value, json};

const MARKS: [&str; 3] = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"];
const TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + \
                        '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// A tokenizer.json with exactly `vocab_size` ids, at least 259. The last id ends a text.
#[must_use]
pub fn tokenizer_json(vocab_size: usize) -> Value {
    let fillers = vocab_size.saturating_sub(256 + MARKS.len());
    let mut vocab = Map::new();
    for byte in 0..=255u8 {
        vocab.insert(character_of(byte).to_string(), json!(byte));
    }
    for i in 0..fillers {
        vocab.insert(format!("\u{120}w{i}"), json!(256 + i));
    }
    let added: Vec<Value> = MARKS
        .iter()
        .enumerate()
        .map(|(i, mark)| {
            json!({"id": 256 + fillers + i, "content": mark, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                  "ignore_merges": false, "vocab": vocab, "merges": []}
    })
}

/// Names and contents of all files that belong to text: tokenizer, its config with a chat template, generation config.
#[must_use]
pub fn chat_files(vocab_size: usize) -> Vec<(&'static str, String)> {
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|endoftext|>",
        "bos_token": null,
        "clean_up_tokenization_spaces": false,
        "model_max_length": 131_072,
        "chat_template": TEMPLATE,
    });
    let generation = json!({"eos_token_id": [vocab_size - 1, vocab_size - 2]});
    vec![
        ("tokenizer.json", tokenizer_json(vocab_size).to_string()),
        ("tokenizer_config.json", format!("{config:#}\n")),
        ("generation_config.json", format!("{generation:#}\n")),
    ]
}

/// The printable character that byte-level BPE writes for a byte: itself, or for the 68 that have no
/// picture of their own, one from U+0100 on.
fn character_of(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(0x100 + before).unwrap_or(' ')
}
