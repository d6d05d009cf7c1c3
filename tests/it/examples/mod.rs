//! The example stores of `examples/`: each is built by its own ecosystem's tools, started as its
//! README says, judged by `faroe-sidecar conformance`, and used with the sidecar in front.

mod go;
mod java;
mod node;
mod python;
mod rust;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::{
    base64,
    client::{Client, new_user},
    database::{Database, Kind},
    email_address,
    process::{PATIENCE, Process, Sidecar, output_of, program, run},
};

/// Long enough for a package manager and a compiler.
const BUILD_LIMIT: Duration = Duration::from_secs(600);
const CONFORMANCE_LIMIT: Duration = Duration::from_secs(180);

/// The folder of an example.
fn folder(example: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example)
}

/// Where an example is built and its tools keep what they download: below `target/`.
fn build_folder(example: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples").join(example);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A command that is run in the folder of an example.
fn command(example: &str, program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.current_dir(folder(example));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a step of a build; the test fails with what it said if it does.
fn build(step: Command) {
    let shown = format!("{step:?}");
    let output = output_of(step, "", BUILD_LIMIT);
    assert!(output.status.success(), "{shown}\n{}", said(&output));
}

fn said(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// An example that serves.
struct Example {
    process: Process,
    /// As the sidecar takes it: `grpc://127.0.0.1:PORT`.
    url: String,
}

impl Example {
    /// Starts it on a free port, and waits for its line `listening on ADDRESS`.
    fn start(mut command: Command) -> Self {
        command.env("LISTEN", "127.0.0.1:0");
        let mut process = Process::start(command);
        let said = process.wait_for_stdout_line("listening on ");
        let address = said.strip_prefix("listening on ").unwrap();
        assert!(!address.ends_with(":0"), "not the port that it listens on: {address}");
        let url = format!("grpc://{address}");
        Self { process, url }
    }

    /// Every case of the conformance suite that is a MUST holds.
    fn conforms(&self) {
        // One after the other: 64 calls at once wait for the few connections of a store's pool, for
        // so many seconds as it is told, and one that waited in vain is a MUST that failed.
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let arguments = ["conformance", &self.url, "--timeout", "30s"];
        let output = output_of(program(arguments), "", CONFORMANCE_LIMIT);
        drop(turn);
        assert!(
            output.status.success(),
            "{}\nthe log of the store:\n{}",
            said(&output),
            self.process.log()
        );
        // With `--nocapture`: which example it was is above it.
        let report = String::from_utf8(output.stdout).unwrap();
        let verdict = report.lines().rev().take(3).collect::<Vec<_>>();
        println!("{}", verdict.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }

    /// The sidecar in front of it, ready.
    fn sidecar(&self) -> Sidecar {
        Sidecar::ready(&self.url, &[])
    }

    /// SIGTERM is a request to stop, with connections open too.
    fn stops(mut self) {
        let status = self.process.terminate();
        assert!(status.success(), "{status}:\n{}", self.process.log());
    }
}

/// What every example has to show that keeps its users in memory.
async fn prove_in_memory(start: Command) {
    let example = Example::start(start);
    example.conforms();
    let sidecar = example.sidecar();
    every_action(&sidecar.client()).await;
    example.stops();
}

/// What every example has to show on a database: `start` gives the command that starts it there.
///
/// The table is `users`, with columns by the names of the contract.
async fn prove(database: &Database, start: impl Fn() -> Command) {
    let mut example = Example::start(start());
    example.conforms();
    let left = database.number("SELECT COUNT(*) FROM users").await;
    assert_eq!(left, 0, "the conformance suite takes its users away");

    let sidecar = example.sidecar();
    let client = sidecar.client();
    every_action(&client).await;
    what_the_application_sets_is_seen(&client, database).await;
    a_counter_at_its_end_stays(&client, database).await;
    a_conflict_of_the_database_is_one(&client, database).await;
    another_violation_is_no_taken_address(&client, database).await;
    a_database_that_fails_has_no_fewer_users(&client, database).await;
    // What was acknowledged outlives the program, however it ends.
    let kept = client.create_user(&email_address()).await;
    example.process.kill();
    drop(sidecar);

    // The table is there already.
    let example = Example::start(start());
    let sidecar = example.sidecar();
    assert_eq!(sidecar.client().get_user(&kept).await, kept);
    // The sidecar is still connected.
    match database.kind {
        // Nothing tells who waits for its lock.
        Kind::Sqlite => example.stops(),
        Kind::Postgres | Kind::MariaDb => {
            stops_when_the_call_in_hand_is_answered(example, sidecar.client(), &kept, database)
                .await;
        }
    }
}

/// A write waits for a row when SIGTERM comes, and is answered all the same.
async fn stops_when_the_call_in_hand_is_answered(
    mut example: Example,
    client: Client,
    user: &Value,
    database: &Database,
) {
    let mut held = database.hold("BEGIN; UPDATE users SET display_name = 'held'").await;
    let [_, _, (action, arguments)] = updates(user, 0);
    let call = tokio::spawn(async move { client.values(action, arguments).await });
    let waiting = match database.kind {
        Kind::MariaDb => {
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
             WHERE db = DATABASE() AND info LIKE 'update%'"
        }
        _ => {
            "SELECT COUNT(*) FROM pg_stat_activity \
             WHERE wait_event_type = 'Lock' AND datname = current_database()"
        }
    };
    let deadline = Instant::now() + PATIENCE;
    while database.number(waiting).await == 0 {
        assert!(Instant::now() < deadline, "the write does not arrive");
    }
    example.process.signal("TERM");
    let address = example.url.strip_prefix("grpc://").unwrap();
    while TcpStream::connect(address).await.is_ok() {
        assert!(Instant::now() < deadline, "it goes on to take connections");
    }
    held.execute("ROLLBACK").await;
    call.await.unwrap();
    let status = example.process.wait();
    assert!(status.success(), "{status}:\n{}", example.process.log());
}

/// Each action once, with its errors, as a Faroe server sees them.
async fn every_action(client: &Client) {
    // Nobody validates an address: the empty one is one like any other.
    let nameless = client.create_user("").await;
    assert_eq!(client.error_code("create_user", new_user("")).await, "email_address_already_used");
    client.values("delete_user", json!({ "user_id": nameless["id"] })).await;

    let taken = client.create_user(&email_address()).await["email_address"].clone();
    let again = client.error_code("create_user", new_user(taken.as_str().unwrap())).await;
    assert_eq!(again, "email_address_already_used");

    let address = email_address();
    let user = client.create_user(&address).await;
    let found =
        client.values("get_user_by_email_address", json!({ "email_address": address })).await;
    assert_eq!(found["user"], user);

    let id = &user["id"];
    let to = |address: &Value, counter: i32| json!({ "user_id": id, "email_address": address, "user_email_address_counter": counter });
    let update = "update_user_email_address";
    assert_eq!(client.error_code(update, to(&taken, 0)).await, "email_address_already_used");
    assert_eq!(client.error_code(update, to(&taken, 1)).await, "user_not_found");
    let new_address = json!(email_address());
    client.values(update, to(&new_address, 0)).await;

    let password = |counter: i32| {
        json!({
            "user_id": id, "password_hash": base64([0; 32]), "password_hash_algorithm_id": "other",
            "password_salt": base64([]), "user_password_hash_counter": counter
        })
    };
    let update = "update_user_password_hash";
    assert_eq!(client.error_code(update, password(1)).await, "user_not_found");
    client.values(update, password(0)).await;
    client.values(update, password(1)).await;

    let sessions = |counter: i32| json!({ "user_id": id, "user_sessions_counter": counter });
    let update = "increment_user_sessions_counter";
    for counter in 0..3 {
        client.values(update, sessions(counter)).await;
    }
    assert_eq!(client.error_code(update, sessions(0)).await, "user_not_found");

    let mut expected = user.clone();
    expected["email_address"] = new_address;
    expected["email_address_counter"] = json!(1);
    expected["password_hash"] = json!(base64([0; 32]));
    expected["password_hash_algorithm_id"] = json!("other");
    expected["password_salt"] = json!("");
    expected["password_hash_counter"] = json!(2);
    expected["sessions_counter"] = json!(3);
    assert_eq!(client.get_user(&user).await, expected);

    client.values("delete_user", json!({ "user_id": id })).await;
    for action in ["get_user", "delete_user"] {
        let gone = client.error_code(action, json!({ "user_id": id })).await;
        assert_eq!(gone, "user_not_found", "{action}");
    }
}

/// The columns that Faroe never writes reach it all the same.
async fn what_the_application_sets_is_seen(client: &Client, database: &Database) {
    let mut user = client.create_user(&email_address()).await;
    let sql = format!(
        "UPDATE users SET disabled = {}, disabled_counter = 7, display_name = 'planted Zoë' \
         WHERE id = '{}'",
        if database.kind == Kind::Postgres { "TRUE" } else { "1" },
        user["id"].as_str().unwrap()
    );
    assert_eq!(database.execute(&sql).await, 1);
    user["disabled"] = json!(true);
    user["disabled_counter"] = json!(7);
    user["display_name"] = json!("planted Zoë");
    assert_eq!(client.get_user(&user).await, user);
}

/// The one obligation that the conformance suite cannot reach: 2147483647 calls are too many.
async fn a_counter_at_its_end_stays(client: &Client, database: &Database) {
    let user = client.create_user(&email_address()).await;
    let sql = format!(
        "UPDATE users SET email_address_counter = 2147483647, password_hash_counter = 2147483647, \
         sessions_counter = 2147483647 WHERE id = '{}'",
        user["id"].as_str().unwrap()
    );
    assert_eq!(database.execute(&sql).await, 1);
    let before = client.get_user(&user).await;
    assert_eq!(before["sessions_counter"], json!(i32::MAX));
    for (seen, code) in [(i32::MAX, "internal_error"), (i32::MAX - 1, "user_not_found")] {
        for (action, arguments) in updates(&user, seen) {
            assert_eq!(client.error_code(action, arguments).await, code, "{action} from {seen}");
        }
    }
    assert_eq!(client.get_user(&user).await, before);
}

/// The three compare-and-sets, where each counter was seen with the same value.
fn updates(user: &Value, seen: i32) -> [(&'static str, Value); 3] {
    let id = &user["id"];
    [
        (
            "update_user_email_address",
            json!({
                "user_id": id, "email_address": email_address(), "user_email_address_counter": seen
            }),
        ),
        (
            "update_user_password_hash",
            json!({
                "user_id": id, "password_hash": base64("planted"),
                "password_hash_algorithm_id": "planted", "password_salt": base64("planted"),
                "user_password_hash_counter": seen
            }),
        ),
        (
            "increment_user_sessions_counter",
            json!({ "user_id": id, "user_sessions_counter": seen }),
        ),
    ]
}

/// A deadlock or a lock that does not come free is told from other errors, and nothing has changed.
async fn a_conflict_of_the_database_is_one(client: &Client, database: &Database) {
    let user = client.create_user(&email_address()).await;
    let conflicts = match database.kind {
        // A lock that is held for longer than anybody waits.
        Kind::Sqlite => "BEGIN IMMEDIATE",
        // What a deadlock answers, without the wait for one. The message quotes a value.
        Kind::Postgres => {
            "CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE EXCEPTION USING ERRCODE = '40P01', MESSAGE = 'planted', DETAIL = 'planted'; END $$; \
             CREATE TRIGGER conflict BEFORE UPDATE OR DELETE ON users \
             FOR EACH ROW EXECUTE FUNCTION conflict()"
        }
        Kind::MariaDb => {
            "CREATE TRIGGER conflict BEFORE UPDATE ON users FOR EACH ROW \
             SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'planted'"
        }
    };
    let mut held = database.hold(conflicts).await;
    let [_, _, (action, arguments)] = updates(&user, 0);
    assert_eq!(client.error_code(action, arguments.clone()).await, "internal_conflict");
    let removed = match database.kind {
        Kind::Sqlite => "ROLLBACK",
        Kind::Postgres => "DROP TRIGGER conflict ON users; DROP FUNCTION conflict()",
        Kind::MariaDb => "DROP TRIGGER conflict",
    };
    held.execute(removed).await;
    assert_eq!(client.get_user(&user).await, user);
    client.values(action, arguments).await;
}

/// A unique constraint of somebody else's has nothing to do with the email address, and what the
/// database says of it stays out of the log: it quotes a value.
async fn another_violation_is_no_taken_address(client: &Client, database: &Database) {
    let user = client.create_user(&email_address()).await;
    let on_each = |trigger: fn(&str) -> String| ["INSERT", "UPDATE"].map(trigger).join(";");
    let (violate, relent) = match database.kind {
        Kind::Sqlite => (
            on_each(|event| {
                format!(
                    "CREATE TRIGGER another_{event} BEFORE {event} ON users BEGIN \
                     SELECT RAISE(ABORT, 'UNIQUE constraint failed: planted'); END"
                )
            }),
            on_each(|event| format!("DROP TRIGGER another_{event}")),
        ),
        Kind::Postgres => (
            "CREATE FUNCTION another() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE EXCEPTION USING ERRCODE = '23505', CONSTRAINT = 'another', MESSAGE = 'planted', \
             DETAIL = 'planted'; END $$; \
             CREATE TRIGGER another BEFORE INSERT OR UPDATE ON users \
             FOR EACH ROW EXECUTE FUNCTION another()"
                .to_owned(),
            "DROP TRIGGER another ON users; DROP FUNCTION another()".to_owned(),
        ),
        Kind::MariaDb => (
            on_each(|event| {
                format!(
                    "CREATE TRIGGER another_{event} BEFORE {event} ON users FOR EACH ROW \
                     SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 1062, \
                     MESSAGE_TEXT = 'Duplicate entry ''planted'' for key ''another'''"
                )
            }),
            on_each(|event| format!("DROP TRIGGER another_{event}")),
        ),
    };
    database.execute(&violate).await;
    let create = ("create_user", new_user(&email_address()));
    for (action, arguments) in [create].into_iter().chain(updates(&user, 0)) {
        assert_eq!(client.error_code(action, arguments).await, "internal_error", "{action}");
    }
    database.execute(&relent).await;
    assert_eq!(client.get_user(&user).await, user);
}

/// Not found is a fact: a database that cannot answer is none, or people would be signed out.
async fn a_database_that_fails_has_no_fewer_users(client: &Client, database: &Database) {
    let user = client.create_user(&email_address()).await;
    let id = &user["id"];
    let by_address = json!({ "email_address": user["email_address"] });
    database.execute("ALTER TABLE users RENAME TO elsewhere").await;
    for (action, arguments) in [
        ("get_user", json!({ "user_id": id })),
        ("get_user_by_email_address", by_address),
        ("delete_user", json!({ "user_id": id })),
        ("create_user", new_user(&email_address())),
    ]
    .into_iter()
    .chain(updates(&user, 0))
    {
        assert_eq!(client.error_code(action, arguments).await, "internal_error", "{action}");
    }
    database.execute("ALTER TABLE elsewhere RENAME TO users").await;
    assert_eq!(client.get_user(&user).await, user);
}

/// The guide names cases of the conformance suite, and files: they are there.
#[test]
fn what_the_guide_names_is_there() {
    let output = run(["conformance", "--list"]);
    assert!(output.status.success(), "{}", said(&output));
    let list = String::from_utf8(output.stdout).unwrap();
    let cases: Vec<_> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let groups: Vec<_> = cases.iter().filter_map(|case| Some(case.split_once('.')?.0)).collect();
    let guide = fs::read_to_string(folder("README.md")).unwrap();
    let mut named = 0;
    for code in guide.split('`').skip(1).step_by(2) {
        if let Some((group, _)) = code.split_once('.')
            && groups.contains(&group)
        {
            assert!(cases.contains(&code), "{code} is no case");
            named += 1;
        }
    }
    assert!(named > 10, "the guide names {named} cases");

    // Each page, too, leads somewhere.
    let examples = fs::read_dir(folder("")).unwrap().map(|entry| entry.unwrap().path());
    for page in examples.filter(|path| path.is_dir()).chain([folder("")]) {
        let text = fs::read_to_string(page.join("README.md"))
            .unwrap_or_else(|error| panic!("{}: no README.md: {error}", page.display()));
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#']).next().unwrap();
            if !target.is_empty() && !target.starts_with("https://") {
                assert!(page.join(target).exists(), "{}: {target}", page.display());
            }
        }
    }
}
