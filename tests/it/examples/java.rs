//! Java: grpc-java and JDBC, on PostgreSQL.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::{build, command, folder, prove};
use crate::harness::database::{Kind, Server, find, password};

/// Built in its own folder, as its README says. Maven's cache is the user's own.
fn built() -> &'static Path {
    static JAR: OnceLock<PathBuf> = OnceLock::new();
    JAR.get_or_init(|| {
        // Without the compiler there may be a `java` all the same.
        find("javac", "openjdk-17-jdk-headless");
        let mut step = command("java", find("mvn", "maven"));
        step.args(["--batch-mode", "--no-transfer-progress", "--quiet", "package"]);
        build(step);
        folder("java").join("target/user-store.jar")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn java_conforms_on_postgres() {
    let database = Kind::Postgres.database();
    let url = format!(
        "jdbc:postgresql://{}/{}?user=faroe&password={}",
        Server::of(Kind::Postgres).address(),
        database.name(),
        password()
    );
    prove(&database, || {
        let mut start = command("java", find("java", "openjdk-17-jre-headless"));
        start.arg("-jar").arg(built()).env("DATABASE_URL", &url);
        start
    })
    .await;
}
