//! Real database servers, on a free port and in a folder of their own: those of the whole run,
//! started by the first test that needs one and ended with the process of the tests, and those that
//! a test has for itself, to stop, start and pause.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, Connection as _, MySqlConnection, PgConnection, Row as _, SqliteConnection,
};

use super::{
    PLANTED,
    certs::{Authority, Leaf},
    process::SqliteFile,
};

/// The password of every database user.
pub fn password() -> String {
    format!("{PLANTED}-password")
}

/// The databases that the bundled store is tested on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
    MariaDb,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Sqlite, Self::Postgres, Self::MariaDb];

    /// An empty database. Servers take a while to start: this blocks.
    pub fn database(self) -> Database {
        match self {
            Self::Sqlite => {
                let file = SqliteFile::new();
                Database { url: file.url(), kind: self, _file: Some(file) }
            }
            Self::Postgres => POSTGRES.database(),
            Self::MariaDb => MARIADB.database(),
        }
    }
}

/// A database that one test has for itself.
pub struct Database {
    pub url: String,
    pub kind: Kind,
    _file: Option<SqliteFile>,
}

impl Database {
    /// Runs statements beside the program, as an operator would; the number of rows they changed.
    pub async fn execute(&self, sql: &str) -> u64 {
        self.try_execute(sql).await.unwrap()
    }

    /// The same where the database may refuse.
    pub async fn try_execute(&self, sql: &str) -> Result<u64, sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        Ok(match self.kind {
            Kind::Sqlite => {
                let mut db = SqliteConnection::connect(&self.url).await?;
                sqlx::raw_sql(sql).execute(&mut db).await?.rows_affected()
            }
            Kind::Postgres => {
                let mut db = PgConnection::connect(&self.url).await?;
                sqlx::raw_sql(sql).execute(&mut db).await?.rows_affected()
            }
            Kind::MariaDb => {
                let mut db = MySqlConnection::connect(&self.url).await?;
                sqlx::raw_sql(sql).execute(&mut db).await?.rows_affected()
            }
        })
    }

    /// Ends every connection that others have to this database of a server, and says how many.
    pub async fn end_connections(&self) -> usize {
        let (list, end) = match self.kind {
            Kind::Postgres => (
                "SELECT pid::text FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
                "SELECT pg_terminate_backend",
            ),
            Kind::MariaDb => (
                "SELECT CAST(id AS CHAR) FROM information_schema.processlist \
                 WHERE db = DATABASE() AND id <> CONNECTION_ID()",
                "KILL",
            ),
            Kind::Sqlite => panic!("a file has no connections"),
        };
        let ids = self.texts(list).await;
        for id in &ids {
            if let Err(error) = self.try_execute(&format!("{end} ({id})")).await {
                // MariaDB knows nothing of one that has ended meanwhile.
                assert!(error.to_string().contains("Unknown thread id"), "{error}");
            }
        }
        ids.len()
    }

    /// Runs statements on a connection that stays, with the transaction that they may begin.
    pub async fn hold(&self, sql: &str) -> Held {
        self.hold_as(&self.url, sql).await
    }

    /// The same with the URL of another user.
    pub async fn hold_as(&self, url: &str, sql: &str) -> Held {
        let mut held = match self.kind {
            Kind::Sqlite => Held::Sqlite(SqliteConnection::connect(url).await.unwrap()),
            Kind::Postgres => Held::Postgres(PgConnection::connect(url).await.unwrap()),
            Kind::MariaDb => Held::MariaDb(MySqlConnection::connect(url).await.unwrap()),
        };
        held.execute(sql).await;
        held
    }

    /// The first column of what a query finds; it has to be text.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let sql = AssertSqlSafe(sql.to_owned());
        // Unchecked: MariaDB gives text as bytes where that is how it is compared.
        match self.kind {
            Kind::Sqlite => {
                let mut db = SqliteConnection::connect(&self.url).await.unwrap();
                let rows = sqlx::query(sql).fetch_all(&mut db).await.unwrap();
                rows.iter().map(|row| row.get_unchecked(0)).collect()
            }
            Kind::Postgres => {
                let mut db = PgConnection::connect(&self.url).await.unwrap();
                let rows = sqlx::query(sql).fetch_all(&mut db).await.unwrap();
                rows.iter().map(|row| row.get_unchecked(0)).collect()
            }
            Kind::MariaDb => {
                let mut db = MySqlConnection::connect(&self.url).await.unwrap();
                let rows = sqlx::query(sql).fetch_all(&mut db).await.unwrap();
                rows.iter().map(|row| row.get_unchecked(0)).collect()
            }
        }
    }

    /// The one number that a query on a database server gives.
    pub async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match self.kind {
            Kind::Sqlite => {
                let mut db = SqliteConnection::connect(&self.url).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut db).await.unwrap()
            }
            Kind::Postgres => {
                let mut db = PgConnection::connect(&self.url).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut db).await.unwrap()
            }
            Kind::MariaDb => {
                let mut db = MySqlConnection::connect(&self.url).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut db).await.unwrap()
            }
        }
    }

    /// Its name on its server.
    pub fn name(&self) -> &str {
        let (_, name) = self.url.split('?').next().unwrap().rsplit_once('/').unwrap();
        name
    }

    /// The whole table as text, to see whether anything in it has changed: a line for each user,
    /// with `|` between [`COLUMNS`].
    pub async fn dump(&self) -> String {
        let list = |cast: fn(&str) -> String, glue: &str| COLUMNS.map(cast).join(glue);
        let sql = match self.kind {
            Kind::Sqlite => format!(
                "SELECT {} AS line FROM users ORDER BY id",
                list(|column| format!("hex({column})"), " || '|' || ")
            ),
            Kind::Postgres => format!(
                "SELECT concat_ws('|', {}) AS line FROM users ORDER BY id",
                list(|column| format!("{column}::text"), ", ")
            ),
            Kind::MariaDb => format!(
                "SELECT CONCAT_WS('|', {}) AS line FROM users ORDER BY id",
                list(|column| format!("HEX({column})"), ", ")
            ),
        };
        self.texts(&sql).await.join("\n")
    }
}

/// A connection beside the program, and the transaction on it, until it is dropped.
pub enum Held {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MariaDb(MySqlConnection),
}

impl Held {
    pub async fn execute(&mut self, sql: &str) {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Sqlite(db) => sql.execute(db).await.map(|_| ()),
            Self::Postgres(db) => sql.execute(db).await.map(|_| ()),
            Self::MariaDb(db) => sql.execute(db).await.map(|_| ()),
        }
        .unwrap();
    }
}

/// The columns of the table `users`, as [`Database::dump`] shows them.
pub const COLUMNS: [&str; 13] = [
    "id",
    "email_address",
    "password_hash",
    "password_hash_algorithm_id",
    "password_salt",
    "disabled",
    "display_name",
    "email_address_counter",
    "password_hash_counter",
    "disabled_counter",
    "sessions_counter",
    "created_at",
    "updated_at",
];

static POSTGRES: LazyLock<Server> = LazyLock::new(|| Server::postgres(Use::Shared));
static MARIADB: LazyLock<Server> = LazyLock::new(|| Server::mariadb(Use::Shared));

/// A database server.
pub struct Server {
    kind: Kind,
    address: SocketAddr,
    authority: Authority,
    next: AtomicU32,
    folder: PathBuf,
    guard: Mutex<Guard>,
}

/// Whom a server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// All tests: it does not wait for the disk, because nobody takes it down.
    Shared,
    /// One test that does: what it has acknowledged has to be there when it is back.
    Private,
}

impl Use {
    /// Where it listens. A private server has an address of its own, so that nobody takes its port
    /// while it is down.
    fn address(self) -> SocketAddr {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let host = match self {
            Self::Shared => Ipv4Addr::LOCALHOST,
            Self::Private => Ipv4Addr::new(127, 0, 1, NEXT.fetch_add(1, Ordering::Relaxed)),
        };
        TcpListener::bind((host, 0)).unwrap().local_addr().unwrap()
    }
}

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// As for a restart: it ends its connections and puts its files in order.
    Orderly,
    /// At once: its files have to be recovered at the next start.
    Crash,
}

/// The shell that a server runs under.
struct Guard {
    shell: Child,
    /// Takes commands; its end is that of the server.
    commands: Option<ChildStdin>,
    /// A line for each command that was carried out.
    done: BufReader<ChildStdout>,
}

impl Guard {
    fn command(&mut self, command: &str) {
        let commands = self.commands.as_mut().unwrap();
        writeln!(commands, "{command}").unwrap();
        let mut line = String::new();
        self.done.read_line(&mut line).unwrap();
        assert_eq!(line, "done\n");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let guard = self.guard.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(guard.commands.take());
        let _ = guard.shell.wait();
    }
}

impl Server {
    /// The server of a kind.
    pub fn of(kind: Kind) -> &'static Self {
        match kind {
            Kind::Sqlite => panic!("SQLite has no server"),
            Kind::Postgres => &POSTGRES,
            Kind::MariaDb => &MARIADB,
        }
    }

    /// The authority of its certificate, which is for `localhost`.
    pub fn ca(&self) -> PathBuf {
        self.authority.certificate()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// A server of this kind that the test may do with as it likes. It takes a while to start: this
    /// blocks, as everything does that changes it.
    pub fn private(kind: Kind) -> Self {
        match kind {
            Kind::Sqlite => panic!("SQLite has no server"),
            Kind::Postgres => Self::postgres(Use::Private),
            Kind::MariaDb => Self::mariadb(Use::Private),
        }
    }

    /// Stops it, and waits until it has ended.
    pub fn stop(&self, how: Stop) {
        self.command(match (self.kind, how) {
            (Kind::Postgres, Stop::Orderly) => "INT",
            (Kind::Postgres, Stop::Crash) => "QUIT",
            (_, Stop::Orderly) => "TERM",
            (_, Stop::Crash) => "KILL",
        });
    }

    /// Starts it again after [`Self::stop`], where it was and with what it had.
    pub fn start(&self) {
        self.command("start");
        self.wait_until_up();
    }

    /// Has it do nothing any more, as a machine that hangs: its connections stay open.
    pub fn pause(&self) {
        self.command("pause");
    }

    /// Lets it go on after [`Self::pause`].
    pub fn resume(&self) {
        self.command("resume");
    }

    fn command(&self, command: &str) {
        self.guard.lock().unwrap().command(command);
    }

    fn postgres(purpose: Use) -> Self {
        let programs = postgres_programs();
        let folder = folder("postgres");
        let data = folder.join("data");
        let owner = unprivileged();
        let authority = Authority::new_in(&folder);
        let identity = authority.issue("database", Leaf::server());
        let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
        fs::copy(identity.certificate, &certificate).unwrap();
        fs::copy(identity.key, &key).unwrap();
        fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::write(folder.join("password"), password()).unwrap();
        if let Some((uid, gid)) = owner {
            for path in [&folder, &certificate, &key, &folder.join("password")] {
                chown(path, Some(uid), Some(gid)).unwrap();
            }
        }
        let mut initdb = as_user(owner, &programs.join("initdb"));
        initdb
            .args(["--username=faroe", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
            .args(["--auth=scram-sha-256", "--pwfile"])
            .arg(folder.join("password"))
            .arg("--pgdata")
            .arg(&data);
        succeed(initdb);
        let address = purpose.address();
        let mut server = as_user(owner, &programs.join("postgres"));
        server
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&folder)
            .args(["-p", &address.port().to_string()])
            .args(["-c", &format!("listen_addresses={}", address.ip())])
            .args(["-c", "max_connections=300", "-c", "ssl=on", "-c", "log_min_messages=fatal"])
            .arg("-c")
            .arg(format!("ssl_cert_file={}", certificate.display()))
            .arg("-c")
            .arg(format!("ssl_key_file={}", key.display()));
        if purpose == Use::Shared {
            server.args(["-c", "fsync=off"]);
        }
        Self::guarded(Kind::Postgres, server, folder, "QUIT", address, authority)
    }

    fn mariadb(purpose: Use) -> Self {
        let folder = folder("mariadb");
        let data = folder.join("data");
        let authority = Authority::new_in(&folder);
        let identity = authority.issue("database", Leaf::server());
        let user = format!("--user={}", user_name());
        let mut install = Command::new(find("mariadb-install-db", "mariadb-server"));
        install
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(&user)
            .arg(format!("--datadir={}", data.display()))
            // A server that starts removes what it takes for its own in a shared folder.
            .env("TMPDIR", &folder);
        succeed(install);
        let address = purpose.address();
        let init = folder.join("init.sql");
        fs::write(
            &init,
            format!(
                "CREATE USER IF NOT EXISTS faroe@'%' IDENTIFIED BY '{}';\nGRANT ALL ON *.* TO faroe@'%' \
                 WITH GRANT OPTION;\n",
                password()
            ),
        )
        .unwrap();
        let mut server = Command::new(find("mariadbd", "mariadb-server"));
        server
            .args(["--no-defaults", "--skip-name-resolve", "--innodb-buffer-pool-size=64M"])
            .args(["--max-connections=300", "--skip-log-bin"])
            .arg(format!(
                "--innodb-flush-log-at-trx-commit={}",
                match purpose {
                    Use::Shared => 0,
                    Use::Private => 1,
                }
            ))
            .arg(format!("--bind-address={}", address.ip()))
            .arg(&user)
            .arg(format!("--init-file={}", init.display()))
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--tmpdir={}", folder.display()))
            .arg(format!("--socket={}", folder.join("mariadb.sock").display()))
            .arg(format!("--port={}", address.port()))
            .arg(format!("--ssl-cert={}", identity.certificate.display()))
            .arg(format!("--ssl-key={}", identity.key.display()));
        Self::guarded(Kind::MariaDb, server, folder, "KILL", address, authority)
    }

    /// Starts a server under a shell that does with it what it is told, and ends it and removes its
    /// folder when this process ends in whatever way: its standard input is closed then.
    fn guarded(
        kind: Kind,
        server: Command,
        folder: PathBuf,
        signal: &str,
        address: SocketAddr,
        authority: Authority,
    ) -> Self {
        // The processes of PostgreSQL are children of the first one.
        const GUARD: &str = r#"
            signal=$1 folder=$2; shift 2
            start() { "$@" >>"$folder/log" 2>&1 </dev/null & server=$!; }
            all() { kill -s "$1" "$server" $(ps -o pid= --ppid "$server"); }
            start "$@"
            while read -r command; do
                case $command in
                    start) start "$@" ;;
                    pause) kill -s STOP "$server" && all STOP ;;
                    resume) all CONT ;;
                    *) kill -s "$command" "$server"; wait "$server"; server= ;;
                esac
                echo done
            done
            all CONT
            kill -s "$signal" "$server"
            wait "$server"
            rm -rf "$folder"
        "#;
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", GUARD, "guard", signal])
            .arg(&folder)
            .arg(server.get_program())
            .args(server.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let commands = shell.stdin.take();
        let done = BufReader::new(shell.stdout.take().unwrap());
        let guard = Mutex::new(Guard { shell, commands, done });
        let server = Self { kind, address, authority, next: AtomicU32::new(0), folder, guard };
        server.wait_until_up();
        server
    }

    fn wait_until_up(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = self.administer("SELECT 1") {
            assert!(
                Instant::now() < deadline,
                "{:?} does not start: {error}\n{}",
                self.kind,
                fs::read_to_string(self.folder.join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn url(&self, database: &str) -> String {
        let (scheme, tls) = match self.kind {
            Kind::Postgres => ("postgres", "sslmode=disable"),
            _ => ("mysql", "ssl-mode=DISABLED"),
        };
        format!("{scheme}://faroe:{}@{}/{database}?{tls}", password(), self.address)
    }

    /// Runs a statement on the server itself, in a thread of its own: tests are async and this is
    /// not.
    fn administer(&self, sql: &str) -> Result<(), sqlx::Error> {
        let (kind, sql) = (self.kind, sql.to_owned());
        let url = self.url(if kind == Kind::Postgres { "postgres" } else { "mysql" });
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let sql = AssertSqlSafe(sql);
                if kind == Kind::Postgres {
                    let mut db = PgConnection::connect(&url).await?;
                    sqlx::raw_sql(sql).execute(&mut db).await.map(|_| ())
                } else {
                    let mut db = MySqlConnection::connect(&url).await?;
                    sqlx::raw_sql(sql).execute(&mut db).await.map(|_| ())
                }
            })
        })
        .join()
        .unwrap()
    }

    /// An empty database on it.
    pub fn database(&self) -> Database {
        let name = format!("test_{}", self.next.fetch_add(1, Ordering::Relaxed));
        self.administer(&format!("CREATE DATABASE {name}")).unwrap();
        Database { url: self.url(&name), kind: self.kind, _file: None }
    }
}

fn folder(name: &str) -> PathBuf {
    let folder =
        tempfile::Builder::new().prefix(&format!("faroe-sidecar-{name}-")).tempdir().unwrap();
    // The guard removes it.
    folder.keep()
}

fn user_name() -> String {
    output(Command::new("id").arg("-un"))
}

/// PostgreSQL refuses to run as root; the package brings a user of its own.
fn unprivileged() -> Option<(u32, u32)> {
    if output(Command::new("id").arg("-u")) != "0" {
        return None;
    }
    let id = |flag: &str| output(Command::new("id").args([flag, "postgres"])).parse().unwrap();
    Some((id("-u"), id("-g")))
}

fn as_user(owner: Option<(u32, u32)>, program: &Path) -> Command {
    let Some((uid, gid)) = owner else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string(), "--clear-groups"]);
    command.arg(program);
    command
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn succeed(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Debian keeps PostgreSQL's programs out of the path, in a folder for each version.
fn postgres_programs() -> PathBuf {
    let mut folders: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .map(|version| version.unwrap().path().join("bin"))
        .filter(|folder| folder.join("initdb").exists())
        .collect();
    folders.sort();
    folders.pop().unwrap_or_else(|| {
        find("initdb", "postgresql").parent().map(Path::to_owned).unwrap_or_default()
    })
}

/// A program in the path, in the folders of `FAROE_SIDECAR_TEST_TOOLS` (separated as in `PATH`), or
/// where system programs are.
pub fn find(program: &str, package: &str) -> PathBuf {
    in_path(program).unwrap_or_else(|| {
        panic!(
            "{program} is missing: install it with `apt-get install {package}`, or name its folder \
             in FAROE_SIDECAR_TEST_TOOLS"
        )
    })
}

/// The same, if it is there.
pub fn in_path(program: &str) -> Option<PathBuf> {
    let folders = |variable| std::env::var_os(variable).unwrap_or_default();
    let (path, tools) = (folders("PATH"), folders("FAROE_SIDECAR_TEST_TOOLS"));
    std::env::split_paths(&tools)
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.exists())
}
