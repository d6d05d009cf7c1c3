//! From a database URL to connection options, checked to the last parameter.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use sqlx::{
    ConnectOptions as _,
    mysql::{MySqlConnectOptions, MySqlSslMode},
    postgres::{PgConnectOptions, PgSslMode},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::{
    store::InvalidUrl,
    tls::{self, ClientFiles, IdentityFiles},
};

/// Parameters of a PostgreSQL URL that are passed on. Any other is refused: a misspelt `sslmode`
/// that is ignored would be a connection without TLS.
///
/// `statement-cache-capacity` is not among them: with it the driver leaves its statements behind on
/// the server under names that it uses again, and a pooler would mix them up.
const POSTGRES_PARAMETERS: [&str; 13] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "ssl-mode",
    "user",
    "password",
];

/// The same of a MySQL URL.
const MYSQL_PARAMETERS: [&str; 9] = [
    "socket", "ssl-ca", "ssl-cert", "ssl-key", "ssl-mode", "sslca", "sslcert", "sslkey", "sslmode",
];

/// What the mode of TLS may be, as the drivers read it.
const POSTGRES_MODES: [&str; 6] =
    ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
const MYSQL_MODES: [&str; 5] =
    ["DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"];

/// Which database, parsed. `Debug` shows its kind only.
#[derive(Clone)]
pub enum Url {
    /// A file of this host.
    Sqlite(PathBuf),
    /// A PostgreSQL server, and the files of its TLS.
    Postgres(Box<PgConnectOptions>, ClientFiles),
    /// A MySQL or MariaDB server, and the files of its TLS.
    MySql(Box<MySqlConnectOptions>, ClientFiles),
}

impl Url {
    /// What the database is called in messages.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SQLite",
            Self::Postgres(..) => "PostgreSQL",
            Self::MySql(..) => "MySQL",
        }
    }

    /// What traces call the system. MariaDB is not told from MySQL: the URL is the same.
    pub const fn system(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(..) => "postgresql",
            Self::MySql(..) => "mysql",
        }
    }

    /// The database of the server.
    pub fn database(&self) -> Option<&str> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(options, _) => options.get_database(),
            Self::MySql(options, _) => options.get_database(),
        }
    }

    /// The host and the port of the server, or its socket.
    pub fn server(&self) -> Option<(String, Option<u16>)> {
        let (host, port, socket) = match self {
            Self::Sqlite(_) => return None,
            Self::Postgres(options, _) => {
                (options.get_host(), options.get_port(), options.get_socket())
            }
            Self::MySql(options, _) => {
                (options.get_host(), options.get_port(), options.get_socket())
            }
        };
        Some(match socket {
            Some(socket) => (socket.display().to_string(), None),
            None => (host.to_owned(), Some(port)),
        })
    }

    /// Looks at the files that the URL names, without creating any.
    ///
    /// # Errors
    ///
    /// If the folder of an SQLite file is missing, or a file of TLS cannot be used.
    pub fn check_files(&self) -> Result<(), InvalidUrl> {
        match self {
            Self::Sqlite(path) => check_folder(path),
            Self::Postgres(_, files) | Self::MySql(_, files) => {
                tls::check_client_files(files).map_err(|error| InvalidUrl::new(error.to_string()))
            }
        }
    }
}

fn check_folder(path: &Path) -> Result<(), InvalidUrl> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(InvalidUrl::new(format!(
            "the folder {} of the SQLite file does not exist: create it first",
            folder.display()
        )));
    }
    if path.is_dir() {
        return Err(InvalidUrl::new(format!(
            "{} is a folder: name an SQLite file in it",
            path.display()
        )));
    }
    Ok(())
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

impl FromStr for Url {
    type Err = InvalidUrl;

    fn from_str(url: &str) -> Result<Self, InvalidUrl> {
        if let Some(path) = url.strip_prefix("sqlite://") {
            return sqlite_path(path).map(Self::Sqlite);
        }
        if url.starts_with("mysql://") {
            let files = parameters(url, "MySQL", &MYSQL_PARAMETERS, &MYSQL_MODES)?;
            // The error is not passed on: it may quote the URL.
            let options = url.parse::<MySqlConnectOptions>().map_err(|_| {
                InvalidUrl::new(
                    "the MySQL URL cannot be read: write mysql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters percent-encoded",
                )
            })?;
            if options.get_database().is_none_or(str::is_empty) {
                return Err(InvalidUrl::new("the MySQL URL names no database: add /DATABASE"));
            }
            let verifies = matches!(
                options.get_ssl_mode(),
                MySqlSslMode::VerifyCa | MySqlSslMode::VerifyIdentity
            );
            ca_is_used(&files, verifies, "ssl-mode=VERIFY_IDENTITY")?;
            return Ok(Self::MySql(Box::new(options.disable_statement_logging()), files));
        }
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(InvalidUrl::new(
                "the bundled store has an unknown scheme: use sqlite, postgres or mysql",
            ));
        }
        let files = parameters(url, "PostgreSQL", &POSTGRES_PARAMETERS, &POSTGRES_MODES)?;
        let options = url.parse::<PgConnectOptions>().map_err(|_| {
            InvalidUrl::new(
                "the PostgreSQL URL cannot be read: write postgres://USER:PASSWORD@HOST:PORT/DATABASE, with special characters percent-encoded",
            )
        })?;
        if options.get_database().is_none_or(str::is_empty) {
            return Err(InvalidUrl::new("the PostgreSQL URL names no database: add /DATABASE"));
        }
        let verifies =
            matches!(options.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull);
        ca_is_used(&files, verifies, "sslmode=verify-full")?;
        // The driver would take it from a variable of the environment otherwise.
        let options = if names_mode(url) { options } else { options.ssl_mode(PgSslMode::Prefer) };
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name(env!("CARGO_PKG_NAME")),
        };
        // No statement here has a float in it, and a pooler may refuse the setting.
        let options = options.extra_float_digits(None).disable_statement_logging();
        Ok(Self::Postgres(Box::new(options), files))
    }
}

fn sqlite_path(path: &str) -> Result<PathBuf, InvalidUrl> {
    if path.is_empty() {
        return Err(InvalidUrl::new("the SQLite URL names no file: write sqlite://PATH"));
    }
    if path.contains('?') {
        return Err(InvalidUrl::new(
            "the SQLite URL takes no parameters: write sqlite://PATH without a question mark",
        ));
    }
    // SQLite reads more into such a name than a file's path: it may be a database in memory.
    if path.starts_with("file:") {
        return Err(InvalidUrl::new(
            "the SQLite URL names a URI and not a file: write sqlite://PATH without file:",
        ));
    }
    if path == ":memory:" {
        return Err(InvalidUrl::new(
            "an SQLite database in memory would forget its users: write sqlite://PATH",
        ));
    }
    Ok(PathBuf::from(path))
}

/// Checks the parameters of a URL, and gives the files of TLS that they name.
fn parameters(
    url: &str,
    database: &str,
    known: &[&str],
    modes: &[&str],
) -> Result<ClientFiles, InvalidUrl> {
    // The drivers drop what follows a #, and control characters: a mode of TLS could be lost so.
    if url.contains(|c: char| c == '#' || c.is_ascii_control()) || url.ends_with(' ') {
        return Err(InvalidUrl::new(format!(
            "the {database} URL has a #, a control character or a space at its end: percent-encode it"
        )));
    }
    let (mut ca, mut certificate, mut key) = (None, None, None);
    let (_, query) = url.split_once('?').unwrap_or_default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if !known.contains(&&*name) {
            return Err(InvalidUrl::new(format!(
                "the {database} URL has a parameter that is not known (is a ? in the password percent-encoded?): use {}",
                known.join(", ")
            )));
        }
        if matches!(&*name, "sslmode" | "ssl-mode")
            && !modes.iter().any(|mode| mode.eq_ignore_ascii_case(&value))
        {
            return Err(InvalidUrl::new(format!(
                "the {database} URL has an unknown {name}: use {}",
                modes.join(", ")
            )));
        }
        let file = match &*name {
            "sslrootcert" | "sslca" | "ssl-ca" => &mut ca,
            "sslcert" | "ssl-cert" => &mut certificate,
            "sslkey" | "ssl-key" => &mut key,
            _ => continue,
        };
        *file = Some(PathBuf::from(value.into_owned()));
    }
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(IdentityFiles { certificate, key }),
        (None, None) => None,
        _ => {
            return Err(InvalidUrl::new(format!(
                "the {database} URL names a client certificate or its key: name both"
            )));
        }
    };
    Ok(ClientFiles { ca, identity })
}

fn names_mode(url: &str) -> bool {
    let (_, query) = url.split_once('?').unwrap_or_default();
    form_urlencoded::parse(query.as_bytes())
        .any(|(name, _)| matches!(&*name, "sslmode" | "ssl-mode"))
}

/// An authority that is named and not used would be false comfort: the drivers look at it only
/// where they verify.
fn ca_is_used(files: &ClientFiles, verifies: bool, how: &str) -> Result<(), InvalidUrl> {
    if files.ca.is_some() && !verifies {
        return Err(InvalidUrl::new(format!(
            "the URL names a certificate authority and does not verify the server: add {how}"
        )));
    }
    Ok(())
}

/// The name by which SQLite opens a file: a path that begins with `file:` would be a URI to it.
pub(super) fn sqlite_filename(path: &Path) -> PathBuf {
    Path::new(".").join(path)
}

/// Options of a connection to an SQLite file for its schema: as those of users' reads and writes
/// (`sqlite`), WAL, and what is acknowledged is on the disk.
pub(super) fn sqlite_options(path: &Path, busy_timeout: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(sqlite_filename(path))
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(busy_timeout)
        .disable_statement_logging()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(url: &str) -> String {
        url.parse::<Url>().expect_err(url).to_string()
    }

    #[test]
    fn a_misspelt_parameter_is_refused_and_not_ignored() {
        assert!(error("postgres://h/db?ssl_mode=verify-full").contains("not known"));
        assert!(error("mysql://h/db?ssl_mode=VERIFY_IDENTITY").contains("not known"));
        assert!("postgres://h/db?sslmode=verify-full".parse::<Url>().is_ok());
        assert!("mysql://h/db?ssl-mode=VERIFY_IDENTITY".parse::<Url>().is_ok());
    }

    #[test]
    fn what_the_driver_would_drop_is_refused() {
        for url in [
            "postgres://h/db?application_name=a#&sslmode=verify-full",
            "postgres://h/db#?sslmode=verify-full",
            "postgres://h/db?sslmode=verify-full\n",
            "postgres://h/db?sslrootcert=c\ta&sslmode=verify-full",
            "postgres://h/db?sslmode=verify-full&sslrootcert=ca.pem ",
            "mysql://h/db?socket=/a#&ssl-mode=VERIFY_IDENTITY",
            "mysql://u:p#@h/db",
        ] {
            assert!(error(url).contains("percent-encode it"), "{url:?}");
        }
        let Ok(Url::Postgres(options, _)) =
            "postgres://h/db?application_name=a%23b%20&sslmode=verify-full".parse()
        else {
            unreachable!("it is a PostgreSQL URL")
        };
        assert_eq!(options.get_application_name(), Some("a#b "));
        assert!(matches!(options.get_ssl_mode(), PgSslMode::VerifyFull));
    }

    #[test]
    fn an_authority_that_would_not_be_used_is_refused() {
        for url in [
            "postgres://h/db?sslrootcert=ca.pem",
            "postgres://h/db?sslrootcert=ca.pem&sslmode=require",
            "mysql://h/db?ssl-ca=ca.pem",
            "mysql://h/db?ssl-ca=ca.pem&ssl-mode=REQUIRED",
        ] {
            assert!(error(url).contains("does not verify"), "{url}");
        }
        assert!(error("postgres://h/db?sslcert=c.pem").contains("name both"));
        for url in [
            "postgres://h/db?sslrootcert=ca.pem&sslmode=verify-full",
            "postgres://h/db?sslrootcert=ca.pem&sslmode=verify-ca&sslcert=c&sslkey=k",
            "mysql://h/db?ssl-ca=ca.pem&ssl-mode=VERIFY_CA",
        ] {
            assert!(url.parse::<Url>().is_ok(), "{url}");
        }
    }

    #[test]
    fn another_scheme_is_no_database() {
        assert!(error("grpc://h/db").contains("unknown scheme"));
        assert!(error("h/db").contains("unknown scheme"));
    }

    #[test]
    fn a_server_needs_a_database() {
        assert!(error("postgres://u@h").contains("names no database"));
        assert!(error("mysql://u@h/").contains("names no database"));
    }

    #[test]
    fn sqlite_is_a_path_and_nothing_else() {
        let Ok(Url::Sqlite(path)) = "sqlite:///var/lib/users.sqlite".parse() else {
            unreachable!("it is an SQLite URL")
        };
        assert_eq!(path, Path::new("/var/lib/users.sqlite"));
        assert!(error("sqlite://x?mode=rwc").contains("no parameters"));
        assert!(error("sqlite://:memory:").contains("forget"));
        assert!(error("sqlite://file::memory:").contains("without file:"));
        assert!(error("sqlite://").contains("names no file"));
    }
}
