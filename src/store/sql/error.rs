//! What a database error means: the status of the contract, and a text that is fit for a log.
//!
//! `user-store`, "Errors". Databases quote values in some of their messages, so that not every
//! message may be shown.

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};
use sqlx::{
    error::DatabaseError, mysql::MySqlDatabaseError, postgres::PgDatabaseError, sqlite::SqliteError,
};
use tonic::Status;

use crate::store::{NotReached, Unanswered};

/// The unique constraint of the email address, in PostgreSQL, MySQL and MariaDB.
pub(super) const EMAIL_ADDRESS_KEY: &str = "users_email_address_key";

const NO_CONNECTION: &str = "no connection to the database could be made in time";

/// Of a server that answers so.
pub(super) const NO_ROOM: &str = "the database server has no connection left: raise its limit, or \
     lower --db-max-connections of all who use it";

/// Instead of a message that may quote what could not be stored.
const WITHHELD: &str = "a value cannot be stored (the message, which may quote it, is withheld)";

/// Why a statement has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Every connection was in use by others: the text says what to do about it.
    #[error("{0}")]
    Busy(String),
    /// The rest.
    #[error("{}", describe(.0))]
    Database(#[from] DbErr),
}

impl Error {
    /// Whether the pool had no connection for it, and could make none for others' sake: it says
    /// nothing of the connections that the pool has.
    pub(super) fn is_want_of_connections(&self) -> bool {
        match self {
            Self::Busy(_) | Self::Database(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) => {
                true
            }
            Self::Database(error) => sqlx_error(error).is_some_and(is_full),
        }
    }

    pub(super) fn into_status(self) -> Status {
        match self {
            Self::Busy(reason) => NotReached::busy(reason).into_status(),
            Self::Database(error) => status(&error),
        }
    }
}

/// The error of a statement on a connection that was had.
pub(super) fn query_error(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

/// The error of a pool that gave no connection, as SeaORM has it.
pub(super) fn acquire_error(error: sqlx::Error) -> DbErr {
    match error {
        sqlx::Error::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
        sqlx::Error::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
        error => DbErr::Conn(RuntimeErr::SqlxError(error.into())),
    }
}

/// The status for a statement that failed.
fn status(error: &DbErr) -> Status {
    match error {
        DbErr::Conn(_) if sqlx_error(error).is_some_and(is_full) => {
            NotReached::busy(describe(error)).into_status()
        }
        // SeaORM gives these two for a connection that it could not get out of the pool, and for
        // nothing that was sent.
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => {
            NotReached::new(describe(error)).into_status()
        }
        _ if is_email_address_taken(error) => Status::already_exists("email address taken"),
        _ if is_transient(error) => Status::aborted(describe(error)),
        _ if is_lost(error) => Unanswered::ConnectionLost(describe(error)).into_status(),
        _ => Status::internal(describe(error)),
    }
}

/// What happened, for a log: the database's code always, its message only where it cannot quote a
/// value.
fn describe(error: &DbErr) -> String {
    let Some(error) = sqlx_error(error) else {
        return match error {
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => NO_CONNECTION.to_owned(),
            DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed) => {
                "the connections to the database are closed: the program ends".to_owned()
            }
            // Errors of SeaORM's own, which name columns and types.
            error => error.to_string(),
        };
    };
    match error {
        sqlx::Error::Database(said) if is_full(error) => {
            format!("{NO_ROOM}: {}", describe_database(&**said))
        }
        sqlx::Error::Database(error) => describe_database(&**error),
        // The driver has both in one: what TLS finds wrong comes as an error of the stream.
        sqlx::Error::Io(error)
            if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) =>
        {
            format!("TLS to the database: {error}")
        }
        sqlx::Error::Io(error) => format!("connection to the database: {error}"),
        sqlx::Error::Tls(error) => format!("TLS to the database: {error}"),
        sqlx::Error::PoolTimedOut => NO_CONNECTION.to_owned(),
        sqlx::Error::ColumnDecode { index, .. } => {
            format!("column {index} holds a value that does not fit its type")
        }
        sqlx::Error::ColumnNotFound(column) => format!("the table has no column {column}"),
        sqlx::Error::Protocol(_) => {
            "the database broke its protocol, or is no database of this kind".to_owned()
        }
        sqlx::Error::WorkerCrashed => "the SQLite thread has ended".to_owned(),
        // The rest may carry configuration, of which a password is part.
        _ => "the database driver failed".to_owned(),
    }
}

/// The same of a connection that was tried by itself.
pub(super) fn describe_connect(error: sqlx::Error) -> String {
    describe(&DbErr::Conn(RuntimeErr::SqlxError(error.into())))
}

fn describe_database(error: &dyn DatabaseError) -> String {
    let code = error.code().unwrap_or_default();
    if let Some(error) = error.try_downcast_ref::<SqliteError>() {
        // SQLite's messages name columns, never values.
        return format!("SQLite {code}: {}", error.message());
    }
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        let constraint = error.constraint().map(|name| format!(" ({name})")).unwrap_or_default();
        let message = if quotes_values(&code) { WITHHELD } else { error.message() };
        return format!("PostgreSQL {code}{constraint}: {message}");
    }
    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        let hidden = quotes_values(&code) || error.number() == 1366;
        let message = if hidden { WITHHELD } else { error.message() };
        return format!("MySQL {} ({code}): {message}", error.number());
    }
    format!("database error {code}")
}

/// SQLSTATE classes 22 (data exception) and 23 (integrity constraint violation), whose messages
/// quote what could not be stored.
fn quotes_values(sqlstate: &str) -> bool {
    sqlstate.starts_with("22") || sqlstate.starts_with("23")
}

/// By constraint, not by guess: the primary key is unique too.
fn is_email_address_taken(error: &DbErr) -> bool {
    let Some(error) = database_error(error) else { return false };
    if !error.is_unique_violation() {
        return false;
    }
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        return error.constraint() == Some(EMAIL_ADDRESS_KEY);
    }
    // The message is "Duplicate entry 'VALUE' for key 'KEY'", on MySQL with the table before the
    // key. The value is a stranger's: only the end counts.
    error.try_downcast_ref::<MySqlDatabaseError>().is_some_and(|error| {
        [format!(" for key '{EMAIL_ADDRESS_KEY}'"), format!(" for key 'users.{EMAIL_ADDRESS_KEY}'")]
            .iter()
            .any(|end| error.message().ends_with(end))
    })
}

/// Serialization failure, deadlock, lock wait over: nothing was changed, and the same call may
/// succeed later.
fn is_transient(error: &DbErr) -> bool {
    let Some(error) = database_error(error) else { return false };
    if error.try_downcast_ref::<SqliteError>().is_some() {
        // The low byte is the primary code: SQLITE_BUSY, SQLITE_LOCKED.
        return error
            .code()
            .and_then(|code| code.parse::<i32>().ok())
            .is_some_and(|code| matches!(code & 0xff, 5 | 6));
    }
    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        // ER_CHECKREAD, ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK.
        return matches!(error.number(), 1020 | 1205 | 1213);
    }
    // serialization_failure, deadlock_detected, lock_not_available.
    matches!(error.code().as_deref(), Some("40001" | "40P01" | "55P03"))
}

/// Whether a server refused a connection because it has too many.
pub(super) fn is_full(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        // ER_CON_COUNT_ERROR, ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED.
        return matches!(error.number(), 1040 | 1203 | 1226);
    }
    // too_many_connections.
    error.try_downcast_ref::<PgDatabaseError>().is_some_and(|error| error.code() == "53300")
}

/// The connection was lost after the statement was sent: whether it took effect is not known.
fn is_lost(error: &DbErr) -> bool {
    matches!(sqlx_error(error), Some(sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed))
}

fn database_error(error: &DbErr) -> Option<&dyn DatabaseError> {
    sqlx_error(error)?.as_database_error()
}

fn sqlx_error(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}
