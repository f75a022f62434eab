//! What of a request a worker's prefix cache may know: the hashes of its beginning, block by block.
//!
//! The head has no tokenizer. It takes the bytes of the conversation as the client wrote them: who continues a
//! conversation repeats them, byte for byte, and so the tokens begin alike too.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes of a block: some 64 tokens of English, or four blocks of a worker's cache.
pub(crate) const BLOCK_BYTES: usize = 256;

/// Longer prompts are told apart by their beginning only: 1 MiB, some 256,000 tokens.
const MAX_BLOCKS: usize = 4096;

/// Hashes of the beginning of a request, each of all blocks up to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PrefixChain {
    hashes: Vec<u64>,
}

// === impl PrefixChain ===

impl PrefixChain {
    /// Of the texts that make up the prompt, in their order. What is behind the last whole block is left out.
    pub(crate) fn of<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hashes = Vec::new();
        let mut last = 0;
        for text in texts {
            let (blocks, rest) = text.as_chunks::<BLOCK_BYTES>();
            for block in blocks.iter().take(MAX_BLOCKS - hashes.len()) {
                last = xxh3_64_with_seed(block, last);
                hashes.push(last);
            }
            // A short rest of tools before the messages is no block of its own, but what follows depends on it.
            last = xxh3_64_with_seed(rest, last);
        }
        Self { hashes }
    }

    /// The hashes, from the first block on.
    pub(crate) fn hashes(&self) -> &[u64] {
        &self.hashes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(text: &str) -> PrefixChain {
        PrefixChain::of([text.as_bytes()])
    }

    fn common(a: &PrefixChain, b: &PrefixChain) -> usize {
        a.hashes().iter().zip(b.hashes()).take_while(|(a, b)| a == b).count()
    }

    #[test]
    fn what_begins_alike_has_the_same_hashes_up_to_there() {
        let long = "a".repeat(1000);
        let longer = format!("{long}{}", "b".repeat(500));
        assert_eq!((chain(&long).hashes().len(), chain(&longer).hashes().len()), (3, 5));
        assert_eq!(common(&chain(&long), &chain(&longer)), 3);
        let other = format!("x{}", &longer[1..]);
        assert_eq!(common(&chain(&other), &chain(&longer)), 0, "a block depends on all before it");
        assert_eq!(chain("short"), PrefixChain::default());
    }

    #[test]
    fn texts_before_the_conversation_count() {
        let messages = "m".repeat(600);
        let with = |tools: &str| PrefixChain::of([tools.as_bytes(), messages.as_bytes()]);
        assert_eq!(with("[1]"), with("[1]"));
        assert_eq!(common(&with("[1]"), &with("[2]")), 0);
    }

    #[test]
    fn the_length_is_bounded() {
        let huge = "h".repeat((MAX_BLOCKS + 9) * BLOCK_BYTES);
        assert_eq!(PrefixChain::of([huge.as_bytes(), huge.as_bytes()]).hashes().len(), MAX_BLOCKS);
    }
}
