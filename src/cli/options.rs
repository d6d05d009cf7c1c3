//! Options that more than one command takes, and how their values are read.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use bytesize::ByteSize;
use clap::Args;

use crate::{
    action::DEFAULT_STORE_TIMEOUT,
    otlp::Traces,
    store, telemetry,
    telemetry::{LogFormat, LogLevel},
};

/// The log.
#[derive(Debug, Args)]
pub(super) struct Log {
    /// How the log is written, to standard error [default: text on a terminal, else json]
    #[arg(long, env = "FAROE_SIDECAR_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// How much is logged
    #[arg(long, env = "FAROE_SIDECAR_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    log_level: LogLevel,
}

impl Log {
    pub(super) fn start(&self) -> telemetry::Log {
        self.start_with(None)
    }

    /// The same, with traces beside it.
    pub(super) fn start_with(&self, traces: Option<&Traces>) -> telemetry::Log {
        let format = self.log_format.unwrap_or_else(LogFormat::of_stderr);
        telemetry::Log::start(format, self.log_level, traces)
    }
}

/// Which store.
#[derive(Debug, Args)]
pub(super) struct StoreUrl {
    /// The store: sqlite://PATH, postgres://…, mysql://… (MariaDB too) are the bundled one;
    /// grpc://HOST:PORT, grpcs://HOST:PORT, unix:///PATH are a gRPC UserStore
    /// [default: sqlite://faroe-users.sqlite]
    #[arg(long, env = "FAROE_SIDECAR_STORE", value_name = "URL", hide_env_values = true)]
    pub(super) store: Option<String>,
    /// A file that holds the URL of the store; when it changes, new connections to the database use
    /// what it holds then
    #[arg(long, env = "FAROE_SIDECAR_STORE_FILE", value_name = "FILE", conflicts_with = "store")]
    pub(super) store_file: Option<PathBuf>,
}

/// The file of the bundled store where no other is named.
pub(super) const DEFAULT_STORE: &str = "sqlite://faroe-users.sqlite";

impl StoreUrl {
    /// The parsed URL. No error shows it.
    pub(super) fn resolve(&self) -> anyhow::Result<store::Url> {
        match (&self.store, &self.store_file) {
            (_, Some(file)) => {
                let url = fs::read_to_string(file)
                    .with_context(|| format!("--store-file: cannot read {}", file.display()))?;
                url.trim().parse().context("--store-file")
            }
            (store, None) => store.as_deref().unwrap_or(DEFAULT_STORE).parse().context("--store"),
        }
    }

    /// The parsed URL of a bundled store.
    pub(super) fn resolve_bundled(&self) -> anyhow::Result<store::sql::Url> {
        match self.resolve()? {
            store::Url::Sql(url) => Ok(url),
            store::Url::Remote(_) => Err(anyhow!(
                "--store: this command is for the bundled store: use sqlite://, postgres:// or mysql://"
            )),
        }
    }
}

/// Connections to the database.
#[derive(Debug, Args)]
pub(super) struct Database {
    /// Connections to the database at the most, 1 or more [default: 10 to a server; on SQLite 4 for
    /// reads beside 1 for writes]
    #[arg(
        long,
        env = "FAROE_SIDECAR_DB_MAX_CONNECTIONS",
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    pub(super) db_max_connections: Option<u32>,
}

impl Database {
    /// For commands that make single calls.
    pub(super) fn config(&self) -> store::sql::Config {
        store::sql::Config {
            max_connections: self.db_max_connections,
            store_timeout: DEFAULT_STORE_TIMEOUT,
        }
    }
}

/// A duration with its unit, such as `10s`; none is no duration.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("must be longer than 0".to_owned()),
        Ok(duration) if duration > Duration::from_secs(24 * 60 * 60) => {
            Err("must be at most one day".to_owned())
        }
        Ok(duration) => Ok(duration),
        Err(_) => Err("is no duration with a unit, such as 10s or 500ms".to_owned()),
    }
}

/// A duration that may be none at all.
pub(super) fn duration_or_none(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Ok(Duration::ZERO),
        _ => duration(text),
    }
}

/// A size in bytes, such as `64KiB`.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let wrong = || "is no size of 1 byte to 32MiB, such as 64KiB".to_owned();
    let size: ByteSize = text.parse().map_err(|_| wrong())?;
    match usize::try_from(size.as_u64()) {
        Ok(size) if (1..=32 << 20).contains(&size) => Ok(size),
        _ => Err(wrong()),
    }
}

/// The path of the endpoint.
pub(super) fn path(text: &str) -> Result<String, String> {
    match text.parse::<http::uri::PathAndQuery>() {
        Ok(path) if text.starts_with('/') && path.query().is_none() && path.path() == text => {
            Ok(text.to_owned())
        }
        _ => Err("is no path: it starts with / and has no ? or #".to_owned()),
    }
}

/// `ADDRESS:PORT`.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "is no ADDRESS:PORT, such as 127.0.0.1:8443 or [::1]:8443 (an address, not a name)"
            .to_owned()
    })
}

/// Where the admin listener is by default: in a pod the probes come from outside.
pub(super) fn default_admin_address() -> SocketAddr {
    let ip = match std::env::var_os("KUBERNETES_SERVICE_HOST") {
        Some(_) => Ipv4Addr::UNSPECIFIED,
        None => Ipv4Addr::LOCALHOST,
    };
    SocketAddr::new(ip.into(), 9090)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_units_and_ranges() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "10", "0s", "-1s", "2days", "x"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration_or_none("0s"), Ok(Duration::ZERO));
        assert_eq!(duration_or_none("1s"), Ok(Duration::from_secs(1)));
        assert!(duration_or_none("1").is_err());
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert_eq!(size("512"), Ok(512));
        for wrong in ["", "0", "33MiB", "x", "-1"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(path("/users/faroe"), Ok("/users/faroe".to_owned()));
        for wrong in ["", "users", "/a?b", "/a#b", "/a b", "*"] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }
}
