//! A connection that is kept for one statement after the other. To take one out of its pool and to
//! give it back costs more than a look-up: a server is asked up to three times whether it is still
//! there.

use std::time::Duration;

use sea_orm::{DbErr, QueryResult, Statement, Value, Values};
use sqlx::{
    AssertSqlSafe, Database, Encode, Executor, IntoArguments, MySql, Postgres, SqlStr, Type,
    pool::PoolConnection, query::Query,
};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::error::query_error;

/// After how long a connection goes back, however much there is to do: its pool renews it in time.
const RENEWAL: Duration = Duration::from_secs(60);

/// A connection out of a pool, which goes back there when this is dropped.
pub(super) struct Held {
    connection: Connection,
    since: Instant,
    /// Whether it waits for the database, or may have lost it: such a one does not go back.
    is_uncertain: bool,
    _slot: Option<OwnedSemaphorePermit>,
}

/// One of either kind.
pub(super) enum Connection {
    Postgres(PoolConnection<Postgres>),
    MySql(PoolConnection<MySql>),
}

impl Held {
    /// The connection, with the right to it.
    pub(super) fn new(connection: Connection, slot: Option<OwnedSemaphorePermit>) -> Self {
        Self { connection, since: Instant::now(), is_uncertain: false, _slot: slot }
    }

    /// Whether it was kept for as long as it may be.
    pub(super) fn is_due(&self) -> bool {
        self.since.elapsed() >= RENEWAL
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
        self.ended(rows)
    }

    /// Runs a statement, and says how many rows it has changed.
    ///
    /// # Errors
    ///
    /// Those of the driver, as SeaORM has them.
    pub(super) async fn execute(&mut self, statement: &Statement) -> Result<u64, DbErr> {
        self.is_uncertain = true;
        let changed = match &mut self.connection {
            Connection::Postgres(connection) => {
                let done = bound(statement)?.execute(&mut **connection).await;
                done.map(|done| done.rows_affected())
            }
            Connection::MySql(connection) => {
                let done = bound(statement)?.execute(&mut **connection).await;
                done.map(|done| done.rows_affected())
            }
        };
        self.ended(changed)
    }

    fn ended<T>(&mut self, result: Result<T, sqlx::Error>) -> Result<T, DbErr> {
        // The database goes on after an error that it tells.
        self.is_uncertain = result.as_ref().is_err_and(|error| error.as_database_error().is_none());
        result.map_err(query_error)
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

/// The statement with its values, as the driver takes it.
fn bound<DB>(statement: &Statement) -> Result<Query<'_, DB, DB::Arguments>, DbErr>
where
    DB: Database,
    for<'v> &'v str: Encode<'v, DB> + Type<DB>,
    for<'v> &'v [u8]: Encode<'v, DB> + Type<DB>,
    for<'v> i32: Encode<'v, DB> + Type<DB>,
    for<'v> bool: Encode<'v, DB> + Type<DB>,
{
    let mut query = sqlx::query::<DB>(AssertSqlSafe(statement.sql.as_str()));
    let values = statement.values.as_ref().map_or(&[][..], |Values(values)| values);
    for value in values {
        query = match value {
            Value::String(Some(text)) => query.bind(text.as_str()),
            Value::Bytes(Some(bytes)) => query.bind(&bytes[..]),
            Value::Int(Some(number)) => query.bind(*number),
            Value::Bool(Some(truth)) => query.bind(*truth),
            _ => return Err(DbErr::Custom("a parameter of a kind that no column has".to_owned())),
        };
    }
    Ok(query)
}
