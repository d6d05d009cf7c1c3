//! `get_user_by_email_address`: looks a user up by email address. `faroe-endpoint`, section 3.

use tonic::Request;

use super::{Action, BadRequest, Invocation, Members, error::CallError, reply, user_value};
use crate::proto::{GetUserByEmailAddressRequest, User, user_store_server::UserStore};

impl Invocation for GetUserByEmailAddressRequest {
    const ACTION: Action = Action::GetUserByEmailAddress;

    fn decode(arguments: &Members<'_>, action_invocation_id: String) -> Result<Self, BadRequest> {
        Ok(Self { action_invocation_id, email_address: arguments.string("email_address")? })
    }

    async fn call(self, store: &dyn UserStore) -> Result<Option<User>, CallError> {
        let email_address = self.email_address.clone();
        let reply = store.get_user_by_email_address(Request::new(self)).await;
        user_value(Self::ACTION, reply, |reply| {
            reply::user_with_email_address(reply.user, &email_address)
        })
    }
}
