//! What must hold in the platform's manifests, checked without a cluster: schemas, references, pods, gateways, autoscaling,
//! network flows. Each rule is a file in `rules/` and a line in `rules.rs`.

mod finding;
mod input;
mod look;
mod mounts;
mod network;
mod object;
mod quantity;
mod render;
mod rules;
mod schema;
mod set;
mod span;
mod tables;
#[cfg(test)]
mod testing;
mod workload;

pub use self::finding::Finding;
pub use self::input::{Error, Input};
pub use self::render::render;
pub use self::rules::{ALL, Rule, check};
pub use self::set::{Script, Set, external_secrets};
pub use self::tables::{Flows, Secrets, exported_metrics};
