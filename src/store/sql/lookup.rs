//! Look-ups of users by a unique column: those that wait at the same moment are one query, on a
//! connection that is kept as long as there are any.

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    time::{Duration, Instant},
};

use sea_orm::{
    ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _, QueryResult, QueryTrait as _,
};
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};
use tokio::time::timeout;
use tonic::{Code, Status};

use super::{
    entity::{self, Column, Entity as Users},
    error::{Error, is_lost},
    held::Held,
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

/// How many connections a pool has at least of which one may be kept for look-ups by ID, and one
/// for those by email address, in a moment without any.
const ROOMY: u32 = 4;

/// After how long a connection goes back, however much there is to do: its pool renews it in time.
const RENEWAL: Duration = Duration::from_secs(60);

/// Look-ups by one column.
pub(super) struct Lookup {
    pools: Pools,
    key: Key,
    limit: Duration,
    /// For 1, 2, 4 … keys, so that each is prepared once.
    statements: Vec<SqlStr>,
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

/// The connection of a worker, and since when it has it.
type Kept = Option<(Held, Instant)>;

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
            .map(|select| AssertSqlSafe(select.build(pools.backend()).sql).into_sql_str())
            .collect();
        let rules = Rules {
            workers: WORKERS,
            slow: Some(SLOW),
            patience: limit,
            lingers: pools.size(Way::Read) >= ROOMY,
        };
        Queue::new(Self { pools, key, limit, statements }, rules)
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
    /// that was kept may have been lost since: a read can be made again.
    async fn rows(&self, kept: &mut Kept, keys: &[String]) -> Result<Vec<QueryResult>, Error> {
        if let Some((mut held, since)) = kept.take()
            && since.elapsed() < RENEWAL
        {
            match self.query(&mut held, keys).await {
                Err(error) if is_lost(&error) => {}
                result => {
                    *kept = Some((held, since));
                    return Ok(result?);
                }
            }
        }
        let mut held = self.pools.hold().await?;
        let rows = self.query(&mut held, keys).await;
        *kept = Some((held, Instant::now()));
        Ok(rows?)
    }

    /// The users who have one of these keys.
    async fn users(&self, kept: &mut Kept, keys: &[String]) -> Result<Vec<User>, Status> {
        let rows = self.pools.on_the_file(self.rows(kept, keys));
        let rows = timeout(self.limit, rows)
            .await
            .unwrap_or_else(|_| Err(Unanswered::DeadlinePassed.into_status()))?;
        let users: Vec<User> = rows
            .iter()
            .map(entity::user)
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
                    let mut keys = keys;
                    let mut results = Vec::with_capacity(keys.len());
                    while let Some((key, others)) = keys.split_first() {
                        keys = others;
                        let user = match others.contains(key) {
                            true => users.get(key).cloned(),
                            false => users.remove(key),
                        };
                        results.push(user.ok_or_else(not_found));
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

impl Batch for Lookup {
    type Work = String;
    type Answer = User;
    type Kept = Kept;

    async fn run(&self, kept: &mut Kept, keys: Vec<String>) -> Vec<Result<User, Status>> {
        self.look_up(kept, &keys).await
    }

    fn busy(&self) -> Status {
        self.pools.busy(Way::Read).into_status()
    }
}
