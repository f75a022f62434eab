//! Workers behind a Kubernetes service: its EndpointSlices, watched.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;

use super::{Discovery, Pool, Stage, Target};

/// Watches the EndpointSlices of services.
pub struct KubernetesDiscovery {
    pool: Arc<Pool>,
    api: Api<EndpointSlice>,
    selector: String,
    port: ServicePort,
}

/// The port of a service that workers listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServicePort {
    /// By its name in the service.
    Name(String),
    /// By its number on the pods.
    Number(u16),
}

/// The API server can not be reached.
#[derive(Debug, thiserror::Error)]
#[error(
    "the Kubernetes API can not be used: {0}; run inside a pod whose service account may list and watch endpointslices, \
     or with a kubeconfig"
)]
pub struct KubernetesError(#[source] Box<kube::Error>);

/// Label by which a slice belongs to a service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

// === impl KubernetesDiscovery ===

impl KubernetesDiscovery {
    /// With the service account of this pod, or the kubeconfig of this user.
    ///
    /// # Errors
    /// There is neither.
    pub async fn connect(
        pool: Arc<Pool>,
        namespace: Option<&str>,
        services: &[String],
        port: ServicePort,
    ) -> Result<Self, KubernetesError> {
        let client = Client::try_default().await.map_err(|error| KubernetesError(Box::new(error)))?;
        Ok(Self::new(client, pool, namespace, services, port))
    }

    /// With this client; `namespace` is its own unless given.
    #[must_use]
    pub fn new(
        client: Client,
        pool: Arc<Pool>,
        namespace: Option<&str>,
        services: &[String],
        port: ServicePort,
    ) -> Self {
        let api = match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::default_namespaced(client),
        };
        Self { pool, api, selector: format!("{SERVICE_LABEL} in ({})", services.join(",")), port }
    }

    async fn watch(self, found: watch::Sender<Vec<Target>>) {
        let config = watcher::Config::default().labels(&self.selector);
        let events = watcher(self.api.clone(), config).default_backoff();
        tokio::pin!(events);
        let mut slices: BTreeMap<String, EndpointSlice> = BTreeMap::new();
        let mut listed = BTreeMap::new();
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = found.closed() => return,
            };
            match event {
                None => return,
                Some(Err(error)) => {
                    tracing::warn!(%error, "the workers of Kubernetes can not be watched; those known are kept");
                    continue;
                }
                Some(Ok(Event::Apply(slice))) => {
                    slices.insert(slice.name_any(), slice);
                }
                Some(Ok(Event::Delete(slice))) => {
                    slices.remove(&slice.name_any());
                }
                // A list that begins anew replaces what is known only when it is complete.
                Some(Ok(Event::Init)) => {
                    listed = BTreeMap::new();
                    continue;
                }
                Some(Ok(Event::InitApply(slice))) => {
                    listed.insert(slice.name_any(), slice);
                    continue;
                }
                Some(Ok(Event::InitDone)) => slices = std::mem::take(&mut listed),
            }
            let targets = self.targets(slices.values());
            found.send_if_modified(|known| {
                let changed = *known != targets;
                *known = targets;
                changed
            });
        }
    }

    /// The targets of all slices. A pod may be in two of them for a moment; the more ready one counts.
    fn targets<'a>(&self, slices: impl Iterator<Item = &'a EndpointSlice>) -> Vec<Target> {
        let mut targets: BTreeMap<String, Target> = BTreeMap::new();
        for slice in slices {
            let Some(port) = self.port_of(slice) else { continue };
            for endpoint in slice.endpoints.iter().flatten() {
                let stage = stage(endpoint);
                for address in endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok())
                {
                    let target = Target {
                        address: std::net::SocketAddr::new(address, port).to_string(),
                        name: endpoint.target_ref.as_ref().and_then(|pod| pod.name.clone()),
                        pool: Arc::clone(&self.pool),
                        stage,
                    };
                    match targets.get_mut(&target.address) {
                        Some(known) if stage == Stage::Ready => *known = target,
                        Some(_) => {}
                        None => {
                            targets.insert(target.address.clone(), target);
                        }
                    }
                }
            }
        }
        targets.into_values().collect()
    }

    fn port_of(&self, slice: &EndpointSlice) -> Option<u16> {
        match &self.port {
            ServicePort::Number(number) => Some(*number),
            ServicePort::Name(name) => {
                let ports = slice.ports.iter().flatten();
                let mut named = ports.filter(|port| port.name.as_deref() == Some(name));
                named.next()?.port.and_then(|port| u16::try_from(port).ok())
            }
        }
    }
}

/// By the rules of the API: unknown means ready, and a terminating endpoint is never ready.
fn stage(endpoint: &Endpoint) -> Stage {
    let conditions = endpoint.conditions.as_ref();
    if conditions.and_then(|conditions| conditions.terminating).unwrap_or(false) {
        return Stage::Terminating;
    }
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    if ready { Stage::Ready } else { Stage::NotReady }
}

impl Discovery for KubernetesDiscovery {
    fn run(self: Box<Self>, found: watch::Sender<Vec<Target>>) -> BoxFuture<'static, ()> {
        self.watch(found).boxed()
    }
}

impl std::fmt::Debug for KubernetesDiscovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesDiscovery").field("selector", &self.selector).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
