//! The sidecar put together: from a configuration to bound listeners, to serving, to the end.

mod end;
mod parts;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    net::TcpListener,
    sync::watch::{self, Receiver},
};
use tokio_stream::{Stream, StreamExt as _};
use tracing::{error, info, warn};

use self::{end::End, parts::Parts};
use crate::{
    action::ActionServer,
    admin::Admin,
    descriptors,
    drain::Drain,
    endpoint::{self, Endpoint},
    metrics::Metrics,
    otlp::Traces,
    readiness::Readiness,
    server::{self, Server},
    store::{self, Store},
    systemd::{Reloads, ServiceManager},
    telemetry::Log,
    tls::{self, ClientMaterial, Reloading, ServerMaterial},
    watch::{log_migrations, store as watch_store, terms as watch_terms},
};

/// How long requests in hand may take to finish by default; below Kubernetes' 30 s.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// Connections to the admin listener: a few probes and whoever collects metrics.
const ADMIN_CONNECTIONS: usize = 32;

/// How long one of them may be silent: it would keep the probes out.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that `serve` needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address of the endpoint.
    pub listen: SocketAddr,
    /// The address of the admin listener.
    pub admin_listen: SocketAddr,
    /// The rules of the endpoint.
    pub endpoint: endpoint::Config,
    /// The time limits of connections.
    pub server: server::Config,
    /// The material of the endpoint.
    pub tls: tls::ServerFiles,
    /// Which store, and how it is reached.
    pub store: StoreConfig,
    /// How long connections are still accepted when the end is near.
    pub drain_delay: Duration,
    /// From the signal to the end of the last request.
    pub drain_timeout: Duration,
}

/// Which store, and how it is reached.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Where it is.
    pub url: store::Url,
    /// The file that the URL was read from, if it was.
    pub file: Option<PathBuf>,
    /// The material towards a gRPC store.
    pub tls: tls::ClientFiles,
    /// How long a call may take, all attempts together.
    pub timeout: Duration,
    /// Connections to the database at the most.
    pub db_max_connections: Option<u32>,
    /// Whether to bring up the schema of a database server at start.
    pub migrate: bool,
    /// Whether plain text may leave this host on the way to a gRPC store.
    pub insecure: bool,
}

impl StoreConfig {
    /// Looks at everything that can be looked at without opening the store.
    ///
    /// # Errors
    ///
    /// In words, what is wrong.
    pub fn check(&self) -> anyhow::Result<()> {
        match &self.url {
            store::Url::Sql(url) => url.check_files().context("--store")?,
            store::Url::Remote(url) if url.is_exposed() && !self.insecure => bail!(
                "--store: grpc:// to another host sends password hashes in plain text: use \
                 grpcs://, or allow it with the --insecure-store of serve"
            ),
            store::Url::Remote(url) if url.is_tls() => {
                tls::client_config(&self.tls)?;
            }
            store::Url::Remote(_) => {}
        }
        Ok(())
    }

    /// Opens the store: creates an SQLite file that is missing and brings its schema up; anything
    /// else connects in the background. The TLS material towards it comes from `tls`.
    ///
    /// # Errors
    ///
    /// If the SQLite file cannot be used.
    async fn open(&self, tls: Option<Receiver<Arc<ClientMaterial>>>) -> anyhow::Result<Store> {
        match &self.url {
            store::Url::Sql(url) => {
                let config = store::sql::Config {
                    max_connections: self.db_max_connections,
                    store_timeout: self.timeout,
                };
                let store =
                    store::sql::SqlStore::open(url, &config).with_context(|| match url {
                        store::sql::Url::Sqlite(path) => {
                            format!("--store: cannot open the SQLite file {}", path.display())
                        }
                        _ => "--store".to_owned(),
                    })?;
                if let store::sql::Url::Sqlite(path) = url {
                    let applied = store.migrate_up().await.with_context(|| {
                        format!("cannot use {} as an SQLite database", path.display())
                    })?;
                    log_migrations(&applied);
                }
                Ok(Store::Sql(store))
            }
            store::Url::Remote(url) => {
                let config =
                    store::remote::Config { url: url.clone(), tls, store_timeout: self.timeout };
                Ok(Store::Remote(store::remote::RemoteStore::start(config)?))
            }
        }
    }

    /// The TLS material towards the store, if it needs any.
    fn material(&self) -> Result<Option<Reloading<ClientMaterial>>, tls::TlsError> {
        match &self.url {
            store::Url::Remote(url) if url.is_tls() => Reloading::load(self.tls.clone()).map(Some),
            _ => Ok(None),
        }
    }
}

/// What a sidecar tells, apart from its metrics.
#[derive(Debug)]
pub struct Telemetry {
    /// The log.
    pub log: Log,
    /// The traces, if they are sent anywhere.
    pub traces: Option<Traces>,
    /// What the service manager is told, if there is one.
    pub service_manager: ServiceManager,
}

/// What may be asked of a running sidecar from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// To stop; the second time, at once.
    Stop,
    /// To read the TLS files again.
    Reload,
}

/// A sidecar whose addresses are bound.
#[derive(Debug)]
pub struct App {
    config: Config,
    tls: Reloading<ServerMaterial>,
    endpoint: TcpListener,
    admin: TcpListener,
}

/// Why a sidecar does not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration is wrong; nothing was bound or created.
    Configuration(anyhow::Error),
    /// It is right, and starting failed.
    Failed(anyhow::Error),
}

/// How a sidecar ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every request in hand was finished.
    Drained,
    /// Some were cut off when the time was over.
    Cut,
}

impl Config {
    /// Reads and checks everything as [`App::bind`] would, and opens nothing.
    ///
    /// # Errors
    ///
    /// In words, what is wrong.
    pub fn check(&self) -> anyhow::Result<Reloading<ServerMaterial>> {
        let tls = Reloading::load(self.tls.clone())
            .context("--tls-cert, --tls-key, --client-ca, --client-crl")?;
        self.store.check()?;
        if self.drain_delay >= self.drain_timeout {
            bail!("--drain-delay is part of --drain-timeout, and has to be shorter");
        }
        if self.listen.port() != 0 && self.listen == self.admin_listen {
            bail!("--listen and --admin-listen name the same address: {}", self.listen);
        }
        Ok(tls)
    }
}

impl App {
    /// Loads the material and binds both addresses. Port 0 is one that is free.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let tls = config.check().map_err(StartError::Configuration)?;
        let endpoint = listen(config.listen, "--listen").await.map_err(StartError::Failed)?;
        let admin =
            listen(config.admin_listen, "--admin-listen").await.map_err(StartError::Failed)?;
        Ok(Self { config, tls, endpoint, admin })
    }

    /// The address of the endpoint.
    ///
    /// # Errors
    ///
    /// If the operating system does not say.
    pub fn endpoint_address(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// The address of the admin listener.
    ///
    /// # Errors
    ///
    /// If the operating system does not say.
    pub fn admin_address(&self) -> std::io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Serves until a signal to stop comes, then lets the requests in hand finish.
    ///
    /// # Errors
    ///
    /// If the store cannot be opened.
    pub async fn run(
        self,
        telemetry: Telemetry,
        mut signals: impl Stream<Item = Signal> + Unpin,
    ) -> anyhow::Result<Ended> {
        let Self { config, tls, endpoint, admin } = self;
        let endpoint_address = endpoint.local_addr()?;
        let admin_address = admin.local_addr()?;
        let metrics = Arc::new(Metrics::new()?);
        let readiness = Readiness::default();
        let (reload, reloads) = watch::channel(0);
        let mut parts = Parts::default();

        let mut finished = vec![tls.finished()];
        let callers = tls.subscribe();
        let condition = Some(readiness.condition("certificates"));
        parts.spawn("terms", watch_terms(callers.clone(), condition, Arc::clone(&metrics)));
        parts.spawn("reloads", tls.follow(reloads.clone(), Arc::clone(&metrics)));
        let mut stopped = async || {
            while let Some(signal) = signals.next().await {
                match signal {
                    Signal::Stop => return,
                    Signal::Reload => reload.send_modify(|requests| *requests += 1),
                }
            }
            // Nobody is left to ask for anything.
            std::future::pending().await
        };

        let store_condition = readiness.condition("store");
        let accepting = readiness.condition("listener");
        let drain = Drain::default();
        // Probes are answered from the first to the last: the admin listener is no part of the drain.
        let admin_drain = Drain::default();
        let server = Server {
            tls: None,
            service: Admin {
                readiness: readiness.clone(),
                metrics: Arc::clone(&metrics),
                drain: drain.clone(),
                log: telemetry.log,
            },
            config: server::Config {
                max_connections: ADMIN_CONNECTIONS,
                header_timeout: ADMIN_TIMEOUT,
                idle_timeout: ADMIN_TIMEOUT,
                ..server::Config::default()
            },
            metrics: None,
            accepting: None,
            drain: admin_drain.clone(),
        };
        let mut probes = Parts::default();
        probes.spawn("admin listener", admin_drain.track(server.serve(admin)));

        let store_tls = config.store.material()?;
        // An SQLite file that somebody has locked is waited for.
        let store = tokio::select! {
            store = config.store.open(store_tls.as_ref().map(Reloading::subscribe)) => store?,
            () = stopped() => {
                info!("stopped before the store was open");
                return Ok(Ended::Drained);
            }
        };
        if let Some(store_tls) = store_tls {
            finished.push(store_tls.finished());
            let terms = watch_terms(store_tls.subscribe(), None, Arc::clone(&metrics));
            parts.spawn("store terms", terms);
            parts.spawn("store reloads", store_tls.follow(reloads.clone(), Arc::clone(&metrics)));
        }
        let migrate = config.store.migrate;
        let watched = watch_store(store.clone(), migrate, store_condition, Arc::clone(&metrics));
        parts.spawn("store", watched);
        if let (Store::Sql(sql), Some(file)) = (&store, &config.store.file) {
            parts.spawn("store file", sql.clone().follow_url_file(file.clone()));
        }

        let actions = ActionServer::new(store.user_store())
            .with_store_timeout(config.store.timeout)
            .with_store_spans(store::Spans::of(&config.store.url));
        let max_connections = descriptors::connections_that_fit(
            config.server.max_connections,
            config.store.db_max_connections.unwrap_or_default(),
        );
        let server = Server {
            tls: Some(callers),
            service: Endpoint::new(
                config.endpoint,
                actions.clone(),
                Arc::clone(&metrics),
                drain.clone(),
            ),
            config: server::Config { max_connections, ..config.server },
            metrics: Some(metrics),
            accepting: Some(accepting),
            drain: drain.clone(),
        };
        parts.spawn("listener", drain.track(server.serve(endpoint)));
        info!(endpoint = %endpoint_address, admin = %admin_address, "listening");
        let service_manager = telemetry.service_manager;
        let reloads = Reloads { requests: reloads, finished };
        probes.spawn(
            "service manager",
            service_manager.clone().follow(reloads, readiness, drain.clone()),
        );

        let failed = tokio::select! {
            () = stopped() => None,
            part = parts.ended() => Some(part),
            part = probes.ended() => Some(part),
        };
        if let Some(part) = failed {
            error!(part, "a part of the sidecar has ended by itself: stopping");
        }
        service_manager.stopping();
        let end = End {
            delay: config.drain_delay,
            timeout: config.drain_timeout,
            parts,
            drain,
            actions,
            store,
            traces: telemetry.traces,
        };
        let drained = end.come(stopped).await;
        admin_drain.finish_within(Duration::ZERO).await;
        if let Some(part) = failed {
            bail!("a part of the sidecar has ended by itself: {part}");
        }
        if drained {
            info!("stopped");
            Ok(Ended::Drained)
        } else {
            warn!(
                "stopped at --drain-timeout or at a second signal: requests that were still in hand were cut off"
            );
            Ok(Ended::Cut)
        }
    }
}

async fn listen(address: SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{option}: cannot listen on {address}"))
}
