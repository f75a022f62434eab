//! Rules see our own manifests: each change that breaks something is found, by the rule that is for it. Needs `kubectl`.

use std::collections::BTreeSet;

use vlinders_manifest_lint::{ALL, Input, Set, check};

use crate::deploy;

/// A rule, and text of the rendered production overlay with what it becomes, everywhere.
const CHANGES: &[(&str, &str, &str)] = &[
    ("schema", "terminationGracePeriodSeconds:", "terminationGracePeriod:"),
    ("schema", "failureThreshold:", "failureTreshold:"),
    ("labels", "app.kubernetes.io/part-of: vlinders", "app.kubernetes.io/part: vlinders"),
    (
        "namespace",
        "pod-security.kubernetes.io/enforce: restricted",
        "pod-security.kubernetes.io/enforce: baseline",
    ),
    ("config-map", "key: models.yaml", "key: model.yaml"),
    ("config-hash", "name: head-config-", "name: head-config_"),
    ("secret", "secretName: head-database", "secretName: heads-database"),
    ("claim", "claimName: models", "claimName: model"),
    ("claim", "storageClassName: fast-ssd", "storageClassName: fast"),
    ("file", "/etc/vlinders/server.yaml", "/etc/vlinders/servers.yaml"),
    ("file", "mountPath: /run/secrets/vlinders/head-redis", "mountPath: /run/secrets/vlinders/head-rediss"),
    ("service-account", "serviceAccountName: vlinders-head", "serviceAccountName: head"),
    ("image-pull-secret", "imagePullSecrets:\n- name: registry-credentials", "imagePullSecrets: []"),
    ("priority-class", "priorityClassName: vlinders-serving", "priorityClassName: serving"),
    ("service", "targetPort: http", "targetPort: web"),
    ("address", "host: vlinders-head.vlinders-inference", "host: head.vlinders-inference"),
    ("rbac", "- list\n", "- '*'\n"),
    ("orphan", "claimName: models", "claimName: others"),
    ("pod-template", "name: head-database\n        secret:", "name: heads-database\n        secret:"),
    ("resources", "          requests:\n            cpu:", "          requests:\n            cpus:"),
    ("probes", "readinessProbe:", "readynessProbe:"),
    ("pod-security", "runAsNonRoot: true", "runAsNonRoot: false"),
    ("pod-security", "- ALL", "- NET_RAW"),
    ("read-only-root", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"),
    ("token", "automountServiceAccountToken: false", "automountServiceAccountToken: true"),
    ("image", "image: kong:3.9", "image: kong:3.8"),
    ("image", "image: redis:", "image: redis:latest-"),
    ("memory", "sizeLimit: 8Gi", "sizeLimit: 40Gi"),
    ("grace-period", "terminationGracePeriodSeconds: 630", "terminationGracePeriodSeconds: 610"),
    ("model", "- llama-3-8b\n        - --models", "- llama-3-9b\n        - --models"),
    ("gpu", "tensor_parallel_size: 4", "tensor_parallel_size: 8"),
    ("rollout", "maxSurge: 0", "maxSurge: 1"),
    ("disruption", "kind: PodDisruptionBudget", "kind: PodDisruption"),
    ("spread", "topologySpreadConstraints:", "topologySpread:"),
    ("storage-class", "reclaimPolicy: Retain", "reclaimPolicy: Delete"),
    ("access-mode", "provisioner: efs.csi.aws.com", "provisioner: ebs.csi.aws.com"),
    ("fs-group", "fsGroup:", "fsGroups:"),
    (
        "replicas",
        "  selector:\n    matchLabels:\n      app.kubernetes.io/name: head\n",
        "  replicas: 3\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: head\n",
    ),
    ("autoscaler", "name: cpu\n", "name: memory\n"),
    ("scale-target", "scaleTargetRef:", "scaleTarget:"),
    ("keda-trigger", "ignoreNullValues: \"false\"", "ignoreNullValues: \"true\""),
    ("keda-trigger", "metricType: Value", "metricType: AverageValue"),
    ("keda-metric", "vlinders_head_queue_depth", "vlinders_head_queue_length"),
    ("redis-cluster", "replicas: 6", "replicas: 3"),
    ("redis-cluster", "--cluster create", "--cluster info"),
    ("redis-cluster", "cluster-announce-", "cluster-tell-"),
    ("redis-cluster", "masterauth", "masterpassword"),
    ("redis-cluster", "publishNotReadyAddresses: true", "publishNotReadyAddresses: false"),
    ("kong-routes", "strip_path: false", "strip_path: true"),
    ("kong-limits", "fault_tolerant:", "tolerant:"),
    ("kong-limits", "host: kong-redis.", "host: redis."),
    ("kong-tokens", "algorithm: RS256", "algorithm: HS256"),
    ("kong-tokens", "maximum_expiration:", "maximum:"),
    ("kong-streams", "response_buffering: false", "response_buffering: true"),
    ("kong-streams", "retries: 0", "retries: 1"),
    ("kong-metrics", "KONG_STATUS_LISTEN", "KONG_LISTEN"),
    ("kong-metrics", "latency_metrics: true", "latency_metrics: false"),
    ("kong-process", "KONG_NGINX_WORKER_PROCESSES", "KONG_PROCESSES"),
    ("kong-tls", "externalTrafficPolicy: Local", "externalTrafficPolicy: Cluster"),
    ("kong-tls", "KONG_SSL_CERT\n", "KONG_CERT\n"),
    ("prometheus-access", "- pods\n", "- pod\n"),
    ("head-discovery", "- endpointslices\n", "- endpointslice\n"),
    ("head-discovery", "services: [workers]", "services: [worker]"),
    ("default-deny", "podSelector: {}", "podSelector: {matchLabels: {a: b}}"),
    ("policy", "k8s-app: kube-dns", "k8s-app: core-dns"),
    ("flows", "port: 6379", "port: 6380"),
];

/// Rules that no change of a manifest shows, since they are about what must not be in one, or about scripts.
const OTHERS: &[&str] = &["secret-in-git", "database-url", "deploy-script"];

#[test]
fn each_change_is_found_by_its_rule() {
    let rendered = deploy::rendered(&deploy::folder().join("overlays/production"));
    let (secrets, flows) = (deploy::secrets(), deploy::flows());
    let mut lost = Vec::new();
    for (rule, from, to) in CHANGES {
        if !rendered.contains(from) {
            lost.push(format!("{rule}: `{from}` is not in the overlay"));
            continue;
        }
        let input = Input::stream("production", &rendered.replace(from, to)).unwrap();
        let findings = check(&Set::new(input, secrets.clone(), Some(flows.clone())));
        if !findings.iter().any(|finding| finding.rule == *rule) {
            lost.push(format!("{rule}: `{from}` → `{to}` is not found"));
        }
    }
    assert!(lost.is_empty(), "\n{}\n", lost.join("\n"));
}

#[test]
fn each_rule_has_a_change() {
    let changed: BTreeSet<_> =
        CHANGES.iter().map(|(rule, _, _)| *rule).chain(OTHERS.iter().copied()).collect();
    let all: BTreeSet<_> = ALL.iter().map(|rule| rule.id).collect();
    assert_eq!(changed, all);
}
