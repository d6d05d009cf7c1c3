//! The life of a pod, with real processes: what the manifests say about probes, hooks and the end is
//! played by a small model of the kubelet, under load where it matters. No request is lost.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode};
use serde_json::json;

use self::{
    kubelet::{End, Status},
    load::{Caller, Mode, Target},
    service::Service,
    workload::{Replica, SIDECAR, STORE, Workload, files},
};
use crate::{
    harness::{
        certs::{Authority, Leaf},
        client::{Client, Reply},
        database::Kind,
        load::{Answer, Load, Post, Record, connection},
        process::{PATIENCE, Pki},
    },
    reload::{bundle, der, shown},
};

mod kubelet;
#[allow(dead_code, reason = "the benchmark uses the rest of it")]
#[path = "../../../benches/operation/load.rs"]
mod load;
mod manifest;
mod service;
mod workload;

/// From an answer to the next request of a caller: several rollouts are played on a small machine.
const PACE: Duration = Duration::from_millis(40);

/// Callers who leave a connection when they are told to, and connect where the Service says.
fn callers(pki: &Pki, target: &Target) -> Load {
    let kinds = [Mode::KeepAlive, Mode::Http2, Mode::NewConnection];
    let caller = |kind| -> Box<dyn Post> {
        Box::new(Caller::new(kind, load::tls(pki, kind), Arc::clone(target)))
    };
    Load::of(kinds.map(caller))
}

impl Post for Caller {
    fn post(&mut self, body: String) -> Answer<'_> {
        Box::pin(async move {
            tokio::time::sleep(PACE).await;
            let response = Self::post(self, &body.into()).await?;
            let headers = HeaderMap::new();
            Ok(Reply { status: response.status, headers, body: response.body })
        })
    }
}

/// Every request was answered, and well, and everything acknowledged is there.
async fn assert_nothing_lost(record: &Record, client: &Client) {
    let outcomes = record.outcomes();
    assert!(outcomes.keys().eq(["ok"]), "{outcomes:?}");
    record.check(client, PATIENCE).await;
}

fn get_user() -> String {
    json!({ "action": "get_user", "arguments": { "user_id": "nobody" } }).to_string()
}

/// Plays all of them at the same time: most of it is waiting.
async fn at_once<P>(plays: impl IntoIterator<Item = (&'static str, P)>)
where
    P: Future<Output = ()> + Send + 'static,
{
    let plays: Vec<_> = plays.into_iter().map(|(name, play)| (name, tokio::spawn(play))).collect();
    for (name, play) in plays {
        if let Err(failure) = play.await {
            panic!("{name}: {failure}");
        }
    }
}

/// The startup probe waits for no store, nor does liveness; readiness does, and until then the
/// endpoint says when to come again.
async fn starts_without_its_store(workload: Workload) {
    let replica = workload.start_without_store();
    let looked_at = |status: &Status| status.container(SIDECAR).liveness.0 >= 2;
    replica.pod.wait_for("it has started and is alive", looked_at).await;
    let status = replica.pod.status().borrow().clone();
    assert!(status.container(SIDECAR).has_started && status.container(STORE).is_running);
    assert!(!status.container(SIDECAR).is_ready && !status.is_ready());
    let client = workload.client(&replica);
    let reply = client.post(get_user()).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.header("retry-after").is_some());

    replica.let_the_store_start();
    replica.wait_until_ready().await;
    assert_eq!(client.post(get_user()).await.status, StatusCode::OK);
    let status = replica.pod.status().borrow().clone();
    assert_eq!(status.container(SIDECAR).liveness.1, 0, "liveness never fails");
    assert_eq!(status.container(SIDECAR).restarts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_starts_without_its_store() {
    at_once([
        ("native", starts_without_its_store(Workload::native())),
        ("plain", starts_without_its_store(Workload::plain())),
    ])
    .await;
}

/// A pod takes the place of another under load, and gives how the containers of the old one ended.
async fn replace(workload: &Workload) -> (Vec<End>, Record, Replica) {
    let mut service = Service::default();
    let (old, new) = (workload.start(), workload.start());
    service.add(&old.pod, old.endpoint);
    let load = callers(&workload.pki, &service.target());
    load.succeeds().await;
    service.add(&new.pod, new.endpoint);
    service.wait_until_all_take_connections().await;
    let ends = old.pod.delete().await;
    load.succeeds().await;
    let record = load.stop().await;
    assert!(service.late_connections() > 0, "some connect to a pod that is being deleted");
    (ends, record, new)
}

/// Every request is answered, everything acknowledged is there, and each container ends by itself,
/// in time, after its hook has done what it should. `order` is that of the ends.
async fn loses_nothing(workload: Workload, order: &[&str]) {
    let (mut ends, record, new) = replace(&workload).await;
    for End { container, hook, is_killed, status, process, after } in &ends {
        assert_eq!(*hook, Ok(()), "{container}");
        let well = !is_killed && status.success();
        assert!(well, "{container}: {status} after {after:?}:\n{}", process.log());
    }
    ends.sort_by_key(|end| end.after);
    assert_eq!(ends.iter().map(|end| &*end.container).collect::<Vec<_>>(), order);
    assert_nothing_lost(&record, &workload.client(&new)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_loses_nothing() {
    const NATIVE: &[&str] = &["prepare", STORE, SIDECAR];
    const PLAIN: &[&str] = &["prepare", SIDECAR, STORE];
    at_once([
        ("native", loses_nothing(Workload::native(), NATIVE)),
        ("native, on a socket", loses_nothing(Workload::native_on_a_socket(), NATIVE)),
        ("native, by the chart", loses_nothing(Workload::native_by_chart(), &NATIVE[1..])),
        ("plain", loses_nothing(Workload::plain(), PLAIN)),
        ("plain, by the chart", loses_nothing(Workload::plain_by_chart(), &PLAIN[1..])),
        ("SQLite", loses_nothing(Workload::user_server(Kind::Sqlite), &[SIDECAR])),
        ("PostgreSQL", loses_nothing(Workload::user_server(Kind::Postgres), &[SIDECAR])),
    ])
    .await;
}

/// What the hooks are for.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_without_one_of_the_hooks_loses_requests() {
    async fn loses_requests(without: &str) {
        let mut workload = Workload::native();
        workload.pod.container(without).lifecycle.pre_stop = None;
        let (_, record, _) = replace(&workload).await;
        let outcomes = record.outcomes();
        assert!(outcomes.contains_key("503"), "{outcomes:?}");
    }
    at_once([
        ("the store does not wait", loses_requests(STORE)),
        ("the sidecar does not drain", loses_requests(SIDECAR)),
    ])
    .await;
}

/// Secrets that change in a running pod, as the kubelet brings them.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_rotated_under_load() {
    let workload = Workload::native();
    let mut service = Service::default();
    let mut replica = workload.start();
    service.add(&replica.pod, replica.endpoint);
    replica.wait_until_ready().await;
    let load = callers(&workload.pki, &service.target());
    load.succeeds().await;
    let client = workload.client(&replica);
    assert_eq!(shown(&client).await, der(&workload.pki.server));

    // Callers of a second authority are let in before they come.
    let authority = &workload.pki.authority;
    let next = Authority::new();
    let ca =
        bundle(authority.folder(), "both.pem", &[&authority.certificate(), &next.certificate()]);
    let caller = next.issue("next", Leaf::client(&["faroe"]));
    let caller = Client::new(replica.endpoint, &workload.pki, Some(&caller));
    assert!(caller.try_post(get_user()).await.is_err());
    for name in ["second", "third"] {
        let renewed = authority.issue(name, Leaf::server());
        replica.secret.swap(&files(&renewed, &ca));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while shown(&client).await != der(&renewed) {
            assert!(tokio::time::Instant::now() < deadline, "{name} is not used");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        load.succeeds().await;
    }
    assert_eq!(caller.post(get_user()).await.status, StatusCode::OK);
    assert_nothing_lost(&load.stop().await, &client).await;
    let status = replica.pod.status().borrow().clone();
    assert!(status.is_ready() && status.container(SIDECAR).restarts == 0);
}

/// A container that crashes comes back, and the pod with it; nobody who exists is said not to.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_crashes_is_started_again() {
    let workload = Workload::native_on_a_socket();
    let replica = workload.start();
    replica.wait_until_ready().await;
    let load = Load::of((0..4).map(|number| connection(workload.client(&replica), number)));
    for container in [STORE, SIDECAR] {
        load.succeeds().await;
        replica.pod.crash(container);
        let again =
            |status: &Status| status.container(container).restarts == 1 && status.is_ready();
        replica.pod.wait_for("it is ready again", again).await;
    }
    load.succeeds().await;
    let record = load.stop().await;
    record.check_answers();
    record.check_users(&workload.client(&replica)).await;
    let status = replica.pod.status().borrow().clone();
    for container in [STORE, SIDECAR] {
        assert_eq!(status.container(container).restarts, 1, "{container}: its own crash alone");
    }
}
