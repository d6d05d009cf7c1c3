//! What a sidecar needs: processor time for each request and each connection, and memory. It is what
//! requests and limits of a pod, and the number of replicas, are made of.

use std::{sync::Arc, time::Duration};

use crate::{
    Scale,
    figures::{Findings, mebibytes, processor_time, resident, settled, thousands},
    harness::{database::Kind, process::Pki},
    load::{Load, Manners, Mode, callers, fixed, reads, users},
    sidecar,
};

/// Callers at once.
const CALLERS: usize = 32;

pub async fn run(scale: Scale) -> Findings {
    let mut findings = Findings::of("sizing");
    let time = scale.of(Duration::from_secs(10), Duration::from_secs(2));
    for kind in [Kind::Sqlite, Kind::Postgres, Kind::MariaDb] {
        let pki = Arc::new(Pki::new());
        let database = kind.database();
        let sidecar = sidecar::ready(&pki, &database.url, &[("--migrate", "")]);
        let id = sidecar.process.id();
        let work = reads(&users(&sidecar.client(), 16).await);
        let idle = settled(id).await;
        for (mode, name) in [
            (Mode::KeepAlive, "kept connections of HTTP/1.1"),
            (Mode::Http2, "kept connections of HTTP/2"),
            (Mode::NewConnection, "a connection for each, sessions resumed"),
        ] {
            let target = fixed(sidecar.endpoint);
            let load =
                Load::start(&pki, &target, &callers(CALLERS, &[mode]), &work, Manners::default());
            load.wait_for(load.finished() + 100).await;
            let (before, began) = (load.finished(), processor_time(id));
            tokio::time::sleep(time).await;
            let (requests, used) = (load.finished() - before, processor_time(id) - began);
            let memory = resident(id);
            let tally = load.stop().await;
            findings
                .bound(&format!("0 failed requests: {}", tally.outcomes()), tally.failed() == 0);
            findings.figures(format!(
                "get_user, {kind:?}, {CALLERS} callers, {name}: {} a second, {} µs of processor time \
                 each; {} resident, {} before",
                thousands(requests * 1000 / u64::try_from(time.as_millis()).unwrap()),
                used.as_micros() / u128::from(requests.max(1)),
                mebibytes(memory),
                mebibytes(idle),
            ));
        }
        findings.no_panic(&sidecar.process);
    }
    findings
}
