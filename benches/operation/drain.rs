//! Rolling restarts under load: each stop is announced, and nobody's request fails.
//!
//! Two sidecars over one database stand behind what a Service of Kubernetes is to its callers: it
//! looks at readiness now and then and sends new connections to those that are ready. Connections
//! that are there stay where they are until the sidecar ends them.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::{AbortHandle, block_in_place},
    time::timeout,
};

use crate::{
    Scale,
    figures::{Findings, median, milliseconds, thousands},
    harness::{
        database::Kind,
        process::{PATIENCE, Pki, Sidecar},
    },
    load::{Load, Manners, Mode, Target, callers, reads_and_writes, users},
    sidecar,
};

const DRAIN_DELAY: &str = "1s";
/// How often the Service looks at readiness.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);
/// Requests between two stops at the least: the callers are at home again.
const BETWEEN: u64 = 200;

pub async fn run(scale: Scale) -> Findings {
    let mut findings = Findings::of("drain");
    let stops = scale.of(20, 4);
    let pki = Arc::new(Pki::new());
    let database = Kind::Sqlite.database();
    let start = || sidecar::ready(&pki, &database.url, &[("--drain-delay", DRAIN_DELAY)]);
    let mut sidecars = [start(), start()];
    let ids = users(&sidecars[0].client(), 16).await;

    let service = Service::of(sidecars.each_ref().map(Pod::of));
    service.wait_until_ready().await;
    let modes = callers(8, &[Mode::KeepAlive, Mode::Http2, Mode::NewConnection, Mode::Http2]);
    let work = reads_and_writes(&ids);
    let load = Load::start(&pki, &service.target(), &modes, &work, Manners::default());
    let mut took = Vec::new();
    for stop in 0..stops {
        load.wait_for(load.finished() + BETWEEN).await;
        let stopped = &mut sidecars[stop % 2];
        let signal = Instant::now();
        let status = block_in_place(|| stopped.process.terminate());
        took.push(signal.elapsed());
        findings.bound(&format!("a drained sidecar exits with 0, not {status}"), status.success());
        findings.no_panic(&stopped.process);
        *stopped = start();
        service.replace(stop % 2, Pod::of(stopped));
        service.wait_until_ready().await;
    }
    load.wait_for(load.finished() + BETWEEN).await;
    let tally = load.stop().await;
    let goodbyes = tally.goodbyes;
    findings.figures(format!(
        "{stops} stops with --drain-delay {DRAIN_DELAY}, {} requests, {} failed (0 allowed); a stop \
         took {} at the median",
        thousands(tally.requests()),
        tally.failed(),
        median(&mut took).map_or(String::new(), milliseconds),
    ));
    findings.figures(format!(
        "{} connections ended by Connection: close, {} by GOAWAY; {} requests sent again that were \
         not begun",
        goodbyes.connection_close, goodbyes.goaway, goodbyes.sent_again,
    ));
    findings.bound(&format!("0 failed requests: {}", tally.outcomes()), tally.failed() == 0);
    findings.bound(
        "callers are told to leave, by Connection: close and by GOAWAY",
        goodbyes.connection_close > 0 && goodbyes.goaway > 0,
    );
    for sidecar in &sidecars {
        findings.no_panic(&sidecar.process);
    }
    findings
}

/// One of the sidecars, as the Service knows it.
#[derive(Debug, Clone, Copy)]
struct Pod {
    endpoint: SocketAddr,
    admin: SocketAddr,
    ready: bool,
}

impl Pod {
    fn of(sidecar: &Sidecar) -> Self {
        Self { endpoint: sidecar.endpoint, admin: sidecar.admin, ready: false }
    }
}

/// Which of the sidecars get new connections.
struct Service {
    pods: Arc<Mutex<[Pod; 2]>>,
    probes: AbortHandle,
}

impl Service {
    fn of(pods: [Pod; 2]) -> Self {
        let pods = Arc::new(Mutex::new(pods));
        let probes = tokio::spawn(probe(Arc::clone(&pods))).abort_handle();
        Self { pods, probes }
    }

    /// Those that are ready, in turn.
    fn target(&self) -> Target {
        let pods = Arc::clone(&self.pods);
        let turn = std::sync::atomic::AtomicUsize::new(0);
        Arc::new(move || {
            let pods = pods.lock().unwrap_or_else(PoisonError::into_inner);
            let ready: Vec<SocketAddr> =
                pods.iter().filter(|pod| pod.ready).map(|pod| pod.endpoint).collect();
            let turn = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            (!ready.is_empty()).then(|| ready[turn % ready.len()])
        })
    }

    fn replace(&self, number: usize, pod: Pod) {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)[number] = pod;
    }

    async fn wait_until_ready(&self) {
        let all = async {
            while !self.pods.lock().unwrap_or_else(PoisonError::into_inner).iter().all(|p| p.ready)
            {
                tokio::time::sleep(PROBE_INTERVAL).await;
            }
        };
        timeout(PATIENCE, all).await.expect("both sidecars become ready");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.probes.abort();
    }
}

/// Asks all for their readiness, now and then.
async fn probe(pods: Arc<Mutex<[Pod; 2]>>) {
    loop {
        for number in 0..2 {
            let admin = pods.lock().unwrap_or_else(PoisonError::into_inner)[number].admin;
            let ready = matches!(timeout(PATIENCE, is_ready(admin)).await, Ok(Ok(true)));
            let pod = &mut pods.lock().unwrap_or_else(PoisonError::into_inner)[number];
            // It may have been replaced meanwhile.
            if pod.admin == admin {
                pod.ready = ready;
            }
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

async fn is_ready(admin: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(admin).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}
