//! Accepting connections: a failure is no end of a listener, and one that lasts is a reason not to
//! be ready.

use std::{io, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::{readiness::Condition, telemetry::Occasionally};

/// How long to wait where nothing gets better by trying again at once.
const RETRY: Duration = Duration::from_millis(100);

/// How long every attempt has to have failed before that is a reason not to be ready: a moment
/// without descriptors passes.
const GRACE: Duration = Duration::from_secs(1);

/// Gets connections from one listener.
#[derive(Debug)]
pub(crate) struct Acceptor {
    condition: Option<Condition>,
    /// Since when every attempt has failed.
    failing: Option<Instant>,
    failures: Occasionally,
}

impl Acceptor {
    /// Of a listener that `condition` depends on, if one does: it is met as long as connections are
    /// accepted, or would be.
    pub(crate) fn new(condition: Option<Condition>) -> Self {
        Self { condition, failing: None, failures: Occasionally::default() }
    }

    /// The next connection that `accept` gives, however often it fails before. Nothing is lost
    /// where this is given up and called again, if that holds for `accept`.
    pub(crate) async fn next<T, A>(&mut self, accept: impl Fn() -> A) -> T
    where
        A: Future<Output = io::Result<T>>,
    {
        loop {
            let accepted = {
                let mut accepted = std::pin::pin!(accept());
                tokio::select! {
                    biased;
                    accepted = accepted.as_mut() => accepted,
                    // It waits for a peer, so nothing is wrong with it.
                    () = std::future::ready(()) => {
                        self.works();
                        accepted.await
                    }
                }
            };
            match accepted {
                Ok(connection) => {
                    self.works();
                    return connection;
                }
                Err(error) => self.failed(&error).await,
            }
        }
    }

    fn works(&mut self) {
        self.failing = None;
        if let Some(condition) = &self.condition {
            condition.is_met();
        }
    }

    async fn failed(&mut self, error: &io::Error) {
        if self.failures.is_due() {
            warn!(%error, "cannot accept a connection; the listener goes on");
        }
        if !is_exhausted(error) {
            return;
        }
        let since = *self.failing.get_or_insert_with(Instant::now);
        if let (true, Some(condition)) = (since.elapsed() >= GRACE, &self.condition) {
            condition.lacks(format!("connections cannot be accepted: {error}"));
        }
        sleep(RETRY).await;
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        if let Some(condition) = &self.condition {
            condition.lacks("connections are not accepted any more");
        }
    }
}

/// Whether an accept failed for want of descriptors or memory, and not for the peer's sake.
fn is_exhausted(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, io::ErrorKind};

    use super::*;
    use crate::readiness::Readiness;

    /// A listener of `readiness`, and what to ask of it.
    fn acceptor(readiness: &Readiness) -> Acceptor {
        Acceptor::new(Some(readiness.condition("listener")))
    }

    /// Has `acceptor` accept for so long, which comes to nothing.
    async fn accepts_nothing<A>(acceptor: &mut Acceptor, time: Duration, accept: impl Fn() -> A)
    where
        A: Future<Output = io::Result<()>>,
    {
        assert!(tokio::time::timeout(time, acceptor.next(accept)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_is_in_order_as_soon_as_it_accepts_and_until_it_has_ended() {
        let readiness = Readiness::default();
        let mut acceptor = acceptor(&readiness);
        assert_eq!(readiness.missing(), ["listener: not looked at yet"]);
        accepts_nothing(&mut acceptor, RETRY, std::future::pending).await;
        assert!(readiness.missing().is_empty(), "nobody has come yet");
        drop(acceptor);
        assert_eq!(readiness.missing(), ["listener: connections are not accepted any more"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_keeps_failing_lacks_something_until_it_accepts_again() {
        let readiness = Readiness::default();
        let mut acceptor = acceptor(&readiness);
        acceptor.next(async || Ok(())).await;
        assert!(readiness.missing().is_empty());
        let exhausted = async || Err(io::Error::other("too many open files"));
        for better in [true, false] {
            accepts_nothing(&mut acceptor, GRACE - RETRY, exhausted).await;
            assert!(readiness.missing().is_empty(), "a moment passes");
            accepts_nothing(&mut acceptor, 3 * RETRY, exhausted).await;
            let lacks = "listener: connections cannot be accepted: too many open files";
            assert_eq!(readiness.missing(), [lacks]);
            if better {
                acceptor.next(async || Ok(())).await;
            } else {
                accepts_nothing(&mut acceptor, RETRY, std::future::pending).await;
            }
            assert!(readiness.missing().is_empty(), "it waits for the next one");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_peer_does_is_no_fault_of_the_listener() {
        let readiness = Readiness::default();
        let mut acceptor = acceptor(&readiness);
        let attempts = Cell::new(0);
        let start = Instant::now();
        let connection = acceptor.next(async || {
            attempts.set(attempts.get() + 1);
            match attempts.get() {
                1..1000 => Err(ErrorKind::ConnectionAborted.into()),
                attempt => Ok(attempt),
            }
        });
        assert_eq!(connection.await, 1000);
        assert_eq!(start.elapsed(), Duration::ZERO, "the next one is there already");
        assert!(readiness.missing().is_empty());
    }
}
