//! `create_user`: creates a user. `faroe-endpoint`, section 3.

use super::{
    Action, BadRequest, Invocation, Members, error::CallError, reply, request, user_value,
};
use crate::{
    proto::{CreateUserRequest, User, user_store_server::UserStore},
    store::Deadline,
};

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

    async fn call(
        self,
        store: &dyn UserStore,
        deadline: Deadline,
    ) -> Result<Option<User>, CallError> {
        let sent = self.clone();
        let reply = store.create_user(request(self, deadline)).await;
        user_value(Self::ACTION, reply, |reply| reply::created_user(reply.user, &sent))
    }
}
