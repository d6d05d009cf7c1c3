//! The HTTP of the endpoint: who may call, path, method, size, time, and problem details.
//!
//! `faroe-endpoint`, section 1; `interface`, "HTTP errors".

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use serde::Serialize;
use tokio::sync::Semaphore;
use tracing::{debug, field::display, info, warn};

use crate::{
    action::{Action, ActionServer, ErrorCode, Failure, NotInvoked, Resolution, code_name},
    authz::AllowList,
    drain::Drain,
    metrics::{Metrics, RejectedRequest},
    server::{Caller, Service},
    telemetry::{AUDIT, Occasionally},
    trace::{self, ServerSpan},
};

/// The largest request body by default, in bytes.
pub const DEFAULT_MAX_BODY: usize = 64 << 10;
/// How long a body may take to arrive by default.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How many requests may be in flight at once by default.
pub const DEFAULT_MAX_IN_FLIGHT: usize = 1024;

/// How much of a body that nobody wants is read before the connection is given up.
const DISCARD_BYTES: usize = 1 << 20;
/// For how long.
const DISCARD_TIME: Duration = Duration::from_secs(1);
/// For how long a request that is turned away holds its caller up, so that its connection can stay.
const SHED_TIME: Duration = Duration::from_millis(20);
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
    /// How many requests may be received and resolved at once.
    pub max_in_flight: usize,
    /// Who may call.
    pub allow: AllowList,
}

/// The endpoint, as a service.
#[derive(Debug, Clone)]
pub struct Endpoint {
    config: Arc<Config>,
    actions: ActionServer,
    metrics: Arc<Metrics>,
    slots: Arc<Semaphore>,
    shedding: Arc<Occasionally>,
    drain: Drain,
}

impl Endpoint {
    /// An endpoint that resolves with `actions`. What it reads of unwanted bodies is work of
    /// `drain`.
    pub fn new(config: Config, actions: ActionServer, metrics: Arc<Metrics>, drain: Drain) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(config.max_in_flight)),
            config: Arc::new(config),
            actions,
            metrics,
            shedding: Arc::default(),
            drain,
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Some(caller) = request.extensions().get::<Arc<Caller>>().cloned() else {
            return self.refuse(request, "(no certificate)", Problem::forbidden());
        };
        let name = caller.peer().name();
        // A connection ends with its certificate; a client that stays on gets no further.
        if !caller.is_accepted() {
            return self.refuse(request, name, Problem::certificate_ended());
        }
        if !self.config.allow.allows(caller.peer()) {
            return self.refuse(request, name, Problem::forbidden());
        }
        if let Some(problem) = self.objection(&request) {
            return self.refuse(request, name, problem);
        }
        let (head, mut body) = request.into_parts();
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            return self.shed(head.version, body, name).await;
        };
        let in_flight = (slot, self.metrics.in_flight_request());
        let body = match self.receive(&mut body).await {
            Ok(received) => received,
            Err(problem) => return self.answer_early(head.version, body, name, &problem),
        };
        let start = Instant::now();
        let waiting = Waiting;
        let resolved = self
            .actions
            .resolve_then(&body, {
                let metrics = Arc::clone(&self.metrics);
                move |result| {
                    count(result, &metrics, start.elapsed());
                    record(result);
                    log(result, caller.peer().name(), start.elapsed());
                    drop(in_flight);
                }
            })
            .await;
        waiting.answered();
        match resolved {
            Ok(resolution) => {
                let mut response = Response::new(Full::new(resolution.body.0));
                set_content_type(&mut response, "application/json");
                response
            }
            Err(not_invoked) => Problem::not_invoked(&not_invoked).response(),
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
                RejectedRequest::Incomplete,
                "the request body ended before it was complete",
            )),
            Err(_) => Err(Problem::new(
                RejectedRequest::RequestTimeout,
                format!(
                    "the request did not arrive whole within {}",
                    humantime::format_duration(timeout)
                ),
            )),
        }
    }

    fn too_large(&self) -> Problem {
        Problem::new(
            RejectedRequest::MaxBody,
            format!("the request body is larger than {} bytes", self.config.max_body),
        )
    }

    /// Answers a request that would be one too many. Its body is read first, as far as it comes at
    /// once: giving the connection up would cost both sides a handshake, which is more than what is
    /// saved.
    async fn shed(
        &self,
        version: Version,
        mut body: Incoming,
        caller: &str,
    ) -> Response<Full<Bytes>> {
        if self.shedding.is_due() {
            warn!(
                max_in_flight = self.config.max_in_flight,
                "there are more requests at once than --max-in-flight: the excess gets 503"
            );
        }
        discard(&mut body, SHED_TIME).await;
        self.answer_early(version, body, caller, &Problem::overloaded())
    }

    /// Answers a request whose body was not begun. The answer has to be ready at once, as it is
    /// here: hyper sends "100 Continue" when a body is read and nothing was answered yet.
    fn refuse(
        &self,
        request: Request<Incoming>,
        caller: &str,
        problem: Problem,
    ) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        self.answer_early(head.version, body, caller, &problem)
    }

    /// Answers before the body was read. The rest of it is read beside and thrown away: the end of
    /// the connection would overtake the answer if something were left unread.
    fn answer_early(
        &self,
        version: Version,
        mut body: Incoming,
        caller: &str,
        problem: &Problem,
    ) -> Response<Full<Bytes>> {
        self.metrics.rejected_request(problem.reason);
        log_refused(caller, problem);
        let mut response = problem.response();
        if body.is_end_stream() {
            return response;
        }
        self.drain.spawn(async move { discard(&mut body, DISCARD_TIME).await });
        if version < Version::HTTP_2 {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }
}

/// Reads what comes of a body and throws it away, within limits.
async fn discard(body: &mut Incoming, time: Duration) {
    // What is left after that time is left.
    let _ = tokio::time::timeout(time, async {
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
}

impl Service for Endpoint {
    async fn call(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let is_head = request.method() == Method::HEAD;
        let span = ServerSpan::of(&request, &self.config.path);
        let response = span.around(self.answer(request)).await;
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
    reason: RejectedRequest,
    detail: String,
}

impl Problem {
    fn new(reason: RejectedRequest, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    fn forbidden() -> Self {
        Self::new(
            RejectedRequest::NotAllowed,
            "the client certificate is valid, but no --allow-client entry names it",
        )
    }

    fn certificate_ended() -> Self {
        Self::new(RejectedRequest::CertificateEnded, "the client certificate is not accepted now")
    }

    fn not_found() -> Self {
        Self::new(RejectedRequest::Path, "the endpoint is at another path")
    }

    fn method_not_allowed() -> Self {
        Self::new(RejectedRequest::Method, "action invocations are sent with POST")
    }

    fn overloaded() -> Self {
        Self::new(
            RejectedRequest::MaxInFlight,
            "there are too many requests at once; nothing was changed",
        )
    }

    fn not_invoked(not_invoked: &NotInvoked) -> Self {
        match not_invoked {
            NotInvoked::BadRequest(bad_request) => {
                Self::new(RejectedRequest::BadRequest, bad_request.to_string())
            }
            NotInvoked::StoreNotReached { .. } => Self::new(
                RejectedRequest::StoreNotReached,
                "the user store could not be reached; nothing was changed",
            ),
            NotInvoked::NoRandomness(_) => Self::new(
                RejectedRequest::NoRandomness,
                "the invocation could not be given an ID; nothing was changed",
            ),
        }
    }

    fn status(&self) -> StatusCode {
        match self.reason {
            RejectedRequest::Incomplete | RejectedRequest::BadRequest => StatusCode::BAD_REQUEST,
            RejectedRequest::NotAllowed | RejectedRequest::CertificateEnded => {
                StatusCode::FORBIDDEN
            }
            RejectedRequest::Path => StatusCode::NOT_FOUND,
            RejectedRequest::Method => StatusCode::METHOD_NOT_ALLOWED,
            RejectedRequest::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            RejectedRequest::MaxBody => StatusCode::PAYLOAD_TOO_LARGE,
            RejectedRequest::NoRandomness => StatusCode::INTERNAL_SERVER_ERROR,
            RejectedRequest::MaxInFlight | RejectedRequest::StoreNotReached => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    fn response(&self) -> Response<Full<Bytes>> {
        #[derive(Serialize)]
        struct Details<'a> {
            title: &'a str,
            status: u16,
            detail: &'a str,
        }

        let status = self.status();
        let details = Details {
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: &self.detail,
        };
        // Two strings and a number always serialize.
        let body = serde_json::to_vec(&details).unwrap_or_default();
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        set_content_type(&mut response, "application/problem+json");
        let headers = response.headers_mut();
        match status {
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

fn count(result: &Result<Resolution, NotInvoked>, metrics: &Metrics, duration: Duration) {
    match result {
        Ok(resolution) => {
            let method = resolution.action.method();
            metrics.action(resolution.action.as_str(), resolution.outcome(), duration);
            let failure = resolution.failure.as_ref();
            let code = failure.map_or("OK", |failure| code_name(failure.code()));
            metrics.store_call(method, code, resolution.store_time);
            if let Some(check) = failure.and_then(Failure::violation) {
                metrics.store_contract_violation(method, check);
            }
        }
        Err(not_invoked) => {
            metrics.rejected_request(Problem::not_invoked(not_invoked).reason);
            if let NotInvoked::StoreNotReached { action, store_time: Some(time), .. } = not_invoked
            {
                metrics.store_call(action.method(), "UNAVAILABLE", *time);
            }
        }
    }
}

/// What the span of the request says of it.
fn record(result: &Result<Resolution, NotInvoked>) {
    match result {
        Ok(resolution) => {
            trace::invoked(resolution.action.as_str(), resolution.action_invocation_id.as_str());
            let is_fault =
                resolution.error_code.is_some_and(|code| !ErrorCode::is_the_stores_word(code));
            trace::ended(resolution.outcome(), is_fault);
        }
        Err(NotInvoked::StoreNotReached { action, action_invocation_id, .. }) => {
            trace::invoked(action.as_str(), action_invocation_id.as_str());
        }
        Err(NotInvoked::BadRequest(_) | NotInvoked::NoRandomness(_)) => {}
    }
}

fn log(result: &Result<Resolution, NotInvoked>, caller: &str, duration: Duration) {
    match result {
        Ok(resolution) => {
            log_resolution(resolution, caller, duration);
            audit(resolution, caller);
        }
        Err(not_invoked) => log_not_invoked(not_invoked, caller, duration),
    }
}

/// One line an invocation. A read that succeeds is the hot path, and nothing that anybody asks a
/// log about.
fn log_resolution(resolution: &Resolution, caller: &str, duration: Duration) {
    let action = resolution.action.as_str();
    let outcome = resolution.outcome();
    let action_invocation_id = resolution.action_invocation_id.as_str();
    let duration_ms = duration.as_secs_f64() * 1e3;
    let trace_id = trace::id().map(display);
    match &resolution.failure {
        None if resolution.action.is_read() => {
            debug!(action, outcome, action_invocation_id, caller, duration_ms, trace_id, "invoked");
        }
        None => {
            info!(action, outcome, action_invocation_id, caller, duration_ms, trace_id, "invoked")
        }
        Some(failure) if resolution.error_code.is_some_and(ErrorCode::is_the_stores_word) => {
            info!(action, outcome, action_invocation_id, caller, duration_ms, trace_id, %failure, "invoked");
        }
        Some(failure) => {
            warn!(action, outcome, action_invocation_id, caller, duration_ms, trace_id, %failure, "invoked");
        }
    }
}

/// One line a change to a user, or what may have been one.
fn audit(resolution: &Resolution, caller: &str) {
    let change = match resolution.action {
        Action::GetUser | Action::GetUserByEmailAddress => return,
        Action::CreateUser => "user created",
        Action::UpdateUserEmailAddress => "email address changed",
        Action::UpdateUserPasswordHash => "password hash changed",
        Action::IncrementUserSessionsCounter => "sessions ended",
        Action::DeleteUser => "user deleted",
    };
    let outcome = match &resolution.failure {
        None => "ok",
        Some(_) if resolution.error_code == Some(ErrorCode::InternalError) => "unknown",
        Some(_) => return,
    };
    let user_id = resolution.user_id.as_deref().map(shortened);
    let action_invocation_id = resolution.action_invocation_id.as_str();
    info!(target: AUDIT, user_id, outcome, action_invocation_id, caller, "{change}");
}

/// An ID is whatever the caller wrote: at most 128 characters of it.
fn shortened(id: &str) -> &str {
    id.char_indices().nth(128).map_or(id, |(end, _)| id.get(..end).unwrap_or(id))
}

fn log_refused(caller: &str, problem: &Problem) {
    let status = problem.status().as_u16();
    let detail = &problem.detail;
    match problem.reason {
        RejectedRequest::NotAllowed => {
            warn!(caller, "a client that --allow-client does not name was refused");
        }
        // There may be thousands a second.
        RejectedRequest::MaxInFlight => debug!(caller, status, detail, "request refused"),
        _ => info!(caller, status, detail, "request refused"),
    }
}

fn log_not_invoked(not_invoked: &NotInvoked, caller: &str, duration: Duration) {
    let duration_ms = duration.as_secs_f64() * 1e3;
    let trace_id = trace::id().map(display);
    let problem = Problem::not_invoked(not_invoked);
    let status = problem.status().as_u16();
    match not_invoked {
        NotInvoked::BadRequest(_) => log_refused(caller, &problem),
        // That the store is away was said once, and there may be thousands a second.
        NotInvoked::StoreNotReached { action, store_time: None, source, .. } => debug!(
            caller,
            status,
            duration_ms,
            trace_id,
            action = action.as_str(),
            failure = %source,
            "the store is away"
        ),
        NotInvoked::StoreNotReached { action, action_invocation_id, source, .. } => warn!(
            caller,
            status,
            duration_ms,
            trace_id,
            action = action.as_str(),
            action_invocation_id = action_invocation_id.as_str(),
            failure = %source,
            "the store could not be reached"
        ),
        NotInvoked::NoRandomness(error) => {
            warn!(caller, status, duration_ms, trace_id, %error, "the operating system gives no random bytes");
        }
    }
}
