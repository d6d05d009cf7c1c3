//! `update_user_email_address`: sets the email address, by compare and set. `faroe-endpoint`, section 3.

use tonic::Request;

use super::{Action, BadRequest, Invocation, Members, error::CallError, no_values};
use crate::proto::{UpdateUserEmailAddressRequest, User, user_store_server::UserStore};

impl Invocation for UpdateUserEmailAddressRequest {
    const ACTION: Action = Action::UpdateUserEmailAddress;

    fn decode(arguments: &Members<'_>, action_invocation_id: String) -> Result<Self, BadRequest> {
        Ok(Self {
            action_invocation_id,
            user_id: arguments.string("user_id")?,
            email_address: arguments.string("email_address")?,
            user_email_address_counter: arguments.int32("user_email_address_counter")?,
        })
    }

    fn written_user(&self) -> Option<&str> {
        Some(&self.user_id)
    }

    async fn call(self, store: &dyn UserStore) -> Result<Option<User>, CallError> {
        let reply = store.update_user_email_address(Request::new(self)).await;
        no_values(Self::ACTION, reply)
    }
}
