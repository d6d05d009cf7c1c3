//! Real database servers: started by the first test that needs one, on a free port, in a folder of
//! their own, and ended with the process of the tests.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
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

static POSTGRES: LazyLock<Server> = LazyLock::new(Server::postgres);
static MARIADB: LazyLock<Server> = LazyLock::new(Server::mariadb);

/// A database server of the whole run.
pub struct Server {
    kind: Kind,
    port: u16,
    authority: Authority,
    next: AtomicU32,
    /// Its end is what the guard waits for.
    _lifeline: ChildStdin,
    _guard: Child,
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

    pub fn port(&self) -> u16 {
        self.port
    }

    fn postgres() -> Self {
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
        let port = free_port();
        let mut server = as_user(owner, &programs.join("postgres"));
        server
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&folder)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "fsync=off", "-c", "max_connections=300", "-c", "ssl=on"])
            .args(["-c", "log_min_messages=fatal"])
            .arg("-c")
            .arg(format!("ssl_cert_file={}", certificate.display()))
            .arg("-c")
            .arg(format!("ssl_key_file={}", key.display()));
        Self::guarded(Kind::Postgres, server, &folder, "QUIT", port, authority)
    }

    fn mariadb() -> Self {
        let folder = folder("mariadb");
        let data = folder.join("data");
        let authority = Authority::new_in(&folder);
        let identity = authority.issue("database", Leaf::server());
        let user = format!("--user={}", user_name());
        let mut install = Command::new(find("mariadb-install-db", "mariadb-server"));
        install
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(&user)
            .arg(format!("--datadir={}", data.display()));
        succeed(install);
        let port = free_port();
        let init = folder.join("init.sql");
        fs::write(
            &init,
            format!(
                "CREATE USER faroe@'%' IDENTIFIED BY '{}';\nGRANT ALL ON *.* TO faroe@'%' \
                 WITH GRANT OPTION;\n",
                password()
            ),
        )
        .unwrap();
        let mut server = Command::new(find("mariadbd", "mariadb-server"));
        server
            .args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"])
            .args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M"])
            .args(["--max-connections=300", "--skip-log-bin"])
            .arg(&user)
            .arg(format!("--init-file={}", init.display()))
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", folder.join("mariadb.sock").display()))
            .arg(format!("--port={port}"))
            .arg(format!("--ssl-cert={}", identity.certificate.display()))
            .arg(format!("--ssl-key={}", identity.key.display()));
        Self::guarded(Kind::MariaDb, server, &folder, "KILL", port, authority)
    }

    /// Starts a server under a shell that ends it, and removes its folder, when this process ends
    /// in whatever way: its standard input is closed then.
    fn guarded(
        kind: Kind,
        server: Command,
        folder: &Path,
        signal: &str,
        port: u16,
        authority: Authority,
    ) -> Self {
        const GUARD: &str = r#"
            signal=$1 folder=$2; shift 2
            "$@" &
            cat >/dev/null
            kill -s "$signal" $!
            wait $!
            rm -rf "$folder"
        "#;
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard", signal])
            .arg(folder)
            .arg(server.get_program())
            .args(server.get_args())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let lifeline = guard.stdin.take().unwrap();
        let server = Self {
            kind,
            port,
            authority,
            next: AtomicU32::new(0),
            _lifeline: lifeline,
            _guard: guard,
        };
        server.wait_until_up(&folder.join("log"));
        server
    }

    fn wait_until_up(&self, log: &Path) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = self.administer("SELECT 1") {
            assert!(
                Instant::now() < deadline,
                "{:?} does not start: {error}\n{}",
                self.kind,
                fs::read_to_string(log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn url(&self, database: &str) -> String {
        let (scheme, tls) = match self.kind {
            Kind::Postgres => ("postgres", "sslmode=disable"),
            _ => ("mysql", "ssl-mode=DISABLED"),
        };
        format!("{scheme}://faroe:{}@127.0.0.1:{}/{database}?{tls}", password(), self.port)
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

    fn database(&self) -> Database {
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

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
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
    let folders = |variable| std::env::var_os(variable).unwrap_or_default();
    let (path, tools) = (folders("PATH"), folders("FAROE_SIDECAR_TEST_TOOLS"));
    std::env::split_paths(&tools)
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.exists())
        .unwrap_or_else(|| {
            panic!(
                "{program} is missing: install it with `apt-get install {package}`, or name its \
                 folder in FAROE_SIDECAR_TEST_TOOLS"
            )
        })
}
