//! Puts the layers together: command line and environment (both in `args`) over files over defaults.

use std::path::{Path, PathBuf};

use vlinders_head::OfferedModel;
use vlinders_runner::{DeviceChoice, KvDtype, Quantization};

use super::access::LedgerSettings;
use super::dtype::{self, Dtype};
use super::head;
use super::models::{self, ModelConfig, ModelPath, is_fraction};
use super::problem::{ConfigError, Problem};
use super::server::{self, ServerConfig, check_endpoint, check_filter};
use crate::args::{ComputeArgs, HeadArgs, ModelArgs, ServerArgs};

/// All that a command needs to know.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resolved {
    /// Enabled models, at least one.
    pub(crate) models: Vec<ModelConfig>,
    pub(crate) server: ServerConfig,
    /// For the log: where the settings come from.
    pub(crate) origin: Origin,
}

/// Where models and server settings were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) models: String,
    pub(crate) server: String,
}

/// Resolve the configuration of a process that runs in `folder`.
///
/// # Errors
/// Every problem found, of all files and options.
pub(crate) fn resolve(
    model: &ModelArgs,
    server: &ServerArgs,
    compute: &ComputeArgs,
    folder: &Path,
) -> Result<Resolved, ConfigError> {
    let mut problems = Vec::new();
    let (mut server, server_origin) = resolve_server(server, folder).unwrap_or_else(|error| {
        problems.extend(error.0);
        Default::default()
    });
    if compute.compute_threads == Some(0) {
        problems.push(Problem::option("--compute-threads", "found 0", "give a whole number of 1 or more"));
    }
    server.compute_threads = compute.compute_threads.or(server.compute_threads);
    server.cpu_pinning = compute.cpu_pinning.unwrap_or(server.cpu_pinning);
    let (models, models_origin) =
        resolve_models(model, folder, server.compute_threads).unwrap_or_else(|error| {
            problems.extend(error.0);
            Default::default()
        });
    if !problems.is_empty() {
        return Err(ConfigError(problems));
    }
    Ok(Resolved { models, server, origin: Origin { models: models_origin, server: server_origin } })
}

/// All that a head needs to know.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ResolvedHead {
    /// `None` offers what workers report.
    pub(crate) models: Option<Vec<OfferedModel>>,
    pub(crate) server: ServerConfig,
    pub(crate) origin: Origin,
}

/// Resolve the configuration of a head that runs in `folder`.
///
/// # Errors
/// Every problem found, of all files and options.
pub(crate) fn resolve_head(args: &HeadArgs, folder: &Path) -> Result<ResolvedHead, ConfigError> {
    let mut problems = Vec::new();
    let (mut server, server_origin) = resolve_server(&args.server, folder).unwrap_or_else(|error| {
        problems.extend(error.0);
        Default::default()
    });
    match head::workers_of_arguments(&args.workers) {
        Ok(Some(pool)) => server.head.pools = vec![pool],
        Ok(None) => {}
        Err(problem) => problems.push(problem),
    }
    server.head.worker_key_file = args.worker_key_file.clone().or(server.head.worker_key_file);
    server.dashboard_port = args.dashboard_port.or(server.dashboard_port);
    server.shutdown_delay = args.shutdown_delay.unwrap_or(server.shutdown_delay);
    let (mut models, mut models_origin) = (None, "what workers serve, since no --models is given".to_owned());
    if let Some(file) = &args.models {
        models_origin = file.display().to_string();
        let offers = read(file, "--models").map_err(ConfigError::from);
        match offers.and_then(|text| models::read_offers(file, &text)) {
            Ok(offers) => models = Some(offers),
            Err(error) => problems.extend(error.0),
        }
    }
    if server.head.pools.is_empty() && problems.is_empty() {
        let remedy = "give --worker HOST:PORT, or write `head.workers` into server.yaml";
        problems.push(Problem::option("--worker", "nothing says where workers are", remedy));
    }
    if !problems.is_empty() {
        return Err(ConfigError(problems));
    }
    let origin = Origin { models: models_origin, server: server_origin };
    Ok(ResolvedHead { models, server, origin })
}

/// Where a head that is configured like this enters requests.
///
/// # Errors
/// The file is wrong.
pub(crate) fn resolve_ledger(args: &ServerArgs, folder: &Path) -> Result<LedgerSettings, ConfigError> {
    Ok(resolve_server(args, folder)?.0.access.ledger)
}

fn resolve_models(
    args: &ModelArgs,
    folder: &Path,
    compute_threads: Option<usize>,
) -> Result<(Vec<ModelConfig>, String), ConfigError> {
    let (mut models, origin) = if let Some(path) = &args.folder {
        (vec![from_folder(path, args.name.as_deref(), folder)?], "the command line".to_owned())
    } else if let Some(file) = file_to_read(args.models.as_deref(), "models.yaml", folder) {
        (models::read(&file, &read(&file, "--models")?, compute_threads)?, file.display().to_string())
    } else {
        let builtin = ModelConfig::new(vlinders_demo::MODEL_NAME, ModelPath::Builtin);
        (vec![builtin], "the built-in model, since there is no models.yaml".to_owned())
    };
    let overrides = Overrides::check(args, compute_threads)?;
    for model in &mut models {
        overrides.apply(model);
    }
    Ok((models, origin))
}

/// The model that a path on the command line names, relative to `folder`, with every setting at its default.
///
/// # Errors
/// There is none.
pub(crate) fn model_at(path: &str, folder: &Path) -> Result<ModelConfig, ConfigError> {
    Ok(from_folder(path, None, folder)?)
}

fn from_folder(path: &str, name: Option<&str>, folder: &Path) -> Result<ModelConfig, Problem> {
    let found =
        ModelPath::find(path, folder).map_err(|(found, remedy)| Problem::option("MODEL", found, remedy))?;
    let own_name = match &found {
        ModelPath::Builtin => vlinders_demo::MODEL_NAME.to_owned(),
        ModelPath::Folder(path) => {
            let path = path.canonicalize().unwrap_or_else(|_| path.clone());
            path.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
        }
        ModelPath::Gguf(path) => {
            path.file_stem().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
        }
    };
    Ok(ModelConfig::new(name.unwrap_or(&own_name), found))
}

/// Settings of the command line that hold for every model.
struct Overrides<'a> {
    args: &'a ModelArgs,
    dtype: Option<Option<Dtype>>,
    quantization: Option<Option<Quantization>>,
    kv_cache_dtype: Option<Option<KvDtype>>,
    device: Option<DeviceChoice>,
}

impl<'a> Overrides<'a> {
    fn check(args: &'a ModelArgs, compute_threads: Option<usize>) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let dtype = args.dtype.as_deref().and_then(|name| {
            let parsed = Dtype::parse(name);
            if parsed.is_none() {
                let found = format!("`{name}` is no number type that can be used here");
                problems.push(Problem::option("--dtype", found, format!("write {}", dtype::VALID)));
            }
            parsed
        });
        let kv_cache_dtype = args.kv_cache_dtype.as_deref().and_then(|name| {
            let parsed = dtype::parse_kv_cache(name);
            if parsed.is_none() {
                let found = format!("`{name}` is no type of a KV cache");
                let remedy = format!("write {}", dtype::VALID_KV_CACHE);
                problems.push(Problem::option("--kv-cache-dtype", found, remedy));
            }
            parsed
        });
        let quantization = args.quantization.as_deref().and_then(|name| {
            let parsed = dtype::parse_quantization(name);
            if parsed.is_none() {
                let found = format!("`{name}` is no quantisation that is available");
                let remedy = format!("write {}", dtype::VALID_QUANTIZATION);
                problems.push(Problem::option("--quantization", found, remedy));
            }
            parsed
        });
        let device = args.device.as_deref().and_then(|name| {
            let parsed = name.parse();
            parsed
                .map_err(|found: String| {
                    let remedy = format!("write {}", dtype::VALID_DEVICE);
                    problems.push(Problem::option("--device", found, remedy));
                })
                .ok()
        });
        let checked = Self { dtype, quantization, kv_cache_dtype, device, args };
        let counts = [
            ("--max-model-len", args.max_model_len),
            ("--max-num-seqs", args.max_num_seqs),
            ("--max-batched-tokens", args.max_batched_tokens),
            ("--num-threads", args.num_threads),
            ("--tensor-parallel-size", args.tensor_parallel_size),
        ];
        for (option, count) in counts {
            if count == Some(0) {
                problems.push(Problem::option(option, "found 0", "give a whole number of 1 or more"));
            }
        }
        if let (Some(threads), Some(all)) = (args.num_threads, compute_threads)
            && threads > all
        {
            let found = format!("found {threads}, more than the compute_threads of the server ({all})");
            let remedy = format!("give at most {all}, or raise --compute-threads");
            problems.push(Problem::option("--num-threads", found, remedy));
        }
        if let Some(fraction) = args.memory_fraction.filter(|fraction| !is_fraction(*fraction)) {
            let remedy = "give a number above 0 and at most 1, such as 0.8";
            problems.push(Problem::option("--memory-fraction", format!("found {fraction}"), remedy));
        }
        if problems.is_empty() { Ok(checked) } else { Err(ConfigError(problems)) }
    }

    fn apply(&self, model: &mut ModelConfig) {
        model.max_model_len = self.args.max_model_len.or(model.max_model_len);
        model.dtype = self.dtype.unwrap_or(model.dtype);
        model.quantization = self.quantization.unwrap_or(model.quantization);
        model.kv_cache_dtype = self.kv_cache_dtype.unwrap_or(model.kv_cache_dtype);
        model.device = self.device.unwrap_or(model.device);
        model.max_num_seqs = self.args.max_num_seqs.or(model.max_num_seqs);
        model.max_batched_tokens = self.args.max_batched_tokens.or(model.max_batched_tokens);
        model.num_threads = self.args.num_threads.or(model.num_threads);
        model.tensor_parallel_size = self.args.tensor_parallel_size.or(model.tensor_parallel_size);
        model.memory_fraction = self.args.memory_fraction.or(model.memory_fraction);
    }
}

fn resolve_server(args: &ServerArgs, folder: &Path) -> Result<(ServerConfig, String), ConfigError> {
    let (mut config, origin) = match file_to_read(args.file.as_deref(), "server.yaml", folder) {
        Some(file) => (server::read(&file, &read(&file, "--server")?)?, file.display().to_string()),
        None => (ServerConfig::default(), "defaults, since there is no server.yaml".to_owned()),
    };
    if args.workers == Some(0) {
        return Err(Problem::option("--workers", "found 0", "give a whole number of 1 or more").into());
    }
    config.host = args.host.clone().unwrap_or(config.host);
    config.port = args.port.unwrap_or(config.port);
    config.workers = args.workers.unwrap_or(config.workers);
    config.api_key_file = args.api_key_file.clone().or(config.api_key_file);
    config.shutdown_grace = args.shutdown_grace.unwrap_or(config.shutdown_grace);
    config.log.format = args.log_format.unwrap_or(config.log.format);
    if let Some(endpoint) = &args.otlp_endpoint {
        let checked = check_endpoint(endpoint)
            .map_err(|remedy| Problem::option("--otlp-endpoint", format!("found `{endpoint}`"), remedy))?;
        config.otlp_endpoint = Some(checked);
    }
    if let Some(level) = &args.log_level {
        config.log.filter = check_filter(level)
            .map_err(|remedy| Problem::option("--log-level", format!("found `{level}`"), remedy))?;
    }
    Ok((config, origin))
}

/// The file that was asked for, or `name` if it lies in `folder`.
fn file_to_read(asked: Option<&Path>, name: &str, folder: &Path) -> Option<PathBuf> {
    match asked {
        Some(file) => Some(file.to_owned()),
        None => {
            let file = folder.join(name);
            // `./models.yaml` reads better in messages than an absolute path.
            file.is_file().then(|| if folder == Path::new(".") { PathBuf::from(name) } else { file })
        }
    }
}

pub(super) fn read(file: &Path, option: &str) -> Result<String, Problem> {
    std::fs::read_to_string(file).map_err(|error| {
        let remedy = format!("check the path given with {option} and its permissions");
        Problem::file(file, format!("cannot be read: {error}"), remedy)
    })
}
