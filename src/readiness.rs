//! What is still missing before requests should come.
//!
//! Whoever is needed holds a [`Condition`] and says in words what it lacks; the program is ready
//! when no condition lacks anything.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// All conditions. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Option<String>>>>);

impl Readiness {
    /// A condition of this name, which is not met yet.
    pub fn condition(&self, name: &'static str) -> Condition {
        let condition = Condition { name, readiness: self.clone() };
        condition.lacks("not looked at yet");
        condition
    }

    /// What each condition lacks that is not met; nothing when the program is ready.
    pub fn missing(&self) -> Vec<String> {
        self.lock()
            .iter()
            .filter_map(|(name, lacks)| lacks.as_ref().map(|lacks| format!("{name}: {lacks}")))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thing that has to be in order.
#[derive(Debug)]
pub struct Condition {
    name: &'static str,
    readiness: Readiness,
}

impl Condition {
    /// It is in order. Whether that is news.
    pub fn is_met(&self) -> bool {
        self.set(None)
    }

    /// It is not, and this is why. Whether that is news.
    pub fn lacks(&self, reason: impl Into<String>) -> bool {
        self.set(Some(reason.into()))
    }

    fn set(&self, lacks: Option<String>) -> bool {
        let mut conditions = self.readiness.lock();
        let before = conditions.insert(self.name, lacks.clone());
        before != Some(lacks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_nothing_is_missing() {
        let readiness = Readiness::default();
        let store = readiness.condition("store");
        let listener = readiness.condition("listener");
        assert!(listener.is_met());
        assert!(!listener.is_met(), "no news");
        assert_eq!(readiness.missing(), ["store: not looked at yet"]);
        assert!(store.lacks("no connection"));
        assert_eq!(readiness.missing(), ["store: no connection"]);
        assert!(store.is_met());
        assert!(readiness.missing().is_empty());
    }
}
