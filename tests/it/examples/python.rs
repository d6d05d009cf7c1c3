//! Python: grpcio and SQLAlchemy, on PostgreSQL and SQLite.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::{build, build_folder, command, prove};
use crate::harness::database::{Kind, find};

/// The interpreter with what `requirements.txt` names, and the folder with what was made of the
/// contract.
struct Built {
    python: PathBuf,
    generated: PathBuf,
}

fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = build_folder("python");
        let environment = target.join("venv");
        let python = environment.join("bin").join("python");
        let mut step = command("python", find("python3", "python3-venv"));
        step.args(["-m", "venv"]).arg(&environment);
        build(step);
        let mut step = command("python", &python);
        step.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        step.args(["--require-hashes", "-r", "requirements.txt"]);
        build(step);
        let mut step = command("python", &python);
        step.args(["-m", "grpc_tools.protoc", "-I"]);
        step.arg(Path::new("..").join("..").join("proto/faroe/userstore/v1"));
        for option in ["--python_out", "--pyi_out", "--grpc_python_out"] {
            step.arg(format!("{option}={}", target.display()));
        }
        step.arg("user_store.proto");
        build(step);
        Built { python, generated: target }
    })
}

fn start(database_url: &str) -> Command {
    let built = built();
    let mut start = command("python", &built.python);
    start.arg("main.py").env("DATABASE_URL", database_url);
    start.env("PYTHONPATH", &built.generated).env("PYTHONDONTWRITEBYTECODE", "1");
    start
}

#[tokio::test(flavor = "multi_thread")]
async fn python_conforms_on_postgres() {
    let database = Kind::Postgres.database();
    let url = database.url.replace("postgres://", "postgresql+psycopg://");
    prove(&database, || start(&url)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_conforms_on_sqlite() {
    let database = Kind::Sqlite.database();
    let url = database.url.replace("sqlite://", "sqlite+aiosqlite:///");
    prove(&database, || start(&url)).await;
}
