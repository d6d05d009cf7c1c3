//! Look-ups in an SQLite file: those that wait at the same moment are one transaction.

use rusqlite::{Connection, OptionalExtension as _, Row};
use sea_orm::DbBackend;
use tonic::Status;

use super::{Key, not_asked_for};
use crate::{
    proto::User,
    store::sql::{
        entity::Column,
        not_found,
        pools::Pools,
        queue::Batch,
        sqlite::{Connections, status},
    },
};

/// Look-ups by one column.
pub(in crate::store::sql) struct FileLookup {
    pools: Pools,
    reader: Connections,
    query: Query,
}

/// What is looked up.
struct Query {
    key: Key,
    sql: String,
}

impl FileLookup {
    pub(super) fn new(pools: Pools, reader: Connections, key: Key) -> Self {
        let sql = key.query(1, DbBackend::Sqlite);
        Self { pools, reader, query: Query { key, sql } }
    }

    /// What each key gets. It keeps this thread waiting for the disk.
    async fn users(&self, keys: Vec<String>) -> Result<Vec<Result<User, Status>>, Status> {
        let slot = self.reader.slot(self.pools.times().lock()).await?.ok_or_else(|| self.busy())?;
        self.reader.with(slot, |used| self.query.users(&used.connection, &keys))
    }
}

impl Query {
    /// What each key gets. A read outside of a transaction is one by itself, with locks of its own.
    fn users(
        &self,
        connection: &Connection,
        keys: &[String],
    ) -> rusqlite::Result<Vec<Result<User, Status>>> {
        let transaction = connection.unchecked_transaction()?;
        let users = {
            let mut statement = connection.prepare_cached(&self.sql)?;
            let mut users = Vec::with_capacity(keys.len());
            for key in keys {
                let found = match statement.query_row([key], user).optional() {
                    // A lock, or the disk: the next key would only wait for the same.
                    Err(error @ rusqlite::Error::SqliteFailure(..)) => return Err(error),
                    found => found.map_err(|error| status(&error)),
                };
                users.push(found.and_then(|user| match user.ok_or_else(not_found)? {
                    user if self.key.of(&user) == key => Ok(user),
                    _ => Err(not_asked_for()),
                }));
            }
            users
        };
        transaction.finish()?;
        Ok(users)
    }
}

impl Batch for FileLookup {
    type Work = String;
    type Answer = User;
    type Kept = ();

    const BLOCKS: bool = true;

    /// Enough that a batch costs little beside its look-ups, and few enough that several readers
    /// share what waits where the disk is read.
    const MOST: usize = 16;

    async fn run(&self, (): &mut (), keys: Vec<String>) -> Vec<Result<User, Status>> {
        let number = keys.len();
        let users = self.users(keys).await;
        users.unwrap_or_else(|status| vec![Err(status); number])
    }

    fn busy(&self) -> Status {
        self.pools.busy().into_status()
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
