//! Look-ups of users by a unique column: those that wait at the same moment are one query.

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    time::Duration,
};

use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, FromQueryResult as _,
    QueryFilter as _, QueryTrait as _, Statement,
};
use tokio::time::timeout;
use tonic::{Code, Status};

use super::{
    entity::{Column, Entity as Users, Row},
    error::Error,
    not_found,
    pools::{Pools, Way},
    queue::{BATCH, Batch, Queue, Rules},
};
use crate::{proto::User, store::Unanswered};

/// Queries at the same moment. Few make the most of each other: what comes while they run goes
/// along with the next.
const WORKERS: usize = 2;

/// After how long a query does not count as one of them: ten times what it takes.
const SLOW: Duration = Duration::from_millis(5);

/// Look-ups by one column.
pub(super) struct Lookup {
    pools: Pools,
    key: Key,
    limit: Duration,
    /// For 1, 2, 4 … keys, so that each is prepared once.
    statements: Vec<String>,
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

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
}

impl Lookup {
    /// The queue of such look-ups. A query may take up to `limit`.
    pub(super) fn queue(pools: Pools, key: Key, limit: Duration) -> Queue<Self> {
        let column = match key {
            Key::Id => Column::Id,
            Key::EmailAddress => Column::EmailAddress,
        };
        let statements = std::iter::successors(Some(1), |keys| Some(keys * 2))
            .take_while(|keys| *keys <= BATCH)
            .map(|keys| Users::find().filter(column.is_in(vec![""; keys])))
            .map(|select| select.build(pools.backend()).sql)
            .collect();
        let rules = Rules { workers: WORKERS, slow: Some(SLOW), patience: limit };
        Queue::new(Self { pools, key, limit, statements }, rules)
    }

    /// The query for these keys. Where it has room for more, it asks for the last one again.
    fn statement(&self, keys: &[String]) -> Statement {
        let size = keys.len().next_power_of_two();
        let sql = self.statements.get(size.ilog2() as usize).cloned().unwrap_or_default();
        let filled = keys.iter().chain(keys.last().into_iter().cycle()).take(size);
        let values = filled.map(|key| key.as_str().into());
        Statement::from_sql_and_values(self.pools.backend(), sql, values)
    }

    /// The users who have one of these keys.
    async fn users(&self, keys: &[String]) -> Result<Vec<User>, Status> {
        let statement = self.statement(keys);
        let select = self.pools.run(Way::Read, |db| db.query_all_raw(statement.clone()));
        let rows = timeout(self.limit, select)
            .await
            .unwrap_or_else(|_| Err(Unanswered::DeadlinePassed.into_status()))?;
        let users: Vec<User> = rows
            .iter()
            .map(|row| Row::from_query_result(row, "").map(|Row(user)| user))
            .collect::<Result<_, _>>()
            .map_err(|error| Error::from(error).into_status())?;
        // The database has found somebody under a key and calls the key otherwise: that a user is
        // absent cannot be said then.
        let asked: HashSet<&str> = keys.iter().map(String::as_str).collect();
        if users.iter().any(|user| !asked.contains(self.key.of(user))) {
            return Err(Status::internal(
                "the database gave a user who was not asked for: the columns `id` and \
                 `email_address` must be compared and kept byte for byte",
            ));
        }
        Ok(users)
    }

    /// What each of them gets.
    fn look_up<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Vec<Result<User, Status>>> {
        Box::pin(async move {
            match self.users(keys).await {
                Ok(users) => {
                    let users: HashMap<&str, &User> =
                        users.iter().map(|user| (self.key.of(user), user)).collect();
                    keys.iter()
                        .map(|key| users.get(key.as_str()).copied().cloned().ok_or_else(not_found))
                        .collect()
                }
                // A key that the database cannot take fails the query of all: those beside it get
                // theirs without it.
                Err(status) if status.code() == Code::Internal && keys.len() > 1 => {
                    let (some, others) = keys.split_at(keys.len() / 2);
                    let mut results = self.look_up(some).await;
                    results.extend(self.look_up(others).await);
                    results
                }
                Err(status) => vec![Err(status); keys.len()],
            }
        })
    }
}

impl Batch for Lookup {
    type Work = String;
    type Answer = User;

    async fn run(&self, keys: Vec<String>) -> Vec<Result<User, Status>> {
        self.look_up(&keys).await
    }

    fn busy(&self) -> Status {
        self.pools.busy(Way::Read).into_status()
    }
}
