//! What config.json says about rotary embeddings, in both spellings.
//!
//! Older files have `rope_theta` and `rope_scaling` (with `type` or `rope_type`), newer ones one object
//! `rope_parameters`. Defaults and precedence are those of Hugging Face transformers.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{LayerError, parse_config};

const KNOWN: &str = "default, linear, dynamic, llama3, yarn";
/// The kind that no config.json of others has: it stands for a table in a GGUF file.
const DIVIDED: &str = "divided";
const DEFAULT_THETA: f64 = 10_000.0;

/// The rotary embedding of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Base of the wavelengths.
    pub theta: f64,
    /// The share of each head that is rotated, in (0, 1].
    pub partial_rotary_factor: f64,
    /// `max_position_embeddings` of the model.
    pub max_position_embeddings: usize,
    /// How frequencies are scaled for long contexts.
    pub kind: RopeKind,
}

/// How frequencies are scaled for long contexts.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeKind {
    /// Not at all.
    Default,
    /// All divided by the factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// The base grows with the position once it passes `max_position_embeddings`.
    Dynamic {
        /// How fast it grows.
        factor: f64,
    },
    /// Low frequencies divided by the factor, high ones kept, a smooth band between.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are high frequencies.
        high_freq_factor: f64,
        /// Context length before scaling.
        original: f64,
    },
    /// Each frequency divided by a factor of its own, as GGUF files have them.
    Divided {
        /// As many as there are frequencies: half the numbers that are rotated.
        factors: Vec<f64>,
    },
    /// Interpolates between scaled and unscaled by the number of rotations in the original context
    /// (<https://arxiv.org/abs/2309.00071>).
    Yarn {
        /// The factor.
        factor: f64,
        /// Context length before scaling.
        original: f64,
        /// Rotations above which frequencies are kept.
        beta_fast: f64,
        /// Rotations below which frequencies are divided.
        beta_slow: f64,
        /// Multiplies cosines and sines.
        attention_factor: f64,
        /// Whether the ends of the ramp are rounded to whole dimensions.
        truncate: bool,
    },
}

#[derive(Deserialize)]
struct Fields {
    rope_theta: Option<f64>,
    rope_scaling: Option<Map<String, Value>>,
    rope_parameters: Option<Map<String, Value>>,
    partial_rotary_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

/// One object of parameters, under its name for errors.
struct Parameters<'a> {
    name: &'static str,
    map: &'a Map<String, Value>,
}

// === impl RopeConfig ===

impl RopeConfig {
    /// Read the fields of a config.json that concern rotary embeddings.
    ///
    /// # Errors
    /// Names the field; of an unknown kind it lists the known ones.
    pub fn parse(json: &[u8], max_position_embeddings: usize) -> Result<Self, LayerError> {
        let fields: Fields = parse_config(json)?;
        let empty = Map::new();
        let parameters = match (&fields.rope_scaling, &fields.rope_parameters) {
            (Some(map), _) if !map.is_empty() => Parameters { name: "rope_scaling", map },
            (_, Some(map)) => Parameters { name: "rope_parameters", map },
            _ => Parameters { name: "rope_parameters", map: &empty },
        };
        if let Some((key, _)) = parameters.map.iter().find(|(_, value)| value.is_object()) {
            return Err(parameters.bad(key, "parameters for each layer type are not supported"));
        }
        let theta = parameters.number("rope_theta")?.or(fields.rope_theta).unwrap_or(DEFAULT_THETA);
        if !(theta.is_finite() && theta > 1.0) {
            return Err(LayerError::config("rope_theta", format!("must be above 1, is {theta}")));
        }
        let partial = parameters.number("partial_rotary_factor")?.or(fields.partial_rotary_factor);
        let partial_rotary_factor = partial.unwrap_or(1.0);
        if !(partial_rotary_factor > 0.0 && partial_rotary_factor <= 1.0) {
            let reason = format!("must be above 0 and at most 1, is {partial_rotary_factor}");
            return Err(LayerError::config("partial_rotary_factor", reason));
        }
        let original = match fields.original_max_position_embeddings {
            Some(original) => original,
            None => parameters
                .positive("original_max_position_embeddings")?
                .unwrap_or(max_position_embeddings as f64),
        };
        let kind = parameters.kind(original, max_position_embeddings as f64)?;
        Ok(Self { theta, partial_rotary_factor, max_position_embeddings, kind })
    }

    /// How many numbers of a head are rotated.
    pub(super) fn rotated(&self, head_dim: usize) -> Result<usize, LayerError> {
        let rotated = (head_dim as f64 * self.partial_rotary_factor) as usize;
        let least = if matches!(self.kind, RopeKind::Dynamic { .. }) { 4 } else { 2 };
        if !rotated.is_multiple_of(2) || rotated < least {
            let reason = format!("{rotated} of {head_dim} numbers of a head would be rotated; must be even");
            return Err(LayerError::config("head_dim", reason));
        }
        if let RopeKind::Divided { factors } = &self.kind
            && factors.len() != rotated / 2
        {
            let reason = format!("has {} factors for {} frequencies", factors.len(), rotated / 2);
            return Err(LayerError::config("rope_scaling.factors", reason));
        }
        Ok(rotated)
    }

    /// Multiplies cosines and sines.
    pub(super) fn attention_factor(&self) -> f64 {
        match self.kind {
            RopeKind::Yarn { attention_factor, .. } => attention_factor,
            _ => 1.0,
        }
    }

    /// Whether a sequence of `length` tokens has other frequencies than one of `length - 1`.
    pub(super) fn changes_at(&self, length: usize) -> bool {
        matches!(self.kind, RopeKind::Dynamic { .. }) && length > self.max_position_embeddings
    }
}

// === impl Parameters ===

impl Parameters<'_> {
    fn kind(&self, original: f64, max_positions: f64) -> Result<RopeKind, LayerError> {
        let named = ["rope_type", "type"].into_iter().find_map(|key| Some((key, self.map.get(key)?)));
        let (key, kind) = match named {
            None => return Ok(RopeKind::Default),
            Some((key, value)) => (key, value.as_str().ok_or_else(|| self.bad(key, "must be a string"))?),
        };
        Ok(match kind {
            "default" => RopeKind::Default,
            "linear" => RopeKind::Linear { factor: self.required("factor")? },
            "dynamic" => RopeKind::Dynamic { factor: self.required("factor")? },
            "llama3" => {
                let low_freq_factor = self.required("low_freq_factor")?;
                let high_freq_factor = self.required("high_freq_factor")?;
                if high_freq_factor <= low_freq_factor {
                    return Err(self.bad("high_freq_factor", "must be above low_freq_factor"));
                }
                RopeKind::Llama3 {
                    factor: self.required("factor")?,
                    low_freq_factor,
                    high_freq_factor,
                    original,
                }
            }
            "yarn" => self.yarn(original, max_positions)?,
            DIVIDED => RopeKind::Divided { factors: self.factors()? },
            other => return Err(self.bad(key, &format!("{other:?} is not known; known: {KNOWN}"))),
        })
    }

    fn yarn(&self, original: f64, max_positions: f64) -> Result<RopeKind, LayerError> {
        let factor = self.positive("factor")?.unwrap_or(max_positions / original);
        let mscale = |scale: f64, m: f64| if scale <= 1.0 { 1.0 } else { 0.1 * m * scale.ln() + 1.0 };
        let given = |key| Ok::<_, LayerError>(self.number(key)?.filter(|&v| v != 0.0));
        let attention_factor =
            match (self.number("attention_factor")?, given("mscale")?, given("mscale_all_dim")?) {
                (Some(factor), _, _) => factor,
                (None, Some(m), Some(all)) => mscale(factor, m) / mscale(factor, all),
                _ => mscale(factor, 1.0),
            };
        let truncate = match self.map.get("truncate") {
            None | Some(Value::Null) => true,
            Some(value) => value.as_bool().ok_or_else(|| self.bad("truncate", "must be true or false"))?,
        };
        Ok(RopeKind::Yarn {
            factor,
            original,
            beta_fast: given("beta_fast")?.unwrap_or(32.0),
            beta_slow: given("beta_slow")?.unwrap_or(1.0),
            attention_factor,
            truncate,
        })
    }

    fn factors(&self) -> Result<Vec<f64>, LayerError> {
        let list = self.map.get("factors").and_then(Value::as_array).into_iter().flatten();
        let positive = |value: &Value| value.as_f64().filter(|factor| factor.is_finite() && *factor > 0.0);
        let factors: Option<Vec<f64>> = list.map(positive).collect();
        factors.ok_or_else(|| self.bad("factors", "must be numbers above 0"))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, LayerError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if number.is_finite() => Ok(Some(number)),
                _ => Err(self.bad(key, &format!("must be a number, is {value}"))),
            },
        }
    }

    fn positive(&self, key: &str) -> Result<Option<f64>, LayerError> {
        match self.number(key)? {
            Some(number) if number <= 0.0 => Err(self.bad(key, &format!("must be above 0, is {number}"))),
            number => Ok(number),
        }
    }

    fn required(&self, key: &str) -> Result<f64, LayerError> {
        self.positive(key)?.ok_or_else(|| self.bad(key, "is missing"))
    }

    fn bad(&self, key: &str, reason: &str) -> LayerError {
        LayerError::config(format!("{}.{key}", self.name), reason)
    }
}
