//! Look-ups of users by a unique column. Those that wait at the same moment are answered together:
//! on a server by one query (`server`), from a file in one transaction (`file`).

mod file;
mod server;

use std::{sync::Arc, time::Duration};

use sea_orm::{ColumnTrait as _, DbBackend, EntityTrait as _, QueryFilter as _, QueryTrait as _};
use tonic::Status;

use self::{file::FileLookup, server::ServerLookup};
use super::{
    awake::{Awake, Calls},
    entity::{Column, Entity as Users},
    pools::Pools,
    queue::{Queue, Rules, THREAD_LINGERS},
};
use crate::proto::User;

/// Batches at the same moment that are not slow. One makes the most of what waits: what comes while
/// it is looked up goes along with the next.
const BATCHES: usize = 1;

/// After how long a batch in a file does not keep the next one waiting any more. From memory it takes
/// less; where the disk is read, several readers get more of it.
const FILE_SLOW: Duration = Duration::from_micros(250);

/// The same on a server: it is longer than a batch takes on the same machine, where one after the
/// other costs least. A server that is further away has several under way.
const SERVER_SLOW: Duration = Duration::from_millis(1);

/// For about how long a look-up in a file keeps its thread awake, while they come one at a time. One
/// from memory takes less.
const FILE_AWAKE: Duration = Duration::from_micros(100);

/// For how long a connection to a server is kept for the next look-up.
const CONNECTION_LINGERS: Duration = Duration::from_secs(1);

/// How many connections a pool has at least of which one may be kept for look-ups by ID, and one
/// for those by email address, in a moment without any.
pub(super) const ROOMY: usize = 4;

/// The column.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key {
    Id,
    EmailAddress,
}

impl Key {
    fn of(self, user: &User) -> &str {
        match self {
            Self::Id => &user.id,
            Self::EmailAddress => &user.email_address,
        }
    }

    /// The query for the users who have one of so many keys.
    fn query(self, keys: usize, backend: DbBackend) -> String {
        let column = match self {
            Self::Id => Column::Id,
            Self::EmailAddress => Column::EmailAddress,
        };
        Users::find().filter(column.is_in(vec![""; keys])).build(backend).sql
    }
}

/// The look-ups by one column. Clones are the same.
#[derive(Clone)]
pub(super) enum Lookups {
    File(Queue<FileLookup>),
    Server(Queue<ServerLookup>),
}

impl Lookups {
    /// What is looked up may take up to `limit`; `calls` are those of all look-ups of the store.
    pub(super) fn new(pools: &Pools, key: Key, limit: Duration, calls: &Arc<Calls>) -> Self {
        match pools.reader() {
            Some(reader) => {
                let lookup = FileLookup::new(pools.clone(), reader.clone(), key);
                Self::File(Queue::new(
                    lookup,
                    Rules {
                        workers: BATCHES,
                        slow: Some(FILE_SLOW),
                        // Another one could only wait for a connection, on a thread of its own.
                        at_most: pools.size(),
                        // The rest is for the wait for a connection.
                        patience: pools.times().turn(),
                        limit,
                        lingers: Some(THREAD_LINGERS),
                        awake: Some(Awake { moment: FILE_AWAKE, calls: Arc::clone(calls) }),
                    },
                ))
            }
            None => {
                let lookup = ServerLookup::new(pools.clone(), key, limit);
                Self::Server(Queue::new(
                    lookup,
                    Rules {
                        workers: BATCHES,
                        slow: Some(SERVER_SLOW),
                        at_most: usize::MAX,
                        patience: limit,
                        limit,
                        lingers: (pools.size() >= ROOMY).then_some(CONNECTION_LINGERS),
                        awake: None,
                    },
                ))
            }
        }
    }

    /// The user who has this key.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` where there is none.
    pub(super) async fn user(&self, key: String) -> Result<User, Status> {
        match self {
            Self::File(queue) => queue.call(key).await,
            Self::Server(queue) => queue.call(key).await,
        }
    }

    /// From now on no connection and no thread is kept without need.
    pub(super) fn close(&self) {
        match self {
            Self::File(queue) => queue.close(),
            Self::Server(queue) => queue.close(),
        }
    }
}

/// The database has found somebody under a key and calls the key otherwise: that a user is absent
/// cannot be said then.
fn not_asked_for() -> Status {
    Status::internal(
        "the database gave a user who was not asked for: the columns `id` and `email_address` must \
         be compared and kept byte for byte",
    )
}
