//! `increment_user_sessions_counter`: signs the user out everywhere, by compare and set. `faroe-endpoint`, section 3.

use tonic::Request;

use super::{Action, BadRequest, Invocation, Members, error::CallError, no_values};
use crate::proto::{IncrementUserSessionsCounterRequest, User, user_store_server::UserStore};

impl Invocation for IncrementUserSessionsCounterRequest {
    const ACTION: Action = Action::IncrementUserSessionsCounter;

    fn decode(arguments: &Members<'_>, action_invocation_id: String) -> Result<Self, BadRequest> {
        Ok(Self {
            action_invocation_id,
            user_id: arguments.string("user_id")?,
            user_sessions_counter: arguments.int32("user_sessions_counter")?,
        })
    }

    fn written_user(&self) -> Option<&str> {
        Some(&self.user_id)
    }

    async fn call(self, store: &dyn UserStore) -> Result<Option<User>, CallError> {
        let reply = store.increment_user_sessions_counter(Request::new(self)).await;
        no_values(Self::ACTION, reply)
    }
}
