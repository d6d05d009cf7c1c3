//! How many requests are received and resolved at once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::record::Counts;

/// The requests in flight, and how many there may be.
#[derive(Debug)]
pub(super) struct Slots {
    max: usize,
    taken: AtomicUsize,
    counts: Counts,
}

impl Slots {
    pub(super) fn new(max: usize, counts: Counts) -> Arc<Self> {
        Arc::new(Self { max, taken: AtomicUsize::new(0), counts })
    }

    /// What requests are counted in.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Room for one more request, if there is any.
    pub(super) fn take(self: &Arc<Self>) -> Option<InFlight> {
        let next = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        self.counts.metrics.request_begun();
        Some(InFlight(Arc::clone(self)))
    }
}

/// A request in flight, until it is dropped.
pub(super) struct InFlight(Arc<Slots>);

impl InFlight {
    /// What it is counted in.
    pub(super) fn counts(&self) -> &Counts {
        &self.0.counts
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
        self.0.counts.metrics.request_ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn there_are_never_more_than_the_limit_and_each_makes_room_when_it_ends() {
        let slots = Slots::new(2, Counts::new(Arc::new(Metrics::new().unwrap())));
        let [first, second] = [slots.take().unwrap(), slots.take().unwrap()];
        assert!(slots.take().is_none());
        assert!(slots.take().is_none(), "one that was refused takes no room");
        drop(first);
        let third = slots.take().unwrap();
        assert!(slots.take().is_none());
        drop((second, third));
        assert_eq!(slots.taken.load(Ordering::Relaxed), 0);
    }
}
