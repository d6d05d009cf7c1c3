//! What a connection is doing: nothing, receiving headers, or answering; and whether all of its
//! answers have left.
//!
//! hyper's own timer for headers also runs on a connection that is idle between two requests, and
//! would close it far too early.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// The activity of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    counted: Notify,
    /// On HTTP/2, bytes without a request are the protocol's own business.
    http2: bool,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Requests so far.
    requests: u64,
    /// From when on requests are no reason to stay.
    leaves: Option<Instant>,
    /// Answers of HTTP/2 of which the end has not left.
    unsent: u64,
    /// Whether the peer takes nothing at present of what is to leave.
    blocked: bool,
}

/// For how long a connection may be in which state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Without a request, and with nothing left to send.
    pub(super) idle: Duration,
    /// Without a request, while the peer does not take what is to leave; without one, as long as it
    /// likes.
    pub(super) unsent: Option<Duration>,
    /// Since the first byte of headers.
    pub(super) headers: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Idle { since: Instant },
    Headers { since: Instant },
    Requests { count: usize },
}

impl Activity {
    pub(super) fn start(http2: bool) -> Arc<Self> {
        let state = State {
            phase: Phase::Idle { since: Instant::now() },
            requests: 0,
            leaves: None,
            unsent: 0,
            blocked: false,
        };
        Arc::new(Self { state: Mutex::new(state), counted: Notify::new(), http2 })
    }

    /// A request has come in, and its number, from 1; it lasts until the guard is dropped.
    pub(super) fn request(self: &Arc<Self>) -> (Busy, u64) {
        let mut state = self.state();
        state.requests += 1;
        let number = state.requests;
        if state.leaves.is_some_and(|leaves| leaves <= Instant::now()) {
            return (Busy(None), number);
        }
        state.phase = match state.phase {
            Phase::Requests { count } => Phase::Requests { count: count + 1 },
            Phase::Idle { .. } | Phase::Headers { .. } => Phase::Requests { count: 1 },
        };
        drop(state);
        self.counted.notify_waiters();
        (Busy(Some(Arc::clone(self))), number)
    }

    /// The peer was told to go. Requests that come later than `goodbye` from now are no reason to
    /// stay: a peer that does not listen could stay for ever.
    pub(super) fn leave(&self, goodbye: Duration) {
        self.state().leaves = Some(Instant::now() + goodbye);
    }

    /// Resolves when there have been so many requests.
    pub(super) async fn requests(&self, number: u64) {
        loop {
            let mut counted = std::pin::pin!(self.counted.notified());
            counted.as_mut().enable();
            if self.state().requests >= number {
                return;
            }
            counted.await;
        }
    }

    /// Resolves when one of `limits` has passed, or up to a quarter of the shortest later: it looks
    /// now and then, which costs a request nothing.
    pub(super) async fn expired(&self, limits: Limits) -> Expired {
        let shortest = limits.idle.min(limits.headers);
        let look = limits.unsent.map_or(shortest, |unsent| unsent.min(shortest)) / 4;
        loop {
            let now = Instant::now();
            let (end, expired) = {
                let state = self.state();
                match state.phase {
                    Phase::Idle { since } if state.blocked || state.unsent > 0 => {
                        let end = limits.unsent.map_or(now + look, |unsent| since + unsent);
                        (end, Expired::Idle)
                    }
                    Phase::Idle { since } => (since + limits.idle, Expired::Idle),
                    Phase::Headers { since } => (since + limits.headers, Expired::Headers),
                    Phase::Requests { .. } => (now + look, Expired::Idle),
                }
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
        let mut state = self.state();
        if let Phase::Idle { .. } = state.phase {
            state.phase = Phase::Headers { since: Instant::now() };
        }
    }

    /// The body of an answer of HTTP/2 begins to leave.
    pub(super) fn answering(&self) {
        self.state().unsent += 1;
    }

    /// The end of one has left, or is stuck in the stream, which is blocked then. One that the peer
    /// cancels meanwhile never leaves, and counts until the end of the connection.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        state.unsent = state.unsent.saturating_sub(1);
    }

    /// Whether the peer takes nothing at present of what is to leave.
    pub(super) fn blocked(&self, blocked: bool) {
        self.state().blocked = blocked;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has lasted too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    Idle,
    Headers,
}

/// A request in hand.
pub(super) struct Busy(Option<Arc<Activity>>);

impl Drop for Busy {
    fn drop(&mut self) {
        let Some(activity) = &self.0 else { return };
        let mut state = activity.state();
        state.phase = match state.phase {
            Phase::Requests { count } if count > 1 => Phase::Requests { count: count - 1 },
            _ => Phase::Idle { since: Instant::now() },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(idle: Duration, headers: Duration) -> Limits {
        Limits { idle, unsent: Some(idle), headers }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_idle_and_one_with_a_request_is_not() {
        let activity = Activity::start(false);
        let (busy, _) = activity.request();
        let expired = activity.expired(limits(8 * SECOND, 4 * SECOND));
        assert!(tokio::time::timeout(100 * SECOND, expired).await.is_err());
        drop(busy);
        let start = Instant::now();
        assert_eq!(activity.expired(limits(8 * SECOND, 4 * SECOND)).await, Expired::Idle);
        assert_eq!(start.elapsed(), 8 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_headers_are_those_whose_first_byte_is_long_past() {
        let activity = Activity::start(false);
        let expired = activity.expired(limits(1000 * SECOND, 8 * SECOND));
        assert!(tokio::time::timeout(100 * SECOND, expired).await.is_err(), "idle is not slow");
        activity.received();
        tokio::time::sleep(3 * SECOND).await;
        activity.received();
        let start = Instant::now();
        assert_eq!(activity.expired(limits(1000 * SECOND, 8 * SECOND)).await, Expired::Headers);
        assert_eq!(start.elapsed(), 5 * SECOND, "counted from the first byte");
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_of_http2_without_a_request_are_no_headers() {
        let activity = Activity::start(true);
        activity.received();
        let expired = activity.expired(limits(100 * SECOND, SECOND));
        assert!(tokio::time::timeout(50 * SECOND, expired).await.is_err());
        assert_eq!(activity.expired(limits(100 * SECOND, SECOND)).await, Expired::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_counted_over_the_life_of_a_connection() {
        let activity = Activity::start(false);
        let (first, number) = activity.request();
        assert_eq!(number, 1);
        activity.requests(1).await;
        let third = activity.requests(3);
        let mut third = std::pin::pin!(third);
        assert!(tokio::time::timeout(SECOND, third.as_mut()).await.is_err());
        drop(first);
        drop(activity.request());
        assert!(tokio::time::timeout(SECOND, third.as_mut()).await.is_err());
        assert_eq!(activity.request().1, 3);
        tokio::time::timeout(SECOND, third).await.expect("the third has come");
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_told_to_go_cannot_stay_by_asking_for_more() {
        let activity = Activity::start(true);
        let (in_hand, _) = activity.request();
        activity.leave(SECOND);
        let (soon, _) = activity.request();
        tokio::time::sleep(2 * SECOND).await;
        let (_late, _) = activity.request();
        drop(in_hand);
        let expired = activity.expired(limits(SECOND, SECOND));
        assert!(tokio::time::timeout(9 * SECOND, expired).await.is_err(), "one is in hand");
        drop(soon);
        assert_eq!(activity.expired(limits(SECOND, SECOND)).await, Expired::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_an_answer_has_a_time_of_its_own() {
        let limits = Limits { idle: 4 * SECOND, unsent: Some(60 * SECOND), headers: 4 * SECOND };
        let expires = async |activity: &Activity| {
            let start = Instant::now();
            assert_eq!(activity.expired(limits).await, Expired::Idle);
            start.elapsed()
        };
        let activity = Activity::start(true);
        drop(activity.request());
        activity.answering();
        assert_eq!(expires(&activity).await, 60 * SECOND);
        activity.answered();
        drop(activity.request());
        assert_eq!(expires(&activity).await, 4 * SECOND);
        drop(activity.request());
        activity.blocked(true);
        assert_eq!(expires(&activity).await, 60 * SECOND);
        let forever = activity.expired(Limits { unsent: None, ..limits });
        assert!(tokio::time::timeout(1000 * SECOND, forever).await.is_err());
        activity.blocked(false);
        drop(activity.request());
        assert_eq!(expires(&activity).await, 4 * SECOND);
    }
}
