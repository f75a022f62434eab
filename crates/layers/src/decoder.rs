//! The decoder that most open models share: pre-norm blocks with a residual stream.

use std::sync::Arc;

use vlinders_device::Tensor;

use crate::{
    Attention, AttentionConfig, Batch, Embedding, Heads, KvShape, KvStore, LayerError, LmHead, Mlp, Moe,
    MoeConfig, RmsNorm, Rope, RopeConfig, Weights,
};

/// Sizes above this are taken for a broken config: they would overflow or exhaust memory.
const MAX_SIZE: usize = 1 << 24;
const MAX_LAYERS: usize = 4096;

/// The shape of a decoder.
#[derive(Debug, Clone)]
pub struct DecoderConfig {
    /// Number of token ids.
    pub vocab_size: usize,
    /// Size of a hidden state.
    pub hidden_size: usize,
    /// Size inside of the feed-forward network.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Heads of queries.
    pub num_attention_heads: usize,
    /// Heads of keys and of values.
    pub num_key_value_heads: usize,
    /// Numbers of one head.
    pub head_dim: usize,
    /// Epsilon of all norms.
    pub rms_norm_eps: f64,
    /// Whether the head shares the table of the embedding.
    pub tie_word_embeddings: bool,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether the output of attention has a bias.
    pub out_bias: bool,
    /// Whether the feed-forward network has biases.
    pub mlp_bias: bool,
    /// Whether each head of q and k is normed.
    pub qk_norm: bool,
    /// The experts of each layer; one feed-forward network when `None`.
    pub experts: Vec<Option<MoeConfig>>,
    /// How many positions a token sees, for each layer; all when `None`.
    pub windows: Vec<Option<usize>>,
    /// The rotary embedding.
    pub rope: RopeConfig,
}

/// Embedding, blocks, last norm and head, under the names of Llama.
pub struct Decoder {
    config: DecoderConfig,
    heads: Heads,
    embedding: Embedding,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: LmHead,
}

struct Block {
    input_norm: RmsNorm,
    attention: Attention,
    post_norm: RmsNorm,
    feed_forward: FeedForward,
}

enum FeedForward {
    Dense(Mlp),
    Sparse(Moe),
}

// === impl DecoderConfig ===

impl DecoderConfig {
    /// Refuse sizes that no model has.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self) -> Result<(), LayerError> {
        let sizes = [
            ("vocab_size", self.vocab_size, MAX_SIZE),
            ("hidden_size", self.hidden_size, MAX_SIZE),
            ("intermediate_size", self.intermediate_size, MAX_SIZE),
            ("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MAX_LAYERS),
            ("num_key_value_heads", self.num_key_value_heads, MAX_LAYERS),
            ("head_dim", self.head_dim, MAX_LAYERS),
            ("max_position_embeddings", self.rope.max_position_embeddings, 1 << 30),
        ];
        for (field, size, max) in sizes {
            if size == 0 || size > max {
                return Err(LayerError::config(field, format!("must be from 1 to {max}, is {size}")));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let reason = format!(
                "must divide num_attention_heads ({}), is {}",
                self.num_attention_heads, self.num_key_value_heads
            );
            return Err(LayerError::config("num_key_value_heads", reason));
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            let reason = format!("must not be negative, is {}", self.rms_norm_eps);
            return Err(LayerError::config("rms_norm_eps", reason));
        }
        if self.windows.len() != self.num_hidden_layers {
            let reason = format!("has {} entries for {} layers", self.windows.len(), self.num_hidden_layers);
            return Err(LayerError::config("layer_types", reason));
        }
        if self.experts.len() != self.num_hidden_layers {
            let reason =
                format!("names experts of {} layers of {}", self.experts.len(), self.num_hidden_layers);
            return Err(LayerError::config("mlp_only_layers", reason));
        }
        if self.windows.contains(&Some(0)) {
            return Err(LayerError::config("sliding_window", "must be at least 1"));
        }
        Ok(())
    }

    fn attention(&self, layer: usize, heads: Heads) -> AttentionConfig {
        AttentionConfig {
            hidden: self.hidden_size,
            heads,
            head_dim: self.head_dim,
            qkv_bias: self.qkv_bias,
            out_bias: self.out_bias,
            qk_norm_eps: self.qk_norm.then_some(self.rms_norm_eps),
            window: self.windows.get(layer).copied().flatten(),
        }
    }
}

// === impl Decoder ===

impl Decoder {
    /// `model.embed_tokens`, `model.layers.*`, `model.norm` and `lm_head` under the prefix of `weights`.
    ///
    /// # Errors
    /// When the config is refused or a tensor can not be had.
    pub fn new(config: DecoderConfig, weights: &Weights) -> Result<Self, LayerError> {
        config.validate()?;
        let (q, kv) = (config.num_attention_heads, config.num_key_value_heads);
        let ranks = weights.ranks();
        let communicator = ranks.communicator();
        let heads = Heads::share(q, kv, communicator)?;
        for (field, size) in
            [("vocab_size", config.vocab_size), ("intermediate_size", config.intermediate_size)]
        {
            if size < communicator.size() {
                let reason =
                    format!("is {size}, which is less than one for each of {} ranks", communicator.size());
                return Err(LayerError::config(field, reason));
            }
        }
        let model = weights.pp("model");
        let rope =
            Arc::new(Rope::new(&config.rope, config.head_dim, weights.max_positions(), weights.place())?);
        let embedding = Embedding::new(&model.pp("embed_tokens"), config.vocab_size, config.hidden_size)?;
        let layers = model.pp("layers");
        let blocks = (0..config.num_hidden_layers)
            .map(|i| Block::new(&config, config.attention(i, heads), &layers.pp(i), i, Arc::clone(&rope)))
            .collect::<Result<_, _>>()?;
        let norm = RmsNorm::new(&model.pp("norm"), config.hidden_size, config.rms_norm_eps)?;
        let head = if config.tie_word_embeddings {
            LmHead::tied(&embedding)
        } else {
            LmHead::new(&weights.pp("lm_head"), config.vocab_size, config.hidden_size)?
        };
        Ok(Self { config, heads, embedding, blocks, norm, head })
    }

    /// Hidden states of all tokens of the batch, `[tokens, hidden]`, after the last norm.
    ///
    /// # Errors
    /// When a kernel refuses.
    pub fn forward(&self, batch: &Batch, kv: &KvStore) -> Result<Tensor, LayerError> {
        let mut x = self.embedding.forward(batch)?;
        let mut residual = None;
        for block in &self.blocks {
            let (out, sum) = block.forward(x, residual, batch, kv)?;
            (x, residual) = (out, Some(sum));
        }
        match residual {
            Some(residual) => Ok(self.norm.forward_add(&x, &residual)?.0),
            None => self.norm.forward(&x),
        }
    }

    /// Logits of hidden states, `[rows, hidden]` to `[rows, vocab]`, on the first rank; `None` on the others.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn logits(&self, hidden: &Tensor) -> Result<Option<Tensor>, LayerError> {
        self.head.forward(hidden)
    }

    /// Number of token ids.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    /// Heads of queries of this rank.
    #[must_use]
    pub fn num_heads(&self) -> usize {
        self.heads.q.len()
    }

    /// What a token takes in the cache of this rank.
    #[must_use]
    pub fn kv_shape(&self) -> KvShape {
        KvShape {
            layers: self.config.num_hidden_layers,
            kv_heads: self.heads.kv.len(),
            head_dim: self.config.head_dim,
        }
    }
}

// === impl Block ===

impl Block {
    fn new(
        config: &DecoderConfig,
        attention: AttentionConfig,
        weights: &Weights,
        layer: usize,
        rope: Arc<Rope>,
    ) -> Result<Self, LayerError> {
        let norm = |name| RmsNorm::new(&weights.pp(name), config.hidden_size, config.rms_norm_eps);
        Ok(Self {
            input_norm: norm("input_layernorm")?,
            attention: Attention::new(&weights.pp("self_attn"), layer, attention, rope)?,
            post_norm: norm("post_attention_layernorm")?,
            feed_forward: FeedForward::new(config, layer, weights)?,
        })
    }

    /// The output, not yet added to the residual stream, and that stream.
    fn forward(
        &self,
        x: Tensor,
        residual: Option<Tensor>,
        batch: &Batch,
        kv: &KvStore,
    ) -> Result<(Tensor, Tensor), LayerError> {
        let (normed, residual) = match residual {
            Some(residual) => self.input_norm.forward_add(&x, &residual)?,
            None => (self.input_norm.forward(&x)?, x),
        };
        let attended = self.attention.forward(&normed, batch, kv)?;
        let (normed, residual) = self.post_norm.forward_add(&attended, &residual)?;
        Ok((self.feed_forward.forward(&normed)?, residual))
    }
}

// === impl FeedForward ===

impl FeedForward {
    fn new(config: &DecoderConfig, layer: usize, weights: &Weights) -> Result<Self, LayerError> {
        let hidden = config.hidden_size;
        match config.experts.get(layer) {
            Some(Some(experts)) => {
                Ok(Self::Sparse(Moe::new(&weights.pp(experts.names.layer), hidden, experts)?))
            }
            _ => {
                let inner = config.intermediate_size;
                Ok(Self::Dense(Mlp::new(&weights.pp("mlp"), hidden, inner, config.mlp_bias)?))
            }
        }
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, LayerError> {
        match self {
            Self::Dense(mlp) => mlp.forward(x),
            Self::Sparse(moe) => moe.forward(x),
        }
    }
}
