//! The section `head` of server.yaml as resolved: where workers are, and how they are watched and waited for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_saphyr::Spanned;
use vlinders_head::{HealthConfig, QueueConfig, ServicePort};

use super::problem::Problem;
use super::raw::{Field, RawHead, RawKubernetes, RawPool};
use super::server::Resolver;

/// How a head finds, watches and waits for workers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeadSettings {
    pub(crate) pools: Vec<PoolSettings>,
    pub(crate) worker_key_file: Option<PathBuf>,
    /// Where KEDA asks; `None` is nowhere.
    pub(crate) scaler_port: Option<u16>,
    /// A name with an address for each head, this one included; for autoscalers.
    pub(crate) peers: Option<String>,
    pub(crate) queue: QueueConfig,
    pub(crate) health: HealthConfig,
}

/// Workers that are found in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PoolSettings {
    pub(crate) name: String,
    pub(crate) weight: u32,
    pub(crate) source: WorkerSource,
}

/// Where workers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorkerSource {
    /// `host:port` of each.
    Addresses(Vec<String>),
    /// `host:port` of a name with an address for each.
    Dns(String),
    /// Services, whose EndpointSlices are watched.
    Kubernetes {
        /// That of the pod unless given.
        namespace: Option<String>,
        services: Vec<String>,
        port: ServicePort,
    },
}

/// Routing is blind for longer than this between two reports.
const LONGEST_INTERVAL: Duration = Duration::from_secs(1);

const LEAST_INTERVAL: Duration = Duration::from_millis(50);

impl Default for HeadSettings {
    fn default() -> Self {
        let default = vlinders_head::HeadConfig::default();
        Self {
            pools: Vec::new(),
            worker_key_file: None,
            scaler_port: None,
            peers: None,
            queue: default.queue,
            health: default.health,
        }
    }
}

/// Decide on the section; relative paths count from `base`.
pub(super) fn resolve(raw: &RawHead, resolver: &mut Resolver<'_>, base: &Path) -> HeadSettings {
    let HeadSettings { queue, health, .. } = HeadSettings::default();
    let pools = raw.workers.iter().flat_map(|pools| pools.value.iter().enumerate());
    let pools: Vec<_> = pools.map(|(number, pool)| resolve_pool(pool, number, raw, resolver)).collect();
    let interval = resolver.duration(&raw.health.interval).unwrap_or(health.interval);
    if let Some(field) = raw.health.interval.as_ref()
        && !(LEAST_INTERVAL..=LONGEST_INTERVAL).contains(&interval)
    {
        resolver.report(field, format!("found `{}`", field.value), "write 50ms to 1s");
    }
    HeadSettings {
        pools,
        worker_key_file: raw.worker_key_file.as_ref().map(|path| base.join(&path.value)),
        scaler_port: resolver.port(&raw.scaler_port),
        peers: raw.peers.as_ref().map(|peers| authority(peers, resolver)),
        queue: QueueConfig {
            max_waiting: resolver.count(&raw.queue.max_waiting).unwrap_or(queue.max_waiting),
            timeout: resolver.duration(&raw.queue.timeout).unwrap_or(queue.timeout),
        },
        health: HealthConfig {
            interval,
            timeout: resolver.duration(&raw.health.timeout).unwrap_or(health.timeout),
            connect_timeout: resolver.duration(&raw.health.connect_timeout).unwrap_or(health.connect_timeout),
            stall_timeout: resolver.duration(&raw.health.stall_timeout).unwrap_or(health.stall_timeout),
            lost_timeout: resolver.duration(&raw.health.lost_timeout).unwrap_or(health.lost_timeout),
        },
    }
}

fn resolve_pool(raw: &RawPool, number: usize, all: &RawHead, resolver: &mut Resolver<'_>) -> PoolSettings {
    let name = raw.name.as_ref().map_or_else(|| format!("pool-{}", number + 1), |name| name.value.clone());
    let earlier = all.workers.iter().flat_map(|pools| pools.value.iter().take(number));
    let same = |other: &RawPool| other.name.as_ref().is_some_and(|other| other.value == name);
    if let (Some(field), true) = (&raw.name, earlier.into_iter().any(same)) {
        resolver.report(field, format!("`{name}` is taken already"), "give each pool a name of its own");
    }
    let weight = raw.weight.as_ref().map_or(1, |field| match u32::try_from(field.value) {
        Ok(weight) => weight,
        Err(_) => {
            resolver.report(
                field,
                format!("found {}", field.value),
                "write 0 or more, such as 90 and 10 for a canary",
            );
            1
        }
    });
    let source = match (&raw.addresses, &raw.dns, &raw.kubernetes) {
        (Some(addresses), None, None) => resolve_addresses(addresses, resolver),
        (None, Some(dns), None) => WorkerSource::Dns(authority(dns, resolver)),
        (None, None, Some(kubernetes)) => resolve_kubernetes(kubernetes, resolver),
        _ => {
            let remedy = "write one of `addresses: [HOST:PORT]`, `dns: HOST:PORT` and `kubernetes: {services: [NAME]}`";
            if let Some(pools) = &all.workers {
                resolver.report(
                    pools,
                    format!("pool {} does not say in one way where its workers are", number + 1),
                    remedy,
                );
            }
            WorkerSource::Addresses(Vec::new())
        }
    };
    PoolSettings { name, weight, source }
}

fn resolve_addresses(addresses: &Spanned<Vec<Spanned<String>>>, resolver: &mut Resolver<'_>) -> WorkerSource {
    if addresses.value.is_empty() {
        resolver.report(addresses, "an empty list", "write HOST:PORT of each worker");
    }
    WorkerSource::Addresses(addresses.value.iter().map(|address| authority(address, resolver)).collect())
}

fn resolve_kubernetes(raw: &Spanned<RawKubernetes>, resolver: &mut Resolver<'_>) -> WorkerSource {
    let services: Vec<_> = raw.value.services.iter().flatten().map(|service| service.value.clone()).collect();
    if services.is_empty() {
        resolver.report(raw, "no services", "write `services: [NAME]`, the services of the workers");
    }
    WorkerSource::Kubernetes {
        namespace: text(&raw.value.namespace),
        services,
        port: match text(&raw.value.port) {
            None => ServicePort::Name("http".to_owned()),
            Some(port) => port.parse().map_or(ServicePort::Name(port), ServicePort::Number),
        },
    }
}

fn text(field: &Field<String>) -> Option<String> {
    field.as_ref().map(|field| field.value.clone())
}

fn authority(field: &Spanned<String>, resolver: &mut Resolver<'_>) -> String {
    if let Err(remedy) = check_authority(&field.value) {
        resolver.report(field, format!("`{}` is no address of a worker", field.value), remedy);
    }
    field.value.clone()
}

fn check_authority(text: &str) -> Result<(), &'static str> {
    const REMEDY: &str = "write HOST:PORT, such as 10.0.0.1:8000, without http:// and without a path";
    let (host, port) = text.rsplit_once(':').ok_or(REMEDY)?;
    let port = port.parse::<u16>().map_err(|_| REMEDY)?;
    let plain =
        !host.is_empty() && !host.contains(['/', '@', ' ']) && (!host.contains(':') || host.starts_with('['));
    if plain && port > 0 { Ok(()) } else { Err(REMEDY) }
}

/// Workers named on the command line.
///
/// # Errors
/// One is no address.
pub(super) fn workers_of_arguments(workers: &[String]) -> Result<Option<PoolSettings>, Problem> {
    for worker in workers {
        check_authority(worker)
            .map_err(|remedy| Problem::option("--worker", format!("found `{worker}`"), remedy))?;
    }
    let source = || WorkerSource::Addresses(workers.to_vec());
    Ok((!workers.is_empty()).then(|| PoolSettings {
        name: "arguments".to_owned(),
        weight: 1,
        source: source(),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::server::read;
    use super::*;

    fn settings(text: &str) -> Result<HeadSettings, String> {
        read(Path::new("/etc/server.yaml"), text).map(|config| config.head).map_err(|error| error.to_string())
    }

    #[test]
    fn each_way_to_find_workers_is_read() {
        let text = "\
head:
  workers:
    - addresses: [10.0.0.1:8000, \"[::1]:8001\"]
    - { name: canary, weight: 10, dns: workers.example:8000 }
    - kubernetes: { namespace: vlinders, services: [llama, qwen], port: 8000 }
    - kubernetes: { services: [mistral] }
  worker_key_file: key
  scaler_port: 9090
  peers: heads.example:8000
  queue: { max_waiting: 5, timeout: 2m }
  health: { interval: 1s, timeout: 3s, connect_timeout: 4s, stall_timeout: 5s, lost_timeout: 6s }
";
        let read = settings(text).unwrap();
        let sources: Vec<_> = read.pools.iter().map(|pool| pool.source.clone()).collect();
        let kubernetes = |namespace: Option<&str>, services: &[&str], port| WorkerSource::Kubernetes {
            namespace: namespace.map(str::to_owned),
            services: services.iter().map(|service| (*service).to_owned()).collect(),
            port,
        };
        assert_eq!(
            sources,
            [
                WorkerSource::Addresses(vec!["10.0.0.1:8000".into(), "[::1]:8001".into()]),
                WorkerSource::Dns("workers.example:8000".into()),
                kubernetes(Some("vlinders"), &["llama", "qwen"], ServicePort::Number(8000)),
                kubernetes(None, &["mistral"], ServicePort::Name("http".into())),
            ]
        );
        let named: Vec<_> = read.pools.iter().map(|pool| (pool.name.as_str(), pool.weight)).collect();
        assert_eq!(named, [("pool-1", 1), ("canary", 10), ("pool-3", 1), ("pool-4", 1)]);
        assert_eq!(read.worker_key_file, Some(PathBuf::from("/etc/key")));
        assert_eq!((read.scaler_port, read.peers.as_deref()), (Some(9090), Some("heads.example:8000")));
        assert_eq!((read.queue.max_waiting, read.queue.timeout.as_secs()), (5, 120));
        let times = [
            read.health.interval,
            read.health.timeout,
            read.health.connect_timeout,
            read.health.stall_timeout,
            read.health.lost_timeout,
        ];
        assert_eq!(times.map(|time| time.as_secs()), [1, 3, 4, 5, 6]);
        assert_eq!(settings("server: { port: 1 }").unwrap(), HeadSettings::default());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, parts) in [
            (
                "head:\n  workers:\n    - { weight: 3 }\n",
                &["server.yaml:3", "pool 1", "`dns: HOST:PORT`"][..],
            ),
            ("head:\n  workers:\n    - { dns: a:1, addresses: [b:1] }\n", &["pool 1"]),
            ("head:\n  workers:\n    - dns: http://a:1/\n", &["server.yaml:3", "without http://"]),
            ("head:\n  workers:\n    - addresses: []\n", &["an empty list"]),
            ("head:\n  workers:\n    - kubernetes: { port: x }\n", &["services: [NAME]"]),
            ("head:\n  health: { interval: 5s }\n", &["50ms to 1s"]),
            ("head:\n  queue: { timeout: soon }\n", &["soon"]),
            ("head:\n  worker: []\n", &["worker"]),
            (
                "head:\n  workers:\n    - { name: a, dns: a:1 }\n    - { name: a, dns: b:1 }\n",
                &["server.yaml:4", "taken"],
            ),
        ] {
            let error = settings(text).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{part} is not in {error}");
            }
        }
        assert!(workers_of_arguments(&["nowhere".into()]).unwrap_err().to_string().contains("--worker"));
        assert_eq!(workers_of_arguments(&[]), Ok(None));
    }
}
