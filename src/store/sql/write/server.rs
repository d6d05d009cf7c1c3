//! Writes to a server, each by itself, on a connection that is kept as long as more of them wait.
//!
//! It is never kept without one: a write that is lost with its connection cannot be made again, and
//! what the pool gives was asked whether it is still there.

use std::time::Duration;

use sea_orm::Statement;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use crate::store::{
    Unanswered,
    sql::{error::Error, held::Held, pools::Pools, queue::Batch},
};

/// One write after the other.
pub(in crate::store::sql) struct ServerWrite {
    pools: Pools,
    limit: Duration,
}

impl ServerWrite {
    /// A write may take up to `limit`.
    pub(super) fn new(pools: Pools, limit: Duration) -> Self {
        Self { pools, limit }
    }

    /// Writes what came at `since`. The connection is not kept after an error, nor where others
    /// wait for one.
    async fn write(
        &self,
        kept: &mut Option<Held>,
        statement: &Statement,
        since: Instant,
    ) -> Result<u64, Error> {
        // One that is due is back before another is waited for.
        let fresh = kept.take().filter(|held| !held.is_due());
        let mut held = match fresh {
            Some(held) => held,
            None => self.pools.hold(since).await?,
        };
        let changed = held.execute(statement).await?;
        self.pools.worked();
        *kept = (!self.pools.is_wanted()).then_some(held);
        Ok(changed)
    }
}

impl Batch for ServerWrite {
    /// The statement, and since when it waits.
    type Work = (Statement, Instant);
    type Answer = u64;
    type Kept = Option<Held>;

    const MOST: usize = 1;

    async fn run(
        &self,
        kept: &mut Option<Held>,
        works: Vec<(Statement, Instant)>,
    ) -> Vec<Result<u64, Status>> {
        let mut results = Vec::with_capacity(works.len());
        for (statement, since) in works {
            let write = self.write(kept, &statement, since);
            results.push(match timeout_at(since + self.limit, write).await {
                Ok(result) => result.map_err(Error::into_status),
                Err(_) => Err(Unanswered::DeadlinePassed.into_status()),
            });
        }
        results
    }

    fn busy(&self) -> Status {
        self.pools.busy().into_status()
    }
}
