//! From a database URL to connection options, checked to the last parameter.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use sqlx::{
    ConnectOptions as _,
    mysql::MySqlConnectOptions,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::store::InvalidUrl;

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

/// Which database, parsed. `Debug` shows its kind only.
#[derive(Clone)]
pub enum Url {
    /// A file of this host.
    Sqlite(PathBuf),
    /// A PostgreSQL server, and the files of its TLS.
    Postgres(Box<PgConnectOptions>, Vec<PathBuf>),
    /// A MySQL or MariaDB server, and the files of its TLS.
    MySql(Box<MySqlConnectOptions>, Vec<PathBuf>),
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

    /// Looks at the files that the URL names, without creating any.
    ///
    /// # Errors
    ///
    /// If the folder of an SQLite file is missing, or a file of TLS cannot be read.
    pub fn check_files(&self) -> Result<(), InvalidUrl> {
        match self {
            Self::Sqlite(path) => check_folder(path),
            Self::Postgres(_, files) | Self::MySql(_, files) => {
                for file in files {
                    std::fs::read(file).map_err(|error| {
                        InvalidUrl::new(format!("cannot read {}: {error}", file.display()))
                    })?;
                }
                Ok(())
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
            let files = parameters(url, "MySQL", &MYSQL_PARAMETERS)?;
            // The error is not passed on: it may quote the URL.
            let options = url.parse::<MySqlConnectOptions>().map_err(|_| {
                InvalidUrl::new(
                    "the MySQL URL cannot be read: write mysql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters percent-encoded",
                )
            })?;
            if options.get_database().is_none_or(str::is_empty) {
                return Err(InvalidUrl::new("the MySQL URL names no database: add /DATABASE"));
            }
            return Ok(Self::MySql(Box::new(options.disable_statement_logging()), files));
        }
        let files = parameters(url, "PostgreSQL", &POSTGRES_PARAMETERS)?;
        let options = url.parse::<PgConnectOptions>().map_err(|_| {
            InvalidUrl::new(
                "the PostgreSQL URL cannot be read: write postgres://USER:PASSWORD@HOST:PORT/DATABASE, with special characters percent-encoded",
            )
        })?;
        if options.get_database().is_none_or(str::is_empty) {
            return Err(InvalidUrl::new("the PostgreSQL URL names no database: add /DATABASE"));
        }
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
    if path == ":memory:" {
        return Err(InvalidUrl::new(
            "an SQLite database in memory would forget its users: write sqlite://PATH",
        ));
    }
    Ok(PathBuf::from(path))
}

/// Checks the parameters of a URL, and gives the files that they name.
fn parameters(url: &str, database: &str, known: &[&str]) -> Result<Vec<PathBuf>, InvalidUrl> {
    let Some((_, query)) = url.split_once('?') else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if !known.contains(&&*key) {
            return Err(InvalidUrl::new(format!(
                "the {database} URL has a parameter that is not known: use {}",
                known.join(", ")
            )));
        }
        let names_a_file = matches!(&*key, "sslrootcert" | "sslcert" | "sslkey" | "sslca")
            || matches!(&*key, "ssl-ca" | "ssl-cert" | "ssl-key");
        // What is no path is the PEM itself, which the drivers take too.
        if names_a_file && !value.contains("-----BEGIN") {
            files.push(PathBuf::from(value.into_owned()));
        }
    }
    Ok(files)
}

/// Options of each SQLite connection: WAL so that reads go on beside a write, and a write that is
/// acknowledged only when it is on the disk.
pub(super) fn sqlite_options(path: &Path, busy_timeout: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
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
        assert!(error("sqlite://").contains("names no file"));
    }
}
