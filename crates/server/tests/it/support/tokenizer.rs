//! A tokenizer whose tokens are bytes, with marks for the speakers of a conversation.

use std::borrow::Cow;

use serde_json::{Map, Value, json};
use vlinders_text::{TextModel, TextOptions};

/// Ids of the marks.
pub(crate) const END: u32 = 256;
pub(crate) const USER: u32 = 257;
pub(crate) const ASSISTANT: u32 = 258;
pub(crate) const TOOL: u32 = 259;

/// Number of ids.
pub(crate) const VOCAB: u32 = 261;

const MARKS: [&str; 5] = ["<|end|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|system|>"];

const TEMPLATE: &str = "{% if tools %}<|system|>{{ tools | length }} tools<|end|>{% endif %}\
{% for message in messages %}<|{{ message.role }}|>{{ message.content }}\
{% if not (loop.last and continue_final_message) %}<|end|>{% endif %}{% endfor %}\
{% if add_generation_prompt %}<|assistant|>{% endif %}";

pub(crate) fn text_model() -> TextModel {
    let files = [
        ("tokenizer.json", tokenizer().to_string()),
        ("tokenizer_config.json", json!({ "eos_token": "<|end|>", "chat_template": TEMPLATE }).to_string()),
        ("generation_config.json", json!({ "eos_token_id": END }).to_string()),
    ];
    let read = |name: &str| {
        let file = files.iter().find(|(file, _)| *file == name);
        Ok(file.map(|(_, content)| Cow::Owned(content.clone().into_bytes())))
    };
    TextModel::load(read, TextOptions::default()).unwrap()
}

fn tokenizer() -> Value {
    let vocab: Map<String, Value> =
        (0..=255u8).map(|byte| (picture(byte).to_string(), json!(byte))).collect();
    let added: Vec<Value> = MARKS
        .iter()
        .zip(END..)
        .map(|(mark, id)| {
            json!({ "id": id, "content": mark, "special": true, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false })
        })
        .collect();
    let bytes =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                   "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                   "vocab": vocab, "merges": [] }
    })
}

/// The character that byte-level vocabularies write for a byte.
fn picture(byte: u8) -> char {
    let shown = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if shown(&byte) {
        return char::from(byte);
    }
    let hidden_before = (0..byte).filter(|byte| !shown(byte)).count();
    char::from_u32(0x100 + hidden_before as u32).unwrap()
}
