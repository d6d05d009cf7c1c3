//! Spans, and the trace that they belong to: in with a request, along with the work, out with a
//! call of a gRPC store.
//!
//! What a span may say follows the semantic conventions of OpenTelemetry, and never what a caller
//! wrote: no email address, hash or salt, no path but that of the endpoint.
//!
//! Without `--otlp-endpoint` the spans are disabled where they stand, and only the trace of a
//! caller that has one is carried along.

use std::{net::IpAddr, pin::Pin};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version};
use opentelemetry::{
    Context,
    context::FutureExt as _,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::{TraceContextExt as _, TraceId},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::MetadataMap;
use tracing::{Instrument as _, Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The target of every span: the log leaves them out by it, and the export takes nothing else.
pub const SPANS: &str = "span";

/// The header by which a caller that has a trace hands it on. Trace Context, section 3.2.
const TRACEPARENT: &str = "traceparent";

/// In place of a path that is not the endpoint's: it may hold anything.
const REDACTED: &str = "REDACTED";

/// The span of a request, within the trace of the caller.
#[derive(Debug)]
pub struct ServerSpan {
    /// The trace of the caller, if it has one.
    caller: Option<Context>,
    span: Span,
}

impl ServerSpan {
    /// Begins with the request, from `client`. `path` is that of the endpoint.
    pub fn of<B>(request: &Request<B>, client: IpAddr, path: &str) -> Self {
        let caller = request.headers().contains_key(TRACEPARENT).then(|| {
            TraceContextPropagator::new()
                .extract_with_context(&Context::new(), &Headers(request.headers()))
        });
        let _parent = caller.clone().map(Context::attach);
        let method = known_method(request.method());
        let route = (request.uri().path() == path).then_some(path);
        let span = info_span!(
            target: SPANS,
            "request",
            otel.kind = "server",
            otel.name = match route {
                Some(route) => format!("{} {route}", method.unwrap_or("HTTP")),
                None => method.unwrap_or("HTTP").to_owned(),
            },
            otel.status_code = Empty,
            "http.request.method" = method.unwrap_or("_OTHER"),
            "http.response.status_code" = Empty,
            "http.route" = route,
            "url.path" = route.unwrap_or(REDACTED),
            "url.scheme" = "https",
            "network.protocol.version" = protocol_version(request.version()),
            "client.address" = display(client.to_canonical()),
            "error.type" = Empty,
            faroe.action = Empty,
            faroe.action_invocation_id = Empty,
            faroe.outcome = Empty,
        );
        Self { caller, span }
    }

    /// Answers the request within the span, which ends with the answer; or, where the caller has
    /// gone, with the work that it left behind.
    pub async fn around<B>(
        self,
        answer: Pin<&mut impl Future<Output = Response<B>>>,
    ) -> Response<B> {
        let Self { caller, span } = self;
        if caller.is_none() && span.is_disabled() {
            return answer.await;
        }
        let caller = caller.unwrap_or_default();
        let response = answer.instrument(span.clone()).with_context(caller).await;
        let status = response.status();
        span.record("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            fail(&span, status.as_str());
        }
        end(&span);
        response
    }
}

/// Whether there is a span to say anything in.
pub fn is_recorded() -> bool {
    !Span::current().is_none()
}

/// Says in the span of the request what was invoked.
pub fn invoked(action: &str, action_invocation_id: &str) {
    let span = Span::current();
    span.record("faroe.action", action);
    span.record("faroe.action_invocation_id", action_invocation_id);
}

/// Says in the span of the request how the invocation ended, and whether that was a fault of this
/// side.
pub fn ended(outcome: &str, is_fault: bool) {
    let span = Span::current();
    span.record("faroe.outcome", outcome);
    if is_fault {
        fail(&span, outcome);
    }
}

/// Says that what the span stands for has failed.
pub fn fail(span: &Span, error_type: &str) {
    span.record("error.type", error_type);
    span.record("otel.status_code", "ERROR");
}

/// Ends a span now. It would end with its last holder, and that may be the thread that SQLite runs
/// in: the driver takes the span of a statement along, and lets it go at some time.
pub fn end(span: &Span) {
    if !span.is_disabled() {
        span.context().span().end();
    }
}

/// Keeps work that goes into a task of its own within its span and its trace.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    work.in_current_span().with_current_context()
}

/// The trace that the log can be searched for, where traces are sent.
pub fn id() -> Option<TraceId> {
    is_recorded().then(|| Context::map_current(|context| context.span().span_context().trace_id()))
}

/// Hands the trace on with a call.
pub fn inject(metadata: &mut MetadataMap) {
    Context::map_current(|context| {
        if context.has_active_span() {
            TraceContextPropagator::new().inject_context(context, &mut Metadata(metadata.as_mut()));
        }
    });
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Metadata<'a>(&'a mut HeaderMap);

impl Injector for Metadata<'_> {
    fn set(&mut self, key: &str, value: String) {
        // An empty `tracestate` says nothing.
        if let (false, Ok(key), Ok(value)) =
            (value.is_empty(), key.parse::<HeaderName>(), HeaderValue::try_from(value))
        {
            self.0.insert(key, value);
        }
    }
}

/// A method by the name that HTTP gives it. Any other is the caller's invention.
fn known_method(method: &Method) -> Option<&'static str> {
    let known = ["POST", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"];
    known.into_iter().find(|known| *known == method.as_str())
}

fn protocol_version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}
