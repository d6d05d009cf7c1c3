//! Compiles the `.proto` files in Rust (protox), so that nobody needs `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const USER_STORE: &str = "faroe/userstore/v1/user_store.proto";

/// Messages that carry hashes, salts or email addresses; `src/proto/redacted.rs` writes their
/// `Debug`.
const REDACTED: [&str; 8] = [
    "User",
    "CreateUserRequest",
    "CreateUserResponse",
    "GetUserResponse",
    "GetUserByEmailAddressRequest",
    "GetUserByEmailAddressResponse",
    "UpdateUserEmailAddressRequest",
    "UpdateUserPasswordHashRequest",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile([USER_STORE], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("user_store_descriptors.bin"), descriptors.encode_to_vec())?;

    let mut builder = tonic_prost_build::configure().bytes(".faroe.userstore.v1");
    for message in REDACTED {
        builder = builder.skip_debug([format!("faroe.userstore.v1.{message}")]);
    }
    builder.compile_fds(descriptors)?;
    Ok(())
}
