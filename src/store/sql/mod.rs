//! The bundled store: users in SQLite, PostgreSQL, MySQL or MariaDB, by SeaORM.
//!
//! One implementation for all of them. Each action is one statement, which the database makes
//! atomic by itself; whether an email address is free is decided by a unique constraint, and
//! whether a counter still has its value by the `WHERE` of the update. What the calls of one moment
//! can share, they share: look-ups a query or a transaction (`lookup`), and writes a connection or,
//! to SQLite, a commit (`write`).

mod awake;
mod entity;
mod error;
mod file;
mod follow;
mod held;
mod lookup;
mod migration;
mod pools;
mod queue;
mod server_pool;
mod sqlite;
mod times;
mod url;
mod write;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sea_orm::{
    ColumnTrait, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter, QueryTrait, Statement,
    UpdateMany,
    sea_query::{Alias, Expr, SimpleExpr},
};
use tonic::{Request, Response, Status, async_trait};
use uuid::Uuid;

use self::{
    entity::{Column, Entity as Users, row},
    error::Error,
    lookup::{Key, Lookups},
    pools::Pools,
    write::Writes,
};
pub use self::{
    migration::{MigrationState, MigrationStatus},
    pools::{Config, DEFAULT_SERVER_CONNECTIONS, DEFAULT_SQLITE_CONNECTIONS},
    url::Url,
};
use super::reach_timeout;
use crate::proto::{
    CreateUserRequest, CreateUserResponse, DeleteUserRequest, DeleteUserResponse,
    GetUserByEmailAddressRequest, GetUserByEmailAddressResponse, GetUserRequest, GetUserResponse,
    IncrementUserSessionsCounterRequest, IncrementUserSessionsCounterResponse,
    UpdateUserEmailAddressRequest, UpdateUserEmailAddressResponse, UpdateUserPasswordHashRequest,
    UpdateUserPasswordHashResponse, User, user_store_server::UserStore,
};

/// How long the look at the schema waits for its turn: less than a call, so that readiness is soon
/// told.
const CHECK_PATIENCE: Duration = Duration::from_millis(500);

/// The bundled store. Clones share its connections.
#[derive(Clone)]
pub struct SqlStore {
    pools: Pools,
    by_id: Lookups,
    by_email_address: Lookups,
    writes: Writes,
    /// The statement that creates a user, with its values in the order of the columns.
    insert: Arc<str>,
    store_timeout: Duration,
    /// Whether the last look at the schema found all of it.
    schema_seen: Arc<AtomicBool>,
}

/// The schema cannot be changed or read.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SchemaError(Error);

impl SqlStore {
    /// A store that connects when it is first used. On SQLite the file is created if it is missing,
    /// readable by its owner alone.
    ///
    /// # Errors
    ///
    /// If the SQLite file cannot be created.
    pub fn open(url: &Url, config: &Config) -> std::io::Result<Self> {
        let pools = Pools::open(url, config)?;
        let calls = Arc::default();
        let lookups = |key| Lookups::new(&pools, key, config.store_timeout, &calls);
        Ok(Self {
            by_id: lookups(Key::Id),
            by_email_address: lookups(Key::EmailAddress),
            writes: Writes::new(&pools, config.store_timeout),
            insert: Users::insert(row(&User::default())).build(pools.backend()).sql.into(),
            pools,
            store_timeout: config.store_timeout,
            schema_seen: Arc::default(),
        })
    }

    /// Brings the schema up to that of this release, under a lock that all replicas share, and
    /// names the migrations that were applied. A newer schema is left as it is.
    ///
    /// # Errors
    ///
    /// If the database cannot be reached or refuses; nothing is half done where the database has
    /// transactions for its schema (all but MySQL and MariaDB).
    pub async fn migrate_up(&self) -> Result<Vec<String>, SchemaError> {
        let reach = reach_timeout(self.store_timeout);
        let lock = self.pools.times().lock();
        self.pools.work(reach, |db| migration::up(db, lock)).await.map_err(SchemaError)
    }

    /// Takes the newest migration back, **with the data that it holds**, and names it.
    ///
    /// # Errors
    ///
    /// If the database cannot be reached or refuses, or its schema is newer than this release.
    pub async fn migrate_down(&self) -> Result<Option<String>, SchemaError> {
        let reach = reach_timeout(self.store_timeout);
        self.pools
            .work(reach, |db| migration::down(db, self.pools.times().lock()))
            .await
            .map_err(SchemaError)
    }

    /// The migrations of this release and of the database. Changes nothing.
    ///
    /// # Errors
    ///
    /// If the database cannot be reached or refuses.
    pub async fn migration_status(&self) -> Result<Vec<MigrationStatus>, SchemaError> {
        let reach = reach_timeout(self.store_timeout);
        self.pools.work(reach, migration::status).await.map_err(SchemaError)
    }

    /// Whether the database answers and its schema is at least that of this release. Where the pool
    /// has no connection in time, a database that still answers is as it was when it was last asked;
    /// one connection more than the pool has is made then. A server that has no room for it counts
    /// as long as the pool has connections that work.
    ///
    /// # Errors
    ///
    /// In words, what is missing and which command does it.
    pub async fn check(&self) -> Result<(), String> {
        self.pools.check_file().map_err(|displaced| displaced.to_string())?;
        let look = self.pools.work(CHECK_PATIENCE, migration::status);
        let status = tokio::time::timeout(self.store_timeout, look)
            .await
            .map_err(|_| "the database does not answer".to_owned())?;
        let status = match status {
            Ok(status) => {
                self.pools.has_room();
                status
            }
            // The pool has no connection, and does not say whether another could be made.
            Err(none) if none.is_want_of_connections() => {
                return match self.pools.try_connect().await {
                    // Others may have every connection that a server gives; this pool may have some.
                    Err(error) if !error::is_full(&error) || !self.pools.is_at_work() => {
                        Err(error::describe_connect(error))
                    }
                    _ if self.schema_seen.load(Ordering::Relaxed) => Ok(()),
                    _ => Err(none.to_string()),
                };
            }
            Err(error) => return Err(error.to_string()),
        };
        let pending = status.iter().find(|migration| migration.state == MigrationState::Pending);
        self.schema_seen.store(pending.is_none(), Ordering::Relaxed);
        match pending {
            None => Ok(()),
            Some(pending) => Err(format!(
                "the schema lacks {}: run `faroe-sidecar migrate up`, or serve with --migrate",
                pending.name
            )),
        }
    }

    /// How many connections to the database are open: idle, and in use.
    pub fn connections(&self) -> (usize, usize) {
        self.pools.connections()
    }

    /// Closes all connections after the statements that they are running, or after `timeout` as
    /// they are.
    pub async fn close(&self, timeout: Duration) {
        self.by_id.close();
        self.by_email_address.close();
        self.writes.close();
        // What is not closed by then is closed by the end of the process.
        let _ = tokio::time::timeout(timeout, self.pools.close()).await;
    }

    /// Runs one write that changes one row.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` where there is no such row.
    async fn write_one(&self, statement: Statement) -> Result<(), Status> {
        match self.writes.run(statement).await? {
            0 => Err(not_found()),
            _ => Ok(()),
        }
    }

    /// One atomic compare and set: `changes` to the row of the user, where `counter` still is
    /// `seen`, and 1 more on that counter.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` where no row matched; `INTERNAL` where the row matched and its counter cannot go
    /// up. In both the row is untouched.
    async fn compare_and_set<const N: usize>(
        &self,
        user_id: &str,
        counter: Column,
        seen: i32,
        changes: [(Column, SimpleExpr); N],
    ) -> Result<(), Status> {
        if seen == i32::MAX {
            return self.counter_at_maximum(user_id, counter).await;
        }
        let mut update = touched(Users::update_many())
            .col_expr(counter, Expr::col(counter).add(1))
            .filter(Column::Id.eq(user_id))
            .filter(counter.eq(seen));
        for (column, value) in changes {
            update = update.col_expr(column, value);
        }
        self.write_one(QueryTrait::build(&update, self.pools.backend())).await
    }

    /// What a compare and set on a counter at 2147483647 answers; it never changes the row.
    async fn counter_at_maximum(&self, user_id: &str, counter: Column) -> Result<(), Status> {
        let count = |db| Users::find_by_id(user_id).filter(counter.eq(i32::MAX)).count(db);
        match self.pools.run(count).await? {
            0 => Err(not_found()),
            _ => Err(Status::internal("the counter is at 2147483647 and cannot be incremented")),
        }
    }
}

fn not_found() -> Status {
    Status::not_found("no such user, or the counter does not match")
}

/// The update with the time of the change, which the database sets.
fn touched(mut update: UpdateMany<Users>) -> UpdateMany<Users> {
    QueryTrait::query(&mut update).value(Alias::new("updated_at"), Expr::current_timestamp());
    update
}

#[async_trait]
impl UserStore for SqlStore {
    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<CreateUserResponse>, Status> {
        let request = request.into_inner();
        let user = User {
            // Random, so never used again; ordered by time, so that the index stays compact.
            id: Uuid::now_v7().to_string(),
            email_address: request.email_address,
            password_hash: request.password_hash,
            password_hash_algorithm_id: request.password_hash_algorithm_id,
            password_salt: request.password_salt,
            ..User::default()
        };
        let backend = self.pools.backend();
        let insert =
            Statement::from_sql_and_values(backend, &*self.insert, entity::values(row(&user)));
        match self.writes.run(insert).await? {
            0 => Err(Status::internal("the database did not keep the user: look at its triggers")),
            _ => Ok(Response::new(CreateUserResponse { user: Some(user) })),
        }
    }

    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<GetUserResponse>, Status> {
        let user = self.by_id.user(request.into_inner().user_id).await?;
        Ok(Response::new(GetUserResponse { user: Some(user) }))
    }

    async fn get_user_by_email_address(
        &self,
        request: Request<GetUserByEmailAddressRequest>,
    ) -> Result<Response<GetUserByEmailAddressResponse>, Status> {
        let user = self.by_email_address.user(request.into_inner().email_address).await?;
        Ok(Response::new(GetUserByEmailAddressResponse { user: Some(user) }))
    }

    async fn update_user_email_address(
        &self,
        request: Request<UpdateUserEmailAddressRequest>,
    ) -> Result<Response<UpdateUserEmailAddressResponse>, Status> {
        let request = request.into_inner();
        self.compare_and_set(
            &request.user_id,
            Column::EmailAddressCounter,
            request.user_email_address_counter,
            [(Column::EmailAddress, Expr::value(request.email_address))],
        )
        .await?;
        Ok(Response::new(UpdateUserEmailAddressResponse {}))
    }

    async fn update_user_password_hash(
        &self,
        request: Request<UpdateUserPasswordHashRequest>,
    ) -> Result<Response<UpdateUserPasswordHashResponse>, Status> {
        let request = request.into_inner();
        self.compare_and_set(
            &request.user_id,
            Column::PasswordHashCounter,
            request.user_password_hash_counter,
            [
                (Column::PasswordHash, Expr::value(request.password_hash.to_vec())),
                (Column::PasswordHashAlgorithmId, Expr::value(request.password_hash_algorithm_id)),
                (Column::PasswordSalt, Expr::value(request.password_salt.to_vec())),
            ],
        )
        .await?;
        Ok(Response::new(UpdateUserPasswordHashResponse {}))
    }

    async fn increment_user_sessions_counter(
        &self,
        request: Request<IncrementUserSessionsCounterRequest>,
    ) -> Result<Response<IncrementUserSessionsCounterResponse>, Status> {
        let request = request.into_inner();
        self.compare_and_set(
            &request.user_id,
            Column::SessionsCounter,
            request.user_sessions_counter,
            [],
        )
        .await?;
        Ok(Response::new(IncrementUserSessionsCounterResponse {}))
    }

    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        let user_id = request.into_inner().user_id;
        self.write_one(Users::delete_by_id(user_id).build(self.pools.backend())).await?;
        Ok(Response::new(DeleteUserResponse {}))
    }
}
