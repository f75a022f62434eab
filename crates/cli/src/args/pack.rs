//! Arguments of `vlinders pack`.

use std::path::PathBuf;

use clap::ValueEnum;
use vlinders_runner::{DType, Quantization};

const EXAMPLES: &str = "\
Examples:
  vlinders pack /models/Qwen3-0.6B /models/Qwen3-0.6B-packed
  vlinders pack /models/Llama-3.1-8B-Instruct /models/Llama-3.1-8B-Instruct-packed-q8 --quantization q8
  vlinders serve /models/Llama-3.1-8B-Instruct-packed-q8

The result needs no `dtype` or `quantization` setting, and gives the same answers as the source with them, bit for bit. Servers on
one machine that serve the same packed folder share one copy of its weights. A packed file must not be changed while it is
served; to replace one, write another folder. After an update of vlinders it may have to be packed again: the
server says so, and `vlinders check` too. Other programs can not read it.";

/// Store a model with its weights as they lie in memory, so that every start after that reads nothing twice
///
/// Reads a Hugging Face folder and writes another one: tokenizer, template and configuration are copied, weights are arranged,
/// and rounded where that is asked for, as at every start without this. The server then maps the file instead of reading it: a
/// start takes as long as the disk does, or nothing when the file is in the system's cache. One matrix is held in memory at
/// a time.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PackArgs {
    /// The Hugging Face folder to read, or `builtin:vlinders-demo`
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,

    /// The folder to write; it must not exist yet, or be empty
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,

    /// How far weights are rounded
    #[arg(long, value_name = "FORMAT", default_value = "none")]
    pub(crate) quantization: PackedQuantization,

    /// The type of weights that are not quantised
    #[arg(long, value_name = "DTYPE", default_value = "auto")]
    pub(crate) dtype: PackedDtype,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PackedQuantization {
    /// Not at all
    None,
    /// Eight bits
    Q8,
    /// Four bits; tables of tokens keep more
    Q4,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PackedDtype {
    /// That of the source
    Auto,
    Float32,
    Float16,
    Bfloat16,
}

// === impl PackedQuantization ===

impl From<PackedQuantization> for Option<Quantization> {
    fn from(quantization: PackedQuantization) -> Self {
        match quantization {
            PackedQuantization::None => None,
            PackedQuantization::Q8 => Some(Quantization::Q8),
            PackedQuantization::Q4 => Some(Quantization::Q4),
        }
    }
}

// === impl PackedDtype ===

impl From<PackedDtype> for Option<DType> {
    fn from(dtype: PackedDtype) -> Self {
        match dtype {
            PackedDtype::Auto => None,
            PackedDtype::Float32 => Some(DType::F32),
            PackedDtype::Float16 => Some(DType::F16),
            PackedDtype::Bfloat16 => Some(DType::BF16),
        }
    }
}
