//! Writing safetensors files of random numbers, of any size in little memory.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use half::{bf16, f16};
use serde_json::{Map, Value, json};

use crate::TestkitError;

/// How numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// 32 bits.
    F32,
    /// 16 bits, IEEE.
    F16,
    /// 16 bits, truncated f32.
    Bf16,
}

/// A tensor of random numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomTensor {
    /// Its name.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Mean of its numbers.
    pub mean: f32,
    /// Half the width of the interval in which they are uniform.
    pub spread: f32,
}

/// Write `tensors` to one file. The same seed gives the same numbers, whatever the type.
///
/// # Errors
/// When the file can not be written.
pub fn write_safetensors(
    path: &Path,
    tensors: &[RandomTensor],
    dtype: Dtype,
    seed: u64,
) -> Result<(), TestkitError> {
    let fail = |error: std::io::Error| TestkitError::new(path, error);
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut end = 0;
    for tensor in tensors {
        let begin = end;
        end += tensor.len() * dtype.size();
        let entry = json!({"dtype": dtype.name(), "shape": tensor.shape, "data_offsets": [begin, end]});
        header.insert(tensor.name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string();
    // data begins at a multiple of eight, as the reference writer has it
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(fail)?);
    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(fail)?;
    out.write_all(header.as_bytes()).map_err(fail)?;
    let mut state = seed;
    for tensor in tensors {
        for _ in 0..tensor.len() {
            let value = tensor.mean + tensor.spread * random(&mut state);
            match dtype {
                Dtype::F32 => out.write_all(&value.to_le_bytes()),
                Dtype::F16 => out.write_all(&f16::from_f32(value).to_le_bytes()),
                Dtype::Bf16 => out.write_all(&bf16::from_f32(value).to_le_bytes()),
            }
            .map_err(fail)?;
        }
    }
    out.flush().map_err(fail)
}

/// Uniform in [-1, 1): splitmix64.
fn random(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

// === impl Dtype ===

impl Dtype {
    /// That of a name on a command line: f32, f16 or bf16.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "f32" => Some(Self::F32),
            "f16" => Some(Self::F16),
            "bf16" => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Bytes of a number.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Its name in a safetensors header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    /// Its name in config.json.
    #[must_use]
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }
}

// === impl RandomTensor ===

impl RandomTensor {
    /// Number of its numbers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
