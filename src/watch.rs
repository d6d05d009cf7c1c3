//! What is looked at all the time: the store, and how long certificates are still valid. Both tell
//! the log, the metrics and the readiness.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, time::Instant};
use tracing::{error, info, warn};

use crate::{
    metrics::Metrics,
    readiness::Condition,
    store::{Store, sql::SchemaError},
    tls::{Material, Term},
};

/// How often the store is looked at.
const STORE_INTERVAL: Duration = Duration::from_secs(1);

/// How long it may take to answer, whatever calls may.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// How long bringing the schema up may take: the two minutes for which replicas wait for one another,
/// and one for the statements. A server that is gone without a word would be waited for for ever; a
/// migration that takes longer is one for `faroe-sidecar migrate up`, which has no limit.
const MIGRATION_PATIENCE: Duration = Duration::from_secs(180);

/// How long a store that was there may be away before that is a reason not to be ready: a blip
/// would take all sidecars out of their Service at once, and nobody would be left to say 503.
const STORE_GRACE: Duration = Duration::from_secs(10);

/// How often the terms of certificates are looked at, and how often the log is told of one that is
/// near its end.
const TERM_INTERVAL: Duration = Duration::from_secs(1);
const TERM_REMINDER: Duration = Duration::from_secs(24 * 60 * 60);

/// Brings the schema up, if that was asked for, and keeps an eye on the store. Never returns.
pub(crate) async fn store(
    store: Store,
    mut migrate: bool,
    condition: Condition,
    metrics: Arc<Metrics>,
) {
    let mut state = None;
    let mut last_ready = None;
    loop {
        if let Store::Sql(sql) = &store {
            let (idle, used) = sql.connections();
            metrics.db_pool_connections(idle, used);
        }
        let checked = match &store {
            Store::Sql(sql) if migrate => {
                let migrated = migrated(sql.migrate_up()).await;
                migrate = migrated.is_err();
                migrated
            }
            _ => Ok(()),
        };
        let checked = match checked {
            Ok(()) => tokio::time::timeout(STORE_PATIENCE, store.check())
                .await
                .unwrap_or_else(|_| Err("the store does not answer".to_owned())),
            Err(reason) => Err(reason),
        };
        metrics.store_available(checked.is_ok());
        let is_news = state.as_ref() != Some(&checked);
        match &checked {
            Ok(()) => {
                last_ready = Some(Instant::now());
                condition.is_met();
                if is_news {
                    info!("the store is ready");
                }
            }
            Err(reason) => {
                if last_ready.is_none_or(|last: Instant| last.elapsed() >= STORE_GRACE) {
                    condition.lacks(&**reason);
                }
                if is_news {
                    warn!(reason, "the store is not ready");
                }
            }
        }
        state = Some(checked);
        tokio::time::sleep(STORE_INTERVAL).await;
    }
}

async fn migrated(
    migrating: impl Future<Output = Result<Vec<String>, SchemaError>>,
) -> Result<(), String> {
    let applied = tokio::time::timeout(MIGRATION_PATIENCE, migrating)
        .await
        .map_err(|_| {
            let patience = humantime::format_duration(MIGRATION_PATIENCE);
            format!("the schema was not brought up within {patience}: it is tried again")
        })?
        .map_err(|error| format!("the schema cannot be brought up: {error}"))?;
    log_migrations(&applied);
    Ok(())
}

/// Says which migrations were applied.
pub(crate) fn log_migrations(applied: &[String]) {
    for migration in applied {
        info!(migration, "the schema was brought up");
    }
}

/// Keeps an eye on how long the files of some material can still be used. Never returns.
pub(crate) async fn terms<M: Material>(
    mut material: watch::Receiver<Arc<M>>,
    condition: Option<Condition>,
    metrics: Arc<Metrics>,
) {
    // What was said of each file, and when.
    let mut said: HashMap<&str, (Reminder, Instant)> = HashMap::new();
    loop {
        let current = Arc::clone(&material.borrow_and_update());
        let terms = current.terms();
        for term in terms {
            // No end that anybody writes is out of the range of exact numbers.
            metrics.tls_certificate_expiry(term.option, term.validity.end() as f64);
        }
        if let Some(condition) = &condition {
            match terms.iter().find(|term| term.is_needed && !term.is_valid()) {
                None => condition.is_met(),
                Some(term) => condition.lacks(format!("--{} is not valid now", term.option)),
            };
        }
        for term in terms {
            let reminder = Reminder::of(term);
            let is_old = said
                .get(term.option)
                .is_some_and(|(before, at)| *before == reminder && at.elapsed() < TERM_REMINDER);
            if !is_old {
                reminder.say(term);
                said.insert(term.option, (reminder, Instant::now()));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(TERM_INTERVAL) => {}
            Ok(()) = material.changed() => said.clear(),
        }
    }
}

/// What there is to say about the term of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reminder {
    Nothing,
    NearItsEnd,
    NotValid,
}

impl Reminder {
    fn of(term: &Term) -> Self {
        if term.is_needed && !term.is_valid() {
            Self::NotValid
        } else if term.validity.is_near_its_end(SystemTime::now()) {
            Self::NearItsEnd
        } else {
            Self::Nothing
        }
    }

    fn say(self, term: &Term) {
        let option = term.option;
        let left = term.validity.left(SystemTime::now());
        let left = humantime::format_duration(Duration::from_secs(left.as_secs()));
        match self {
            Self::Nothing => {}
            Self::NearItsEnd => {
                warn!(%left, "--{option}: less than 30 % of its lifetime is left");
            }
            Self::NotValid => {
                error!("--{option} is not valid now: connections are refused until it is replaced");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_vanishes_in_mid_migration_is_not_waited_for_for_ever() {
        let start = Instant::now();
        let waits = tokio::time::timeout(2 * MIGRATION_PATIENCE, migrated(std::future::pending()));
        let reason = waits.await.expect("it comes to an end").expect_err("nothing was done");
        assert_eq!(reason, "the schema was not brought up within 3m: it is tried again");
        assert_eq!(start.elapsed(), MIGRATION_PATIENCE);
        assert_eq!(migrated(std::future::ready(Ok(Vec::new()))).await, Ok(()));
    }
}
