//! What a connection is doing: nothing, receiving headers, or answering.
//!
//! hyper's own timer for headers also runs on a connection that is idle between two requests, and
//! would close it far too early.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// The activity of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    phase: Mutex<Phase>,
    /// On HTTP/2, bytes without a request are the protocol's own business.
    http2: bool,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Idle { since: Instant },
    Headers { since: Instant },
    Requests { count: usize },
}

impl Activity {
    pub(super) fn start(http2: bool) -> Arc<Self> {
        Arc::new(Self { phase: Mutex::new(Phase::Idle { since: Instant::now() }), http2 })
    }

    /// A request has come in; it lasts until the guard is dropped.
    pub(super) fn request(self: &Arc<Self>) -> Busy {
        let mut phase = self.phase();
        *phase = match *phase {
            Phase::Requests { count } => Phase::Requests { count: count + 1 },
            Phase::Idle { .. } | Phase::Headers { .. } => Phase::Requests { count: 1 },
        };
        Busy(Arc::clone(self))
    }

    /// Resolves when there has been no request for `idle`, or when headers have been coming in for
    /// `headers`; or up to a quarter of the shorter time later: it looks now and then, which costs
    /// a request nothing.
    pub(super) async fn expired(&self, idle: Duration, headers: Duration) -> Expired {
        let look = idle.min(headers) / 4;
        loop {
            let now = Instant::now();
            let (end, expired) = match *self.phase() {
                Phase::Idle { since } => (since + idle, Expired::Idle),
                Phase::Headers { since } => (since + headers, Expired::Headers),
                Phase::Requests { .. } => (now + look, Expired::Idle),
            };
            if end <= now {
                return expired;
            }
            sleep_until(end.min(now + look)).await;
        }
    }

    /// Bytes have come in.
    pub(super) fn received(&self) {
        if self.http2 {
            return;
        }
        let mut phase = self.phase();
        if let Phase::Idle { .. } = *phase {
            *phase = Phase::Headers { since: Instant::now() };
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has lasted too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    Idle,
    Headers,
}

/// A request in hand.
pub(super) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut phase = self.0.phase();
        *phase = match *phase {
            Phase::Requests { count } if count > 1 => Phase::Requests { count: count - 1 },
            _ => Phase::Idle { since: Instant::now() },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_idle_and_one_with_a_request_is_not() {
        let activity = Activity::start(false);
        let busy = activity.request();
        let expired = activity.expired(8 * SECOND, 4 * SECOND);
        assert!(tokio::time::timeout(100 * SECOND, expired).await.is_err());
        drop(busy);
        let start = Instant::now();
        assert_eq!(activity.expired(8 * SECOND, 4 * SECOND).await, Expired::Idle);
        assert_eq!(start.elapsed(), 8 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_headers_are_those_whose_first_byte_is_long_past() {
        let activity = Activity::start(false);
        let expired = activity.expired(1000 * SECOND, 8 * SECOND);
        assert!(tokio::time::timeout(100 * SECOND, expired).await.is_err(), "idle is not slow");
        activity.received();
        tokio::time::sleep(3 * SECOND).await;
        activity.received();
        let start = Instant::now();
        assert_eq!(activity.expired(1000 * SECOND, 8 * SECOND).await, Expired::Headers);
        assert_eq!(start.elapsed(), 5 * SECOND, "counted from the first byte");
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_of_http2_without_a_request_are_no_headers() {
        let activity = Activity::start(true);
        activity.received();
        let expired = activity.expired(100 * SECOND, SECOND);
        assert!(tokio::time::timeout(50 * SECOND, expired).await.is_err());
        assert_eq!(activity.expired(100 * SECOND, SECOND).await, Expired::Idle);
    }
}
