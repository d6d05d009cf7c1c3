//! The store is away for ten seconds under load: every caller gets an honest answer in time, the
//! store is used again as soon as it is back, and nothing of it stays in memory.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::block_in_place;

use crate::{
    Scale,
    figures::{Findings, mebibytes, milliseconds, resident_for, thousands},
    harness::{
        database::{Database, Kind, Server, Stop},
        process::{Pki, Process, program},
    },
    load::{Load, Manners, Mode, Outcome, callers, fixed, reads_and_writes, users},
    sidecar,
};

const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// What an answer may take beyond the timeout of the store: the way there and back, on a machine
/// that is busy with the load.
const SLACK: Duration = Duration::from_millis(500);
/// From the store's return to the first success.
const RETURN: Duration = Duration::from_secs(1);
/// What the memory may be afterwards, in percent of what it was.
const MEMORY: u64 = 110;

pub async fn run(scale: Scale) -> Findings {
    let mut findings = Findings::of("store-away");
    let store = block_in_place(GrpcStore::new);
    measure(&mut findings, scale, "a gRPC store", store).await;
    let store = block_in_place(Postgres::new);
    measure(&mut findings, scale, "PostgreSQL", store).await;
    findings
}

/// A store that can be killed and started again.
trait Mortal {
    fn url(&self) -> String;
    /// What the sidecar needs for it.
    fn options(&self) -> &'static [(&'static str, &'static str)];
    fn kill(&mut self);
    /// Returns when it can be used.
    fn start(&mut self);
}

async fn measure(findings: &mut Findings, scale: Scale, name: &str, mut store: impl Mortal) {
    let (away, around) = scale.of(
        (Duration::from_secs(10), Duration::from_secs(8)),
        (Duration::from_secs(4), Duration::from_secs(5)),
    );
    let pki = Arc::new(Pki::new());
    let timeout = humantime::format_duration(STORE_TIMEOUT).to_string();
    let options = [&[("--store-timeout", &*timeout)], store.options()].concat();
    let sidecar = sidecar::ready(&pki, &store.url(), &options);
    let ids = users(&sidecar.client(), 16).await;

    let modes = callers(16, &[Mode::KeepAlive, Mode::Http2, Mode::NewConnection, Mode::Http2]);
    let manners = Manners { pause: Duration::from_millis(20), ..Manners::default() };
    let load =
        Load::start(&pki, &fixed(sidecar.endpoint), &modes, &reads_and_writes(&ids), manners);
    tokio::time::sleep(around).await;
    let before = resident_for(sidecar.process.id(), Duration::from_secs(2)).await;
    let gone = Instant::now();
    block_in_place(|| store.kill());
    tokio::time::sleep(away).await;
    block_in_place(|| store.start());
    let back = Instant::now();
    tokio::time::sleep(around).await;
    let after = resident_for(sidecar.process.id(), Duration::from_secs(2)).await;
    let tally = load.stop().await;

    let during =
        || tally.samples.iter().filter(|sample| sample.start >= gone && sample.end() < back);
    let slowest = tally.samples.iter().map(|sample| sample.took).max().unwrap_or_default();
    let first = tally.samples.iter().find(|s| s.end() >= back && s.outcome == Outcome::Ok);
    let first = first.map(|sample| sample.end().saturating_duration_since(back));
    findings.figures(format!(
        "{name} away for {:.1} s: {} requests meanwhile, {} in all ({}); the slowest answer after \
         {} (at most {})",
        (back - gone).as_secs_f64(),
        thousands(during().count().try_into().unwrap()),
        thousands(tally.requests()),
        tally.outcomes(),
        milliseconds(slowest),
        milliseconds(STORE_TIMEOUT + SLACK),
    ));
    findings.figures(format!(
        "{name} back: first success after {} (at most {}); memory {} before and {} after (at most \
         {MEMORY} %)",
        first.map_or("no time at all".to_owned(), milliseconds),
        milliseconds(RETURN),
        mebibytes(before),
        mebibytes(after),
    ));
    let honest = |outcome: &Outcome| match outcome {
        Outcome::Ok | Outcome::Status(503) => true,
        Outcome::ErrorCode(code) => code == "internal_error",
        Outcome::Status(_) | Outcome::Wrong(_) | Outcome::Lost(_) => false,
    };
    findings.bound(
        &format!("{name}: every request is answered with success, 503 or internal_error"),
        tally.count(|outcome| !honest(outcome)) == 0,
    );
    findings.bound(
        &format!("{name}: the load saw that it was away, and that it came back"),
        tally.failed() > 0 && tally.samples.last().is_some_and(|s| s.outcome == Outcome::Ok),
    );
    findings.bound(
        &format!("{name}: every request is answered within the timeout of the store"),
        slowest <= STORE_TIMEOUT + SLACK,
    );
    findings.bound(
        &format!("{name}: the first success is within a second of its return"),
        first.is_some_and(|first| first <= RETURN),
    );
    findings.bound(
        &format!("{name}: memory is back to within 10 % of before"),
        after * 100 <= before * MEMORY,
    );
    findings.no_panic(&sidecar.process);
}

/// The bundled store as a gRPC server of its own.
struct GrpcStore {
    database: Database,
    address: SocketAddr,
    process: Process,
}

impl GrpcStore {
    fn new() -> Self {
        let database = Kind::Sqlite.database();
        let (process, address) = grpc_store(&database, "127.0.0.1:0");
        Self { database, address, process }
    }
}

/// Starts one, and gives its address when it listens.
pub fn grpc_store(database: &Database, address: &str) -> (Process, SocketAddr) {
    let listen = format!("tcp://{address}");
    let arguments =
        ["store", "--store", &database.url, "--listen", &listen, "--log-format", "json"];
    let process = Process::start(program(arguments));
    let line: serde_json::Value =
        serde_json::from_str(&process.wait_for_log("\"listening\"")).unwrap();
    let address = line["store"].as_str().unwrap().strip_prefix("tcp://").unwrap();
    (process, address.parse().unwrap())
}

impl Mortal for GrpcStore {
    fn url(&self) -> String {
        format!("grpc://{}", self.address)
    }

    fn options(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    fn kill(&mut self) {
        self.process.kill();
    }

    fn start(&mut self) {
        (self.process, _) = grpc_store(&self.database, &self.address.to_string());
    }
}

/// A database server of its own.
struct Postgres {
    server: Server,
    database: Database,
}

impl Postgres {
    fn new() -> Self {
        let server = Server::private(Kind::Postgres);
        let database = server.database();
        Self { server, database }
    }
}

impl Mortal for Postgres {
    fn url(&self) -> String {
        self.database.url.clone()
    }

    fn options(&self) -> &'static [(&'static str, &'static str)] {
        &[("--migrate", "")]
    }

    fn kill(&mut self) {
        self.server.stop(Stop::Crash);
    }

    fn start(&mut self) {
        self.server.start();
    }
}
