//! A long mixed load with faults: memory does not grow after the first minute.
//!
//! Everything that goes wrong comes round again every [`CYCLE`], so each minute has seen the same.
//! The median of the resident memory in the second half of the first minute, when each fault has
//! come at least twice, is held against the median of each later minute. Medians, because a
//! fault makes peaks that are given back; 5 % more is allowed, which is the noise of an allocator
//! that keeps pages of its own, while a leak of 100 bytes a request would show as more than that
//! within a minute.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    task::{JoinSet, block_in_place},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    Scale,
    figures::{Findings, mebibytes, median, resident, thousands},
    harness::{
        client::new_user,
        database::Kind,
        email_address,
        process::{PATIENCE, Pki, Sidecar},
    },
    load::{Caller, Mode, connect, fixed, tls, users},
    material::Material,
    sidecar::{self, text},
    store_away::grpc_store,
};

const MINUTE: Duration = Duration::from_secs(60);
/// After how long the same faults come again.
const CYCLE: Duration = Duration::from_secs(15);
/// How long the store is away each time.
const AWAY: Duration = Duration::from_secs(3);
/// From one request of a caller to its next.
const PACE: Duration = Duration::from_millis(10);
/// What a later minute may have, in percent of the first one.
const PERCENT: u64 = 105;

pub async fn run(scale: Scale) -> Findings {
    let mut findings = Findings::of("soak");
    let pki = Arc::new(Pki::new());
    let mut material = Material::new(&pki);
    let files = material.options();
    let options =
        [("--store-timeout", "1s"), ("--header-timeout", "5s"), ("--max-in-flight", "64")];
    let options: Vec<(&str, &str)> =
        files.iter().map(|(flag, path)| (*flag, text(path))).chain(options).collect();
    let database = Kind::Sqlite.database();
    let (mut store, address) = block_in_place(|| grpc_store(&database, "127.0.0.1:0"));
    let sidecar = Arc::new(sidecar::ready(&pki, &format!("grpc://{address}"), &options));
    let ids: Arc<[String]> = users(&sidecar.client(), 16).await.into();

    let requests = Arc::new(AtomicU64::new(0));
    let mut load = JoinSet::new();
    for number in 0..12 {
        let mode = [Mode::KeepAlive, Mode::Http2, Mode::NewConnection][number % 3];
        load.spawn(calls(Arc::clone(&sidecar), mode, Arc::clone(&ids), Arc::clone(&requests)));
    }
    load.spawn(wrong_requests(Arc::clone(&sidecar), Arc::clone(&requests)));
    load.spawn(aborted_requests(Arc::clone(&sidecar), Arc::clone(&ids), Arc::clone(&requests)));

    let start = Instant::now();
    let sampler = tokio::spawn(sample(sidecar.process.id(), MINUTE * scale.minutes));
    let mut outages = 0;
    let mut reloads = 0;
    while start.elapsed() + CYCLE <= MINUTE * scale.minutes {
        let cycle = Instant::now();
        tokio::time::sleep(CYCLE / 5).await;
        block_in_place(|| store.kill());
        findings.no_panic(&store);
        tokio::time::sleep(AWAY).await;
        (store, _) = block_in_place(|| grpc_store(&database, &address.to_string()));
        outages += 1;
        tokio::time::sleep(CYCLE / 5).await;
        material.change();
        // By the certificate and not by the log: that of a soak is long.
        let shown = async {
            while !material.is_shown(sidecar.endpoint).await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(PATIENCE, shown).await.expect("the new certificate is used");
        reloads += 1;
        tokio::time::sleep(CYCLE.saturating_sub(cycle.elapsed())).await;
    }
    let samples = sampler.await.unwrap();
    load.shutdown().await;

    let mut minutes = samples.chunks(60).filter(|minute| minute.len() == 60);
    let first = median(&mut minutes.next().unwrap()[30..].to_vec()).unwrap();
    let later: Vec<u64> = minutes.map(|minute| median(&mut minute.to_vec()).unwrap()).collect();
    let most = later.iter().copied().max().unwrap_or(first);
    findings.figures(format!(
        "{} minutes, {} requests, {outages} outages of the store, {reloads} reloads: {} resident at \
         the end of the first minute, then {} (at most {PERCENT} %)",
        scale.minutes,
        thousands(requests.load(Ordering::Relaxed)),
        mebibytes(first),
        later.iter().map(|minute| mebibytes(*minute)).collect::<Vec<_>>().join(", "),
    ));
    findings.bound(
        "resident memory does not grow after the first minute",
        most * 100 <= first * PERCENT,
    );
    findings.no_panic(&sidecar.process);
    findings.no_panic(&store);
    findings
}

/// The resident memory, each second.
async fn sample(pid: u32, length: Duration) -> Vec<u64> {
    let mut ticks = interval(Duration::from_secs(1));
    let mut samples = Vec::new();
    for _ in 0..length.as_secs() {
        ticks.tick().await;
        samples.push(resident(pid));
    }
    samples
}

fn paced() -> tokio::time::Interval {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Reads, and users who come and go. What fails meanwhile has failed: other scenarios count that.
async fn calls(sidecar: Arc<Sidecar>, mode: Mode, ids: Arc<[String]>, requests: Arc<AtomicU64>) {
    let mut caller = Caller::new(mode, tls(&sidecar.pki, mode), fixed(sidecar.endpoint));
    let mut ticks = paced();
    for number in 0_usize.. {
        ticks.tick().await;
        let next = if number % 10 == 9 {
            invocation("create_user", new_user(&email_address()))
        } else {
            invocation("get_user", json!({ "user_id": ids[number % ids.len()] }))
        };
        let answer = timeout(PATIENCE, caller.post(&next)).await;
        requests.fetch_add(1, Ordering::Relaxed);
        let Ok(Ok(response)) = answer else { continue };
        let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        if number % 10 == 9
            && let Some(id) = answer["values"]["user"]["id"].as_str()
        {
            let delete = invocation("delete_user", json!({ "user_id": id }));
            let _ = timeout(PATIENCE, caller.post(&delete)).await;
            requests.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn invocation(action: &str, arguments: Value) -> Bytes {
    json!({ "action": action, "arguments": arguments }).to_string().into()
}

/// Bodies that are no invocations, and one that is too large.
async fn wrong_requests(sidecar: Arc<Sidecar>, requests: Arc<AtomicU64>) {
    let bodies: [Bytes; 4] = [
        Bytes::from_static(b"{"),
        Bytes::from_static(br#"{"action":"no_such_action","arguments":{}}"#),
        invocation("get_user", json!({ "user_id": 1 })),
        vec![b' '; 100 << 10].into(),
    ];
    let mode = Mode::KeepAlive;
    let mut caller = Caller::new(mode, tls(&sidecar.pki, mode), fixed(sidecar.endpoint));
    let mut ticks = paced();
    for body in bodies.iter().cycle() {
        ticks.tick().await;
        let _ = timeout(PATIENCE, caller.post(body)).await;
        requests.fetch_add(1, Ordering::Relaxed);
    }
}

/// Callers who go away: in the handshake, in the headers, in the body, and before the answer.
async fn aborted_requests(sidecar: Arc<Sidecar>, ids: Arc<[String]>, requests: Arc<AtomicU64>) {
    let whole = {
        let body = invocation("get_user", json!({ "user_id": ids[0] }));
        let head =
            format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
        [head.as_bytes(), &body].concat()
    };
    let tls = tls(&sidecar.pki, Mode::KeepAlive);
    let mut ticks = paced();
    for part in [20, whole.len() - 10, whole.len()].into_iter().cycle() {
        ticks.tick().await;
        drop(tokio::net::TcpStream::connect(sidecar.endpoint).await);
        if let Ok(mut stream) = connect(sidecar.endpoint, &tls).await {
            let _ = stream.write_all(&whole[..part]).await;
            let _ = stream.flush().await;
        }
        requests.fetch_add(1, Ordering::Relaxed);
    }
}
