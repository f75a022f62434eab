//! Where traces go: to a collector, if one is named.

use anyhow::Context as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;

/// Sends spans for as long as it lives, and the last ones when it is dropped.
#[derive(Debug)]
pub(crate) struct Telemetry(Option<SdkTracerProvider>);

/// Path of traces at a collector.
const TRACES: &str = "/v1/traces";

impl Telemetry {
    /// Send spans of the `role` of this process to the collector at `endpoint`, if there is one.
    ///
    /// # Errors
    /// The address is none.
    pub(crate) fn start(role: &'static str, endpoint: Option<&str>) -> anyhow::Result<Self> {
        let Some(endpoint) = endpoint else { return Ok(Self(None)) };
        // The provider of cryptography has to be there before a client is made; a second one is refused, and as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url =
            if endpoint.ends_with(TRACES) { endpoint.to_owned() } else { format!("{endpoint}{TRACES}") };
        let exporter = SpanExporter::builder().with_http().with_endpoint(url).build();
        let exporter = exporter.with_context(|| format!("traces can not be sent to {endpoint}"))?;
        let resource = Resource::builder()
            .with_service_name(format!("vlinders-{role}"))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        global::set_tracer_provider(provider.clone());
        tracing::info!(endpoint, "traces are sent");
        Ok(Self(Some(provider)))
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}
