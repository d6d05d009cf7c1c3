//! Look-ups on a server: those that wait at the same moment are one query, on a connection that is
//! kept as long as there are any.

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    time::Duration,
};

use sea_orm::{DbErr, QueryResult};
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};
use tokio::time::{Instant, timeout};
use tonic::{Code, Status};

use super::{Key, not_asked_for};
use crate::{
    proto::User,
    store::{
        Unanswered,
        sql::{
            entity,
            error::Error,
            held::Held,
            not_found,
            pools::Pools,
            queue::{BATCH, Batch},
        },
    },
};

/// Look-ups by one column.
pub(in crate::store::sql) struct ServerLookup {
    pools: Pools,
    key: Key,
    limit: Duration,
    /// For 1, 2, 4 … keys, so that each is prepared once.
    statements: Vec<SqlStr>,
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The connection of a worker.
type Kept = Option<Held>;

impl ServerLookup {
    /// A query may take up to `limit`.
    pub(super) fn new(pools: Pools, key: Key, limit: Duration) -> Self {
        let statements = std::iter::successors(Some(1), |keys| Some(keys * 2))
            .take_while(|keys| *keys <= BATCH)
            .map(|keys| AssertSqlSafe(key.query(keys, pools.backend())).into_sql_str())
            .collect();
        Self { pools, key, limit, statements }
    }

    /// Asks for these keys. Where the statement has room for more, it asks for the last one again.
    async fn query(&self, held: &mut Held, keys: &[String]) -> Result<Vec<QueryResult>, DbErr> {
        let size = keys.len().next_power_of_two();
        let sql = self
            .statements
            .get(size.ilog2() as usize)
            .ok_or_else(|| DbErr::Custom("a batch is larger than its limit".to_owned()))?;
        let filled = keys.iter().chain(keys.last().into_iter().cycle()).take(size);
        let rows = held.rows(sql.clone(), &filled.map(String::as_str).collect::<Vec<_>>()).await?;
        self.pools.worked();
        Ok(rows)
    }

    /// The same on the connection that is kept, or on one out of the pool, which is kept then. One
    /// that was kept may have been lost since: a read can be made again. None is kept after an
    /// error, nor where others may wait for it.
    async fn rows(&self, kept: &mut Kept, keys: &[String]) -> Result<Vec<QueryResult>, Error> {
        if let Some(mut held) = kept.take()
            && !held.is_due()
            && let Ok(rows) = self.query(&mut held, keys).await
        {
            *kept = self.pools.has_spare().then_some(held);
            return Ok(rows);
        }
        let mut held = self.pools.hold(Instant::now()).await?;
        let rows = self.query(&mut held, keys).await?;
        *kept = self.pools.has_spare().then_some(held);
        Ok(rows)
    }

    /// The users who have one of these keys.
    async fn users(&self, kept: &mut Kept, keys: &[String]) -> Result<Vec<User>, Status> {
        let rows = timeout(self.limit, self.rows(kept, keys))
            .await
            .map_err(|_| Unanswered::DeadlinePassed.into_status())?
            .map_err(Error::into_status)?;
        let users: Vec<User> = rows
            .iter()
            .map(entity::user)
            .collect::<Result<_, _>>()
            .map_err(|error| Error::from(error).into_status())?;
        let asked: HashSet<&str> = keys.iter().map(String::as_str).collect();
        if users.iter().any(|user| !asked.contains(self.key.of(user))) {
            return Err(not_asked_for());
        }
        Ok(users)
    }

    /// What each of them gets.
    fn look_up<'a>(
        &'a self,
        kept: &'a mut Kept,
        keys: &'a [String],
    ) -> BoxFuture<'a, Vec<Result<User, Status>>> {
        Box::pin(async move {
            match self.users(kept, keys).await {
                Ok(users) => {
                    let mut users: HashMap<String, User> = users
                        .into_iter()
                        .map(|user| (self.key.of(&user).to_owned(), user))
                        .collect();
                    let mut results = Vec::with_capacity(keys.len());
                    let mut left = keys;
                    while let Some((key, others)) = left.split_first() {
                        let user = match others.contains(key) {
                            true => users.get(key).cloned(),
                            false => users.remove(key),
                        };
                        results.push(user.ok_or_else(not_found));
                        left = others;
                    }
                    results
                }
                // A key that the database cannot take fails the query of all: those beside it get
                // theirs without it.
                Err(status) if status.code() == Code::Internal && keys.len() > 1 => {
                    let (some, others) = keys.split_at(keys.len() / 2);
                    let mut results = self.look_up(kept, some).await;
                    results.extend(self.look_up(kept, others).await);
                    results
                }
                Err(status) => vec![Err(status); keys.len()],
            }
        })
    }
}

impl Batch for ServerLookup {
    type Work = String;
    type Answer = User;
    type Kept = Kept;

    async fn run(&self, kept: &mut Kept, keys: Vec<String>) -> Vec<Result<User, Status>> {
        self.look_up(kept, &keys).await
    }

    fn busy(&self) -> Status {
        self.pools.busy().into_status()
    }
}
