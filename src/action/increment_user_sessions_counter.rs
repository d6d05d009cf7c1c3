//! `increment_user_sessions_counter`: signs the user out everywhere, by compare and set. `faroe-endpoint`, section 3.

use super::{Action, BadRequest, Invocation, Members, error::CallError, no_values, request};
use crate::{
    proto::{IncrementUserSessionsCounterRequest, User, user_store_server::UserStore},
    store::Deadline,
};

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

    async fn call(
        self,
        store: &dyn UserStore,
        deadline: Deadline,
    ) -> Result<Option<User>, CallError> {
        let reply = store.increment_user_sessions_counter(request(self, deadline)).await;
        no_values(Self::ACTION, reply)
    }
}
