//! Changes to users, one statement each: on a server on connections that are kept as long as more
//! of them wait (`server`), to a file by one commit for all that wait at the same moment (`file`).

mod file;
mod server;

use std::time::Duration;

use sea_orm::Statement;
use tokio::time::Instant;
use tonic::Status;

use self::{file::FileWrite, server::ServerWrite};
use super::{
    lookup::ROOMY,
    pools::Pools,
    queue::{Queue, Rules, THREAD_LINGERS},
};

/// The writes. Clones are the same.
#[derive(Clone)]
pub(super) enum Writes {
    File(Queue<FileWrite>),
    Server(Queue<ServerWrite>),
}

impl Writes {
    /// A write may take up to `limit`.
    pub(super) fn new(pools: &Pools, limit: Duration) -> Self {
        let times = pools.times();
        let rules = Rules {
            workers: 1,
            slow: None,
            at_most: 1,
            patience: times.turn(),
            limit,
            lingers: None,
            awake: None,
        };
        match pools.writer() {
            // SQLite writes one at a time.
            Some(writer) => Self::File(Queue::new(
                FileWrite::new(pools.clone(), writer.clone()),
                Rules { lingers: Some(THREAD_LINGERS), ..rules },
            )),
            None => Self::Server(Queue::new(
                ServerWrite::new(pools.clone(), limit),
                Rules {
                    workers: match pools.size() {
                        // Two are for look-ups, which may keep them: no write waits for one then.
                        size @ ROOMY.. => size - 2,
                        size => size,
                    },
                    at_most: usize::MAX,
                    patience: times.slot(),
                    ..rules
                },
            )),
        }
    }

    /// Runs a statement, and says how many rows it has changed.
    ///
    /// # Errors
    ///
    /// The status of the contract; [`NotReached`](crate::store::NotReached) where it was not sent.
    pub(super) async fn run(&self, statement: Statement) -> Result<u64, Status> {
        match self {
            Self::File(queue) => queue.call(statement).await,
            Self::Server(queue) => queue.call((statement, Instant::now())).await,
        }
    }

    /// From now on no thread is kept without need.
    pub(super) fn close(&self) {
        match self {
            Self::File(queue) => queue.close(),
            Self::Server(queue) => queue.close(),
        }
    }
}
