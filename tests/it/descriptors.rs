//! Fewer file descriptors than connections that come: the excess is closed before they run out, and
//! where they do run out all the same, that passes.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rlimit::Resource;
use tokio::net::TcpStream;

use crate::harness::{
    client::admin,
    email_address,
    load::Load,
    process::{PATIENCE, Pki, Process, Sidecar, SqliteFile, program},
};

/// Descriptors of the program, and connections that come all the same.
const DESCRIPTORS: usize = 64;
const CONNECTIONS: usize = 100;

const CALLERS: usize = 4;

/// What a request may take at the most: the timeout of the store, and what a busy machine adds.
const LIMIT: Duration = Duration::from_secs(10);

/// A sidecar with so few descriptors, and no way to more.
fn limited_sidecar(file: &SqliteFile) -> Sidecar {
    let pki = Arc::new(Pki::new());
    let mut options = pki.serve_options(&file.url());
    options.extend(["--db-max-connections", "1"].map(str::to_owned));
    let program = program(options);
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"ulimit -n "$1" && shift && exec "$@""#, "sh", &DESCRIPTORS.to_string()])
        .arg(program.get_program())
        .args(program.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let sidecar = Sidecar::of_process(Process::start(command), pki);
    sidecar.wait_until_ready();
    sidecar
}

/// Connections of somebody who says nothing.
async fn silent(address: SocketAddr) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(TcpStream::connect(address).await.unwrap());
    }
    connections
}

/// Descriptors that were freed are used: a new caller is served, and probes are answered.
async fn recovers(sidecar: &Sidecar) {
    let deadline = Instant::now() + PATIENCE;
    let body = r#"{"action":"get_user","arguments":{"user_id":"1"}}"#;
    while let Err(error) = sidecar.client().try_post(body).await {
        assert!(Instant::now() < deadline, "a new caller is not served: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(admin(sidecar.admin, path).await.status, StatusCode::OK, "{path}");
    }
}

/// The limit on connections is lowered to what the descriptors allow. Whoever is connected does not
/// notice that others are turned away, nor do probes.
#[tokio::test(flavor = "multi_thread")]
async fn more_callers_than_descriptors() {
    let file = SqliteFile::new();
    let sidecar = limited_sidecar(&file);
    let line = sidecar.process.wait_for_log("too low for --max-connections");
    assert!(line.contains(&format!(r#""descriptors":{DESCRIPTORS}"#)), "{line}");
    let load = Load::start(&sidecar, CALLERS);
    load.succeeds().await;

    let client = sidecar.client();
    let mut connected = Vec::new();
    for _ in 0..CONNECTIONS {
        connected.extend(client.connect().await);
    }
    assert!(!connected.is_empty());
    sidecar.process.wait_for_log("the excess is closed");
    load.succeeds().await;
    assert_eq!(admin(sidecar.admin, "/livez").await.status, StatusCode::OK);
    drop(connected);
    recovers(&sidecar).await;

    let strangers = silent(sidecar.endpoint).await;
    load.succeeds().await;
    assert_eq!(admin(sidecar.admin, "/livez").await.status, StatusCode::OK);
    drop(strangers);
    recovers(&sidecar).await;

    let record = load.stop().await;
    record.check(&client, LIMIT).await;
    let outcomes = record.outcomes();
    assert!(outcomes.keys().eq(["ok"]), "{outcomes:?}");
    assert!(!sidecar.process.log().contains("panicked"));
}

/// With so few descriptors the admin listener alone can use them up. Listeners wait for better
/// times, and callers that are connected are served.
#[tokio::test(flavor = "multi_thread")]
async fn no_descriptor_is_left() {
    let file = SqliteFile::new();
    let sidecar = limited_sidecar(&file);
    let load = Load::start(&sidecar, CALLERS);
    load.succeeds().await;
    let user = sidecar.client().create_user(&email_address()).await;

    let probes = silent(sidecar.admin).await;
    let strangers = silent(sidecar.endpoint).await;
    sidecar.process.wait_for_log("cannot accept a connection; the listener goes on");
    load.succeeds().await;
    drop((probes, strangers));
    recovers(&sidecar).await;

    let record = load.stop().await;
    let client = sidecar.client();
    record.check(&client, LIMIT).await;
    let outcomes = record.outcomes();
    assert!(outcomes.keys().eq(["ok"]), "{outcomes:?}");
    assert_eq!(client.get_user(&user).await, user);
    assert!(!sidecar.process.log().contains("panicked"));
}

/// A probe that stays connected: no other one gets in where there are no descriptors.
struct Probe(SendRequest<Empty<Bytes>>);

impl Probe {
    async fn connect(sidecar: &Sidecar) -> Self {
        let io = TokioIo::new(TcpStream::connect(sidecar.admin).await.unwrap());
        let (sender, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn readyz(&mut self) -> (StatusCode, String) {
        let request = Request::get("/readyz").header("host", "admin").body(Empty::new()).unwrap();
        self.0.ready().await.unwrap();
        let answer = self.0.send_request(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Asks until the answer has this status, and gives it.
    async fn wait_for(&mut self, status: StatusCode) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.readyz().await;
            if answer.0 == status {
                return answer.1;
            }
            assert!(Instant::now() < deadline, "never {status}: {answer:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A listener that accepts nobody for want of descriptors is a reason not to be ready, in words; and
/// none any more as soon as there are some.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_cannot_accept_is_not_ready() {
    let file = SqliteFile::new();
    let sidecar = Sidecar::ready(&file.url(), &[]);
    let mut probe = Probe::connect(&sidecar).await;
    assert_eq!(probe.readyz().await, (StatusCode::OK, "ok\n".to_owned()));

    // What it has open it keeps.
    let process = i32::try_from(sidecar.process.id()).unwrap();
    let (mut soft, mut hard) = (0, 0);
    rlimit::prlimit(process, Resource::NOFILE, None, Some((&mut soft, &mut hard))).unwrap();
    rlimit::prlimit(process, Resource::NOFILE, Some((3, hard)), None).unwrap();
    let client = sidecar.client();
    let stranger = TcpStream::connect(sidecar.endpoint).await.unwrap();
    let missing = probe.wait_for(StatusCode::SERVICE_UNAVAILABLE).await;
    let listener = "listener: connections cannot be accepted: Too many open files";
    assert!(missing.lines().any(|line| line.starts_with(listener)), "{missing}");
    sidecar.process.wait_for_log("cannot accept a connection; the listener goes on");

    rlimit::prlimit(process, Resource::NOFILE, Some((soft, hard)), None).unwrap();
    assert_eq!(probe.wait_for(StatusCode::OK).await, "ok\n");
    drop(stranger);
    let user = client.create_user(&email_address()).await;
    assert_eq!(client.get_user(&user).await, user);
}
