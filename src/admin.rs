//! The admin listener: plain HTTP for probes, metrics and operators. `interface`, "`serve`",
//! `--admin-listen`.
//!
//! What changes something is for this host alone: the listener knows nobody.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tracing::{error, info};

use crate::{
    drain::Drain,
    metrics::{self, Metrics},
    readiness::Readiness,
    server::Service,
};

/// What the admin listener answers from.
#[derive(Debug)]
pub struct Admin {
    /// Behind `/readyz`.
    pub readiness: Readiness,
    /// Behind `/metrics`.
    pub metrics: Arc<Metrics>,
    /// What `/drain` begins, and `/readyz` looks at.
    pub drain: Drain,
}

impl Service for Admin {
    async fn call(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let method = request.method();
        match (path, method) {
            // The process works: it answers. Nothing else is looked at.
            ("/livez", &Method::GET | &Method::HEAD) => text(StatusCode::OK, "ok\n"),
            ("/readyz", &Method::GET | &Method::HEAD) => self.ready(),
            ("/metrics", &Method::GET | &Method::HEAD) => self.metrics(),
            ("/drain", &Method::POST) if is_local(&request) => self.begin_to_drain(),
            ("/drain", &Method::POST) => {
                text(StatusCode::FORBIDDEN, "this is for the host of the sidecar alone\n")
            }
            ("/livez" | "/readyz" | "/metrics", _) => not_allowed("GET, HEAD"),
            ("/drain", _) => not_allowed("POST"),
            _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz, /metrics and /drain\n"),
        }
    }
}

impl Admin {
    fn ready(&self) -> Response<Full<Bytes>> {
        let mut missing = self.readiness.missing();
        if self.drain.has_begun() {
            missing.push("drain: the sidecar is stopping".to_owned());
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

/// Whether a request comes from this host.
fn is_local(request: &Request<Incoming>) -> bool {
    let address = request.extensions().get::<SocketAddr>();
    address.is_some_and(|address| address.ip().to_canonical().is_loopback())
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
