//! The HTTP of the endpoint: who may call, path, method, size, time, and problem details.
//!
//! `faroe-endpoint`, section 1; `interface`, "HTTP errors".

mod in_flight;
mod problem;
mod record;

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::poll_immediate;
use http::{HeaderValue, Method, Request, Response, Version, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use tracing::{debug, warn};

use self::{
    in_flight::Slots,
    problem::{Problem, set_content_type},
    record::{Counts, log, log_refused, record},
};
use crate::{
    action::ActionServer,
    authz::AllowList,
    drain::Drain,
    metrics::{Metrics, RejectedRequest},
    server::{Caller, Origin, Service},
    telemetry::Occasionally,
    trace::ServerSpan,
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
    slots: Arc<Slots>,
    shedding: Arc<Occasionally>,
    drain: Drain,
}

impl Endpoint {
    /// An endpoint that resolves with `actions`. What it reads of unwanted bodies is work of
    /// `drain`.
    pub fn new(config: Config, actions: ActionServer, metrics: Arc<Metrics>, drain: Drain) -> Self {
        Self {
            slots: Slots::new(config.max_in_flight, Counts::new(metrics)),
            config: Arc::new(config),
            actions,
            shedding: Arc::default(),
            drain,
        }
    }

    /// Who is at the other end, if that is one who may call, and with a request as this one is as
    /// far as its head tells.
    fn admit<'a>(
        &self,
        request: &Request<Incoming>,
        origin: &'a Origin,
    ) -> Result<&'a Arc<Caller>, Problem> {
        let caller = origin.caller.as_ref().ok_or_else(Problem::forbidden)?;
        // A connection ends with its certificate; a client that stays on gets no further.
        if !caller.is_accepted() {
            return Err(Problem::certificate_ended());
        }
        if !self.config.allow.allows(caller.peer()) {
            return Err(Problem::forbidden());
        }
        if request.uri().path() != self.config.path {
            return Err(Problem::not_found());
        }
        if request.method() != Method::POST {
            return Err(Problem::method_not_allowed());
        }
        let declared = request.body().size_hint().lower();
        let fits = usize::try_from(declared).is_ok_and(|size| size <= self.config.max_body);
        fits.then_some(caller).ok_or_else(|| self.too_large())
    }

    async fn answer(
        &self,
        version: Version,
        mut body: Incoming,
        caller: &Arc<Caller>,
    ) -> Response<Full<Bytes>> {
        let name = caller.peer().name();
        let Some(in_flight) = self.slots.take() else {
            return Box::pin(self.shed(version, body, name)).await;
        };
        let body = match self.receive(&mut body).await {
            Ok(received) => received,
            Err(problem) => return self.answer_early(version, body, name, &problem),
        };
        let start = Instant::now();
        let waiting = Waiting;
        let resolved = self
            .actions
            .resolve_then(&body, {
                let caller = Arc::clone(caller);
                move |result| {
                    let duration = start.elapsed();
                    in_flight.counts().count(result, duration);
                    record(result);
                    log(result, caller.peer().name(), duration);
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

    /// The whole body, within its limits.
    async fn receive(&self, body: &mut Incoming) -> Result<Bytes, Problem> {
        let timeout = self.config.request_timeout;
        let mut received = pin!(Limited::new(body, self.config.max_body).collect());
        // Mostly it came with the head, and a timer would be for nothing.
        let received = match poll_immediate(received.as_mut()).await {
            Some(received) => Ok(received),
            None => tokio::time::timeout(timeout, received).await,
        };
        match received {
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

    /// Answers before the body was read. The rest of it is read beside and thrown away: the end of
    /// the connection would overtake the answer if something were left unread.
    fn answer_early(
        &self,
        version: Version,
        mut body: Incoming,
        caller: &str,
        problem: &Problem,
    ) -> Response<Full<Bytes>> {
        self.slots.counts().metrics.rejected_request(problem.reason);
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
    /// The head of the request is read at once, and what waits for the answer has no room for it.
    fn call(
        &self,
        request: Request<Incoming>,
        origin: &Origin,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send {
        let is_head = request.method() == Method::HEAD;
        let span = ServerSpan::of(&request, origin.address.ip(), &self.config.path);
        let admitted = self.admit(&request, origin);
        let (version, body) = (request.version(), request.into_body());
        async move {
            let answer = async {
                match admitted {
                    Ok(caller) => self.answer(version, body, caller).await,
                    // At once: hyper sends "100 Continue" when a body is read and nothing was
                    // answered yet.
                    Err(problem) => self.answer_early(version, body, origin.name(), &problem),
                }
            };
            let response = span.around(pin!(answer)).await;
            if is_head { without_body(response) } else { response }
        }
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
