//! Makes Rust of the contract: of the repository's, or of a `user_store.proto` beside this file,
//! which `faroe-sidecar proto > user_store.proto` gives.

use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let copied = Path::new("user_store.proto").exists();
    let folder = if copied { "." } else { "../../proto/faroe/userstore/v1" };
    println!("cargo:rerun-if-changed={folder}/user_store.proto");
    let contract = protox::compile(["user_store.proto"], [folder])?;
    tonic_prost_build::configure().build_client(false).compile_fds(contract)?;
    Ok(())
}
