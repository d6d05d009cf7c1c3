//! The rules of integers and Base64: any text where such a value stands. The first byte chooses
//! the member, by its place after `0`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oracle::store::{Invoker, Reply};

thread_local!(static INVOKER: Invoker = Invoker::default());

/// Bodies with a gap for an integer, or for what stands between quotes as Base64.
const BODIES: [(&str, &str); 6] = [
    (
        r#"{"action":"increment_user_sessions_counter","arguments":{"user_id":"planted","user_sessions_counter":"#,
        "}}",
    ),
    (
        r#"{"action":"update_user_email_address","arguments":{"user_email_address_counter":"#,
        r#","user_id":"planted","email_address":"planted@x"}}"#,
    ),
    (
        r#"{"arguments":{"user_id":"planted","password_hash":"","password_hash_algorithm_id":"","password_salt":"","user_password_hash_counter":"#,
        r#"},"action":"update_user_password_hash"}"#,
    ),
    (
        r#"{"action":"create_user","arguments":{"email_address":"planted@x","password_hash":""#,
        r#"","password_hash_algorithm_id":"","password_salt":"cGxhbnRlZA=="}}"#,
    ),
    (
        r#"{"action":"create_user","arguments":{"email_address":"planted@x","password_hash":"cGxhbnRlZA==","password_hash_algorithm_id":"","password_salt":""#,
        r#""}}"#,
    ),
    (
        r#"{"action":"update_user_password_hash","arguments":{"user_id":"planted","password_hash":""#,
        r#"","password_hash_algorithm_id":"","password_salt":"","user_password_hash_counter":0}}"#,
    ),
];

fuzz_target!(|data: &[u8]| {
    let Some((choice, value)) = data.split_first() else { return };
    let (before, after) = BODIES[usize::from(choice.wrapping_sub(b'0')) % BODIES.len()];
    let body = [before.as_bytes(), value, after.as_bytes()].concat();
    INVOKER.with(|invoker| invoker.check(Reply::Right, &body));
});
