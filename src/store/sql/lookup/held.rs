//! A connection that is kept for one query after the other. To take one out of its pool and to give
//! it back costs more than a look-up: a server is asked up to three times whether it is still there.

use sea_orm::{DbErr, QueryResult};
use sqlx::{
    Database, Encode, Executor, IntoArguments, MySql, Postgres, SqlStr, Type, pool::PoolConnection,
};
use tokio::sync::OwnedSemaphorePermit;

use crate::store::sql::error::query_error;

/// A connection out of a pool, which goes back there when this is dropped.
pub(in crate::store::sql) struct Held {
    connection: Connection,
    /// Whether it waits for the database, or may have lost it: such a one does not go back.
    is_uncertain: bool,
    _slot: Option<OwnedSemaphorePermit>,
}

/// One of either kind.
pub(in crate::store::sql) enum Connection {
    Postgres(PoolConnection<Postgres>),
    MySql(PoolConnection<MySql>),
}

impl Held {
    /// The connection, with the right to it.
    pub(in crate::store::sql) fn new(
        connection: Connection,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { connection, is_uncertain: false, _slot: slot }
    }

    /// Runs a query whose parameters are texts.
    ///
    /// # Errors
    ///
    /// Those of the driver, as SeaORM has them.
    pub(super) async fn rows(
        &mut self,
        sql: SqlStr,
        parameters: &[&str],
    ) -> Result<Vec<QueryResult>, DbErr> {
        self.is_uncertain = true;
        let rows = match &mut self.connection {
            Connection::Postgres(connection) => fetch(connection, sql, parameters).await,
            Connection::MySql(connection) => fetch(connection, sql, parameters).await,
        };
        // The database goes on after an error that it tells.
        self.is_uncertain = rows.as_ref().is_err_and(|error| error.as_database_error().is_none());
        rows.map_err(query_error)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_uncertain {
            match &mut self.connection {
                Connection::Postgres(connection) => connection.close_on_drop(),
                Connection::MySql(connection) => connection.close_on_drop(),
            }
        }
    }
}

async fn fetch<DB>(
    connection: &mut PoolConnection<DB>,
    sql: SqlStr,
    parameters: &[&str],
) -> Result<Vec<QueryResult>, sqlx::Error>
where
    DB: Database,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    for<'p> &'p str: Encode<'p, DB> + Type<DB>,
    QueryResult: From<DB::Row>,
{
    let mut query = sqlx::query::<DB>(sql);
    for parameter in parameters {
        query = query.bind(*parameter);
    }
    let rows = query.fetch_all(&mut **connection).await?;
    Ok(rows.into_iter().map(QueryResult::from).collect())
}
