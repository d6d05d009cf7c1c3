//! Writes to an SQLite file: those that wait at the same moment are made durable by one commit.
//!
//! A commit waits for the disk, and that is nearly all the time that a write takes. Each statement
//! is atomic by itself and has an outcome of its own; none is told before the commit.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DbErr, SqliteTransactionMode, Statement,
    TransactionOptions, TransactionTrait as _,
};
use tonic::Status;

use super::{
    error::{Error, is_of_the_statement},
    pools::{Pools, Way},
    queue::{Batch, Queue, Rules},
};

/// Writes by one commit. The answer is how many rows a statement has changed.
pub(super) struct Commit(Pools);

impl Commit {
    /// The queue of writes, each of which may wait so long until it is begun with. SQLite writes
    /// one at a time, so that there is one worker.
    pub(super) fn queue(pools: Pools, patience: Duration) -> Queue<Self> {
        Queue::new(
            Self(pools),
            Rules { workers: 1, slow: None, at_most: 1, patience, lingers: false },
        )
    }
}

/// What came of writes that should be committed together.
enum Together {
    /// What each has got.
    Committed(Vec<Result<u64, Error>>),
    /// One of them did not fail by itself: nothing was changed.
    RolledBack,
}

async fn together(db: &DatabaseConnection, statements: &[Statement]) -> Result<Together, DbErr> {
    // It is the writer's turn from the beginning, or waits for it there.
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let transaction = db.begin_with_options(options).await?;
    let mut results = Vec::with_capacity(statements.len());
    for statement in statements {
        let result = transaction.execute_raw(statement.clone()).await;
        match result {
            Err(error) if !is_of_the_statement(&error) => {
                // A connection that cannot is not used again, which does the same.
                let _ = transaction.rollback().await;
                return Ok(Together::RolledBack);
            }
            result => results.push(result.map(|done| done.rows_affected()).map_err(Error::from)),
        }
    }
    transaction.commit().await?;
    Ok(Together::Committed(results))
}

impl Batch for Commit {
    type Work = Statement;
    type Answer = u64;
    type Kept = ();

    async fn run(&self, (): &mut (), statements: Vec<Statement>) -> Vec<Result<u64, Status>> {
        if statements.len() > 1 {
            match self.0.run(Way::Write, |db| together(db, &statements)).await {
                Ok(Together::Committed(results)) => {
                    return results
                        .into_iter()
                        .map(|result| result.map_err(Error::into_status))
                        .collect();
                }
                // Each by itself then, so that it fails alone.
                Ok(Together::RolledBack) => {}
                Err(status) => return vec![Err(status); statements.len()],
            }
        }
        let mut results = Vec::with_capacity(statements.len());
        for statement in statements {
            results.push(self.0.execute(statement).await);
        }
        results
    }

    fn busy(&self) -> Status {
        self.0.busy(Way::Write).into_status()
    }
}
