//! Arguments of `vlinders quantize`.

use std::path::PathBuf;

use clap::ValueEnum;
use vlinders_runner::Quantization;

const EXAMPLES: &str = "\
Examples:
  vlinders quantize /models/Qwen3-0.6B /models/Qwen3-0.6B-q8
  vlinders quantize /models/Llama-3.1-8B-Instruct /models/Llama-3.1-8B-Instruct-q4 --format q4
  vlinders serve /models/Llama-3.1-8B-Instruct-q4

The result needs no `quantization` setting. It gives the same answers as the source with `quantization: q8` or q4, and starts
faster, since there is less to read and nothing to round. Other programs can not read its weights.";

/// Store a model with quantised weights, so that every start after that reads less
///
/// Reads a Hugging Face folder and writes another one: tokenizer, template and configuration are copied, weights are rounded
/// to eight bits with a scale for each 32 (8.5 bits a weight in all), or to four with a scale and a minimum (4.6; tables of
/// tokens keep six). Only a few megabytes are held in memory at a time.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct QuantizeArgs {
    /// The Hugging Face folder to read, or `builtin:vlinders-demo`
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,

    /// The folder to write; it must not exist yet, or be empty
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,

    /// How far weights are rounded
    #[arg(long, value_name = "FORMAT", default_value = "q8")]
    pub(crate) format: QuantizedFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum QuantizedFormat {
    /// Eight bits
    Q8,
    /// Four bits; tables of tokens keep six
    Q4,
}

impl From<QuantizedFormat> for Quantization {
    fn from(format: QuantizedFormat) -> Self {
        match format {
            QuantizedFormat::Q8 => Self::Q8,
            QuantizedFormat::Q4 => Self::Q4,
        }
    }
}
