//! The URL of a store. Each `$` stands for a password, which no error may show; and what the
//! program reads in a database URL must be what its driver reads.

#![no_main]

use std::path::{Path, PathBuf};

use faroe_sidecar::{
    store::{Url, remote, sql},
    tls::ClientFiles,
};
use libfuzzer_sys::fuzz_target;
use oracle::planted;
use sqlx::{mysql::MySqlSslMode, postgres::PgSslMode};

/// Without any character that a URL writes in another way.
const PASSWORD: &str = "plantedpassword";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let text = planted(text, PASSWORD);
    match text.parse::<Url>() {
        Err(error) => {
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(!shown.is_empty());
                assert!(!shown.to_lowercase().contains(PASSWORD), "{shown}");
            }
        }
        Ok(Url::Remote(url)) => check_remote(&text, &url),
        Ok(Url::Sql(url)) => {
            assert_eq!(format!("{url:?}"), url.kind());
            match url {
                sql::Url::Sqlite(path) => check_sqlite(&text, &path),
                sql::Url::Postgres(options, files) => {
                    let driver = Driver::of(&text, &["postgres", "postgresql"]);
                    let mode = match driver.last(&["sslmode", "ssl-mode"]).as_deref() {
                        None => PgSslMode::Prefer,
                        Some(mode) => mode.parse().unwrap(),
                    };
                    let read = options.get_ssl_mode();
                    assert_eq!(format!("{read:?}"), format!("{mode:?}"));
                    let verifies = matches!(read, PgSslMode::VerifyCa | PgSslMode::VerifyFull);
                    assert!(files.ca.is_none() || verifies);
                    driver.check_files(&["sslrootcert"], &["sslcert"], &["sslkey"], &files);
                    assert!(options.get_database().is_some_and(|name| !name.is_empty()));
                }
                sql::Url::MySql(options, files) => {
                    let driver = Driver::of(&text, &["mysql"]);
                    let mode = match driver.last(&["sslmode", "ssl-mode"]).as_deref() {
                        None => MySqlSslMode::Preferred,
                        Some(mode) => mode.parse().unwrap(),
                    };
                    let read = options.get_ssl_mode();
                    assert_eq!(format!("{read:?}"), format!("{mode:?}"));
                    let verifies =
                        matches!(read, MySqlSslMode::VerifyCa | MySqlSslMode::VerifyIdentity);
                    assert!(files.ca.is_none() || verifies);
                    driver.check_files(
                        &["sslca", "ssl-ca"],
                        &["sslcert", "ssl-cert"],
                        &["sslkey", "ssl-key"],
                        &files,
                    );
                    assert!(options.get_database().is_some_and(|name| !name.is_empty()));
                }
            }
        }
    }
});

/// A database URL as the crate `url` reads it, which the drivers use.
struct Driver(url::Url);

impl Driver {
    fn of(text: &str, schemes: &[&str]) -> Self {
        let url = url::Url::parse(text).unwrap();
        assert!(schemes.contains(&url.scheme()));
        assert_eq!(url.fragment(), None, "the driver drops a part of the URL");
        Self(url)
    }

    fn last(&self, names: &[&str]) -> Option<String> {
        let pairs = self.0.query_pairs().filter(|(name, _)| names.contains(&&**name));
        pairs.last().map(|(_, value)| value.into_owned())
    }

    fn check_files(&self, ca: &[&str], certificate: &[&str], key: &[&str], files: &ClientFiles) {
        let identity = files.identity.as_ref();
        assert_eq!(self.last(ca).map(PathBuf::from), files.ca);
        assert_eq!(
            self.last(certificate).map(PathBuf::from),
            identity.map(|files| files.certificate.clone())
        );
        assert_eq!(self.last(key).map(PathBuf::from), identity.map(|files| files.key.clone()));
    }
}

/// SQLite takes some names for something else than a file on the disk.
fn check_sqlite(text: &str, path: &Path) {
    let name = path.to_str().unwrap();
    assert_eq!(format!("sqlite://{name}"), text);
    assert!(!name.is_empty() && name != ":memory:" && !name.starts_with("file:"));
}

/// What was read says the same when it is written down and read again.
fn check_remote(text: &str, url: &remote::Url) {
    match url {
        remote::Url::Unix(path) => {
            assert!(path.is_absolute());
            assert_eq!(format!("unix://{}", path.display()), text);
            assert!(!url.is_tls() && !url.is_exposed());
        }
        remote::Url::Tcp { host, port, tls } => {
            assert!(!text.contains('@'), "a gRPC store has no password");
            assert!(*port != 0 && !host.is_empty());
            assert_eq!(url.is_tls(), *tls);
            let scheme = if *tls { "grpcs" } else { "grpc" };
            let written = match host.contains(':') {
                true => format!("{scheme}://[{host}]:{port}"),
                false => format!("{scheme}://{host}:{port}"),
            };
            assert_eq!(written.parse::<remote::Url>().as_ref(), Ok(url), "{written}");
        }
    }
}
