//! The detokenizer against decoding everything at once, for any tokens in any order.

use std::sync::LazyLock;

use proptest::prelude::*;
use vlinders_text::TextModel;

use crate::folder::{Folder, TOKENIZERS};

static MODELS: LazyLock<Vec<TextModel>> = LazyLock::new(|| {
    let mut folders = TOKENIZERS.map(Folder::with_tokenizer).to_vec();
    folders.push(Folder::default().with("tokenizer.json", opaque()));
    folders.iter().map(|folder| folder.load().unwrap()).collect()
});

/// A tokenizer whose decoder looks at more than one token: `##` joins words.
fn opaque() -> String {
    let words = ["the", "butter", "##fly", "##flies", "wing", "##s", "é", "##é", "🦋", "."];
    let vocab: serde_json::Map<_, _> = ["[UNK]"]
        .iter()
        .chain(&words)
        .enumerate()
        .map(|(id, word)| ((*word).to_owned(), serde_json::json!(id)))
        .collect();
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": false},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocab},
    })
    .to_string()
}

/// All pieces, with the number of tokens that gave none.
fn stream(model: &TextModel, prompt: &[u32], ids: &[u32], skip: bool) -> String {
    let mut detokenizer = model.detokenizer(prompt, skip);
    let mut text: String = ids.iter().map(|&id| detokenizer.push(id)).collect();
    text.push_str(&detokenizer.finish());
    text
}

/// The bytes of all tokens read as UTF-8, without the space that the decoder drops at the beginning.
fn from_bytes(model: &TextModel, ids: &[u32], skip: bool, drops: bool) -> String {
    let shown = ids.iter().filter(|&&id| !(skip && model.is_special(id)));
    let bytes: Vec<u8> = shown.flat_map(|&id| model.token_bytes(id)).copied().collect();
    let bytes = bytes.strip_prefix(b" ").filter(|_| drops).unwrap_or(&bytes);
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn no_character_comes_in_parts() {
    let text = "🦋 Größe 蝶々 e\u{301} 👩‍🔬 \u{1f1f3}\u{1f1f1} ñ";
    for model in &MODELS[..3] {
        let ids = model.encode(text, false).unwrap();
        let mut detokenizer = model.detokenizer(&[], true);
        let mut all = String::new();
        for &id in &ids {
            let piece = detokenizer.push(id);
            assert!(!piece.contains('\u{fffd}'), "{piece:?}");
            all.push_str(&piece);
        }
        assert_eq!(all, text);
        assert_eq!(detokenizer.finish(), "");
    }
}

#[test]
fn a_character_that_stays_incomplete_shows_once_at_the_end() {
    let model = &MODELS[0];
    let butterfly = model.encode("🦋", false).unwrap();
    let mut detokenizer = model.detokenizer(&[], true);
    for &id in &butterfly[..butterfly.len() - 1] {
        assert_eq!(detokenizer.push(id), "");
    }
    assert_eq!(detokenizer.finish(), "\u{fffd}");
    assert_eq!(detokenizer.finish(), "");
}

#[test]
fn an_incomplete_character_gives_way_when_something_else_follows() {
    let model = &MODELS[1];
    let butterfly: Vec<u32> =
        [0xf0, 0x9f].iter().map(|byte| model.token_id(&format!("<0x{byte:02X}>")).unwrap()).collect();
    let mut detokenizer = model.detokenizer(&[], true);
    assert_eq!(detokenizer.push(butterfly[0]) + &detokenizer.push(butterfly[1]), "");
    assert_eq!(detokenizer.push(model.token_id("a").unwrap()), "\u{fffd}a");
}

#[test]
fn the_answer_goes_on_where_the_prompt_ends() {
    let model = &MODELS[1];
    let word = model.encode("four", false).unwrap();
    let prompt = model.encode("wings:", true).unwrap();
    // At the beginning of a text the decoder drops the space that the tokenizer put there.
    assert_eq!(stream(model, &[], &word, true), "four");
    assert_eq!(stream(model, &prompt[..1], &word, true), "four");
    assert_eq!(stream(model, &prompt, &word, true), " four");
    // A prompt of token ids may end inside a character.
    let bytes = MODELS[0].encode("🦋", false).unwrap();
    let (begin, end) = bytes.split_at(bytes.len() - 1);
    assert_eq!(stream(&MODELS[0], begin, end, true), "🦋");
}

#[test]
fn ids_beyond_the_vocabulary_are_no_text() {
    for model in MODELS.iter() {
        assert_eq!(stream(model, &[], &[u32::MAX, 1 << 20], false), "");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn pieces_add_up_to_the_whole(
        model in 0_usize..4,
        ids in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        skip in any::<bool>(),
    ) {
        let drops = (1..3).contains(&model);
        let opaque = model == 3;
        let model = &MODELS[model];
        let ids: Vec<u32> = ids.iter().map(|index| index.index(model.vocab_size() + 2) as u32).collect();
        let streamed = stream(model, &[], &ids, skip);
        let whole = model.decode(&ids, skip).unwrap();
        // For a run of bytes that is no text, `<0x..>` decoders show U+FFFD for each, also for those
        // that are text; the stream has shown these by then.
        if !whole.contains('\u{fffd}') {
            prop_assert_eq!(&streamed, &whole);
        }
        if !opaque {
            prop_assert_eq!(&streamed, &from_bytes(model, &ids, skip, drops));
        }
    }

    #[test]
    fn any_text_survives(
        model in 0_usize..3,
        text in "[a-z .\n🦋蝶éß\u{301}\u{200d}]{0,60}",
        cut in any::<prop::sample::Index>(),
    ) {
        let drops = model > 0;
        let model = &MODELS[model];
        let ids = model.encode(&text, false).unwrap();
        let whole = model.decode(&ids, true).unwrap();
        prop_assert_eq!(&stream(model, &[], &ids, true), &whole);
        // Cut anywhere, prompt and answer are together the whole, but for a prompt without any text.
        let (prompt, answer) = ids.split_at(cut.index(ids.len() + 1));
        let begin = from_bytes(model, prompt, true, drops);
        if !prompt.is_empty() {
            let begin = begin.trim_end_matches('\u{fffd}');
            prop_assert_eq!(format!("{begin}{}", stream(model, prompt, answer, true)), whole);
        }
    }
}
