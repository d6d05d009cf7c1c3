//! Connections to an SQLite file by SQLite itself, on threads that may wait for the disk.
//!
//! The driver that the servers have hands every row and every statement from a thread to a channel,
//! which takes longer than what SQLite does.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, ffi, types::Type};
use sea_orm::{IdenStatic as _, Iterable as _};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::Status;

use super::{entity::Column, url::sqlite_filename};
use crate::store::NotReached;

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
pub(super) struct Connections {
    file: PathBuf,
    access: Access,
    /// How long a statement may wait for a lock.
    lock: Duration,
    size: usize,
    slots: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Connections {
    /// Up to `size` connections to the file, which is opened when it is first used.
    pub(super) fn new(file: &Path, access: Access, size: usize, lock: Duration) -> Self {
        Self {
            file: sqlite_filename(file),
            access,
            lock,
            size,
            slots: Arc::new(Semaphore::new(size)),
            idle: Arc::default(),
        }
    }

    /// How many connections there may be.
    pub(super) const fn size(&self) -> usize {
        self.size
    }

    /// How many connections are idle, and how many are in use.
    pub(super) fn connections(&self) -> (usize, usize) {
        let used = self.size.saturating_sub(self.slots.available_permits());
        (self.with_idle(|idle| idle.len()), used)
    }

    /// Closes all of them, each after what it is used for.
    pub(super) async fn close(&self) {
        let all = self.slots.acquire_many(u32::try_from(self.size).unwrap_or(u32::MAX)).await;
        self.slots.close();
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
        match timeout(patience, Arc::clone(&self.slots).acquire_owned()).await {
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
    /// # Errors
    ///
    /// If the file cannot be opened, and what `work` returns.
    pub(super) fn with<T>(
        &self,
        slot: OwnedSemaphorePermit,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Status> {
        let mut connection = match self.with_idle(Vec::pop) {
            Some(connection) => connection,
            None => self.open().map_err(|error| NotReached::new(describe(&error)).into_status())?,
        };
        let result = work(&mut connection).map_err(|error| status(&error))?;
        if connection.is_autocommit() {
            self.with_idle(|idle| idle.push(connection));
        }
        // Not before the connection is there, or another would be opened in its place.
        drop(slot);
        Ok(result)
    }

    fn with_idle<T>(&self, with: impl FnOnce(&mut Vec<Connection>) -> T) -> T {
        with(&mut self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        // To read is to write to the index of the journal.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.file, flags)?;
        connection.busy_timeout(self.lock)?;
        match self.access {
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

/// The status for a statement that failed.
pub(super) fn status(error: &rusqlite::Error) -> Status {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Status::aborted(describe(error))
        }
        Some(ErrorCode::ConstraintViolation) if is_email_address_taken(error) => {
            Status::already_exists("email address taken")
        }
        _ => Status::internal(describe(error)),
    }
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

/// Whether a statement failed by itself, so that the transaction in which it stands goes on without
/// it. What a trigger raises may roll everything back.
pub(super) fn is_of_the_statement(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::SqliteFailure(code, _)
            if code.code == ErrorCode::ConstraintViolation
                && code.extended_code != ffi::SQLITE_CONSTRAINT_TRIGGER
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
