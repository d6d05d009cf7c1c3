//! The store is away under load, ten seconds each time: killed, paused, or behind a network that
//! loses every packet or is cut. Every caller gets an honest answer in time, the store is used again as soon as
//! it is back, and nothing of it stays in memory.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::{JoinSet, block_in_place};

use crate::{
    Scale,
    figures::{Findings, mebibytes, milliseconds, resident_for, thousands},
    harness::{
        database::{Database, Kind, Server, Stop},
        network::Network,
        process::{Pki, Process, program},
    },
    load::{Load, Manners, Mode, Outcome, Tally, callers, fixed, reads_and_writes, users},
    sidecar,
};

/// What an answer may take beyond the timeout of the store: the way there and back, on a machine
/// that is busy with the load.
const SLACK: Duration = Duration::from_millis(500);
/// From the store's return to the answer of the first request after it that succeeds.
const RETURN: Duration = Duration::from_secs(1);
/// What the memory may be afterwards, in percent of what it was.
const MEMORY: u64 = 110;

/// How long everything takes.
#[derive(Clone, Copy)]
struct Times {
    store_timeout: Duration,
    away: Duration,
    /// Before the first absence.
    before: Duration,
    /// After each absence.
    after: Duration,
    /// From an answer to the next request of the same caller.
    pause: Duration,
}

pub async fn run(scale: Scale) -> Findings {
    // The timeout that is the default, one store after another; or all of them side by side, each
    // under a part of the load.
    let times = scale.of(
        Times {
            store_timeout: Duration::from_secs(5),
            away: Duration::from_secs(10),
            before: Duration::from_secs(6),
            after: Duration::from_secs(5),
            pause: Duration::from_millis(20),
        },
        Times {
            store_timeout: Duration::from_secs(2),
            away: Duration::from_secs(4),
            before: Duration::from_secs(4),
            after: Duration::from_secs(2),
            pause: Duration::from_millis(120),
        },
    );
    let at_once = scale.of(1, usize::MAX);
    let mut findings = Findings::of("store-away");
    let mut measurements = JoinSet::new();
    for store in [Store::Grpc, Store::Database(Kind::Postgres), Store::Database(Kind::MariaDb)] {
        for way in [Way::Straight, Way::Relayed] {
            if measurements.len() >= at_once {
                findings.add(measurements.join_next().await.unwrap().unwrap());
            }
            measurements.spawn(measure(times, store, way));
        }
    }
    while let Some(measured) = measurements.join_next().await {
        findings.add(measured.unwrap());
    }
    findings
}

#[derive(Debug, Clone, Copy)]
enum Store {
    Grpc,
    Database(Kind),
}

impl Store {
    fn name(self) -> &'static str {
        match self {
            Self::Grpc => "a gRPC store",
            Self::Database(Kind::Sqlite) => "SQLite",
            Self::Database(Kind::Postgres) => "PostgreSQL",
            Self::Database(Kind::MariaDb) => "MariaDB",
        }
    }
}

/// What is between the sidecar and its store.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Nothing: the store itself goes away.
    Straight,
    /// A network, which does.
    Relayed,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Killed,
    Paused,
    Stalled,
    Cut,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Paused => "paused",
            Self::Stalled => "behind a network that loses every packet",
            Self::Cut => "behind a cut network",
        }
    }
}

async fn measure(times: Times, store: Store, way: Way) -> Findings {
    let mut findings = Findings::of("store-away");
    let (mut subject, faults) = match way {
        Way::Straight => (Subject::straight(store), [Fault::Killed, Fault::Paused]),
        Way::Relayed => (Subject::relayed(store).await, [Fault::Stalled, Fault::Cut]),
    };
    let pki = Arc::new(Pki::new());
    let timeout = humantime::format_duration(times.store_timeout).to_string();
    let mut options = vec![("--store-timeout", &*timeout)];
    if let Store::Database(_) = store {
        options.push(("--migrate", ""));
    }
    let sidecar = sidecar::ready(&pki, &subject.url, &options);
    let ids = users(&sidecar.client(), 16).await;

    let modes = callers(16, &[Mode::KeepAlive, Mode::Http2, Mode::NewConnection, Mode::Http2]);
    let manners = Manners { pause: times.pause, ..Manners::default() };
    let load =
        Load::start(&pki, &fixed(sidecar.endpoint), &modes, &reads_and_writes(&ids), manners);
    tokio::time::sleep(times.before).await;
    let memory = Duration::from_secs(2);
    let before = resident_for(sidecar.process.id(), memory).await;
    let mut absences = Vec::new();
    for fault in faults {
        let gone = Instant::now();
        block_in_place(|| subject.go(fault));
        tokio::time::sleep(times.away).await;
        block_in_place(|| subject.come_back(fault));
        absences.push(Absence { fault, gone, back: Instant::now() });
        tokio::time::sleep(times.after).await;
    }
    let after = resident_for(sidecar.process.id(), memory).await;
    let tally = load.stop().await;

    let name = store.name();
    for absence in &absences {
        absence.report(&mut findings, name, times, &tally);
    }
    findings.figures(format!(
        "{name} back ({}): memory {} before and {} after (at most {MEMORY} %)",
        faults.map(Fault::name).join(", "),
        mebibytes(before),
        mebibytes(after),
    ));
    findings.bound(
        &format!("{name}: memory is back to within 10 % of before"),
        after * 100 <= before * MEMORY,
    );
    let honest = |outcome: &Outcome| match outcome {
        Outcome::Ok | Outcome::Status(503) => true,
        Outcome::ErrorCode(code) => code == "internal_error",
        Outcome::Status(_) | Outcome::Wrong(_) | Outcome::Lost(_) => false,
    };
    findings.bound(
        &format!("{name}: every request is answered with success, 503 or internal_error"),
        tally.count(|outcome| !honest(outcome)) == 0,
    );
    findings.no_panic(&sidecar.process);
    findings
}

/// From when to when a store was away, and why.
struct Absence {
    fault: Fault,
    gone: Instant,
    back: Instant,
}

impl Absence {
    fn report(&self, findings: &mut Findings, name: &str, times: Times, tally: &Tally) {
        let Self { fault, gone, back } = *self;
        let name = format!("{name} {}", fault.name());
        let end = back + times.after;
        let during = || tally.samples.iter().filter(|s| s.start >= gone && s.start < back);
        let since = || tally.samples.iter().filter(|s| s.start >= back && s.start < end);
        let failed = during().filter(|s| s.outcome != Outcome::Ok).count();
        let slowest = during().chain(since()).map(|s| s.took).max().unwrap_or_default();
        let first = since().filter(|s| s.outcome == Outcome::Ok).map(|s| s.end() - back).min();
        // Not those that the next fault caught.
        let last_failure = since()
            .filter(|s| s.outcome != Outcome::Ok && s.end() < end)
            .map(|s| s.end() - back)
            .max();
        findings.figures(format!(
            "{name} for {:.1} s: {} requests meanwhile, {} of them failed; the slowest answer \
             after {} (at most {})",
            (back - gone).as_secs_f64(),
            thousands(during().count().try_into().unwrap()),
            thousands(failed.try_into().unwrap()),
            milliseconds(slowest),
            milliseconds(times.store_timeout + SLACK),
        ));
        findings.figures(format!(
            "{name}, and back: first success after {} (at most {}), {}",
            first.map_or("no time at all".to_owned(), milliseconds),
            milliseconds(RETURN),
            last_failure.map_or("no failure any more".to_owned(), |last| format!(
                "last failure after {}",
                milliseconds(last)
            )),
        ));
        findings.bound(&format!("{name}: the load saw that it was away"), failed > 0);
        findings.bound(
            &format!("{name}: every request is answered within the timeout of the store"),
            slowest <= times.store_timeout + SLACK,
        );
        findings.bound(
            &format!("{name}: the first success is within a second of its return"),
            first.is_some_and(|first| first <= RETURN),
        );
    }
}

/// A store that can go away, and what the sidecar calls it.
struct Subject {
    url: String,
    far: Far,
}

/// What goes away.
enum Far {
    Grpc { database: Database, address: SocketAddr, process: Process },
    Server(Box<Server>),
    Network { network: Network, _store: Option<(Process, Database)> },
}

impl Subject {
    fn straight(store: Store) -> Self {
        block_in_place(|| match store {
            Store::Grpc => {
                let database = Kind::Sqlite.database();
                let (process, address) = grpc_store(&database, "127.0.0.1:0");
                Self {
                    url: format!("grpc://{address}"),
                    far: Far::Grpc { database, address, process },
                }
            }
            Store::Database(kind) => {
                let server = Server::private(kind);
                Self { url: server.database().url, far: Far::Server(Box::new(server)) }
            }
        })
    }

    async fn relayed(store: Store) -> Self {
        let (url, address, store) = block_in_place(|| match store {
            Store::Grpc => {
                let database = Kind::Sqlite.database();
                let (process, address) = grpc_store(&database, "127.0.0.1:0");
                (format!("grpc://{address}"), address, Some((process, database)))
            }
            Store::Database(kind) => {
                let address = Server::of(kind).address();
                (kind.database().url, address, None)
            }
        });
        let network = Network::to(address).await;
        let url = url.replace(&address.to_string(), &network.address.to_string());
        Self { url, far: Far::Network { network, _store: store } }
    }

    fn go(&mut self, fault: Fault) {
        match (&mut self.far, fault) {
            (Far::Grpc { process, .. }, Fault::Killed) => process.kill(),
            (Far::Grpc { process, .. }, _) => process.signal("STOP"),
            (Far::Server(server), Fault::Killed) => server.stop(Stop::Crash),
            (Far::Server(server), _) => server.pause(),
            (Far::Network { network, .. }, Fault::Cut) => network.cut(),
            (Far::Network { network, .. }, _) => network.stall(),
        }
    }

    /// Returns when it can be used.
    fn come_back(&mut self, fault: Fault) {
        match (&mut self.far, fault) {
            (Far::Grpc { database, address, process }, Fault::Killed) => {
                (*process, _) = grpc_store(database, &address.to_string());
            }
            (Far::Grpc { process, .. }, _) => process.signal("CONT"),
            (Far::Server(server), Fault::Killed) => server.start(),
            (Far::Server(server), _) => server.resume(),
            (Far::Network { network, .. }, _) => network.restore(),
        }
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
