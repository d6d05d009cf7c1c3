//! The load: callers in a closed loop, each with a connection of its own.
//!
//! A caller does what RFC 9110 and RFC 9113 ask of a client and no more. It leaves a connection
//! after `Connection: close` and after GOAWAY. It sends a request again only if the server cannot
//! have begun with it: the request was never written, or HTTP/2 says that its stream was refused.
//! Any other request without a whole answer has failed.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::harness::{
    client::{Client, Error, new_user, tls_config},
    email_address,
    process::{PATIENCE, Pki},
};

/// How a caller uses its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// HTTP/1.1, one connection for as long as the server keeps it.
    KeepAlive,
    /// HTTP/2, the same.
    Http2,
    /// HTTP/1.1, a connection for each request.
    NewConnection,
}

impl Mode {
    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http2 => b"h2",
            Self::KeepAlive | Self::NewConnection => b"http/1.1",
        }
    }
}

/// The client's side of TLS for a mode. Callers share it, and so its session tickets.
pub fn tls(pki: &Pki, mode: Mode) -> Arc<ClientConfig> {
    let mut tls = tls_config(&pki.authority.certificate(), Some(&pki.client));
    tls.alpn_protocols = vec![mode.alpn().to_vec()];
    Arc::new(tls)
}

/// A TLS connection to the endpoint.
pub async fn connect(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, Error> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from("localhost")?;
    Ok(TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await?)
}

/// Says where the next connection goes; nowhere, if there is no place now.
pub type Target = Arc<dyn Fn() -> Option<SocketAddr> + Send + Sync>;

/// Always the same place.
pub fn fixed(address: SocketAddr) -> Target {
    Arc::new(move || Some(address))
}

/// An invocation, and what its answer must have.
#[derive(Clone)]
pub struct Invocation {
    body: Bytes,
    /// The member of the user, and its value.
    user: (&'static str, Arc<str>),
}

impl Invocation {
    pub fn get_user(id: &str) -> Self {
        let body = json!({ "action": "get_user", "arguments": { "user_id": id } });
        Self { body: body.to_string().into(), user: ("id", id.into()) }
    }

    pub fn create_user() -> Self {
        let address = email_address();
        let body = json!({ "action": "create_user", "arguments": new_user(&address) });
        Self { body: body.to_string().into(), user: ("email_address", address.into()) }
    }

    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

/// What a caller sends: the invocation of this number.
pub type Work = Arc<dyn Fn(u64) -> Invocation + Send + Sync>;

/// Reads of these users.
pub fn reads(ids: &[String]) -> Work {
    let reads: Vec<Invocation> = ids.iter().map(|id| Invocation::get_user(id)).collect();
    Arc::new(move |number| reads[usize::try_from(number).unwrap() % reads.len()].clone())
}

/// Reads of these users, and a new user each tenth time.
pub fn reads_and_writes(ids: &[String]) -> Work {
    let reads = reads(ids);
    Arc::new(move |number| if number % 10 == 9 { Invocation::create_user() } else { reads(number) })
}

/// New users to look up.
pub async fn users(client: &Client, count: usize) -> Vec<String> {
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        let user = client.create_user(&email_address()).await;
        ids.push(user["id"].as_str().unwrap().to_owned());
    }
    ids
}

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// 200, and the right user.
    Ok,
    /// 200, and an error code.
    ErrorCode(String),
    /// Another status.
    Status(u16),
    /// A whole answer that is not the right one.
    Wrong(String),
    /// No whole answer.
    Lost(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::ErrorCode(code) => f.write_str(code),
            Self::Status(status) => write!(f, "{status}"),
            Self::Wrong(answer) => write!(f, "a wrong answer ({answer})"),
            Self::Lost(reason) => write!(f, "no answer ({reason})"),
        }
    }
}

/// A whole response.
pub struct Response {
    pub status: StatusCode,
    pub body: Bytes,
}

impl Response {
    fn outcome(&self, (member, expected): &(&str, Arc<str>)) -> Outcome {
        if self.status != StatusCode::OK {
            return Outcome::Status(self.status.as_u16());
        }
        let Ok(answer) = serde_json::from_slice::<Value>(&self.body) else {
            return Outcome::Wrong("not JSON".to_owned());
        };
        match answer["error_code"].as_str() {
            Some(code) => Outcome::ErrorCode(code.to_owned()),
            None if answer["ok"] == true && answer["values"]["user"][member] == **expected => {
                Outcome::Ok
            }
            None => Outcome::Wrong("not the user".to_owned()),
        }
    }
}

/// How often connections ended in the way that the server asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Goodbyes {
    /// Responses with `Connection: close`.
    pub connection_close: u64,
    /// HTTP/2 connections that were not to be used any more.
    pub goaway: u64,
    /// Requests that the server did not begin with, and that went over another connection.
    pub sent_again: u64,
}

/// One caller.
pub struct Caller {
    mode: Mode,
    tls: Arc<ClientConfig>,
    target: Target,
    open: Option<Sender>,
    pub goodbyes: Goodbyes,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Caller {
    pub fn new(mode: Mode, tls: Arc<ClientConfig>, target: Target) -> Self {
        Self { mode, tls, target, open: None, goodbyes: Goodbyes::default() }
    }

    /// Invokes an action. Whoever calls gives up after `limit`.
    pub async fn invoke(&mut self, invocation: &Invocation, limit: Duration) -> Outcome {
        match timeout(limit, self.post(&invocation.body)).await {
            Ok(Ok(response)) => response.outcome(&invocation.user),
            Ok(Err(error)) => Outcome::Lost(with_sources(&*error)),
            Err(_) => {
                self.open = None;
                Outcome::Lost(format!("none within {limit:?}"))
            }
        }
    }

    /// Posts a body.
    pub async fn post(&mut self, body: &Bytes) -> Result<Response, Error> {
        loop {
            let mut sender = match self.usable().await {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            let response = match sender.send(body).await {
                Ok(response) => response,
                Err(mut error) => {
                    let unsent = error.take_message().is_some();
                    let error = error.into_error();
                    if unsent || is_refused(&error) {
                        self.goodbyes.sent_again += 1;
                        continue;
                    }
                    return Err(error.into());
                }
            };
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            let close = head.headers.get(header::CONNECTION).is_some_and(|value| value == "close");
            self.goodbyes.connection_close += u64::from(close);
            if !close && self.mode != Mode::NewConnection {
                self.open = Some(sender);
            }
            return Ok(Response { status: head.status, body });
        }
    }

    /// Whether its connection is open and can be used.
    pub async fn is_connected(&mut self) -> bool {
        self.open = self.usable().await;
        self.open.is_some()
    }

    /// The open connection, unless it was ended meanwhile.
    async fn usable(&mut self) -> Option<Sender> {
        let mut sender = self.open.take()?;
        let ready = match &mut sender {
            Sender::Http1(sender) => sender.ready().await,
            Sender::Http2(sender) => sender.ready().await,
        };
        if ready.is_err() && self.mode == Mode::Http2 {
            self.goodbyes.goaway += 1;
        }
        ready.is_ok().then_some(sender)
    }

    async fn connect(&self) -> Result<Sender, Error> {
        let address = loop {
            match (self.target)() {
                Some(address) => break address,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let io = TokioIo::new(connect(address, &self.tls).await?);
        Ok(match self.mode {
            Mode::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
            Mode::KeepAlive | Mode::NewConnection => {
                let (sender, connection) = http1::handshake(io).await?;
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
        })
    }
}

impl Sender {
    async fn send(
        &mut self,
        body: &Bytes,
    ) -> Result<http::Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        let body = Full::new(body.clone());
        match self {
            Self::Http1(sender) => {
                let request = Request::post("/").header(header::HOST, "localhost");
                sender.try_send_request(request.body(body).unwrap()).await
            }
            Self::Http2(sender) => {
                let request =
                    Request::post(Uri::from_static("https://localhost/")).version(Version::HTTP_2);
                sender.try_send_request(request.body(body).unwrap()).await
            }
        }
    }
}

/// Whether HTTP/2 says that the server did not begin with a request: the last stream that its
/// GOAWAY names is an earlier one, or the stream was refused.
fn is_refused(error: &hyper::Error) -> bool {
    let cause =
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| {
        let reason = cause.reason();
        cause.is_remote()
            && (cause.is_go_away() && reason == Some(h2::Reason::NO_ERROR)
                || cause.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM))
    })
}

fn with_sources(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// One request of a load.
#[derive(Debug, Clone)]
pub struct Sample {
    pub start: Instant,
    pub took: Duration,
    pub outcome: Outcome,
}

impl Sample {
    pub fn end(&self) -> Instant {
        self.start + self.took
    }
}

/// What a load found.
#[derive(Debug, Default)]
pub struct Tally {
    pub samples: Vec<Sample>,
    pub goodbyes: Goodbyes,
}

impl Tally {
    /// How many requests there were.
    pub fn requests(&self) -> u64 {
        self.samples.len().try_into().unwrap()
    }

    /// How many did not end well.
    pub fn failed(&self) -> u64 {
        self.count(|outcome| *outcome != Outcome::Ok)
    }

    pub fn count(&self, what: impl Fn(&Outcome) -> bool) -> u64 {
        self.samples.iter().filter(|sample| what(&sample.outcome)).count().try_into().unwrap()
    }

    /// How many ended in which way, in words.
    pub fn outcomes(&self) -> String {
        let mut counts = BTreeMap::<_, u64>::new();
        for sample in &self.samples {
            *counts.entry(&sample.outcome).or_default() += 1;
        }
        let words = counts.iter().map(|(outcome, count)| format!("{count} {outcome}"));
        words.collect::<Vec<_>>().join(", ")
    }
}

/// Callers that run until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    finished: Arc<AtomicU64>,
    callers: JoinSet<Tally>,
}

/// What callers do besides sending.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// When a caller gives up.
    pub limit: Duration,
    /// From the start of a request that has no success to the next one, at the least.
    pub pause: Duration,
}

impl Default for Manners {
    fn default() -> Self {
        Self { limit: PATIENCE, pause: Duration::ZERO }
    }
}

impl Load {
    /// A caller for each mode in the list.
    pub fn start(
        pki: &Pki,
        target: &Target,
        modes: &[Mode],
        work: &Work,
        manners: Manners,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let finished = Arc::new(AtomicU64::new(0));
        let number = Arc::new(AtomicU64::new(0));
        let mut callers = JoinSet::new();
        let tls = [Mode::KeepAlive, Mode::Http2].map(|mode| tls(pki, mode));
        for mode in modes {
            let tls = &tls[usize::from(*mode == Mode::Http2)];
            let mut caller = Caller::new(*mode, Arc::clone(tls), Arc::clone(target));
            let (stop, finished) = (Arc::clone(&stop), Arc::clone(&finished));
            let (work, number) = (Arc::clone(work), Arc::clone(&number));
            callers.spawn(async move {
                let mut tally = Tally::default();
                while !stop.load(Ordering::Relaxed) {
                    let invocation = work(number.fetch_add(1, Ordering::Relaxed));
                    let start = Instant::now();
                    let outcome = caller.invoke(&invocation, manners.limit).await;
                    let failed = outcome != Outcome::Ok;
                    tally.samples.push(Sample { start, took: start.elapsed(), outcome });
                    finished.fetch_add(1, Ordering::Relaxed);
                    if failed {
                        tokio::time::sleep_until((start + manners.pause).into()).await;
                    }
                }
                tally.goodbyes = caller.goodbyes;
                tally
            });
        }
        Self { stop, finished, callers }
    }

    /// How many requests have ended so far.
    pub fn finished(&self) -> u64 {
        self.finished.load(Ordering::Relaxed)
    }

    /// Waits until so many requests have ended.
    pub async fn wait_for(&self, requests: u64) {
        let mut last = (self.finished(), Instant::now());
        while self.finished() < requests {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if self.finished() > last.0 {
                last = (self.finished(), Instant::now());
            }
            assert!(last.1.elapsed() < 2 * PATIENCE, "no request ends any more");
        }
    }

    /// Lets the requests in hand end, and gives what all of them found, in the order of their ends.
    pub async fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut whole = Tally::default();
        for tally in self.callers.join_all().await {
            whole.samples.extend(tally.samples);
            whole.goodbyes.connection_close += tally.goodbyes.connection_close;
            whole.goodbyes.goaway += tally.goodbyes.goaway;
            whole.goodbyes.sent_again += tally.goodbyes.sent_again;
        }
        whole.samples.sort_by_key(Sample::end);
        whole
    }
}

/// So many callers, of these modes in turn.
pub fn callers(count: usize, modes: &[Mode]) -> Vec<Mode> {
    modes.iter().copied().cycle().take(count).collect()
}
