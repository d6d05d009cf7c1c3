//! The way to the database: TLS by the usual parameters of its URL, passwords, and a URL that
//! changes in a file.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::harness::{
    PLANTED,
    certs::Authority,
    client::{Reply, admin},
    database::{Database, Kind, Server, password},
    email_address,
    process::{Pki, Process, Sidecar, program},
};

/// An address of this host that is not in the certificate of the databases.
const OTHER_ADDRESS: &str = "127.0.0.2";

/// A database, and how a URL says that its certificate is verified.
struct Subject {
    database: Database,
    server: &'static Server,
}

impl Subject {
    fn new(kind: Kind) -> Self {
        Self { database: kind.database(), server: Server::of(kind) }
    }

    /// A URL for this user of the database.
    fn url(&self, user: &str, password: &str, address: &str, parameters: &str) -> String {
        let scheme = match self.database.kind {
            Kind::Postgres => "postgres",
            _ => "mysql",
        };
        let name = self.database.name();
        format!("{scheme}://{user}:{password}@{address}/{name}?{parameters}")
    }

    /// The same for the user that may do anything.
    fn faroe(&self, address: &str, parameters: &str) -> String {
        self.url("faroe", &password(), address, parameters)
    }

    /// Certificate and name verified.
    fn verified(&self, ca: &Path) -> String {
        let ca = ca.display();
        match self.database.kind {
            Kind::Postgres => format!("sslmode=verify-full&sslrootcert={ca}"),
            _ => format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={ca}"),
        }
    }

    /// Certificate verified, its name not.
    fn verified_but_for_the_name(&self, ca: &Path) -> String {
        let ca = ca.display();
        match self.database.kind {
            Kind::Postgres => format!("sslmode=verify-ca&sslrootcert={ca}"),
            _ => format!("ssl-mode=VERIFY_CA&ssl-ca={ca}"),
        }
    }

    fn plain(&self) -> &'static str {
        match self.database.kind {
            Kind::Postgres => "sslmode=disable",
            _ => "ssl-mode=DISABLED",
        }
    }

    /// Another user of the database, who may do anything in it.
    async fn create_user(&self, password: &str, requirement: &str) -> String {
        let name = self.database.name();
        let user = format!("user_{name}");
        let statements = match self.database.kind {
            Kind::Postgres => vec![
                format!("CREATE ROLE {user} LOGIN PASSWORD '{password}'"),
                format!("ALTER DATABASE {name} OWNER TO {user}"),
            ],
            _ => vec![
                format!("CREATE USER {user}@'%' IDENTIFIED BY '{password}' {requirement}"),
                format!("GRANT ALL ON {name}.* TO {user}@'%'"),
            ],
        };
        for statement in statements {
            self.database.execute(&statement).await;
        }
        user
    }

    async fn change_password(&self, user: &str, password: &str) {
        let statement = match self.database.kind {
            Kind::Postgres => format!("ALTER ROLE {user} PASSWORD '{password}'"),
            _ => format!("ALTER USER {user}@'%' IDENTIFIED BY '{password}'"),
        };
        self.database.execute(&statement).await;
    }

    /// Ends the sessions of a user.
    async fn end_sessions(&self, user: &str) {
        let statement = match self.database.kind {
            Kind::Postgres => format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'"
            ),
            _ => format!("KILL USER {user}"),
        };
        self.database.execute(&statement).await;
    }
}

/// A sidecar that brings the schema up by itself, whatever comes of it.
fn sidecar(url: &str) -> Sidecar {
    Sidecar::start(url, &["--migrate", "--store-timeout", "2s"])
}

/// The same with its URL in a file.
fn sidecar_on_file(file: &Path) -> Sidecar {
    let pki = Arc::new(Pki::new());
    let mut arguments = pki.serve_options("");
    let store = arguments.iter().position(|argument| argument == "--store").unwrap();
    arguments.splice(store.., ["--store-file", file.to_str().unwrap()].map(str::to_owned));
    arguments.extend(["--migrate", "--store-timeout", "2s"].map(str::to_owned));
    Sidecar::of_process(Process::start(program(arguments)), pki)
}

async fn look_up(sidecar: &Sidecar) -> Reply {
    let arguments = json!({ "email_address": email_address() });
    let body = json!({ "action": "get_user_by_email_address", "arguments": arguments });
    sidecar.client().post(body.to_string()).await
}

/// The sidecar is ready, and a user can be created and found.
async fn works(sidecar: &Sidecar) {
    sidecar.wait_until_ready();
    let user = sidecar.client().create_user(&email_address()).await;
    assert_eq!(sidecar.client().get_user(&user).await, user);
}

/// The sidecar is not ready and says why: a caller is told to come again.
async fn does_not_work(sidecar: &Sidecar) -> String {
    let line = sidecar.process.wait_for_log("the store is not ready");
    let line: Value = serde_json::from_str(&line).unwrap();
    let reason = line["reason"].as_str().unwrap().to_owned();
    let reply = look_up(sidecar).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{}", reply.text());
    assert!(reply.header("retry-after").is_some());
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    let ready = admin(sidecar.admin, "/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready.text().contains(&reason), "{reason}: {}", ready.text());
    assert!(!sidecar.process.log().contains("the store is ready"), "{}", sidecar.process.log());
    reason
}

/// Stands between the sidecar and a database on an address of its own, and keeps what the sidecar
/// says.
struct Relay {
    address: String,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Relay {
    async fn start(host: &str, server: &'static Server) -> Self {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let keeps = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let keeps = Arc::clone(&keeps);
                tokio::spawn(async move {
                    let database = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
                    let (mut from_client, mut to_client) = client.into_split();
                    let (mut from_database, mut to_database) = database.into_split();
                    tokio::spawn(async move {
                        let _ = tokio::io::copy(&mut from_database, &mut to_client).await;
                    });
                    let mut buffer = [0; 4096];
                    while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                        keeps.lock().unwrap().extend_from_slice(&buffer[..read]);
                        if to_database.write_all(&buffer[..read]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, heard }
    }

    /// Whether the sidecar has said this, so that anybody on the way could read it.
    fn heard(&self, text: &str) -> bool {
        self.heard.lock().unwrap().windows(text.len()).any(|part| part == text.as_bytes())
    }

    fn is_used(&self) -> bool {
        !self.heard.lock().unwrap().is_empty()
    }
}

/// A test on each database server.
macro_rules! on_every_server {
    ($($behaviour:ident),* $(,)?) => {$(
        mod $behaviour {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                super::$behaviour(Subject::new(Kind::Postgres)).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn mariadb() {
                super::$behaviour(Subject::new(Kind::MariaDb)).await;
            }
        }
    )*};
}

on_every_server!(
    a_verified_server_is_used_over_tls,
    a_server_of_another_authority_is_not_used,
    a_server_of_another_name_is_not_used,
    a_wrong_password_is_told_and_not_shown,
    a_changed_password_is_taken_from_a_file_that_is_renamed,
    a_changed_password_is_taken_from_a_file_behind_a_symlink,
);

async fn a_verified_server_is_used_over_tls(subject: Subject) {
    let relay = Relay::start("127.0.0.1", subject.server).await;
    let localhost = relay.address.replace("127.0.0.1", "localhost");
    let name = subject.database.name();
    {
        let sidecar = sidecar(&subject.faroe(&localhost, &subject.verified(&subject.server.ca())));
        works(&sidecar).await;
        if subject.database.kind == Kind::Postgres {
            let sessions = |tls: &str| {
                format!(
                    "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'faroe-sidecar' AND datname = '{name}' AND {tls}"
                )
            };
            assert!(subject.database.number(&sessions("ssl")).await > 0);
            assert_eq!(subject.database.number(&sessions("NOT ssl")).await, 0);
        }
    }
    assert!(relay.is_used() && !relay.heard(name), "nothing can be read on the way");
    // What is looked for is there without TLS.
    works(&sidecar(&subject.faroe(&localhost, subject.plain()))).await;
    assert!(relay.heard(name));
}

async fn a_server_of_another_authority_is_not_used(subject: Subject) {
    let relay = Relay::start("127.0.0.1", subject.server).await;
    let stranger = Authority::new();
    let sidecar =
        sidecar(&subject.faroe(&relay.address, &subject.verified(&stranger.certificate())));
    let reason = does_not_work(&sidecar).await;
    assert!(reason.contains("TLS") && reason.contains("certificate"), "{reason}");
    assert!(relay.is_used());
    assert!(!relay.heard(subject.database.name()), "it fell back to plain text");
}

async fn a_server_of_another_name_is_not_used(subject: Subject) {
    let ca = subject.server.ca();
    let relay = Relay::start(OTHER_ADDRESS, subject.server).await;
    {
        let sidecar = sidecar(&subject.faroe(&relay.address, &subject.verified(&ca)));
        let reason = does_not_work(&sidecar).await;
        assert!(reason.contains("TLS") && reason.contains("certificate"), "{reason}");
        assert!(relay.is_used());
        assert!(!relay.heard(subject.database.name()), "it fell back to plain text");
    }
    // It is the name that was wrong, and nothing else.
    let parameters = subject.verified_but_for_the_name(&ca);
    works(&sidecar(&subject.faroe(&relay.address, &parameters))).await;
    assert!(!relay.heard(subject.database.name()));
}

/// MariaDB does not tell another session's TLS, but can require it.
#[tokio::test(flavor = "multi_thread")]
async fn a_mariadb_user_that_requires_tls_can_be_used_with_tls_only() {
    let subject = Subject::new(Kind::MariaDb);
    let user = subject.create_user(&password(), "REQUIRE SSL").await;
    let address = format!("localhost:{}", subject.server.port());
    let url = |parameters: &str| subject.url(&user, &password(), &address, parameters);
    works(&sidecar(&url(&subject.verified(&subject.server.ca())))).await;
    does_not_work(&sidecar(&url(subject.plain()))).await;
}

async fn a_wrong_password_is_told_and_not_shown(subject: Subject) {
    // The log is searched for it when the sidecar ends.
    let wrong = format!("wrong-{PLANTED}");
    let address = format!("127.0.0.1:{}", subject.server.port());
    let sidecar = sidecar(&subject.url("faroe", &wrong, &address, subject.plain()));
    let reason = does_not_work(&sidecar).await;
    assert!(reason.contains("28P01") || reason.contains("28000"), "{reason}");
}

/// A file that is replaced by renaming, as by a careful script.
struct Renamed(PathBuf);

/// A file behind a symlink to a folder that is swapped, as in Kubernetes.
struct Swapped {
    folder: PathBuf,
    version: u32,
}

trait UrlFile {
    fn path(&self) -> PathBuf;
    fn write(&mut self, url: &str);
}

impl UrlFile for Renamed {
    fn path(&self) -> PathBuf {
        self.0.clone()
    }

    fn write(&mut self, url: &str) {
        let temporary = self.0.with_extension("new");
        fs::write(&temporary, format!("{url}\n")).unwrap();
        fs::rename(temporary, &self.0).unwrap();
    }
}

impl UrlFile for Swapped {
    fn path(&self) -> PathBuf {
        self.folder.join("url")
    }

    fn write(&mut self, url: &str) {
        self.version += 1;
        let version = format!("..version-{}", self.version);
        fs::create_dir(self.folder.join(&version)).unwrap();
        fs::write(self.folder.join(&version).join("url"), url).unwrap();
        let temporary = self.folder.join("..data_tmp");
        std::os::unix::fs::symlink(&version, &temporary).unwrap();
        fs::rename(temporary, self.folder.join("..data")).unwrap();
        if self.version == 1 {
            std::os::unix::fs::symlink("..data/url", self.path()).unwrap();
        } else {
            let before = format!("..version-{}", self.version - 1);
            fs::remove_dir_all(self.folder.join(before)).unwrap();
        }
    }
}

async fn a_changed_password_is_taken_from_a_file_that_is_renamed(subject: Subject) {
    let folder = tempfile::tempdir().unwrap();
    a_changed_password_is_taken_from(Renamed(folder.path().join("url")), subject).await;
}

async fn a_changed_password_is_taken_from_a_file_behind_a_symlink(subject: Subject) {
    let folder = tempfile::tempdir().unwrap();
    let file = Swapped { folder: folder.path().to_owned(), version: 0 };
    a_changed_password_is_taken_from(file, subject).await;
}

async fn a_changed_password_is_taken_from(mut file: impl UrlFile, subject: Subject) {
    let (old, new) = (format!("old-{PLANTED}"), format!("new-{PLANTED}"));
    let user = subject.create_user(&old, "").await;
    let address = format!("127.0.0.1:{}", subject.server.port());
    let url = |password: &str| subject.url(&user, password, &address, subject.plain());
    file.write(&url(&old));

    let sidecar = sidecar_on_file(&file.path());
    works(&sidecar).await;
    let created = sidecar.client().create_user(&email_address()).await;

    // Connections that exist outlive a change of the password; with the old one no new ones come.
    subject.change_password(&user, &new).await;
    assert_eq!(sidecar.client().get_user(&created).await, created);
    subject.end_sessions(&user).await;
    sidecar.process.wait_for_log("the store is not ready");
    assert_eq!(look_up(&sidecar).await.status, StatusCode::SERVICE_UNAVAILABLE);

    file.write(&url(&new));
    sidecar.process.wait_for_log("the changed URL is used");
    sidecar.process.wait_for_log_lines("the store is ready", 2);
    assert_eq!(sidecar.client().get_user(&created).await, created);
    let ready = admin(sidecar.admin, "/readyz").await;
    assert_eq!(ready.status, StatusCode::OK, "{}", ready.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_becomes_unusable_changes_nothing() {
    let subject = Subject::new(Kind::Postgres);
    let folder = tempfile::tempdir().unwrap();
    let mut file = Renamed(folder.path().join("url"));
    let address = format!("127.0.0.1:{}", subject.server.port());
    let url = subject.faroe(&address, subject.plain());
    file.write(&url);
    let sidecar = sidecar_on_file(&file.path());
    works(&sidecar).await;
    for (content, said) in [
        (url.replace("?sslmode", "?ssl_mode"), "has a parameter that is not known"),
        ("sqlite:///nowhere".to_owned(), "that of another database"),
    ] {
        file.write(&content);
        sidecar.process.wait_for_log(said);
        works(&sidecar).await;
    }
}
