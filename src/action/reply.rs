//! What a store's reply must satisfy before it is passed on.
//!
//! `user-store`, "What the sidecar checks in a reply". Each check has a name, which is what the
//! log and the metrics say; the values stay out of them.

use crate::proto::{CreateUserRequest, User};

/// The name of a check that a reply failed.
pub(super) type Check = &'static str;

/// The user of any reply.
fn user(user: Option<User>) -> Result<User, Check> {
    let user = user.ok_or("user_present")?;
    if user.id.is_empty() {
        return Err("id_not_empty");
    }
    let counters = [
        user.email_address_counter,
        user.password_hash_counter,
        user.disabled_counter,
        user.sessions_counter,
    ];
    if counters.iter().any(|counter| *counter < 0) {
        return Err("counters_not_negative");
    }
    Ok(user)
}

/// The user of a `GetUserResponse`: the one that was asked for.
pub(super) fn user_with_id(reply: Option<User>, id: &str) -> Result<User, Check> {
    let user = user(reply)?;
    if user.id != id { Err("id_is_the_one_asked_for") } else { Ok(user) }
}

/// The user of a `GetUserByEmailAddressResponse`: the one that was asked for, byte for byte.
pub(super) fn user_with_email_address(
    reply: Option<User>,
    email_address: &str,
) -> Result<User, Check> {
    let user = user(reply)?;
    if user.email_address != email_address {
        return Err("email_address_is_the_one_asked_for");
    }
    Ok(user)
}

/// The user of a `CreateUserResponse`: what was sent, and the defaults of a new user.
///
/// A display name is not checked: an application may give new users one.
pub(super) fn created_user(reply: Option<User>, sent: &CreateUserRequest) -> Result<User, Check> {
    let user = user(reply)?;
    if user.email_address != sent.email_address {
        return Err("email_address_as_sent");
    }
    if user.password_hash != sent.password_hash {
        return Err("password_hash_as_sent");
    }
    if user.password_hash_algorithm_id != sent.password_hash_algorithm_id {
        return Err("password_hash_algorithm_id_as_sent");
    }
    if user.password_salt != sent.password_salt {
        return Err("password_salt_as_sent");
    }
    let counters = [
        user.email_address_counter,
        user.password_hash_counter,
        user.disabled_counter,
        user.sessions_counter,
    ];
    if counters != [0; 4] {
        return Err("counters_zero");
    }
    if user.disabled {
        return Err("not_disabled");
    }
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> CreateUserRequest {
        CreateUserRequest {
            email_address: "a@x".into(),
            password_hash: "hash".into(),
            password_hash_algorithm_id: "algorithm".into(),
            password_salt: "salt".into(),
            ..CreateUserRequest::default()
        }
    }

    fn right() -> User {
        User {
            id: "1".into(),
            email_address: "a@x".into(),
            password_hash: "hash".into(),
            password_hash_algorithm_id: "algorithm".into(),
            password_salt: "salt".into(),
            ..User::default()
        }
    }

    fn with(change: impl FnOnce(&mut User)) -> Option<User> {
        let mut user = right();
        change(&mut user);
        Some(user)
    }

    #[test]
    fn a_right_reply_passes_unchanged() {
        assert_eq!(created_user(Some(right()), &sent()), Ok(right()));
        assert_eq!(user_with_id(Some(right()), "1"), Ok(right()));
        assert_eq!(user_with_email_address(Some(right()), "a@x"), Ok(right()));
    }

    #[test]
    fn every_check_of_a_created_user_has_its_name() {
        for (reply, check) in [
            (None, "user_present"),
            (Some(User::default()), "id_not_empty"),
            (with(|user| user.sessions_counter = -1), "counters_not_negative"),
            (with(|user| user.email_address = "A@x".into()), "email_address_as_sent"),
            (with(|user| user.password_hash = "".into()), "password_hash_as_sent"),
            (
                with(|user| user.password_hash_algorithm_id = "".into()),
                "password_hash_algorithm_id_as_sent",
            ),
            (with(|user| user.password_salt = "".into()), "password_salt_as_sent"),
            (with(|user| user.email_address_counter = 1), "counters_zero"),
            (with(|user| user.password_hash_counter = 1), "counters_zero"),
            (with(|user| user.disabled_counter = 1), "counters_zero"),
            (with(|user| user.sessions_counter = 1), "counters_zero"),
            (with(|user| user.disabled = true), "not_disabled"),
        ] {
            assert_eq!(created_user(reply, &sent()), Err(check));
        }
    }

    #[test]
    fn a_look_up_answers_the_user_that_was_asked_for() {
        assert_eq!(user_with_id(Some(right()), "2"), Err("id_is_the_one_asked_for"));
        assert_eq!(
            user_with_email_address(Some(right()), "A@x"),
            Err("email_address_is_the_one_asked_for")
        );
        for change in [
            |user: &mut User| user.email_address_counter = -1,
            |user: &mut User| user.password_hash_counter = i32::MIN,
            |user: &mut User| user.disabled_counter = -1,
            |user: &mut User| user.sessions_counter = -1,
        ] {
            assert_eq!(user_with_id(with(change), "1"), Err("counters_not_negative"));
        }
    }
}
