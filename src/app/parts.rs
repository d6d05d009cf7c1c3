//! The parts of a sidecar that run as long as it does, and which of them has ended before.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};

/// Parts at work. They end with this.
#[derive(Debug, Default)]
pub(super) struct Parts {
    running: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Parts {
    /// Sets a part to work.
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        part: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = self.running.spawn(part);
        self.names.insert(task.id(), name);
    }

    /// Resolves when a part has ended, by a panic or otherwise, which none should; its name.
    pub(super) async fn ended(&mut self) -> &'static str {
        let id = match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => error.id(),
            None => std::future::pending().await,
        };
        self.names.remove(&id).unwrap_or_default()
    }

    /// Ends all of them.
    pub(super) fn abort(&mut self) {
        self.running.abort_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{sync::oneshot, time::timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_that_returns_or_panics_is_named() {
        let mut parts = Parts::default();
        assert!(timeout(Duration::from_secs(60), parts.ended()).await.is_err(), "there is none");
        let (end, ended) = oneshot::channel::<()>();
        let (fail, failed) = oneshot::channel::<()>();
        parts.spawn("steady", std::future::pending());
        parts.spawn("returning", async { ended.await.unwrap() });
        parts.spawn("panicking", async { failed.await.unwrap() });
        assert!(timeout(Duration::from_secs(60), parts.ended()).await.is_err(), "all are at work");
        end.send(()).unwrap();
        assert_eq!(parts.ended().await, "returning");
        // What it waits for never comes, and it panics.
        drop(fail);
        assert_eq!(parts.ended().await, "panicking");
        assert!(timeout(Duration::from_secs(60), parts.ended()).await.is_err(), "one is at work");
    }

    #[tokio::test]
    async fn parts_end_with_the_whole() {
        let (kept, gone) = oneshot::channel::<()>();
        let mut parts = Parts::default();
        parts.spawn("steady", async {
            let _kept = kept;
            std::future::pending::<()>().await;
        });
        parts.abort();
        gone.await.expect_err("nothing is ever sent");
    }
}
