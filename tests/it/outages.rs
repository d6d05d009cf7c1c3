//! The store goes away under load, and comes back: killed, restarted, paused, or behind a network
//! that loses every packet or is cut. What callers see meanwhile, what the log says, and that nothing that was
//! acknowledged is lost.

use std::{
    net::SocketAddr,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::task::block_in_place;

use crate::harness::{
    base64,
    client::new_user,
    database::{Kind, Server, Stop},
    email_address,
    load::{Attempt, Load, Record},
    network::Network,
    process::{Process, Sidecar, SqliteFile, program},
};

const CALLERS: usize = 8;

/// What each request may take, and what a busy machine adds to it.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);
const SLACK: Duration = Duration::from_secs(5);

/// How long a store stays away: longer than the timeout of a call.
const AWAY: Duration = Duration::from_millis(1_500);

/// When a store that is back is used again. The benchmark holds a release build to it on a machine
/// that does nothing else; here a busy machine adds to it.
const BACK_IN_USE: Duration = Duration::from_secs(1);

/// A sidecar under load whose store is about to go away.
struct Subject {
    sidecar: Sidecar,
    load: Load,
    returns: Vec<Instant>,
}

impl Subject {
    /// Reads and writes succeed.
    async fn at_work(url: &str) -> Self {
        let options = ["--store-timeout", "1s", "--migrate"];
        let of_a_database = usize::from(!url.starts_with("grpc"));
        let sidecar = Sidecar::ready(url, &options[..2 + of_a_database]);
        let load = Load::start(&sidecar, CALLERS);
        load.succeeds().await;
        Self { sidecar, load, returns: Vec::new() }
    }

    /// The store is away from now on, and stays so for [`AWAY`], and until callers were told.
    async fn away(&self) {
        let end = Instant::now() + AWAY;
        self.load.fails(CALLERS).await;
        tokio::time::sleep_until(end.into()).await;
    }

    /// The store is back: reads and writes succeed again.
    async fn back(&mut self) {
        self.returns.push(Instant::now());
        self.load.succeeds().await;
    }

    /// Nothing is lost, nobody waited too long, each return was noticed, and the log says what kept
    /// callers from their answers.
    async fn conclude(self) -> Record {
        let Self { sidecar, load, returns } = self;
        let record = load.stop().await;
        record.check(&sidecar.client(), STORE_TIMEOUT + SLACK).await;
        for back in returns {
            let first = record.first_success_after(back).unwrap();
            assert!(first < BACK_IN_USE + SLACK, "it was used again after {first:?}");
        }
        let outcomes = record.outcomes();
        assert!(outcomes.len() > 1, "it was away: {outcomes:?}");
        let log = sidecar.process.log();
        let logged = |part: &str| log.lines().any(|line| line.contains(part));
        for outcome in outcomes.keys() {
            match outcome.as_str() {
                "ok" => {}
                // After some failures in a row it is said of all calls at once.
                "503" => assert!(
                    logged("the store could not be reached") || logged("the store is away"),
                    "the log says why"
                ),
                "internal_error" | "internal_conflict" => {
                    let line = sidecar.process.wait_for_log(&format!(r#""outcome":"{outcome}""#));
                    assert!(line.contains(r#""failure":"the "#), "{line}");
                }
                _ => panic!("{outcomes:?}"),
            }
        }
        assert!(!logged("panicked"));
        record
    }
}

/// Whether some callers were told so.
fn told(record: &Record, outcome: &str) -> bool {
    record.outcomes().contains_key(outcome)
}

/// A gRPC store on a file, at an address where nobody else looks for a free port.
fn grpc_store(file: &SqliteFile, listen: &str) -> (Process, SocketAddr) {
    let listen = format!("tcp://{listen}");
    let arguments = ["store", "--store", &file.url(), "--listen", &listen, "--log-format", "json"];
    let store = Process::start(program(arguments));
    let line: serde_json::Value =
        serde_json::from_str(&store.wait_for_log("\"listening\"")).unwrap();
    let address = line["store"].as_str().unwrap().trim_start_matches("tcp://").parse().unwrap();
    (store, address)
}

/// Calls that found nobody are refused; those in hand fail, and the users are all there.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_killed_and_started_again() {
    let file = SqliteFile::new();
    let (mut store, address) = grpc_store(&file, "127.0.2.1:0");
    let mut subject = Subject::at_work(&format!("grpc://{address}")).await;
    let mut absences = Vec::new();
    for _ in 0..2 {
        let start = Instant::now();
        store.kill();
        subject.away().await;
        absences.push(start..Instant::now());
        (store, _) = grpc_store(&file, &address.to_string());
        subject.back().await;
    }
    let record = subject.conclude().await;
    assert!(told(&record, "503"), "{:?}", record.outcomes());
    // The loss of a connection is seen at once; a machine that is busy has a second for it.
    for Range { start, end } in absences {
        let noticed = start + Duration::from_secs(1);
        let seen = record.outcomes_of(|attempt| noticed <= attempt.start && attempt.end() < end);
        assert!(seen.keys().all(|outcome| outcome == "503"), "{seen:?}");
    }
}

/// A pause such as a collection of garbage or a move to another host: the store's system takes what
/// it has room for and no more, and the store answers all of it when it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn calls_in_hand_are_answered_after_a_pause_of_the_store() {
    const CALLS: usize = 64;
    const PAUSE: Duration = Duration::from_secs(3);
    let file = SqliteFile::new();
    let (store, address) = grpc_store(&file, "127.0.0.1:0");
    let sidecar = Sidecar::ready(&format!("grpc://{address}"), &["--store-timeout", "10s"]);
    let client = Arc::new(sidecar.client());
    client.values("create_user", new_user(&email_address())).await;

    store.signal("STOP");
    let end = Instant::now() + PAUSE;
    // Together 2.5 MiB.
    let hash = base64("planted ".repeat(5 << 10));
    let calls: Vec<_> = (0..CALLS)
        .map(|_| {
            let mut user = new_user(&email_address());
            user["password_hash"] = json!(hash);
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.invoke("create_user", user).await })
        })
        .collect();
    tokio::time::sleep_until(end.into()).await;
    assert!(calls.iter().all(|call| !call.is_finished()), "they are in hand");
    store.signal("CONT");
    for call in calls {
        let answer = call.await.unwrap();
        assert_eq!(answer["ok"], true, "{answer}");
    }
}

/// The system sends lost data again ever more rarely: after seven seconds of silence not before
/// another five. A new connection is there sooner.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_is_made_as_soon_as_packets_arrive_again() {
    const LOST: Duration = Duration::from_secs(7);
    const SOON: Duration = Duration::from_secs(2);
    let peer = Peer::grpc();
    let network = Network::to(peer.address).await;
    let mut subject = Subject::at_work(&network.redirect(&peer.url)).await;
    network.stall();
    let start = Instant::now();
    tokio::time::sleep(LOST).await;
    let lost = start..Instant::now();
    network.restore();
    subject.back().await;
    let record = subject.conclude().await;
    let first = record.first_success_after(lost.end).unwrap();
    assert!(first < SOON, "it was used again after {first:?}");
    // What was in hand had its second and nobody's answer; soon after that, callers are told that
    // nothing was changed.
    let known = lost.start + Duration::from_secs(5);
    let seen = record.outcomes_of(|attempt| known <= attempt.start && attempt.end() < lost.end);
    assert!(seen.keys().all(|outcome| outcome == "503"), "{seen:?}");
    // No packet came through.
    let noticed = lost.start + Duration::from_millis(500);
    let through = |attempt: &Attempt| noticed <= attempt.start && attempt.end() < lost.end;
    assert!(!record.outcomes_of(through).contains_key("ok"));
}

/// A restart as an operator does it, and one after a crash.
async fn a_database_server_is_restarted(kind: Kind) {
    let server = block_in_place(|| Server::private(kind));
    let database = server.database();
    let mut subject = Subject::at_work(&database.url).await;
    for how in [Stop::Orderly, Stop::Crash] {
        block_in_place(|| server.stop(how));
        subject.away().await;
        block_in_place(|| server.start());
        subject.back().await;
    }
    let record = subject.conclude().await;
    assert!(told(&record, "503"), "{:?}", record.outcomes());
}

/// A server that hangs with its connections open: calls that wait for it are over in time, those
/// that find no connection were not made, and what it does late it does right.
async fn a_database_server_is_paused(kind: Kind) {
    let server = block_in_place(|| Server::private(kind));
    let database = server.database();
    let mut subject = Subject::at_work(&database.url).await;
    block_in_place(|| server.pause());
    subject.away().await;
    block_in_place(|| server.resume());
    subject.back().await;
    subject.conclude().await;
}

/// Packets that get lost, all of them: nobody is told, and what is sent again arrives in the end.
async fn the_network_stalls(peer: Peer) {
    let network = Network::to(peer.address).await;
    let mut subject = Subject::at_work(&network.redirect(&peer.url)).await;
    network.stall();
    subject.away().await;
    network.restore();
    subject.back().await;
    subject.conclude().await;
}

/// Connections that are reset in the middle of calls, and new ones too for a while.
async fn the_network_is_cut(peer: Peer) {
    let network = Network::to(peer.address).await;
    let mut subject = Subject::at_work(&network.redirect(&peer.url)).await;
    network.cut();
    subject.away().await;
    network.restore();
    subject.back().await;
    let record = subject.conclude().await;
    assert!(told(&record, "503"), "{:?}", record.outcomes());
}

/// What is at the far end of a network.
struct Peer {
    address: SocketAddr,
    url: String,
    _store: Option<(Process, SqliteFile)>,
}

impl Peer {
    fn grpc() -> Self {
        let file = SqliteFile::new();
        let (store, address) = grpc_store(&file, "127.0.0.1:0");
        Self { address, url: format!("grpc://{address}"), _store: Some((store, file)) }
    }

    fn database(kind: Kind) -> Self {
        let database = kind.database();
        Self { address: Server::of(kind).address(), url: database.url, _store: None }
    }
}

macro_rules! on_every_server {
    ($($behaviour:ident),* $(,)?) => {$(
        mod $behaviour {
            use crate::harness::database::Kind;

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                super::$behaviour(Kind::Postgres).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn mariadb() {
                super::$behaviour(Kind::MariaDb).await;
            }
        }
    )*};
}
on_every_server!(a_database_server_is_restarted, a_database_server_is_paused);

macro_rules! towards_every_peer {
    ($($behaviour:ident),* $(,)?) => {$(
        mod $behaviour {
            use super::Peer;
            use crate::harness::database::Kind;

            #[tokio::test(flavor = "multi_thread")]
            async fn grpc() {
                super::$behaviour(Peer::grpc()).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                super::$behaviour(Peer::database(Kind::Postgres)).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn mariadb() {
                super::$behaviour(Peer::database(Kind::MariaDb)).await;
            }
        }
    )*};
}
towards_every_peer!(the_network_stalls, the_network_is_cut);
