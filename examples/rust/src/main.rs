//! The smallest `faroe.userstore.v1.UserStore`: users in memory, gone when the program ends.

use std::{collections::HashMap, env, error::Error};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::Mutex,
};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use self::proto::{user_store_server::*, *};

mod proto {
    tonic::include_proto!("faroe.userstore.v1");
}

/// The users by ID. The lock makes each call one step: nobody sees half of one.
#[derive(Default)]
struct Users(Mutex<HashMap<String, User>>);

#[tonic::async_trait]
impl UserStore for Users {
    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<CreateUserResponse>, Status> {
        let request = request.into_inner();
        let mut users = self.0.lock().await;
        if holder(&users, &request.email_address).is_some() {
            return Err(Status::already_exists("email address taken"));
        }
        let user = User {
            id: new_id()?,
            email_address: request.email_address,
            password_hash: request.password_hash,
            password_hash_algorithm_id: request.password_hash_algorithm_id,
            password_salt: request.password_salt,
            // Counters 0, not disabled, no display name.
            ..User::default()
        };
        users.insert(user.id.clone(), user.clone());
        Ok(Response::new(CreateUserResponse { user: Some(user) }))
    }

    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<GetUserResponse>, Status> {
        let users = self.0.lock().await;
        let user = users.get(&request.into_inner().user_id).ok_or_else(not_found)?;
        Ok(Response::new(GetUserResponse { user: Some(user.clone()) }))
    }

    async fn get_user_by_email_address(
        &self,
        request: Request<GetUserByEmailAddressRequest>,
    ) -> Result<Response<GetUserByEmailAddressResponse>, Status> {
        let users = self.0.lock().await;
        let user = holder(&users, &request.into_inner().email_address).ok_or_else(not_found)?;
        Ok(Response::new(GetUserByEmailAddressResponse { user: Some(user.clone()) }))
    }

    async fn update_user_email_address(
        &self,
        request: Request<UpdateUserEmailAddressRequest>,
    ) -> Result<Response<UpdateUserEmailAddressResponse>, Status> {
        let request = request.into_inner();
        let mut users = self.0.lock().await;
        let holder = holder(&users, &request.email_address).map(|user| user.id.clone());
        let user = users.get_mut(&request.user_id).ok_or_else(not_found)?;
        // A stale counter comes first: it is NOT_FOUND whether the address is taken or not.
        let counter = next(user.email_address_counter, request.user_email_address_counter)?;
        if holder.is_some_and(|id| id != user.id) {
            return Err(Status::already_exists("email address taken"));
        }
        user.email_address = request.email_address;
        user.email_address_counter = counter;
        Ok(Response::new(UpdateUserEmailAddressResponse {}))
    }

    async fn update_user_password_hash(
        &self,
        request: Request<UpdateUserPasswordHashRequest>,
    ) -> Result<Response<UpdateUserPasswordHashResponse>, Status> {
        let request = request.into_inner();
        let mut users = self.0.lock().await;
        let user = users.get_mut(&request.user_id).ok_or_else(not_found)?;
        user.password_hash_counter =
            next(user.password_hash_counter, request.user_password_hash_counter)?;
        user.password_hash = request.password_hash;
        user.password_hash_algorithm_id = request.password_hash_algorithm_id;
        user.password_salt = request.password_salt;
        Ok(Response::new(UpdateUserPasswordHashResponse {}))
    }

    async fn increment_user_sessions_counter(
        &self,
        request: Request<IncrementUserSessionsCounterRequest>,
    ) -> Result<Response<IncrementUserSessionsCounterResponse>, Status> {
        let request = request.into_inner();
        let mut users = self.0.lock().await;
        let user = users.get_mut(&request.user_id).ok_or_else(not_found)?;
        user.sessions_counter = next(user.sessions_counter, request.user_sessions_counter)?;
        Ok(Response::new(IncrementUserSessionsCounterResponse {}))
    }

    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        let mut users = self.0.lock().await;
        users.remove(&request.into_inner().user_id).ok_or_else(not_found)?;
        Ok(Response::new(DeleteUserResponse {}))
    }
}

/// The user who has an email address. A database has a unique index for this.
fn holder<'a>(users: &'a HashMap<String, User>, email_address: &str) -> Option<&'a User> {
    users.values().find(|user| user.email_address == email_address)
}

/// The compare of compare and set: 1 more, if the counter still has the value that the caller saw.
fn next(counter: i32, seen: i32) -> Result<i32, Status> {
    if counter != seen {
        return Err(not_found());
    }
    counter.checked_add(1).ok_or_else(|| Status::internal("the counter is at its maximum"))
}

/// 128 random bits: no ID comes twice.
fn new_id() -> Result<String, Status> {
    let random = || getrandom::u64().map_err(|_| Status::internal("no random bytes"));
    Ok(format!("{:016x}{:016x}", random()?, random()?))
}

fn not_found() -> Status {
    Status::not_found("no such user, or the counter does not match")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut terminated = signal(SignalKind::terminate())?;
    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:50051".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);

    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<UserStoreServer<Users>>().await;
    Server::builder()
        // Callers cancel what takes too long. Above this many unread cancellations the connection
        // ends, and with it the calls of everybody else.
        .http2_max_pending_accept_reset_streams(Some(1024))
        .add_service(health_service)
        .add_service(UserStoreServer::new(Users::default()))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener), async {
            terminated.recv().await;
        })
        .await?;
    Ok(())
}
