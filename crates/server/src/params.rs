//! What a request asks of generation → parameters of the engine, with the model's and the server's defaults.

use vlinders_api::{LogitBias, Sampling};
use vlinders_edge::ApiError;
use vlinders_engine::{SamplingParams, StopConditions};

use crate::config::ServerConfig;
use crate::model::ServedModel;

/// Parameters of all choices of a request.
#[derive(Debug, Clone)]
pub(crate) struct Params {
    /// Of choice 0; choice `i` has `seed + i`.
    pub(crate) sampling: SamplingParams,
    /// `max_tokens` is set for each prompt.
    pub(crate) conditions: StopConditions,
    pub(crate) stop_strings: Vec<String>,
    pub(crate) include_stop: bool,
    pub(crate) skip_special_tokens: bool,
    pub(crate) n: usize,
    pub(crate) priority: i32,
}

/// The highest temperature; beyond it there is only noise.
const MAX_TEMPERATURE: f32 = 2.0;

/// Stop strings are looked for in every token; one longer than this would hold back too much.
const MAX_STOP_BYTES: usize = 1024;

/// Decide on the parameters of a request, apart from log-probabilities.
///
/// # Errors
/// A value that this server does not take, or a feature it does not have.
pub(crate) fn params(
    asked: &mut Sampling,
    model: &ServedModel,
    config: &ServerConfig,
) -> Result<Params, ApiError> {
    refuse_unsupported(asked)?;
    let n = choices(asked, config)?;
    let stop_strings = stop_strings(asked, config)?;
    let defaults = model.text.generation_defaults();
    let temperature = asked.temperature.or(defaults.temperature).unwrap_or(1.0);
    if temperature > MAX_TEMPERATURE {
        return Err(ApiError::invalid(
            "temperature",
            format!("temperature is {temperature}; it must be from 0 to {MAX_TEMPERATURE}"),
        ));
    }
    let sampling = SamplingParams {
        temperature,
        top_p: asked.top_p.or(defaults.top_p).unwrap_or(1.0),
        top_k: top_k(asked.top_k)?.or(defaults.top_k).unwrap_or(0),
        min_p: asked.min_p.or(defaults.min_p).unwrap_or(0.0),
        presence_penalty: asked.presence_penalty.unwrap_or(0.0),
        frequency_penalty: asked.frequency_penalty.unwrap_or(0.0),
        repetition_penalty: asked.repetition_penalty.or(defaults.repetition_penalty).unwrap_or(1.0),
        logit_bias: asked.logit_bias.take().map_or_else(Vec::new, |LogitBias(biases)| biases),
        seed: asked.seed.map_or_else(random_seed, |seed| seed.0),
        ..SamplingParams::default()
    };
    let ignore_eos = asked.ignore_eos.unwrap_or(false);
    let conditions = StopConditions {
        eos_token_ids: if ignore_eos { Vec::new() } else { model.text.eos_token_ids().to_vec() },
        stop_token_ids: asked.stop_token_ids.take().unwrap_or_default(),
        max_tokens: 0,
        min_tokens: asked.min_tokens.map_or(0, |tokens| tokens as usize),
    };
    Ok(Params {
        sampling,
        conditions,
        stop_strings,
        include_stop: asked.include_stop_str_in_output.unwrap_or(false),
        skip_special_tokens: asked.skip_special_tokens.unwrap_or(true),
        n,
        priority: asked.priority.unwrap_or(0),
    })
}

/// What would give another answer than the client wants is refused rather than ignored.
fn refuse_unsupported(asked: &Sampling) -> Result<(), ApiError> {
    if let Some(field) = asked.guided_field() {
        return Err(ApiError::unsupported(field, format!("{field} is not supported yet")));
    }
    if let Some(format) =
        asked.response_format.as_ref().map(|format| format.kind.as_str()).filter(|kind| *kind != "text")
    {
        let message = match format {
            "json_object" | "json_schema" => {
                format!("response_format '{format}' is not supported yet; only 'text' is")
            }
            other => format!("response_format '{other}' does not exist; only 'text' is supported"),
        };
        return Err(ApiError::unsupported("response_format.type", message));
    }
    if asked.stream_options.is_some() && asked.stream != Some(true) {
        return Err(ApiError::invalid(
            "stream_options",
            "stream_options is only allowed together with stream: true",
        ));
    }
    Ok(())
}

fn choices(asked: &Sampling, config: &ServerConfig) -> Result<usize, ApiError> {
    let n = asked.n.unwrap_or(1);
    if n == 0 || n as usize > config.max_n {
        return Err(ApiError::invalid("n", format!("n is {n}; it must be from 1 to {}", config.max_n)));
    }
    if asked.best_of.is_some_and(|best_of| best_of != n) {
        return Err(ApiError::unsupported(
            "best_of",
            "best_of is not supported; leave it out or set it to n",
        ));
    }
    Ok(n as usize)
}

fn stop_strings(asked: &mut Sampling, config: &ServerConfig) -> Result<Vec<String>, ApiError> {
    let strings = asked.stop.take().unwrap_or_default().0;
    if strings.len() > config.max_stop {
        let message = format!("stop has {} strings; at most {} are allowed", strings.len(), config.max_stop);
        return Err(ApiError::invalid("stop", message));
    }
    for (index, string) in strings.iter().enumerate() {
        if string.is_empty() {
            return Err(ApiError::invalid(format!("stop[{index}]"), "stop strings must not be empty"));
        }
        if string.len() > MAX_STOP_BYTES {
            let message =
                format!("a stop string has {} bytes; at most {MAX_STOP_BYTES} are allowed", string.len());
            return Err(ApiError::invalid(format!("stop[{index}]"), message));
        }
    }
    Ok(strings)
}

/// −1 and 0 are off.
fn top_k(asked: Option<i64>) -> Result<Option<u32>, ApiError> {
    match asked {
        None => Ok(None),
        Some(-1) => Ok(Some(0)),
        Some(value) => match u32::try_from(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) if value > 0 => Ok(Some(0)),
            Err(_) => Err(ApiError::invalid(
                "top_k",
                format!("top_k is {value}; it must be at least 1, or 0 or -1 for off"),
            )),
        },
    }
}

fn random_seed() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1 ^ uuid::Uuid::new_v4().as_u64_pair().0
}
