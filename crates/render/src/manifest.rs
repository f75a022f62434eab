//! The files of an overlay: which there are for a model, and what stands in them.

use askama::Template;

use crate::quantity::quantity;
use crate::scalar::{escaped, scalar};
use crate::worker::{Autoscaler, Platform, Worker};
use crate::{Folder, RenderError, Slug};

/// What a process needs after the time that its server promises: to write its log and end.
const LAST_SECONDS: u64 = 20;
/// Of a group, a service and labels that hold a hash have longer names; all have to fit into 63 characters.
const MAX_GROUP_SLUG: usize = 40;

/// The manifests of all workers, by file name.
///
/// # Errors
/// Names that Kubernetes can not tell apart or hold.
pub fn render(workers: &[Worker], platform: &Platform) -> Result<Folder, RenderError> {
    let slugs = Slug::of_all(workers.iter().map(|worker| worker.model.as_str()))?;
    let mut folder = Folder::new();
    for (worker, slug) in workers.iter().zip(&slugs) {
        if worker.model.chars().any(char::is_control) {
            return Err(RenderError::ControlCharacter(worker.model.clone()));
        }
        if worker.nodes > 1 && slug.to_string().len() > MAX_GROUP_SLUG {
            return Err(RenderError::TooLong(worker.model.clone()));
        }
        let object = Object { worker, platform, slug };
        folder.insert(format!("{slug}.yaml"), object.manifest()?);
        if object.is_scaled() {
            folder.insert(format!("{slug}.scaledobject.yaml"), object.scaled_object()?);
        }
    }
    let files: Vec<_> = folder.names().map(str::to_owned).collect();
    folder.insert("kustomization.yaml".to_owned(), KustomizationTemplate { files }.render()?);
    Ok(folder)
}

/// One model with all that its objects depend on.
struct Object<'a> {
    worker: &'a Worker,
    platform: &'a Platform,
    slug: &'a Slug,
}

// === impl Object ===

impl Object<'_> {
    fn is_scaled(&self) -> bool {
        let replicas = self.worker.replicas;
        self.platform.autoscaler == Autoscaler::Keda && replicas.min < replicas.max
    }

    fn is_group(&self) -> bool {
        self.worker.nodes > 1
    }

    /// Where nothing scales, a model of no replicas would never wake up.
    fn replicas(&self) -> Option<u32> {
        let least = self.worker.replicas.min;
        (!self.is_scaled()).then(|| if self.worker.replicas.max == 0 { 0 } else { least.max(1) })
    }

    fn manifest(&self) -> Result<String, RenderError> {
        let slug = self.slug.to_string();
        let (replicas, nodes) = (self.replicas(), self.worker.nodes);
        let (workload, others) = if self.is_group() {
            let leader = indented(&self.pod(Role::Leader)?, 6);
            let follower = indented(&self.pod(Role::Follower)?, 6);
            let others = GroupCommonTemplate { slug: slug.clone() }.render()?;
            (GroupTemplate { slug, replicas, nodes, leader, follower }.render()?, others)
        } else {
            let pod = indented(&self.pod(Role::Alone)?, 4);
            let has_gpus = self.worker.gpus > 0;
            let others = CommonTemplate { slug: slug.clone() }.render()?;
            (DeploymentTemplate { slug, replicas, has_gpus, pod }.render()?, others)
        };
        Ok(format!("{}\n---\n{others}", workload.trim_end()))
    }

    fn pod(&self, role: Role) -> Result<String, RenderError> {
        let worker = self.worker;
        // Kubernetes puts variables in for `$(NAME)`.
        let model = worker.model.replace("$(", "$$(");
        let mut args = vec!["worker", "--model", &model];
        args.extend(["--models", "/etc/vlinders/models.yaml", "--server", "/etc/vlinders/server.yaml"]);
        let pod = PodTemplate {
            slug: self.slug.to_string(),
            role,
            args: args.into_iter().map(scalar).collect(),
            image: scalar(if worker.gpus > 0 { &self.platform.gpu_image } else { &self.platform.image }),
            grace: self.platform.shutdown.as_millis().div_ceil(1000) as u64 + LAST_SECONDS,
            gpus: worker.gpus,
            ranks: worker.ranks,
            all_ranks: worker.ranks * worker.nodes,
            cpu: format!("\"{}\"", escaped(&worker.cpu)),
            memory: quantity(worker.memory + worker.shm),
            shm: (worker.shm > 0).then(|| quantity(worker.shm)),
            has_files: worker.has_files,
            node_selector: worker
                .node_selector
                .iter()
                .map(|(key, value)| (scalar(key), scalar(value)))
                .collect(),
        };
        Ok(pod.render()?)
    }

    fn scaled_object(&self) -> Result<String, RenderError> {
        let replicas = self.worker.replicas;
        // In tenths: the same digits on every machine.
        let running = self.worker.max_num_seqs * 8;
        let template = ScaledObjectTemplate {
            slug: self.slug.to_string(),
            is_group: self.is_group(),
            // In a label value, inside a query.
            model: escaped(&self.worker.model),
            min: replicas.min,
            max: replicas.max,
            fallback: replicas.min.max(1),
            running: match running % 10 {
                0 => (running / 10).to_string(),
                tenth => format!("{}.{tenth}", running / 10),
            },
        };
        Ok(template.render()?)
    }
}

/// What a pod is in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Alone,
    /// Rank 0, which answers requests.
    Leader,
    /// Another rank.
    Follower,
}

#[derive(Template)]
#[template(path = "kustomization.yaml", escape = "none")]
struct KustomizationTemplate {
    files: Vec<String>,
}

#[derive(Template)]
#[template(path = "deployment.yaml", escape = "none")]
struct DeploymentTemplate {
    slug: String,
    replicas: Option<u32>,
    has_gpus: bool,
    pod: String,
}

#[derive(Template)]
#[template(path = "group.yaml", escape = "none")]
struct GroupTemplate {
    slug: String,
    replicas: Option<u32>,
    nodes: usize,
    leader: String,
    follower: String,
}

#[derive(Template)]
#[template(path = "pod.yaml", escape = "none")]
struct PodTemplate {
    slug: String,
    role: Role,
    args: Vec<String>,
    image: String,
    grace: u64,
    gpus: usize,
    ranks: usize,
    all_ranks: usize,
    cpu: String,
    memory: String,
    shm: Option<String>,
    has_files: bool,
    node_selector: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "common.yaml", escape = "none")]
struct CommonTemplate {
    slug: String,
}

#[derive(Template)]
#[template(path = "group-common.yaml", escape = "none")]
struct GroupCommonTemplate {
    slug: String,
}

#[derive(Template)]
#[template(path = "scaledobject.yaml", escape = "none")]
struct ScaledObjectTemplate {
    slug: String,
    is_group: bool,
    model: String,
    min: u32,
    max: u32,
    fallback: u32,
    running: String,
}

/// Each line further to the right, without a line break at the end.
fn indented(text: &str, spaces: usize) -> String {
    let lines = text.trim_end().lines().map(|line| format!("{:spaces$}{line}", ""));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
