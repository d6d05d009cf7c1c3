//! Rust: tonic, in memory.

use std::{path::PathBuf, sync::OnceLock};

use super::{build, build_folder, command, prove_in_memory};

/// The program. It is a crate of its own, as it would be elsewhere.
fn built() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let target = build_folder("rust");
        let mut step = command("rust", env!("CARGO"));
        step.args(["build", "--locked", "--target-dir"]).arg(&target);
        // What runs the tests may have told its own build other things.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                step.env_remove(&name);
            }
        }
        // It is run a few seconds: without what a debugger needs it is built sooner.
        step.env("CARGO_PROFILE_DEV_DEBUG", "0");
        build(step);
        target.join("debug").join("userstore")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_conforms() {
    prove_in_memory(command("rust", built())).await;
}
