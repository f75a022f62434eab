//! Byte-level BPE, the tokenizer of GPT-2 and most models since: merges in order, and a way to cut text before.

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

use super::{Built, GgufText, TokenType};
use crate::TextError;

/// How text is cut, and what else comes with it, in the tokenizer.json of the models that a name stands for.
struct Pre {
    cut: Cut,
    /// A piece that is a token is not taken apart.
    ignore_merges: bool,
    /// Whether the text is brought into the canonical form NFC.
    nfc: bool,
    /// Whether a beginning-of-text token is added where the file does not say.
    add_bos: bool,
}

#[derive(Clone, Copy)]
enum Cut {
    /// By the expression that GPT-2 has.
    Gpt2,
    /// The same, with each digit by itself.
    Digits,
    /// By these, one after the other.
    By(&'static [&'static str]),
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED_CODER: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// What llama.cpp does with files of which it does not know better.
const DEFAULT: [&str; 4] = [
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
];

/// Names that are known, by what they stand for.
const KNOWN: &[(&[&str], Pre)] = &[
    (
        &["llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "midm-2.0"],
        Pre { cut: Cut::By(&[LLAMA3]), ignore_merges: true, nfc: false, add_bos: true },
    ),
    (
        &["smaug-bpe", "dbrx"],
        Pre { cut: Cut::By(&[LLAMA3]), ignore_merges: false, nfc: false, add_bos: false },
    ),
    (
        &["qwen2", "deepseek-r1-qwen", "megrez"],
        Pre { cut: Cut::By(&[QWEN2]), ignore_merges: false, nfc: true, add_bos: false },
    ),
    (&["stablelm2"], Pre { cut: Cut::By(&[QWEN2]), ignore_merges: false, nfc: false, add_bos: false }),
    (&["tekken"], Pre { cut: Cut::By(&[TEKKEN]), ignore_merges: true, nfc: false, add_bos: true }),
    (&["seed-coder"], Pre { cut: Cut::By(&[SEED_CODER]), ignore_merges: false, nfc: false, add_bos: false }),
    (
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "minerva-7b"],
        Pre { cut: Cut::Digits, ignore_merges: false, nfc: false, add_bos: false },
    ),
    (
        &["gpt-2", "phi-2", "mpt", "olmo", "trillion", "exaone4"],
        Pre { cut: Cut::Gpt2, ignore_merges: false, nfc: false, add_bos: false },
    ),
    (&["default"], Pre { cut: Cut::By(&DEFAULT), ignore_merges: false, nfc: false, add_bos: false }),
];

/// A tokenizer of this kind.
pub(super) fn build(text: &GgufText, types: &[TokenType]) -> Result<Built, TextError> {
    let name = text.pre.as_deref().unwrap_or("default");
    let known = KNOWN.iter().find(|(names, _)| names.contains(&name));
    let Some((_, pre)) = known else {
        let names: Vec<&str> = KNOWN.iter().flat_map(|(names, _)| *names).copied().collect();
        let reason =
            format!("tokenizer.ggml.pre {name:?} is not supported; supported are {}", names.join(", "));
        return Err(text.error(reason));
    };
    let failed = |error: tokenizers::Error| text.error(format!("its tokenizer: {error}"));
    let merges = text.merges.iter().map(|merge| pair(merge)).collect::<Option<Vec<_>>>();
    let merges = merges.ok_or_else(|| text.error("an entry of tokenizer.ggml.merges is no pair"))?;
    let model = BPE::builder()
        .vocab_and_merges(text.vocabulary(types)?, merges)
        .ignore_merges(pre.ignore_merges)
        .build()
        .map_err(failed)?;
    let mut tokenizer = Tokenizer::new(model);
    if pre.nfc {
        tokenizer.with_normalizer(Some(NFC)).map_err(failed)?;
    }
    tokenizer.with_pre_tokenizer(Some(pre.cut.pre_tokenizer().map_err(failed)?));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    Ok(Built { tokenizer, add_bos: pre.add_bos, defaults: &[] })
}

/// The two sides of a merge; the alphabet of bytes has no space.
fn pair(merge: &str) -> Option<(String, String)> {
    let (left, right) =
        merge.split_once(' ').filter(|(left, right)| !left.is_empty() && !right.is_empty())?;
    Some((left.to_owned(), right.to_owned()))
}

// === impl Cut ===

impl Cut {
    fn pre_tokenizer(self) -> tokenizers::Result<PreTokenizerWrapper> {
        let bytes = |use_regex| PreTokenizerWrapper::from(ByteLevel::new(false, true, use_regex));
        let steps = match self {
            Self::Gpt2 => return Ok(bytes(true)),
            Self::Digits => vec![Digits::new(true).into(), bytes(true)],
            Self::By(expressions) => {
                let split = |expression: &&str| {
                    let pattern = SplitPattern::Regex((*expression).to_owned());
                    Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                        .map(PreTokenizerWrapper::from)
                };
                let mut steps = expressions.iter().map(split).collect::<tokenizers::Result<Vec<_>>>()?;
                steps.push(bytes(false));
                steps
            }
        };
        Ok(Sequence::new(steps).into())
    }
}
