//! Writing GGUF files: from scratch, or what llama.cpp's converter would make of a Hugging Face folder.

mod experts;

use std::path::Path;

use half::{bf16, f16};
use safetensors::SafeTensors;
use serde_json::Value;

use self::experts::Stacks;
use crate::{Dtype, TestkitError};

/// A GGUF file.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufFile {
    /// Version of the format.
    pub version: u32,
    /// Keys and values, in order.
    pub metadata: Vec<(String, GgufValue)>,
    /// Tensors, in order.
    pub tensors: Vec<GgufTensor>,
}

/// A value of the types that models use.
#[derive(Debug, Clone, PartialEq)]
pub enum GgufValue {
    /// A whole number.
    U32(u32),
    /// A float.
    F32(f32),
    /// True or false.
    Bool(bool),
    /// A text.
    Text(String),
    /// An array of texts.
    Texts(Vec<String>),
    /// An array of whole numbers.
    I32s(Vec<i32>),
    /// An array of floats.
    F32s(Vec<f32>),
}

/// A tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufTensor {
    /// Its GGUF name.
    pub name: String,
    /// Rows before columns.
    pub shape: Vec<usize>,
    /// Its encoding.
    pub data: GgufData,
}

/// Encoded numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufData {
    /// As in `enum ggml_type`.
    pub dtype: u32,
    /// The rows, one behind the other.
    pub bytes: Vec<u8>,
}

/// Encodes the numbers of a tensor, given its GGUF name and shape.
pub type Encode<'a> = &'a dyn Fn(&str, &[usize], &[f32]) -> GgufData;

const ALIGNMENT: usize = 32;

/// Encode matrices as floats of a type, and vectors as F32.
#[must_use]
pub fn gguf_floats(dtype: Dtype, shape: &[usize], numbers: &[f32]) -> GgufData {
    let (number, bytes): (u32, Vec<u8>) = match dtype {
        _ if shape.len() == 1 => (0, numbers.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Dtype::F32 => (0, numbers.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Dtype::F16 => (1, numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect()),
        Dtype::Bf16 => (30, numbers.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect()),
    };
    GgufData { dtype: number, bytes }
}

// === impl GgufFile ===

impl GgufFile {
    /// What llama.cpp's converter makes of a folder: names, order of rows and metadata are as it has them.
    ///
    /// # Errors
    /// When a file can not be read, or is of a model that this does not know.
    pub fn from_folder(folder: &Path, encode: Encode<'_>) -> Result<Self, TestkitError> {
        let config = json(&folder.join("config.json"))?
            .ok_or_else(|| TestkitError::new(folder, "has no config.json"))?;
        let architecture = config["architectures"][0].as_str().unwrap_or_default();
        let name = match architecture {
            "LlamaForCausalLM" | "MistralForCausalLM" | "MixtralForCausalLM" => "llama",
            "Qwen2ForCausalLM" => "qwen2",
            "Qwen3ForCausalLM" => "qwen3",
            "Qwen3MoeForCausalLM" => "qwen3moe",
            other => return Err(TestkitError::new(folder, format!("{other} is not known"))),
        };
        let sizes = Sizes { config: &config, name };
        let mut metadata = sizes.metadata();
        if let Some(tokenizer) = json(&folder.join("tokenizer.json"))? {
            let rows = config["vocab_size"].as_u64().unwrap_or(0) as usize;
            metadata.extend(tokenizer_lists(&tokenizer, rows));
            metadata.extend(around(folder, &tokenizer)?);
        }
        let mut tensors = Vec::new();
        let mut stacks = Stacks::default();
        tensors.extend(sizes.rope_factors().map(|factors| GgufTensor {
            name: "rope_freqs.weight".to_owned(),
            shape: vec![factors.len()],
            data: gguf_floats(Dtype::F32, &[factors.len()], &factors),
        }));
        for file in weight_files(folder)? {
            let bytes = std::fs::read(&file).map_err(|e| TestkitError::new(&file, e))?;
            let held = SafeTensors::deserialize(&bytes).map_err(|e| TestkitError::new(&file, e))?;
            for (tensor, view) in held.tensors() {
                if stacks.take(&tensor, view.shape(), || floats(view.dtype(), view.data())) {
                    continue;
                }
                let own_name = gguf_name(&tensor)
                    .ok_or_else(|| TestkitError::new(&file, format!("{tensor} is not known")))?;
                let mut numbers = floats(view.dtype(), view.data());
                let shape = view.shape().to_vec();
                let is_key = tensor.contains(".k_proj.");
                if name == "llama" && (is_key || tensor.contains(".q_proj.")) {
                    numbers = interleave(&numbers, shape[0], sizes.head_dim());
                }
                // Routers are never rounded.
                let data = match own_name.ends_with(".ffn_gate_inp.weight") {
                    true => gguf_floats(Dtype::F32, &shape, &numbers),
                    false => encode(&own_name, &shape, &numbers),
                };
                tensors.push(GgufTensor { name: own_name, shape, data });
            }
        }
        tensors.extend(stacks.tensors(encode));
        Ok(Self { version: 3, metadata, tensors })
    }

    /// Set the value of a key.
    pub fn set(&mut self, key: &str, value: GgufValue) {
        self.metadata.retain(|(other, _)| other != key);
        self.metadata.push((key.to_owned(), value));
    }

    /// The bytes of the file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            text(&mut out, key);
            value.write(&mut out);
        }
        let mut offset = 0usize;
        for tensor in &self.tensors {
            text(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            tensor.shape.iter().rev().for_each(|size| out.extend((*size as u64).to_le_bytes()));
            out.extend(tensor.data.dtype.to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset = (offset + tensor.data.bytes.len()).next_multiple_of(ALIGNMENT);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            out.extend_from_slice(&tensor.data.bytes);
        }
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out
    }

    /// Write the file.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn write(&self, path: &Path) -> Result<(), TestkitError> {
        std::fs::write(path, self.to_bytes()).map_err(|e| TestkitError::new(path, e))
    }

    /// Its tensors spread over `count` files, as llama-gguf-split does it.
    #[must_use]
    pub fn split(&self, count: usize) -> Vec<Self> {
        let per_file = self.tensors.len().div_ceil(count).max(1);
        let number = |number: usize| GgufValue::U32(number as u32);
        let parts = self.tensors.chunks(per_file).enumerate().map(|(i, tensors)| {
            let mut metadata = if i == 0 { self.metadata.clone() } else { Vec::new() };
            metadata.push(("split.no".to_owned(), number(i)));
            metadata.push(("split.count".to_owned(), number(count)));
            metadata.push(("split.tensors.count".to_owned(), number(self.tensors.len())));
            Self { version: self.version, metadata, tensors: tensors.to_vec() }
        });
        parts.collect()
    }
}

// === impl GgufValue ===

impl GgufValue {
    fn write(&self, out: &mut Vec<u8>) {
        let mut kind = |number: u32| out.extend(number.to_le_bytes());
        match self {
            Self::U32(number) => {
                kind(4);
                out.extend(number.to_le_bytes());
            }
            Self::F32(number) => {
                kind(6);
                out.extend(number.to_le_bytes());
            }
            Self::Bool(flag) => {
                kind(7);
                out.push(u8::from(*flag));
            }
            Self::Text(value) => {
                kind(8);
                text(out, value);
            }
            Self::Texts(list) => {
                [9, 8].into_iter().for_each(&mut kind);
                out.extend((list.len() as u64).to_le_bytes());
                list.iter().for_each(|value| text(out, value));
            }
            Self::I32s(list) => {
                [9, 5].into_iter().for_each(&mut kind);
                out.extend((list.len() as u64).to_le_bytes());
                list.iter().for_each(|number| out.extend(number.to_le_bytes()));
            }
            Self::F32s(list) => {
                [9, 6].into_iter().for_each(&mut kind);
                out.extend((list.len() as u64).to_le_bytes());
                list.iter().for_each(|number| out.extend(number.to_le_bytes()));
            }
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Sizes of a config.json, for an architecture of GGUF.
struct Sizes<'a> {
    config: &'a Value,
    name: &'static str,
}

// === impl Sizes ===

impl Sizes<'_> {
    fn size(&self, field: &str) -> Option<usize> {
        self.config.get(field)?.as_u64().map(|size| size as usize)
    }

    fn head_dim(&self) -> usize {
        let shared = || Some(self.size("hidden_size")? / self.size("num_attention_heads")?);
        self.size("head_dim").or_else(shared).unwrap_or(0)
    }

    /// Parameters of the rotary embedding, in either spelling.
    fn rope(&self, field: &str) -> Option<&Value> {
        let of = |object: &str| self.config.get(object)?.get(field);
        of("rope_parameters").or_else(|| of("rope_scaling")).or_else(|| self.config.get(field))
    }

    fn rope_number(&self, field: &str) -> Option<f64> {
        self.rope(field)?.as_f64()
    }

    fn metadata(&self) -> Vec<(String, GgufValue)> {
        let name = self.name;
        let mut out = vec![
            ("general.architecture".to_owned(), GgufValue::Text(name.to_owned())),
            ("general.name".to_owned(), GgufValue::Text("test".to_owned())),
        ];
        let sizes = [
            ("vocab_size", "vocab_size"),
            ("context_length", "max_position_embeddings"),
            ("embedding_length", "hidden_size"),
            ("block_count", "num_hidden_layers"),
            ("feed_forward_length", "intermediate_size"),
            ("attention.head_count", "num_attention_heads"),
            ("attention.head_count_kv", "num_key_value_heads"),
            ("expert_count", "num_local_experts"),
            ("expert_count", "num_experts"),
            ("expert_used_count", "num_experts_per_tok"),
            ("expert_feed_forward_length", "moe_intermediate_size"),
        ];
        for (key, field) in sizes {
            out.extend(self.size(field).map(|size| (format!("{name}.{key}"), GgufValue::U32(size as u32))));
        }
        let head_dim = GgufValue::U32(self.head_dim() as u32);
        for key in ["attention.key_length", "attention.value_length", "rope.dimension_count"] {
            out.push((format!("{name}.{key}"), head_dim.clone()));
        }
        let windowed = name == "llama" || self.config["use_sliding_window"] == true;
        if let Some(window) = self.size("sliding_window").filter(|_| windowed) {
            out.push((format!("{name}.attention.sliding_window"), GgufValue::U32(window as u32)));
        }
        let eps = self.config["rms_norm_eps"].as_f64().unwrap_or(1e-6);
        out.push((format!("{name}.attention.layer_norm_rms_epsilon"), GgufValue::F32(eps as f32)));
        let theta = self.rope_number("rope_theta").unwrap_or(10_000.0);
        out.push((format!("{name}.rope.freq_base"), GgufValue::F32(theta as f32)));
        let kind = self.rope("rope_type").or_else(|| self.rope("type")).and_then(Value::as_str);
        if let Some(kind @ ("linear" | "yarn")) = kind {
            out.push((format!("{name}.rope.scaling.type"), GgufValue::Text(kind.to_owned())));
            let numbers = [
                ("factor", "factor"),
                ("yarn_attn_factor", "attention_factor"),
                ("yarn_beta_fast", "beta_fast"),
                ("yarn_beta_slow", "beta_slow"),
            ];
            for (key, field) in numbers {
                let number = self.rope_number(field).map(|number| GgufValue::F32(number as f32));
                out.extend(number.map(|number| (format!("{name}.rope.scaling.{key}"), number)));
            }
            let original = self.rope_number("original_max_position_embeddings");
            let key = format!("{name}.rope.scaling.original_context_length");
            out.extend(original.map(|original| (key, GgufValue::U32(original as u32))));
        }
        out
    }

    /// The divisors that stand for the scaling of Llama 3.
    fn rope_factors(&self) -> Option<Vec<f32>> {
        self.rope("rope_type").filter(|kind| *kind == "llama3")?;
        let (factor, low) = (self.rope_number("factor")?, self.rope_number("low_freq_factor")?);
        let high = self.rope_number("high_freq_factor")?;
        let original = self.rope_number("original_max_position_embeddings")?;
        let theta = self.rope_number("rope_theta").unwrap_or(10_000.0);
        let divisor = |i: usize| {
            let frequency = theta.powf(-(i as f64) / self.head_dim() as f64);
            let wavelength = 2.0 * std::f64::consts::PI / frequency;
            if wavelength < original / high {
                1.0
            } else if wavelength > original / low {
                factor
            } else {
                let smooth = (original / wavelength - low) / (high - low);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        };
        Some((0..self.head_dim()).step_by(2).map(|i| divisor(i) as f32).collect())
    }
}

/// Row `side * head / 2 + i` of each head to row `2 * i + side`.
fn interleave(numbers: &[f32], rows: usize, head: usize) -> Vec<f32> {
    let cols = numbers.len() / rows;
    let mut out = Vec::with_capacity(numbers.len());
    for first in (0..rows).step_by(head) {
        for i in 0..head / 2 {
            for side in 0..2 {
                let row = first + side * head / 2 + i;
                out.extend_from_slice(&numbers[row * cols..(row + 1) * cols]);
            }
        }
    }
    out
}

fn gguf_name(name: &str) -> Option<String> {
    let (stem, suffix) = name.rsplit_once('.')?;
    let stem = match stem {
        "model.embed_tokens" => "token_embd".to_owned(),
        "model.norm" => "output_norm".to_owned(),
        "lm_head" => "output".to_owned(),
        block => {
            let (layer, part) = block.strip_prefix("model.layers.")?.split_once('.')?;
            let part = match part {
                "input_layernorm" => "attn_norm",
                "post_attention_layernorm" => "ffn_norm",
                "self_attn.q_proj" => "attn_q",
                "self_attn.k_proj" => "attn_k",
                "self_attn.v_proj" => "attn_v",
                "self_attn.o_proj" => "attn_output",
                "self_attn.q_norm" => "attn_q_norm",
                "self_attn.k_norm" => "attn_k_norm",
                "mlp.gate" | "block_sparse_moe.gate" => "ffn_gate_inp",
                "mlp.gate_proj" => "ffn_gate",
                "mlp.up_proj" => "ffn_up",
                "mlp.down_proj" => "ffn_down",
                _ => return None,
            };
            format!("blk.{layer}.{part}")
        }
    };
    Some(format!("{stem}.{suffix}"))
}

fn floats(dtype: safetensors::Dtype, bytes: &[u8]) -> Vec<f32> {
    let pairs = || bytes.as_chunks::<2>().0.iter();
    match dtype {
        safetensors::Dtype::F16 => pairs().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        safetensors::Dtype::BF16 => pairs().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        _ => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
    }
}

/// Tokens, types and merges (or scores) of a tokenizer.json with BPE, filled up to `rows` tokens.
fn tokenizer_lists(tokenizer: &Value, rows: usize) -> Vec<(String, GgufValue)> {
    let model = &tokenizer["model"];
    let vocab = model["vocab"].as_object().into_iter().flatten();
    let mut tokens: Vec<String> = (0..rows).map(|id| format!("[PAD{id}]")).collect();
    let mut types = vec![5; rows];
    let mut put = |id: &Value, token: &str, kind: i32| {
        if let Some(id) = id.as_u64().map(|id| id as usize).filter(|id| *id < rows) {
            (tokens[id], types[id]) = (token.to_owned(), kind);
        }
    };
    for (token, id) in vocab {
        let is_byte = model["byte_fallback"] == true && token.len() == 6 && token.starts_with("<0x");
        put(id, token, if is_byte { 6 } else { 1 });
    }
    for added in tokenizer["added_tokens"].as_array().into_iter().flatten() {
        let unknown = added["content"] == model["unk_token"];
        let kind = if unknown { 2 } else { 4 - i32::from(added["special"] == true) };
        put(&added["id"], added["content"].as_str().unwrap_or_default(), kind);
    }
    let merges: Vec<String> = model["merges"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|merge| match merge {
            Value::String(merge) => merge.clone(),
            pair => format!("{} {}", pair[0].as_str().unwrap_or(""), pair[1].as_str().unwrap_or("")),
        })
        .collect();
    let mut out = vec![
        ("tokenizer.ggml.tokens".to_owned(), GgufValue::Texts(tokens.clone())),
        ("tokenizer.ggml.token_type".to_owned(), GgufValue::I32s(types)),
    ];
    let kind = if model["byte_fallback"] == true {
        let ranks: std::collections::HashMap<String, usize> =
            merges.iter().enumerate().rev().map(|(rank, merge)| (merge.replace(' ', ""), rank)).collect();
        let score = |token: &String| ranks.get(token).map_or(-1e6, |rank| -(*rank as f32));
        out.push(("tokenizer.ggml.scores".to_owned(), GgufValue::F32s(tokens.iter().map(score).collect())));
        "llama"
    } else {
        out.push(("tokenizer.ggml.merges".to_owned(), GgufValue::Texts(merges)));
        out.push(("tokenizer.ggml.pre".to_owned(), GgufValue::Text("smollm".to_owned())));
        "gpt2"
    };
    out.push(("tokenizer.ggml.model".to_owned(), GgufValue::Text(kind.to_owned())));
    out
}

/// Special tokens and the template, from the files beside tokenizer.json.
fn around(folder: &Path, tokenizer: &Value) -> Result<Vec<(String, GgufValue)>, TestkitError> {
    let mut out = Vec::new();
    let config = json(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
    let id_of = |token: &Value| {
        let content = token.as_str().or_else(|| token["content"].as_str())?;
        let mut added = tokenizer["added_tokens"].as_array()?.iter();
        added.find(|added| added["content"] == content)?["id"].as_u64()
    };
    for (field, key) in [("bos_token", "bos"), ("eos_token", "eos"), ("pad_token", "padding")] {
        let id = id_of(&config[field]).map(|id| GgufValue::U32(id as u32));
        out.extend(id.map(|id| (format!("tokenizer.ggml.{key}_token_id"), id)));
    }
    let add_bos = config["add_bos_token"] == true;
    out.push(("tokenizer.ggml.add_bos_token".to_owned(), GgufValue::Bool(add_bos)));
    let path = folder.join("chat_template.jinja");
    let template = match std::fs::read_to_string(&path) {
        Ok(template) => Some(template),
        Err(_) => config["chat_template"].as_str().map(str::to_owned),
    };
    out.extend(template.map(|text| ("tokenizer.chat_template".to_owned(), GgufValue::Text(text))));
    Ok(out)
}

fn weight_files(folder: &Path) -> Result<Vec<std::path::PathBuf>, TestkitError> {
    let entries = std::fs::read_dir(folder).map_err(|e| TestkitError::new(folder, e))?;
    let is_weights = |path: &std::path::PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("model") && name.ends_with(".safetensors")
    };
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_weights).collect();
    files.sort_unstable();
    Ok(files)
}

fn json(path: &Path) -> Result<Option<Value>, TestkitError> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| TestkitError::new(path, e)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TestkitError::new(path, error)),
    }
}
