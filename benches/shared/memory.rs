//! A user store in memory: what the bridge costs without any store behind it.

use std::{
    collections::HashMap,
    hash::BuildHasherDefault,
    sync::{
        RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use faroe_sidecar::proto::{
    CreateUserRequest, CreateUserResponse, DeleteUserRequest, DeleteUserResponse,
    GetUserByEmailAddressRequest, GetUserByEmailAddressResponse, GetUserRequest, GetUserResponse,
    IncrementUserSessionsCounterRequest, IncrementUserSessionsCounterResponse,
    UpdateUserEmailAddressRequest, UpdateUserEmailAddressResponse, UpdateUserPasswordHashRequest,
    UpdateUserPasswordHashResponse, User, user_store_server::UserStore,
};
use tonic::{Request, Response, Status, async_trait};

use crate::users;

/// Without a random seed: each run does the same work.
type Hasher = BuildHasherDefault<std::hash::DefaultHasher>;

#[derive(Default)]
pub struct MemoryStore {
    users: RwLock<Users>,
    next: AtomicU64,
}

#[derive(Default)]
struct Users {
    by_id: HashMap<String, User, Hasher>,
    ids: HashMap<String, String, Hasher>,
}

impl MemoryStore {
    /// With the users of these numbers.
    pub fn with_users(numbers: impl Iterator<Item = u64>) -> Self {
        let store = Self { next: AtomicU64::new(NEW_IDS), ..Self::default() };
        for number in numbers {
            let added = store.users.write().unwrap().insert(users::user(number));
            assert!(added);
        }
        store
    }

    /// Changes a user where the counter has the value that was seen.
    fn compare_and_set(
        &self,
        id: &str,
        counter: fn(&mut User) -> &mut i32,
        seen: i32,
        change: impl FnOnce(&mut Users) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let mut users = self.users.write().unwrap();
        let user = users.by_id.get_mut(id).ok_or_else(not_found)?;
        if *counter(user) != seen || seen == i32::MAX {
            return Err(not_found());
        }
        change(&mut users)?;
        *counter(users.by_id.get_mut(id).unwrap()) += 1;
        Ok(())
    }
}

/// The number of the first user that is made by a call.
const NEW_IDS: u64 = 1 << 40;

impl Users {
    fn insert(&mut self, user: User) -> bool {
        if self.ids.contains_key(&user.email_address) {
            return false;
        }
        self.ids.insert(user.email_address.clone(), user.id.clone());
        self.by_id.insert(user.id.clone(), user);
        true
    }
}

fn not_found() -> Status {
    Status::not_found("no such user, or the counter does not match")
}

fn taken() -> Status {
    Status::already_exists("email address taken")
}

#[async_trait]
impl UserStore for MemoryStore {
    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<CreateUserResponse>, Status> {
        let request = request.into_inner();
        let user = User {
            id: users::id(self.next.fetch_add(1, Ordering::Relaxed)),
            email_address: request.email_address,
            password_hash: request.password_hash,
            password_hash_algorithm_id: request.password_hash_algorithm_id,
            password_salt: request.password_salt,
            ..User::default()
        };
        if !self.users.write().unwrap().insert(user.clone()) {
            return Err(taken());
        }
        Ok(Response::new(CreateUserResponse { user: Some(user) }))
    }

    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<GetUserResponse>, Status> {
        let users = self.users.read().unwrap();
        let user = users.by_id.get(&request.get_ref().user_id).ok_or_else(not_found)?;
        Ok(Response::new(GetUserResponse { user: Some(user.clone()) }))
    }

    async fn get_user_by_email_address(
        &self,
        request: Request<GetUserByEmailAddressRequest>,
    ) -> Result<Response<GetUserByEmailAddressResponse>, Status> {
        let users = self.users.read().unwrap();
        let id = users.ids.get(&request.get_ref().email_address).ok_or_else(not_found)?;
        let user = users.by_id.get(id).cloned();
        Ok(Response::new(GetUserByEmailAddressResponse { user }))
    }

    async fn update_user_email_address(
        &self,
        request: Request<UpdateUserEmailAddressRequest>,
    ) -> Result<Response<UpdateUserEmailAddressResponse>, Status> {
        let request = request.into_inner();
        let (id, new) = (request.user_id, request.email_address);
        let seen = request.user_email_address_counter;
        self.compare_and_set(
            &id,
            |user| &mut user.email_address_counter,
            seen,
            |users| {
                if users.ids.get(&new).is_some_and(|owner| *owner != id) {
                    return Err(taken());
                }
                let user = users.by_id.get_mut(&id).unwrap();
                users.ids.remove(&user.email_address);
                user.email_address.clone_from(&new);
                users.ids.insert(new, id.clone());
                Ok(())
            },
        )?;
        Ok(Response::new(UpdateUserEmailAddressResponse {}))
    }

    async fn update_user_password_hash(
        &self,
        request: Request<UpdateUserPasswordHashRequest>,
    ) -> Result<Response<UpdateUserPasswordHashResponse>, Status> {
        let request = request.into_inner();
        let (id, seen) = (request.user_id, request.user_password_hash_counter);
        self.compare_and_set(
            &id,
            |user| &mut user.password_hash_counter,
            seen,
            |users| {
                let user = users.by_id.get_mut(&id).unwrap();
                user.password_hash = request.password_hash;
                user.password_hash_algorithm_id = request.password_hash_algorithm_id;
                user.password_salt = request.password_salt;
                Ok(())
            },
        )?;
        Ok(Response::new(UpdateUserPasswordHashResponse {}))
    }

    async fn increment_user_sessions_counter(
        &self,
        request: Request<IncrementUserSessionsCounterRequest>,
    ) -> Result<Response<IncrementUserSessionsCounterResponse>, Status> {
        let request = request.into_inner();
        let seen = request.user_sessions_counter;
        self.compare_and_set(
            &request.user_id,
            |user| &mut user.sessions_counter,
            seen,
            |_| Ok(()),
        )?;
        Ok(Response::new(IncrementUserSessionsCounterResponse {}))
    }

    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        let mut users = self.users.write().unwrap();
        let user = users.by_id.remove(&request.get_ref().user_id).ok_or_else(not_found)?;
        users.ids.remove(&user.email_address);
        Ok(Response::new(DeleteUserResponse {}))
    }
}
