//! Rust: tonic, in memory.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::{build, command, prove_in_memory};

/// The program. It is a crate of its own, as it would be elsewhere.
fn built() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // In the folder of the sidecar's own build, and by its profile: what both depend on alike
        // is not compiled again.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let mut step = command("rust", env!("CARGO"));
        step.args(["build", "--locked", "--target-dir"]).arg(target);
        step.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
        build(step);
        target.join("debug").join("userstore")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_conforms() {
    prove_in_memory(command("rust", built())).await;
}
