//! Go: grpc-go and `database/sql`, on PostgreSQL.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::{build, build_folder, command, prove};
use crate::harness::database::{Kind, find};

/// Go as it is called by hand. The caches are the user's own, if there is a user.
fn go() -> Command {
    let mut go = command("go", find("go", "golang-go"));
    go.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=readonly -buildvcs=false");
    if std::env::var_os("HOME").is_none() {
        let caches = build_folder("go");
        go.env("GOCACHE", caches.join("cache")).env("GOPATH", caches.join("path"));
    }
    go
}

fn built() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = build_folder("go").join("userstore");
        let mut step = go();
        step.args(["build", "-o"]).arg(&program).arg(".");
        build(step);
        program
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn go_conforms_on_postgres() {
    let database = Kind::Postgres.database();
    prove(&database, || {
        let mut start = command("go", built());
        start.env("DATABASE_URL", &database.url);
        start
    })
    .await;
}
