//! Compiles the `.proto` files in Rust (protox), so that nobody needs `protoc`, and notes which
//! revision of the source this is.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

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

    println!("cargo:rustc-env=FAROE_SIDECAR_REVISION={}", revision());
    Ok(())
}

/// The revision for `build_info`: that of the environment, for builds that have the source alone;
/// else that of the repository.
fn revision() -> String {
    println!("cargo:rerun-if-env-changed=FAROE_SIDECAR_REVISION");
    if let Ok(revision) = env::var("FAROE_SIDECAR_REVISION") {
        return revision;
    }
    // It changes with each commit. A path that is not there would make every build run this again.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
        && Path::new(&log).exists()
    {
        println!("cargo:rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
