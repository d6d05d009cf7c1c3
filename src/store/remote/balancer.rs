//! Connections to every address of a store, kept up in the background, and calls spread over them.
//!
//! It exists because a call's fate has to be known exactly: whether it certainly never reached the
//! store ([`NotReached`]) or may have ([`Unanswered`]). gRPC channels blur the two.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tonic::{Status, body::Body};
use tower_service::Service;

use super::{
    Url,
    connect::{Address, Dialer, Sender, Tls},
};
use crate::store::{NotReached, Unanswered, shortened};

/// How often a name is resolved again, at the least; and at the most, where an address is gone.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);
const RESOLVE_PAUSE: Duration = Duration::from_secs(1);

/// The first and the longest pause between two attempts to connect. The longest is short, because
/// a store that comes back should be used at once.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// When the caller of a call stops waiting for it; an extension of its request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(pub(crate) Instant);

/// Where the connections stand.
#[derive(Default)]
struct State {
    addresses: HashMap<Address, AddressState>,
    /// How often the name could not be resolved.
    resolve_failures: u64,
    /// What stood in the way last, for the log.
    last_error: Option<String>,
}

#[derive(Default)]
struct AddressState {
    sender: Option<Sender>,
    /// How many attempts to connect have failed.
    failures: u64,
}

impl State {
    fn open(&self) -> impl Iterator<Item = &Sender> {
        self.addresses
            .values()
            .filter_map(|address| address.sender.as_ref())
            .filter(|sender| !sender.is_closed())
    }

    fn why_not(&self) -> String {
        self.last_error.clone().unwrap_or_else(|| "no connection yet".to_owned())
    }
}

/// Sends each call on one of the open connections. Clones share them; when the last is dropped,
/// the connections end after the calls on them.
#[derive(Clone)]
pub(crate) struct Balancer(Arc<Shared>);

struct Shared {
    state: watch::Receiver<State>,
    next: AtomicUsize,
    /// How long a call waits for a connection at the most.
    reach_timeout: Duration,
}

impl Balancer {
    /// Starts to connect and to keep connected, in the background.
    pub(super) fn start(url: Url, tls: Option<Tls>, reach_timeout: Duration) -> Self {
        let (sender, state) = watch::channel(State::default());
        tokio::spawn(supervise(url, tls, reach_timeout, sender));
        Self(Arc::new(Shared { state, next: AtomicUsize::new(0), reach_timeout }))
    }

    /// Whether a connection is open; if not, why.
    pub(super) fn check(&self) -> Result<(), String> {
        let state = self.0.state.borrow();
        if state.open().next().is_some() { Ok(()) } else { Err(state.why_not()) }
    }

    /// The open connection whose turn it is.
    fn pick(&self, state: &State) -> Option<Sender> {
        let open = state.open().count();
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed).checked_rem(open)?;
        // One of them may have been closed since.
        state.open().nth(turn).or_else(|| state.open().next()).cloned()
    }

    /// An open connection. Waits while there is none, until `deadline` or until every address has
    /// refused once more.
    async fn connection(&self, deadline: Instant) -> Result<Sender, NotReached> {
        if let Some(sender) = self.pick(&self.0.state.borrow()) {
            return Ok(sender);
        }
        let mut state = self.0.state.clone();
        let mut failures_before = None;
        loop {
            {
                let state = state.borrow_and_update();
                if let Some(sender) = self.pick(&state) {
                    return Ok(sender);
                }
                let failures: HashMap<_, _> = state
                    .addresses
                    .iter()
                    .map(|(address, state)| (address.clone(), state.failures))
                    .collect();
                let (before, resolve_failures_before) = failures_before
                    .get_or_insert_with(|| (failures.clone(), state.resolve_failures));
                let all_refused = !failures.is_empty()
                    && failures
                        .iter()
                        .all(|(address, now)| *now > before.get(address).copied().unwrap_or(0));
                if all_refused || state.resolve_failures > *resolve_failures_before {
                    return Err(NotReached::new(state.why_not()));
                }
            }
            match timeout_at(deadline, state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(NotReached::new("the connections are closed")),
                Err(_) => return Err(NotReached::new(state.borrow().why_not())),
            }
        }
    }
}

impl Service<Request<Body>> for Balancer {
    type Response = Response<Incoming>;
    type Error = Status;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let balancer = self.clone();
        Box::pin(async move {
            let now = Instant::now();
            let left = match request.extensions().get::<Deadline>() {
                Some(Deadline(deadline)) => deadline.saturating_duration_since(now),
                None => balancer.0.reach_timeout,
            };
            let deadline = now + left.min(balancer.0.reach_timeout);
            loop {
                let mut connection =
                    balancer.connection(deadline).await.map_err(NotReached::into_status)?;
                match connection.send(request).await {
                    Ok(response) => return Ok(response),
                    // It comes back to us only if nothing of it was sent: on a connection that
                    // ended in this moment.
                    Err(mut error) => match error.take_message() {
                        Some(unsent) => request = unsent,
                        None => return Err(lost(error.error()).into_status()),
                    },
                }
                if Instant::now() >= deadline {
                    return Err(NotReached::new("no connection took the call").into_status());
                }
                tokio::task::yield_now().await;
            }
        })
    }
}

fn lost(error: &hyper::Error) -> Unanswered {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    let text = format!("{error}{}", source.unwrap_or_default());
    // The store may have said why, at any length.
    Unanswered::ConnectionLost(shortened(&text))
}

/// Keeps a task for each address that the name has, until the last [`Balancer`] is dropped.
async fn supervise(
    url: Url,
    tls: Option<Tls>,
    connect_timeout: Duration,
    state: watch::Sender<State>,
) {
    let state = Arc::new(state);
    let lost = Arc::new(Notify::new());
    let mut keepers: HashMap<Address, tokio::task::AbortHandle> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut pause = FIRST_PAUSE;
    loop {
        let wait = match resolve(&url).await {
            Ok(addresses) => {
                keepers.retain(|address, keeper| {
                    let stays = addresses.contains(address);
                    if !stays {
                        // Calls in hand go on: their connection ends when they have.
                        keeper.abort();
                    }
                    stays
                });
                state.send_modify(|state| {
                    state.addresses.retain(|address, _| addresses.contains(address));
                    for address in &addresses {
                        state.addresses.entry(address.clone()).or_default();
                    }
                });
                for address in addresses {
                    keepers.entry(address.clone()).or_insert_with(|| {
                        let state = Arc::clone(&state);
                        let lost = Arc::clone(&lost);
                        let dialer = Dialer::new(address, tls.clone(), connect_timeout);
                        tasks.spawn(keep(dialer, state, lost))
                    });
                }
                pause = FIRST_PAUSE;
                RESOLVE_INTERVAL
            }
            Err(error) => {
                state.send_modify(|state| {
                    state.resolve_failures += 1;
                    state.last_error = Some(format!("resolving the store's name: {error}"));
                });
                pause = (pause * 2).min(LONGEST_PAUSE);
                pause
            }
        };
        let gone = async {
            sleep(RESOLVE_PAUSE).await;
            lost.notified().await;
        };
        tokio::select! {
            () = sleep(wait) => {}
            () = gone => {}
            () = state.closed() => break,
        }
        while tasks.try_join_next().is_some() {}
    }
    tasks.shutdown().await;
}

async fn resolve(url: &Url) -> std::io::Result<Vec<Address>> {
    match url {
        Url::Unix(path) => Ok(vec![Address::Unix(path.clone())]),
        Url::Tcp { host, port, .. } => {
            let addresses: Vec<_> =
                tokio::net::lookup_host((host.as_str(), *port)).await?.map(Address::Tcp).collect();
            if addresses.is_empty() {
                return Err(std::io::Error::other("the name has no address"));
            }
            Ok(addresses)
        }
    }
}

/// Keeps one address connected. `lost` is told when it is not: the name may have a better one.
async fn keep(mut dialer: Dialer, state: Arc<watch::Sender<State>>, lost: Arc<Notify>) {
    let address = dialer.address.clone();
    let mut pause = FIRST_PAUSE;
    loop {
        let start = Instant::now();
        match dialer.connect().await {
            Ok((sender, ended)) => {
                let since = Instant::now();
                set(&state, &address, |address| address.sender = Some(sender.clone()));
                let mut ended = Box::pin(ended);
                let renew = tokio::select! {
                    () = &mut ended => false,
                    () = dialer.changed() => true,
                    () = sender.silence() => true,
                };
                if renew {
                    // The old connection is used until the new one is there, and ends after the
                    // calls on it.
                    tokio::spawn(ended);
                    continue;
                }
                set(&state, &address, |address| address.sender = None);
                lost.notify_one();
                // One that lasted was no failed attempt.
                if since.elapsed() > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                    continue;
                }
            }
            Err(error) => {
                state.send_modify(|state| {
                    state.last_error = Some(error.to_string());
                    if let Some(address) = state.addresses.get_mut(&address) {
                        address.failures += 1;
                        // An old connection that was to be renewed. Whoever cannot be reached with
                        // new TLS material is not to be reached with the old one; and of one that
                        // is silent no caller would learn more than that it did not answer.
                        address.sender = None;
                    }
                });
                lost.notify_one();
            }
        }
        // An attempt that took its time was pause enough.
        sleep_until(start + jittered(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn set(state: &watch::Sender<State>, address: &Address, change: impl FnOnce(&mut AddressState)) {
    state.send_modify(|state| {
        if let Some(address) = state.addresses.get_mut(address) {
            change(address);
        }
    });
}

/// Between half of a pause and all of it, so that many sidecars do not come back in step.
fn jittered(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    pause.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}
