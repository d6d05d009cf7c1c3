//! Traces to a collector: OTLP over gRPC, in batches, in the background.
//!
//! A collector that is away delays nobody: what the queue of the SDK has no room for is lost, and
//! the log says now and then that it is. What is sent is in [`crate::trace`]; the SDK itself reads
//! the standard `OTEL_…` variables for the name of the service, its attributes, sampling, the size
//! of the queue and the headers of the export.

use std::{fmt, str::FromStr, time::Duration};

use http::{Uri, uri::Scheme};
use opentelemetry::{Key, KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{ExporterBuildError, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SdkTracer, SdkTracerProvider, SpanData, SpanExporter},
};
use thiserror::Error;
use tonic::transport::{ClientTlsConfig, Endpoint};
use tracing::warn;

use crate::telemetry::Occasionally;

/// How long connecting and one export may take; what the specification of OTLP has as its default.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a collector may be silent during an export before it is looked for again.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Where the collector listens, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(Uri);

/// A value of `--otlp-endpoint` that cannot be used. The text never shows the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("write http://HOST:PORT or https://HOST:PORT and nothing more")]
pub struct InvalidUrl;

impl FromStr for Url {
    type Err = InvalidUrl;

    fn from_str(url: &str) -> Result<Self, InvalidUrl> {
        let uri: Uri = url.parse().map_err(|_| InvalidUrl)?;
        let is_http = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
        // The user of an authority would have a password beside it.
        let is_host_and_port = uri.authority().is_some_and(|authority| {
            !authority.as_str().contains('@')
                && !authority.host().is_empty()
                && authority.port_u16().is_some_and(|port| port != 0)
        });
        let is_bare = uri.path_and_query().is_none_or(|rest| rest == "/");
        if is_http && is_host_and_port && is_bare { Ok(Self(uri)) } else { Err(InvalidUrl) }
    }
}

/// The export cannot be set up.
#[derive(Debug, Error)]
pub enum TracesError {
    /// No certificate of an authority is known, or none can be used.
    #[error("TLS to the collector")]
    Tls(#[source] tonic::transport::Error),
    /// A variable of the environment asks for what this program has not.
    #[error(transparent)]
    Exporter(#[from] ExporterBuildError),
}

impl Url {
    /// Whether the export can be set up. Nothing is opened.
    ///
    /// # Errors
    ///
    /// If TLS is wanted and the system has no certificate authorities.
    pub fn check(&self) -> Result<(), TracesError> {
        self.endpoint().map(drop)
    }

    fn endpoint(&self) -> Result<Endpoint, TracesError> {
        let endpoint = Endpoint::from(self.0.clone())
            .connect_timeout(TIMEOUT)
            .timeout(TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        if self.0.scheme() == Some(&Scheme::HTTPS) {
            let tls = ClientTlsConfig::new().with_enabled_roots();
            endpoint.tls_config(tls).map_err(TracesError::Tls)
        } else {
            Ok(endpoint)
        }
    }
}

/// The traces of this process, on their way to a collector.
#[derive(Clone)]
pub struct Traces(SdkTracerProvider);

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traces")
    }
}

impl Traces {
    /// Sends to a collector, which need not be there yet. Has to be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`TracesError`].
    pub fn start(url: &Url) -> Result<Self, TracesError> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_channel(url.endpoint()?.connect_lazy())
            .build()?;
        let exporter = Exporter { inner: exporter, failures: Occasionally::default() };
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource())
            .build();
        Ok(Self(provider))
    }

    /// What makes the spans.
    pub fn tracer(&self) -> SdkTracer {
        self.0.tracer(env!("CARGO_PKG_NAME"))
    }

    /// Sends what has not been sent yet, and ends the export.
    pub async fn finish(self, timeout: Duration) {
        let finish = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(timeout));
        // Only that there was not enough time: what failed was logged by the exporter.
        if let Ok(Err(error)) = finish.await {
            warn!(%error, "the last traces could not be sent in time");
        }
    }
}

/// Who sends: what the environment says, and else this program.
fn resource() -> Resource {
    let environment = Resource::builder().build();
    let is_unnamed = |key: &Key, value: &opentelemetry::Value| {
        key.as_str() == "service.name" && value.as_str().starts_with("unknown_service")
    };
    let named = environment
        .iter()
        .filter(|(key, value)| !is_unnamed(key, value))
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", env!("CARGO_PKG_NAME")),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .with_attributes(named)
        .build()
}

/// Says in the log that spans are lost, which the SDK keeps to itself.
#[derive(Debug)]
struct Exporter {
    inner: opentelemetry_otlp::SpanExporter,
    failures: Occasionally,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        if let Err(error) = &result
            && self.failures.is_due()
        {
            warn!(%error, spans, "traces could not be sent, and are lost");
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_scheme_a_host_and_a_port() {
        for url in ["http://localhost:4317", "https://otlp.example:443/", "http://[::1]:4317"] {
            url.parse::<Url>().expect(url);
        }
        for url in [
            "",
            "localhost:4317",
            "http://localhost",
            "http://localhost:0",
            "http://:4317",
            "grpc://localhost:4317",
            "http://user:hunter2@localhost:4317",
            "http://localhost:4317/v1/traces",
            "http://localhost:4317?key=hunter2",
        ] {
            assert_eq!(url.parse::<Url>(), Err(InvalidUrl), "{url}");
        }
    }
}
