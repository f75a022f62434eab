//! What is measured: the shapes of a model, how many tokens at a time, how long.

use vlinders_runner::ModelFiles;

/// A model of random weights, and the sizes at which it is measured.
pub(crate) struct Model {
    /// config.json alone.
    files: &'static [(&'static str, &'static [u8])],
    pub(crate) vocab: usize,
    pub(crate) hidden: usize,
    pub(crate) inner: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    /// Numbers of tokens of decode steps, and of prompts.
    pub(crate) decode_rows: &'static [usize],
    pub(crate) prefill_rows: &'static [usize],
    /// Numbers of tokens between which another kernel may be faster.
    pub(crate) variant_rows: &'static [usize],
    /// Sequences and positions of each, for attention in decode steps.
    pub(crate) contexts: &'static [(usize, usize)],
    /// One long prompt.
    pub(crate) prompt: usize,
    /// Prompt and answer of one stream.
    pub(crate) single: (usize, usize),
    /// Streams at once, and prompt and answer of each.
    pub(crate) streams: usize,
    pub(crate) lengths: (usize, usize),
    /// Fewer streams, and the length of their answers.
    pub(crate) few_streams: (usize, usize),
    /// Numbers of tokens whose hidden states are added up over ranks.
    pub(crate) summed_rows: &'static [usize],
    /// Bytes of the copy, and rows and columns of the product, that ceilings are measured with.
    pub(crate) copy_bytes: usize,
    pub(crate) product: usize,
    /// Inputs of one kernel are rotated until they are together so large: more than a cache holds.
    pub(crate) rotated_bytes: usize,
    /// Bytes for intermediate results.
    pub(crate) room: usize,
    /// How often a number is measured; medians are reported.
    pub(crate) rounds: usize,
}

pub(crate) static LLAMA_3_8B: Model = Model {
    files: &[("config.json", include_bytes!("llama-3-8b.json"))],
    vocab: 128_256,
    hidden: 4096,
    inner: 14_336,
    layers: 32,
    heads: 32,
    kv_heads: 8,
    head_dim: 128,
    decode_rows: &[1, 8, 32, 64, 256],
    prefill_rows: &[2048, 8192],
    variant_rows: &[1, 8, 16, 32, 48, 64, 96, 128, 256, 512, 8192],
    contexts: &[(1, 1024), (1, 8192), (64, 1024), (64, 8192), (256, 1024), (256, 8192)],
    prompt: 8192,
    single: (128, 512),
    streams: 256,
    lengths: (1000, 1000),
    few_streams: (32, 100),
    summed_rows: &[1, 8, 64, 256, 2048, 8192],
    copy_bytes: 4 << 30,
    product: 8192,
    rotated_bytes: 256 << 20,
    room: 4 << 30,
    rounds: 5,
};

pub(crate) static TINY: Model = Model {
    files: &[("config.json", include_bytes!("tiny.json"))],
    vocab: 320,
    hidden: 64,
    inner: 128,
    layers: 2,
    heads: 4,
    kv_heads: 2,
    head_dim: 16,
    decode_rows: &[1, 8],
    prefill_rows: &[32],
    variant_rows: &[1, 40],
    contexts: &[(1, 32), (2, 48)],
    prompt: 40,
    single: (5, 4),
    streams: 3,
    lengths: (6, 5),
    few_streams: (2, 3),
    summed_rows: &[1, 40],
    copy_bytes: 1 << 16,
    product: 64,
    rotated_bytes: 1 << 14,
    room: 1 << 20,
    rounds: 1,
};

// === impl Model ===

impl Model {
    pub(crate) fn files(&self) -> ModelFiles {
        ModelFiles::Embedded(self.files)
    }

    pub(crate) fn config(&self) -> &'static [u8] {
        self.files[0].1
    }

    /// Names, rows and columns of the matrices of a layer, and of the head.
    pub(crate) fn matrices(&self) -> [(&'static str, usize, usize); 5] {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        [
            ("qkv", q + 2 * kv, self.hidden),
            ("o", self.hidden, q),
            ("gate_up", 2 * self.inner, self.hidden),
            ("down", self.hidden, self.inner),
            ("head", self.vocab, self.hidden),
        ]
    }

    /// Multiplications and additions for the prompt of one sequence; of the head, for its last token.
    pub(crate) fn prefill_flops(&self, tokens: usize) -> f64 {
        let size = |(_, rows, cols): &(&str, usize, usize)| (rows * cols) as f64;
        let [.., head] = self.matrices();
        let layer: f64 = self.matrices()[..4].iter().map(size).sum();
        let linear = 2.0 * layer * self.layers as f64 * tokens as f64 + 2.0 * size(&head);
        linear + self.layers as f64 * self.attention_flops(tokens)
    }

    /// Those of attention over a whole prompt, in one layer. A token sees those before it and itself.
    pub(crate) fn attention_flops(&self, tokens: usize) -> f64 {
        let seen = tokens as f64 * (tokens as f64 + 1.0) / 2.0;
        4.0 * (self.heads * self.head_dim) as f64 * seen
    }
}
