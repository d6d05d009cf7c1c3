//! A right store in memory, and what becomes of it with one mistake in it: each place that a
//! mistake is made at asks for it by name, and all else is as it should be.

mod create;
mod delete;
mod look_up;
mod update;
mod values;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use faroe_sidecar::proto::{
    CreateUserRequest, CreateUserResponse, DeleteUserRequest, DeleteUserResponse,
    GetUserByEmailAddressRequest, GetUserByEmailAddressResponse, GetUserRequest, GetUserResponse,
    IncrementUserSessionsCounterRequest, IncrementUserSessionsCounterResponse,
    UpdateUserEmailAddressRequest, UpdateUserEmailAddressResponse, UpdateUserPasswordHashRequest,
    UpdateUserPasswordHashResponse, User, user_store_server::UserStore,
};
use tonic::{Request, Response, Status, async_trait};

use super::{
    faults::Fault,
    referee::{Call, Referee, Turn},
    text,
};

/// The connection that a call came on. Behind a load balancer each leads to another instance.
type Connection = Option<SocketAddr>;

#[derive(Default)]
struct Table {
    rows: Vec<User>,
    /// How many users there have been.
    count: u64,
    /// Who made the first call of all.
    first_connection: Option<Connection>,
    /// Rows that are only marked as deleted.
    deleted: Vec<User>,
    /// Email addresses that users had before, and whose.
    former: Vec<(String, String)>,
    /// What each instance reads from.
    replicas: HashMap<Connection, Vec<User>>,
    caches: HashMap<(Connection, String), User>,
    /// Whether a row has the values of an update and not yet its counter.
    is_half_updated: bool,
}

pub struct Store {
    fault: Fault,
    referee: Referee,
    table: Mutex<Table>,
    writes: AtomicUsize,
    in_hand: AtomicUsize,
    /// Whether there is a connection to the database that a call was cancelled on.
    is_poisoned: AtomicBool,
}

/// What one of the three updates changes.
#[derive(Clone, PartialEq)]
enum Change {
    EmailAddress(String),
    Password { hash: Bytes, algorithm: String, salt: Bytes },
    Sessions,
}

impl Change {
    fn counter<'a>(&self, user: &'a mut User) -> &'a mut i32 {
        match self {
            Self::EmailAddress(_) => &mut user.email_address_counter,
            Self::Password { .. } => &mut user.password_hash_counter,
            Self::Sessions => &mut user.sessions_counter,
        }
    }

    fn email_address(&self) -> Option<&str> {
        match self {
            Self::EmailAddress(address) => Some(address),
            _ => None,
        }
    }

    fn set(&self, user: &mut User) {
        match self {
            Self::EmailAddress(address) => user.email_address.clone_from(address),
            Self::Password { hash, algorithm, salt } => {
                user.password_hash = hash.clone();
                user.password_hash_algorithm_id.clone_from(algorithm);
                user.password_salt = salt.clone();
            }
            Self::Sessions => {}
        }
    }
}

fn absent() -> Status {
    Status::not_found("no such user, or another counter")
}

fn too_large() -> Status {
    Status::internal("a value does not fit")
}

impl Store {
    pub fn new(fault: Fault, referee: Referee) -> Self {
        Self {
            fault,
            referee,
            table: Mutex::default(),
            writes: AtomicUsize::new(0),
            in_hand: AtomicUsize::new(0),
            is_poisoned: AtomicBool::new(false),
        }
    }

    /// The users who are there, as they are.
    pub fn users(&self) -> Vec<User> {
        self.table().rows.clone()
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap()
    }

    /// What every call begins with.
    fn begin<T>(&self, request: &Request<T>) -> Result<Connection, Status> {
        let connection = request.remote_addr();
        self.table().first_connection.get_or_insert(connection);
        // It is noticed when it is used next, and replaced.
        if self.is_poisoned.swap(false, Ordering::Relaxed) {
            return Err(Status::internal("an answer to another question"));
        }
        Ok(connection)
    }

    /// What every write begins with.
    async fn begin_write<T>(
        &self,
        request: &Request<T>,
        call: Call<'_>,
    ) -> Result<Write<'_>, Status> {
        let connection = self.begin(request)?;
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        if self.has(Fault::AbortsNowAndThen) && number.is_multiple_of(3) {
            return Err(Status::aborted("deadlock"));
        }
        let in_hand = self.in_hand.fetch_add(1, Ordering::Relaxed);
        let mut write = Write { store: self, connection, _turn: None };
        if self.has(Fault::RefusesWhenBusy) && self.referee.is_crowd() {
            if in_hand >= 8 {
                self.referee.happened("refused");
                return Err(Status::resource_exhausted("no connection is free"));
            }
            if self.referee.race(&call).is_some() {
                self.referee.wait_for("refused", 1).await;
            }
        }
        if !self.fault.is_race() {
            let is_first = self.table().first_connection == Some(connection);
            write._turn = self.referee.turn(self.referee.race(&call), is_first).await;
        }
        Ok(write)
    }
}

/// A write in hand.
struct Write<'a> {
    store: &'a Store,
    connection: Connection,
    _turn: Option<Turn>,
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        self.store.in_hand.fetch_sub(1, Ordering::Relaxed);
        if self.store.has(Fault::ReadsLag) {
            // The instance that writes is the only one whose replica is up to date.
            let table = &mut *self.store.table();
            table.replicas.insert(self.connection, table.rows.clone());
        }
    }
}

#[async_trait]
impl UserStore for Store {
    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<CreateUserResponse>, Status> {
        let call = Call::Create { email_address: &request.get_ref().email_address };
        let _write = self.begin_write(&request, call).await?;
        let user = Some(self.create(request.get_ref()).await?);
        Ok(Response::new(CreateUserResponse { user }))
    }

    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<GetUserResponse>, Status> {
        let at = self.begin(&request)?;
        let mut user = self.get(at, &request.get_ref().user_id)?;
        if self.has(Fault::HidesAddresses) {
            user.iter_mut().for_each(|user| user.email_address.clear());
        }
        Ok(Response::new(GetUserResponse { user }))
    }

    async fn get_user_by_email_address(
        &self,
        request: Request<GetUserByEmailAddressRequest>,
    ) -> Result<Response<GetUserByEmailAddressResponse>, Status> {
        let at = self.begin(&request)?;
        let user = Some(self.find(at, &request.get_ref().email_address)?);
        Ok(Response::new(GetUserByEmailAddressResponse { user }))
    }

    async fn update_user_email_address(
        &self,
        request: Request<UpdateUserEmailAddressRequest>,
    ) -> Result<Response<UpdateUserEmailAddressResponse>, Status> {
        let sent = request.get_ref();
        let call = Call::Update { id: &sent.user_id, email_address: Some(&sent.email_address) };
        let write = self.begin_write(&request, call).await?;
        let change = Change::EmailAddress(sent.email_address.clone());
        let seen = sent.user_email_address_counter;
        self.update(write.connection, &sent.user_id, seen, change).await?;
        Ok(Response::new(UpdateUserEmailAddressResponse {}))
    }

    async fn update_user_password_hash(
        &self,
        request: Request<UpdateUserPasswordHashRequest>,
    ) -> Result<Response<UpdateUserPasswordHashResponse>, Status> {
        let sent = request.get_ref();
        let call = Call::Update { id: &sent.user_id, email_address: None };
        let write = self.begin_write(&request, call).await?;
        let change = Change::Password {
            hash: sent.password_hash.clone(),
            algorithm: sent.password_hash_algorithm_id.clone(),
            salt: sent.password_salt.clone(),
        };
        let seen = sent.user_password_hash_counter;
        self.update(write.connection, &sent.user_id, seen, change).await?;
        Ok(Response::new(UpdateUserPasswordHashResponse {}))
    }

    async fn increment_user_sessions_counter(
        &self,
        request: Request<IncrementUserSessionsCounterRequest>,
    ) -> Result<Response<IncrementUserSessionsCounterResponse>, Status> {
        let sent = request.get_ref();
        let call = Call::Update { id: &sent.user_id, email_address: None };
        let write = self.begin_write(&request, call).await?;
        let seen = sent.user_sessions_counter;
        self.update(write.connection, &sent.user_id, seen, Change::Sessions).await?;
        Ok(Response::new(IncrementUserSessionsCounterResponse {}))
    }

    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        let id = &request.get_ref().user_id;
        let write = self.begin_write(&request, Call::Delete { id }).await?;
        self.delete(write.connection, id).await?;
        Ok(Response::new(DeleteUserResponse {}))
    }
}
