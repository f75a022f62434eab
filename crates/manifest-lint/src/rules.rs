//! The rules, each in a file of its own, and the list of them.

mod access_mode;
mod address;
mod autoscaler;
mod claim;
mod config_hash;
mod config_map;
mod database_url;
mod default_deny;
mod deploy_script;
mod disruption;
mod file;
mod flows;
mod fs_group;
mod gpu;
mod grace_period;
mod head_discovery;
mod image;
mod image_pull_secret;
mod keda_metric;
mod keda_trigger;
mod kong;
mod labels;
mod memory;
mod model;
mod namespace;
mod orphan;
mod pod_security;
mod pod_template;
mod policy;
mod priority_class;
mod probes;
mod prometheus_access;
mod promql;
mod rbac;
mod read_only_root;
mod redis_cluster;
mod replicas;
mod resources;
mod rollout;
mod scale_target;
mod schema;
mod secret;
mod secret_in_git;
mod service;
mod service_account;
mod spread;
mod storage_class;
mod token;

use crate::finding::{Finding, Report};
use crate::set::Set;

/// One thing that must hold.
#[derive(Debug)]
pub struct Rule {
    /// What findings and `--list` call it.
    pub id: &'static str,
    /// In a line.
    pub explains: &'static str,
    pub(crate) check: fn(&Set, &mut Report),
}

/// Every rule, in the order in which `--list` shows them.
pub const ALL: &[Rule] = &[
    schema::RULE,
    labels::RULE,
    namespace::RULE,
    // === references ===
    config_map::RULE,
    config_hash::RULE,
    secret::RULE,
    secret_in_git::RULE,
    database_url::RULE,
    claim::RULE,
    file::RULE,
    service_account::RULE,
    image_pull_secret::RULE,
    priority_class::RULE,
    service::RULE,
    address::RULE,
    rbac::RULE,
    orphan::RULE,
    // === pods ===
    pod_template::RULE,
    resources::RULE,
    probes::RULE,
    pod_security::RULE,
    read_only_root::RULE,
    token::RULE,
    image::RULE,
    memory::RULE,
    grace_period::RULE,
    model::RULE,
    gpu::RULE,
    rollout::RULE,
    disruption::RULE,
    spread::RULE,
    // === storage ===
    storage_class::RULE,
    access_mode::RULE,
    fs_group::RULE,
    // === scaling ===
    replicas::RULE,
    autoscaler::RULE,
    scale_target::RULE,
    keda_trigger::RULE,
    keda_metric::RULE,
    // === programs ===
    redis_cluster::RULE,
    kong::ROUTES,
    kong::LIMITS,
    kong::TOKENS,
    kong::STREAMS,
    kong::METRICS,
    kong::PROCESS,
    kong::TLS,
    prometheus_access::RULE,
    head_discovery::RULE,
    // === network ===
    default_deny::RULE,
    policy::RULE,
    flows::RULE,
    // === scripts ===
    deploy_script::RULE,
];

/// What all rules find, in order of file, object and rule.
#[must_use]
pub fn check(set: &Set) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in ALL {
        let mut report = Report::new(rule.id);
        (rule.check)(set, &mut report);
        findings.extend(report.into_findings());
    }
    findings.sort();
    findings.dedup();
    findings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_explained() {
        let ids: BTreeSet<_> = ALL.iter().map(|rule| rule.id).collect();
        assert_eq!(ids.len(), ALL.len());
        assert!(ALL.iter().all(|rule| !rule.explains.is_empty() && !rule.explains.ends_with('.')));
    }
}
