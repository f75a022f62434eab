//! What llama.cpp calls the tensors of a decoder, and what Hugging Face calls them.

/// The name that models ask for; `None` for a tensor that no model here has.
pub(super) fn hugging_face(name: &str) -> Option<String> {
    let (stem, suffix) = name.rsplit_once('.').filter(|(_, suffix)| ["weight", "bias"].contains(suffix))?;
    let mapped = match stem {
        "token_embd" => "model.embed_tokens".to_owned(),
        "output_norm" => "model.norm".to_owned(),
        "output" => "lm_head".to_owned(),
        block => {
            let (layer, part) = block.strip_prefix("blk.")?.split_once('.')?;
            let layer: u32 = layer.parse().ok()?;
            format!("model.layers.{layer}.{}", of_block(part)?)
        }
    };
    Some(format!("{mapped}.{suffix}"))
}

fn of_block(part: &str) -> Option<&'static str> {
    Some(match part {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    })
}

/// Whether its rows are turned by the rotary embedding.
pub(super) fn is_rotated(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(stem, _)| stem.ends_with(".attn_q") || stem.ends_with(".attn_k"))
}
