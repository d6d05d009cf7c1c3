//! The end of a sidecar: callers are sent elsewhere, what is in hand is finished, and the rest is
//! cut when the time is over or nobody wants to wait. `interface`, "`serve`", `--drain-delay` and
//! `--drain-timeout`.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::info;

use super::parts::Parts;
use crate::{action::ActionServer, drain::Drain, otlp::Traces, store::Store};

/// How long the end waits for a collector of traces, at the most.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// What has to come to its end.
pub(super) struct End {
    /// How long everything is still served, from the first goodbye.
    pub(super) delay: Duration,
    /// How long all of it may take, from now.
    pub(super) timeout: Duration,
    /// What is not needed any more when the delay is over.
    pub(super) parts: Parts,
    /// The connections.
    pub(super) drain: Drain,
    /// Where writes may be at work whose callers have gone.
    pub(super) actions: ActionServer,
    /// What is closed when nobody needs it.
    pub(super) store: Store,
    /// What is sent last.
    pub(super) traces: Option<Traces>,
}

impl End {
    /// Comes to it; sooner each time that `stopped` resolves, which says that nobody wants to wait.
    /// Whether every request in hand was finished.
    pub(super) async fn come(mut self, mut stopped: impl AsyncFnMut()) -> bool {
        let deadline = Instant::now() + self.timeout;
        let delayed = self.drain.begin() + self.delay;
        info!(
            delay = %humantime::format_duration(self.delay),
            timeout = %humantime::format_duration(self.timeout),
            "draining: connections are accepted for the delay, and the requests in hand are finished"
        );
        let impatient = tokio::select! {
            () = sleep_until(delayed.min(deadline)) => false,
            () = stopped() => true,
        };
        self.parts.abort();
        let drained = {
            let mut over = std::pin::pin!(async {
                if !impatient {
                    tokio::select! {
                        () = sleep_until(deadline) => {}
                        () = stopped() => {}
                    }
                }
            });
            self.drain.finish(over.as_mut()).await
                // Writes whose callers have gone.
                && tokio::select! {
                    () = self.actions.finish() => true,
                    () = over => false,
                }
        };
        let left = match drained {
            true => deadline.saturating_duration_since(Instant::now()),
            false => Duration::ZERO,
        };
        let closed = async {
            if let Store::Sql(store) = &self.store {
                store.close(left).await;
            }
        };
        let flushed = async {
            if let (true, Some(traces)) = (drained, self.traces) {
                traces.finish(left.min(FLUSH_TIMEOUT)).await;
            }
        };
        tokio::select! {
            _ = async { tokio::join!(closed, flushed) } => {}
            () = stopped() => {}
        }
        drained
    }
}
