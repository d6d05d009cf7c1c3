//! How a call divides the time in which it has to reach its database: first it waits for its turn,
//! then it tries to get a connection to the server, or the lock of an SQLite file.

use std::time::Duration;

/// How long one attempt to get a connection to a server may take at the most; a call makes as many
/// as it has time for. The driver pauses between its own attempts to connect for up to a fifth of
/// this, and a SYN that is lost is sent again after 1 and after 3 seconds: a server that is back
/// should have to wait for neither.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(2);

/// How a call divides the time in which it has to reach the database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// All of it.
    pub(super) reach: Duration,
    /// What one attempt to get a connection to a server may take. It is kept for one when a call
    /// waits for its slot.
    pub(super) attempt: Duration,
}

impl Times {
    pub(super) fn of(reach: Duration) -> Self {
        Self { reach, attempt: LONGEST_ATTEMPT.min(reach / 2) }
    }

    /// How long a write to an SQLite file may wait for its turn among those of this program.
    pub(super) fn turn(self) -> Duration {
        self.reach * 2 / 5
    }

    /// How long it may wait then for a lock that another program holds. Both together are less than
    /// a call may take, so that whoever waits in vain is told so, and a file that is locked is not
    /// taken for one that is away. It is longer than the turn: who has waited behind a write that
    /// does not get the lock need not wait for the same again.
    pub(super) fn lock(self) -> Duration {
        self.reach * 3 / 5
    }

    /// How long a call may wait for its slot.
    pub(super) fn slot(self) -> Duration {
        self.reach.saturating_sub(self.attempt)
    }

    /// How often a call that has `waited` for its slot may try to get a connection. The last
    /// attempt may take a quarter of its time beyond `reach`, or the moment that a slot takes would
    /// cost a whole attempt; that is no more than half of what the call has left then.
    pub(super) fn attempts(self, waited: Duration) -> u128 {
        let left = self.reach.saturating_sub(waited) + self.attempt / 4;
        (left.as_nanos() / self.attempt.as_nanos().max(1)).max(1)
    }

    /// How long a connection may take to answer when it leaves its pool, and when it comes back: a
    /// call may have a slot before the connection of the one before it is back, and then half of
    /// its attempt has to be enough for that, and half to make another.
    pub(super) fn ping(self) -> Duration {
        self.attempt / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::reach_timeout;

    #[test]
    fn an_attempt_is_short_and_there_is_always_time_for_one() {
        for (reach, attempt, attempts) in [
            (0, 0, 1),
            (80, 40, 2),
            (800, 400, 2),
            (2400, 1200, 2),
            (4000, 2000, 2),
            (9000, 2000, 4),
            (24_000, 2000, 12),
        ] {
            let times = Times::of(Duration::from_millis(reach));
            assert_eq!(times.attempt, Duration::from_millis(attempt), "{reach} ms");
            assert_eq!(times.slot() + times.attempt, times.reach, "{reach} ms");
            // The first slot is not for nothing either.
            let moment = times.attempt / 10;
            assert_eq!(times.attempts(moment), attempts, "{reach} ms");
            assert_eq!(times.attempts(times.slot()), 1, "{reach} ms");
            assert_eq!(times.attempts(times.reach * 2), 1, "{reach} ms");
        }
    }

    #[test]
    fn a_call_that_cannot_reach_the_database_says_so_within_its_time() {
        for store_timeout in [1, 100, 999, 2000, 5000, 30_000].map(Duration::from_millis) {
            let times = Times::of(reach_timeout(store_timeout));
            for waited in (0..=100).map(|percent| times.slot() * percent / 100) {
                let attempts = u32::try_from(times.attempts(waited)).unwrap();
                let end = waited + times.attempt * attempts;
                let left = store_timeout.saturating_sub(end);
                assert!(left * 2 >= store_timeout - times.reach, "{store_timeout:?} {waited:?}");
            }
        }
    }
}
