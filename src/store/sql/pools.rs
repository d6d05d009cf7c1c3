//! The connections of the bundled store.

use std::{io, time::Duration};

use sea_orm::{DatabaseConnection, SqlxMySqlConnector, SqlxPostgresConnector, SqlxSqliteConnector};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection, Database, Executor, MySql, Pool, Postgres,
    Sqlite, pool::PoolOptions,
};

use super::{
    file::{Displaced, File},
    url::{Url, sqlite_filename, sqlite_options},
};
use crate::store::reach_timeout;

/// Connections to a database server by default.
pub const DEFAULT_SERVER_CONNECTIONS: u32 = 10;

/// Connections for reads of an SQLite file by default. Writes have one of their own: SQLite writes
/// one at a time, and a queue in this process is fairer than its busy timeout.
pub const DEFAULT_SQLITE_CONNECTIONS: u32 = 4;

/// How long a connection may take to answer when it leaves its pool, and when it comes back.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

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
}

#[derive(Clone)]
enum Inner {
    Sqlite { file: File, reads: Pool<Sqlite>, writes: Pool<Sqlite> },
    Postgres(Pool<Postgres>),
    MySql(Pool<MySql>),
}

impl Pools {
    pub(super) fn open(url: &Url, config: &Config) -> io::Result<Self> {
        let acquire_timeout = reach_timeout(config.store_timeout);
        Ok(match url {
            Url::Sqlite(path) => {
                let file = File::open(path)?;
                let pool = |connections: u32| {
                    PoolOptions::<Sqlite>::new()
                        .max_connections(connections)
                        .acquire_timeout(acquire_timeout)
                        // A file has no connection that could have been lost.
                        .test_before_acquire(false)
                        .idle_timeout(None)
                        .max_lifetime(None)
                        .connect_lazy_with(sqlite_options(path, acquire_timeout))
                };
                let reads = pool(config.max_connections.unwrap_or(DEFAULT_SQLITE_CONNECTIONS));
                let writes = pool(1);
                Self {
                    reads: SqlxSqliteConnector::from_sqlx_sqlite_pool(reads.clone()),
                    writes: SqlxSqliteConnector::from_sqlx_sqlite_pool(writes.clone()),
                    inner: Inner::Sqlite { file, reads, writes },
                }
            }
            Url::Postgres(options, _) => {
                let session = format!("SET lock_timeout = {}", acquire_timeout.as_millis().max(1));
                let pool = server_pool(config, session).connect_lazy_with((**options).clone());
                let db = SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone());
                Self { reads: db.clone(), writes: db, inner: Inner::Postgres(pool) }
            }
            Url::MySql(options, _) => {
                // Whole seconds are what the server takes. Strict, or values would be cut; and each
                // statement commits by itself, whatever the server's default is.
                let lock_wait = acquire_timeout.as_secs().max(1);
                let session = format!(
                    "SET SESSION autocommit = 1, \
                     SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), \
                     SESSION innodb_lock_wait_timeout = {lock_wait}, \
                     SESSION lock_wait_timeout = {lock_wait}"
                );
                let pool = server_pool(config, session).connect_lazy_with((**options).clone());
                let db = SqlxMySqlConnector::from_sqlx_mysql_pool(pool.clone());
                Self { reads: db.clone(), writes: db, inner: Inner::MySql(pool) }
            }
        })
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

/// A pool of connections to a server, each of which begins with the statement `session`.
fn server_pool<DB: Database>(config: &Config, session: String) -> PoolOptions<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    PoolOptions::new()
        .max_connections(config.max_connections.unwrap_or(DEFAULT_SERVER_CONNECTIONS))
        .acquire_timeout(reach_timeout(config.store_timeout))
        .after_connect(move |connection: &mut DB::Connection, _| {
            let session = AssertSqlSafe(session.clone());
            Box::pin(async move { connection.execute(session).await.map(|_| ()) })
        })
        // With a limit of its own, which the driver's own test has not: a server that is gone
        // without a word would cost the whole time of a call for each connection.
        .test_before_acquire(false)
        .before_acquire(|connection: &mut DB::Connection, _| Box::pin(is_free(connection)))
        .after_release(|connection: &mut DB::Connection, _| Box::pin(is_free(connection)))
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
