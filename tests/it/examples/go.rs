//! Go: grpc-go and `database/sql`, on PostgreSQL.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::{build, build_folder, command, folder, prove};
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
        let mut step = go();
        step.args(["vet", "./..."]);
        build(step);
        program
    })
}

/// `buf`, of the tools of the test command or in the path.
fn buf() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/buf/node_modules/.bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(tools)
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join("buf"))
        .find(|file| file.exists())
        .expect(
            "buf is missing: `tests/all` installs it, and so does `npm install -g @bufbuild/buf`",
        )
}

#[test]
fn what_is_generated_and_committed_for_go_is_of_this_contract() {
    let generated = build_folder("go").join("generated");
    let go = go();
    let mut step = command("go", buf());
    step.args(["generate", "-o"]).arg(&generated);
    step.envs(go.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // The plugins are run by `go tool`.
    let programs = Path::new(go.get_program()).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(programs).chain(std::env::split_paths(&path));
    step.env("PATH", std::env::join_paths(path).unwrap());
    build(step);
    for file in ["user_store.pb.go", "user_store_grpc.pb.go"] {
        let [made, committed] = [generated.clone(), folder("go")]
            .map(|folder| fs::read_to_string(folder.join("userstorev1").join(file)).unwrap());
        assert!(made == committed, "{file} is of another contract: run `go generate`");
    }
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
