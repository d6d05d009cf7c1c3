//! Calls that come one at a time, whose short answers are waited for without letting the thread
//! sleep: to wake it takes longer than they do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::oneshot::{self, error::TryRecvError},
};

/// After how many calls that had no company the next one is expected to have none.
pub(super) const ALONE: u32 = 16;

/// Whether others are listened to while a thread of the runtime stays awake.
pub(super) fn may_stay_awake() -> bool {
    Handle::current().metrics().num_workers() > 1
}

/// Waits for an answer without letting the thread sleep, for about a moment. Others may have the
/// processor.
pub(super) fn receive_awake<T>(
    answered: &mut oneshot::Receiver<T>,
    moment: Duration,
) -> Result<T, TryRecvError> {
    // That of the processor, not of the runtime, which does not go on meanwhile.
    let start = Instant::now();
    loop {
        match answered.try_recv() {
            Err(TryRecvError::Empty) if start.elapsed() < moment => thread::yield_now(),
            answer => return answer,
        }
    }
}

/// That callers keep their threads awake for their answers while calls come one at a time: to let a
/// thread sleep and wake it takes longer than a short answer.
#[derive(Debug, Clone)]
pub(super) struct Awake {
    /// For about how long.
    pub(super) moment: Duration,
    /// With whom, of this queue and others.
    pub(super) calls: Arc<Calls>,
}

/// The calls that are under way.
#[derive(Debug, Default)]
pub(super) struct Calls {
    number: AtomicUsize,
    /// How many had no company when they came, one after the other.
    alone: AtomicU32,
}

/// One of the calls that are under way.
pub(super) struct Call<'a> {
    calls: &'a Calls,
    /// Whether calls have come one at a time for a while.
    pub(super) is_alone: bool,
}

impl Calls {
    /// One more.
    pub(super) fn enter(&self) -> Call<'_> {
        let has_company = self.number.fetch_add(1, Ordering::Relaxed) > 0;
        let alone = self.alone.load(Ordering::Relaxed);
        let now = if has_company { 0 } else { alone.saturating_add(1) };
        if now != alone {
            self.alone.store(now, Ordering::Relaxed);
        }
        Call { calls: self, is_alone: now > ALONE }
    }
}

impl Call<'_> {
    /// Its answer took longer. Those of the next ones may too, where the disk is read or the processor
    /// is wanted.
    pub(super) fn was_awake_in_vain(&self) {
        self.calls.alone.store(ALONE / 2, Ordering::Relaxed);
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.calls.number.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_stays_awake_on_the_only_thread_of_a_runtime() {
        assert!(!may_stay_awake());
    }

    #[test]
    fn a_call_with_company_lets_its_thread_go() {
        let calls = Calls::default();
        let come_one_at_a_time = |before| {
            for _ in 0..before {
                assert!(!calls.enter().is_alone, "they have not come one at a time for long");
            }
            assert!(calls.enter().is_alone);
        };
        come_one_at_a_time(ALONE);
        let first = calls.enter();
        assert!(!calls.enter().is_alone, "the first is under way");
        drop(first);
        come_one_at_a_time(ALONE);
        calls.enter().was_awake_in_vain();
        come_one_at_a_time(ALONE / 2);
    }

    #[test]
    fn an_answer_that_does_not_come_is_not_waited_for_awake() {
        let (_sender, mut answered) = oneshot::channel::<()>();
        let given_up = receive_awake(&mut answered, Duration::from_millis(1));
        assert_eq!(given_up, Err(TryRecvError::Empty));
    }
}
