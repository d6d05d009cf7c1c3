//! What a request body asks for. `faroe-endpoint`, sections 1 and 3.

use crate::{json::Json, scalar};

/// A call of the store: an action and its arguments, in the order of [`ACTIONS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub action: &'static str,
    pub arguments: Vec<Argument>,
}

/// The value of an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    Text(String),
    Bytes(Vec<u8>),
    Integer(i32),
}

type Read = fn(&Json) -> Option<Argument>;

/// The seven actions, each with its arguments.
const ACTIONS: [(&str, &[(&str, Read)]); 7] = [
    (
        "create_user",
        &[
            ("email_address", text),
            ("password_hash", bytes),
            ("password_hash_algorithm_id", text),
            ("password_salt", bytes),
        ],
    ),
    ("get_user", &[("user_id", text)]),
    ("get_user_by_email_address", &[("email_address", text)]),
    (
        "update_user_email_address",
        &[("user_id", text), ("email_address", text), ("user_email_address_counter", integer)],
    ),
    (
        "update_user_password_hash",
        &[
            ("user_id", text),
            ("password_hash", bytes),
            ("password_hash_algorithm_id", text),
            ("password_salt", bytes),
            ("user_password_hash_counter", integer),
        ],
    ),
    ("increment_user_sessions_counter", &[("user_id", text), ("user_sessions_counter", integer)]),
    ("delete_user", &[("user_id", text)]),
];

/// The call that a body stands for, or none if it is a wrong request.
pub fn call(body: &[u8]) -> Option<Call> {
    let body = Json::read(str::from_utf8(body).ok()?)?;
    if !body.is_unambiguous() {
        return None;
    }
    let name = body.member("action")?.text()?;
    let (action, parameters) = ACTIONS.into_iter().find(|(action, _)| *action == name)?;
    let arguments = body.member("arguments")?;
    let arguments = parameters
        .iter()
        .map(|(name, read)| read(arguments.member(name)?))
        .collect::<Option<_>>()?;
    Some(Call { action, arguments })
}

fn text(value: &Json) -> Option<Argument> {
    value.text().map(|text| Argument::Text(text.to_owned()))
}

fn bytes(value: &Json) -> Option<Argument> {
    scalar::bytes(value.text()?).map(Argument::Bytes)
}

fn integer(value: &Json) -> Option<Argument> {
    match value {
        Json::Number(number) => scalar::int32(number).map(Argument::Integer),
        _ => None,
    }
}
