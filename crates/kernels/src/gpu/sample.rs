//! From logits to tokens and their log-probabilities: `cuda/sample.cu`, `cuda/logprobs.cu`.
//!
//! A step copies its [`SampleRow`]s to the device and gets two words for each row back, [`outcome`](SampleRow::outcome), and
//! 42 more for rows that asked for log-probabilities. Which rows are beside a row does not matter to it.

use candle_core::DType;
use vlinders_device::{Gpu, GpuTensor, Grid, Params};

use super::token_states::TokenStates;
use crate::error::{KernelError, Result};

/// A row can ask for this many of the most likely tokens.
pub const MAX_TOP_LOGPROBS: usize = 20;
/// In the sources of [`next_tokens`]: the host gave that token itself.
pub const NO_SOURCE: u32 = u32::MAX;

/// Words of a row of [`logprobs`]: of the token itself, its rank, ids, and their log-probabilities.
const LOGPROBS_WORDS: usize = 2 + 2 * MAX_TOP_LOGPROBS;
/// Tokens that are summed at once.
const RUN: usize = 512;
/// Shared memory that does not depend on the vocabulary: room of 8 bytes for 4096 tokens, and what threads tell each other.
const FIXED_SHARED: usize = 4096 * 8 + 2336;

/// How to draw a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// Start of the random stream.
    pub seed: u64,
    /// Tokens that were generated before: which number of the stream is used.
    pub index: u32,
    /// The [`TokenStates`] that penalties, bias and minimum length look at; counts the token that is drawn. Without one,
    /// none of these is applied.
    pub slot: Option<u32>,
    /// 0 is greedy.
    pub temperature: f32,
    /// 1 is off.
    pub top_p: f32,
    /// 0 is off.
    pub min_p: f32,
    /// 0 is off.
    pub top_k: u32,
    /// 1 is off.
    pub repetition_penalty: f32,
    /// 0 is off.
    pub presence_penalty: f32,
    /// 0 is off.
    pub frequency_penalty: f32,
    /// As long as `index` is smaller, suppressed tokens can not be drawn.
    pub min_tokens: u32,
    /// Log-probabilities of the token and of so many alternatives, at most [`MAX_TOP_LOGPROBS`].
    pub top_logprobs: Option<u32>,
}

// === impl Draw ===

impl Draw {
    /// The most likely token, everything else off.
    pub const GREEDY: Self = Self {
        seed: 0,
        index: 0,
        slot: None,
        temperature: 0.0,
        top_p: 1.0,
        min_p: 0.0,
        top_k: 0,
        repetition_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        min_tokens: 0,
        top_logprobs: None,
    };
}

/// What a row of logits is for, as the kernels read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleRow([u32; Self::WORDS]);

/// Why no token could be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SampleFailure {
    /// Some logit is not a number.
    #[error("the model gave logits that are not numbers")]
    NotNumbers,
    /// All logits are negative infinity.
    #[error("no token can be drawn: every token is excluded")]
    Excluded,
    /// Some logit is infinite.
    #[error("the model gave logits that are infinite")]
    Infinite,
    /// The device wrote what no kernel writes.
    #[error("sampling on the device ended with the unknown status {0}")]
    Unknown(u32),
}

/// Log-probabilities of the unmodified distribution.
#[derive(Debug, Clone, PartialEq)]
pub struct RowLogprobs {
    /// Of the token of the row.
    pub logprob: f32,
    /// 1 for the most likely token.
    pub rank: u32,
    /// The most likely tokens, best first, ties by lower id.
    pub top: Vec<(u32, f32)>,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct SampleParams {
    logits: u64,
    rows: u64,
    states: u64,
    drawn: u64,
    vocab: i32,
    unused: i32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct LogprobsParams {
    logits: u64,
    rows: u64,
    drawn: u64,
    logprobs: u64,
    vocab: i32,
    unused: i32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct NextTokensParams {
    drawn: u64,
    sources: u64,
    tokens: u64,
    count: i32,
    unused: i32,
}

// SAFETY: the struct of cuda/sample.cu, without padding.
unsafe impl Params for SampleParams {}
// SAFETY: the struct of cuda/logprobs.cu, without padding.
unsafe impl Params for LogprobsParams {}
// SAFETY: the struct of cuda/token_states.cu, without padding.
unsafe impl Params for NextTokensParams {}

// === impl SampleRow ===

impl SampleRow {
    /// 32-bit words of a row.
    pub const WORDS: usize = 15;

    const DRAW: u32 = 1;
    const GIVEN: u32 = 2;

    /// Nothing is done, and the token is 0.
    #[must_use]
    pub fn padding() -> Self {
        Self([0; Self::WORDS])
    }

    /// Draw a token.
    #[must_use]
    pub fn draw(draw: &Draw) -> Self {
        Self([
            draw.seed as u32,
            (draw.seed >> 32) as u32,
            draw.index,
            Self::DRAW,
            0,
            draw.slot.unwrap_or(u32::MAX),
            draw.temperature.to_bits(),
            draw.top_p.to_bits(),
            draw.min_p.to_bits(),
            draw.top_k,
            draw.repetition_penalty.to_bits(),
            draw.presence_penalty.to_bits(),
            draw.frequency_penalty.to_bits(),
            draw.min_tokens,
            words_of_top(draw.top_logprobs),
        ])
    }

    /// The token is known, such as one of a prompt: only log-probabilities are wanted.
    #[must_use]
    pub fn given(token: u32, top_logprobs: u32) -> Self {
        let mut words = [0; Self::WORDS];
        words[3] = Self::GIVEN;
        words[4] = token;
        words[Self::WORDS - 1] = words_of_top(Some(top_logprobs));
        Self(words)
    }

    /// Whether [`logprobs`] has something to do for it.
    #[must_use]
    pub fn asks_for_logprobs(&self) -> bool {
        self.0[3] != 0 && self.0[Self::WORDS - 1] != u32::MAX
    }

    /// What to copy to the device.
    #[must_use]
    pub fn words(&self) -> &[u32; Self::WORDS] {
        &self.0
    }

    /// The token of a row of what [`sample`] returns.
    ///
    /// # Errors
    /// When none could be drawn.
    pub fn outcome(words: [u32; 2]) -> std::result::Result<u32, SampleFailure> {
        match words[1] {
            0 => Ok(words[0]),
            1 => Err(SampleFailure::NotNumbers),
            2 => Err(SampleFailure::Excluded),
            3 => Err(SampleFailure::Infinite),
            status => Err(SampleFailure::Unknown(status)),
        }
    }
}

/// -1 for those who do not ask.
fn words_of_top(top: Option<u32>) -> u32 {
    top.map_or(u32::MAX, |top| top.min(MAX_TOP_LOGPROBS as u32))
}

// === impl RowLogprobs ===

impl RowLogprobs {
    /// Of a row of what [`logprobs`] returns, which had asked for `top` tokens of `vocab`.
    #[must_use]
    pub fn of_words(words: &[u32], top: u32, vocab: usize) -> Self {
        let top = (top as usize).min(MAX_TOP_LOGPROBS).min(vocab);
        let (ids, logprobs) = words[2..].split_at(MAX_TOP_LOGPROBS);
        // Fewer than asked for when other logits are not numbers.
        let known = ids.iter().zip(logprobs).take(top).take_while(|(id, _)| **id != u32::MAX);
        let top = known.map(|(id, bits)| (*id, f32::from_bits(*bits))).collect();
        Self { logprob: f32::from_bits(words[0]), rank: words[1], top }
    }
}

/// Tokens of rows: `[n, 2]` u32, a token and what [`SampleRow::outcome`] reads. `logits` is `[n, vocab]` f32 and stays as it
/// is; `rows` is `[n, 15]` u32, the words of [`SampleRow`]s.
///
/// Rows have different slots of `states`, in which their tokens are counted.
///
/// # Errors
/// Shapes and types that do not fit, or a failing device.
pub fn sample(logits: &GpuTensor, rows: &GpuTensor, states: &TokenStates) -> Result<GpuTensor> {
    const OP: &str = "sample";
    let (n, vocab) = check(OP, logits, rows)?;
    if vocab != states.vocab() {
        let problem = format!("logits are {logits:?}, the states are those of {} tokens", states.vocab());
        return Err(KernelError::shape(OP, problem));
    }
    let drawn = logits.gpu().empty(&[n, 2], DType::U32)?;
    // Of each run two sums, the largest logit, and its number among those that are looked at again.
    let shared = FIXED_SHARED + vocab.div_ceil(RUN) * (2 * size_of::<f64>() + 2 * size_of::<f32>());
    let params = SampleParams {
        logits: logits.address(),
        rows: rows.address(),
        states: states.address(),
        drawn: drawn.address(),
        vocab: vocab as i32,
        unused: 0,
    };
    let threads = threads_for(logits.gpu(), n, vocab);
    // SAFETY: the shapes were checked, and the output is new.
    unsafe { logits.gpu().launch("sample", Grid::of(n, threads).with_shared(shared), &params)? };
    Ok(drawn)
}

/// Log-probabilities of the tokens that [`sample`] returned for the same `logits` and `rows`: `[n, 42]` u32, of which
/// [`RowLogprobs::of_words`] reads a row. Rows that did not ask for them are not written.
///
/// # Errors
/// Shapes and types that do not fit, or a failing device.
pub fn logprobs(logits: &GpuTensor, rows: &GpuTensor, drawn: &GpuTensor) -> Result<GpuTensor> {
    const OP: &str = "logprobs";
    let (n, vocab) = check(OP, logits, rows)?;
    if drawn.dims() != [n, 2] || drawn.dtype() != DType::U32 {
        let problem = format!("the tokens of {n} rows are [{n}, 2] of u32, not {drawn:?}");
        return Err(KernelError::shape(OP, problem));
    }
    let logprobs = logits.gpu().empty(&[n, LOGPROBS_WORDS], DType::U32)?;
    let shared = FIXED_SHARED + vocab.div_ceil(RUN) * size_of::<f64>();
    let params = LogprobsParams {
        logits: logits.address(),
        rows: rows.address(),
        drawn: drawn.address(),
        logprobs: logprobs.address(),
        vocab: vocab as i32,
        unused: 0,
    };
    let threads = threads_for(logits.gpu(), n, vocab);
    // SAFETY: the shapes were checked, and the output is new.
    unsafe { logits.gpu().launch("logprobs", Grid::of(n, threads).with_shared(shared), &params)? };
    Ok(logprobs)
}

/// Put tokens that [`sample`] returned, `[n, 2]`, where the next step reads its tokens, so that it can begin before the host
/// knows them: `tokens[i]` becomes the token of row `sources[i]`, unless that is [`NO_SOURCE`].
///
/// # Errors
/// Shapes and types that do not fit, or a failing device.
pub fn next_tokens(drawn: &GpuTensor, sources: &GpuTensor, tokens: &GpuTensor) -> Result<()> {
    const THREADS: u32 = 256;
    let count = sources.num_elements();
    let words = [drawn, sources, tokens].iter().all(|tensor| tensor.dtype() == DType::U32);
    if !words || !matches!(drawn.dims(), [_, 2]) || count > tokens.num_elements() {
        let problem = format!("of {drawn:?}, sources {sources:?} for tokens {tokens:?}: all must be u32");
        return Err(KernelError::shape("next_tokens", problem));
    }
    let params = NextTokensParams {
        drawn: drawn.address(),
        sources: sources.address(),
        tokens: tokens.address(),
        count: count as i32,
        unused: 0,
    };
    let grid = Grid::of(count.div_ceil(THREADS as usize), THREADS);
    // SAFETY: the lengths were checked; sources are rows, which is for the caller to see to.
    unsafe { drawn.gpu().launch("next_tokens", grid, &params)? };
    Ok(())
}

fn check(op: &'static str, logits: &GpuTensor, rows: &GpuTensor) -> Result<(usize, usize)> {
    match (logits.dims(), rows.dims()) {
        (&[n, vocab], &[m, SampleRow::WORDS])
            if n == m && vocab > 0 && logits.dtype() == DType::F32 && rows.dtype() == DType::U32 =>
        {
            Ok((n, vocab))
        }
        _ => {
            let problem =
                format!("logits {logits:?} must be [n, vocab] of f32 and rows {rows:?} [n, 15] of u32");
            Err(KernelError::shape(op, problem))
        }
    }
}

/// Enough for sixteen tokens each, in whole warps, and so many at most that all rows find room at once: a multiprocessor has it
/// for one block of the largest, or two of half its size. The result does not depend on it.
fn threads_for(gpu: &Gpu, rows: usize, vocab: usize) -> u32 {
    let most = if rows <= gpu.properties().multiprocessors as usize { 1024 } else { 512 };
    vocab.div_ceil(16).next_multiple_of(32).clamp(32, most) as u32
}

#[cfg(test)]
#[cfg(feature = "emulation")]
mod tests;
