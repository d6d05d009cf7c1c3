//! The schema of the bundled store, and how it is brought up, down and looked at.
//!
//! Every change runs in one transaction under a lock that all replicas share, so that ten of them
//! may start at once. A schema that is newer than this release is accepted: each migration keeps
//! the previous release working.

mod m0001_users;

use std::{collections::BTreeSet, time::Duration};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, DynIden,
    IsolationLevel, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
    sea_query::{Alias, IntoIden},
};
use sea_orm_migration::{
    IntoSchemaManagerConnection, MigrationTrait, MigratorTrait, SchemaManager,
};

/// Not SeaORM's default name: an application that shares the database may have that one.
const VERSIONS: &str = "faroe_sidecar_migrations";

/// Chosen at random; PostgreSQL's advisory locks have numbers for names.
const POSTGRES_LOCK: i64 = 0x6661_726f_6515_7c2b;

/// How long a replica waits for the others, in seconds; not the time of a call.
const LOCK_SECONDS: u32 = 120;

/// The migrations of this release, oldest first.
struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m0001_users::Migration)]
    }

    fn migration_table_name() -> DynIden {
        Alias::new(VERSIONS).into_iden()
    }
}

/// One migration, and whether the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// Its name, such as `m0001_users`.
    pub name: String,
    /// Whether it is applied.
    pub state: MigrationState,
}

/// Whether the database has a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationState {
    /// The database has it.
    Applied,
    /// This release has it and the database has not.
    Pending,
    /// The database has it and this release does not know it.
    Newer,
}

/// All migrations of this release and of the database, oldest first. Changes nothing.
pub(super) async fn status(db: &DatabaseConnection) -> Result<Vec<MigrationStatus>, DbErr> {
    let applied = applied(db).await?;
    let own: BTreeSet<String> = own();
    Ok(own
        .union(&applied)
        .map(|name| MigrationStatus {
            name: name.clone(),
            state: match (own.contains(name), applied.contains(name)) {
                (true, true) => MigrationState::Applied,
                (true, false) => MigrationState::Pending,
                (false, _) => MigrationState::Newer,
            },
        })
        .collect())
}

/// Applies what is pending and says what that was. `busy_timeout` is that of calls on SQLite.
pub(super) async fn up(
    db: &DatabaseConnection,
    busy_timeout: Duration,
) -> Result<Vec<String>, DbErr> {
    let locked = Locked::begin(db, busy_timeout).await?;
    let result = async {
        let pending: Vec<String> = own().difference(&applied(&locked.0).await?).cloned().collect();
        if !pending.is_empty() {
            Migrator::up(&locked.0, None).await?;
        }
        Ok(pending)
    }
    .await;
    let result = locked.end(result).await;
    set_busy_timeout(db, busy_timeout).await?;
    result
}

/// Takes back the newest migration, with the data that it holds, and says which it was.
/// `busy_timeout` is that of calls on SQLite.
pub(super) async fn down(
    db: &DatabaseConnection,
    busy_timeout: Duration,
) -> Result<Option<String>, DbErr> {
    let locked = Locked::begin(db, busy_timeout).await?;
    let result = async {
        let applied = applied(&locked.0).await?;
        if let Some(newer) = applied.difference(&own()).next() {
            return Err(DbErr::Migration(format!(
                "the schema has {newer}, which this release does not know: take it back with the release that brought it"
            )));
        }
        if !applied.is_empty() {
            Migrator::down(&locked.0, Some(1)).await?;
        }
        Ok(applied.last().cloned())
    }
    .await;
    let result = locked.end(result).await;
    set_busy_timeout(db, busy_timeout).await?;
    result
}

fn own() -> BTreeSet<String> {
    Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect()
}

/// The versions in the database; none before the first migration.
async fn applied<'c>(db: impl IntoSchemaManagerConnection<'c>) -> Result<BTreeSet<String>, DbErr> {
    let manager = SchemaManager::new(db);
    if !manager.has_table(VERSIONS).await? {
        return Ok(BTreeSet::new());
    }
    let select = Statement::from_string(
        manager.get_database_backend(),
        format!("SELECT version FROM {VERSIONS}"),
    );
    let rows = manager.get_connection().query_all_raw(select).await?;
    rows.iter().map(|row| row.try_get("", "version")).collect()
}

/// A transaction that holds the lock.
struct Locked(DatabaseTransaction);

impl Locked {
    /// `busy_timeout` is that of calls on SQLite, which is had again if this fails.
    async fn begin(db: &DatabaseConnection, busy_timeout: Duration) -> Result<Self, DbErr> {
        let options = TransactionOptions {
            // Whoever has waited for the lock has to see what was done under it.
            isolation_level: (db.get_database_backend() == DbBackend::Postgres)
                .then_some(IsolationLevel::ReadCommitted),
            // SQLite's lock: the right to write, for which others wait.
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        set_busy_timeout(db, Duration::from_secs(LOCK_SECONDS.into())).await?;
        let transaction = match db.begin_with_options(options).await {
            Ok(transaction) => transaction,
            Err(error) => {
                set_busy_timeout(db, busy_timeout).await?;
                return Err(error);
            }
        };
        match db.get_database_backend() {
            // Not a session's lock: that would not survive a pooler in transaction mode.
            DbBackend::Postgres => {
                let wait = format!("SET LOCAL lock_timeout = '{LOCK_SECONDS}s'");
                transaction.execute_unprepared(&wait).await?;
                let lock = format!("SELECT pg_advisory_xact_lock({POSTGRES_LOCK})");
                transaction.execute_unprepared(&lock).await?;
            }
            DbBackend::MySql => lock_mysql(&transaction).await?,
            _ => {}
        }
        Ok(Self(transaction))
    }

    /// Commits, or rolls back what the database lets one roll back. The error is that of the work,
    /// if that failed.
    async fn end<T>(self, result: Result<T, DbErr>) -> Result<T, DbErr> {
        let mut released = Ok(());
        if self.0.get_database_backend() == DbBackend::MySql {
            // The lock is the session's, and statements on the schema have committed already.
            let release = format!("DO RELEASE_LOCK({MYSQL_LOCK})");
            released = self.0.execute_unprepared(&release).await.map(|_| ());
        }
        match result {
            Ok(value) => {
                self.0.commit().await?;
                released.map(|()| value)
            }
            Err(error) => {
                // A connection that cannot roll back is closed, which does the same.
                let _ = self.0.rollback().await;
                Err(error)
            }
        }
    }
}

/// How long SQLite waits for another writer. There is one connection for the schema, so that this
/// is the one of the next transaction.
async fn set_busy_timeout(db: &DatabaseConnection, timeout: Duration) -> Result<(), DbErr> {
    if db.get_database_backend() != DbBackend::Sqlite {
        return Ok(());
    }
    let pragma = format!("PRAGMA busy_timeout = {}", timeout.as_millis());
    db.execute_unprepared(&pragma).await.map(|_| ())
}

/// Names of locks are the server's, not the database's.
const MYSQL_LOCK: &str = "CONCAT('faroe_sidecar.', MD5(DATABASE()))";

async fn lock_mysql(transaction: &DatabaseTransaction) -> Result<(), DbErr> {
    let lock = format!("SELECT GET_LOCK({MYSQL_LOCK}, {LOCK_SECONDS}) = 1 AS locked");
    let row = transaction.query_one_raw(Statement::from_string(DbBackend::MySql, lock)).await?;
    let locked: Option<i64> = match row {
        Some(row) => row.try_get("", "locked")?,
        None => None,
    };
    if locked != Some(1) {
        return Err(DbErr::Migration(format!(
            "another process has held the migration lock for {LOCK_SECONDS} s: wait for it, or end it"
        )));
    }
    Ok(())
}
