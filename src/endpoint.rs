//! The HTTP of the endpoint: who may call, path, method, size, time, and problem details.
//!
//! `faroe-endpoint`, section 1; `interface`, "HTTP errors".

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use serde::Serialize;
use tracing::{debug, info, warn};

use crate::{
    action::{ActionServer, ErrorCode, NotInvoked, Resolution},
    authz::AllowList,
    drain::Drain,
    server::Service,
    tls::Peer,
};

/// The largest request body by default, in bytes.
pub const DEFAULT_MAX_BODY: usize = 64 << 10;
/// How long a body may take to arrive by default.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of a body that nobody wants is read before the connection is given up.
const DISCARD_BYTES: usize = 1 << 20;
/// For how long.
const DISCARD_TIME: Duration = Duration::from_secs(1);
/// When a caller may try again, in seconds.
const RETRY_AFTER: &str = "1";

/// The rules of the endpoint.
#[derive(Debug, Clone)]
pub struct Config {
    /// The path; it starts with a slash.
    pub path: String,
    /// The largest request body, in bytes.
    pub max_body: usize,
    /// From the headers of a request to the end of its body.
    pub request_timeout: Duration,
    /// Who may call.
    pub allow: AllowList,
}

/// The endpoint, as a service.
#[derive(Debug, Clone)]
pub struct Endpoint {
    config: Arc<Config>,
    actions: ActionServer,
    drain: Drain,
}

impl Endpoint {
    /// An endpoint that resolves with `actions`. What it reads of unwanted bodies is work of
    /// `drain`.
    pub fn new(config: Config, actions: ActionServer, drain: Drain) -> Self {
        Self { config: Arc::new(config), actions, drain }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let caller = match &peer {
            // A connection ends with its certificate; a client that stays on gets no further.
            Some(peer) if !peer.validity().contains(SystemTime::now()) => {
                let problem = Problem::certificate_ended();
                log_refused(peer.name(), &problem);
                return self.refuse(request, &problem);
            }
            Some(peer) if self.config.allow.allows(peer) => peer.name(),
            _ => {
                let caller = peer.as_ref().map_or("(no certificate)", |peer| peer.name());
                warn!(caller, "a client that --allow-client does not name was refused");
                return self.refuse(request, &Problem::forbidden());
            }
        };
        if let Some(problem) = self.objection(&request) {
            log_refused(caller, &problem);
            return self.refuse(request, &problem);
        }
        let (head, mut body) = request.into_parts();
        let body = match self.receive(&mut body).await {
            Ok(received) => received,
            Err(problem) => {
                log_refused(caller, &problem);
                return self.answer_early(head.version, body, &problem);
            }
        };
        let start = Instant::now();
        let waiting = Waiting;
        let resolved = self.actions.resolve(&body).await;
        waiting.answered();
        match resolved {
            Ok(resolution) => {
                log_resolution(&resolution, caller, start.elapsed());
                let mut response = Response::new(Full::new(resolution.body.0));
                set_content_type(&mut response, "application/json");
                response
            }
            Err(not_invoked) => {
                let problem = Problem::not_invoked(&not_invoked);
                log_not_invoked(&not_invoked, &problem, caller, start.elapsed());
                problem.response()
            }
        }
    }

    /// What is wrong with a request, as far as its head tells.
    fn objection(&self, request: &Request<Incoming>) -> Option<Problem> {
        if request.uri().path() != self.config.path {
            return Some(Problem::not_found());
        }
        if request.method() != Method::POST {
            return Some(Problem::method_not_allowed());
        }
        let declared = request.body().size_hint().lower();
        let fits = usize::try_from(declared).is_ok_and(|size| size <= self.config.max_body);
        (!fits).then(|| self.too_large())
    }

    /// The whole body, within its limits.
    async fn receive(&self, body: &mut Incoming) -> Result<Bytes, Problem> {
        let timeout = self.config.request_timeout;
        let received = Limited::new(body, self.config.max_body).collect();
        match tokio::time::timeout(timeout, received).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(self.too_large()),
            Ok(Err(_)) => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "the request body ended before it was complete",
            )),
            Err(_) => Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                format!(
                    "the request did not arrive whole within {}",
                    humantime::format_duration(timeout)
                ),
            )),
        }
    }

    fn too_large(&self) -> Problem {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the request body is larger than {} bytes", self.config.max_body),
        )
    }

    /// Answers a request whose body was not begun. The answer has to be ready at once, as it is
    /// here: hyper sends "100 Continue" when a body is read and nothing was answered yet.
    fn refuse(&self, request: Request<Incoming>, problem: &Problem) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        self.answer_early(head.version, body, problem)
    }

    /// Answers before the body was read. The rest of it is read beside and thrown away: the end of
    /// the connection would overtake the answer if something were left unread.
    fn answer_early(
        &self,
        version: Version,
        body: Incoming,
        problem: &Problem,
    ) -> Response<Full<Bytes>> {
        let mut response = problem.response();
        if body.is_end_stream() {
            return response;
        }
        self.discard(body);
        if version < Version::HTTP_2 {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }

    fn discard(&self, mut body: Incoming) {
        self.drain.spawn(async move {
            let _ = tokio::time::timeout(DISCARD_TIME, async {
                let mut left = DISCARD_BYTES;
                while let Some(Ok(frame)) = body.frame().await {
                    let read = frame.data_ref().map_or(0, Bytes::len);
                    match left.checked_sub(read) {
                        Some(rest) => left = rest,
                        None => return,
                    }
                }
            })
            .await;
        });
    }
}

impl Service for Endpoint {
    async fn call(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let is_head = request.method() == Method::HEAD;
        let response = self.answer(request).await;
        if is_head { without_body(response) } else { response }
    }
}

/// The answer to HEAD. hyper leaves the body out by itself on HTTP/1.1 only; on HTTP/2 a body there
/// breaks the protocol.
fn without_body(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response.map(|_| Full::default())
}

/// A caller that waits for its answer. One that goes away has this dropped.
struct Waiting;

impl Waiting {
    fn answered(self) {
        std::mem::forget(self);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        debug!("a caller went away before its answer");
    }
}

/// What was not invoked, as problem details (RFC 9457) of the default type, whose title is that of
/// the status.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }

    fn forbidden() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "the client certificate is valid, but no --allow-client entry names it",
        )
    }

    fn certificate_ended() -> Self {
        Self::new(StatusCode::FORBIDDEN, "the client certificate is not valid any more")
    }

    fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "the endpoint is at another path")
    }

    fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "action invocations are sent with POST")
    }

    fn not_invoked(not_invoked: &NotInvoked) -> Self {
        match not_invoked {
            NotInvoked::BadRequest(bad_request) => {
                Self::new(StatusCode::BAD_REQUEST, bad_request.to_string())
            }
            NotInvoked::StoreNotReached { .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the user store could not be reached; nothing was changed",
            ),
            NotInvoked::NoRandomness(_) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the invocation could not be given an ID; nothing was changed",
            ),
        }
    }

    fn response(&self) -> Response<Full<Bytes>> {
        #[derive(Serialize)]
        struct Details<'a> {
            title: &'a str,
            status: u16,
            detail: &'a str,
        }

        let details = Details {
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        // Two strings and a number always serialize.
        let body = serde_json::to_vec(&details).unwrap_or_default();
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status;
        set_content_type(&mut response, "application/problem+json");
        let headers = response.headers_mut();
        match self.status {
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
            }
            _ => {}
        }
        response
    }
}

fn set_content_type(response: &mut Response<Full<Bytes>>, content_type: &'static str) {
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
}

/// One line an invocation. A read that succeeds is the hot path, and nothing that anybody asks a
/// log about.
fn log_resolution(resolution: &Resolution, caller: &str, duration: Duration) {
    let action = resolution.action.as_str();
    let outcome = resolution.outcome();
    let action_invocation_id = resolution.action_invocation_id.as_str();
    let duration_ms = duration.as_secs_f64() * 1e3;
    match &resolution.failure {
        None if resolution.action.is_read() => {
            debug!(action, outcome, action_invocation_id, caller, duration_ms, "invoked");
        }
        None => info!(action, outcome, action_invocation_id, caller, duration_ms, "invoked"),
        Some(failure) if resolution.error_code.is_some_and(ErrorCode::is_the_stores_word) => {
            info!(action, outcome, action_invocation_id, caller, duration_ms, %failure, "invoked");
        }
        Some(failure) => {
            warn!(action, outcome, action_invocation_id, caller, duration_ms, %failure, "invoked");
        }
    }
}

fn log_refused(caller: &str, problem: &Problem) {
    info!(caller, status = problem.status.as_u16(), detail = %problem.detail, "request refused");
}

fn log_not_invoked(not_invoked: &NotInvoked, problem: &Problem, caller: &str, duration: Duration) {
    let duration_ms = duration.as_secs_f64() * 1e3;
    let status = problem.status.as_u16();
    match not_invoked {
        NotInvoked::BadRequest(_) => log_refused(caller, problem),
        NotInvoked::StoreNotReached { action, action_invocation_id, source } => warn!(
            caller,
            status,
            duration_ms,
            action = action.as_str(),
            action_invocation_id = action_invocation_id.as_str(),
            failure = %source,
            "the store could not be reached"
        ),
        NotInvoked::NoRandomness(error) => {
            warn!(caller, status, duration_ms, %error, "the operating system gives no random bytes");
        }
    }
}
