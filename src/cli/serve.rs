//! `serve`: the sidecar.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, anyhow};
use clap::{Args, builder::BoolishValueParser};

use super::{
    Failure, block_on,
    options::{
        Database, Log, StoreUrl, address, default_admin_address, duration, duration_or_none, path,
        size,
    },
    signals,
};
use crate::{
    app::{App, Config, Ended, Signal, StoreConfig, Telemetry},
    authz::{AllowList, AllowedClient},
    endpoint,
    otlp::{self, Traces},
    server, store,
    systemd::ServiceManager,
    tls::{ClientFiles, IdentityFiles, ServerFiles},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Address of the mutual-TLS listener
    #[arg(
        long,
        env = "FAROE_SIDECAR_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "0.0.0.0:8443",
        value_parser = address
    )]
    listen: SocketAddr,
    /// Path of the endpoint
    #[arg(long, env = "FAROE_SIDECAR_PATH", default_value = "/", value_parser = path)]
    path: String,
    /// Server certificate and what lies between it and its authority: PEM
    #[arg(long, env = "FAROE_SIDECAR_TLS_CERT", value_name = "FILE")]
    tls_cert: PathBuf,
    /// Key of the server certificate: PEM
    #[arg(long, env = "FAROE_SIDECAR_TLS_KEY", value_name = "FILE")]
    tls_key: PathBuf,
    /// Authorities that client certificates must chain to: PEM
    #[arg(long, env = "FAROE_SIDECAR_CLIENT_CA", value_name = "FILE")]
    client_ca: PathBuf,
    /// Revocation lists for client certificates: PEM. With them, a certificate of a chain that no
    /// list covers is refused, and so is one whose list is no longer in force
    #[arg(long, env = "FAROE_SIDECAR_CLIENT_CRL", value_name = "FILE")]
    client_crl: Option<PathBuf>,
    /// Who may call, once for each or separated by commas: dns:NAME, uri:URI, spki:sha256/BASE64
    /// with * for one whole label or path segment and ** for one or more; any for every certificate
    /// of the authorities
    #[arg(
        long,
        env = "FAROE_SIDECAR_ALLOW_CLIENT",
        value_name = "CLIENT",
        required = true,
        value_delimiter = ','
    )]
    allow_client: Vec<AllowedClient>,
    /// Address of the admin listener, plain HTTP: /livez, /readyz, /metrics; from loopback
    /// alone /drain, /log-level [default: 127.0.0.1:9090; in a
    /// pod 0.0.0.0:9090]
    #[arg(
        long,
        env = "FAROE_SIDECAR_ADMIN_LISTEN",
        value_name = "ADDRESS:PORT",
        value_parser = address
    )]
    admin_listen: Option<SocketAddr>,
    #[command(flatten)]
    store: StoreUrl,
    /// Time for a call of the store, all attempts together
    #[arg(
        long,
        env = "FAROE_SIDECAR_STORE_TIMEOUT",
        value_name = "DURATION",
        default_value = "5s",
        value_parser = duration
    )]
    store_timeout: Duration,
    /// Authorities that the certificate of a grpcs:// store must chain to: PEM [default: those of
    /// the system]
    #[arg(long, env = "FAROE_SIDECAR_STORE_CA", value_name = "FILE")]
    store_ca: Option<PathBuf>,
    /// Client certificate to show to a grpcs:// store: PEM
    #[arg(long, env = "FAROE_SIDECAR_STORE_CERT", value_name = "FILE", requires = "store_key")]
    store_cert: Option<PathBuf>,
    /// Key of that certificate: PEM
    #[arg(long, env = "FAROE_SIDECAR_STORE_KEY", value_name = "FILE", requires = "store_cert")]
    store_key: Option<PathBuf>,
    /// Allow a grpc:// store that is not on this host, without TLS
    #[arg(
        long,
        env = "FAROE_SIDECAR_INSECURE_STORE",
        value_parser = BoolishValueParser::new()
    )]
    insecure_store: bool,
    /// Bring the schema up at start on a database server (on SQLite it always is)
    #[arg(long, env = "FAROE_SIDECAR_MIGRATE", value_parser = BoolishValueParser::new())]
    migrate: bool,
    #[command(flatten)]
    database: Database,
    /// Largest request body
    #[arg(
        long,
        env = "FAROE_SIDECAR_MAX_BODY",
        value_name = "SIZE",
        default_value = "64KiB",
        value_parser = size
    )]
    max_body: usize,
    /// Time for the body of a request to arrive, from the end of its headers
    #[arg(
        long,
        env = "FAROE_SIDECAR_REQUEST_TIMEOUT",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = duration
    )]
    request_timeout: Duration,
    /// Connections at once; above it they are closed. Those that have not shown a certificate yet
    /// may be half of them, and the oldest of those makes room for the next
    #[arg(
        long,
        env = "FAROE_SIDECAR_MAX_CONNECTIONS",
        value_name = "NUMBER",
        default_value = "10000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    max_connections: u32,
    /// Requests that are received and resolved at once; above it they get 503
    #[arg(
        long,
        env = "FAROE_SIDECAR_MAX_IN_FLIGHT",
        value_name = "NUMBER",
        default_value = "1024",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    max_in_flight: u32,
    /// Streams of one HTTP/2 connection at once
    #[arg(
        long,
        env = "FAROE_SIDECAR_MAX_STREAMS",
        value_name = "NUMBER",
        default_value = "256",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    max_streams: u32,
    /// Requests of one connection, which is renewed then [default: any number]
    #[arg(
        long,
        env = "FAROE_SIDECAR_MAX_REQUESTS_PER_CONNECTION",
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    max_requests_per_connection: Option<u64>,
    /// Time for a TLS handshake
    #[arg(
        long,
        env = "FAROE_SIDECAR_HANDSHAKE_TIMEOUT",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = duration
    )]
    handshake_timeout: Duration,
    /// Time for the headers of an HTTP/1.1 request, from their first byte
    #[arg(
        long,
        env = "FAROE_SIDECAR_HEADER_TIMEOUT",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = duration
    )]
    header_timeout: Duration,
    /// Time that a connection may be without a request; longer than the client's own limit, so that
    /// the client closes first
    #[arg(
        long,
        env = "FAROE_SIDECAR_IDLE_TIMEOUT",
        value_name = "DURATION",
        default_value = "120s",
        value_parser = duration
    )]
    idle_timeout: Duration,
    /// Time that the listener still accepts and serves after the signal to stop, so that load
    /// balancers notice; part of --drain-timeout
    #[arg(
        long,
        env = "FAROE_SIDECAR_DRAIN_DELAY",
        value_name = "DURATION",
        default_value = "0s",
        value_parser = duration_or_none
    )]
    drain_delay: Duration,
    /// Time for the requests in hand to finish, from the signal to stop
    #[arg(
        long,
        env = "FAROE_SIDECAR_DRAIN_TIMEOUT",
        value_name = "DURATION",
        default_value = "25s",
        value_parser = duration
    )]
    drain_timeout: Duration,
    /// Collector that OpenTelemetry traces are sent to by OTLP over gRPC: http://HOST:PORT, or
    /// https://HOST:PORT with an authority of the system's. The OTEL_ variables for the service's
    /// name, resource attributes, sampling, batches and headers are heeded [default: no traces]
    #[arg(long, env = "FAROE_SIDECAR_OTLP_ENDPOINT", value_name = "URL", hide_env_values = true)]
    otlp_endpoint: Option<otlp::Url>,
    #[command(flatten)]
    pub(super) log: Log,
}

impl Options {
    /// Starts the log, and the traces if they are wanted.
    fn telemetry(&self) -> anyhow::Result<Telemetry> {
        let traces = self.otlp_endpoint.as_ref().map(Traces::start).transpose();
        let traces = traces.context("--otlp-endpoint")?;
        let log = self.log.start_with(traces.as_ref());
        Ok(Telemetry { log, traces, service_manager: ServiceManager::of_environment() })
    }

    /// The configuration that these options describe.
    pub(super) fn resolve(self) -> anyhow::Result<Config> {
        if let Some(url) = &self.otlp_endpoint {
            url.check().context("--otlp-endpoint")?;
        }
        let url = self.store.resolve()?;
        let store_identity = match (self.store_cert, self.store_key) {
            (Some(certificate), Some(key)) => Some(IdentityFiles { certificate, key }),
            _ => None,
        };
        if matches!(&url, store::Url::Remote(_))
            && (self.migrate || self.database.db_max_connections.is_some())
        {
            return Err(anyhow!(
                "--migrate and --db-max-connections are for the bundled store: a gRPC store has a database of its own"
            ));
        }
        let uses_tls = matches!(&url, store::Url::Remote(remote) if remote.is_tls());
        if !uses_tls && (self.store_ca.is_some() || store_identity.is_some()) {
            return Err(anyhow!(
                "--store-ca, --store-cert and --store-key are for a grpcs:// store; a database takes its TLS from the parameters of its URL"
            ));
        }
        Ok(Config {
            listen: self.listen,
            admin_listen: self.admin_listen.unwrap_or_else(default_admin_address),
            endpoint: endpoint::Config {
                path: self.path,
                max_body: self.max_body,
                request_timeout: self.request_timeout,
                max_in_flight: count(self.max_in_flight),
                allow: AllowList::new(self.allow_client),
            },
            server: server::Config {
                max_connections: count(self.max_connections),
                handshake_timeout: self.handshake_timeout,
                header_timeout: self.header_timeout,
                idle_timeout: self.idle_timeout,
                max_streams: self.max_streams,
                max_requests_per_connection: self.max_requests_per_connection,
            },
            tls: ServerFiles {
                identity: IdentityFiles { certificate: self.tls_cert, key: self.tls_key },
                client_ca: self.client_ca,
                client_crl: self.client_crl,
            },
            store: StoreConfig {
                url,
                file: self.store.store_file,
                tls: ClientFiles { ca: self.store_ca, identity: store_identity },
                timeout: self.store_timeout,
                db_max_connections: self.database.db_max_connections,
                migrate: self.migrate,
                insecure: self.insecure_store,
            },
            drain_delay: self.drain_delay,
            drain_timeout: self.drain_timeout,
        })
    }
}

/// A number as the program counts.
fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

pub(super) fn run(options: Options) -> Result<ExitCode, Failure> {
    block_on(async {
        let telemetry = options.telemetry().map_err(Failure::Usage)?;
        let config = options.resolve().map_err(Failure::Usage)?;
        let signals = signals(Signal::Reload).map_err(Failure::failed)?;
        let app = App::bind(config).await?;
        ended(app.run(telemetry, signals).await.map_err(Failure::Failed)?)
    })
}

/// How the process ends after a sidecar did.
pub(super) fn ended(ended: Ended) -> Result<ExitCode, Failure> {
    Ok(match ended {
        Ended::Drained => ExitCode::SUCCESS,
        Ended::Cut => ExitCode::FAILURE,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        action::DEFAULT_STORE_TIMEOUT,
        app::DEFAULT_DRAIN_TIMEOUT,
        endpoint::{DEFAULT_MAX_BODY, DEFAULT_MAX_IN_FLIGHT, DEFAULT_REQUEST_TIMEOUT},
    };

    #[derive(Debug, clap::Parser)]
    struct Serve {
        #[command(flatten)]
        options: Options,
    }

    /// `dev` and the library take them from there.
    #[test]
    fn the_defaults_are_those_of_the_components() {
        let serve = Serve::parse_from([
            "serve",
            "--tls-cert",
            "c",
            "--tls-key",
            "k",
            "--client-ca",
            "a",
            "--allow-client",
            "any",
        ]);
        let config = serve.options.resolve().unwrap();
        assert_eq!(config.endpoint.max_body, DEFAULT_MAX_BODY);
        assert_eq!(config.endpoint.max_in_flight, DEFAULT_MAX_IN_FLIGHT);
        assert_eq!(config.endpoint.request_timeout, DEFAULT_REQUEST_TIMEOUT);
        assert_eq!(config.store.timeout, DEFAULT_STORE_TIMEOUT);
        assert_eq!(config.drain_timeout, DEFAULT_DRAIN_TIMEOUT);
        assert_eq!(config.server, server::Config::default());
    }
}
