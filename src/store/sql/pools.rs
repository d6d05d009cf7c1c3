//! The connections of the bundled store.

use std::{io, time::Duration};

use sea_orm::{
    ConnAcquireErr, DatabaseConnection, DbErr, SqlxMySqlConnector, SqlxPostgresConnector,
    SqlxSqliteConnector,
};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection, Database, Executor, MySql, Pool, Postgres,
    Sqlite, pool::PoolOptions,
};

use super::{
    error::NO_CONNECTION,
    file::{Displaced, File},
    url::{Url, sqlite_filename, sqlite_options},
    word::LastWord,
};
use crate::store::{NotReached, reach_timeout};

/// Connections to a database server by default.
pub const DEFAULT_SERVER_CONNECTIONS: u32 = 10;

/// Connections for reads of an SQLite file by default. Writes have one of their own: SQLite writes
/// one at a time, and a queue in this process is fairer than its busy timeout.
pub const DEFAULT_SQLITE_CONNECTIONS: u32 = 4;

/// How long a connection may take to answer when it leaves its pool, and when it comes back.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long one attempt to get a connection out of a pool may take at the most; a call makes as many
/// as it has time for. The driver pauses between its own attempts to connect for up to a fifth of
/// this, and a SYN that is lost is sent again after 1 and after 3 seconds: a server that is back
/// should have to wait for neither.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(2);

/// How a store uses its database.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Connections at the most, for reads and writes together on a server and for reads on SQLite;
    /// `None` for the default of the database.
    pub max_connections: Option<u32>,
    /// How long a call may take; a connection has to come out of the pool in less.
    pub store_timeout: Duration,
}

/// One pool on a server, two on SQLite.
#[derive(Clone)]
pub(super) struct Pools {
    reads: DatabaseConnection,
    writes: DatabaseConnection,
    inner: Inner,
    /// Attempts of a call to get a connection.
    attempts: u32,
    last_word: LastWord,
    store_timeout: Duration,
}

#[derive(Clone)]
enum Inner {
    Sqlite { file: File, reads: Pool<Sqlite>, writes: Pool<Sqlite> },
    Postgres(Pool<Postgres>),
    MySql(Pool<MySql>),
}

/// Whether a statement reads or writes; on SQLite each has a pool of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Read,
    Write,
}

impl Pools {
    pub(super) fn open(url: &Url, config: &Config) -> io::Result<Self> {
        let reach_timeout = reach_timeout(config.store_timeout);
        let last_word = LastWord::none();
        let (reads, writes, inner) = match url {
            Url::Sqlite(path) => {
                let file = File::open(path)?;
                let pool = |connections: u32| {
                    PoolOptions::<Sqlite>::new()
                        .max_connections(connections)
                        .acquire_timeout(attempt_timeout(reach_timeout))
                        // A file has no connection that could have been lost.
                        .test_before_acquire(false)
                        .idle_timeout(None)
                        .max_lifetime(None)
                        .connect_lazy_with(sqlite_options(path, reach_timeout))
                };
                let reads = pool(config.max_connections.unwrap_or(DEFAULT_SQLITE_CONNECTIONS));
                let writes = pool(1);
                (
                    SqlxSqliteConnector::from_sqlx_sqlite_pool(reads.clone()),
                    SqlxSqliteConnector::from_sqlx_sqlite_pool(writes.clone()),
                    Inner::Sqlite { file, reads, writes },
                )
            }
            Url::Postgres(options, _) => {
                let session = format!("SET lock_timeout = {}", reach_timeout.as_millis().max(1));
                let pool =
                    server_pool(config, session, &last_word).connect_lazy_with((**options).clone());
                let db = SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone());
                (db.clone(), db, Inner::Postgres(pool))
            }
            Url::MySql(options, _) => {
                // Whole seconds are what the server takes. Strict, or values would be cut; and each
                // statement commits by itself, whatever the server's default is.
                let lock_wait = reach_timeout.as_secs().max(1);
                let session = format!(
                    "SET SESSION autocommit = 1, \
                     SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), \
                     SESSION innodb_lock_wait_timeout = {lock_wait}, \
                     SESSION lock_wait_timeout = {lock_wait}"
                );
                let pool =
                    server_pool(config, session, &last_word).connect_lazy_with((**options).clone());
                let db = SqlxMySqlConnector::from_sqlx_mysql_pool(pool.clone());
                (db.clone(), db, Inner::MySql(pool))
            }
        };
        let store_timeout = config.store_timeout;
        let attempts = attempts(reach_timeout);
        Ok(Self { reads, writes, inner, attempts, last_word, store_timeout })
    }

    /// Runs a statement on a connection of the pool. It is made anew where no connection was to be
    /// had: nothing of it was sent then.
    ///
    /// # Errors
    ///
    /// [`DbErr::ConnectionAcquire`] if there was no connection in the time that a call has for it.
    pub(super) async fn run<'s, T, S>(
        &'s self,
        way: Way,
        statement: impl Fn(&'s DatabaseConnection) -> S,
    ) -> Result<T, DbErr>
    where
        S: Future<Output = Result<T, DbErr>>,
    {
        let db = match way {
            Way::Read => &self.reads,
            Way::Write => &self.writes,
        };
        for _ in 1..self.attempts {
            match statement(db).await {
                Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) => {}
                result => return result,
            }
        }
        statement(db).await
    }

    /// Why no connection came out of the pool in time.
    pub(super) fn no_connection(&self, way: Way) -> NotReached {
        // As old as the call can be that has a connection, and what it takes to give that back.
        let is_alive = || self.last_word.is_within(self.store_timeout + RELEASE_TIMEOUT);
        match &self.inner {
            // A file is not away: one that cannot be opened says so at once.
            Inner::Sqlite { .. } => NotReached::busy(self.in_use(way)),
            Inner::Postgres(_) | Inner::MySql(_) if is_alive() => {
                NotReached::busy(self.in_use(way))
            }
            Inner::Postgres(_) | Inner::MySql(_) => NotReached::new(NO_CONNECTION),
        }
    }

    /// What to say of a pool whose connections are all in use.
    pub(super) fn in_use(&self, way: Way) -> String {
        let size = match (&self.inner, way) {
            (Inner::Sqlite { .. }, Way::Write) => {
                return "the connection for writes is busy: look for what keeps the file locked, \
                        or for a slow disk"
                    .to_owned();
            }
            (Inner::Sqlite { reads, .. }, Way::Read) => reads.options().get_max_connections(),
            (Inner::Postgres(pool), _) => pool.options().get_max_connections(),
            (Inner::MySql(pool), _) => pool.options().get_max_connections(),
        };
        format!(
            "the pool of {size} connections is busy: raise --db-max-connections, or look for \
             statements that are slow or wait for a lock"
        )
    }

    pub(super) fn reads(&self) -> &DatabaseConnection {
        &self.reads
    }

    pub(super) fn writes(&self) -> &DatabaseConnection {
        &self.writes
    }

    /// Whether the connections are to what the URL names; only a file can become another one.
    pub(super) fn check_file(&self) -> Result<(), Displaced> {
        match &self.inner {
            Inner::Sqlite { file, .. } => file.check(),
            Inner::Postgres(_) | Inner::MySql(_) => Ok(()),
        }
    }

    /// Connects with other credentials from now on. Does nothing, and says so, if `url` is of another
    /// database: with some connections to one and some to another, users would come and go.
    pub(super) fn set_url(&self, url: &Url) -> bool {
        match (&self.inner, url) {
            (Inner::Postgres(pool), Url::Postgres(new, _)) => {
                let old = pool.connect_options();
                let same = old.get_host() == new.get_host()
                    && old.get_port() == new.get_port()
                    && old.get_socket() == new.get_socket()
                    && old.get_database() == new.get_database();
                if same {
                    pool.set_connect_options((**new).clone());
                }
                same
            }
            (Inner::MySql(pool), Url::MySql(new, _)) => {
                let old = pool.connect_options();
                let same = old.get_host() == new.get_host()
                    && old.get_port() == new.get_port()
                    && old.get_socket() == new.get_socket()
                    && old.get_database() == new.get_database();
                if same {
                    pool.set_connect_options((**new).clone());
                }
                same
            }
            (Inner::Sqlite { reads, .. }, Url::Sqlite(path)) => {
                reads.connect_options().get_filename() == sqlite_filename(path)
            }
            _ => false,
        }
    }

    /// Makes a connection beside the pool and closes it, to learn why the pool has none.
    pub(super) async fn try_connect(&self) -> Result<(), sqlx::Error> {
        let attempt = async {
            match &self.inner {
                Inner::Sqlite { reads, .. } => {
                    reads.connect_options().connect().await?.close().await
                }
                Inner::Postgres(pool) => pool.connect_options().connect().await?.close().await,
                Inner::MySql(pool) => pool.connect_options().connect().await?.close().await,
            }
        };
        tokio::time::timeout(RELEASE_TIMEOUT, attempt)
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// How many connections are idle, and how many are in use.
    pub(super) fn connections(&self) -> (usize, usize) {
        fn count<DB: Database>(pool: &Pool<DB>) -> (usize, usize) {
            let open = usize::try_from(pool.size()).unwrap_or(usize::MAX);
            let idle = pool.num_idle().min(open);
            (idle, open - idle)
        }
        match &self.inner {
            Inner::Sqlite { reads, writes, .. } => {
                let ((idle, used), (more_idle, more_used)) = (count(reads), count(writes));
                (idle + more_idle, used + more_used)
            }
            Inner::Postgres(pool) => count(pool),
            Inner::MySql(pool) => count(pool),
        }
    }

    pub(super) async fn close(&self) {
        match &self.inner {
            Inner::Sqlite { reads, writes, .. } => {
                reads.close().await;
                writes.close().await;
            }
            Inner::Postgres(pool) => pool.close().await,
            Inner::MySql(pool) => pool.close().await,
        }
    }
}

/// How often a call may try to get a connection within `reach_timeout`.
fn attempts(reach_timeout: Duration) -> u32 {
    let attempts = reach_timeout.as_millis().div_ceil(LONGEST_ATTEMPT.as_millis()).max(1);
    u32::try_from(attempts).unwrap_or(u32::MAX)
}

/// How long each attempt takes, so that all together take `reach_timeout`.
fn attempt_timeout(reach_timeout: Duration) -> Duration {
    reach_timeout / attempts(reach_timeout)
}

/// A pool of connections to a server, each of which begins with the statement `session`.
fn server_pool<DB: Database>(
    config: &Config,
    session: String,
    last_word: &LastWord,
) -> PoolOptions<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let (connected, acquired, released) = (last_word.clone(), last_word.clone(), last_word.clone());
    PoolOptions::new()
        .max_connections(config.max_connections.unwrap_or(DEFAULT_SERVER_CONNECTIONS))
        .acquire_timeout(attempt_timeout(reach_timeout(config.store_timeout)))
        .after_connect(move |connection: &mut DB::Connection, _| {
            let (session, last_word) = (AssertSqlSafe(session.clone()), connected.clone());
            Box::pin(async move {
                connection.execute(session).await?;
                last_word.heard();
                Ok(())
            })
        })
        // With a limit of its own, which the driver's own test has not: a server that is gone
        // without a word would cost the whole time of a call for each connection.
        .test_before_acquire(false)
        .before_acquire(move |connection: &mut DB::Connection, _| {
            let last_word = acquired.clone();
            Box::pin(async move {
                let free = is_free(connection).await;
                match free {
                    Ok(_) => last_word.heard(),
                    Err(_) => last_word.lost(),
                }
                free
            })
        })
        .after_release(move |connection: &mut DB::Connection, _| {
            let last_word = released.clone();
            Box::pin(async move {
                let free = is_free(connection).await;
                match &free {
                    Ok(_) => last_word.heard(),
                    // Its call was given up, and the server is still at work on it.
                    Err(sqlx::Error::PoolTimedOut) => {}
                    Err(_) => last_word.lost(),
                }
                free
            })
        })
}

/// Whether a connection has nothing left to do and its server answers. One whose call was given up
/// may still be waiting for the server, and would hold its place for as long.
async fn is_free(connection: &mut impl Connection) -> Result<bool, sqlx::Error> {
    match tokio::time::timeout(RELEASE_TIMEOUT, connection.ping()).await {
        Ok(Ok(())) => Ok(true),
        // An error closes the connection at once, without another word to the server.
        Ok(Err(error)) => Err(error),
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_attempt_is_long_and_all_together_take_the_time_that_there_is() {
        for (reach, attempt) in [(1, 1), (800, 800), (2000, 2000), (2400, 1200), (24_000, 2000)] {
            let reach = Duration::from_millis(reach);
            assert_eq!(attempt_timeout(reach), Duration::from_millis(attempt), "{reach:?}");
            assert_eq!(attempt_timeout(reach) * attempts(reach), reach);
        }
        assert_eq!(attempts(Duration::ZERO), 1);
    }
}
