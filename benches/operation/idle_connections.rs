//! What idle connections cost in memory, beside what they cost a bare server of hyper and rustls.

use std::{
    fs,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::Arc,
};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::{
    Scale, bare,
    figures::{Findings, mebibytes, settled, thousands},
    harness::{
        database::Kind,
        process::{PATIENCE, Pki, Process, Sidecar},
    },
    load::{Caller, Invocation, Mode, Outcome, fixed, tls, users},
    sidecar,
};

const CONNECTIONS: usize = 1000;
/// What they may cost, in percent of what they cost the bare server.
const PERCENT: u64 = 130;

pub async fn run(_: Scale) -> Findings {
    let mut findings = Findings::of("idle-connections");
    for (mode, name) in [(Mode::KeepAlive, "HTTP/1.1"), (Mode::Http2, "HTTP/2")] {
        let pki = Arc::new(Pki::new());
        let database = Kind::Sqlite.database();
        let sidecar = sidecar::ready(&pki, &database.url, &[("--idle-timeout", "1h")]);
        let id = users(&sidecar.client(), 1).await.remove(0);
        let invocation = Invocation::get_user(&id);
        let ours = cost(&sidecar.process, sidecar.endpoint, &pki, mode, &invocation).await;
        findings.no_panic(&sidecar.process);

        let answer = answer(&sidecar, &invocation).await;
        let (process, address) = bare_server(&pki, &answer);
        let bare = cost(&process, address, &pki, mode, &invocation).await;

        findings.figures(format!(
            "{CONNECTIONS} over {name} cost {} ({} KiB each), a bare server {} ({} KiB each): {} % \
             (at most {PERCENT} %)",
            mebibytes(ours),
            thousands(ours / CONNECTIONS as u64),
            mebibytes(bare),
            thousands(bare / CONNECTIONS as u64),
            ours * 100 / bare.max(1),
        ));
        findings.bound(
            &format!("idle {name} connections cost at most 1.3 times what they cost a bare server"),
            ours * 100 <= bare * PERCENT,
        );
    }
    findings
}

/// The answer of the sidecar, for the bare server to give.
async fn answer(sidecar: &Sidecar, invocation: &Invocation) -> Bytes {
    let tls = tls(&sidecar.pki, Mode::KeepAlive);
    let mut caller = Caller::new(Mode::KeepAlive, tls, fixed(sidecar.endpoint));
    caller.post(invocation.body()).await.unwrap().body
}

/// What the connections cost the process, in KiB, after one request each.
async fn cost(
    process: &Process,
    address: SocketAddr,
    pki: &Pki,
    mode: Mode,
    invocation: &Invocation,
) -> u64 {
    let tls = tls(pki, mode);
    let caller = || Caller::new(mode, Arc::clone(&tls), fixed(address));
    // What the first requests bring into memory once is not the price of a connection.
    let mut warm = JoinSet::new();
    for _ in 0..8 {
        let (mut caller, invocation) = (caller(), invocation.clone());
        warm.spawn(async move {
            for _ in 0..50 {
                assert_eq!(caller.invoke(&invocation, PATIENCE).await, Outcome::Ok);
            }
        });
    }
    warm.join_all().await;
    let before = settled(process.id()).await;

    let mut idle = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let mut caller = caller();
        assert_eq!(caller.invoke(invocation, PATIENCE).await, Outcome::Ok);
        idle.push(caller);
    }
    let with = settled(process.id()).await;
    for caller in &mut idle {
        assert!(caller.is_connected().await, "the server keeps idle connections");
    }
    with.saturating_sub(before)
}

fn bare_server(pki: &Pki, answer: &[u8]) -> (Process, SocketAddr) {
    let file = pki.authority.folder().join("answer.json");
    fs::write(&file, answer).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .arg(bare::ARGUMENT)
        .args([&pki.server.certificate, &pki.server.key, &pki.authority.certificate(), &file])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let process = Process::start(command);
    let line = process.wait_for_log(bare::LISTENING);
    let (_, address) = line.rsplit_once(' ').unwrap();
    (process, address.parse().unwrap())
}
