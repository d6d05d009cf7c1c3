//! Writes to an SQLite file: those that wait at the same moment are made durable by one commit.
//!
//! A commit waits for the disk, and that is nearly all the time that a write takes. Each statement
//! is atomic by itself and has an outcome of its own; none is told before the commit.

use rusqlite::{
    Connection, ToSql, TransactionBehavior, params_from_iter,
    types::{ToSqlOutput, ValueRef},
};
use sea_orm::{Statement, Value, Values};
use tonic::Status;

use crate::store::{
    NotReached,
    sql::{
        pools::Pools,
        queue::Batch,
        sqlite::{Connections, Used, is_locked, is_of_the_file, is_of_the_statement, status},
    },
};

/// Writes by one commit. The answer is how many rows a statement has changed.
pub(in crate::store::sql) struct FileWrite {
    pools: Pools,
    writer: Connections,
}

/// What came of each write.
type Outcomes = Vec<Result<u64, Status>>;

impl FileWrite {
    pub(super) fn new(pools: Pools, writer: Connections) -> Self {
        Self { pools, writer }
    }

    /// Writes all of them. It keeps this thread waiting for the disk.
    async fn write(&self, statements: &[Statement]) -> Result<Outcomes, Status> {
        let slot = self.writer.slot(self.pools.times().turn()).await?.ok_or_else(|| self.busy())?;
        self.writer.with(slot, |used| match together(&mut used.connection, statements)? {
            Some(outcomes) => Ok(outcomes),
            None => Ok(one_by_one(used, statements)),
        })
    }
}

/// Writes by one commit; `None` if nothing was changed: there is one statement alone, or what failed
/// is not one of them by itself.
fn together(
    connection: &mut Connection,
    statements: &[Statement],
) -> rusqlite::Result<Option<Outcomes>> {
    if statements.len() == 1 {
        return Ok(None);
    }
    // It is the writer's turn from the beginning, or waits for it there.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut outcomes = Vec::with_capacity(statements.len());
    for statement in statements {
        let outcome = execute(&transaction, statement);
        // What failed by itself may have rolled back the others, as a trigger can.
        let goes_on = outcome.as_ref().err().is_none_or(is_of_the_statement);
        if !goes_on || transaction.is_autocommit() {
            transaction.finish()?;
            return Ok(None);
        }
        outcomes.push(outcome.map_err(|error| status(&error)));
    }
    match transaction.execute_batch("COMMIT") {
        Ok(()) => Ok(Some(outcomes)),
        // A constraint that is looked at when all is done.
        Err(error) if is_of_the_statement(&error) => {
            transaction.finish()?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Writes by a commit each, so that what fails fails alone. A lock or a file that fails is told to
/// all that come after: they would only wait for the same.
fn one_by_one(used: &mut Used, statements: &[Statement]) -> Outcomes {
    let mut outcomes = Vec::with_capacity(statements.len());
    let mut failed = None;
    for statement in statements {
        let outcome = match &failed {
            Some(status) => Err(Status::clone(status)),
            None => execute(&used.connection, statement).map_err(|error| {
                let status = status(&error);
                if is_of_the_file(&error) {
                    used.is_spent = true;
                }
                if used.is_spent || is_locked(&error) {
                    failed = Some(status.clone());
                }
                status
            }),
        };
        outcomes.push(outcome);
    }
    outcomes
}

fn execute(connection: &Connection, statement: &Statement) -> rusqlite::Result<u64> {
    let values = statement.values.as_ref().map_or(&[][..], |Values(values)| values);
    let changed = connection
        .prepare_cached(&statement.sql)?
        .execute(params_from_iter(values.iter().map(Parameter)))?;
    Ok(u64::try_from(changed).unwrap_or(u64::MAX))
}

/// A value of a statement, as SQLite takes it.
struct Parameter<'a>(&'a Value);

impl ToSql for Parameter<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self.0 {
            Value::String(Some(text)) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(Some(bytes)) => ValueRef::Blob(bytes),
            Value::Int(Some(number)) => ValueRef::Integer((*number).into()),
            Value::Bool(Some(truth)) => ValueRef::Integer((*truth).into()),
            _ => {
                let reason = "a parameter of a kind that no column has";
                return Err(rusqlite::Error::ToSqlConversionFailure(reason.into()));
            }
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

impl Batch for FileWrite {
    type Work = Statement;
    type Answer = u64;
    type Kept = ();

    const BLOCKS: bool = true;

    async fn run(&self, (): &mut (), statements: Vec<Statement>) -> Outcomes {
        let outcomes = self.write(&statements).await;
        outcomes.unwrap_or_else(|status| vec![Err(status); statements.len()])
    }

    fn busy(&self) -> Status {
        let reason = "the connection for writes is busy: look for what keeps the file locked, or \
                      for a slow disk";
        NotReached::busy(reason.to_owned()).into_status()
    }
}
