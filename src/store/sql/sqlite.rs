//! Connections to an SQLite file by SQLite itself, on threads that may wait for the disk.
//!
//! SeaORM's driver hands every row and every statement from a thread to a channel, which takes
//! longer than what SQLite does.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, ffi, types::Type};
use sea_orm::{IdenStatic as _, Iterable as _};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::Status;

use super::{entity::Column, file::File, url::sqlite_filename};
use crate::store::{NotReached, Unanswered};

/// How much of the file a connection that reads keeps in memory at the most, in KiB: the upper
/// levels of the indexes of some millions of users.
const CACHE_KIB: i32 = 4_000;

/// What connections are for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Access {
    Read,
    Write,
}

/// Connections to a file, as many as are used at the same moment. Clones share them.
#[derive(Clone)]
pub(super) struct Connections(Arc<Shared>);

struct Shared {
    file: File,
    /// As SQLite opens it.
    name: PathBuf,
    access: Access,
    /// How long a statement may wait for a lock.
    lock: Duration,
    size: usize,
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Connections {
    /// Up to `size` connections to the file, which is opened when it is first used.
    pub(super) fn new(file: &File, access: Access, size: usize, lock: Duration) -> Self {
        Self(Arc::new(Shared {
            file: file.clone(),
            name: sqlite_filename(file.path()),
            access,
            lock,
            size,
            slots: Arc::new(Semaphore::new(size)),
            idle: Mutex::default(),
        }))
    }

    /// How many connections there may be.
    pub(super) fn size(&self) -> usize {
        self.0.size
    }

    /// How many connections are idle, and how many are in use.
    pub(super) fn connections(&self) -> (usize, usize) {
        let used = self.0.size.saturating_sub(self.0.slots.available_permits());
        (self.with_idle(|idle| idle.len()), used)
    }

    /// Closes all of them, each after what it is used for.
    pub(super) async fn close(&self) {
        let all = self.0.slots.acquire_many(u32::try_from(self.0.size).unwrap_or(u32::MAX)).await;
        self.0.slots.close();
        self.with_idle(Vec::clear);
        drop(all);
    }

    /// The right to a connection; `None` if all were in use for so long.
    ///
    /// # Errors
    ///
    /// If they are closed.
    pub(super) async fn slot(
        &self,
        patience: Duration,
    ) -> Result<Option<OwnedSemaphorePermit>, Status> {
        match timeout(patience, Arc::clone(&self.0.slots).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(Some(slot)),
            Ok(Err(_)) => {
                let closed = "the SQLite file is closed: the program ends";
                Err(NotReached::new(closed).into_status())
            }
            Err(_) => Ok(None),
        }
    }

    /// Uses a connection, on this thread. One that has failed is not used again.
    ///
    /// Nothing is asked of a file that is not the users' any more, nor is anything acknowledged that
    /// was written there.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened or is another one by now, and what `work` returns.
    pub(super) fn with<T>(
        &self,
        slot: OwnedSemaphorePermit,
        work: impl FnOnce(&mut Used) -> rusqlite::Result<T>,
    ) -> Result<T, Status> {
        self.check_file()?;
        let connection = match self.with_idle(Vec::pop) {
            Some(connection) => connection,
            None => {
                let connection = self.open()?;
                // What was opened was opened by its path.
                self.check_file()?;
                connection
            }
        };
        let mut used = Used { connection, is_spent: false };
        let result = work(&mut used).map_err(|error| status(&error))?;
        if !used.connection.is_autocommit() {
            return Err(Status::internal("a transaction was neither committed nor rolled back"));
        }
        self.0
            .file
            .check()
            .map_err(|gone| Unanswered::ConnectionLost(gone.to_string()).into_status())?;
        if !used.is_spent {
            self.with_idle(|idle| idle.push(used.connection));
        }
        // Not before the connection is there, or another would be opened in its place.
        drop(slot);
        Ok(result)
    }

    fn check_file(&self) -> Result<(), Status> {
        self.0.file.check().map_err(|gone| NotReached::new(gone.to_string()).into_status())
    }

    fn with_idle<T>(&self, with: impl FnOnce(&mut Vec<Connection>) -> T) -> T {
        with(&mut self.0.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn open(&self) -> Result<Connection, Status> {
        let connection = self.connect().map_err(|error| match is_locked(&error) {
            true => NotReached::busy(describe(&error)).into_status(),
            false => NotReached::new(describe(&error)).into_status(),
        })?;
        match (self.0.access, connection.is_readonly(MAIN_DB)) {
            // SQLite opens what it may not write to all the same.
            (Access::Write, Ok(true) | Err(_)) => {
                let reason = "the SQLite file cannot be written to: look at its mode, its owner and \
                              how its disk is mounted";
                Err(NotReached::new(reason).into_status())
            }
            _ => Ok(connection),
        }
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        // To read is to write to the index of the journal.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.0.name, flags)?;
        connection.busy_timeout(self.0.lock)?;
        match self.0.access {
            Access::Read => {
                connection.pragma_update(None, "query_only", true)?;
                connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
            }
            Access::Write => {
                // Reads go on beside a write, and a write is on the disk before it is acknowledged.
                connection.pragma_update(None, "journal_mode", "WAL")?;
                connection.pragma_update(None, "synchronous", "FULL")?;
            }
        }
        Ok(connection)
    }
}

/// A connection in use.
pub(super) struct Used {
    pub(super) connection: Connection,
    /// Whether nobody should use it again.
    pub(super) is_spent: bool,
}

/// The status for a statement that failed.
pub(super) fn status(error: &rusqlite::Error) -> Status {
    match error {
        _ if is_locked(error) => Status::aborted(describe(error)),
        _ if is_email_address_taken(error) => Status::already_exists("email address taken"),
        _ => Status::internal(describe(error)),
    }
}

/// Whether another program holds the file: nothing was changed, and the same call may succeed
/// later.
pub(super) fn is_locked(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// By constraint, not by guess: the primary key is unique too.
fn is_email_address_taken(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::SqliteFailure(code, Some(message))
            if code.extended_code == ffi::SQLITE_CONSTRAINT_UNIQUE
                && message == "UNIQUE constraint failed: users.email_address"
    )
}

/// Whether a statement failed by a constraint of its own, so that the transaction in which it stands
/// may go on without it. What a trigger raises may be meant for all of it.
pub(super) fn is_of_the_statement(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        error.code == ErrorCode::ConstraintViolation
            && error.extended_code != ffi::SQLITE_CONSTRAINT_TRIGGER
    })
}

/// Whether the file or its disk failed, whatever the statement.
pub(super) fn is_of_the_file(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::CannotOpen
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::DiskFull
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::NotADatabase
                | ErrorCode::OutOfMemory
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
        )
    )
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

#[cfg(test)]
mod tests {
    use rusqlite::types::Value;

    use super::*;

    #[tokio::test]
    async fn a_write_is_on_the_disk_before_it_is_acknowledged_and_reads_go_on_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::open(&directory.path().join("users.sqlite")).unwrap();
        let writer = Connections::new(&file, Access::Write, 1, Duration::ZERO);
        let slot = writer.slot(Duration::ZERO).await.unwrap().unwrap();
        let (synchronous, journal) = writer
            .with(slot, |used| {
                let ask = |name| {
                    used.connection.pragma_query_value(None, name, |row| row.get::<_, Value>(0))
                };
                Ok((ask("synchronous")?, ask("journal_mode")?))
            })
            .unwrap();
        assert_eq!(synchronous, Value::Integer(2), "FULL");
        assert_eq!(journal, Value::Text("wal".to_owned()));
    }

    #[test]
    fn connections_share_no_cache_and_nothing_counts_their_memory() {
        let connection = Connection::open_in_memory().unwrap();
        let mut statement = connection.prepare("PRAGMA compile_options").unwrap();
        let options = statement.query_map([], |row| row.get(0)).unwrap();
        let options: Vec<String> = options.collect::<rusqlite::Result<_>>().unwrap();
        assert!(options.contains(&"DEFAULT_MEMSTATUS=0".to_owned()), "{options:?}");
        assert!(!options.contains(&"ENABLE_MEMORY_MANAGEMENT".to_owned()), "{options:?}");
    }
}
