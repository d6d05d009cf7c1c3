//! A pool of connections to a server, and what is asked of each of them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection, Database, Executor, pool::PoolOptions};
use tokio::time::{Instant, timeout};

use super::times::Times;

/// What was seen last of a server.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// When a connection of the pool worked.
    pub(super) worked: Option<Instant>,
    /// Whether there was no room for another connection.
    pub(super) full: bool,
}

impl Seen {
    pub(super) fn of(seen: &Mutex<Self>) -> MutexGuard<'_, Self> {
        seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pool of so many connections to a server, each of which begins with the statement `session`.
/// In `seen` is noted when one of them works.
pub(super) fn server_pool<DB: Database>(
    size: u32,
    session: String,
    times: Times,
    seen: &Arc<Mutex<Seen>>,
) -> PoolOptions<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let (acquired, released) = (Arc::clone(seen), Arc::clone(seen));
    PoolOptions::new()
        .max_connections(size)
        .acquire_timeout(times.attempt)
        .after_connect(move |connection: &mut DB::Connection, _| {
            let session = AssertSqlSafe(session.clone());
            Box::pin(async move { connection.execute(session).await.map(|_| ()) })
        })
        // With a limit of its own, which the driver's own test has not: a server that is gone
        // without a word would cost the whole time of a call for each connection.
        .test_before_acquire(false)
        .before_acquire(move |connection, _| {
            let seen = Arc::clone(&acquired);
            Box::pin(async move { is_free(connection, times.ping(), &seen).await })
        })
        .after_release(move |connection, _| {
            let seen = Arc::clone(&released);
            Box::pin(async move { is_free(connection, times.ping(), &seen).await })
        })
}

/// Whether a connection has nothing left to do and its server answers. One whose call was given up
/// may still be waiting for the server, and would hold its place for as long.
async fn is_free(
    connection: &mut impl Connection,
    limit: Duration,
    seen: &Mutex<Seen>,
) -> Result<bool, sqlx::Error> {
    match timeout(limit, connection.ping()).await {
        Ok(Ok(())) => {
            Seen::of(seen).worked = Some(Instant::now());
            Ok(true)
        }
        // An error closes the connection at once, without another word to the server.
        Ok(Err(error)) => Err(error),
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}
