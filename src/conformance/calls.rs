//! The seven methods, called.

use std::time::Duration;

use super::{
    answer::{Answer, Refusal},
    describe::{self, Whose},
    subject::Subject,
};
use crate::proto::{
    CreateUserRequest, DeleteUserRequest, GetUserByEmailAddressRequest, GetUserRequest,
    IncrementUserSessionsCounterRequest, UpdateUserEmailAddressRequest,
    UpdateUserPasswordHashRequest, User,
};

impl Subject {
    fn answer(&self, sent: String, reply: Result<User, Refusal>) -> Answer<User> {
        let whose = match &reply {
            Ok(user) if self.is_ours(&user.email_address) => {
                // Whoever is seen is there, whatever was answered when they were made.
                if !self.is_cleaning() {
                    self.made().ids.insert(user.id.clone());
                }
                Whose::Ours
            }
            _ => Whose::Unknown,
        };
        Answer { sent, reply, whose }
    }

    pub(super) async fn create(&self, request: &CreateUserRequest) -> Answer<User> {
        // Before the call: whatever comes of it, the user may be there.
        self.made().addresses.entry(request.email_address.clone()).or_default();
        let sent = describe::create(request);
        let reply = self
            .call(request.clone(), self.timeout(), |client, request| {
                Box::pin(client.create_user(request))
            })
            .await;
        let reply = reply.and_then(|response| user_of(response.user));
        if let Ok(user) = &reply {
            self.deleted_ids().remove(&user.id);
            let mut made = self.made();
            made.ids.insert(user.id.clone());
            made.addresses.insert(request.email_address.clone(), Some(user.id.clone()));
        }
        self.answer(sent, reply)
    }

    pub(super) async fn get(&self, id: &str) -> Answer<User> {
        let message =
            GetUserRequest { action_invocation_id: self.invocation_id(), user_id: id.to_owned() };
        let reply = self
            .call(message, self.timeout(), |client, request| Box::pin(client.get_user(request)))
            .await;
        let reply = reply.and_then(|response| user_of(response.user));
        self.answer(format!("GetUser {{ user_id: {} }}", describe::text(id)), reply)
    }

    pub(super) async fn find(&self, email_address: &str) -> Answer<User> {
        let message = GetUserByEmailAddressRequest {
            action_invocation_id: self.invocation_id(),
            email_address: email_address.to_owned(),
        };
        let reply = self
            .call(message, self.timeout(), |client, request| {
                Box::pin(client.get_user_by_email_address(request))
            })
            .await;
        let reply = reply.and_then(|response| user_of(response.user));
        let address = describe::text(email_address);
        self.answer(format!("GetUserByEmailAddress {{ email_address: {address} }}"), reply)
    }

    pub(super) async fn update_email_address(
        &self,
        id: &str,
        email_address: &str,
        counter: i32,
    ) -> Answer<()> {
        let of = || Some(id.to_owned());
        self.made().addresses.entry(email_address.to_owned()).or_insert_with(of);
        let message = UpdateUserEmailAddressRequest {
            action_invocation_id: self.invocation_id(),
            user_id: id.to_owned(),
            email_address: email_address.to_owned(),
            user_email_address_counter: counter,
        };
        let sent = format!(
            "UpdateUserEmailAddress {{ user_id: {}, email_address: {}, user_email_address_counter: {counter} }}",
            describe::text(id),
            describe::text(email_address)
        );
        let reply = self
            .call(message, self.timeout(), |client, request| {
                Box::pin(client.update_user_email_address(request))
            })
            .await;
        Answer::of_write(sent, reply)
    }

    /// `new` has the hash, the algorithm and the salt.
    pub(super) async fn update_password_hash(
        &self,
        id: &str,
        new: &CreateUserRequest,
        counter: i32,
    ) -> Answer<()> {
        let message = UpdateUserPasswordHashRequest {
            action_invocation_id: self.invocation_id(),
            user_id: id.to_owned(),
            password_hash: new.password_hash.clone(),
            password_hash_algorithm_id: new.password_hash_algorithm_id.clone(),
            password_salt: new.password_salt.clone(),
            user_password_hash_counter: counter,
        };
        let sent = describe::update_password_hash(&message);
        let reply = self
            .call(message, self.timeout(), |client, request| {
                Box::pin(client.update_user_password_hash(request))
            })
            .await;
        Answer::of_write(sent, reply)
    }

    pub(super) async fn increment_sessions(&self, id: &str, counter: i32) -> Answer<()> {
        self.increment_sessions_within(id, counter, self.timeout()).await
    }

    /// The same, given up after another time than usual.
    pub(super) async fn increment_sessions_within(
        &self,
        id: &str,
        counter: i32,
        limit: Duration,
    ) -> Answer<()> {
        let message = IncrementUserSessionsCounterRequest {
            action_invocation_id: self.invocation_id(),
            user_id: id.to_owned(),
            user_sessions_counter: counter,
        };
        let sent = format!(
            "IncrementUserSessionsCounter {{ user_id: {}, user_sessions_counter: {counter} }}",
            describe::text(id)
        );
        let reply = self
            .call(message, limit, |client, request| {
                Box::pin(client.increment_user_sessions_counter(request))
            })
            .await;
        Answer::of_write(sent, reply)
    }

    pub(super) async fn delete(&self, id: &str) -> Answer<()> {
        let message = DeleteUserRequest {
            action_invocation_id: self.invocation_id(),
            user_id: id.to_owned(),
        };
        let reply = self
            .call(message, self.timeout(), |client, request| Box::pin(client.delete_user(request)))
            .await;
        if reply.is_ok() {
            self.deleted_ids().insert(id.to_owned());
        }
        let sent = format!("DeleteUser {{ user_id: {} }}", describe::text(id));
        Answer::of_write(sent, reply)
    }
}

fn user_of(user: Option<User>) -> Result<User, Refusal> {
    user.ok_or_else(Refusal::without_user)
}
