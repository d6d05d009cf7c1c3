//! Room for connections, of which those that have not shown a certificate yet take half at the
//! most.
//!
//! Such a peer may be anybody. To refuse the newest would let strangers who never finish their
//! handshakes keep everybody else out; the oldest makes room instead: it has had the most time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The room of one listener.
#[derive(Debug)]
pub(super) struct Room {
    connections: Arc<Semaphore>,
    max_newcomers: usize,
    newcomers: Mutex<Newcomers>,
}

/// Who has entered and not shown a certificate, by number.
#[derive(Debug, Default)]
struct Newcomers {
    entered: u64,
    places: BTreeMap<u64, Place>,
}

/// The place of a newcomer. When it is dropped there is room for another one at once, and this one
/// learns of it.
#[derive(Debug)]
struct Place {
    slot: OwnedSemaphorePermit,
    _taken: oneshot::Sender<()>,
}

impl Room {
    pub(super) fn new(connections: usize) -> Arc<Self> {
        Arc::new(Self {
            connections: Arc::new(Semaphore::new(connections)),
            max_newcomers: connections.div_ceil(2),
            newcomers: Mutex::default(),
        })
    }

    /// Another connection enters, if there is room for it.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Newcomer> {
        let mut newcomers = self.newcomers();
        if newcomers.places.len() >= self.max_newcomers {
            newcomers.places.pop_first();
        }
        let slot = Arc::clone(&self.connections).try_acquire_owned().ok()?;
        let (taken, displaced) = oneshot::channel();
        newcomers.entered += 1;
        let number = newcomers.entered;
        newcomers.places.insert(number, Place { slot, _taken: taken });
        drop(newcomers);
        Some(Newcomer { number, displaced, room: Arc::clone(self) })
    }

    fn newcomers(&self) -> MutexGuard<'_, Newcomers> {
        self.newcomers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that has entered and is nobody yet. Its place is free when it is dropped.
#[derive(Debug)]
pub(super) struct Newcomer {
    number: u64,
    displaced: oneshot::Receiver<()>,
    room: Arc<Room>,
}

impl Newcomer {
    /// Resolves when it has had to make room.
    pub(super) async fn displaced(&mut self) {
        // Nothing is ever sent.
        let _ = (&mut self.displaced).await;
    }

    /// From now on it is somebody, and keeps its place as long as the permit; unless it has had to
    /// make room before.
    pub(super) fn admit(self) -> Option<OwnedSemaphorePermit> {
        let place = self.room.newcomers().places.remove(&self.number);
        place.map(|place| place.slot)
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.room.newcomers().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_displaced(newcomer: &mut Newcomer) -> bool {
        newcomer.displaced.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn the_oldest_newcomer_makes_room() {
        let room = Room::new(4);
        let mut first = room.enter().unwrap();
        let mut second = room.enter().unwrap();
        assert!(!is_displaced(&mut first));
        let mut third = room.enter().unwrap();
        assert!(is_displaced(&mut first));
        assert!(!is_displaced(&mut second) && !is_displaced(&mut third));
        assert!(first.admit().is_none(), "too late");
        assert_eq!(room.connections.available_permits(), 2);
    }

    #[test]
    fn who_is_admitted_stays() {
        let room = Room::new(4);
        let admitted: Vec<_> =
            (0..3).map(|_| room.enter().unwrap().admit().expect("in time")).collect();
        let mut last = room.enter().unwrap();
        assert!(room.enter().is_none(), "four");
        assert!(!is_displaced(&mut last), "it is within the half");
        drop(last);
        let fourth = room.enter().unwrap().admit().expect("in time");
        assert!(room.enter().is_none());
        drop((admitted, fourth));
        assert_eq!(room.connections.available_permits(), 4);
    }

    #[test]
    fn newcomers_have_half_of_what_is_full() {
        let room = Room::new(4);
        let _admitted = [(); 2].map(|()| room.enter().unwrap().admit().expect("in time"));
        let mut strangers = [(); 2].map(|()| room.enter().unwrap());
        let newcomer = room.enter().expect("in the place of a stranger");
        assert!(is_displaced(&mut strangers[0]) && !is_displaced(&mut strangers[1]));
        assert!(newcomer.admit().is_some(), "in time");
    }
}
