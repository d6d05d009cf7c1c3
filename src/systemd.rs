//! What systemd is told of a service of `Type=notify` or `Type=notify-reload`: that it serves, that
//! it reloads, that it stops, that it is alive, and in words how it is. The protocol is that of
//! `sd_notify(3)`; where there is no `NOTIFY_SOCKET` nothing is told.

use std::{env, ffi::OsStr, future::pending, io, os::unix::net, sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::{net::UnixDatagram, sync::watch, time::sleep};
use tracing::warn;

use crate::{drain::Drain, readiness::Readiness};

/// How often it is looked at how the program is.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// The service manager, if there is one. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    socket: Option<Arc<UnixDatagram>>,
    /// How long it may hear nothing of a program that is alive.
    watchdog: Option<Duration>,
}

/// Reloads by request.
#[derive(Debug)]
pub(crate) struct Reloads {
    /// The number of the last one that was asked for.
    pub(crate) requests: watch::Receiver<u64>,
    /// For everything that is reloaded, the last one that has come to its end.
    pub(crate) finished: Vec<watch::Receiver<u64>>,
}

impl ServiceManager {
    /// The one of the environment: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`. One that cannot
    /// be told anything is none, and the log says so. To be called in a runtime.
    pub fn of_environment() -> Self {
        let Some(address) = env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        match connect(&address) {
            Ok(socket) => Self {
                socket: Some(Arc::new(socket)),
                watchdog: sd_notify::watchdog_enabled().filter(|time| !time.is_zero()),
            },
            Err(error) => {
                warn!(%error, "the service manager cannot be reached at NOTIFY_SOCKET: it is told nothing");
                Self::default()
            }
        }
    }

    /// Says that the program serves, and from then on how it is, and each of its reloads from the
    /// beginning to the end. Never returns.
    pub(crate) async fn follow(self, reloads: Reloads, readiness: Readiness, drain: Drain) {
        if self.socket.is_none() {
            return pending().await;
        }
        self.tell(&[NotifyState::Ready]).await;
        tokio::join!(
            self.tell_alive(),
            self.tell_status(&readiness, &drain),
            self.tell_reloads(reloads)
        );
    }

    /// Says that the program has begun to stop. It waits for nothing.
    pub(crate) fn stopping(&self) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.try_send(&message(&[NotifyState::Stopping]))
        {
            warn!(%error, "the service manager was not told that the sidecar stops");
        }
    }

    /// A runtime that hangs says nothing, and is started again by the service manager.
    async fn tell_alive(&self) {
        let Some(watchdog) = self.watchdog else { return };
        loop {
            self.tell(&[NotifyState::Watchdog]).await;
            sleep(watchdog / 2).await;
        }
    }

    async fn tell_status(&self, readiness: &Readiness, drain: &Drain) {
        let mut told = String::new();
        loop {
            let missing = readiness.missing();
            let status = if drain.has_begun() {
                "draining".to_owned()
            } else if missing.is_empty() {
                "ready".to_owned()
            } else {
                format!("not ready: {}", missing.join("; ").replace('\n', " "))
            };
            if status != told {
                self.tell(&[NotifyState::Status(&status)]).await;
                told = status;
            }
            sleep(STATUS_INTERVAL).await;
        }
    }

    async fn tell_reloads(&self, mut reloads: Reloads) {
        while reloads.requests.changed().await.is_ok() {
            let request = *reloads.requests.borrow_and_update();
            // `Type=notify-reload` wants to know that it is the reload after its signal.
            let now = NotifyState::monotonic_usec_now().ok();
            let states: Vec<_> = [NotifyState::Reloading].into_iter().chain(now).collect();
            self.tell(&states).await;
            for finished in &mut reloads.finished {
                if finished.wait_for(|finished| *finished >= request).await.is_err() {
                    // The program stops.
                    return;
                }
            }
            self.tell(&[NotifyState::Ready]).await;
        }
    }

    async fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(&message(states)).await {
            warn!(%error, "the service manager was not told: {states:?}");
        }
    }
}

/// Lines of what has changed.
fn message(states: &[NotifyState<'_>]) -> Vec<u8> {
    states.iter().map(|state| format!("{state}\n")).collect::<String>().into_bytes()
}

fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = net::UnixDatagram::unbound()?;
    socket.connect_addr(&parse(address)?)?;
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
}

/// A path, or `@` and a name that is in no file system.
fn parse(address: &OsStr) -> io::Result<net::SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = address.as_encoded_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt as _;
        return net::SocketAddr::from_abstract_name(name);
    }
    net::SocketAddr::from_pathname(address)
}
