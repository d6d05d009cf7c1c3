//! `delete_user`: deletes a user. `faroe-endpoint`, section 3.

use tonic::Request;

use super::{Action, BadRequest, Invocation, Members, error::CallError, no_values};
use crate::proto::{DeleteUserRequest, User, user_store_server::UserStore};

impl Invocation for DeleteUserRequest {
    const ACTION: Action = Action::DeleteUser;

    fn decode(arguments: &Members<'_>, action_invocation_id: String) -> Result<Self, BadRequest> {
        Ok(Self { action_invocation_id, user_id: arguments.string("user_id")? })
    }

    fn written_user(&self) -> Option<&str> {
        Some(&self.user_id)
    }

    async fn call(self, store: &dyn UserStore) -> Result<Option<User>, CallError> {
        let reply = store.delete_user(Request::new(self)).await;
        no_values(Self::ACTION, reply)
    }
}
