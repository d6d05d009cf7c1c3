//! A whole Faroe server on the sidecar: people sign up and in, change their passwords and addresses,
//! leave, and are locked out, and the database has what it has to have after each step.
//! `faroe-endpoint`, sections 3 and 4; README, "Looking after users with SQL".
//!
//! The program in `tests/faroe` takes the people through the flows and knows what is expected. It
//! asks here, a line at a time, for what only this side can do: look into the database, run the
//! README's statements in it, and take the store away.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use http::StatusCode;
use serde_json::json;
use tokio::{sync::mpsc, task::block_in_place, time::timeout};

use crate::harness::{
    client::Client,
    database::{COLUMNS, Database, Kind, Server},
    go::faroetest_on,
    network::Network,
    process::{PATIENCE, Process, Sidecar, program},
};

/// What the program takes people through, so that none is forgotten.
const FLOWS: [&str; 11] = [
    "sign-up",
    "two sign-ups for one address",
    "sign-in",
    "session check",
    "password update",
    "email address update",
    "password reset",
    "sign-out of everybody",
    "disabled user",
    "user deletion",
    "store that goes away",
];

/// What Faroe asks its user server for.
const ACTIONS: [&str; 7] = [
    "create_user",
    "get_user",
    "get_user_by_email_address",
    "update_user_email_address",
    "update_user_password_hash",
    "increment_user_sessions_counter",
    "delete_user",
];

/// How the hashes of these people begin, as text, as the wire has them, and in other forms that a
/// log may show bytes in.
const HASHES: [&str; 4] = ["planted", "cGxhbnRlZC", "706c616e746564", "112, 108, 97, 110, 116"];

#[tokio::test(flavor = "multi_thread")]
async fn the_bundled_store_on_sqlite() {
    let database = Kind::Sqlite.database();
    let path = PathBuf::from(database.url.strip_prefix("sqlite://").unwrap());
    let sidecar = Sidecar::ready(&database.url, &[]);
    flows(Subject { sidecar, database, way: Way::File(path) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundled_store_on_postgres() {
    flows(Subject::on_server(Kind::Postgres).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundled_store_on_mariadb() {
    flows(Subject::on_server(Kind::MariaDb).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_store() {
    flows(Subject::remote()).await;
}

/// A sidecar with what lies behind it.
struct Subject {
    sidecar: Sidecar,
    database: Database,
    way: Way,
}

/// How the sidecar gets at its store, and how that ends.
enum Way {
    /// The file that is moved aside.
    File(PathBuf),
    /// The network that is cut.
    Network(Network),
    /// The gRPC store that is killed.
    Store(Store),
}

/// A gRPC store that can be started again where it was.
struct Store {
    process: Process,
    address: String,
    /// What those have logged that were killed.
    log: String,
}

impl Store {
    fn start(database: &Database, address: &str) -> Self {
        let listen = format!("tcp://{address}");
        let process = Process::start(program(
            [
                ["store", "--store", &database.url, "--listen", &listen].as_slice(),
                &["--log-format", "json", "--log-level", "debug"],
            ]
            .concat(),
        ));
        let line: serde_json::Value =
            serde_json::from_str(&process.wait_for_log("\"listening\"")).unwrap();
        let address = line["store"].as_str().unwrap().strip_prefix("tcp://").unwrap().to_owned();
        Self { process, address, log: String::new() }
    }
}

impl Subject {
    async fn on_server(kind: Kind) -> Self {
        let database = block_in_place(|| kind.database());
        let address = Server::of(kind).address();
        let network = Network::to(address).await;
        let url = database.url.replace(&address.to_string(), &network.address.to_string());
        let sidecar = Sidecar::ready(&url, &["--migrate"]);
        Self { sidecar, database, way: Way::Network(network) }
    }

    fn remote() -> Self {
        let database = Kind::Sqlite.database();
        // At an address where nobody else looks for a free port while it is away.
        let store = Store::start(&database, "127.0.3.1:0");
        let sidecar = Sidecar::ready(&format!("grpc://{}", store.address), &[]);
        Self { sidecar, database, way: Way::Store(store) }
    }

    /// The table, as a JSON array.
    async fn users(&self) -> String {
        let members = COLUMNS.map(|column| {
            let value = match (self.database.kind, column) {
                (Kind::Postgres, "password_hash" | "password_salt") => {
                    format!("encode({column}, 'hex')")
                }
                (_, "password_hash" | "password_salt") => format!("hex({column})"),
                (Kind::Postgres, "disabled") => "disabled::integer".to_owned(),
                (Kind::Postgres, "created_at" | "updated_at") => format!("{column}::text"),
                (Kind::MariaDb, "id" | "email_address") => {
                    format!("CONVERT({column} USING utf8mb4)")
                }
                _ => column.to_owned(),
            };
            format!("'{column}', {value}")
        });
        let object = match self.database.kind {
            Kind::Postgres => format!("json_build_object({})::text", members.join(", ")),
            _ => format!("json_object({})", members.join(", ")),
        };
        let rows = self.database.texts(&format!("SELECT {object} FROM users")).await;
        format!("[{}]", rows.join(","))
    }

    /// Runs the statement of the README with this heading for this user: how many rows it changed.
    async fn look_after(&self, heading: &str, email_address: &str) -> u64 {
        let statement = statement_of_the_readme(heading);
        assert!(statement.contains("'alice@example.com'"), "{statement}");
        let statement = statement.replace("alice@example.com", email_address);
        self.database
            .execute(&match self.database.kind {
                Kind::MariaDb => statement.replace("CURRENT_TIMESTAMP", "UTC_TIMESTAMP"),
                _ => statement,
            })
            .await
    }

    /// Takes the store away, and waits until callers are told: an answer for the program.
    async fn take_away(&mut self, client: &Client) -> String {
        match &mut self.way {
            Way::File(path) => fs::rename(&*path, aside(path)).unwrap(),
            Way::Network(network) => network.cut(),
            Way::Store(store) => store.process.kill(),
        }
        noticed(client, |status, _| status == StatusCode::SERVICE_UNAVAILABLE).await
    }

    /// Brings it back, and waits until it is used: an answer for the program.
    async fn bring_back(&mut self, client: &Client) -> String {
        match &mut self.way {
            Way::File(path) => fs::rename(aside(path), &*path).unwrap(),
            Way::Network(network) => network.restore(),
            Way::Store(store) => {
                let log = format!("{}{}", store.log, store.process.log());
                *store = Store { log, ..Store::start(&self.database, &store.address) };
            }
        }
        noticed(client, |_, text| text.contains("user_not_found")).await
    }

    /// Every action was called for, and no log has a hash in it.
    fn conclude(&self) {
        let log = self.sidecar.process.log();
        for action in ACTIONS {
            let said = |line: &str| {
                line.contains(&format!("\"{action}\"")) && line.contains("\"outcome\":\"ok\"")
            };
            assert!(log.lines().any(said), "Faroe did not invoke {action}");
        }
        let store_log = match &self.way {
            Way::Store(store) => format!("{}{}", store.log, store.process.log()),
            _ => String::new(),
        };
        for hash in HASHES {
            let hidden = [&log, &store_log].iter().all(|log| !log.contains(hash));
            assert!(hidden, "a hash or an email address is in a log");
        }
    }
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("aside")
}

fn statement_of_the_readme(heading: &str) -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let mut lines = readme.lines();
    lines
        .find(|line| {
            line.strip_prefix("-- ")
                .and_then(|line| line.strip_prefix(heading))
                .is_some_and(|rest| rest.starts_with([':', '.']))
        })
        .unwrap_or_else(|| panic!("the README has no statement {heading:?}"));
    let mut statement = String::new();
    for line in lines {
        statement.push_str(line);
        statement.push('\n');
        if line.ends_with(';') {
            return statement;
        }
    }
    panic!("the README's statement {heading:?} does not end");
}

/// Reads until the answer is the one that is waited for: `noticed`, or the answer that still came
/// after all patience.
async fn noticed(client: &Client, expected: impl Fn(StatusCode, &str) -> bool) -> String {
    let read = json!({ "action": "get_user", "arguments": { "user_id": "nobody" } }).to_string();
    let deadline = Instant::now() + PATIENCE / 2;
    loop {
        let reply = client.post(read.clone()).await;
        if expected(reply.status, reply.text()) {
            return "noticed".to_owned();
        }
        if Instant::now() > deadline {
            return format!("{}: {}", reply.status, reply.text());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Lets the program take everybody through everything, and does what it asks for.
async fn flows(mut subject: Subject) {
    let client = subject.sidecar.client();
    let mut faroe = Faroe::start(block_in_place(|| faroetest_on("flows", &subject.sidecar)));
    let mut passed = Vec::new();
    while let Some(line) = faroe.line().await {
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let answer = match word {
            "passed" => {
                passed.push(rest.to_owned());
                continue;
            }
            "users" => subject.users().await,
            "sql" => {
                let (email_address, heading) = rest.split_once(' ').unwrap();
                subject.look_after(heading, email_address).await.to_string()
            }
            "away" => subject.take_away(&client).await,
            "back" => subject.bring_back(&client).await,
            _ => panic!("the program asks for {line:?}"),
        };
        faroe.answer(&answer);
    }
    faroe.end(&passed);
    assert_eq!(passed, FLOWS);
    subject.conclude();
}

/// The running program. It is killed when it is dropped.
struct Faroe {
    child: Child,
    stdin: ChildStdin,
    lines: mpsc::UnboundedReceiver<String>,
    complaint: Option<JoinHandle<String>>,
}

impl Faroe {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let complaint = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self { child, stdin, lines, complaint: Some(complaint) }
    }

    /// Its next line, until its end.
    async fn line(&mut self) -> Option<String> {
        timeout(PATIENCE, self.lines.recv()).await.expect("the program asks for nothing more")
    }

    fn answer(&mut self, line: &str) {
        // One that has ended says why.
        let _ = writeln!(self.stdin, "{line}");
    }

    /// Its end, after its last line.
    fn end(&mut self, passed: &[String]) {
        let status = self.child.wait().unwrap();
        let complaint = self.complaint.take().unwrap().join().unwrap();
        assert!(status.success(), "after {passed:?}: {status}: {complaint}");
    }
}

impl Drop for Faroe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
