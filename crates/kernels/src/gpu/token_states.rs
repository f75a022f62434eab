//! What sequences have said, on the device: `cuda/token_states.cu`.
//!
//! A sequence whose penalties, bias or minimum length change logits takes a slot, which knows of every token whether it was
//! in the prompt, how often it was generated, and its bias. The kernel that draws a token counts it, so the next step does
//! not wait for the host to know it. A slot takes 8 bytes for each token of the vocabulary: 1 MB for 128k tokens, 263 MB for
//! 256 slots. Sequences without one cost nothing.

use vlinders_device::{DeviceBuffer, Gpu, Grid, Params};

use crate::error::{KernelError, Result};

const THREADS: u32 = 256;
/// Tokens that are copied at once.
const STAGED: usize = 16 << 10;
/// Bytes that a slot has for a token.
const STATE_BYTES: usize = 8;

const GENERATED: u32 = 0;
const IN_PROMPT: u32 = 1 << 31;
const SUPPRESSED: u32 = 1 << 30;
const BIASED: u32 = 1 << 29;

/// States of all tokens of a number of sequences.
#[derive(Debug)]
pub struct TokenStates {
    states: DeviceBuffer,
    staged_tokens: DeviceBuffer,
    staged_biases: DeviceBuffer,
    slots: usize,
    vocab: usize,
}

/// A sequence as it is when it takes a slot. Token ids beyond the vocabulary do not matter.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said<'a> {
    /// Tokens of the prompt; only a repetition penalty looks at them.
    pub prompt: &'a [u32],
    /// Tokens that were generated, if the sequence is not a new one.
    pub generated: &'a [u32],
    /// Tokens that can not be drawn before the minimum length is reached.
    pub suppressed: &'a [u32],
    /// What is added to logits.
    pub biases: &'a [(u32, f32)],
}

#[derive(Clone, Copy)]
#[repr(C)]
struct ClearStatesParams {
    states: u64,
    count: i32,
    unused: i32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct MarkTokensParams {
    states: u64,
    tokens: u64,
    biases: u64,
    count: i32,
    vocab: i32,
    flag: u32,
    unused: u32,
}

// SAFETY: the struct of cuda/token_states.cu, without padding.
unsafe impl Params for ClearStatesParams {}
// SAFETY: the struct of cuda/token_states.cu, without padding.
unsafe impl Params for MarkTokensParams {}

// === impl TokenStates ===

impl TokenStates {
    /// Slots for so many sequences.
    ///
    /// # Errors
    /// When the device has no memory for them.
    pub fn new(gpu: &Gpu, slots: usize, vocab: usize) -> Result<Self> {
        Ok(Self {
            states: gpu.allocate(slots * vocab * STATE_BYTES)?,
            staged_tokens: gpu.allocate(STAGED * size_of::<u32>())?,
            staged_biases: gpu.allocate(STAGED * size_of::<f32>())?,
            slots,
            vocab,
        })
    }

    /// Tokens of the vocabulary.
    #[must_use]
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    pub(super) fn address(&self) -> u64 {
        self.states.address()
    }

    /// A sequence takes a slot, which forgets the one before it.
    ///
    /// # Errors
    /// When there is no such slot, or the device fails.
    pub fn begin(&self, slot: usize, said: &Said<'_>) -> Result<()> {
        if slot >= self.slots {
            let (what, limit) = ("slot", self.slots);
            return Err(KernelError::OutOfRange { op: "token_states", what, index: slot, limit });
        }
        let states = self.states.address() + (slot * self.vocab * STATE_BYTES) as u64;
        let params = ClearStatesParams { states, count: self.vocab as i32, unused: 0 };
        // SAFETY: the slot is inside of the buffer.
        unsafe { self.states.gpu().launch("clear_states", grid_of(self.vocab), &params)? };
        self.mark(states, said.prompt, None, IN_PROMPT)?;
        self.mark(states, said.generated, None, GENERATED)?;
        self.mark(states, said.suppressed, None, SUPPRESSED)?;
        // Each token once, or two threads would write its bias.
        let mut biases = std::collections::BTreeMap::<u32, f32>::new();
        for &(token, bias) in said.biases {
            *biases.entry(token).or_default() += bias;
        }
        let (tokens, biases): (Vec<u32>, Vec<f32>) = biases.into_iter().unzip();
        self.mark(states, &tokens, Some(&biases), BIASED)
    }

    /// Say of tokens what `flag` means, and their biases.
    fn mark(&self, states: u64, tokens: &[u32], biases: Option<&[f32]>, flag: u32) -> Result<()> {
        let gpu = self.states.gpu();
        for (chunk, tokens) in tokens.chunks(STAGED).enumerate() {
            let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
            gpu.write(&self.staged_tokens, 0, &bytes)?;
            if let Some(biases) = biases {
                let biases = &biases[chunk * STAGED..][..tokens.len()];
                let bytes: Vec<u8> = biases.iter().flat_map(|bias| bias.to_le_bytes()).collect();
                gpu.write(&self.staged_biases, 0, &bytes)?;
            }
            let params = MarkTokensParams {
                states,
                tokens: self.staged_tokens.address(),
                biases: biases.map_or(0, |_| self.staged_biases.address()),
                count: tokens.len() as i32,
                vocab: self.vocab as i32,
                flag,
                unused: 0,
            };
            // SAFETY: the slot is inside of the buffer, and so many tokens were staged.
            unsafe { gpu.launch("mark_tokens", grid_of(tokens.len()), &params)? };
        }
        Ok(())
    }
}

fn grid_of(count: usize) -> Grid {
    Grid::of(count.div_ceil(THREADS as usize), THREADS)
}
