//! BPE of SentencePiece, the tokenizer of Llama 2 and Mistral 7B: tokens with scores instead of merges, `▁` for spaces,
//! bytes for what has no token.

use std::collections::HashMap;

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Prepend, Replace};
use tokenizers::{DecoderWrapper, NormalizerWrapper, Tokenizer, decoders, normalizers};

use super::{Built, GgufText, TokenType};
use crate::TextError;

const SPACE: &str = "▁";

/// A tokenizer of this kind.
pub(super) fn build(text: &GgufText, types: &[TokenType]) -> Result<Built, TextError> {
    let count = text.tokens.len();
    if text.scores.len() != count {
        let found = text.scores.len();
        return Err(text.error(format!("tokenizer.ggml.scores has {found} entries for {count} tokens")));
    }
    let failed = |error: tokenizers::Error| text.error(format!("its tokenizer: {error}"));
    let unknown = text.tokens.iter().zip(types).find(|(_, kind)| **kind == TokenType::Unknown);
    let mut model = BPE::builder()
        .vocab_and_merges(text.vocabulary(types)?, merges(text, types))
        .byte_fallback(types.contains(&TokenType::Byte))
        .fuse_unk(true);
    if let Some((token, _)) = unknown {
        model = model.unk_token(token.clone());
    }
    let mut tokenizer = Tokenizer::new(model.build().map_err(failed)?);
    let prefix = text.add_space_prefix.unwrap_or(true);
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if prefix {
        steps.push(Prepend::new(SPACE.to_owned()).into());
    }
    steps.push(Replace::new(" ", SPACE).map_err(failed)?.into());
    tokenizer.with_normalizer(Some(normalizers::Sequence::new(steps))).map_err(failed)?;
    let mut steps: Vec<DecoderWrapper> = vec![
        Replace::new(SPACE, " ").map_err(failed)?.into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
    ];
    if prefix {
        steps.push(Strip::new(' ', 1, 0).into());
    }
    tokenizer.with_decoder(Some(decoders::sequence::Sequence::new(steps)));
    Ok(Built { tokenizer, add_bos: true, defaults: &[("bos", 1), ("eos", 2), ("unknown", 0)] })
}

/// Every way to make a token of two others, best score first; among equals in the order in which the converter of
/// Hugging Face transformers has them (`generate_merges`).
fn merges(text: &GgufText, types: &[TokenType]) -> Vec<(String, String)> {
    let tokens = text.tokens.iter().zip(types).enumerate();
    let normal: HashMap<&str, usize> = tokens
        .filter(|(_, (_, kind))| **kind == TokenType::Normal)
        .map(|(id, (token, _))| (token.as_str(), id))
        .collect();
    let mut ids: Vec<usize> = normal.values().copied().collect();
    ids.sort_unstable();
    let mut found = Vec::new();
    for id in ids {
        let token = text.tokens[id].as_str();
        let cuts = token.char_indices().skip(1).enumerate().filter_map(|(i, (at, _))| {
            let (left, right) = token.split_at(at);
            Some((left, right, i + 1, *normal.get(left)?, *normal.get(right)?))
        });
        let mut cuts: Vec<_> = cuts.collect();
        cuts.sort_by_key(|(_, _, _, left, right)| (*left, *right));
        let chars = token.chars().count();
        found.extend(
            cuts.into_iter().map(|(left, right, len, _, _)| (text.scores[id], len, chars - len, left, right)),
        );
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then((b.1, b.2).cmp(&(a.1, a.2))));
    found.into_iter().map(|(_, _, _, left, right)| (left.to_owned(), right.to_owned())).collect()
}
