//! How config.json says that matrices of a folder are quantised, and which of that can be loaded: floats of eight bits (e4m3).
//!
//! Which tensors are quantised is told by their types in the files, so lists of exceptions (`ignore`, `modules_to_not_convert`)
//! need no reading. How activations were meant to be rounded is left aside: here they keep their type.

use serde::Deserialize;
use serde_json::{Map, Value};
use vlinders_kernels::Stored;

use crate::{LayerError, parse_config};

/// The field of config.json, for errors.
const FIELD: &str = "quantization_config";
/// Methods of folders that `vlinders quantize` and `vlinders pack` write, whose files say the rest.
const OURS: [&str; 2] = ["vlinders", "vlinders-packed"];
/// What can be loaded, for errors.
const SUPPORTED: &str = "weights in F8_E4M3 of the methods compressed-tensors and fp8 are supported, and folders that \
                         `vlinders quantize` or `vlinders pack` wrote; for other models, give a folder of BF16, F16 or F32, \
                         or a GGUF file";

/// How matrices are quantised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Method {
    /// They are not, or the files themselves say how.
    #[default]
    Plain,
    /// Some are floats of eight bits, with scales beside them.
    Fp8 {
        /// Rows and columns of the blocks that have scales of their own.
        block: Option<[usize; 2]>,
        /// Whether matrices may have one scale, or one for each row.
        rows: bool,
    },
}

/// What is read of config.json.
#[derive(Deserialize)]
struct Config {
    quantization_config: Option<Map<String, Value>>,
    /// As older versions of compressed-tensors call it.
    compression_config: Option<Map<String, Value>>,
}

/// compressed-tensors.
#[derive(Deserialize)]
struct Compressed {
    format: Option<String>,
    #[serde(default)]
    config_groups: Map<String, Value>,
    sparsity_config: Option<Sparsity>,
    transform_config: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Sparsity {
    format: Option<String>,
}

/// One of its `config_groups`.
#[derive(Deserialize)]
struct Group {
    format: Option<String>,
    weights: Option<GroupWeights>,
}

#[derive(Deserialize)]
struct GroupWeights {
    num_bits: u32,
    #[serde(rename = "type")]
    numbers: String,
    strategy: Option<String>,
    block_structure: Option<[usize; 2]>,
    symmetric: Option<bool>,
}

/// The method `fp8`.
#[derive(Deserialize)]
struct Fp8 {
    fmt: Option<String>,
    weight_block_size: Option<[usize; 2]>,
}

/// How a checkpoint with this config.json has its linear maps, for weights that are made up: as blocks of scales are kept where it
/// has such.
///
/// # Errors
/// When `quantization_config` asks for something that can not be loaded.
pub fn linear_encoding(config: &[u8]) -> Result<Stored, LayerError> {
    Ok(match Method::parse(config)? {
        Method::Plain => Stored::BF16,
        Method::Fp8 { block: None, .. } => Stored::F8_E4M3,
        Method::Fp8 { block: Some(_), .. } => Stored::Q8_0,
    })
}

// === impl Method ===

impl Method {
    /// What config.json says.
    pub(super) fn parse(config: &[u8]) -> Result<Self, LayerError> {
        let Config { quantization_config, compression_config } = parse_config(config)?;
        let Some(fields) = quantization_config.or(compression_config) else { return Ok(Self::Plain) };
        match fields.get("quant_method").and_then(Value::as_str) {
            Some(ours) if OURS.contains(&ours) => Ok(Self::Plain),
            Some("compressed-tensors") => Self::compressed(read(FIELD, Value::Object(fields))?),
            Some("fp8") => Self::fp8(&read(FIELD, Value::Object(fields))?),
            Some(other) => Err(refused(format!("quant_method {other:?}"))),
            None => Err(refused("no quant_method".to_owned())),
        }
    }

    fn compressed(config: Compressed) -> Result<Self, LayerError> {
        known_format(config.format.as_deref())?;
        if let Some(Sparsity { format: Some(format) }) = config.sparsity_config
            && format != "dense"
        {
            return Err(refused(format!("sparse weights ({format})")));
        }
        if config.transform_config.is_some_and(|transforms| !transforms.is_empty()) {
            return Err(refused("transform_config".to_owned()));
        }
        let (mut block, mut rows) = (None, false);
        for (name, group) in config.config_groups {
            let path = format!("{FIELD}.config_groups.{name}");
            let Group { format, weights } = read(&path, group)?;
            known_format(format.as_deref())?;
            let Some(weights) = weights else { continue };
            if weights.numbers != "float" || weights.num_bits != 8 || weights.symmetric == Some(false) {
                let GroupWeights { num_bits, numbers, .. } = weights;
                let offset = if weights.symmetric == Some(false) { " and an offset" } else { "" };
                return Err(refused(format!("weights of {num_bits} bits of type {numbers:?}{offset}")));
            }
            match (weights.strategy.as_deref(), weights.block_structure) {
                (None | Some("tensor" | "channel"), _) => rows = true,
                (Some("block"), Some(size)) if block.is_none_or(|other| other == size) => {
                    block = Some(checked(&path, size)?);
                }
                (Some("block"), _) => return Err(refused("blocks of no size, or of several".to_owned())),
                (Some(other), _) => return Err(refused(format!("weights with scales by {other:?}"))),
            }
        }
        Ok(Self::Fp8 { block, rows: rows || block.is_none() })
    }

    fn fp8(config: &Fp8) -> Result<Self, LayerError> {
        if let Some(fmt) = config.fmt.as_deref().filter(|fmt| *fmt != "e4m3") {
            return Err(refused(format!("fmt {fmt:?}")));
        }
        let block = config.weight_block_size.map(|size| checked(FIELD, size)).transpose()?;
        Ok(Self::Fp8 { block, rows: block.is_none() })
    }
}

/// A value of JSON that was parsed, with the name of what can not be read in it.
fn read<T: serde::de::DeserializeOwned>(path: &str, value: Value) -> Result<T, LayerError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let field = match error.path().to_string() {
            inside if inside == "." => path.to_owned(),
            inside => format!("{path}.{inside}"),
        };
        LayerError::config(field, error.inner().to_string())
    })
}

/// How compressed-tensors lays matrices out: in floats of eight bits, nothing else.
fn known_format(format: Option<&str>) -> Result<(), LayerError> {
    match format {
        None | Some("float-quantized" | "naive-quantized" | "dense") => Ok(()),
        Some(other) => Err(refused(format!("the format {other:?} of compressed-tensors"))),
    }
}

fn checked(path: &str, size: [usize; 2]) -> Result<[usize; 2], LayerError> {
    if size.contains(&0) {
        return Err(LayerError::config(path, format!("blocks of {size:?} hold nothing")));
    }
    Ok(size)
}

fn refused(found: String) -> LayerError {
    LayerError::config(FIELD, format!("{found} is not supported: {SUPPORTED}"))
}

#[cfg(test)]
mod tests;
