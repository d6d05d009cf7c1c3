//! The JSON of an answer. `faroe-endpoint`, sections 1 and 2.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

use super::{ActionInvocationId, ErrorCode};
use crate::proto::User;

/// The body of a success, members in the order of the specification.
pub(super) fn success(id: &ActionInvocationId, user: Option<&User>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Success<'a> {
        ok: bool,
        action_invocation_id: &'a str,
        values: Values<'a>,
    }

    #[derive(Serialize)]
    struct Values<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<JsonUser<'a>>,
    }

    #[derive(Serialize)]
    struct JsonUser<'a> {
        id: &'a str,
        email_address: &'a str,
        password_hash: String,
        password_hash_algorithm_id: &'a str,
        password_salt: String,
        disabled: bool,
        display_name: &'a str,
        email_address_counter: i32,
        password_hash_counter: i32,
        disabled_counter: i32,
        sessions_counter: i32,
    }

    let user = user.map(|user| JsonUser {
        id: &user.id,
        email_address: &user.email_address,
        password_hash: STANDARD.encode(&user.password_hash),
        password_hash_algorithm_id: &user.password_hash_algorithm_id,
        password_salt: STANDARD.encode(&user.password_salt),
        disabled: user.disabled,
        display_name: &user.display_name,
        email_address_counter: user.email_address_counter,
        password_hash_counter: user.password_hash_counter,
        disabled_counter: user.disabled_counter,
        sessions_counter: user.sessions_counter,
    });
    json(&Success { ok: true, action_invocation_id: id.as_str(), values: Values { user } })
}

/// The body of an action error, members in the order of the specification.
pub(super) fn error(id: &ActionInvocationId, code: ErrorCode) -> Vec<u8> {
    #[derive(Serialize)]
    struct ActionError<'a> {
        ok: bool,
        action_invocation_id: &'a str,
        error_code: &'a str,
    }

    json(&ActionError { ok: false, action_invocation_id: id.as_str(), error_code: code.as_str() })
}

/// Strings, integers and booleans in structs always serialize, so there is no error to report; an
/// empty body would be "internal error" to the caller.
fn json(value: &impl Serialize) -> Vec<u8> {
    /// Room for a user, as users are.
    const ROOM: usize = 640;
    let mut json = Vec::with_capacity(ROOM);
    match serde_json::to_writer(&mut json, value) {
        Ok(()) => json,
        Err(_) => Vec::new(),
    }
}
