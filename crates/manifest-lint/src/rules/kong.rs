//! Kong: its declarative file against the rules of its fields, its process, and how it is reached. Facts are those of Kong 3.9.

mod limits;
mod metrics;
mod process;
mod routes;
mod streams;
mod tls;
mod tokens;

use serde_json::Value;

use crate::input::yaml;
use crate::look::Look as _;
use crate::object::Object;
use crate::set::Set;
use crate::workload::{Container, Workload};

pub(super) use self::limits::RULE as LIMITS;
pub(super) use self::metrics::RULE as METRICS;
pub(super) use self::process::RULE as PROCESS;
pub(super) use self::routes::RULE as ROUTES;
pub(super) use self::streams::RULE as STREAMS;
pub(super) use self::tls::RULE as TLS;
pub(super) use self::tokens::RULE as TOKENS;

/// Every declarative file of Kong, with the ConfigMap that holds it.
fn files(set: &Set) -> Vec<(&Object, Value)> {
    let entries = set
        .of_kind("ConfigMap")
        .flat_map(|object| object.value.entries("data").map(move |(_, text)| (object, text)));
    let ours = entries.filter_map(|(object, text)| Some((object, text.as_str()?)));
    let ours = ours.filter(|(_, text)| text.lines().any(|line| line.starts_with("_format_version")));
    ours.filter_map(|(object, text)| Some((object, yaml(text).ok()?))).collect()
}

/// The services of a file with their routes, nested or not.
fn routes(file: &Value) -> Vec<&Value> {
    let nested = file.items("services").iter().flat_map(|service| service.items("routes"));
    nested.chain(file.items("routes")).collect()
}

/// Plugins of this name, wherever they stand: for all, a service, a route, a consumer.
fn plugins<'a>(file: &'a Value, name: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    collect(file, name, &mut found);
    found
}

fn collect<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) => {
            let here = value.items("plugins").iter();
            found.extend(
                here.filter(|plugin| {
                    plugin.text("name") == name && plugin.at("enabled") != &Value::Bool(false)
                }),
            );
            map.values().for_each(|inner| collect(inner, name, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, name, found)),
        _ => {}
    }
}

/// Containers that run Kong, with their pods.
fn gateways(set: &Set) -> Vec<(Workload<'_>, Container<'_>)> {
    let pods = set.workloads().into_iter();
    let containers = pods.flat_map(|pod| pod.containers().into_iter().map(move |container| (pod, container)));
    containers.filter(|(_, container)| !container.init && is_kong(container)).collect()
}

fn is_kong(container: &Container<'_>) -> bool {
    let last = container.image().rsplit('/').next().unwrap_or_default();
    last == "kong" || last.starts_with("kong:") || last.starts_with("kong@")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Rule;
    use crate::testing::{deployment, found};

    /// A gateway that passes every rule but those of its pod and its service.
    const FILE: &str = r#"
_format_version: "3.0"
services:
- name: head
  url: http://head:8000
  retries: 0
  read_timeout: 900000
  routes:
  - {name: v1, paths: [/v1], strip_path: false, response_buffering: false, request_buffering: false, protocols: [https], methods: [GET, POST, OPTIONS]}
  plugins:
  - {name: jwt, config: {claims_to_verify: [exp], maximum_expiration: 86400, run_on_preflight: false}}
  - {name: rate-limiting, config: {minute: 100, policy: redis, fault_tolerant: true, redis: {host: kong-redis, port: 6379, password: x}}}
consumers:
- {username: a, jwt_secrets: [{key: a, algorithm: RS256, rsa_public_key: "-----BEGIN"}]}
plugins:
- {name: prometheus, config: {status_code_metrics: true, latency_metrics: true}}
"#;

    fn config(file: &str) -> String {
        let text: String = file.lines().map(|line| format!("    {line}\n")).collect();
        format!("\n---\nkind: ConfigMap\nmetadata: {{name: k, namespace: a}}\ndata:\n  kong.yml: |\n{text}")
    }

    #[test]
    fn each_field_of_the_file_is_looked_at() {
        let rules: [(&Rule, &str, &str, &str); 13] = [
            (&ROUTES, "strip_path: false, ", "", "route v1 strips its path: upstream sees another one"),
            (
                &ROUTES,
                "paths: [/v1]",
                "paths: [/v1/chat]",
                "no route has /v1/models, /v1/completions, /v1/embeddings",
            ),
            (&ROUTES, ", OPTIONS]", "]", "no route takes OPTIONS: browsers can not ask"),
            (&STREAMS, "response_buffering: false, ", "", "route v1 holds streams back"),
            (&STREAMS, "retries: 0", "retries: 5", "service head sends a request again that may have run"),
            (
                &STREAMS,
                "read_timeout: 900000",
                "read_timeout: 60000",
                "service head waits 60 s, requests may take 600 s",
            ),
            (&TOKENS, "algorithm: RS256", "algorithm: HS256", "consumer a has no RS256 key"),
            (&TOKENS, "claims_to_verify: [exp]", "claims_to_verify: []", "jwt does not look at exp"),
            (&TOKENS, "maximum_expiration: 86400, ", "", "tokens may live for ever"),
            (
                &LIMITS,
                "redis: {host: kong-redis, port: 6379, password: x}",
                "redis_host: kong-redis",
                "rate-limiting has the flat redis_host, which 4.0 does not read",
            ),
            (&LIMITS, "fault_tolerant: true, ", "", "rate-limiting does not say what happens without Redis"),
            (&METRICS, "latency_metrics: true", "latency_metrics: false", "latency_metrics are off"),
            (&METRICS, "name: prometheus", "name: other", "there is no prometheus plugin"),
        ];
        for (rule, good, bad, what) in rules {
            assert_eq!(found(rule, &config(FILE)), [""; 0], "{}", rule.id);
            let bad = FILE.replace(good, bad);
            assert_eq!(found(rule, &config(&bad)), [format!("ConfigMap a/k: {what}")], "{bad}");
        }
    }

    #[test]
    fn tokens_need_consumers() {
        let without = FILE.split("consumers:").next().unwrap();
        assert_eq!(
            found(&TOKENS, &config(without)),
            ["ConfigMap a/k: jwt has no consumer with a key: every request gets 401"]
        );
    }

    #[test]
    fn a_cluster_is_no_redis_for_kong() {
        let cluster = "
---
kind: Service
metadata: {name: kong-redis, namespace: a}
spec: {selector: {app: d}}
---
"
        .to_owned()
            + &deployment("containers:\n- {name: c, command: [redis-server, --cluster-enabled, 'yes']}");
        assert_eq!(
            found(&LIMITS, &(config(FILE) + &cluster)),
            ["ConfigMap a/k: rate-limiting speaks to kong-redis, a cluster, and follows no MOVED"]
        );
        let alone = cluster.replace("'yes'", "'no'");
        assert_eq!(found(&LIMITS, &(config(FILE) + &alone)), [""; 0]);
    }

    const GATEWAY: &str = "
containers:
- name: kong
  image: kong:3.9.1
  env:
  - {name: KONG_STATUS_LISTEN, value: '0.0.0.0:8100'}
  - {name: KONG_ADMIN_LISTEN, value: 'off'}
  - {name: KONG_NGINX_WORKER_PROCESSES, value: '2'}
  - {name: KONG_PREFIX, value: /var/run/kong}
  - {name: KONG_SSL_CERT, value: /tls/tls.crt}
  - {name: KONG_SSL_CERT_KEY, value: /tls/tls.key}
  - {name: KONG_TRUSTED_IPS, value: 10.0.0.0/8}
  ports: [{name: proxy, containerPort: 8000}, {name: proxy-tls, containerPort: 8443}]
  volumeMounts: [{name: run, mountPath: /var/run/kong}, {name: tmp, mountPath: /tmp}, {name: tls, mountPath: /tls}]
volumes:
- {name: run, emptyDir: {}}
- {name: tmp, emptyDir: {}}
- {name: tls, secret: {secretName: t}}";

    const SERVICE: &str = "
---
kind: Service
metadata:
  name: s
  namespace: a
  annotations: {service.beta.kubernetes.io/aws-load-balancer-connection-idle-timeout: '600'}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: {app: d}
  ports: [{port: 80, targetPort: proxy}, {port: 443, targetPort: proxy-tls}]
";

    #[test]
    fn each_setting_of_the_process_is_looked_at() {
        let gateway = |pod: &str| deployment(pod) + &config(FILE) + SERVICE;
        for rule in [&METRICS, &PROCESS, &TLS] {
            assert_eq!(found(rule, &gateway(GATEWAY)), [""; 0], "{}", rule.id);
        }
        for (rule, good, bad, what) in [
            (
                &METRICS,
                "KONG_STATUS_LISTEN",
                "KONG_OTHER",
                "KONG_STATUS_LISTEN is not set: nobody reaches /metrics",
            ),
            (&METRICS, "value: 'off'", "value: '0.0.0.0:8001'", "the admin interface listens"),
            (&PROCESS, "value: '2'", "value: auto", "it starts a process for each core of the node"),
            (&PROCESS, "{name: tmp, mountPath: /tmp}, ", "", "it can not write to /tmp"),
            (&PROCESS, "{name: run, mountPath: /var/run/kong}, ", "", "it can not write to /var/run/kong"),
            (
                &TLS,
                "KONG_SSL_CERT,",
                "KONG_X,",
                "KONG_SSL_CERT is not set: it shows a certificate of its own making",
            ),
            (
                &TLS,
                "KONG_TRUSTED_IPS",
                "KONG_X",
                "KONG_TRUSTED_IPS is not set: the address of the client is lost",
            ),
        ] {
            let pod = GATEWAY.replace(good, bad);
            assert_eq!(found(rule, &gateway(&pod)), [format!("Deployment a/d: {what}")]);
        }
    }

    #[test]
    fn each_setting_of_the_service_is_looked_at() {
        for (good, bad, what) in [
            ("externalTrafficPolicy: Local", "x: y", "it hides the addresses of clients"),
            ("idle-timeout", "other", "idle connections are cut by the default of the load balancer"),
        ] {
            let documents = deployment(GATEWAY) + &config(FILE) + &SERVICE.replace(good, bad);
            assert_eq!(found(&TLS, &documents), [format!("Service a/s: {what}")]);
        }
        let plain = FILE.replace("protocols: [https]", "protocols: [http, https]");
        assert_eq!(
            found(&TLS, &(deployment(GATEWAY) + &config(&plain) + SERVICE)),
            ["ConfigMap a/k: route v1 takes tokens over plain HTTP"]
        );
    }
}
