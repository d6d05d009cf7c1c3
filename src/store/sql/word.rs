//! When a database server was last heard of.
//!
//! The driver has one error for a pool whose connections cannot be made and for one whose
//! connections are all in use. What tells them apart is heard on the connections themselves: each is
//! asked for a sign of life before a call gets it and after the call. Nothing more is sent, so that
//! a database that is short of time is not asked for more of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The last word of a server. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct LastWord(Arc<State>);

#[derive(Debug)]
struct State {
    start: Instant,
    /// Milliseconds from `start` to the last sign of life, and 1 more; 0 while there is none, or
    /// since a connection turned out to be dead.
    heard: AtomicU64,
}

impl LastWord {
    pub(super) fn none() -> Self {
        Self(Arc::new(State { start: Instant::now(), heard: AtomicU64::new(0) }))
    }

    /// The server answered on some connection.
    pub(super) fn heard(&self) {
        self.0.heard.store(self.now(), Ordering::Relaxed);
    }

    /// A connection turned out to be dead.
    pub(super) fn lost(&self) {
        self.0.heard.store(0, Ordering::Relaxed);
    }

    /// Whether the last that is known is a sign of life, which is no older than `age`.
    pub(super) fn is_within(&self, age: Duration) -> bool {
        let heard = self.0.heard.load(Ordering::Relaxed);
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        heard != 0 && self.now().saturating_sub(heard) <= age
    }

    fn now(&self) -> u64 {
        let passed = self.0.start.elapsed().as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn only_a_recent_sign_of_life_that_nothing_belied_since_counts() {
        let word = LastWord::none();
        assert!(!word.is_within(LONG), "nothing was heard yet");
        word.heard();
        assert!(word.is_within(LONG));
        word.lost();
        assert!(!word.is_within(LONG));
        word.heard();
        assert!(word.is_within(LONG), "it is back");
        let later = Instant::now() + Duration::from_millis(5);
        while Instant::now() < later {
            std::hint::spin_loop();
        }
        assert!(!word.is_within(Duration::from_millis(1)), "that was some time ago");
    }
}
