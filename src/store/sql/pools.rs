//! The connections of the bundled store.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sea_orm::{
    ConnAcquireErr, DatabaseConnection, DbBackend, DbErr, SqlxMySqlConnector,
    SqlxPostgresConnector, SqlxSqliteConnector,
};
use sqlx::{
    ConnectOptions as _, Connection as _, Database, MySql, Pool, Postgres, Sqlite,
    pool::PoolOptions,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
    time::{Instant, timeout},
};
use tonic::Status;

use super::{
    error::{Error, NO_ROOM, acquire_error, is_full},
    file::{Displaced, File},
    held::{Connection, Held},
    server_pool::{Seen, server_pool},
    sqlite::{Access, Connections},
    times::Times,
    url::{Url, sqlite_filename, sqlite_options},
};
use crate::store::{NotReached, Unanswered, reach_timeout};

/// Connections to a database server by default.
pub const DEFAULT_SERVER_CONNECTIONS: u32 = 10;

/// Connections for reads of an SQLite file by default. Writes have one of their own: SQLite writes
/// one at a time, and a queue in this process is fairer than its busy timeout.
pub const DEFAULT_SQLITE_CONNECTIONS: u32 = 4;

/// How a store uses its database.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Connections at the most, for reads and writes together on a server and for reads on SQLite;
    /// `None` for the default of the database.
    pub max_connections: Option<u32>,
    /// How long a call may take; a connection has to come out of the pool in less.
    pub store_timeout: Duration,
}

/// One pool on a server; on SQLite one for reads, one for writes, and one for the schema.
#[derive(Clone)]
pub(super) struct Pools {
    db: DatabaseConnection,
    inner: Inner,
    /// On a server, as many as it has connections, in order of arrival: whoever has one finds no
    /// connection of the pool in use by another, and one that it does not get cannot be made.
    slots: Option<Arc<Semaphore>>,
    /// How many wait for one of these.
    waiting: Arc<AtomicUsize>,
    times: Times,
    seen: Arc<Mutex<Seen>>,
}

/// How long ago a connection may have worked that is at work now.
const AT_WORK: Duration = Duration::from_secs(5);

#[derive(Clone)]
enum Inner {
    Sqlite { file: File, reader: Connections, writer: Connections, schema: Pool<Sqlite> },
    Postgres(Pool<Postgres>),
    MySql(Pool<MySql>),
}

/// So many as a semaphore can count.
fn places(connections: u32) -> usize {
    usize::try_from(connections).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

impl Pools {
    pub(super) fn open(url: &Url, config: &Config) -> io::Result<Self> {
        let times = Times::of(reach_timeout(config.store_timeout));
        let seen = Arc::default();
        let size = config.max_connections.unwrap_or(DEFAULT_SERVER_CONNECTIONS);
        let (db, inner) = match url {
            Url::Sqlite(path) => {
                let file = File::open(path)?;
                // Of the schema, now and then.
                let schema = PoolOptions::new()
                    .max_connections(1)
                    .acquire_timeout(times.reach)
                    // A file has no connection that could have been lost.
                    .test_before_acquire(false)
                    .idle_timeout(None)
                    .max_lifetime(None)
                    // What could not be rolled back ends with its connection.
                    .after_release(|connection: &mut sqlx::SqliteConnection, _| {
                        Box::pin(async { Ok(!connection.is_in_transaction()) })
                    })
                    .connect_lazy_with(sqlite_options(path, times.lock()));
                let size = config.max_connections.unwrap_or(DEFAULT_SQLITE_CONNECTIONS);
                let inner = Inner::Sqlite {
                    reader: Connections::new(&file, Access::Read, places(size), times.lock()),
                    writer: Connections::new(&file, Access::Write, 1, times.lock()),
                    file,
                    schema: schema.clone(),
                };
                (SqlxSqliteConnector::from_sqlx_sqlite_pool(schema), inner)
            }
            Url::Postgres(options, _) => {
                let session = format!("SET lock_timeout = {}", times.reach.as_millis().max(1));
                let pool =
                    server_pool(size, session, times, &seen).connect_lazy_with((**options).clone());
                let db = SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone());
                (db, Inner::Postgres(pool))
            }
            Url::MySql(options, _) => {
                // Whole seconds are what the server takes. Strict, or values would be cut; and each
                // statement commits by itself, whatever the server's default is.
                let lock_wait = times.reach.as_secs().max(1);
                let session = format!(
                    "SET SESSION autocommit = 1, \
                     SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), \
                     SESSION innodb_lock_wait_timeout = {lock_wait}, \
                     SESSION lock_wait_timeout = {lock_wait}"
                );
                let pool =
                    server_pool(size, session, times, &seen).connect_lazy_with((**options).clone());
                let db = SqlxMySqlConnector::from_sqlx_mysql_pool(pool.clone());
                (db, Inner::MySql(pool))
            }
        };
        let slots = match &inner {
            Inner::Sqlite { .. } => None,
            Inner::Postgres(_) | Inner::MySql(_) => Some(Arc::new(Semaphore::new(places(size)))),
        };
        Ok(Self { db, inner, slots, waiting: Arc::default(), times, seen })
    }

    /// Runs a statement on a connection of the pool. It is made anew where no connection was to be
    /// had: nothing of it was sent then. Hence it has to get its connection once and no more; one
    /// that got another for a second part could repeat the first.
    ///
    /// Nothing is asked of an SQLite file that is not the users' any more, nor is its answer passed
    /// on.
    ///
    /// # Errors
    ///
    /// The status of the contract: [`NotReached`] where no connection came free or could be made.
    pub(super) async fn run<'s, T, S>(
        &'s self,
        statement: impl Fn(&'s DatabaseConnection) -> S,
    ) -> Result<T, Status>
    where
        S: Future<Output = Result<T, DbErr>>,
    {
        self.check_file().map_err(|gone| NotReached::new(gone.to_string()).into_status())?;
        let result = self.attempt(statement).await.map_err(Error::into_status)?;
        self.check_file()
            .map_err(|gone| Unanswered::ConnectionLost(gone.to_string()).into_status())?;
        Ok(result)
    }

    /// A connection to a server, for a call that waits `since` then. It is not given back before it
    /// is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if all were in use for as long as a call may wait for one; that of the last
    /// attempt if none could be made.
    pub(super) async fn hold(&self, since: Instant) -> Result<Held, Error> {
        let slot = self.slot(self.times.slot().saturating_sub(since.elapsed())).await?;
        let mut attempts = self.times.attempts(since.elapsed());
        loop {
            attempts -= 1;
            match self.acquire().await {
                Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) if attempts > 0 => {}
                result => {
                    let connection = result.map_err(|error| self.error(error))?;
                    return Ok(Held::new(connection, slot));
                }
            }
        }
    }

    async fn acquire(&self) -> Result<Connection, DbErr> {
        match &self.inner {
            Inner::Sqlite { .. } => return Err(DbErr::Custom("a file is no server".to_owned())),
            Inner::Postgres(pool) => pool.acquire().await.map(Connection::Postgres),
            Inner::MySql(pool) => pool.acquire().await.map(Connection::MySql),
        }
        .map_err(acquire_error)
    }

    async fn attempt<'s, T, S>(
        &'s self,
        statement: impl Fn(&'s DatabaseConnection) -> S,
    ) -> Result<T, Error>
    where
        S: Future<Output = Result<T, DbErr>>,
    {
        let start = Instant::now();
        let slot = self.slot(self.times.slot()).await?;
        let attempts = if slot.is_some() { self.times.attempts(start.elapsed()) } else { 1 };
        for _ in 1..attempts {
            match statement(&self.db).await {
                Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) => {}
                result => return result.map_err(Error::Database),
            }
        }
        statement(&self.db).await.map_err(|error| self.error(error))
    }

    /// Does some work that needs one connection at a time, and its slot for all of it. It is not
    /// made anew.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if all connections were in use for `patience`, or for as long as a call may
    /// wait for one.
    pub(super) async fn work<'s, T, S>(
        &'s self,
        patience: Duration,
        work: impl FnOnce(&'s DatabaseConnection) -> S,
    ) -> Result<T, Error>
    where
        S: Future<Output = Result<T, DbErr>>,
    {
        let _slot = self.slot(patience.min(self.times.slot())).await?;
        work(&self.db).await.map_err(|error| self.error(error))
    }

    /// Whose SQL the statements have to be.
    pub(super) fn backend(&self) -> DbBackend {
        self.db.get_database_backend()
    }

    /// How a call divides its time.
    pub(super) const fn times(&self) -> Times {
        self.times
    }

    /// The right to a connection to a server; nothing on SQLite, where the pool itself is the
    /// queue.
    async fn slot(&self, patience: Duration) -> Result<Option<OwnedSemaphorePermit>, Error> {
        let Some(slots) = &self.slots else { return Ok(None) };
        match Arc::clone(slots).try_acquire_owned() {
            Ok(slot) => return Ok(Some(slot)),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {}
        }
        let _waiting = Waiting::of(&self.waiting);
        match timeout(patience, Arc::clone(slots).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(Some(slot)),
            Ok(Err(_)) => Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed).into()),
            Err(_) => Err(self.busy()),
        }
    }

    /// What the error of a statement is with this database: a file is not away, and one that cannot
    /// be opened says so at once.
    fn error(&self, error: DbErr) -> Error {
        match (&self.inner, error) {
            (Inner::Sqlite { .. }, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) => {
                let reason = "the connection for the schema is busy: look for what keeps the file \
                              locked, or for a slow disk";
                Error::Busy(reason.to_owned())
            }
            (_, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) if Seen::of(&self.seen).full => {
                Error::Busy(NO_ROOM.to_owned())
            }
            (_, error) => Error::Database(error),
        }
    }

    /// The error of a call for which no connection came free.
    pub(super) fn busy(&self) -> Error {
        Error::Busy(format!(
            "the pool of {} connections is busy: raise --db-max-connections, or look for \
             statements that are slow or wait for a lock",
            self.size()
        ))
    }

    /// How many connections there may be, on SQLite for look-ups.
    pub(super) fn size(&self) -> usize {
        match &self.inner {
            Inner::Sqlite { reader, .. } => reader.size(),
            Inner::Postgres(pool) => places(pool.options().get_max_connections()),
            Inner::MySql(pool) => places(pool.options().get_max_connections()),
        }
    }

    /// What looks users up in an SQLite file.
    pub(super) const fn reader(&self) -> Option<&Connections> {
        match &self.inner {
            Inner::Sqlite { reader, .. } => Some(reader),
            Inner::Postgres(_) | Inner::MySql(_) => None,
        }
    }

    /// What changes users in an SQLite file.
    pub(super) const fn writer(&self) -> Option<&Connections> {
        match &self.inner {
            Inner::Sqlite { writer, .. } => Some(writer),
            Inner::Postgres(_) | Inner::MySql(_) => None,
        }
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
            (Inner::Sqlite { schema, .. }, Url::Sqlite(path)) => {
                schema.connect_options().get_filename() == sqlite_filename(path)
            }
            _ => false,
        }
    }

    /// Makes a connection beside the pool and closes it, to learn why the pool has none. It has the
    /// time that any connection has.
    pub(super) async fn try_connect(&self) -> Result<(), sqlx::Error> {
        let attempt = async {
            match &self.inner {
                Inner::Sqlite { schema, .. } => {
                    schema.connect_options().connect().await?.close().await
                }
                Inner::Postgres(pool) => pool.connect_options().connect().await?.close().await,
                Inner::MySql(pool) => pool.connect_options().connect().await?.close().await,
            }
        };
        let result =
            timeout(self.times.attempt, attempt).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        Seen::of(&self.seen).full = result.as_ref().is_err_and(is_full);
        result
    }

    /// The pool has what it needs.
    pub(super) fn has_room(&self) {
        Seen::of(&self.seen).full = false;
    }

    /// Whether a server's pool has a connection that nobody uses.
    pub(super) fn has_spare(&self) -> bool {
        self.slots.as_ref().is_some_and(|slots| slots.available_permits() > 0)
    }

    /// Whether somebody waits for a connection to a server.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// A connection of the pool has just worked.
    pub(super) fn worked(&self) {
        Seen::of(&self.seen).worked = Some(Instant::now());
    }

    /// Whether the pool has connections to a server that work.
    pub(super) fn is_at_work(&self) -> bool {
        let worked = Seen::of(&self.seen).worked;
        worked.is_some_and(|worked| worked.elapsed() < AT_WORK)
    }

    /// How many connections are idle, and how many are in use.
    pub(super) fn connections(&self) -> (usize, usize) {
        fn count<DB: Database>(pool: &Pool<DB>) -> (usize, usize) {
            let open = usize::try_from(pool.size()).unwrap_or(usize::MAX);
            let idle = pool.num_idle().min(open);
            (idle, open - idle)
        }
        match &self.inner {
            Inner::Sqlite { reader, writer, schema, .. } => {
                [reader.connections(), writer.connections(), count(schema)]
                    .into_iter()
                    .fold((0, 0), |(idle, used), (more_idle, more_used)| {
                        (idle + more_idle, used + more_used)
                    })
            }
            Inner::Postgres(pool) => count(pool),
            Inner::MySql(pool) => count(pool),
        }
    }

    pub(super) async fn close(&self) {
        if let Some(slots) = &self.slots {
            slots.close();
        }
        match &self.inner {
            Inner::Sqlite { reader, writer, schema, .. } => {
                reader.close().await;
                writer.close().await;
                schema.close().await;
            }
            Inner::Postgres(pool) => pool.close().await,
            Inner::MySql(pool) => pool.close().await,
        }
    }
}

/// One more who waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn of(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
