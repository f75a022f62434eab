//! models.yaml as resolved: what each model is and which settings hold for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_saphyr::Spanned;
use vlinders_head::{OfferedModel, Stickiness};
use vlinders_runner::{Activations, DeviceChoice, KvDtype, Quantization};

use super::dtype::{self, Dtype};
use super::problem::{ConfigError, Problem};
use super::raw::{Field, RawModel, RawModels};
use super::syntax::Source;

/// Scheme of a model that is part of the binary.
pub(super) const BUILTIN: &str = "builtin:";
/// Sequences computed together, on the CPU and on a GPU.
pub(super) const DEFAULT_MAX_NUM_SEQS: [usize; 2] = [64, 256];
/// Tokens of a step: a GPU needs thousands to be busy, and computes them in the time that a CPU takes for few.
const DEFAULT_MAX_BATCHED_TOKENS: [usize; 2] = [512, 8192];
const DEFAULT_MAX_WAITING: usize = 1024;
/// Of what the weights leave. Of a GPU nobody else wants a part.
const DEFAULT_MEMORY_FRACTION: [f64; 2] = [0.8, 0.95];

/// One model to serve.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelConfig {
    /// The id clients ask for.
    pub(crate) name: String,
    pub(crate) path: ModelPath,
    /// More ids for the same model.
    pub(crate) aliases: Vec<String>,
    /// Where it computes.
    pub(crate) device: DeviceChoice,
    /// Prompt and answer together; `None` is what the model's own configuration says.
    pub(crate) max_model_len: Option<usize>,
    /// `None` is that of the checkpoint.
    pub(crate) dtype: Option<Dtype>,
    /// Quantise weights while loading.
    pub(crate) quantization: Option<Quantization>,
    /// Whether activations may be rounded to bf16.
    pub(crate) activations: Activations,
    /// `None` is that of the weights.
    pub(crate) kv_cache_dtype: Option<KvDtype>,
    /// A file that replaces the model's own chat template.
    pub(crate) chat_template: Option<PathBuf>,
    /// Sequences computed together; `None` is what suits the device.
    pub(crate) max_num_seqs: Option<usize>,
    /// Token budget of a step; `None` is what suits the device.
    pub(crate) max_batched_tokens: Option<usize>,
    /// Requests that may wait; one more is refused with 429.
    pub(crate) max_waiting: usize,
    /// The most threads that compute for it; `None` is all of the process.
    pub(crate) num_threads: Option<usize>,
    /// Ranks that the model is split among; `None` is 1, or as many as the processes of a group.
    pub(crate) tensor_parallel_size: Option<usize>,
    pub(crate) prefix_caching: bool,
    /// Share of the memory left by the weights that the KV cache may take; `None` is what suits the device.
    pub(crate) memory_fraction: Option<f64>,
    /// Find tool calls in the form of Hermes and Qwen; without it they stay text.
    pub(crate) hermes_tools: bool,
}

/// Where a model's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ModelPath {
    /// Inside this binary.
    Builtin,
    /// A Hugging Face folder.
    Folder(PathBuf),
    /// A GGUF file.
    Gguf(PathBuf),
}

// === impl ModelConfig ===

impl ModelConfig {
    /// A model with every setting at its default.
    pub(super) fn new(name: &str, path: ModelPath) -> Self {
        Self {
            name: name.to_owned(),
            hermes_tools: path == ModelPath::Builtin,
            path,
            aliases: Vec::new(),
            max_model_len: None,
            dtype: None,
            quantization: None,
            activations: Activations::Auto,
            kv_cache_dtype: None,
            chat_template: None,
            max_num_seqs: None,
            max_batched_tokens: None,
            max_waiting: DEFAULT_MAX_WAITING,
            num_threads: None,
            tensor_parallel_size: None,
            prefix_caching: true,
            memory_fraction: None,
            device: DeviceChoice::Auto,
        }
    }

    /// Sequences computed together.
    pub(crate) fn max_num_seqs(&self) -> usize {
        self.max_num_seqs.unwrap_or_else(|| self.by_device(DEFAULT_MAX_NUM_SEQS))
    }

    /// Token budget of a step.
    pub(crate) fn max_batched_tokens(&self) -> usize {
        let budget = self.max_batched_tokens.unwrap_or_else(|| self.by_device(DEFAULT_MAX_BATCHED_TOKENS));
        budget.max(self.max_num_seqs())
    }

    /// Share of the memory left by the weights that the KV cache may take.
    pub(crate) fn memory_fraction(&self) -> f64 {
        self.memory_fraction.unwrap_or_else(|| self.by_device(DEFAULT_MEMORY_FRACTION))
    }

    fn by_device<T: Copy>(&self, [on_cpu, on_gpu]: [T; 2]) -> T {
        if self.device.is_gpu() { on_gpu } else { on_cpu }
    }
}

// === impl ModelPath ===

impl ModelPath {
    /// Find the model that `text` names: `builtin:NAME`, a folder or a GGUF file, relative to `base`.
    ///
    /// # Errors
    /// What was found, and a remedy.
    pub(super) fn find(text: &str, base: &Path) -> Result<Self, (String, String)> {
        if let Some(name) = text.strip_prefix(BUILTIN) {
            if name == vlinders_demo::MODEL_NAME {
                return Ok(Self::Builtin);
            }
            let remedy = format!("this binary holds one model: {BUILTIN}{}", vlinders_demo::MODEL_NAME);
            return Err((format!("no built-in model is called `{name}`"), remedy));
        }
        let path = base.join(text);
        if path.is_dir() {
            return Ok(Self::Folder(path));
        }
        let is_gguf = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        if path.is_file() && is_gguf {
            return Ok(Self::Gguf(path));
        }
        if path.is_file() {
            let remedy =
                "give the folder that holds config.json, tokenizer.json and *.safetensors, or a .gguf file";
            return Err((format!("`{text}` is a file"), remedy.to_owned()));
        }
        let shown = std::path::absolute(&path).unwrap_or(path);
        let remedy = if text.matches('/').count() == 1 && !text.starts_with(['/', '.']) {
            format!(
                "models are not downloaded by this server; fetch it first, for instance with `vlinders pull --source \
                 hf://{text} --dest {text}`, or correct the path"
            )
        } else {
            "correct the path, or mount the volume that holds the model".to_owned()
        };
        let what = if is_gguf { "file" } else { "folder" };
        Err((format!("there is no {what} {}", shown.display()), remedy))
    }
}

/// Decide on the text of a models.yaml. Relative paths count from the folder of the file. `compute_threads` is how many
/// threads the server is to have, where it says so.
pub(super) fn read(
    file: &Path,
    text: &str,
    compute_threads: Option<usize>,
) -> Result<Vec<ModelConfig>, ConfigError> {
    let source = Source { file, text };
    let raw: RawModels = source.parse()?;
    let mut problems = Vec::new();
    let mut taken = BTreeMap::new();
    let mut models = Vec::new();
    for model in &raw.models.value {
        let mut resolver = Resolver { source: &source, compute_threads, problems: &mut problems };
        let names = std::iter::once(&model.name).chain(model.aliases.iter().flatten());
        for name in names {
            resolver.claim(name, &mut taken);
        }
        if model.enabled.as_ref().is_none_or(|enabled| enabled.value) {
            models.push(resolver.model(model));
        }
    }
    if raw.models.value.is_empty() {
        let remedy = "add one, such as `- { name: demo, path: builtin:vlinders-demo }`";
        problems.push(source.problem(&raw.models, "no model is listed", remedy));
    } else if models.is_empty() {
        problems.push(source.problem(
            &raw.models,
            "no model is enabled",
            "set `enabled: true` for one of them",
        ));
    }
    if problems.is_empty() { Ok(models) } else { Err(ConfigError(problems)) }
}

/// Read of a models.yaml what a head offers: names and limits of the models that are enabled. Their files need not be here.
pub(super) fn read_offers(file: &Path, text: &str) -> Result<Vec<OfferedModel>, ConfigError> {
    let source = Source { file, text };
    let raw: RawModels = source.parse()?;
    let mut problems = Vec::new();
    let mut taken = BTreeMap::new();
    let mut offers = Vec::new();
    for model in &raw.models.value {
        let mut resolver = Resolver { source: &source, compute_threads: None, problems: &mut problems };
        for name in std::iter::once(&model.name).chain(model.aliases.iter().flatten()) {
            resolver.claim(name, &mut taken);
        }
        if model.enabled.as_ref().is_none_or(|enabled| enabled.value) {
            offers.push(OfferedModel {
                name: model.name.value.as_str().into(),
                aliases: model.aliases.iter().flatten().map(|alias| alias.value.clone()).collect(),
                max_model_len: resolver.count(&model.max_model_len),
                stickiness: resolver.stickiness(&model.sticky),
            });
        }
    }
    if problems.is_empty() { Ok(offers) } else { Err(ConfigError(problems)) }
}

/// Resolves one model and collects what is wrong with it.
pub(super) struct Resolver<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) compute_threads: Option<usize>,
    pub(super) problems: &'a mut Vec<Problem>,
}

impl Resolver<'_> {
    pub(super) fn report<T>(&mut self, at: &Spanned<T>, found: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(self.source.problem(at, found, remedy));
    }

    pub(super) fn claim(&mut self, name: &Spanned<String>, taken: &mut BTreeMap<String, u64>) {
        if name.value.trim().is_empty() {
            self.report(name, "an empty name", "give the id that clients ask for");
        } else if let Some(line) = taken.get(&name.value) {
            let found = format!("`{}` is already taken on line {line}", name.value);
            self.report(
                name,
                found,
                "names and aliases of all models must differ, also of those not enabled",
            );
        } else {
            taken.insert(name.value.clone(), name.referenced.line());
        }
    }

    fn stickiness(&mut self, field: &Field<String>) -> Stickiness {
        match field.as_ref().map(|field| (field, field.value.as_str())) {
            None | Some((_, "prefix")) => Stickiness::Prefix,
            Some((_, "user")) => Stickiness::User,
            Some((field, other)) => {
                let remedy =
                    "write prefix (requests go where their beginning is cached) or user, or remove the line";
                self.report(field, format!("found `{other}`"), remedy);
                Stickiness::Prefix
            }
        }
    }

    fn model(&mut self, raw: &RawModel) -> ModelConfig {
        self.stickiness(&raw.sticky);
        self.reject_unavailable(raw);
        let base = self.source.file.parent().unwrap_or(Path::new("."));
        let path = ModelPath::find(&raw.path.value, base).unwrap_or_else(|(found, remedy)| {
            self.report(&raw.path, found, remedy);
            ModelPath::Builtin
        });
        let default = ModelConfig::new(&raw.name.value, path);
        ModelConfig {
            aliases: raw.aliases.iter().flatten().map(|alias| alias.value.clone()).collect(),
            max_model_len: self.count(&raw.max_model_len),
            dtype: self.dtype(&raw.dtype),
            quantization: self.quantization(&raw.quantization),
            activations: self.activations(&raw.activation_dtype, &raw.quantization),
            kv_cache_dtype: self.kv_cache_dtype(&raw.kv_cache_dtype),
            chat_template: self.file(&raw.chat_template, base),
            device: self.device(&raw.device),
            max_num_seqs: self.count(&raw.max_num_seqs),
            max_batched_tokens: self.count(&raw.max_batched_tokens),
            max_waiting: self.count(&raw.max_waiting).unwrap_or(default.max_waiting),
            num_threads: self.threads(&raw.num_threads),
            tensor_parallel_size: self.count(&raw.tensor_parallel_size),
            prefix_caching: raw.prefix_caching.as_ref().is_none_or(|on| on.value),
            memory_fraction: self.fraction(&raw.memory_fraction),
            hermes_tools: self.hermes_tools(&raw.tool_parser).unwrap_or(default.hermes_tools),
            ..default
        }
    }

    /// Fields of the format that ask for something this version can not do.
    fn reject_unavailable(&mut self, raw: &RawModel) {
        if let Some(field) = raw.reasoning_parser.as_ref().filter(|field| field.value != "none") {
            let found = format!("`{}` is not available yet", field.value);
            self.report(field, found, "write none, or remove the line");
        }
    }

    pub(super) fn device(&mut self, field: &Field<String>) -> DeviceChoice {
        let Some(field) = field else { return DeviceChoice::Auto };
        field.value.parse().unwrap_or_else(|found| {
            self.report(field, found, format!("write {}, or remove the line", dtype::VALID_DEVICE));
            DeviceChoice::Auto
        })
    }

    fn hermes_tools(&mut self, field: &Field<String>) -> Option<bool> {
        let field = field.as_ref()?;
        match field.value.as_str() {
            "hermes" => Some(true),
            "none" => Some(false),
            other => {
                self.report(
                    field,
                    format!("`{other}` is no tool parser"),
                    "write hermes or none, or remove the line",
                );
                None
            }
        }
    }

    pub(super) fn count(&mut self, field: &Field<u64>) -> Option<usize> {
        let field = field.as_ref()?;
        match usize::try_from(field.value) {
            Ok(0) => self.report(field, "found 0", "write a whole number of 1 or more, or remove the line"),
            Ok(count) if count <= u32::MAX as usize => return Some(count),
            _ => self.report(field, format!("found {}", field.value), format!("write at most {}", u32::MAX)),
        }
        None
    }

    fn threads(&mut self, field: &Field<u64>) -> Option<usize> {
        let threads = self.count(field)?;
        if let (Some(all), Some(field)) = (self.compute_threads.filter(|all| *all < threads), field) {
            let found = format!("found {threads}, more than the compute_threads of the server ({all})");
            self.report(field, found, format!("write at most {all}, or raise compute_threads"));
        }
        Some(threads)
    }

    fn dtype(&mut self, field: &Field<String>) -> Option<Dtype> {
        let field = field.as_ref()?;
        Dtype::parse(&field.value).unwrap_or_else(|| {
            let found = format!("`{}` is no number type that can be used here", field.value);
            self.report(field, found, format!("write {}", dtype::VALID));
            None
        })
    }

    fn kv_cache_dtype(&mut self, field: &Field<String>) -> Option<KvDtype> {
        let field = field.as_ref()?;
        dtype::parse_kv_cache(&field.value).unwrap_or_else(|| {
            let found = format!("`{}` is no type of a KV cache", field.value);
            self.report(field, found, format!("write {}", dtype::VALID_KV_CACHE));
            None
        })
    }

    fn quantization(&mut self, field: &Field<String>) -> Option<Quantization> {
        let field = field.as_ref()?;
        dtype::parse_quantization(&field.value).unwrap_or_else(|| {
            let found = format!("`{}` is no quantisation that is available", field.value);
            self.report(field, found, format!("write {}", dtype::VALID_QUANTIZATION));
            None
        })
    }

    fn activations(&mut self, field: &Field<String>, quantization: &Field<String>) -> Activations {
        let Some(field) = field.as_ref() else { return Activations::Auto };
        let weights = quantization.as_ref().map_or("none", |quantization| quantization.value.as_str());
        if field.value == "float8" && weights != "fp8" {
            let found = format!("float8 multiplies weights of eight bits, and quantization is {weights}");
            self.report(field, found, "write quantization: fp8 too, or activation_dtype: auto");
        }
        dtype::parse_activations(&field.value).unwrap_or_else(|| {
            let found = format!("`{}` is no type of activations", field.value);
            self.report(field, found, format!("write {}", dtype::VALID_ACTIVATIONS));
            Activations::Auto
        })
    }

    fn fraction(&mut self, field: &Field<f64>) -> Option<f64> {
        let field = field.as_ref()?;
        if is_fraction(field.value) {
            return Some(field.value);
        }
        self.report(
            field,
            format!("found {}", field.value),
            "write a number above 0 and at most 1, such as 0.8",
        );
        None
    }

    fn file(&mut self, field: &Field<String>, base: &Path) -> Option<PathBuf> {
        let field = field.as_ref()?;
        let path = base.join(&field.value);
        if !path.is_file() {
            self.report(
                field,
                format!("there is no file {}", path.display()),
                "correct the path, or remove the line",
            );
        }
        Some(path)
    }
}

pub(super) fn is_fraction(number: f64) -> bool {
    number > 0.0 && number <= 1.0
}
