//! The table `users`: the eleven members of a user, `created_at` and `updated_at`.
//!
//! Written for each database, because what matters differs between them: strings that are compared
//! byte for byte, trailing spaces included, and values that are never cut.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, RuntimeErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0001_users"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = match manager.get_database_backend() {
            DbBackend::Postgres => POSTGRES,
            DbBackend::MySql => MYSQL,
            _ => SQLITE,
        };
        let db = manager.get_connection();
        db.execute_unprepared(table).await?;
        if manager.get_database_backend() == DbBackend::MySql {
            // An end between the table, which commits by itself, and the note that it is there
            // leaves a table behind; it is taken over, if it is this one.
            db.execute_unprepared(MYSQL_COLUMNS).await.map_err(not_ours)?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("DROP TABLE IF EXISTS users").await?;
        Ok(())
    }
}

/// The database refuses to name what the table does not have.
fn not_ours(error: DbErr) -> DbErr {
    match &error {
        DbErr::Exec(RuntimeErr::SqlxError(source)) if source.as_database_error().is_some() => {
            DbErr::Migration(
                "a table `users` of somebody else already exists: give the store a database of its own"
                    .to_owned(),
            )
        }
        _ => error,
    }
}

const SQLITE: &str = "
CREATE TABLE users (
    id                         TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    email_address              TEXT    NOT NULL UNIQUE,
    password_hash              BLOB    NOT NULL,
    password_hash_algorithm_id TEXT    NOT NULL,
    password_salt              BLOB    NOT NULL,
    disabled                   INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    display_name               TEXT    NOT NULL DEFAULT '',
    email_address_counter      INTEGER NOT NULL DEFAULT 0
        CHECK (email_address_counter BETWEEN 0 AND 2147483647),
    password_hash_counter      INTEGER NOT NULL DEFAULT 0
        CHECK (password_hash_counter BETWEEN 0 AND 2147483647),
    disabled_counter           INTEGER NOT NULL DEFAULT 0
        CHECK (disabled_counter BETWEEN 0 AND 2147483647),
    sessions_counter           INTEGER NOT NULL DEFAULT 0
        CHECK (sessions_counter BETWEEN 0 AND 2147483647),
    created_at                 TEXT    NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at                 TEXT    NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT";

const POSTGRES: &str = r#"
CREATE TABLE users (
    id                         TEXT COLLATE "C" NOT NULL
        CONSTRAINT users_pkey PRIMARY KEY CHECK (id <> ''),
    email_address              TEXT COLLATE "C" NOT NULL
        CONSTRAINT users_email_address_key UNIQUE,
    password_hash              BYTEA       NOT NULL,
    password_hash_algorithm_id TEXT        NOT NULL,
    password_salt              BYTEA       NOT NULL,
    disabled                   BOOLEAN     NOT NULL DEFAULT FALSE,
    display_name               TEXT        NOT NULL DEFAULT '',
    email_address_counter      INTEGER     NOT NULL DEFAULT 0 CHECK (email_address_counter >= 0),
    password_hash_counter      INTEGER     NOT NULL DEFAULT 0 CHECK (password_hash_counter >= 0),
    disabled_counter           INTEGER     NOT NULL DEFAULT 0 CHECK (disabled_counter >= 0),
    sessions_counter           INTEGER     NOT NULL DEFAULT 0 CHECK (sessions_counter >= 0),
    created_at                 TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at                 TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP
)"#;

/// VARBINARY for what is compared: MySQL and MariaDB have no collation in common that neither
/// folds case nor pads with spaces. 3072 bytes are what a unique key holds at the most; LONGBLOB
/// and LONGTEXT, because BLOB and TEXT end at 65,535 bytes.
const MYSQL: &str = "
CREATE TABLE IF NOT EXISTS users (
    id                         VARBINARY(255)  NOT NULL,
    email_address              VARBINARY(3072) NOT NULL,
    password_hash              LONGBLOB        NOT NULL,
    password_hash_algorithm_id LONGTEXT        NOT NULL,
    password_salt              LONGBLOB        NOT NULL,
    disabled                   BOOLEAN         NOT NULL DEFAULT FALSE,
    display_name               LONGTEXT        NOT NULL,
    email_address_counter      INT             NOT NULL DEFAULT 0,
    password_hash_counter      INT             NOT NULL DEFAULT 0,
    disabled_counter           INT             NOT NULL DEFAULT 0,
    sessions_counter           INT             NOT NULL DEFAULT 0,
    created_at                 DATETIME(6)     NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at                 DATETIME(6)     NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_email_address_key UNIQUE KEY (email_address),
    CONSTRAINT users_id_check CHECK (id <> ''),
    CONSTRAINT users_email_address_counter_check CHECK (email_address_counter >= 0),
    CONSTRAINT users_password_hash_counter_check CHECK (password_hash_counter >= 0),
    CONSTRAINT users_disabled_counter_check CHECK (disabled_counter >= 0),
    CONSTRAINT users_sessions_counter_check CHECK (sessions_counter >= 0)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin";

/// Fails where the table is somebody else's: it names every column, and an index of ours.
const MYSQL_COLUMNS: &str = "
SELECT id, email_address, password_hash, password_hash_algorithm_id, password_salt, disabled,
    display_name, email_address_counter, password_hash_counter, disabled_counter, sessions_counter,
    created_at, updated_at
FROM users FORCE INDEX (users_email_address_key) LIMIT 0";
