//! Stopping: one signal to finish, one to cut, and the count of who is still at work.

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Tells every listener and connection to finish, and waits for them. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    finish: CancellationToken,
    cut: CancellationToken,
    work: TaskTracker,
}

impl Drain {
    /// Resolves when connections are to finish what they have in hand and take no more.
    pub async fn finishing(&self) {
        self.finish.cancelled().await;
    }

    /// Resolves when connections are to end as they are.
    pub async fn cutting(&self) {
        self.cut.cancelled().await;
    }

    /// Runs `work` as something that [`Self::run`] waits for.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.work.spawn(work);
    }

    /// Drains: says that it is time to finish, waits until all work has ended or `timeout` has
    /// passed, and cuts what is left then. Whether everything finished by itself.
    pub async fn run(&self, timeout: Duration) -> bool {
        self.finish.cancel();
        self.work.close();
        if tokio::time::timeout(timeout, self.work.wait()).await.is_ok() {
            return true;
        }
        self.cut.cancel();
        self.work.wait().await;
        false
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
        assert!(drain.run(Duration::from_secs(10)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_after_the_timeout_is_cut() {
        let drain = Drain::default();
        let work = drain.clone();
        drain.spawn(async move { work.cutting().await });
        let start = tokio::time::Instant::now();
        assert!(!drain.run(Duration::from_secs(10)).await);
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }
}
