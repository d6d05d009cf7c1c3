//! The admin listener: plain HTTP for probes, metrics and operators. `interface`, "`serve`",
//! `--admin-listen`.
//!
//! What changes something is for this host alone: the listener knows nobody.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use tracing::{error, info};

use crate::{
    drain::Drain,
    metrics::{self, Metrics},
    readiness::Readiness,
    server::{Origin, Service},
    telemetry::{Log, LogLevel},
};

/// The longest level, in bytes, with room for an end of line.
const MAX_LEVEL: usize = 16;
/// How long it may take to arrive.
const LEVEL_TIMEOUT: Duration = Duration::from_secs(5);

/// What the admin listener answers from.
#[derive(Debug)]
pub struct Admin {
    /// Behind `/readyz`.
    pub readiness: Readiness,
    /// Behind `/metrics`.
    pub metrics: Arc<Metrics>,
    /// What `/drain` begins, and `/readyz` looks at.
    pub drain: Drain,
    /// Behind `/log-level`.
    pub log: Log,
}

impl Service for Admin {
    async fn call(&self, request: Request<Incoming>, origin: &Origin) -> Response<Full<Bytes>> {
        let is_local = is_local(&request, origin);
        let path = request.uri().path();
        let method = request.method();
        match (path, method) {
            // The process works: it answers. Nothing else is looked at.
            ("/livez", &Method::GET | &Method::HEAD) => text(StatusCode::OK, "ok\n"),
            ("/readyz", &Method::GET | &Method::HEAD) => self.ready(),
            ("/metrics", &Method::GET | &Method::HEAD) => self.metrics(),
            ("/drain", &Method::POST) if is_local => self.begin_to_drain(),
            ("/log-level", &Method::GET | &Method::HEAD) if is_local => self.log_level(),
            ("/log-level", &Method::PUT) if is_local => {
                self.set_log_level(request.into_body()).await
            }
            ("/drain", &Method::POST)
            | ("/log-level", &Method::GET | &Method::HEAD | &Method::PUT) => {
                text(StatusCode::FORBIDDEN, "this is for the host of the sidecar alone\n")
            }
            ("/livez" | "/readyz" | "/metrics", _) => not_allowed("GET, HEAD"),
            ("/drain", _) => not_allowed("POST"),
            ("/log-level", _) => not_allowed("GET, HEAD, PUT"),
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /livez, /readyz, /metrics, /drain and /log-level\n",
            ),
        }
    }
}

impl Admin {
    fn ready(&self) -> Response<Full<Bytes>> {
        let mut missing = self.readiness.missing();
        if self.drain.has_begun() {
            missing.push("drain: requests are served until the sidecar stops".to_owned());
        }
        if missing.is_empty() {
            text(StatusCode::OK, "ok\n")
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n")
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match self.metrics.text() {
            Ok(metrics) => {
                let mut response = text(StatusCode::OK, metrics);
                let content_type = HeaderValue::from_static(metrics::CONTENT_TYPE);
                response.headers_mut().insert(header::CONTENT_TYPE, content_type);
                response
            }
            Err(error) => {
                error!(%error, "the metrics cannot be written");
                text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n")
            }
        }
    }

    fn begin_to_drain(&self) -> Response<Full<Bytes>> {
        if !self.drain.has_begun() {
            info!("draining by request: requests are served until the signal to stop comes");
            self.drain.begin();
        }
        text(StatusCode::OK, "draining\n")
    }
}

impl Admin {
    fn log_level(&self) -> Response<Full<Bytes>> {
        text(StatusCode::OK, format!("{}\n", self.log.level()))
    }

    async fn set_log_level(&self, body: Incoming) -> Response<Full<Bytes>> {
        let body = Limited::new(body, MAX_LEVEL).collect();
        let body = match tokio::time::timeout(LEVEL_TIMEOUT, body).await {
            Ok(Ok(whole)) => whole.to_bytes(),
            Ok(Err(_)) | Err(_) => Bytes::new(),
        };
        let level = match String::from_utf8_lossy(&body).trim().parse::<LogLevel>() {
            Ok(level) => level,
            Err(error) => return text(StatusCode::BAD_REQUEST, error + "\n"),
        };
        match self.log.set_level(level) {
            Ok(()) => self.log_level(),
            Err(error) => {
                error!(%error, "the log level cannot be changed");
                text(StatusCode::INTERNAL_SERVER_ERROR, "the log level cannot be changed\n")
            }
        }
    }
}

/// Whether a request comes from this host, and from no web page that is open there.
fn is_local(request: &Request<Incoming>, origin: &Origin) -> bool {
    !request.headers().contains_key(header::ORIGIN)
        && origin.address.ip().to_canonical().is_loopback()
}

fn not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("ask with {allowed}\n"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
