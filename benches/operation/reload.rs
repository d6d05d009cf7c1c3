//! Certificate and client CA change under load: nobody's request fails.

use std::{sync::Arc, time::Instant};

use tokio::task::block_in_place;

use crate::{
    Scale,
    figures::{Findings, median, milliseconds, thousands},
    harness::{database::Kind, process::Pki},
    load::{Load, Manners, Mode, callers, fixed, reads_and_writes, users},
    material::Material,
    sidecar::{self, text},
};

/// What the log says when new material is in use.
pub const RELOADED: &str = "reloaded";

pub async fn run(scale: Scale) -> Findings {
    let mut findings = Findings::of("reload");
    let (reloads, requests) = scale.of((50, 20_000), (10, 4_000));
    let pki = Arc::new(Pki::new());
    let mut material = Material::new(&pki);
    let files = material.options();
    let options = files.each_ref().map(|(flag, path)| (*flag, text(path)));
    let database = Kind::Sqlite.database();
    let sidecar = sidecar::ready(&pki, &database.url, &options);
    let ids = users(&sidecar.client(), 16).await;

    let modes = callers(8, &[Mode::KeepAlive, Mode::Http2, Mode::NewConnection, Mode::Http2]);
    let work = reads_and_writes(&ids);
    let load = Load::start(&pki, &fixed(sidecar.endpoint), &modes, &work, Manners::default());
    let mut delays = Vec::new();
    let mut stale = 0;
    for reload in 1..=reloads {
        load.wait_for(requests / reloads * reload).await;
        let start = Instant::now();
        material.change();
        let lines = usize::try_from(reload).unwrap();
        block_in_place(|| sidecar.process.wait_for_log_lines(RELOADED, lines));
        delays.push(start.elapsed());
        stale += u64::from(!material.is_shown(sidecar.endpoint).await);
    }
    // The last one has to be outlived, too.
    let outlived = load.finished() + requests / reloads;
    load.wait_for(outlived.max(requests)).await;
    let tally = load.stop().await;
    findings.figures(format!(
        "{reloads} reloads, {} requests, {} failed (0 allowed); a change is in use after {} at the \
         median",
        thousands(tally.requests()),
        tally.failed(),
        median(&mut delays).map_or(String::new(), milliseconds),
    ));
    findings.figures(format!(
        "{} connections ended by Connection: close, {} by GOAWAY; {} requests sent again that were \
         not begun",
        tally.goodbyes.connection_close, tally.goodbyes.goaway, tally.goodbyes.sent_again,
    ));
    findings.bound(&format!("0 failed requests: {}", tally.outcomes()), tally.failed() == 0);
    findings.bound(&format!("at least {requests} requests"), tally.requests() >= requests);
    findings.bound(
        &format!("the first new connection shows the new certificate ({stale} did not)"),
        stale == 0,
    );
    findings.no_panic(&sidecar.process);
    findings
}
