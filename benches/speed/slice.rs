//! A slice of a load on an endpoint: some seconds of it, with what the server and its store used
//! meanwhile.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rustls::{ClientConfig, client::Resumption};
use tokio::task::JoinSet;

use crate::{
    harness::process::Pki,
    load::{self, Mode},
    usage::{Group, Times},
    wire::{Blocking, Connection, Invocation, Protocol},
};

/// What a connection sends next; connections are numbered.
pub type Work = Arc<dyn Fn(usize) -> Invocation + Send + Sync>;

/// How requests follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pacing {
    /// Each connection sends when it has its answer.
    Closed,
    /// The same with a connection for each request; its session is resumed or not.
    NewConnections { resumed: bool },
    /// So many a second in all, whether or not the last one was answered. Latency is counted from
    /// the time that a request was due.
    Open { rate: u32 },
    /// Each connection sends when it has its answer, and a thread of its own waits for it: for
    /// latency, with a connection or two.
    Waiting,
}

impl Pacing {
    pub fn name(self) -> String {
        match self {
            Self::Closed | Self::Waiting => "kept".to_owned(),
            Self::NewConnections { resumed: false } => "new, full handshake".to_owned(),
            Self::NewConnections { resumed: true } => "new, resumed".to_owned(),
            Self::Open { rate } => format!("kept, {rate} requests a second"),
        }
    }
}

/// The load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub protocol: Protocol,
    pub connections: usize,
    pub pacing: Pacing,
}

/// What is loaded.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub pki: Arc<Pki>,
    pub server: Group,
    pub store: Group,
}

/// What one slice found.
#[derive(Debug, Clone)]
pub struct Slice {
    pub time: Duration,
    pub requests: u64,
    pub failed: u64,
    /// The processor time of the server, of its store, and of the load itself.
    pub server: Duration,
    pub store: Duration,
    pub client: Duration,
    /// The resident memory of the server at the end of it, in KiB.
    pub resident: u64,
    /// In nanoseconds.
    pub latency: Histogram<u64>,
}

impl Slice {
    pub fn new() -> Self {
        Self {
            time: Duration::ZERO,
            requests: 0,
            failed: 0,
            server: Duration::ZERO,
            store: Duration::ZERO,
            client: Duration::ZERO,
            resident: 0,
            latency: Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap(),
        }
    }

    /// Counts a request.
    pub fn add(&mut self, took: Duration, is_right: bool) {
        self.requests += 1;
        self.failed += u64::from(!is_right);
        self.latency.saturating_record(took.as_nanos().try_into().unwrap());
    }

    fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.latency.add(&other.latency).unwrap();
    }
}

/// Notes what is used from here on.
pub struct Meter {
    groups: [Group; 3],
    before: [Times; 3],
    start: Instant,
}

impl Meter {
    pub fn start(server: &Group, store: &Group) -> Self {
        let groups = [server.clone(), store.clone(), Group::Process(std::process::id())];
        let before = groups.each_ref().map(Group::times);
        Self { groups, before, start: Instant::now() }
    }

    /// Writes it into the slice.
    pub fn stop(self, slice: &mut Slice) {
        slice.time = self.start.elapsed();
        let used = |index: usize| self.groups[index].times().since(&self.before[index]);
        [slice.server, slice.store, slice.client] = [0, 1, 2].map(used);
        slice.resident = self.groups[0].resident();
    }
}

/// Loads the target for so long.
pub async fn run(target: &Target, load: Load, work: &Work, length: Duration) -> Slice {
    match load.pacing {
        Pacing::Closed => closed(target, load, work, length).await,
        Pacing::NewConnections { resumed } => {
            new_connections(target, load, resumed, work, length).await
        }
        Pacing::Open { rate } => {
            let step = Duration::from_secs(1) / rate;
            threads(target, load.connections, work, move |connection, turn| {
                let due = step * (connection + turn * u32::try_from(load.connections).unwrap());
                (due < length).then_some(Some(due))
            })
        }
        Pacing::Waiting => {
            let end = Instant::now() + length;
            threads(target, load.connections, work, move |_, _| {
                (Instant::now() < end).then_some(None)
            })
        }
    }
}

fn tls(target: &Target, protocol: Protocol) -> Arc<ClientConfig> {
    load::tls(
        &target.pki,
        match protocol {
            Protocol::Http1 => Mode::KeepAlive,
            Protocol::Http2 => Mode::Http2,
        },
    )
}

async fn closed(target: &Target, load: Load, work: &Work, length: Duration) -> Slice {
    let tls = tls(target, load.protocol);
    let mut connections = Vec::new();
    for _ in 0..load.connections {
        connections.push(Connection::open(target.address, &tls, load.protocol).await.unwrap());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let meter = Meter::start(&target.server, &target.store);
    let mut callers = JoinSet::new();
    for (number, mut connection) in connections.into_iter().enumerate() {
        let (work, stop) = (Arc::clone(work), Arc::clone(&stop));
        callers.spawn(async move {
            let mut slice = Slice::new();
            while !stop.load(Ordering::Relaxed) {
                let invocation = work(number);
                let start = Instant::now();
                let is_right = connection.invoke(&invocation).await.unwrap();
                slice.add(start.elapsed(), is_right);
            }
            slice
        });
    }
    finish(callers, &stop, meter, length).await
}

async fn new_connections(
    target: &Target,
    load: Load,
    resumed: bool,
    work: &Work,
    length: Duration,
) -> Slice {
    let shared = tls(target, load.protocol);
    let mut callers = Vec::new();
    for _ in 0..load.connections {
        let mut tls = ClientConfig::clone(&shared);
        // Each its own tickets: few are kept for one server.
        tls.resumption =
            if resumed { Resumption::in_memory_sessions(8) } else { Resumption::disabled() };
        let tls = Arc::new(tls);
        if resumed {
            let mut first = Connection::open(target.address, &tls, load.protocol).await.unwrap();
            assert!(first.invoke(&work(0)).await.unwrap());
        }
        callers.push(tls);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let meter = Meter::start(&target.server, &target.store);
    let mut running = JoinSet::new();
    for (number, tls) in callers.into_iter().enumerate() {
        let (work, stop, target) = (Arc::clone(work), Arc::clone(&stop), target.clone());
        running.spawn(async move {
            let mut slice = Slice::new();
            while !stop.load(Ordering::Relaxed) {
                let invocation = work(number);
                let start = Instant::now();
                let mut connection =
                    Connection::open(target.address, &tls, load.protocol).await.unwrap();
                let is_right = connection.invoke(&invocation).await.unwrap();
                slice.add(start.elapsed(), is_right && connection.is_resumed() == resumed);
            }
            slice
        });
    }
    finish(running, &stop, meter, length).await
}

pub async fn finish(
    callers: JoinSet<Slice>,
    stop: &AtomicBool,
    meter: Meter,
    length: Duration,
) -> Slice {
    tokio::time::sleep(length).await;
    stop.store(true, Ordering::Relaxed);
    let parts = callers.join_all().await;
    let mut whole = Slice::new();
    meter.stop(&mut whole);
    parts.iter().for_each(|part| whole.merge(part));
    whole
}

/// A thread for each connection. `due` says when a request is due after the start, `Some(None)` for
/// at once; nothing ends the thread.
fn threads(
    target: &Target,
    connections: usize,
    work: &Work,
    due: impl Fn(u32, u32) -> Option<Option<Duration>> + Send + Copy,
) -> Slice {
    let tls = tls(target, Protocol::Http1);
    let open = |number: usize| {
        let mut connection = Blocking::open(target.address, &tls).unwrap();
        assert!(connection.invoke(&work(number)).unwrap());
        connection
    };
    let open: Vec<Blocking> = (0..connections).map(open).collect();
    let meter = Meter::start(&target.server, &target.store);
    let start = Instant::now();
    let parts: Vec<Slice> = thread::scope(|scope| {
        let threads = open.into_iter().enumerate().map(|(number, mut connection)| {
            scope.spawn(move || {
                // Timers of this thread fire when they are due, not up to 50 µs later.
                nix::sys::prctl::set_timerslack(1).unwrap();
                let mut slice = Slice::new();
                for turn in 0.. {
                    let Some(due) = due(number.try_into().unwrap(), turn) else { break };
                    let invocation = work(number);
                    let begin = match due {
                        None => Instant::now(),
                        Some(due) => {
                            let due = start + due;
                            thread::sleep(due.saturating_duration_since(Instant::now()));
                            due
                        }
                    };
                    let is_right = connection.invoke(&invocation).unwrap();
                    slice.add(begin.elapsed(), is_right);
                }
                slice
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut whole = Slice::new();
    meter.stop(&mut whole);
    parts.iter().for_each(|part| whole.merge(part));
    whole
}
