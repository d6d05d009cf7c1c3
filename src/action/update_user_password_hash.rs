//! `update_user_password_hash`: sets the password hash, by compare and set. `faroe-endpoint`, section 3.

use tonic::Request;

use super::{Action, BadRequest, Invocation, Members, error::CallError, no_values};
use crate::proto::{UpdateUserPasswordHashRequest, User, user_store_server::UserStore};

impl Invocation for UpdateUserPasswordHashRequest {
    const ACTION: Action = Action::UpdateUserPasswordHash;

    fn decode(arguments: &Members<'_>, action_invocation_id: String) -> Result<Self, BadRequest> {
        Ok(Self {
            action_invocation_id,
            user_id: arguments.string("user_id")?,
            password_hash: arguments.bytes("password_hash")?,
            password_hash_algorithm_id: arguments.string("password_hash_algorithm_id")?,
            password_salt: arguments.bytes("password_salt")?,
            user_password_hash_counter: arguments.int32("user_password_hash_counter")?,
        })
    }

    fn written_user(&self) -> Option<&str> {
        Some(&self.user_id)
    }

    async fn call(self, store: &dyn UserStore) -> Result<Option<User>, CallError> {
        let reply = store.update_user_password_hash(Request::new(self)).await;
        no_values(Self::ACTION, reply)
    }
}
