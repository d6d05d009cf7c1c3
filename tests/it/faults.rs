//! A store that is down, hangs, answers garbage, answers a wrong user, or dies in the middle of a
//! call: the caller sees what the tables say, and never `user_not_found`. `user-store`, "Errors".

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use faroe_sidecar::proto::{User, user_store_server::UserStoreServer};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Status, async_trait};

use crate::harness::{
    answering::{self, Answering, AnsweringStore},
    base64,
    client::{Client, admin, new_user},
    database::Kind,
    email_address, http2,
    metrics::wait_for_metrics,
    process::{PATIENCE, Pki, Process, Sidecar, SqliteFile, program},
    stores::StoreKind,
};

/// One invocation of each action.
fn invocations() -> [(&'static str, Value); 7] {
    [
        ("create_user", new_user(&email_address())),
        ("get_user", json!({ "user_id": "1" })),
        ("get_user_by_email_address", json!({ "email_address": email_address() })),
        (
            "update_user_email_address",
            json!({
                "user_id": "1",
                "email_address": email_address(),
                "user_email_address_counter": 0,
            }),
        ),
        (
            "update_user_password_hash",
            json!({
                "user_id": "1",
                "password_hash": base64("planted"),
                "password_hash_algorithm_id": "x",
                "password_salt": base64("planted"),
                "user_password_hash_counter": 0,
            }),
        ),
        ("increment_user_sessions_counter", json!({ "user_id": "1", "user_sessions_counter": 0 })),
        ("delete_user", json!({ "user_id": "1" })),
    ]
}

fn get_user() -> String {
    json!({ "action": "get_user", "arguments": { "user_id": "1" } }).to_string()
}

fn is_read(action: &str) -> bool {
    action.starts_with("get_")
}

/// What a store in a test does with every call.
type Behaviour = Arc<dyn Fn(&'static str) -> Answer + Send + Sync>;

/// What it answers.
pub(crate) enum Answer {
    Status(Code),
    User(User),
    /// A reply without its user.
    Nothing,
    /// No answer at all.
    Hang,
}

/// A real gRPC store that misbehaves.
#[derive(Clone)]
pub(crate) struct Misbehaving {
    behaviour: Behaviour,
    calls: Arc<AtomicUsize>,
}

impl Misbehaving {
    pub(crate) async fn start(
        behaviour: impl Fn(&'static str) -> Answer + Send + Sync + 'static,
    ) -> (Self, SocketAddr) {
        let store = Self::new(behaviour);
        let address = answering::serve(store.clone()).await;
        (store, address)
    }

    fn new(behaviour: impl Fn(&'static str) -> Answer + Send + Sync + 'static) -> Self {
        Self { behaviour: Arc::new(behaviour), calls: Arc::default() }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Answering for Misbehaving {
    async fn answer(&self, method: &'static str, _: &str) -> Result<Option<User>, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match (self.behaviour)(method) {
            Answer::Status(code) => Err(Status::new(code, "the store's own words")),
            Answer::User(user) => Ok(Some(user)),
            Answer::Nothing => Ok(None),
            Answer::Hang => std::future::pending().await,
        }
    }
}

async fn sidecar(store: SocketAddr, options: &[&str]) -> Sidecar {
    let url = format!("grpc://{store}");
    let sidecar = Sidecar::start(&url, options);
    sidecar.wait_until_ready();
    sidecar
}

/// The status codes of gRPC against the seven actions, over a real connection.
#[tokio::test(flavor = "multi_thread")]
async fn each_status_is_the_error_code_of_the_table() {
    use std::sync::atomic::AtomicI32;
    static CODE: AtomicI32 = AtomicI32::new(0);
    let (_store, address) =
        Misbehaving::start(|_| Answer::Status(Code::from_i32(CODE.load(Ordering::SeqCst)))).await;
    let sidecar = sidecar(address, &[]).await;
    let client = sidecar.client();
    for number in 1..=16 {
        CODE.store(number, Ordering::SeqCst);
        for (action, arguments) in invocations() {
            let expected = match (Code::from_i32(number), action) {
                (Code::AlreadyExists, "create_user" | "update_user_email_address") => {
                    "email_address_already_used"
                }
                (Code::NotFound, "create_user") => "internal_error",
                (Code::NotFound, _) => "user_not_found",
                (Code::Aborted, _) => "internal_conflict",
                _ => "internal_error",
            };
            let reply = client.invoke(action, arguments).await;
            assert_eq!(reply["error_code"], expected, "{action}, code {number}");
            assert!(!reply.to_string().contains("own words"), "the text stays here");
        }
    }
    // What may not be is called that.
    sidecar
        .process
        .wait_for_log("contract violation: the store answered ALREADY_EXISTS to get_user");
    sidecar.process.wait_for_log("contract violation: the store answered NOT_FOUND to create_user");
    sidecar.process.wait_for_log("the store's own words");
}

/// A user that is not the one that was asked for is nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_breaks_the_contract_is_internal_error() {
    let wrong = User {
        id: "2".to_owned(),
        email_address: "wrong@planted.example".to_owned(),
        ..User::default()
    };
    let negative = User { id: "1".to_owned(), sessions_counter: -1, ..User::default() };
    for (answer, checks) in [
        (
            Some(wrong),
            [
                "id_is_the_one_asked_for",
                "email_address_is_the_one_asked_for",
                "email_address_as_sent",
            ],
        ),
        (Some(negative), ["counters_not_negative"; 3]),
        (Some(User::default()), ["id_not_empty"; 3]),
        (None, ["user_present"; 3]),
    ] {
        let (_store, address) = Misbehaving::start(move |_| match &answer {
            Some(user) => Answer::User(user.clone()),
            None => Answer::Nothing,
        })
        .await;
        let sidecar = sidecar(address, &[]).await;
        let client = sidecar.client();
        let requests = invocations();
        for (action, check) in
            ["get_user", "get_user_by_email_address", "create_user"].into_iter().zip(checks)
        {
            let (_, arguments) = requests.iter().find(|(name, _)| *name == action).unwrap();
            assert_eq!(client.error_code(action, arguments.clone()).await, "internal_error");
            sidecar.process.wait_for_log(&format!("{action} failed the check {check}"));
        }
    }
}

/// A store that takes the call and never answers: `internal_error` when the time is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_is_internal_error_after_the_store_timeout() {
    let (store, address) = Misbehaving::start(|_| Answer::Hang).await;
    let sidecar = sidecar(address, &["--store-timeout", "500ms"]).await;
    let client = sidecar.client();
    for (action, arguments) in invocations() {
        let start = Instant::now();
        assert_eq!(client.error_code(action, arguments).await, "internal_error", "{action}");
        assert!(start.elapsed() >= Duration::from_millis(450), "it was given its time");
    }
    assert_eq!(store.calls(), 7, "nothing is sent twice");
}

/// Nobody listens: the calls certainly never reached the store, so they may be repeated.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_is_503_and_one_that_comes_up_is_used() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let sidecar = Sidecar::start(&format!("grpc://{address}"), &[]);
    let client = sidecar.client();
    for (action, arguments) in invocations() {
        let body = json!({ "action": action, "arguments": arguments }).to_string();
        let reply = client.post(body).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{action}");
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    let ready = admin(sidecar.admin, "/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready.text().contains("store: no connection to the store"), "{}", ready.text());
    assert_eq!(admin(sidecar.admin, "/livez").await.status, StatusCode::OK);

    let store = Misbehaving::new(|_| Answer::User(User { id: "1".to_owned(), ..User::default() }));
    answering::serve_on(TcpListener::bind(address).await.unwrap(), store);
    sidecar.wait_until_ready();
    assert_eq!(client.values("get_user", json!({ "user_id": "1" })).await["user"]["id"], "1");
    assert_eq!(admin(sidecar.admin, "/readyz").await.status, StatusCode::OK);
}

/// A peer that is no gRPC store at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_answers_garbage_is_an_error_and_never_user_not_found() {
    for garbage in [&b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"[..], &[0xff; 1000], b""]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut preface = [0; 24];
                let _ = stream.read_exact(&mut preface).await;
                let _ = stream.write_all(garbage).await;
            }
        });
        let options = ["--store-timeout", "500ms"];
        let sidecar = Sidecar::start(&format!("grpc://{address}"), &options);
        never_not_found(&sidecar.client()).await;
    }
}

/// A proxy between the two that has no store behind it answers plain HTTP statuses.
#[tokio::test(flavor = "multi_thread")]
async fn http_statuses_instead_of_grpc_are_internal_error() {
    use http_body_util::Full;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    for status in [200, 400, 401, 403, 404, 429, 500, 502, 503, 504] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = hyper::service::service_fn(move |_| async move {
                    let body = Full::<bytes::Bytes>::from("no store here");
                    http::Response::builder().status(status).body(body)
                });
                tokio::spawn(
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        let sidecar = Sidecar::start(&format!("grpc://{address}"), &[]);
        let client = sidecar.client();
        for (action, arguments) in invocations() {
            let code = client.error_code(action, arguments).await;
            assert_eq!(code, "internal_error", "{action}, HTTP {status}");
        }
        // Nor is it taken for a store that has no health service.
        sidecar.process.wait_for_log("when asked for its health");
    }
}

/// What a call carries beside its message: its deadline, and nothing that identifies a person.
#[tokio::test(flavor = "multi_thread")]
async fn each_call_carries_its_deadline() {
    use http_body_util::Full;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let (seen, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = seen.clone();
            let service = hyper::service::service_fn(move |request: http::Request<_>| {
                let (head, _): (_, hyper::body::Incoming) = request.into_parts();
                let _ = seen.send(head);
                async {
                    Ok::<_, std::convert::Infallible>(http::Response::new(
                        Full::<bytes::Bytes>::default(),
                    ))
                }
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    let sidecar = Sidecar::start(&format!("grpc://{address}"), &["--store-timeout", "3s"]);
    let client = sidecar.client();
    for (action, arguments) in invocations() {
        client.invoke(action, arguments).await;
        let head = loop {
            let head = heads.recv().await.unwrap();
            if head.uri.path().starts_with("/faroe.userstore.v1.UserStore/") {
                break head;
            }
        };
        let timeout = head.headers["grpc-timeout"].to_str().unwrap();
        let (number, unit) = timeout.split_at(timeout.len() - 1);
        let number: u64 = number.parse().unwrap();
        let left = match unit {
            "n" => Duration::from_nanos(number),
            "u" => Duration::from_micros(number),
            "m" => Duration::from_millis(number),
            _ => Duration::from_secs(number),
        };
        assert!(left <= Duration::from_secs(3) && left > Duration::from_secs(1), "{timeout}");
        assert_eq!(head.uri.authority().unwrap().as_str(), address.to_string());
        let names: Vec<_> = head.headers.keys().map(|name| name.as_str()).collect();
        for name in names {
            assert!(
                ["content-type", "grpc-timeout", "te", "user-agent"].contains(&name),
                "{action} sends {name}"
            );
        }
    }
}

/// Whatever is wrong with the store, nobody is signed out for it.
async fn never_not_found(client: &Client) {
    for (action, arguments) in invocations() {
        let body = json!({ "action": action, "arguments": arguments }).to_string();
        let reply = client.post(body).await;
        match reply.status {
            StatusCode::OK => assert_eq!(reply.json()["error_code"], "internal_error", "{action}"),
            status => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{action}"),
        }
    }
}

/// A proxy in front of a real store that cuts the connection at the moment a call comes through.
struct CuttingProxy {
    address: SocketAddr,
    /// How many of the next calls are cut.
    cuts: Arc<AtomicUsize>,
    cut: Arc<Notify>,
}

impl CuttingProxy {
    /// Lets everything through until it is told to cut; then it ends each connection as soon as
    /// the client has sent something on it, before the store can answer.
    async fn start(store: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicUsize::new(0));
        let cut = Arc::new(Notify::new());
        let proxy = Self { address, cuts: Arc::clone(&cuts), cut: Arc::clone(&cut) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, store, Arc::clone(&cuts), Arc::clone(&cut)));
            }
        });
        proxy
    }
}

/// What a client of HTTP/2 sends: its preface, then frames.
#[derive(Default)]
struct Frames {
    preface_read: bool,
    pending: Vec<u8>,
}

impl Frames {
    /// Whether a call begins in these bytes: a HEADERS frame (type 1), not settings and the like.
    fn have_a_call(&mut self, bytes: &[u8]) -> bool {
        self.pending.extend_from_slice(bytes);
        if !self.preface_read && self.pending.len() >= 24 {
            self.preface_read = true;
            self.pending.drain(..24);
        }
        let mut call = false;
        while let (true, &[a, b, c, kind, _, _, _, _, _, ..]) =
            (self.preface_read, self.pending.as_slice())
        {
            let frame = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
            if self.pending.len() < frame {
                break;
            }
            call |= kind == 1;
            self.pending.drain(..frame);
        }
        call
    }
}

async fn relay(client: TcpStream, store: SocketAddr, cuts: Arc<AtomicUsize>, cut: Arc<Notify>) {
    let Ok(store) = TcpStream::connect(store).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_store, mut to_store) = store.into_split();
    let back = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_store, &mut to_client).await;
    });
    let mut frames = Frames::default();
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
        let is_call = frames.have_a_call(&buffer[..read]);
        let take = |left: usize| left.checked_sub(1);
        if is_call && cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
            cut.notify_one();
            break;
        }
        if to_store.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    back.abort();
}

/// The connection is lost before the answer: a read is asked once more, a write is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_dies_in_the_middle_of_a_call() {
    let (store, address) = Misbehaving::start(|method| match method {
        "get_user" => Answer::User(User { id: "1".to_owned(), ..User::default() }),
        _ => Answer::Status(Code::NotFound),
    })
    .await;
    let proxy = CuttingProxy::start(address).await;
    let sidecar = sidecar(proxy.address, &[]).await;
    let client = sidecar.client();

    // Cut once: the second attempt of a read succeeds.
    proxy.cuts.store(1, Ordering::SeqCst);
    assert_eq!(client.values("get_user", json!({ "user_id": "1" })).await["user"]["id"], "1");
    proxy.cut.notified().await;
    assert_eq!(store.calls(), 1);

    // Cut twice: a read gives up, and it is not the user who is missing.
    proxy.cuts.store(2, Ordering::SeqCst);
    assert_eq!(client.error_code("get_user", json!({ "user_id": "1" })).await, "internal_error");
    assert_eq!(proxy.cuts.load(Ordering::SeqCst), 0);
    assert_eq!(store.calls(), 1);

    // A write is sent once, whatever became of it.
    for (action, arguments) in invocations().into_iter().filter(|(action, _)| !is_read(action)) {
        proxy.cuts.store(2, Ordering::SeqCst);
        assert_eq!(client.error_code(action, arguments).await, "internal_error", "{action}");
        assert_eq!(proxy.cuts.load(Ordering::SeqCst), 1, "{action} was sent once");
        assert_eq!(store.calls(), 1);
    }
}

/// The store goes away for good in the middle of a call: it may have been asked, so that this is
/// not the 503 of a call that never was.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_goes_away_in_the_middle_of_a_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked_for_health = Arc::new(Notify::new());
    let asked = Arc::clone(&asked_for_health);
    let store = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // An empty SETTINGS frame, and one that acknowledges the client's.
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        stream.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await.unwrap();
        let mut frames = Frames::default();
        let mut buffer = [0; 16 * 1024];
        // The first call is the look at its health, which stays without an answer, so that there
        // is no second one; the next is that of the test.
        for _ in 0..2 {
            while {
                let read = stream.read(&mut buffer).await.unwrap();
                !frames.have_a_call(&buffer[..read])
            } {}
            asked.notify_one();
        }
    });
    let sidecar = Sidecar::start(&format!("grpc://{address}"), &[]);
    asked_for_health.notified().await;
    let client = sidecar.client();
    let answer = client.invoke("get_user", json!({ "user_id": "1" })).await;
    assert_eq!(answer["error_code"], "internal_error", "{answer}");
    store.await.unwrap();
}

/// What a store says as it closes a connection comes from outside: the log has one short line of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_says_at_the_end_of_a_connection_is_shortened() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        // GOAWAY with ENHANCE_YOUR_CALM, as long as a frame may be.
        let said = "its own words ".repeat(1100);
        let goaway = [&[0; 4], &http2::ENHANCE_YOUR_CALM.to_be_bytes()[..], said.as_bytes()];
        let goaway = http2::frame(http2::GOAWAY, 0, 0, &goaway.concat());
        while let Ok((mut stream, _)) = listener.accept().await {
            let goaway = goaway.clone();
            tokio::spawn(async move {
                let settings = http2::frame(http2::SETTINGS, 0, 0, &[]);
                let acknowledged = http2::frame(http2::SETTINGS, http2::ACK, 0, &[]);
                stream.write_all(&[settings, acknowledged].concat()).await.unwrap();
                let mut frames = Frames::default();
                let mut buffer = [0; 16 * 1024];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    if frames.have_a_call(&buffer[..read]) {
                        let _ = stream.write_all(&goaway).await;
                        return;
                    }
                }
            });
        }
    });
    let sidecar = Sidecar::start(&format!("grpc://{address}"), &[]);
    sidecar.client().post(get_user()).await;
    let line = sidecar.process.wait_for_log("its own words");
    assert!(line.len() < 1000, "{} bytes: {line}", line.len());
    sidecar.process.wait_for_log("\"invoked\"");
    let log = sidecar.process.log();
    let longest = log.lines().map(str::len).max().unwrap();
    assert!(longest < 1000, "{longest} bytes:\n{log}");
}

/// Calls do not wait one after another for a store that is away: after some in a row that were not
/// answered, one at a time tries it, and the others are told at once to come again.
#[tokio::test(flavor = "multi_thread")]
async fn calls_fail_at_once_while_the_store_is_away() {
    let hangs = Arc::new(AtomicBool::new(true));
    let (store, address) = Misbehaving::start({
        let hangs = Arc::clone(&hangs);
        move |_| match hangs.load(Ordering::SeqCst) {
            true => Answer::Hang,
            false => Answer::Status(Code::NotFound),
        }
    })
    .await;
    let sidecar = sidecar(address, &["--store-timeout", "2s"]).await;
    let client = sidecar.client();
    let get_user = get_user();
    for _ in 0..5 {
        let reply = client.post(get_user.clone()).await;
        assert_eq!(reply.json()["error_code"], "internal_error");
    }
    let line = sidecar.process.wait_for_log("the store is away: calls fail at once");
    assert!(line.contains("\"WARN\""), "{line}");

    let probe = tokio::spawn({
        let (client, body) = (sidecar.client(), get_user.clone());
        async move { client.post(body).await }
    });
    while store.calls() < 6 {
        assert!(!probe.is_finished(), "the probe does not arrive");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut refused = 0;
    while !probe.is_finished() {
        let reply = client.post(get_user.clone()).await;
        if reply.status == StatusCode::SERVICE_UNAVAILABLE {
            assert_eq!(reply.header("retry-after"), Some("1"));
            refused += 1;
        }
    }
    assert!(refused > 0, "all of them waited for the store");
    let calls = store.calls();
    assert!(calls <= 7, "one at a time: {calls} calls");

    hangs.store(false, Ordering::SeqCst);
    assert_eq!(probe.await.unwrap().json()["error_code"], "internal_error");
    // One of these may be told so while another one is the probe; none of them waits.
    let deadline = Instant::now() + PATIENCE;
    while client.post(get_user.clone()).await.status != StatusCode::OK {
        assert!(Instant::now() < deadline, "the store is not used again");
    }
    for _ in 0..20 {
        assert_eq!(
            client.error_code("get_user", json!({ "user_id": "1" })).await,
            "user_not_found"
        );
    }
    sidecar.process.wait_for_log("the store answers again");
}

/// What a store answers is never a reason to leave it alone.
#[tokio::test(flavor = "multi_thread")]
async fn errors_that_the_store_answers_do_not_count_as_its_absence() {
    for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Internal] {
        let (store, address) = Misbehaving::start(move |_| Answer::Status(code)).await;
        let sidecar = sidecar(address, &[]).await;
        let client = sidecar.client();
        for _ in 0..20 {
            let error = client.error_code("get_user", json!({ "user_id": "1" })).await;
            assert_eq!(error, "internal_error");
        }
        assert_eq!(store.calls(), 20, "{code:?}");
        let log = sidecar.process.log();
        assert!(!log.contains("the store is away"), "{code:?}:\n{log}");
    }
}

/// A store that says it is not serving makes the sidecar not ready; calls go through.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_serving_makes_the_sidecar_not_ready() {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_not_serving::<UserStoreServer<AnsweringStore<Misbehaving>>>().await;
    let store = Misbehaving::new(|_| Answer::User(User { id: "1".to_owned(), ..User::default() }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(UserStoreServer::new(AnsweringStore(store)))
            .add_service(health)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let sidecar = Sidecar::start(&format!("grpc://{address}"), &[]);
    sidecar.process.wait_for_log("the store answered NOT_SERVING when asked for its health");
    let ready = admin(sidecar.admin, "/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    let client = sidecar.client();
    assert_eq!(client.values("get_user", json!({ "user_id": "1" })).await["user"]["id"], "1");
    reporter.set_serving::<UserStoreServer<AnsweringStore<Misbehaving>>>().await;
    sidecar.wait_until_ready();
}

/// A store without `grpc.health.v1`, or with one that does not know the `UserStore`, is taken as it
/// is; one that has it and does not say that it serves is not ready.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_missing_health_service_is_as_good_as_one_that_serves() {
    use tonic_health::pb::{
        HealthCheckRequest, HealthCheckResponse,
        health_check_response::ServingStatus,
        health_server::{Health, HealthServer},
    };
    struct Says(tokio::sync::watch::Receiver<Result<ServingStatus, Code>>);
    #[async_trait]
    impl Health for Says {
        type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

        async fn check(
            &self,
            _: tonic::Request<HealthCheckRequest>,
        ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
            let status = (*self.0.borrow()).map_err(|code| Status::new(code, "its own words"))?;
            Ok(tonic::Response::new(HealthCheckResponse { status: status.into() }))
        }

        async fn watch(
            &self,
            _: tonic::Request<HealthCheckRequest>,
        ) -> Result<tonic::Response<Self::WatchStream>, Status> {
            Err(Status::unimplemented(""))
        }
    }
    let (says, heard) = tokio::sync::watch::channel(Ok(ServingStatus::Serving));
    let store = Misbehaving::new(|_| Answer::Status(Code::NotFound));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(UserStoreServer::new(AnsweringStore(store)))
            .add_service(HealthServer::new(Says(heard)))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let sidecar = sidecar(address, &[]).await;
    let available = async |expected: f64| {
        wait_for_metrics(&sidecar, "the store's health", |metrics| {
            metrics.value("store_available") == expected
        })
        .await;
    };
    let mut fine = [Err(Code::Unimplemented), Err(Code::NotFound), Ok(ServingStatus::Serving)]
        .into_iter()
        .cycle();
    for (answer, words) in [
        (Err(Code::Unavailable), "UNAVAILABLE"),
        (Ok(ServingStatus::NotServing), "NOT_SERVING"),
        (Ok(ServingStatus::Unknown), "UNKNOWN"),
        (Err(Code::Internal), "INTERNAL"),
        (Err(Code::PermissionDenied), "PERMISSION_DENIED"),
        (Err(Code::Unknown), "UNKNOWN"),
    ] {
        let _ = says.send_replace(answer);
        available(0.0).await;
        sidecar.process.wait_for_log(&format!("the store answered {words} when asked for its"));
        let _ = says.send_replace(fine.next().unwrap());
        available(1.0).await;
    }
    // Whatever it says, calls go through.
    let _ = says.send_replace(Ok(ServingStatus::NotServing));
    available(0.0).await;
    let error = sidecar.client().error_code("get_user", json!({ "user_id": "1" })).await;
    assert_eq!(error, "user_not_found");
}

/// Several addresses behind one name are all used, and one that is gone is done without.
#[tokio::test(flavor = "multi_thread")]
async fn calls_are_spread_over_the_addresses_of_a_name() {
    let user = || Answer::User(User { id: "1".to_owned(), ..User::default() });
    let (first, address) = Misbehaving::start(move |_| user()).await;
    let port = address.port();
    let second = Misbehaving::new(move |_| user());
    let listener = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    // A runtime of its own, so that its end is that of all its connections.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    {
        let _guard = runtime.enter();
        let listener = TcpListener::from_std(listener.into_std().unwrap()).unwrap();
        answering::serve_on(listener, second.clone());
    }

    // The program sees a hosts file of its own, in which the store has two addresses.
    let pki = Arc::new(Pki::new());
    let hosts = pki.authority.folder().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost store.test\n127.0.0.2 store.test\n").unwrap();
    let mut arguments = pki.serve_options(&format!("grpc://store.test:{port}"));
    arguments.push("--insecure-store".to_owned());
    let program = program(arguments);
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "sh", "-c"])
        .arg("mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"")
        .arg("sh")
        .arg(&hosts)
        .arg(program.get_program())
        .args(program.get_args())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let sidecar = Sidecar::of_process(Process::start(command), pki);
    sidecar.wait_until_ready();

    let client = sidecar.client();
    let mut asked = 0;
    while first.calls() == 0 || second.calls() == 0 {
        client.values("get_user", json!({ "user_id": "1" })).await;
        asked += 1;
        assert!(asked < 10_000, "one of the two is not used");
    }
    tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(1)))
        .await
        .unwrap();
    let before = second.calls();
    for _ in 0..100 {
        client.values("get_user", json!({ "user_id": "1" })).await;
    }
    assert_eq!(second.calls(), before);
}

/// A caller that goes away while the store works on its write does not break the write off.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_caller_has_gone_is_awaited() {
    struct Slow {
        entered: Arc<Notify>,
        leave: Arc<Notify>,
        finished: Arc<Notify>,
    }
    let (entered, leave, finished) =
        (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = Slow {
        entered: Arc::clone(&entered),
        leave: Arc::clone(&leave),
        finished: Arc::clone(&finished),
    };
    #[async_trait]
    impl Answering for Slow {
        async fn answer(&self, _: &'static str, _: &str) -> Result<Option<User>, Status> {
            self.entered.notify_one();
            // A call that is broken off is dropped here, and never finishes.
            self.leave.notified().await;
            self.finished.notify_one();
            Ok(None)
        }
    }
    let address = answering::serve(slow).await;
    let mut sidecar = sidecar(address, &[]).await;
    for http1 in [true, false] {
        let client = if http1 { sidecar.client().http1() } else { sidecar.client() };
        let call = tokio::spawn(async move {
            let body = r#"{"action":"delete_user","arguments":{"user_id":"1"}}"#;
            client.try_post(body).await
        });
        entered.notified().await;
        call.abort();
        let _ = call.await;
        if !http1 {
            sidecar.process.wait_for_log("a caller went away before its answer");
        }
        leave.notify_one();
        tokio::time::timeout(Duration::from_secs(4), finished.notified()).await.unwrap();
    }
    // Over HTTP/2 a caller can go away from one request, and nobody else is left to log it.
    let line = sidecar.process.wait_for_log("\"message\":\"invoked\"");
    assert!(line.contains("delete_user") && line.contains("\"outcome\":\"ok\""), "{line}");

    // Nor does the end of the sidecar.
    let client = sidecar.client();
    let call = tokio::spawn(async move {
        client.try_post(r#"{"action":"delete_user","arguments":{"user_id":"1"}}"#).await
    });
    entered.notified().await;
    call.abort();
    let _ = call.await;
    sidecar.process.signal("TERM");
    sidecar.process.wait_for_log("draining");
    leave.notify_one();
    tokio::time::timeout(Duration::from_secs(4), finished.notified()).await.unwrap();
    assert_eq!(sidecar.process.wait().code(), Some(0));
}

/// The address of a database server at which nobody listens.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_is_503() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    for scheme in ["postgres", "mysql"] {
        let url = format!("{scheme}://faroe:planted@127.0.0.1:{port}/users");
        let sidecar = Sidecar::start(&url, &["--store-timeout", "500ms"]);
        let client = sidecar.client();
        for (action, arguments) in invocations() {
            let body = json!({ "action": action, "arguments": arguments }).to_string();
            let reply = client.post(body).await;
            assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{scheme} {action}");
            assert_eq!(reply.header("retry-after"), Some("1"));
        }
    }
}

/// A table that is not there is no absent user.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_its_table_is_internal_error() {
    for kind in Kind::ALL {
        let running = StoreKind::Bundled(kind).start(&[]);
        running.database.execute("DROP TABLE users").await;
        for (action, arguments) in invocations() {
            let code = running.client().error_code(action, arguments).await;
            assert_eq!(code, "internal_error", "{kind:?} {action}");
        }
    }
}

/// A file that is no database stops the start, and is left as it is.
#[test]
fn a_file_that_is_no_database_stops_the_start() {
    let file = SqliteFile::new();
    std::fs::write(&file.path, "this is not a database, but it is long enough to look like one")
        .unwrap();
    let pki = Pki::new();
    let output = crate::harness::process::run(pki.serve_options(&file.url()));
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("not a database"), "{error}");
    assert!(std::fs::read_to_string(&file.path).unwrap().starts_with("this is not"));
}
