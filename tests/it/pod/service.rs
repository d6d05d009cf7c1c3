//! A Service: new connections go to the pods that are ready and not being deleted, in turn, as far
//! as that is known yet.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    kubelet::{Pod, Status},
    load::Target,
};
use crate::harness::process::PATIENCE;

/// From a change of a pod until every node sends its connections accordingly.
const PROPAGATION: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Service {
    endpoints: Arc<Mutex<Vec<Endpoint>>>,
    /// Connections to pods that were being deleted already.
    late: Arc<AtomicUsize>,
    watches: JoinSet<()>,
}

struct Endpoint {
    address: SocketAddr,
    pod: watch::Receiver<Status>,
    /// What is known everywhere.
    takes_connections: bool,
}

impl Service {
    /// Makes a pod one of its own, whose endpoint is there.
    pub fn add(&mut self, pod: &Pod, endpoint: SocketAddr) {
        let endpoints = Arc::clone(&self.endpoints);
        let mut status = pod.status();
        lock(&endpoints).push(Endpoint {
            address: endpoint,
            pod: status.clone(),
            takes_connections: false,
        });
        self.watches.spawn(async move {
            let takes = |status: &Status| status.is_ready() && !status.is_deleted;
            let mut known = false;
            while status.wait_for(|status| takes(status) != known).await.is_ok() {
                known = !known;
                sleep(PROPAGATION).await;
                let set = |endpoint: &mut Endpoint| endpoint.takes_connections = known;
                lock(&endpoints).iter_mut().filter(|it| it.address == endpoint).for_each(set);
            }
        });
    }

    /// Waits until new connections go to all of its pods.
    pub async fn wait_until_all_take_connections(&self) {
        let all = async {
            while !lock(&self.endpoints).iter().all(|endpoint| endpoint.takes_connections) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(2 * PATIENCE, all).await.is_ok(), "not all pods take connections");
    }

    /// Where the next connection goes.
    pub fn target(&self) -> Target {
        let (endpoints, late) = (Arc::clone(&self.endpoints), Arc::clone(&self.late));
        let turn = AtomicUsize::new(0);
        Arc::new(move || {
            let endpoints = lock(&endpoints);
            let ready: Vec<&Endpoint> =
                endpoints.iter().filter(|endpoint| endpoint.takes_connections).collect();
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            let chosen = ready.get(turn % ready.len().max(1))?;
            late.fetch_add(usize::from(chosen.pod.borrow().is_deleted), Ordering::Relaxed);
            Some(chosen.address)
        })
    }

    /// How many connections went to pods that were being deleted already.
    pub fn late_connections(&self) -> usize {
        self.late.load(Ordering::Relaxed)
    }
}

fn lock(endpoints: &Mutex<Vec<Endpoint>>) -> std::sync::MutexGuard<'_, Vec<Endpoint>> {
    endpoints.lock().unwrap_or_else(PoisonError::into_inner)
}
