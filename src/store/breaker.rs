//! A circuit breaker: while the store is away, calls fail at once instead of each waiting its full
//! time.
//!
//! Only what says that the store is away counts as a failure: a connection that could not be made
//! or was lost, a deadline that passed. A status that the store answered never does, nor does a
//! call that had no turn because every connection of a working database was in use. After some
//! failures in a row the circuit is open: one call at a time is let through as a probe, and the
//! first call that is answered closes it again.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use tracing::{info, warn};

use super::NotReached;

/// How many failures in a row open the circuit.
const FAILURES: u32 = 5;

/// The breaker of one store. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Breaker(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Failures since the last answer.
    failures: AtomicU32,
    /// Whether a probe is on its way.
    probing: AtomicBool,
}

impl Breaker {
    /// Lets a call through, which then says how it ended.
    ///
    /// # Errors
    ///
    /// [`NotReached`] while the circuit is open and another call is the probe.
    pub fn admit(&self) -> Result<Admitted<'_>, NotReached> {
        let open = self.0.failures.load(Ordering::Acquire) >= FAILURES;
        if open && self.0.probing.swap(true, Ordering::AcqRel) {
            return Err(NotReached::new("the store is away, and another call is trying it"));
        }
        Ok(Admitted { state: &self.0, probe: open })
    }
}

/// A call that was let through. One that is dropped without a word was given up by its caller, or
/// had no turn: neither says whether the store is there.
#[derive(Debug)]
pub struct Admitted<'a> {
    state: &'a State,
    probe: bool,
}

impl Admitted<'_> {
    /// The store answered.
    pub fn answered(self) {
        // Mostly there is nothing to reset, and nothing to write that other cores would have to
        // read again.
        if self.state.failures.load(Ordering::Acquire) != 0
            && self.state.failures.swap(0, Ordering::AcqRel) >= FAILURES
        {
            info!("the store answers again");
        }
    }

    /// It was not reached, or did not answer.
    pub fn failed(self) {
        let next = |failures: u32| Some(failures.saturating_add(1));
        let before = self.state.failures.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        if before == Ok(FAILURES - 1) {
            warn!("the store is away: calls fail at once until one of them is answered");
        }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.state.probing.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Breaker {
        let breaker = Breaker::default();
        for _ in 0..FAILURES {
            breaker.admit().unwrap().failed();
        }
        breaker
    }

    #[test]
    fn an_answer_between_failures_keeps_the_circuit_closed() {
        let breaker = Breaker::default();
        for _ in 0..3 {
            for _ in 1..FAILURES {
                breaker.admit().unwrap().failed();
            }
            breaker.admit().unwrap().answered();
        }
        let calls: Vec<_> = (0..10).map(|_| breaker.admit()).collect();
        assert!(calls.iter().all(Result::is_ok));
    }

    #[test]
    fn an_open_circuit_lets_one_call_through_at_a_time() {
        let breaker = open();
        let probe = breaker.admit().unwrap();
        assert!(breaker.admit().is_err());
        probe.failed();
        let probe = breaker.admit().unwrap();
        assert!(breaker.admit().is_err());
        drop(probe);
        breaker.admit().expect("a probe that was given up makes room for another");
    }

    #[test]
    fn the_first_answer_closes_the_circuit() {
        let breaker = open();
        breaker.admit().unwrap().answered();
        let calls: Vec<_> = (0..10).map(|_| breaker.admit()).collect();
        assert!(calls.iter().all(Result::is_ok));
    }

    #[test]
    fn an_answer_to_an_earlier_call_closes_it_too() {
        let breaker = Breaker::default();
        let earlier = breaker.admit().unwrap();
        for _ in 0..FAILURES {
            breaker.admit().unwrap().failed();
        }
        let _probe = breaker.admit().unwrap();
        assert!(breaker.admit().is_err());
        earlier.answered();
        breaker.admit().unwrap();
    }

    #[test]
    fn failures_beyond_count_never_wrap_around() {
        let breaker = open();
        breaker.0.failures.store(u32::MAX - 1, Ordering::Release);
        for _ in 0..3 {
            breaker.admit().unwrap().failed();
        }
        let _probe = breaker.admit().unwrap();
        assert!(breaker.admit().is_err(), "the circuit is still open");
    }
}
