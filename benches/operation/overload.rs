//! Ten times the load that is admitted: the excess is turned away at once, and what is admitted
//! goes on as if it were alone.
//!
//! The store takes the same time for every call, and a caller that was turned away comes back when
//! that time is over. So ten times as many callers offer ten times as many requests, and the limit
//! decides what is admitted, not the processor that the load shares with the program.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use faroe_sidecar::proto::User;
use tonic::{Status, async_trait};

use crate::{
    Scale,
    figures::{Findings, median, milliseconds, thousands},
    harness::{
        answering::{self, Answering},
        email_address,
        process::Pki,
    },
    load::{Load, Manners, Mode, Outcome, Tally, callers, fixed, reads},
    sidecar,
};

const MAX_IN_FLIGHT: usize = 32;
/// How long the store takes for a call.
const SERVICE_TIME: Duration = Duration::from_millis(100);
/// In how much time half of the excess has its 503.
const REJECTION: Duration = Duration::from_millis(50);
/// How much of its throughput what is admitted keeps, in percent.
const KEPT: u64 = 80;
const ID: &str = "overload";

pub async fn run(scale: Scale) -> Findings {
    let mut findings = Findings::of("overload");
    let length = scale.of(Duration::from_secs(10), Duration::from_secs(4));
    let user = User { id: ID.to_owned(), email_address: email_address(), ..User::default() };
    let store = answering::serve(Steady(user)).await;
    let pki = Arc::new(Pki::new());
    let limit = MAX_IN_FLIGHT.to_string();
    let options = [("--max-in-flight", &*limit)];
    let sidecar = sidecar::ready(&pki, &format!("grpc://{store}"), &options);

    let admitted = offer(&pki, sidecar.endpoint, MAX_IN_FLIGHT, length).await;
    let over = offer(&pki, sidecar.endpoint, 10 * MAX_IN_FLIGHT, length).await;
    let mut rejections: Vec<Duration> = over
        .tally
        .samples
        .iter()
        .filter(|sample| sample.outcome == Outcome::Status(503))
        .map(|sample| sample.took)
        .collect();
    let rejection = median(&mut rejections);
    findings.figures(format!(
        "{} requests a second served of {} offered by {MAX_IN_FLIGHT} callers, {} of {} by {}: {} % \
         (at least {KEPT} %)",
        thousands(admitted.served()),
        thousands(admitted.offered()),
        thousands(over.served()),
        thousands(over.offered()),
        10 * MAX_IN_FLIGHT,
        over.served() * 100 / admitted.served().max(1),
    ));
    findings.figures(format!(
        "half of the excess has its 503 within {} (at most {})",
        rejection.map_or("no time at all".to_owned(), milliseconds),
        milliseconds(REJECTION),
    ));
    findings.bound("the excess is turned away", rejection.is_some());
    findings.bound(
        "half of the excess has its 503 in less than 50 ms",
        rejection.is_none_or(|rejection| rejection < REJECTION),
    );
    findings.bound(
        "what is admitted keeps its throughput within 20 %",
        over.served() * 100 >= admitted.served() * KEPT,
    );
    let neither =
        over.tally.count(|outcome| !matches!(outcome, Outcome::Ok | Outcome::Status(503)));
    findings.bound(
        &format!("every request is served or gets 503: {}", over.tally.outcomes()),
        neither == 0,
    );
    findings.no_panic(&sidecar.process);
    findings
}

/// What came of a load.
struct Offered {
    tally: Tally,
    length: Duration,
}

/// So many callers, each of which offers as much as one that is admitted.
async fn offer(pki: &Pki, endpoint: SocketAddr, count: usize, length: Duration) -> Offered {
    let modes = callers(count, &[Mode::KeepAlive, Mode::Http2]);
    let work = reads(&[ID.to_owned()]);
    let manners = Manners { pause: SERVICE_TIME, ..Manners::default() };
    let load = Load::start(pki, &fixed(endpoint), &modes, &work, manners);
    // Handshakes are no part of it.
    load.wait_for(4 * u64::try_from(count).unwrap()).await;
    let start = Instant::now();
    tokio::time::sleep(length).await;
    let end = Instant::now();
    let mut tally = load.stop().await;
    tally.samples.retain(|sample| (start..end).contains(&sample.end()));
    Offered { tally, length }
}

impl Offered {
    fn served(&self) -> u64 {
        self.per_second(|outcome| *outcome == Outcome::Ok)
    }

    fn offered(&self) -> u64 {
        self.per_second(|_| true)
    }

    fn per_second(&self, what: impl Fn(&Outcome) -> bool) -> u64 {
        self.tally.count(what) / self.length.as_secs()
    }
}

/// A gRPC store that knows one user and takes its time.
struct Steady(User);

#[async_trait]
impl Answering for Steady {
    async fn answer(&self, _: &'static str, _: &str) -> Result<Option<User>, Status> {
        tokio::time::sleep(SERVICE_TIME).await;
        Ok(Some(self.0.clone()))
    }
}
