//! The program of `tests/faroe`: a real Faroe server, and the client of one.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

use super::{
    certs::Identity,
    database::find,
    process::{Pki, Sidecar},
};

/// Built by the first test that needs it, among the files of the build.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = folder.join("faroetest");
    let mut go = Command::new(find("go", "golang-go"));
    go.args(["build", "-mod=readonly", "-buildvcs=false", "-o"]).arg(&program);
    go.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faroe"));
    go.env("GOTOOLCHAIN", "local");
    if std::env::var_os("HOME").is_none() {
        let go_folder = folder.join("go");
        go.env("GOCACHE", go_folder.join("cache")).env("GOPATH", go_folder);
        go.env("GOFLAGS", "-modcacherw");
    }
    let output = go.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "tests/faroe does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    program
});

/// The program with one of its commands, before what it calls with.
pub fn faroetest(command: &str) -> Command {
    let mut program = Command::new(&*PROGRAM);
    program.arg(command);
    program
}

/// The program with one of its commands, on a sidecar.
pub fn faroetest_on(command: &str, sidecar: &Sidecar) -> Command {
    let mut program = faroetest(command);
    let Pki { authority, client: Identity { certificate, key, .. }, .. } = &*sidecar.pki;
    program.arg(format!("https://localhost:{}/", sidecar.endpoint.port()));
    program.arg(authority.certificate()).args([certificate, key]);
    program
}
