//! TypeScript on Node: grpc-js, with seven stores behind it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use super::{build, build_folder, folder, prove};
use crate::harness::{
    database::{Database, Kind, find},
    process::{PATIENCE, output_of, run},
};

/// What belongs to the example, and not to a build of it.
const SOURCES: [&str; 7] =
    [".npmrc", "package.json", "package-lock.json", "tsconfig.json", "prisma", "schema", "src"];
const GENERATED: &str = "generated";

/// A command in the folder of the build.
fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.current_dir(build_folder("node"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// npm, which finds `node` by its name, as do the programs that it starts.
fn npm(arguments: &[&str]) {
    let mut npm = command(find("npm", "npm"));
    let node = find("node", "nodejs");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [node.parent().unwrap().to_owned()].into_iter();
    npm.env("PATH", std::env::join_paths(folders.chain(std::env::split_paths(&path))).unwrap());
    if std::env::var_os("HOME").is_none() {
        npm.env("npm_config_cache", build_folder("npm"));
    }
    npm.args(arguments);
    build(npm);
}

/// Builds it once, out of this repository, as somebody does who has copied it; and gives the program
/// that runs it.
fn built() -> &'static Path {
    static NODE: OnceLock<PathBuf> = OnceLock::new();
    NODE.get_or_init(|| {
        let place = build_folder("node");
        for old in ["dist", "prisma", "schema", "src"] {
            let _ = fs::remove_dir_all(place.join(old));
        }
        for name in SOURCES {
            copy(&folder("node").join(name), &place.join(name));
        }
        fs::write(place.join("user_store.proto"), run(["proto"]).stdout).unwrap();

        // Packages that are there already are those of the lock file that was installed last.
        let (lock, installed) = (place.join("package-lock.json"), place.join("installed.json"));
        let lock = fs::read(lock).unwrap();
        if fs::read(&installed).ok().as_ref() != Some(&lock) {
            let _ = fs::remove_file(&installed);
            npm(&["ci", "--no-audit", "--no-fund"]);
            fs::write(&installed, lock).unwrap();
        }
        npm(&["run", "build"]);

        // What is called `node` may be a script that signals do not go through.
        let mut node = command(find("node", "nodejs"));
        node.args(["-p", "process.execPath"]);
        let output = output_of(node, "", PATIENCE);
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    })
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        return;
    }
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name();
        if name != GENERATED {
            copy(&from.join(&name), &to.join(&name));
        }
    }
}

/// The URL as the drivers of this example spell it.
fn url(database: &Database) -> String {
    match database.kind {
        Kind::Sqlite => database.url.replacen("sqlite://", "", 1),
        Kind::Postgres => database.url.clone(),
        // Without the parameter, whose name its driver does not know.
        Kind::MariaDb => database.url.split('?').next().unwrap().to_owned(),
    }
}

async fn store_conforms(store: &str, kind: Kind) {
    let node = built();
    let database = kind.database();
    prove(&database, || {
        let mut start = command(node);
        start.arg("dist/main.js").env("STORE", store).env("DATABASE_URL", url(&database));
        start
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drizzle_conforms_on_sqlite() {
    store_conforms("drizzle-sqlite", Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drizzle_conforms_on_postgres() {
    store_conforms("drizzle-postgres", Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drizzle_conforms_on_mariadb() {
    store_conforms("drizzle-mysql", Kind::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prisma_conforms_on_postgres() {
    store_conforms("prisma-postgres", Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_sql_conforms_on_sqlite() {
    store_conforms("sql-sqlite", Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_sql_conforms_on_postgres() {
    store_conforms("sql-postgres", Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_sql_conforms_on_mariadb() {
    store_conforms("sql-mysql", Kind::MariaDb).await;
}
