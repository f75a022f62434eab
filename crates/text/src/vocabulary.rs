//! The exact bytes behind each token, and the rules that join them into text.
//!
//! The decoders of `tokenizers` work on whole sequences of strings. Those of generative models come down
//! to something simpler: each token stands for some bytes, the bytes are concatenated and read as UTF-8,
//! and at the very beginning a space may be dropped. [`Vocabulary`] holds that as one flat table.
//! Decoders that do more ([`Joining::Opaque`]) go through the tokenizer itself.

use std::collections::HashSet;

use serde_json::Value;
use tokenizers::Tokenizer;

/// Bytes and flags of all tokens.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    bytes: Vec<u8>,
    /// `bytes[starts[id]..starts[id + 1]]` belongs to `id`.
    starts: Vec<u32>,
    special: Vec<bool>,
    joining: Joining,
}

/// How the bytes of tokens become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joining {
    /// Concatenated, but for the beginning of a sequence.
    Bytes(Leading),
    /// Only the tokenizer's own decoder knows.
    Opaque,
}

/// What happens to spaces at the beginning of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leading {
    /// They stay.
    Keep,
    /// So many are left out.
    Drop(usize),
    /// Those of the first token are left out.
    DropInFirstToken,
}

/// One decoder of a tokenizer, as far as a table can express it.
enum Step {
    ByteLevel,
    ByteFallback,
    Replace { from: String, to: String },
}

// === impl Vocabulary ===

impl Vocabulary {
    pub(crate) fn new(tokenizer: &Tokenizer) -> Self {
        let size = tokenizer.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1);
        let specials: HashSet<u32> = tokenizer
            .get_added_tokens_decoder()
            .into_iter()
            .filter_map(|(id, token)| token.special.then_some(id))
            .collect();
        let plan = tokenizer
            .get_decoder()
            .and_then(|decoder| serde_json::to_value(decoder).ok())
            .and_then(|decoder| plan(&decoder));
        let mut table = Self {
            bytes: Vec::with_capacity(size * 6),
            starts: vec![0],
            special: Vec::with_capacity(size),
            joining: plan.as_ref().map_or(Joining::Opaque, |&(_, leading)| Joining::Bytes(leading)),
        };
        for id in 0..size as u32 {
            match (&plan, tokenizer.id_to_token(id)) {
                (Some((steps, _)), Some(piece)) => apply(steps, piece, &mut table.bytes),
                (None, Some(_)) => {
                    table.bytes.extend(tokenizer.decode(&[id], false).unwrap_or_default().into_bytes());
                }
                (_, None) => {}
            }
            table.starts.push(table.bytes.len() as u32);
            table.special.push(specials.contains(&id));
        }
        table
    }

    /// One more than the highest id.
    pub(crate) fn size(&self) -> usize {
        self.special.len()
    }

    /// The bytes of a token; none for an id that is not in use.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        if id >= self.size() {
            return &[];
        }
        &self.bytes[self.starts[id] as usize..self.starts[id + 1] as usize]
    }

    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }

    pub(crate) fn joining(&self) -> Joining {
        self.joining
    }
}

/// The steps that give a token's bytes, and what happens to leading spaces; `None` when the decoder does
/// something that depends on more than the token.
fn plan(decoder: &Value) -> Option<(Vec<Step>, Leading)> {
    let mut parts = Vec::new();
    flatten(decoder, &mut parts)?;
    let mut steps = Vec::new();
    let mut leading = Leading::Keep;
    let mut fused = false;
    for part in parts {
        match part.get("type")?.as_str()? {
            "ByteLevel" if steps.is_empty() => steps.push(Step::ByteLevel),
            "ByteFallback" => steps.push(Step::ByteFallback),
            "Fuse" => fused = true,
            // Afterwards there is one string, which a table of tokens can not rewrite.
            "Replace" if !fused => steps.push(Step::Replace {
                from: part
                    .get("pattern")?
                    .get("String")?
                    .as_str()
                    .filter(|from| !from.is_empty())?
                    .to_owned(),
                to: part.get("content")?.as_str()?.to_owned(),
            }),
            "Strip" if fused && part.get("content")?.as_str()? == " " && part.get("stop")?.as_u64()? == 0 => {
                leading = Leading::Drop(part.get("start")?.as_u64()? as usize);
            }
            "Metaspace" => {
                let replacement = part.get("replacement")?.as_str()?.to_owned();
                steps.push(Step::Replace { from: replacement, to: " ".to_owned() });
                if part.get("prepend_scheme")?.as_str()? != "never" {
                    leading = Leading::DropInFirstToken;
                }
            }
            _ => return None,
        }
    }
    Some((steps, leading))
}

fn flatten<'a>(decoder: &'a Value, parts: &mut Vec<&'a Value>) -> Option<()> {
    if decoder.get("type")?.as_str()? == "Sequence" {
        decoder.get("decoders")?.as_array()?.iter().try_for_each(|part| flatten(part, parts))
    } else {
        parts.push(decoder);
        Some(())
    }
}

/// Appends the bytes of one piece of the vocabulary.
fn apply(steps: &[Step], mut piece: String, bytes: &mut Vec<u8>) {
    for step in steps {
        match step {
            Step::Replace { from, to } => piece = piece.replace(from.as_str(), to),
            Step::ByteLevel => {
                let begin = bytes.len();
                for c in piece.chars() {
                    let Some(byte) = byte_of(c) else {
                        // An added token in plain text, such as one with a space or an emoji.
                        bytes.truncate(begin);
                        bytes.extend_from_slice(piece.as_bytes());
                        return;
                    };
                    bytes.push(byte);
                }
                return;
            }
            Step::ByteFallback => {
                if let Some(byte) = piece
                    .strip_prefix("<0x")
                    .and_then(|rest| rest.strip_suffix('>'))
                    .filter(|hex| hex.len() == 2)
                    .and_then(|hex| u8::from_str_radix(hex, 16).ok())
                {
                    bytes.push(byte);
                    return;
                }
            }
        }
    }
    bytes.extend_from_slice(piece.as_bytes());
}

/// The byte that a character of a byte-level vocabulary stands for.
///
/// GPT-2's alphabet: bytes that print stand for themselves, the other 68 are numbered from U+0100 on.
fn byte_of(c: char) -> Option<u8> {
    let code = c as u32;
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}
