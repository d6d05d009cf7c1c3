//! The users that are measured with: their members follow from their number, so that whoever makes
//! a request needs to remember nothing.

use bytes::Bytes;
use faroe_sidecar::proto::User;

pub const ALGORITHM: &str = "argon2id.65536.3.1.32";
/// The lengths that the algorithm has, in bytes.
pub const HASH: usize = 32;
pub const SALT: usize = 16;

/// A UUID of version 7, as the bundled store makes them.
pub fn id(number: u64) -> String {
    format!("{ID_PREFIX}{number:012x}")
}

/// What stands before the number, which has twelve hexadecimal digits.
pub const ID_PREFIX: &str = "018f0000-0000-7000-8000-";

pub fn email_address(number: u64) -> String {
    format!("user-{number:012x}@example.com")
}

pub fn user(number: u64) -> User {
    User {
        id: id(number),
        email_address: email_address(number),
        password_hash: Bytes::from(vec![0xa5; HASH]),
        password_hash_algorithm_id: ALGORITHM.to_owned(),
        password_salt: Bytes::from(vec![0x5a; SALT]),
        ..User::default()
    }
}
