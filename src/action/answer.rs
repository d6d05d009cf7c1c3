//! The JSON of an answer. `faroe-endpoint`, sections 1 and 2.
//!
//! Written by hand: an answer has the same members always and hardly ever anything to escape, and a
//! serializer that looks for it byte by byte takes a sixth of the time of an invocation.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{ActionInvocationId, ErrorCode};
use crate::proto::User;

/// Room for a user, as users are.
const ROOM: usize = 640;

/// The body of a success, members in the order of the specification.
pub fn success(id: &ActionInvocationId, user: Option<&User>) -> String {
    let mut json = Json(String::with_capacity(ROOM));
    json.raw(r#"{"ok":true,"action_invocation_id":"#).text(id.as_str());
    json.raw(r#","values":{"#);
    if let Some(user) = user {
        json.raw(r#""user":{"id":"#).text(&user.id);
        json.raw(r#","email_address":"#).text(&user.email_address);
        json.raw(r#","password_hash":"#).base64(&user.password_hash);
        json.raw(r#","password_hash_algorithm_id":"#).text(&user.password_hash_algorithm_id);
        json.raw(r#","password_salt":"#).base64(&user.password_salt);
        json.raw(r#","disabled":"#).raw(if user.disabled { "true" } else { "false" });
        json.raw(r#","display_name":"#).text(&user.display_name);
        json.raw(r#","email_address_counter":"#).integer(user.email_address_counter);
        json.raw(r#","password_hash_counter":"#).integer(user.password_hash_counter);
        json.raw(r#","disabled_counter":"#).integer(user.disabled_counter);
        json.raw(r#","sessions_counter":"#).integer(user.sessions_counter);
        json.raw("}");
    }
    json.raw("}}");
    json.0
}

/// The body of an action error, members in the order of the specification.
pub(super) fn error(id: &ActionInvocationId, code: ErrorCode) -> String {
    let mut json = Json(String::new());
    json.raw(r#"{"ok":false,"action_invocation_id":"#).text(id.as_str());
    json.raw(r#","error_code":"#).text(code.as_str());
    json.raw("}");
    json.0
}

/// JSON under way.
struct Json(String);

impl Json {
    /// As it is.
    fn raw(&mut self, json: &str) -> &mut Self {
        self.0.push_str(json);
        self
    }

    fn text(&mut self, text: &str) {
        let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        // Not `all`, which looks at one after the other until it is sure.
        if text.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
            self.raw("\"").raw(text).raw("\"");
        } else {
            self.raw(&serde_json::Value::from(text).to_string());
        }
    }

    fn base64(&mut self, bytes: &[u8]) {
        self.raw("\"");
        STANDARD.encode_string(bytes, &mut self.0);
        self.raw("\"");
    }

    fn integer(&mut self, integer: i32) {
        self.raw(itoa::Buffer::new().format(integer));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn id() -> ActionInvocationId {
        ActionInvocationId::generate().unwrap()
    }

    #[test]
    fn an_answer_without_a_user_has_no_values() {
        let id = id();
        let due =
            format!(r#"{{"ok":true,"action_invocation_id":"{}","values":{{}}}}"#, id.as_str());
        assert_eq!(success(&id, None), due);
    }

    proptest! {
        /// Whatever a user is made of, control characters and quotes among it.
        #[test]
        fn an_answer_holds_the_user(
            texts in prop::array::uniform4("[\\x00-\\x7f\\PC]*"),
            hash: Vec<u8>,
            salt: Vec<u8>,
            disabled: bool,
            counters: [i32; 4],
        ) {
            let id = id();
            let [user_id, email_address, algorithm_id, display_name] = texts;
            let due = json!({
                "ok": true,
                "action_invocation_id": id.as_str(),
                "values": { "user": {
                    "id": user_id,
                    "email_address": email_address,
                    "password_hash": STANDARD.encode(&hash),
                    "password_hash_algorithm_id": algorithm_id,
                    "password_salt": STANDARD.encode(&salt),
                    "disabled": disabled,
                    "display_name": display_name,
                    "email_address_counter": counters[0],
                    "password_hash_counter": counters[1],
                    "disabled_counter": counters[2],
                    "sessions_counter": counters[3],
                } },
            });
            let user = User {
                id: user_id,
                email_address,
                password_hash: hash.into(),
                password_hash_algorithm_id: algorithm_id,
                password_salt: salt.into(),
                disabled,
                display_name,
                email_address_counter: counters[0],
                password_hash_counter: counters[1],
                disabled_counter: counters[2],
                sessions_counter: counters[3],
            };
            let answer = success(&id, Some(&user));
            prop_assert_eq!(serde_json::from_str::<Value>(&answer).unwrap(), due);
        }
    }
}
