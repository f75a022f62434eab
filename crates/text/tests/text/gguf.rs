//! Tokenizers from the lists of a GGUF file against the reference's goldens of the same tokenizers.

use serde_json::{Value, json};
use vlinders_text::{GgufText, RenderInput, TextError, TextModel, TextOptions};

use crate::folder::{Folder, golden_json};

/// What llama.cpp's converter would write for one of the golden tokenizers.
fn lists(name: &str) -> GgufText {
    let tokenizer = golden_json(&format!("tokenizers/{name}.tokenizer.json"));
    let model = &tokenizer["model"];
    let is_sentencepiece = model["byte_fallback"] == true;
    let mut entries: Vec<(u64, String, i64)> = Vec::new();
    for (token, id) in model["vocab"].as_object().unwrap() {
        let is_byte = is_sentencepiece && token.starts_with("<0x");
        entries.push((id.as_u64().unwrap(), token.clone(), if is_byte { 6 } else { 1 }));
    }
    for added in tokenizer["added_tokens"].as_array().unwrap() {
        let (id, content) = (added["id"].as_u64().unwrap(), added["content"].as_str().unwrap());
        entries.retain(|(other, _, _)| *other != id);
        entries.push((id, content.to_owned(), if added["content"] == model["unk_token"] { 2 } else { 3 }));
    }
    entries.sort();
    let tokens: Vec<String> = entries.iter().map(|(_, token, _)| token.clone()).collect();
    let merges: Vec<String> = model["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
        .collect();
    // SentencePiece scores a token by when its merge was learnt.
    let rank = |token: &String| merges.iter().position(|merge| merge.replacen(' ', "", 1) == *token);
    GgufText {
        file: "model.gguf".to_owned(),
        model: Some(if is_sentencepiece { "llama" } else { "gpt2" }.to_owned()),
        pre: Some(if is_sentencepiece { "default" } else { "llama-bpe" }.to_owned()),
        token_types: entries.iter().map(|(_, _, kind)| *kind).collect(),
        scores: tokens.iter().map(|token| -(rank(token).unwrap_or(100_000) as f64)).collect(),
        tokens,
        merges: if is_sentencepiece { Vec::new() } else { merges },
        special_tokens: if is_sentencepiece { vec![] } else { vec![("bos", 512), ("eos", 513)] },
        ..GgufText::default()
    }
}

fn load(text: &GgufText) -> Result<TextModel, TextError> {
    TextModel::from_gguf(text, TextOptions::default())
}

fn error(change: impl FnOnce(&mut GgufText)) -> String {
    let mut text = lists("byte-bpe");
    change(&mut text);
    load(&text).unwrap_err().to_string()
}

fn ids(list: &Value) -> Vec<u32> {
    serde_json::from_value(list.clone()).unwrap()
}

#[test]
fn tokens_are_those_of_the_tokenizer_it_was_made_from() {
    for name in ["byte-bpe", "sentencepiece-bpe"] {
        let goldens = golden_json(&format!("tokenizers/{name}.json"));
        let model = load(&lists(name)).unwrap();
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
        let folder = Folder::with_tokenizer(name).load().unwrap();
        for id in 0..model.vocab_size() as u32 {
            assert_eq!(model.token_bytes(id), folder.token_bytes(id), "{name}: {id}");
            assert_eq!(model.is_special(id), folder.is_special(id), "{name}: {id}");
        }
    }
}

#[test]
fn text_is_cut_as_the_name_says() {
    // All that can be merged, so that only the cuts decide.
    let merges = ["1 2", "12 3", "123 4", "' s", "a B"];
    let pieces = |pre: Option<&str>| {
        let mut lists = lists("byte-bpe");
        lists.pre = pre.map(str::to_owned);
        lists.merges = merges.map(str::to_owned).to_vec();
        for (i, merge) in merges.iter().enumerate() {
            lists.tokens[300 + i] = merge.replace(' ', "");
        }
        let model = load(&lists).unwrap();
        let ids = model.encode("1234 aB's", false).unwrap();
        ids.iter().map(|id| model.decode(&[*id], false).unwrap()).collect::<Vec<_>>().join("|")
    };
    assert_eq!(pieces(Some("gpt-2")), "1234| |aB|'s");
    assert_eq!(pieces(Some("llama-bpe")), "123|4| |aB|'s");
    assert_eq!(pieces(Some("qwen2")), "1|2|3|4| |aB|'s");
    assert_eq!(pieces(Some("smollm")), "1|2|3|4| |aB|'s");
    assert_eq!(pieces(Some("tekken")), "1|2|3|4| a|B|'s");
    assert_eq!(pieces(None), "123|4| |aB|'|s");
}

#[test]
fn ends_and_templates_are_found() {
    let mut text = lists("byte-bpe");
    text.tokens[514] = "<|end_of_text|>".to_owned();
    text.chat_template =
        Some("{{ bos_token }}{% for m in messages %}[{{ m.content }}]{% endfor %}".to_owned());
    text.tool_template = Some("tools".to_owned());
    text.sampling = vec![("temperature", 0.25), ("top_k", 40.0)];
    let model = load(&text).unwrap();
    assert_eq!(model.eos_token_ids(), [513, 514]);
    assert_eq!(model.generation_defaults().temperature, Some(0.25));
    assert_eq!(model.generation_defaults().top_k, Some(40));
    let messages = vec![json!({"role": "user", "content": "Hi"})];
    let input = RenderInput { messages, ..RenderInput::default() };
    assert_eq!(model.render(&input).unwrap(), "<|begin_of_text|>[Hi]");
    let tools = Some(vec![json!({"type": "function", "function": {"name": "f"}})]);
    let with_tools = RenderInput { tools, ..input };
    assert_eq!(model.render(&with_tools).unwrap(), "tools");
    text.chat_template = None;
    text.tool_template = None;
    assert!(!load(&text).unwrap().has_chat_template());
}

#[test]
fn what_stands_around_a_text_is_as_the_file_says() {
    let mut text = lists("sentencepiece-bpe");
    let around = |text: &GgufText| load(text).unwrap().encode("a", true).unwrap();
    assert_eq!(around(&text), [1, 325]);
    (text.add_bos, text.add_eos) = (Some(false), Some(true));
    assert_eq!(around(&text), [325, 2]);
    text.add_space_prefix = Some(false);
    let model = load(&text).unwrap();
    let ids = model.encode("a", false).unwrap();
    assert_ne!(ids, [325]);
    assert_eq!(model.decode(&ids, false).unwrap(), "a");
}

#[test]
fn rows_without_a_token_are_no_tokens() {
    let mut text = lists("byte-bpe");
    text.tokens.push("[PAD516]".to_owned());
    text.token_types.push(5);
    text.scores.push(0.0);
    let model = load(&text).unwrap();
    assert_eq!(model.vocab_size(), 516);
    assert_eq!(model.token_str(516), None);
}

#[test]
fn lists_that_do_not_fit_are_refused() {
    assert!(error(|t| t.model = None).contains("it has no tokenizer.ggml.model"));
    assert!(error(|t| t.model = Some("bert".to_owned())).contains("supported are gpt2 and llama"));
    assert!(
        error(|t| t.pre = Some("new".to_owned())).contains("\"new\" is not supported; supported are llama3")
    );
    assert!(error(|t| t.tokens.clear()).contains("it has no tokenizer.ggml.tokens"));
    assert!(error(|t| t.token_types.truncate(3)).contains("token_type has 3 entries for 516 tokens"));
    assert!(error(|t| t.tokens[7] = t.tokens[9].clone()).contains("tokens 7 and 9 are both"));
    assert!(error(|t| t.merges[2] = "ab".to_owned()).contains("is no pair"));
    assert!(error(|t| t.merges[2] = "in nowhere".to_owned()).contains("model.gguf: its tokenizer: "));
    assert!(
        error(|t| t.special_tokens.push(("eot", 516))).contains("eot_token_id is 516, there are 516 tokens")
    );
    let mut scores = lists("sentencepiece-bpe");
    scores.scores.pop();
    assert!(load(&scores).unwrap_err().to_string().contains("scores has 558 entries for 559 tokens"));
}
