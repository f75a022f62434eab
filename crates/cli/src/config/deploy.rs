//! The `deploy` section of models.yaml as resolved: what a model's pods need, and where its files come from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde_saphyr::Spanned;
use vlinders_pull::{Source, SourceError, Target};
use vlinders_render::{Replicas, Slug, Worker};
use vlinders_runner::DeviceChoice;

use super::layers;
use super::models::{BUILTIN, DEFAULT_MAX_NUM_SEQS, Resolver};
use super::problem::{ConfigError, Problem};
use super::raw::{Field, RawDeploy, RawModel, RawModels, RawRange, RawReplicas};
use super::server::{self, ServerConfig};
use super::syntax::Source as File;
use super::units::parse_bytes;

/// Where pods have the volume with the models.
const VOLUME: &str = "/models";
/// Where the services of workers and heads look.
const PORT: u16 = 8000;
const GIB: u64 = 1 << 30;
/// What the built-in model takes, and then some.
const BUILTIN_MEMORY: u64 = GIB;
/// Ranks that are GPUs of one pod exchange data there.
const SHM_OF_RANKS: u64 = 8 * GIB;

/// A model whose files are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FetchedModel {
    pub(crate) name: String,
    pub(crate) source: Source,
    pub(crate) target: Target,
}

/// The workers of the models in `models`, and how long each may take to end.
///
/// # Errors
/// Everything that is wrong in both files.
pub(crate) fn resolve_workers(
    models: &Path,
    server: Option<&Path>,
) -> Result<(Vec<Worker>, Duration), ConfigError> {
    let mut problems = Vec::new();
    let shutdown = read_server(server).unwrap_or_else(|error| {
        problems.extend(error.0);
        Duration::ZERO
    });
    let workers = layers::read(models, "--models").map_err(ConfigError::from);
    let workers = workers.and_then(|text| read_workers(models, &text)).unwrap_or_else(|error| {
        problems.extend(error.0);
        Vec::new()
    });
    if problems.is_empty() { Ok((workers, shutdown)) } else { Err(ConfigError(problems)) }
}

/// The models in `models` that have a source; of `only` these names, if there are any. With `dest`, that folder stands for
/// the volume that pods have at /models.
///
/// # Errors
/// Everything that is wrong in the file.
pub(crate) fn resolve_sources(
    models: &Path,
    dest: Option<&Path>,
    only: &[String],
) -> Result<Vec<FetchedModel>, ConfigError> {
    let text = layers::read(models, "--models")?;
    read_sources(models, &text, dest, only)
}

fn read_server(server: Option<&Path>) -> Result<Duration, ConfigError> {
    let Some(file) = server else {
        let default = ServerConfig::default();
        return Ok(default.shutdown_delay + default.shutdown_grace);
    };
    let config = server::read(file, &layers::read(file, "--server")?)?;
    if config.port != PORT {
        let found = format!("`server.port` is {}", config.port);
        let remedy = format!("write {PORT}: services, policies and heads look for workers there");
        return Err(Problem::file(file, found, remedy).into());
    }
    Ok(config.shutdown_delay + config.shutdown_grace)
}

pub(super) fn read_workers(file: &Path, text: &str) -> Result<Vec<Worker>, ConfigError> {
    let mut slugs = BTreeMap::<Slug, String>::new();
    each_enabled(file, text, |resolver, model| {
        let name = &model.name;
        match Slug::of(&name.value) {
            Err(error) => resolver.report(name, error.to_string(), "give a name with letters or digits"),
            Ok(slug) => {
                if let Some(first) = slugs.insert(slug.clone(), name.value.clone()) {
                    let found =
                        format!("`{first}` and `{}` would both be called `{slug}` in Kubernetes", name.value);
                    resolver.report(name, found, "rename one of them; more names for it go into `aliases`");
                }
            }
        }
        Some(resolver.worker(model))
    })
}

pub(super) fn read_sources(
    file: &Path,
    text: &str,
    dest: Option<&Path>,
    only: &[String],
) -> Result<Vec<FetchedModel>, ConfigError> {
    let mut names = BTreeSet::new();
    let models = each_enabled(file, text, |resolver, model| {
        names.insert(model.name.value.clone());
        if !only.is_empty() && !only.contains(&model.name.value) {
            return None;
        }
        let source = model.deploy.as_ref()?.value.source.as_ref()?;
        let source = resolver.source_of(model, source)?;
        let target = resolver.target(model, dest)?;
        Some(FetchedModel { name: model.name.value.clone(), source, target })
    })?;
    if let Some(unknown) = only.iter().find(|name| !names.contains(*name)) {
        let known = names.into_iter().collect::<Vec<_>>().join(", ");
        let found = format!("{} has no enabled model '{unknown}'", file.display());
        return Err(Problem::option("--model", found, format!("it has {known}")).into());
    }
    Ok(models)
}

/// What `resolve` makes of each enabled model.
fn each_enabled<T>(
    file: &Path,
    text: &str,
    mut resolve: impl FnMut(&mut Resolver<'_>, &RawModel) -> Option<T>,
) -> Result<Vec<T>, ConfigError> {
    let source = File { file, text };
    let raw: RawModels = source.parse()?;
    let mut problems = Vec::new();
    let mut taken = BTreeMap::new();
    let mut resolved = Vec::new();
    for model in &raw.models.value {
        let mut resolver = Resolver { source: &source, compute_threads: None, problems: &mut problems };
        for name in std::iter::once(&model.name).chain(model.aliases.iter().flatten()) {
            resolver.claim(name, &mut taken);
        }
        if model.enabled.as_ref().is_none_or(|enabled| enabled.value) {
            resolved.extend(resolve(&mut resolver, model));
        }
    }
    if problems.is_empty() { Ok(resolved) } else { Err(ConfigError(problems)) }
}

// === impl Resolver ===

impl Resolver<'_> {
    fn worker(&mut self, model: &RawModel) -> Worker {
        let default = RawDeploy::default();
        let deploy = model.deploy.as_ref().map_or(&default, |deploy| &deploy.value);
        let is_builtin = model.path.value.starts_with(BUILTIN);
        if !is_builtin && below_volume(&model.path.value).is_none() {
            let found = format!("`{}` does not lie under {VOLUME}", model.path.value);
            let remedy = format!("write {VOLUME}/NAME: pods have the volume with the models there");
            self.report(&model.path, found, remedy);
        }
        if let Some(source) = &deploy.source {
            self.source_of(model, source);
        }
        let ranks = self.count(&model.tensor_parallel_size).unwrap_or(1);
        let nodes = self.count(&deploy.nodes).unwrap_or(1);
        if let (Some(field), true) = (&deploy.nodes, !ranks.is_multiple_of(nodes.max(1))) {
            let found = format!("found {nodes}, and tensor_parallel_size is {ranks}");
            self.report(
                field,
                found,
                "make that a multiple of it: each node runs as many ranks, on a GPU each",
            );
        }
        let is_on_gpu = self.is_on_gpu(model, is_builtin);
        let ranks_here = ranks / nodes.max(1);
        let gpus = if is_on_gpu { ranks_here } else { 0 };
        let shm = self.memory(&deploy.shm).unwrap_or(if gpus > 1 { SHM_OF_RANKS } else { 0 });
        Worker {
            model: model.name.value.clone(),
            gpus,
            has_files: !is_builtin,
            nodes,
            ranks: ranks_here,
            replicas: self.replicas(deploy),
            max_num_seqs: self
                .count(&model.max_num_seqs)
                .unwrap_or(DEFAULT_MAX_NUM_SEQS[usize::from(is_on_gpu)]),
            cpu: self.cpu(&deploy.cpu).unwrap_or_else(|| if is_builtin { "1" } else { "4" }.to_owned()),
            memory: self.memory_of_pod(model, deploy, is_builtin),
            shm,
            node_selector: deploy
                .node_selector
                .iter()
                .map(|(key, value)| (key.clone(), value.value.clone()))
                .collect(),
        }
    }

    fn source_of(&mut self, model: &RawModel, field: &Spanned<String>) -> Option<Source> {
        let error: SourceError = match field.value.parse() {
            Ok(source) => return Some(source),
            Err(error) => error,
        };
        // Whoever does not show the text has found a secret in it, and a problem shows its line.
        if error.found.contains(&field.value) {
            self.report(field, error.found, error.remedy);
        } else {
            self.report(&model.name, format!("its `source` is {}", error.found), error.remedy);
        }
        None
    }

    /// Which image a pod has must not depend on the machine that renders its manifest.
    fn is_on_gpu(&mut self, model: &RawModel, is_builtin: bool) -> bool {
        match self.device(&model.device) {
            DeviceChoice::Cuda(0) => true,
            DeviceChoice::Cuda(index) => {
                if let Some(field) = &model.device {
                    let found = format!("found cuda:{index}");
                    self.report(field, found, "write cuda: the GPUs of a pod count from 0");
                }
                true
            }
            DeviceChoice::Auto if !is_builtin => {
                let found = format!("`{}` does not say where it computes", model.name.value);
                let remedy =
                    "write `device: cuda` (a GPU for each rank, and the image for GPUs) or `device: cpu`";
                match &model.device {
                    Some(field) => self.report(field, found, remedy),
                    None => self.report(&model.name, found, remedy),
                }
                false
            }
            DeviceChoice::Auto | DeviceChoice::Cpu | DeviceChoice::Emulated => false,
        }
    }

    fn replicas(&mut self, deploy: &RawDeploy) -> Replicas {
        let Some(field) = &deploy.replicas else { return Replicas { min: 1, max: 1 } };
        let RawRange { min, max } = match field.value {
            RawReplicas::Fixed(count) => RawRange { min: count, max: count },
            RawReplicas::Range(range) => range,
        };
        let remedy = "write how many there are always (1 or more), or the least and the most, such as { min: 0, max: 4 }";
        match (u32::try_from(min), u32::try_from(max)) {
            (Ok(min), Ok(max)) if max > 0 && min <= max => return Replicas { min, max },
            _ if min > max => {
                self.report(field, format!("the least, {min}, is more than the most, {max}"), remedy)
            }
            _ => self.report(field, format!("found {max}"), remedy),
        }
        Replicas { min: 1, max: 1 }
    }

    fn cpu(&mut self, field: &Field<String>) -> Option<String> {
        let field = field.as_ref()?;
        let number = field.value.strip_suffix('m').unwrap_or(&field.value);
        if number.parse::<f64>().is_ok_and(|number| number > 0.0 && number.is_finite()) {
            return Some(field.value.clone());
        }
        self.report(field, format!("`{}` is no number of CPUs", field.value), "write such as \"8\" or 500m");
        None
    }

    fn memory(&mut self, field: &Field<String>) -> Option<u64> {
        let field = field.as_ref()?;
        parse_bytes(&field.value)
            .map_err(|_| {
                let found = format!("`{}` is no amount of memory", field.value);
                self.report(field, found, "write such as 32Gi or 512Mi");
            })
            .ok()
    }

    fn memory_of_pod(&mut self, model: &RawModel, deploy: &RawDeploy, is_builtin: bool) -> u64 {
        match self.memory(&deploy.memory) {
            Some(0) => {
                if let Some(field) = &deploy.memory {
                    self.report(field, "found 0", "write what a pod needs, such as 32Gi");
                }
            }
            Some(bytes) => return bytes,
            None if is_builtin || deploy.memory.is_some() => {}
            None => {
                let found = format!("nothing says how much memory a pod of `{}` needs", model.name.value);
                let remedy = "write `deploy: { memory: 32Gi }` with an amount of your own; `vlinders check` says what a model \
                              takes";
                self.report(&model.name, found, remedy);
            }
        }
        BUILTIN_MEMORY
    }

    fn target(&mut self, model: &RawModel, dest: Option<&Path>) -> Option<Target> {
        let path = &model.path;
        if path.value.starts_with(BUILTIN) {
            self.report(
                path,
                "the built-in model is part of the binary",
                "remove `source`, or give it another path",
            );
            return None;
        }
        let place = match dest {
            None => {
                let base = self.source.file.parent().unwrap_or(Path::new("."));
                base.join(&path.value)
            }
            Some(dest) => {
                let Some(below) = below_volume(&path.value) else {
                    let found = format!("`{}` does not lie under {VOLUME}", path.value);
                    self.report(path, found, format!("write {VOLUME}/NAME, which --dest stands for"));
                    return None;
                };
                dest.join(below)
            }
        };
        Some(target_at(&place))
    }
}

/// A folder, or a GGUF file in one.
pub(crate) fn target_at(place: &Path) -> Target {
    let is_gguf = place.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    let (name, parent) = (place.file_name().and_then(|name| name.to_str()), place.parent());
    match (name, parent) {
        (Some(name), Some(parent)) if is_gguf => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            Target { folder: parent.to_owned(), gguf: Some(name.to_owned()) }
        }
        _ => Target { folder: place.to_owned(), gguf: None },
    }
}

/// `/models/a/b` gives `a/b`.
fn below_volume(path: &str) -> Option<PathBuf> {
    let below = Path::new(path).strip_prefix(VOLUME).ok()?;
    let is_plain = below.components().all(|part| matches!(part, Component::Normal(_)));
    (is_plain && below.components().next().is_some()).then(|| below.to_owned())
}

#[cfg(test)]
mod tests;
