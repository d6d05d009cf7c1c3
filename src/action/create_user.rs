//! `create_user`: creates a user. `faroe-endpoint`, section 3.

use tonic::Request;

use super::{Action, BadRequest, Invocation, Members, error::CallError, reply, user_value};
use crate::proto::{CreateUserRequest, User, user_store_server::UserStore};

impl Invocation for CreateUserRequest {
    const ACTION: Action = Action::CreateUser;

    fn decode(arguments: &Members<'_>, action_invocation_id: String) -> Result<Self, BadRequest> {
        Ok(Self {
            action_invocation_id,
            email_address: arguments.string("email_address")?,
            password_hash: arguments.bytes("password_hash")?,
            password_hash_algorithm_id: arguments.string("password_hash_algorithm_id")?,
            password_salt: arguments.bytes("password_salt")?,
        })
    }

    async fn call(self, store: &dyn UserStore) -> Result<Option<User>, CallError> {
        let sent = self.clone();
        let reply = store.create_user(Request::new(self)).await;
        user_value(Self::ACTION, reply, |reply| reply::created_user(reply.user, &sent))
    }
}
