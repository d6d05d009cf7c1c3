//! Look-ups in an SQLite file, by SQLite itself: those that wait at the same moment are one
//! transaction, on a thread that may wait for the disk.
//!
//! The driver that writes hands every row from a thread to a channel, which takes longer than to
//! find it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, types::Type};
use sea_orm::{DbBackend, IdenStatic as _, Iterable as _};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::Status;

use super::{Key, not_asked_for};
use crate::{
    proto::User,
    store::{
        NotReached,
        sql::{
            entity::Column,
            not_found,
            pools::{Pools, Way},
            queue::Batch,
            url::sqlite_filename,
        },
    },
};

/// How much of the file a connection keeps in memory at the most, in KiB: the upper levels of the
/// indexes of some millions of users.
const CACHE_KIB: i32 = 4_000;

/// Connections to a file for look-ups, as many as are used at the same moment. Clones share them.
#[derive(Clone)]
pub(in crate::store::sql) struct Readers {
    file: PathBuf,
    /// How long a look-up may wait for a lock.
    lock: Duration,
    size: usize,
    slots: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    /// Up to `size` connections to the file, which is opened when it is first read.
    pub(in crate::store::sql) fn new(file: &Path, size: usize, lock: Duration) -> Self {
        Self {
            file: sqlite_filename(file),
            lock,
            size,
            slots: Arc::new(Semaphore::new(size)),
            idle: Arc::default(),
        }
    }

    /// How many connections there may be.
    pub(in crate::store::sql) const fn size(&self) -> usize {
        self.size
    }

    /// How many connections are idle, and how many are in use.
    pub(in crate::store::sql) fn connections(&self) -> (usize, usize) {
        let idle = self.with_idle(|idle| idle.len());
        (idle, self.size.saturating_sub(self.slots.available_permits()))
    }

    /// Closes all that is idle.
    pub(in crate::store::sql) fn close(&self) {
        self.slots.close();
        self.with_idle(Vec::clear);
    }

    fn with_idle<T>(&self, with: impl FnOnce(&mut Vec<Connection>) -> T) -> T {
        with(&mut self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does some reading with a connection, on this thread. One that has failed is not used again.
    fn read<T>(
        &self,
        slot: OwnedSemaphorePermit,
        read: impl FnOnce(&Connection) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let connection = match self.with_idle(Vec::pop) {
            Some(connection) => connection,
            None => self.open().map_err(|error| NotReached::new(describe(&error)).into_status())?,
        };
        let result = read(&connection)?;
        if !self.slots.is_closed() {
            // Not after the slot, or another connection would be opened in its place.
            self.with_idle(|idle| idle.push(connection));
        }
        drop(slot);
        Ok(result)
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        // To read is to write to the index of the journal.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.file, flags)?;
        connection.busy_timeout(self.lock)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        Ok(connection)
    }
}

/// Look-ups by one column.
pub(in crate::store::sql) struct FileLookup {
    pools: Pools,
    readers: Readers,
    query: Query,
}

/// What is looked up.
struct Query {
    key: Key,
    sql: String,
}

impl FileLookup {
    pub(super) fn new(pools: Pools, readers: Readers, key: Key) -> Self {
        let sql = key.query(1, DbBackend::Sqlite);
        Self { pools, readers, query: Query { key, sql } }
    }

    /// What each key gets. It keeps this thread waiting for the disk.
    async fn users(&self, keys: Vec<String>) -> Result<Vec<Result<User, Status>>, Status> {
        let slot = Arc::clone(&self.readers.slots).acquire_owned();
        let slot = timeout(self.pools.times().reach, slot)
            .await
            .map_err(|_| self.busy())?
            .map_err(|_| NotReached::new("the SQLite file is closed: the program ends"))
            .map_err(NotReached::into_status)?;
        self.readers.read(slot, |connection| self.query.users(connection, &keys))
    }
}

impl Query {
    /// What each key gets. A read outside of a transaction is one by itself, with locks of its own.
    fn users(
        &self,
        connection: &Connection,
        keys: &[String],
    ) -> Result<Vec<Result<User, Status>>, Status> {
        let transaction = connection.unchecked_transaction().map_err(status)?;
        let users = {
            let mut statement = connection.prepare_cached(&self.sql).map_err(status)?;
            let mut users = Vec::with_capacity(keys.len());
            for key in keys {
                let found = match statement.query_row([key], user).optional() {
                    // A lock, or the disk: the next key would only wait for the same.
                    Err(error @ rusqlite::Error::SqliteFailure(..)) => return Err(status(error)),
                    found => found.map_err(status),
                };
                users.push(found.and_then(|user| match user.ok_or_else(not_found)? {
                    user if self.key.of(&user) == key => Ok(user),
                    _ => Err(not_asked_for()),
                }));
            }
            users
        };
        transaction.finish().map_err(status)?;
        Ok(users)
    }
}

impl Batch for FileLookup {
    type Work = String;
    type Answer = User;
    type Kept = ();

    const BLOCKS: bool = true;

    async fn run(&self, (): &mut (), keys: Vec<String>) -> Vec<Result<User, Status>> {
        let number = keys.len();
        let users = self.pools.on_the_file(self.users(keys)).await;
        users.unwrap_or_else(|status| vec![Err(status); number])
    }

    fn busy(&self) -> Status {
        self.pools.busy(Way::Read).into_status()
    }
}

/// A row as the contract's message; the columns are selected in the order of the entity.
fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    fn text(row: &Row<'_>, column: Column) -> rusqlite::Result<String> {
        row.get(column as usize)
    }
    fn bytes(row: &Row<'_>, column: Column) -> rusqlite::Result<Vec<u8>> {
        row.get(column as usize)
    }
    Ok(User {
        id: text(row, Column::Id)?,
        email_address: text(row, Column::EmailAddress)?,
        password_hash: bytes(row, Column::PasswordHash)?.into(),
        password_hash_algorithm_id: text(row, Column::PasswordHashAlgorithmId)?,
        password_salt: bytes(row, Column::PasswordSalt)?.into(),
        disabled: row.get(Column::Disabled as usize)?,
        display_name: text(row, Column::DisplayName)?,
        email_address_counter: row.get(Column::EmailAddressCounter as usize)?,
        password_hash_counter: row.get(Column::PasswordHashCounter as usize)?,
        disabled_counter: row.get(Column::DisabledCounter as usize)?,
        sessions_counter: row.get(Column::SessionsCounter as usize)?,
    })
}

/// The status for a look-up that failed.
fn status(error: rusqlite::Error) -> Status {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Status::aborted(describe(&error))
        }
        _ => Status::internal(describe(&error)),
    }
}

/// What happened, for a log: nothing of what the file holds.
fn describe(error: &rusqlite::Error) -> String {
    let of_column = |index: usize| {
        let name = Column::iter().nth(index).map_or("?", |column| column.as_str());
        format!("column `{name}` holds a value that does not fit its type")
    };
    match error {
        // SQLite's messages name columns, never values.
        rusqlite::Error::SqliteFailure(code, message) => format!(
            "SQLite {}: {}",
            code.extended_code,
            message.as_deref().unwrap_or("no more is known")
        ),
        rusqlite::Error::InvalidColumnType(index, _, Type::Null) => {
            format!("{}: it is NULL", of_column(*index))
        }
        rusqlite::Error::InvalidColumnType(index, ..)
        | rusqlite::Error::IntegralValueOutOfRange(index, _)
        | rusqlite::Error::FromSqlConversionFailure(index, ..)
        | rusqlite::Error::Utf8Error(index, _) => of_column(*index),
        _ => "SQLite could not be asked".to_owned(),
    }
}
