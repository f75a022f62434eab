//! Which crate may depend on which, and what must never be reachable.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Each crate of ours with the crates of ours it may use outside tests.
const ALLOWED: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("text", &[]),
    ("engine", &[]),
    ("demo", &[]),
    ("pull", &[]),
    ("render", &[]),
    ("comm", &[]),
    ("device", &[]),
    ("kernels", &["device"]),
    ("testkit", &[]),
    ("manifest-lint", &[]),
    ("layers", &["kernels", "device", "comm"]),
    ("models", &["layers", "kernels", "device", "comm"]),
    ("runner", &["engine", "models", "layers", "kernels", "device", "comm"]),
    ("edge", &["api"]),
    ("consumers", &["edge"]),
    ("ledger", &["edge"]),
    ("dashboard", &["api", "edge"]),
    ("server", &["api", "dashboard", "edge", "engine", "text"]),
    ("head", &["api", "consumers", "dashboard", "edge", "ledger"]),
    (
        "cli",
        &[
            "api",
            "consumers",
            "dashboard",
            "demo",
            "edge",
            "engine",
            "head",
            "ledger",
            "pull",
            "render",
            "runner",
            "server",
            "text",
        ],
    ),
    ("xtask", &[]),
];

/// From the crate on the left, no path of normal dependencies leads to a crate on the right.
const UNREACHABLE: &[(&str, &[&str])] = &[
    ("engine", &["candle-core", "axum", "hyper", "serde_json"]),
    ("api", &["axum", "candle-core", "tokio"]),
    ("text", &["axum", "candle-core", "tokio"]),
    ("runner", &["axum", "hyper"]),
    ("server", &["candle-core"]),
    ("head", &["candle-core"]),
    ("pull", &["axum", "candle-core"]),
    ("render", &["tokio", "k8s-openapi"]),
];

/// Normal (not dev, not build) dependencies of every package in the graph, by our short names.
pub(crate) struct Metadata {
    edges: BTreeMap<String, BTreeSet<String>>,
    ours: BTreeSet<String>,
}

impl Metadata {
    /// Ask cargo.
    ///
    /// # Errors
    /// Cargo fails, or prints something else than its documented JSON.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let output = crate::cargo(root)
            .args(["metadata", "--format-version", "1"])
            .output()
            .context("cannot run cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        }
        Self::parse(&serde_json::from_slice(&output.stdout)?).context("cargo metadata has an unknown form")
    }

    fn parse(metadata: &Value) -> Option<Self> {
        let mut names = BTreeMap::new();
        for package in metadata["packages"].as_array()? {
            names.insert(package["id"].as_str()?, short(package["name"].as_str()?));
        }
        let members = metadata["workspace_members"].as_array()?;
        let ours = members.iter().filter_map(|id| names.get(id.as_str()?).cloned()).collect();
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in metadata["resolve"]["nodes"].as_array()? {
            let from = names.get(node["id"].as_str()?)?;
            for dependency in node["deps"].as_array()? {
                let normal = dependency["dep_kinds"].as_array()?.iter().any(|kind| kind["kind"].is_null());
                if normal {
                    let to = names.get(dependency["pkg"].as_str()?)?;
                    edges.entry(from.clone()).or_default().insert(to.clone());
                }
            }
        }
        Some(Self { edges, ours })
    }

    fn of(&self, name: &str) -> impl Iterator<Item = &String> {
        self.edges.get(name).into_iter().flatten()
    }

    fn reachable(&self, from: &str) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut open = vec![from.to_owned()];
        while let Some(name) = open.pop() {
            for next in self.of(&name) {
                if seen.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        seen
    }
}

/// `vlinders-engine` → `engine`, the binary's package `vlinders` → `cli`, others unchanged.
fn short(name: &str) -> String {
    if name == "vlinders" { "cli" } else { name.strip_prefix("vlinders-").unwrap_or(name) }.to_owned()
}

/// One line for each edge that must not be.
pub(crate) fn check(metadata: &Metadata) -> Vec<String> {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut found = Vec::new();
    for from in &metadata.ours {
        let Some(targets) = allowed.get(from.as_str()) else {
            found.push(format!("crate {from} is not in the table of allowed edges (xtask/src/edges.rs)"));
            continue;
        };
        for to in metadata.of(from).filter(|to| metadata.ours.contains(*to)) {
            if !targets.contains(&to.as_str()) {
                found.push(format!("crate {from} must not depend on {to}"));
            }
        }
    }
    for (from, targets) in UNREACHABLE {
        let reachable = metadata.reachable(from);
        for to in targets.iter().filter(|to| reachable.contains(**to)) {
            found.push(format!("{to} must not be reachable from crate {from}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)], ours: &[&str]) -> Metadata {
        let mut map: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in edges {
            map.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        Metadata { edges: map, ours: ours.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn an_edge_outside_the_table_is_found() {
        let metadata = graph(&[("engine", "text"), ("server", "engine")], &["engine", "text", "server"]);
        assert_eq!(check(&metadata), ["crate engine must not depend on text"]);
    }

    #[test]
    fn what_is_reached_through_others_is_found() {
        let metadata = graph(&[("engine", "a"), ("a", "candle-core")], &["engine"]);
        assert_eq!(check(&metadata), ["candle-core must not be reachable from crate engine"]);
    }

    #[test]
    fn an_unknown_crate_of_ours_is_found() {
        assert_eq!(check(&graph(&[], &["attic"])).len(), 1);
    }

    #[test]
    fn development_dependencies_are_no_edges() {
        let metadata = serde_json::json!({
            "packages": [{"id": "1", "name": "vlinders-engine"}, {"id": "2", "name": "vlinders-text"}],
            "workspace_members": ["1", "2"],
            "resolve": {"nodes": [
                {"id": "1", "deps": [{"pkg": "2", "dep_kinds": [{"kind": "dev"}]}]},
                {"id": "2", "deps": [{"pkg": "1", "dep_kinds": [{"kind": null}]}]},
            ]},
        });
        let metadata = Metadata::parse(&metadata).unwrap();
        assert_eq!(check(&metadata), ["crate text must not depend on engine"]);
    }
}
