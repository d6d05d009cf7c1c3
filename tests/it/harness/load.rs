//! Callers at work while something fails: reads and writes of users that they know, at a steady
//! pace, over HTTP/2 and kept-alive HTTP/1.1.
//!
//! Each answer is recorded, and held against what the acknowledged writes before it promise. What
//! does not fit is a violation, which [`Record::check`] reports.

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::{
    base64,
    client::{Client, Error, Reply, new_user},
    email_address,
    process::{PATIENCE, Sidecar},
};

/// From an answer to the next request of the same caller: enough of them to be in the way of any
/// fault, and not so many that the tests beside this one starve.
const PACE: Duration = Duration::from_millis(4);

/// Users that a caller changes; with more it deletes the oldest.
const USERS: usize = 6;

/// What became of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The right answer: `user_not_found` too, for a user that was deleted.
    Ok,
    /// 200 with an error code.
    Error(String),
    /// Any other status.
    Refused(StatusCode),
    /// The connection failed.
    NoAnswer(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Error(code) => f.write_str(code),
            Self::Refused(status) => write!(f, "{}", status.as_u16()),
            Self::NoAnswer(reason) => write!(f, "no answer: {reason}"),
        }
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub action: &'static str,
    pub start: Instant,
    pub duration: Duration,
    pub outcome: Outcome,
}

impl Attempt {
    pub fn end(&self) -> Instant {
        self.start + self.duration
    }

    pub fn is_read(&self) -> bool {
        self.action.starts_with("get_")
    }
}

/// How many requests have come to which end so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    pub reads: usize,
    pub writes: usize,
    pub failures: usize,
}

/// Callers at work. They end when this is dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    progress: watch::Receiver<Progress>,
    callers: Vec<JoinHandle<Caller>>,
}

impl Load {
    /// So many callers, every other one on HTTP/1.1.
    pub fn start(sidecar: &Sidecar, callers: usize) -> Self {
        Self::of((0..callers).map(|number| connection(sidecar.client(), number)))
    }

    /// A caller for each of these connections.
    pub fn of(connections: impl IntoIterator<Item = Box<dyn Post>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, progress) = watch::channel(Progress::default());
        let callers = connections
            .into_iter()
            .map(|connection| {
                let caller = Caller {
                    connection,
                    users: Vec::new(),
                    attempts: Vec::new(),
                    violations: Vec::new(),
                };
                tokio::spawn(caller.run(Arc::clone(&stop), sender.clone()))
            })
            .collect();
        Self { stop, progress, callers }
    }

    /// Waits until both reads and writes have succeeded a few times more.
    pub async fn succeeds(&self) {
        let now = *self.progress.borrow();
        self.wait_for("answered reads and writes", |progress| {
            progress.reads >= now.reads + 20 && progress.writes >= now.writes + 20
        })
        .await;
    }

    /// Waits until so many more reads have succeeded.
    pub async fn reads(&self, times: usize) {
        let now = *self.progress.borrow();
        self.wait_for("answered reads", |progress| progress.reads >= now.reads + times).await;
    }

    /// Waits until so many more requests have failed.
    pub async fn fails(&self, times: usize) {
        let now = *self.progress.borrow();
        self.wait_for("failures", |progress| progress.failures >= now.failures + times).await;
    }

    /// Waits until it has come so far.
    pub async fn wait_for(&self, what: &str, reached: impl FnMut(&Progress) -> bool) {
        let mut progress = self.progress.clone();
        timeout(PATIENCE, progress.wait_for(reached))
            .await
            .unwrap_or_else(|_| panic!("no more {what}: {:?}", self.progress.borrow()))
            .unwrap();
    }

    /// Ends it after the requests in hand.
    pub async fn stop(mut self) -> Record {
        self.stop.store(true, Ordering::Relaxed);
        let mut record = Record::default();
        for caller in std::mem::take(&mut self.callers) {
            let Caller { users, attempts, violations, .. } = caller.await.unwrap();
            record.users.extend(users);
            record.attempts.extend(attempts);
            record.violations.extend(violations);
        }
        record
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for caller in &self.callers {
            caller.abort();
        }
    }
}

/// What the callers saw.
#[derive(Default)]
pub struct Record {
    pub attempts: Vec<Attempt>,
    users: Vec<Known>,
    violations: Vec<String>,
}

impl Record {
    /// Everything acknowledged is there, nothing was answered that it belies, and each request was
    /// answered within `limit`.
    pub async fn check(&self, client: &Client, limit: Duration) {
        self.check_answers();
        for attempt in &self.attempts {
            assert!(!matches!(attempt.outcome, Outcome::NoAnswer(_)), "{attempt:?}");
            assert!(attempt.duration <= limit, "{attempt:?}");
        }
        self.check_users(client).await;
    }

    /// Nothing was answered that what was acknowledged before belies.
    pub fn check_answers(&self) {
        assert!(self.violations.is_empty(), "{:#?}", self.violations);
    }

    /// Everything acknowledged is there.
    pub async fn check_users(&self, client: &Client) {
        assert!(self.users.iter().any(|known| !known.is.is_null()), "there is something to lose");
        for known in &self.users {
            let answer = client.invoke("get_user", json!({ "user_id": known.id })).await;
            let seen = user_in(&answer);
            assert!(
                seen.as_ref().is_some_and(|seen| known.fits(seen)),
                "{answer} is not {known:?}"
            );
        }
    }

    /// How often each outcome came.
    pub fn outcomes(&self) -> BTreeMap<String, usize> {
        self.outcomes_of(|_| true)
    }

    /// The same of some requests.
    pub fn outcomes_of(&self, which: impl Fn(&Attempt) -> bool) -> BTreeMap<String, usize> {
        let mut outcomes = BTreeMap::new();
        for attempt in self.attempts.iter().filter(|attempt| which(attempt)) {
            *outcomes.entry(attempt.outcome.to_string()).or_default() += 1;
        }
        outcomes
    }

    /// From then to the answer of the first request that succeeded after it.
    pub fn first_success_after(&self, then: Instant) -> Option<Duration> {
        self.attempts
            .iter()
            .filter(|attempt| attempt.start >= then && attempt.outcome == Outcome::Ok)
            .map(|attempt| attempt.end() - then)
            .min()
    }
}

/// A user as one caller knows it; nobody else changes it.
#[derive(Debug)]
struct Known {
    id: Value,
    /// What the last acknowledged write left behind; null for a user that was deleted.
    is: Value,
    /// What a write of unknown outcome leaves behind, if it takes effect: now, later or never.
    may_be: Option<Value>,
}

impl Known {
    fn fits(&self, seen: &Value) -> bool {
        *seen == self.is || Some(seen) == self.may_be.as_ref()
    }

    /// Whether writes to it have a certain outcome.
    fn is_settled(&self) -> bool {
        !self.is.is_null() && self.may_be.is_none()
    }
}

/// The user in an answer, null for `user_not_found`, and nothing for an answer that says nothing
/// about a user.
fn user_in(answer: &Value) -> Option<Value> {
    match answer["error_code"].as_str() {
        None => Some(answer["values"]["user"].clone()),
        Some("user_not_found") => Some(Value::Null),
        Some(_) => None,
    }
}

struct Caller {
    connection: Box<dyn Post>,
    users: Vec<Known>,
    attempts: Vec<Attempt>,
    violations: Vec<String>,
}

impl Caller {
    async fn run(mut self, stop: Arc<AtomicBool>, progress: watch::Sender<Progress>) -> Self {
        for step in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            match step % 6 {
                0 => self.create_or_delete().await,
                1 | 3 => self.read(step, true).await,
                2 => self.change(step, false).await,
                4 => self.read(step, false).await,
                _ => self.change(step, true).await,
            }
            if let Some(attempt) = self.attempts.last() {
                progress.send_modify(|progress| match (&attempt.outcome, attempt.is_read()) {
                    (Outcome::Ok, true) => progress.reads += 1,
                    (Outcome::Ok, false) => progress.writes += 1,
                    _ => progress.failures += 1,
                });
            }
            tokio::time::sleep(PACE).await;
        }
        self
    }

    fn settled(&self) -> Vec<usize> {
        (0..self.users.len()).filter(|&index| self.users[index].is_settled()).collect()
    }

    async fn read(&mut self, step: usize, by_id: bool) {
        if self.users.is_empty() {
            return self.create_or_delete().await;
        }
        let index = (step / 2) % self.users.len();
        let known = &self.users[index];
        let answer = match (by_id, known.is["email_address"].clone()) {
            (false, email_address @ Value::String(_)) => {
                let arguments = json!({ "email_address": email_address });
                self.invoke("get_user_by_email_address", arguments).await
            }
            _ => self.invoke("get_user", json!({ "user_id": known.id })).await,
        };
        let Some(seen) = answer.as_ref().and_then(user_in) else { return };
        let known = &mut self.users[index];
        if !known.fits(&seen) {
            self.violations.push(format!("{seen} was read, and it is {known:?}"));
            return;
        }
        if seen != known.is {
            (known.is, known.may_be) = (seen, None);
        }
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.outcome = Outcome::Ok;
        }
    }

    async fn create_or_delete(&mut self) {
        let settled = self.settled();
        if settled.len() > USERS {
            let id = self.users[settled[0]].id.clone();
            let arguments = json!({ "user_id": id });
            return self.write(settled[0], "delete_user", arguments, Value::Null).await;
        }
        let answer = self.invoke("create_user", new_user(&email_address())).await;
        match answer.as_ref().map(|answer| (answer["ok"] == true, answer)) {
            Some((true, answer)) => {
                let user = answer["values"]["user"].clone();
                self.users.push(Known { id: user["id"].clone(), is: user, may_be: None });
            }
            Some((_, answer)) if answer["error_code"] == "email_address_already_used" => {
                self.violations.push(format!("{answer} to the first user of an email address"));
            }
            _ => {}
        }
    }

    /// Sets a password, or signs out.
    async fn change(&mut self, step: usize, password: bool) {
        let settled = self.settled();
        let Some(&index) = settled.get((step / 3) % settled.len().max(1)) else {
            return self.create_or_delete().await;
        };
        let user = self.users[index].is.clone();
        let mut changed = user.clone();
        let (action, counter, arguments) = if password {
            let hash = base64(format!("planted hash {step}"));
            changed["password_hash"] = json!(hash);
            let arguments = json!({
                "user_id": user["id"],
                "password_hash": hash,
                "password_hash_algorithm_id": user["password_hash_algorithm_id"],
                "password_salt": user["password_salt"],
                "user_password_hash_counter": user["password_hash_counter"],
            });
            ("update_user_password_hash", "password_hash_counter", arguments)
        } else {
            let seen = &user["sessions_counter"];
            let arguments = json!({ "user_id": user["id"], "user_sessions_counter": seen });
            ("increment_user_sessions_counter", "sessions_counter", arguments)
        };
        changed[counter] = json!(user[counter].as_i64().unwrap() + 1);
        self.write(index, action, arguments, changed).await;
    }

    /// One write to a settled user.
    async fn write(
        &mut self,
        index: usize,
        action: &'static str,
        arguments: Value,
        changed: Value,
    ) {
        let answer = self.invoke(action, arguments).await;
        let known = &mut self.users[index];
        match self.attempts.last().map(|attempt| &attempt.outcome) {
            Some(Outcome::Ok) => known.is = changed,
            // Nothing was changed, they say; the next read is held against it.
            Some(Outcome::Refused(_)) => {}
            Some(Outcome::Error(code)) if code == "internal_conflict" => {}
            Some(Outcome::Error(code)) if code == "user_not_found" => {
                self.violations.push(format!("{answer:?} to {action} of {known:?}"));
            }
            _ => known.may_be = Some(changed),
        }
    }

    /// Sends one request and records it; the answer if its status is 200.
    async fn invoke(&mut self, action: &'static str, arguments: Value) -> Option<Value> {
        let body = json!({ "action": action, "arguments": arguments }).to_string();
        let start = Instant::now();
        let reply = match timeout(PATIENCE, self.connection.post(body)).await {
            Ok(reply) => reply.map_err(|error| error.to_string()),
            Err(_) => Err("none came in time".to_owned()),
        };
        let duration = start.elapsed();
        let (outcome, answer) = match reply {
            Ok(reply) if reply.status == StatusCode::OK => {
                let answer = reply.json();
                let outcome = match answer["error_code"].as_str() {
                    Some(code) => Outcome::Error(code.to_owned()),
                    None => Outcome::Ok,
                };
                (outcome, Some(answer))
            }
            Ok(reply) => {
                let again = reply.header("retry-after");
                if reply.status != StatusCode::SERVICE_UNAVAILABLE || again.is_none() {
                    self.violations.push(format!("{action}: {reply:?}"));
                }
                (Outcome::Refused(reply.status), None)
            }
            Err(reason) => (Outcome::NoAnswer(reason), None),
        };
        self.attempts.push(Attempt { action, start, duration, outcome });
        answer
    }
}

/// The way of a caller's requests.
pub trait Post: Send {
    /// Sends one and gives what comes back.
    fn post(&mut self, body: String) -> Answer<'_>;
}

/// What comes back.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send + 'a>>;

/// How a caller is connected; it connects again when its connection has ended.
enum Connection {
    Http2(Client),
    Http1(Client, Option<SendRequest<Full<Bytes>>>),
}

/// A connection of HTTP/1.1 for every other number, of HTTP/2 else.
pub fn connection(client: Client, number: usize) -> Box<dyn Post> {
    Box::new(match number % 2 {
        0 => Connection::Http2(client),
        _ => Connection::Http1(client.http1(), None),
    })
}

impl Post for Connection {
    fn post(&mut self, body: String) -> Answer<'_> {
        Box::pin(self.send(body))
    }
}

impl Connection {
    async fn send(&mut self, body: String) -> Result<Reply, Error> {
        let (client, kept) = match self {
            Self::Http2(client) => return client.try_post(body).await,
            Self::Http1(client, kept) => (client, kept),
        };
        let usable = match kept {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        let mut sender = match kept.take() {
            Some(sender) if usable => sender,
            _ => {
                let io = TokioIo::new(client.connect().await?);
                let (sender, connection) = hyper::client::conn::http1::handshake(io).await?;
                tokio::spawn(connection);
                sender
            }
        };
        let request = client.request(Method::POST, "/", body);
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        *kept = Some(sender);
        Ok(Reply { status: parts.status, headers: parts.headers, body })
    }
}
