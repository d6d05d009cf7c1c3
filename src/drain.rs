//! Stopping: a signal to say goodbye, one to finish, one to cut, and the count of who is still at
//! work.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Tells every listener and connection to finish, and waits for them. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    begin: CancellationToken,
    begun: Arc<OnceLock<Instant>>,
    finish: CancellationToken,
    cut: CancellationToken,
    work: TaskTracker,
}

impl Drain {
    /// Says that the end is near: everything is still served, and callers are told to go elsewhere.
    /// When that was said first.
    pub fn begin(&self) -> Instant {
        let begun = *self.begun.get_or_init(Instant::now);
        self.begin.cancel();
        begun
    }

    /// Whether the end is near.
    pub fn has_begun(&self) -> bool {
        self.begin.is_cancelled()
    }

    /// Resolves when callers are to be told to go elsewhere.
    pub async fn beginning(&self) {
        self.begin.cancelled().await;
    }

    /// Resolves when connections are to finish what they have in hand and take no more.
    pub async fn finishing(&self) {
        self.finish.cancelled().await;
    }

    /// Resolves when connections are to end as they are.
    pub async fn cutting(&self) {
        self.cut.cancelled().await;
    }

    /// Runs `work` as something that [`Self::finish`] waits for.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.work.spawn(work);
    }

    /// Makes `work`, wherever it runs, something that [`Self::finish`] waits for.
    pub fn track<W: Future>(&self, work: W) -> impl Future<Output = W::Output> + use<W> {
        self.work.track_future(work)
    }

    /// Says that it is time to finish, waits until all work has ended or `impatient` resolves, and
    /// cuts what is left then. Whether everything finished by itself.
    pub async fn finish(&self, impatient: impl Future<Output = ()>) -> bool {
        self.begin();
        self.finish.cancel();
        self.work.close();
        tokio::select! {
            biased;
            () = self.work.wait() => return true,
            () = impatient => {}
        }
        self.cut.cancel();
        self.work.wait().await;
        false
    }

    /// The same with a time limit.
    pub async fn finish_within(&self, timeout: Duration) -> bool {
        self.finish(tokio::time::sleep(timeout)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_finishes_in_time_is_not_cut() {
        let drain = Drain::default();
        let work = drain.clone();
        drain.spawn(async move {
            work.finishing().await;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(9)) => {}
                () = work.cutting() => unreachable!("it was cut"),
            }
        });
        assert!(drain.finish_within(Duration::from_secs(10)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_after_the_timeout_is_cut() {
        let drain = Drain::default();
        let work = drain.clone();
        drain.spawn(async move { work.cutting().await });
        let start = tokio::time::Instant::now();
        assert!(!drain.finish_within(Duration::from_secs(10)).await);
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }
}
