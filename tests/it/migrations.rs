//! The schema of the bundled store: up at once, down, newer, in the way of others.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::harness::{
    client::{admin, new_user},
    database::{Database, Kind},
    email_address, on_every_database,
    process::{PATIENCE, Pki, Process, Sidecar, SqliteFile, output_of, program, run, run_at_once},
};

on_every_database!(
    ten_migrations_at_once_apply_the_schema_once,
    ten_sidecars_that_migrate_at_once_become_ready,
    a_newer_schema_is_served_and_not_taken_back,
    down_takes_the_table_away_and_up_brings_it_back,
    down_wants_to_be_told_that_the_users_go,
    an_applications_own_table_is_left_alone,
);

fn migrate(arguments: &[&str], database: &Database) -> Output {
    run([&["migrate"], arguments, &["--store", &database.url]].concat())
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// It has to succeed; what it said.
fn migrated(arguments: &[&str], database: &Database) -> String {
    let output = migrate(arguments, database);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output).to_owned()
}

async fn versions(database: &Database) -> Vec<String> {
    database.texts("SELECT version FROM faroe_sidecar_migrations ORDER BY version").await
}

async fn ten_migrations_at_once_apply_the_schema_once(kind: Kind) {
    let database = kind.database();
    let outputs = run_at_once(10, &["migrate", "up", "--store", &database.url]);
    for output in &outputs {
        assert!(output.status.success(), "{kind:?}: {}", stderr(output));
    }
    let mut said: Vec<&str> = outputs.iter().map(stdout).collect();
    said.sort_unstable();
    let mut expected = vec!["applied m0001_users\n"];
    expected.extend(["nothing to apply: the schema is up to date\n"; 9]);
    assert_eq!(said, expected);
    assert_eq!(migrated(&["status"], &database), "m0001_users: applied\n");
    assert_eq!(versions(&database).await, ["m0001_users"]);
    assert_eq!(database.dump().await, "");
}

/// Connecting takes longer than migrating, so that ten processes may well not meet. Here they do:
/// a transaction holds them all up until the last has come.
#[tokio::test(flavor = "multi_thread")]
async fn migrations_that_meet_wait_for_each_other() {
    let database = Kind::Postgres.database();
    let mut db = PgConnection::connect(&database.url).await.unwrap();
    let mut transaction = db.begin().await.unwrap();
    sqlx::raw_sql("CREATE TABLE faroe_sidecar_migrations (x INT)")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let url = database.url.clone();
    let outputs =
        tokio::task::spawn_blocking(move || run_at_once(10, &["migrate", "up", "--store", &url]));
    let waiting = "SELECT pid::text FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let deadline = Instant::now() + PATIENCE;
    while database.texts(waiting).await.len() < 10 {
        assert!(Instant::now() < deadline, "they do not meet");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    transaction.rollback().await.unwrap();
    for output in outputs.await.unwrap() {
        assert!(output.status.success(), "{}", stderr(&output));
    }
    assert_eq!(versions(&database).await, ["m0001_users"]);
    assert_eq!(database.dump().await, "");
}

async fn ten_sidecars_that_migrate_at_once_become_ready(kind: Kind) {
    let database = kind.database();
    let pki = Arc::new(Pki::new());
    let mut arguments = pki.serve_options(&database.url);
    arguments.push("--migrate".to_owned());
    let processes: Vec<Process> = (0..10).map(|_| Process::start(program(&arguments))).collect();
    let sidecars: Vec<Sidecar> =
        processes.into_iter().map(|process| Sidecar::of_process(process, pki.clone())).collect();
    for sidecar in &sidecars {
        sidecar.wait_until_ready();
        assert_eq!(admin(sidecar.admin, "/readyz").await.status, StatusCode::OK);
    }
    let migrated = sidecars
        .iter()
        .filter(|sidecar| sidecar.process.log().contains("the schema was brought up"))
        .count();
    assert_eq!(migrated, 1);
    assert_eq!(versions(&database).await, ["m0001_users"]);
    // They share the table: what one has written all the others read.
    let user = sidecars[0].client().create_user(&email_address()).await;
    for sidecar in &sidecars {
        assert_eq!(sidecar.client().get_user(&user).await, user);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_migrate_a_sidecar_on_postgres_waits_for_the_schema() {
    a_sidecar_waits_for_the_schema(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_migrate_a_sidecar_on_mariadb_waits_for_the_schema() {
    a_sidecar_waits_for_the_schema(Kind::MariaDb).await;
}

async fn a_sidecar_waits_for_the_schema(kind: Kind) {
    let database = kind.database();
    let sidecar = Sidecar::start(&database.url, &[]);
    let client = sidecar.client();
    sidecar.process.wait_for_log("the store is not ready");
    let readyz = admin(sidecar.admin, "/readyz").await;
    assert_eq!(readyz.status, StatusCode::SERVICE_UNAVAILABLE);
    let lacks = "store: the schema lacks m0001_users: run `faroe-sidecar migrate up`, or serve with \
                 --migrate\n";
    assert!(readyz.text().contains(lacks), "{}", readyz.text());
    assert_eq!(admin(sidecar.admin, "/livez").await.status, StatusCode::OK);

    // Nobody is told that a user is not there: that would sign everybody out.
    for (action, arguments) in [
        ("get_user", json!({ "user_id": "x" })),
        ("get_user_by_email_address", json!({ "email_address": "x@planted.example" })),
        ("increment_user_sessions_counter", json!({ "user_id": "x", "user_sessions_counter": 0 })),
        ("delete_user", json!({ "user_id": "x" })),
    ] {
        assert_eq!(client.error_code(action, arguments).await, "internal_error", "{action}");
    }
    assert_eq!(migrated(&["status"], &database), "m0001_users: pending\n");

    assert_eq!(migrated(&["up"], &database), "applied m0001_users\n");
    sidecar.wait_until_ready();
    assert_eq!(admin(sidecar.admin, "/readyz").await.status, StatusCode::OK);
    let user = client.create_user(&email_address()).await;
    assert_eq!(client.get_user(&user).await, user);
    let nobody = json!({ "user_id": "x" });
    assert_eq!(client.error_code("get_user", nobody).await, "user_not_found");
}

async fn a_newer_schema_is_served_and_not_taken_back(kind: Kind) {
    let database = kind.database();
    migrated(&["up"], &database);
    // As a newer release would leave it.
    database
        .execute(
            "INSERT INTO faroe_sidecar_migrations (version, applied_at) \
             VALUES ('m9999_future', 0)",
        )
        .await;

    let sidecar = Sidecar::ready(&database.url, &["--migrate"]);
    let user = sidecar.client().create_user(&email_address()).await;
    assert_eq!(sidecar.client().get_user(&user).await, user);
    assert_eq!(migrated(&["up"], &database), "nothing to apply: the schema is up to date\n");
    assert_eq!(
        migrated(&["status"], &database),
        "m0001_users: applied\nm9999_future: applied by a newer release\n"
    );

    let before = database.dump().await;
    let down = migrate(&["down", "--destroy-data"], &database);
    assert_eq!(down.status.code(), Some(1));
    assert!(stderr(&down).contains("m9999_future"), "{}", stderr(&down));
    assert_eq!(database.dump().await, before);
    assert_eq!(versions(&database).await, ["m0001_users", "m9999_future"]);
    assert_eq!(sidecar.client().get_user(&user).await, user);
}

async fn down_wants_to_be_told_that_the_users_go(kind: Kind) {
    let database = kind.database();
    let sidecar = Sidecar::ready(&database.url, &["--migrate"]);
    let user = sidecar.client().create_user(&email_address()).await;
    let before = database.dump().await;
    let down = migrate(&["down"], &database);
    assert_eq!(down.status.code(), Some(2));
    assert!(stderr(&down).contains("--destroy-data"), "{}", stderr(&down));
    assert_eq!(database.dump().await, before);
    assert_eq!(versions(&database).await, ["m0001_users"]);
    assert_eq!(sidecar.client().get_user(&user).await, user);
}

async fn down_takes_the_table_away_and_up_brings_it_back(kind: Kind) {
    let database = kind.database();
    migrated(&["up"], &database);
    let insert = "INSERT INTO users (id, email_address, password_hash, \
                  password_hash_algorithm_id, password_salt, display_name) \
                  VALUES ('x', 'x@planted.example', '', 'x', '', '')";
    let insert = match kind {
        Kind::Sqlite => insert.replace("example', '', 'x', '',", "example', x'', 'x', x'',"),
        Kind::Postgres | Kind::MariaDb => insert.to_owned(),
    };
    database.execute(&insert).await;

    assert_eq!(migrated(&["down", "--destroy-data"], &database), "took back m0001_users\n");
    assert!(database.try_execute("SELECT id FROM users").await.is_err());
    assert_eq!(migrated(&["status"], &database), "m0001_users: pending\n");
    assert_eq!(
        migrated(&["down", "--destroy-data"], &database),
        "nothing to take back: the schema is empty\n"
    );

    assert_eq!(migrated(&["up"], &database), "applied m0001_users\n");
    assert_eq!(migrated(&["status"], &database), "m0001_users: applied\n");
    assert_eq!(database.dump().await, "");
    // All of it is back: the names of its keys too, by which errors are told apart.
    let sidecar = Sidecar::ready(&database.url, &[]);
    let address = email_address();
    sidecar.client().create_user(&address).await;
    let again = new_user(&address);
    let code = sidecar.client().error_code("create_user", again).await;
    assert_eq!(code, "email_address_already_used");
}

/// MariaDB commits the table by itself: an end before it is noted down leaves it behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_made_and_not_noted_down_is_taken_over() {
    let database = Kind::MariaDb.database();
    migrated(&["up"], &database);
    let sidecar = Sidecar::ready(&database.url, &[]);
    let user = sidecar.client().create_user(&email_address()).await;
    database.execute("DELETE FROM faroe_sidecar_migrations").await;
    assert_eq!(migrated(&["status"], &database), "m0001_users: pending\n");
    assert_eq!(migrated(&["up"], &database), "applied m0001_users\n");
    assert_eq!(migrated(&["status"], &database), "m0001_users: applied\n");
    assert_eq!(sidecar.client().get_user(&user).await, user);
}

/// Whoever has waited for the lock sees what was done meanwhile, whatever the isolation is.
#[tokio::test(flavor = "multi_thread")]
async fn ten_at_once_agree_under_serializable_isolation_too() {
    let database = Kind::Postgres.database();
    let name = database.name();
    database
        .execute(&format!("ALTER DATABASE {name} SET default_transaction_isolation = serializable"))
        .await;
    for output in run_at_once(10, &["migrate", "up", "--store", &database.url]) {
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(migrated(&["status"], &database), "m0001_users: applied\n");
}

/// The other way round: the table has gone, and the note has not.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_dropped_and_not_noted_down_is_taken_back() {
    let database = Kind::MariaDb.database();
    migrated(&["up"], &database);
    database.execute("DROP TABLE users").await;
    assert_eq!(migrated(&["down", "--destroy-data"], &database), "took back m0001_users\n");
    assert_eq!(migrated(&["up"], &database), "applied m0001_users\n");
}

/// A table of that name that is not ours, and what is left of the attempt.
async fn an_applications_own_table_is_left_alone(kind: Kind) {
    let database = kind.database();
    if let Some(path) = database.url.strip_prefix("sqlite://") {
        // The application has made its file.
        fs::File::create(path).unwrap();
    }
    database
        .execute("CREATE TABLE users (name VARCHAR(100)); INSERT INTO users VALUES ('planted Ann')")
        .await;
    let the_applications = async || {
        assert_eq!(database.texts("SELECT name FROM users").await, ["planted Ann"]);
    };

    for _ in 0..2 {
        let up = migrate(&["up"], &database);
        assert_eq!(up.status.code(), Some(1));
        assert_eq!(stdout(&up), "");
        let line = stderr(&up).lines().last().unwrap();
        assert!(line.contains("users") && line.contains("already exists"), "{line}");
        the_applications().await;
        assert_eq!(migrated(&["status"], &database), "m0001_users: pending\n");
        // MariaDB cannot take a statement on the schema back: its list of versions may be there,
        // and has nothing in it.
        if kind == Kind::MariaDb {
            assert_eq!(versions(&database).await, Vec::<String>::new());
        } else {
            let versions = database.try_execute("SELECT version FROM faroe_sidecar_migrations");
            assert!(versions.await.is_err());
        }
    }
    let down = migrate(&["down", "--destroy-data"], &database);
    assert_eq!(stdout(&down), "nothing to take back: the schema is empty\n");
    the_applications().await;

    // A sidecar does not make use of that table either.
    let pki = Pki::new();
    let mut arguments = pki.serve_options(&database.url);
    arguments.push("--migrate".to_owned());
    let mut process = Process::start(program(&arguments));
    if kind == Kind::Sqlite {
        assert_eq!(process.wait().code(), Some(1));
        assert!(process.log().contains("already exists"), "{}", process.log());
    } else {
        let line = process.wait_for_log("the store is not ready");
        assert!(line.contains("already exists"), "{line}");
    }
    drop(process);
    the_applications().await;

    // Out of the way, nothing of the failure is left.
    database.execute("DROP TABLE users").await;
    assert_eq!(migrated(&["up"], &database), "applied m0001_users\n");
    assert_eq!(versions(&database).await, ["m0001_users"]);
    assert_eq!(database.dump().await, "");
}

#[test]
fn only_up_creates_an_sqlite_file() {
    let file = SqliteFile::new();
    for arguments in [&["status"][..], &["down", "--destroy-data"]] {
        let url = file.url();
        let output = run([&["migrate"], arguments, &["--store", &url]].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains("there is no file"), "{}", stderr(&output));
        assert!(!file.path.exists(), "{arguments:?}");
    }
    assert!(run(["migrate", "up", "--store", &file.url()]).status.success());
    assert!(file.path.exists());
}

/// The program where files are made for everybody, unless it says otherwise.
fn program_without_umask(arguments: &[String]) -> Command {
    let plain = program(arguments);
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$@\"", "sh"]);
    command.arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sqlite_file_and_its_companions_are_their_owners_alone() {
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;

    let file = SqliteFile::new();
    let pki = Arc::new(Pki::new());
    let command = program_without_umask(&pki.serve_options(&file.url()));
    let sidecar = Sidecar::of_process(Process::start(command), pki);
    sidecar.wait_until_ready();
    sidecar.client().create_user(&email_address()).await;
    for companion in ["", "-wal", "-shm"] {
        let path = format!("{}{companion}", file.path.display());
        assert_eq!(mode(path.as_ref()), 0o600, "{companion:?}");
    }

    let file = SqliteFile::new();
    let arguments = ["migrate", "up", "--store", &file.url()].map(str::to_owned);
    let output = output_of(program_without_umask(&arguments), "", PATIENCE);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(mode(&file.path), 0o600);
}
