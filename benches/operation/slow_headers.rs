//! Many callers that never finish their headers, and one that behaves well: what it waits.
//!
//! The percentile of a short time is noisy on a small machine, so both cases take turns and the
//! median of their rounds counts.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval_at, sleep_until},
};
use tokio_rustls::client::TlsStream;

use crate::{
    Scale,
    figures::{Findings, median, milliseconds, percentile},
    harness::{
        database::Kind,
        process::{PATIENCE, Pki, Sidecar},
    },
    load::{Caller, Invocation, Mode, Outcome, connect, fixed, tls, users},
    sidecar,
};

const CONNECTIONS: usize = 1000;
/// How often each of them sends another byte.
const BYTE: Duration = Duration::from_secs(4);
/// How many times worse the percentile may be.
const FACTOR: u32 = 2;
/// Requests a second of the caller that behaves well.
const RATE: u32 = 200;
/// Its connections: a request need not wait for the one before.
const CALLERS: u32 = 8;

pub async fn run(scale: Scale) -> Findings {
    let mut findings = Findings::of("slow-headers");
    let (rounds, length) = scale.of((5, Duration::from_secs(5)), (3, Duration::from_secs(3)));
    let pki = Arc::new(Pki::new());
    let database = Kind::Sqlite.database();
    let sidecar = sidecar::ready(&pki, &database.url, &[("--header-timeout", "1h")]);
    let id = users(&sidecar.client(), 1).await.remove(0);
    let invocation = Invocation::get_user(&id);

    well_behaved(&sidecar, &invocation, Duration::from_secs(1)).await;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        without.push(well_behaved(&sidecar, &invocation, length).await);
        let slow = Slow::open(&sidecar).await;
        with.push(well_behaved(&sidecar, &invocation, length).await);
        let held = slow.close().await;
        findings.bound(
            &format!("{held} of {CONNECTIONS} connections with slow headers were held open"),
            held == CONNECTIONS,
        );
    }
    let without = median(&mut without).unwrap();
    let with = median(&mut with).unwrap();
    findings.figures(format!(
        "99th percentile of {RATE} requests a second {} without and {} with {CONNECTIONS} \
         connections of slow headers, medians of {rounds} rounds (at most {FACTOR} times)",
        milliseconds(without),
        milliseconds(with),
    ));
    findings.bound(
        "the 99th percentile is at most twice what it is without slow headers",
        with <= without * FACTOR,
    );
    findings.no_panic(&sidecar.process);
    findings
}

/// The 99th percentile of requests that are due at fixed times, counted from when they are due.
async fn well_behaved(sidecar: &Sidecar, invocation: &Invocation, length: Duration) -> Duration {
    let requests = RATE * u32::try_from(length.as_secs()).unwrap() / CALLERS;
    let between = Duration::from_secs(1) / RATE;
    let tls = tls(&sidecar.pki, Mode::KeepAlive);
    let start = Instant::now() + Duration::from_millis(100);
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let mut caller = Caller::new(Mode::KeepAlive, Arc::clone(&tls), fixed(sidecar.endpoint));
        let invocation = invocation.clone();
        callers.spawn(async move {
            // The handshake is no part of it.
            assert_eq!(caller.invoke(&invocation, PATIENCE).await, Outcome::Ok);
            let mut took = Vec::new();
            for request in 0..requests {
                let due = start + between * (request * CALLERS + number);
                sleep_until(due.into()).await;
                assert_eq!(caller.invoke(&invocation, PATIENCE).await, Outcome::Ok);
                took.push(due.elapsed());
            }
            took
        });
    }
    let mut took: Vec<Duration> = callers.join_all().await.into_iter().flatten().collect();
    percentile(&mut took, 99).unwrap()
}

/// Connections whose headers do not end.
struct Slow {
    stop: watch::Sender<bool>,
    connections: JoinSet<bool>,
}

impl Slow {
    async fn open(sidecar: &Sidecar) -> Self {
        let (stop, stopped) = watch::channel(false);
        let tls = tls(&sidecar.pki, Mode::KeepAlive);
        let mut connections = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let mut stream = connect(sidecar.endpoint, &tls).await.unwrap();
            stream.write_all(b"POST / HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await.unwrap();
            stream.flush().await.unwrap();
            connections.spawn(hold(stream, stopped.clone()));
        }
        Self { stop, connections }
    }

    /// Closes them, and says how many the server had not ended.
    async fn close(self) -> usize {
        self.stop.send_replace(true);
        self.connections.join_all().await.into_iter().filter(|held| *held).count()
    }
}

/// Sends a byte now and then until it is told to stop. Whether the server let it.
async fn hold(mut stream: TlsStream<TcpStream>, mut stopped: watch::Receiver<bool>) -> bool {
    let mut ticks = interval_at(tokio::time::Instant::now() + BYTE, BYTE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answer = [0; 64];
    loop {
        tokio::select! {
            _ = stopped.changed() => return true,
            _ = stream.read(&mut answer) => return false,
            _ = ticks.tick() => {
                if stream.write_all(b"x").await.is_err() || stream.flush().await.is_err() {
                    return false;
                }
            }
        }
    }
}
