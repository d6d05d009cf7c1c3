//! `get_user`: looks a user up by ID; the hot path, one call for each session check. `faroe-endpoint`, section 3.

use tonic::Request;

use super::{Action, BadRequest, Invocation, Members, error::CallError, reply, user_value};
use crate::proto::{GetUserRequest, User, user_store_server::UserStore};

impl Invocation for GetUserRequest {
    const ACTION: Action = Action::GetUser;

    fn decode(arguments: &Members<'_>, action_invocation_id: String) -> Result<Self, BadRequest> {
        Ok(Self { action_invocation_id, user_id: arguments.string("user_id")? })
    }

    async fn call(self, store: &dyn UserStore) -> Result<Option<User>, CallError> {
        let user_id = self.user_id.clone();
        let reply = store.get_user(Request::new(self)).await;
        user_value(Self::ACTION, reply, |reply| reply::user_with_id(reply.user, &user_id))
    }
}
