//! Arguments of `vlinders bench`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;

use super::ClientArgs;
use crate::config::parse_duration;

const EXAMPLES: &str = "\
Examples:
  vlinders bench                                              100 requests, 8 at a time
  vlinders bench --concurrency 64 --duration 60s              closed loop: 64 clients, each waits for its answer
  vlinders bench --rate 5 --num-requests 500                  open loop: 5 requests a second, Poisson arrivals
  vlinders bench --input-len 100-2000 --output-len 256 --shared-prefix 512
  vlinders bench --json run.json --svg run.svg
  vlinders bench --url https://llm.example.org --api-key-file key.txt --api chat

In an open loop, times count from the moment a request was due, not from when it could be sent, so that a server that
stalls can not hide the requests it delayed.";

/// Load-test an OpenAI-compatible server
///
/// Sends streaming requests with prompts of random words, and reports time to first token, time between tokens,
/// latency and throughput with percentiles.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,

    /// Requests at a time; with --rate, an upper bound [default: 8; with --rate: no bound]
    #[arg(short, long, value_name = "N", help_heading = "Load", value_parser = positive)]
    pub(crate) concurrency: Option<usize>,

    /// Requests a second, arriving at random (Poisson), whether or not earlier ones are answered
    #[arg(short, long, value_name = "PER_SECOND", help_heading = "Load", value_parser = positive_rate)]
    pub(crate) rate: Option<f64>,

    /// Stop after this many requests [default: 100; with --duration: no bound]
    #[arg(short, long, value_name = "N", help_heading = "Load", value_parser = positive)]
    pub(crate) num_requests: Option<usize>,

    /// Start no request after this time, such as 60s or 5m
    #[arg(short, long, value_name = "TIME", help_heading = "Load", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,

    /// Requests sent before the measurement starts
    #[arg(long, value_name = "N", help_heading = "Load", default_value_t = 4)]
    pub(crate) warmup: usize,

    /// Give up on a request after this time
    #[arg(long, value_name = "TIME", help_heading = "Load", default_value = "10m", value_parser = parse_duration)]
    pub(crate) timeout: Duration,

    /// Which API the requests use
    #[arg(long, value_name = "API", help_heading = "Requests", default_value = "completions")]
    pub(crate) api: ApiKind,

    /// Tokens of a prompt: a number or a range such as 100-2000; any shared prefix comes on top
    #[arg(long, value_name = "TOKENS", help_heading = "Requests", default_value = "128")]
    pub(crate) input_len: LengthRange,

    /// Tokens of an answer: a number or a range
    #[arg(long, value_name = "TOKENS", help_heading = "Requests", default_value = "64")]
    pub(crate) output_len: LengthRange,

    /// Tokens that all prompts begin with
    #[arg(long, value_name = "TOKENS", help_heading = "Requests", default_value_t = 0)]
    pub(crate) shared_prefix: usize,

    /// Let the model end answers early; without this, `ignore_eos` asks for all of --output-len
    #[arg(long, help_heading = "Requests")]
    pub(crate) honour_eos: bool,

    /// Randomness of the answers
    #[arg(long, value_name = "NUMBER", help_heading = "Requests", default_value_t = 0.0)]
    pub(crate) temperature: f64,

    /// Repeat the prompts, lengths and arrival times of an earlier run, whose report names its seed [default: a new one
    /// for each run, so that no prompt is in the server's prefix cache]
    #[arg(long, value_name = "N", help_heading = "Requests")]
    pub(crate) seed: Option<u64>,

    /// Write settings, results and each request to this file
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,

    /// Draw distributions and throughput over time into this file
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) svg: Option<PathBuf>,
}

/// Which endpoint is under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ApiKind {
    /// POST /v1/completions
    Completions,
    /// POST /v1/chat/completions; the chat template adds a few tokens to each prompt
    Chat,
}

/// A number of tokens, or a range of which each request draws one, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct LengthRange {
    pub(crate) min: usize,
    pub(crate) max: usize,
}

impl FromStr for LengthRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        let number = |part: &str| {
            part.trim().parse::<usize>().map_err(|_| format!("`{part}` is no number; write 128 or 100-2000"))
        };
        let range = Self { min: number(min)?, max: number(max)? };
        match range {
            Self { min: 0, .. } => Err("at least 1 token is needed".to_owned()),
            Self { min, max } if min > max => {
                Err(format!("{min} is more than {max}; write the smaller one first"))
            }
            _ => Ok(range),
        }
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("not a whole number".to_owned()),
    }
}

fn positive_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("must be a number above 0".to_owned()),
    }
}
