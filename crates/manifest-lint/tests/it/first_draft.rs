//! The first draft of the manifests: each of its 29 defects has a rule that finds it there.

use std::path::Path;

use vlinders_manifest_lint::{Finding, Flows, Input, Secrets, Set, check};

/// The number of a defect, a rule, and the beginning of what the rule says where the defect is.
const DEFECTS: &[(u8, &str, &str)] = &[
    (1, "schema", "Secret vlinders-inference/model-registry-credentials: data..dockerconfigjson: "),
    (
        2,
        "secret",
        "StatefulSet vlinders-platform/postgres: Secret vlinders-secrets has no key postgres-password",
    ),
    (
        2,
        "database-url",
        "Secret vlinders-platform/vlinders-secrets: `postgres-url` names the user `user`, the server has vlinders",
    ),
    (3, "secret-in-git", "Secret vlinders-platform/vlinders-secrets: values stand in the manifest: "),
    (3, "secret-in-git", "Secret vlinders-platform/vlinders-secrets: `jwt-private-key` is a private key"),
    (
        4,
        "claim",
        "Deployment vlinders-monitoring/prometheus: claim prometheus-pvc is not in vlinders-monitoring",
    ),
    (
        5,
        "prometheus-access",
        "Deployment vlinders-monitoring/prometheus: its account may not list and watch pods",
    ),
    (6, "fs-group", "Deployment vlinders-monitoring/prometheus: its volume belongs to root"),
    (7, "storage-class", "StorageClass fast-ssd: kubernetes.io/aws-ebs is part of no Kubernetes any more"),
    (7, "storage-class", "StorageClass fast-ssd: its volumes can not grow"),
    (7, "storage-class", "StorageClass fast-ssd: its volumes are not encrypted"),
    (7, "storage-class", "StorageClass fast-ssd: a database goes with its claim"),
    (
        8,
        "access-mode",
        "PersistentVolumeClaim vlinders-inference/models-pvc: its storage class attaches a volume to one node",
    ),
    (8, "access-mode", "PersistentVolumeClaim vlinders-inference/models-pvc: nobody ever writes to it"),
    (9, "orphan", "PersistentVolumeClaim vlinders-platform/postgres-pvc: nobody uses it"),
    (
        10,
        "config-map",
        "RayCluster vlinders-inference/vlinders-ray-cluster: ConfigMap vlinders-config is not in vlinders-inference",
    ),
    (10, "orphan", "ConfigMap vlinders-platform/vlinders-config: nobody uses it"),
    (
        10,
        "config-hash",
        "RayCluster vlinders-inference/vlinders-ray-cluster: ConfigMap vlinders-config has no hash suffix",
    ),
    (11, "image-pull-secret", "Secret vlinders-inference/model-registry-credentials: no pod pulls with it"),
    (12, "redis-cluster", "StatefulSet vlinders-platform/redis: nobody forms the cluster"),
    (12, "redis-cluster", "StatefulSet vlinders-platform/redis: fewer than six nodes"),
    (
        13,
        "redis-cluster",
        "StatefulSet vlinders-platform/redis: nodes.conf keeps addresses of pods that are gone",
    ),
    (13, "redis-cluster", "StatefulSet vlinders-platform/redis: everybody may read and write it"),
    (13, "redis-cluster", "StatefulSet vlinders-platform/redis: it takes memory until it is killed"),
    (13, "redis-cluster", "StatefulSet vlinders-platform/redis: a node waits for the one before it"),
    (
        13,
        "redis-cluster",
        "StatefulSet vlinders-platform/redis: nodes that are not ready can not find each other",
    ),
    (13, "probes", "StatefulSet vlinders-platform/redis: redis has no readinessProbe"),
    (13, "disruption", "StatefulSet vlinders-platform/redis: it has no PodDisruptionBudget"),
    (14, "kong-limits", "ConfigMap vlinders-platform/kong-config: rate-limiting speaks to redis, a cluster"),
    (
        14,
        "kong-limits",
        "ConfigMap vlinders-platform/kong-config: rate-limiting does not say what happens without Redis",
    ),
    (15, "kong-limits", "ConfigMap vlinders-platform/kong-config: rate-limiting has the flat redis_host"),
    (16, "kong-routes", "ConfigMap vlinders-platform/kong-config: route inference-route strips its path"),
    (
        16,
        "kong-routes",
        "ConfigMap vlinders-platform/kong-config: no route has /v1/completions, /v1/embeddings",
    ),
    (16, "kong-routes", "ConfigMap vlinders-platform/kong-config: no route takes OPTIONS"),
    (17, "kong-tokens", "ConfigMap vlinders-platform/kong-config: jwt has no consumer with a key"),
    (17, "kong-tokens", "ConfigMap vlinders-platform/kong-config: jwt does not look at exp"),
    (17, "kong-tokens", "ConfigMap vlinders-platform/kong-config: tokens may live for ever"),
    (18, "kong-streams", "ConfigMap vlinders-platform/kong-config: route inference-route holds streams back"),
    (18, "kong-streams", "ConfigMap vlinders-platform/kong-config: service inference-service waits 60 s"),
    (
        18,
        "kong-streams",
        "ConfigMap vlinders-platform/kong-config: service inference-service sends a request again",
    ),
    (19, "kong-metrics", "Deployment vlinders-platform/kong-gateway: KONG_STATUS_LISTEN is not set"),
    (19, "kong-metrics", "Deployment vlinders-platform/kong-gateway: the admin interface listens"),
    (19, "kong-metrics", "ConfigMap vlinders-platform/kong-config: latency_metrics are off"),
    (20, "image", "Deployment vlinders-platform/kong-gateway: kong runs `kong:3.5`: too old"),
    (
        20,
        "kong-process",
        "Deployment vlinders-platform/kong-gateway: it starts a process for each core of the node",
    ),
    (20, "kong-process", "Deployment vlinders-platform/kong-gateway: it can not write to /usr/local/kong"),
    (
        21,
        "kong-tls",
        "ConfigMap vlinders-platform/kong-config: route inference-route takes tokens over plain HTTP",
    ),
    (21, "kong-tls", "Deployment vlinders-platform/kong-gateway: KONG_SSL_CERT is not set"),
    (21, "kong-tls", "Service vlinders-platform/kong-gateway: it hides the addresses of clients"),
    (21, "kong-tls", "Service vlinders-platform/kong-gateway: idle connections are cut"),
    (22, "pod-security", "Deployment vlinders-platform/kong-gateway: "),
    (22, "pod-security", "RayCluster vlinders-inference/vlinders-ray-cluster: "),
    (22, "namespace", "Namespace vlinders-inference: Pod Security enforces none"),
    (22, "disruption", "Deployment vlinders-platform/kong-gateway: it has no PodDisruptionBudget"),
    (22, "spread", "Deployment vlinders-platform/kong-gateway: all its replicas may stand on one node"),
    (22, "probes", "Deployment vlinders-platform/kong-gateway: kong has no livenessProbe"),
    (22, "probes", "Deployment vlinders-monitoring/prometheus: prometheus has no livenessProbe"),
    (23, "autoscaler", "HorizontalPodAutoscaler vlinders-platform/kong-gateway-hpa: it scales on memory"),
    (
        23,
        "autoscaler",
        "HorizontalPodAutoscaler vlinders-platform/kong-gateway-hpa: it has no behavior.scaleDown",
    ),
    (23, "replicas", "Deployment vlinders-platform/kong-gateway: each apply undoes what"),
    (23, "deploy-script", "line 1: it does not look whether metrics-server is there"),
    (24, "scale-target", "ScaledObject vlinders-inference/ray-worker-scaler: RayCluster has no /scale"),
    (
        25,
        "keda-trigger",
        "ScaledObject vlinders-inference/ray-worker-scaler: trigger 0: metricName was removed",
    ),
    (
        25,
        "keda-trigger",
        "ScaledObject vlinders-inference/ray-worker-scaler: trigger 1: AverageValue divides an average",
    ),
    (
        25,
        "keda-trigger",
        "ScaledObject vlinders-inference/ray-worker-scaler: cooldownPeriod governs the last step to zero only",
    ),
    (25, "keda-trigger", "ScaledObject vlinders-inference/ray-worker-scaler: it has no fallback"),
    (
        26,
        "keda-metric",
        "ScaledObject vlinders-inference/ray-worker-scaler: nobody exports gpu_utilization_percent",
    ),
    (
        26,
        "keda-metric",
        "ScaledObject vlinders-inference/ray-worker-scaler: nobody exports ray_serve_deployment_queued_queries",
    ),
    (
        26,
        "keda-trigger",
        "ScaledObject vlinders-inference/ray-worker-scaler: trigger 0: a missing series counts as 0",
    ),
    (
        27,
        "gpu",
        "RayCluster vlinders-inference/vlinders-ray-cluster: ray-worker has 1 GPUs on 1 pods, `gpt-4` needs 4",
    ),
    (
        27,
        "memory",
        "RayCluster vlinders-inference/vlinders-ray-cluster: ray-worker: 32768 MiB of memory-backed volumes leave too little",
    ),
    (28, "policy", "NetworkPolicy vlinders-platform/vlinders-platform-policy: it selects no pod"),
    (
        28,
        "policy",
        "NetworkPolicy vlinders-platform/vlinders-platform-policy: it selects namespaces by `name`",
    ),
    (28, "default-deny", "Deployment vlinders-platform/kong-gateway: vlinders-platform is open"),
    (28, "flows", "prometheus → ray-head: declared, but 8000/TCP is not let in"),
    (28, "flows", "internet → postgres: allowed and not declared: 5432/TCP"),
    (28, "flows", "redis → ray-head: allowed and not declared: 8000/TCP"),
    (29, "deploy-script", "line 29: kubectl wait by label fails"),
    (29, "deploy-script", "line 1: it goes on after a failure"),
    (29, "deploy-script", "line 65: policies come after the pods"),
    (29, "deploy-script", "line 1: it does not wait until pods run"),
    (29, "deploy-script", "line 1: it can not be tried out"),
    (29, "deploy-script", "line 1: it can not be undone"),
    (29, "deploy-script", "line 1: it does not look which cluster"),
];

fn findings() -> Vec<Finding> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let input = Input::folder(&here.join("first-draft")).unwrap();
    let flows = Flows::read(&here.join("first-draft-tables/flows.yaml")).unwrap();
    check(&Set::new(input, Secrets::default(), Some(flows)))
}

#[test]
fn each_defect_is_found() {
    let findings = findings();
    let lost: Vec<_> = DEFECTS
        .iter()
        .filter(|(_, rule, what)| {
            !findings.iter().any(|finding| {
                finding.rule == *rule && format!("{}: {}", finding.object, finding.what).starts_with(what)
            })
        })
        .collect();
    assert!(lost.is_empty(), "not found: {lost:#?}");
}

#[test]
fn the_table_has_all_29() {
    let mut numbers: Vec<_> = DEFECTS.iter().map(|(number, _, _)| *number).collect();
    numbers.dedup();
    assert_eq!(numbers, (1..=29).collect::<Vec<_>>());
}

#[test]
fn everything_that_is_found() {
    let lines: Vec<_> = findings().iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"));
}
