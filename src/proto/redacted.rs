//! `Debug` for the messages that carry hashes, salts or email addresses: it shows which message it
//! is and the IDs and counters in it, and nothing that identifies a person or opens an account.

use std::fmt;

use super::{
    CreateUserRequest, CreateUserResponse, GetUserByEmailAddressRequest,
    GetUserByEmailAddressResponse, GetUserResponse, UpdateUserEmailAddressRequest,
    UpdateUserPasswordHashRequest, User,
};

macro_rules! redacted_debug {
    ($message:ident { $($shown:ident),* }) => {
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($message))
                    $(.field(stringify!($shown), &self.$shown))*
                    .finish_non_exhaustive()
            }
        }
    };
}

redacted_debug!(User {
    id,
    disabled,
    email_address_counter,
    password_hash_counter,
    disabled_counter,
    sessions_counter
});
redacted_debug!(CreateUserRequest { action_invocation_id });
redacted_debug!(CreateUserResponse { user });
redacted_debug!(GetUserResponse { user });
redacted_debug!(GetUserByEmailAddressRequest { action_invocation_id });
redacted_debug!(GetUserByEmailAddressResponse { user });
redacted_debug!(UpdateUserEmailAddressRequest {
    action_invocation_id,
    user_id,
    user_email_address_counter
});
redacted_debug!(UpdateUserPasswordHashRequest {
    action_invocation_id,
    user_id,
    user_password_hash_counter
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let user = User {
            id: "the-id".into(),
            email_address: "secret@example.com".into(),
            password_hash: "secret".into(),
            password_hash_algorithm_id: "secret".into(),
            password_salt: "secret".into(),
            display_name: "secret".into(),
            ..User::default()
        };
        let create = CreateUserRequest {
            email_address: "secret".into(),
            password_hash: "secret".into(),
            password_salt: "secret".into(),
            ..CreateUserRequest::default()
        };
        let email = UpdateUserEmailAddressRequest {
            email_address: "secret".into(),
            ..UpdateUserEmailAddressRequest::default()
        };
        let password = UpdateUserPasswordHashRequest {
            password_hash: "secret".into(),
            password_salt: "secret".into(),
            ..UpdateUserPasswordHashRequest::default()
        };
        let by_email = GetUserByEmailAddressRequest {
            email_address: "secret".into(),
            ..GetUserByEmailAddressRequest::default()
        };
        let shown = format!(
            "{user:?} {:?} {create:?} {email:?} {password:?} {by_email:?}",
            GetUserResponse { user: Some(user.clone()) }
        );
        assert!(shown.contains("the-id"), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
        // Bytes print as escaped text or as numbers; neither may be there.
        assert!(!shown.contains("115, 101"), "{shown}");
    }
}
