//! The sidecar put together: from a configuration to bound listeners, to serving, to the end.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tracing::{info, warn};

use crate::{
    action::ActionServer,
    admin::Admin,
    drain::Drain,
    endpoint::{self, Endpoint},
    readiness::{Condition, Readiness},
    server,
    store::{self, Store},
    tls,
};

/// How long requests in hand may take to finish by default; below Kubernetes' 30 s.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// How often the store is looked at.
const STORE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

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
    /// else connects in the background.
    ///
    /// # Errors
    ///
    /// If the SQLite file cannot be used.
    pub async fn open(&self) -> anyhow::Result<Store> {
        match &self.url {
            store::Url::Sql(url) => {
                let config = store::sql::Config {
                    max_connections: self.db_max_connections,
                    store_timeout: self.timeout,
                };
                let store = store::sql::SqlStore::open(url, &config)
                    .context("cannot create the SQLite file")?;
                if let store::sql::Url::Sqlite(path) = url {
                    let applied = store.migrate_up().await.with_context(|| {
                        format!("cannot use {} as an SQLite database", path.display())
                    })?;
                    log_migrations(&applied);
                }
                Ok(Store::Sql(store))
            }
            store::Url::Remote(url) => {
                let tls = match url.is_tls() {
                    true => Some(Arc::new(tls::client_config(&self.tls)?)),
                    false => None,
                };
                let config =
                    store::remote::Config { url: url.clone(), tls, store_timeout: self.timeout };
                Ok(Store::Remote(Box::new(store::remote::RemoteStore::start(config)?)))
            }
        }
    }
}

/// A sidecar whose addresses are bound.
#[derive(Debug)]
pub struct App {
    config: Config,
    tls: rustls::ServerConfig,
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
    pub fn check(&self) -> anyhow::Result<rustls::ServerConfig> {
        let tls = tls::server_config(&self.tls).context("--tls-cert, --tls-key, --client-ca")?;
        self.store.check()?;
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

    /// Serves until `shutdown` resolves, then lets the requests in hand finish.
    ///
    /// # Errors
    ///
    /// If the store cannot be opened.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<Ended> {
        let Self { config, tls, endpoint, admin } = self;
        let endpoint_address = endpoint.local_addr()?;
        let admin_address = admin.local_addr()?;
        warn_of_expiry(&config.tls.identity.certificate);
        let store = config.store.open().await?;

        let readiness = Readiness::default();
        let condition = readiness.condition("store");
        // Dropped, and so ended, with this function.
        let mut watches = JoinSet::new();
        watches.spawn(watch_store(store.clone(), config.store.clone(), condition));
        if let (Store::Sql(sql), Some(file)) = (&store, &config.store.file) {
            watches.spawn(sql.clone().follow_url_file(file.clone()));
        }

        let actions =
            ActionServer::new(store.user_store()).with_store_timeout(config.store.timeout);
        let drain = Drain::default();
        let service = Endpoint::new(config.endpoint, actions.clone(), drain.clone());
        drain.spawn(server::serve(
            endpoint,
            Some(Arc::new(tls)),
            service,
            config.server,
            drain.clone(),
        ));
        // Probes are answered to the last: the admin listener is no part of the drain.
        let admin_drain = Drain::default();
        let probes = Admin::new(readiness.clone());
        admin_drain.spawn(server::serve(admin, None, probes, config.server, admin_drain.clone()));
        info!(endpoint = %endpoint_address, admin = %admin_address, "listening");

        shutdown.await;

        info!(
            timeout = %humantime::format_duration(config.drain_timeout),
            "draining: no more connections, and the requests in hand are finished"
        );
        watches.abort_all();
        readiness.condition("drain").lacks("the sidecar is stopping");
        let deadline = Instant::now() + config.drain_timeout;
        let drained = drain.run(config.drain_timeout).await
            // Writes whose callers have gone.
            && timeout_at(deadline, actions.finish()).await.is_ok();
        if let Store::Sql(store) = &store {
            store.close(deadline.saturating_duration_since(Instant::now())).await;
        }
        admin_drain.run(Duration::ZERO).await;
        if drained {
            info!("stopped");
            Ok(Ended::Drained)
        } else {
            warn!("stopped; requests that took longer than --drain-timeout were cut off");
            Ok(Ended::Cut)
        }
    }
}

async fn listen(address: SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{option}: cannot listen on {address}"))
}

/// Says which migrations were applied.
pub(crate) fn log_migrations(applied: &[String]) {
    for migration in applied {
        info!(migration, "the schema was brought up");
    }
}

fn warn_of_expiry(certificate: &Path) {
    let now = std::time::SystemTime::now();
    if tls::validity(certificate).is_ok_and(|validity| !validity.contains(now)) {
        warn!(file = %certificate.display(), "the server certificate is not valid now; callers will refuse it");
    }
}

/// Brings the schema up, if that was asked for, and keeps the store's condition up to date.
async fn watch_store(store: Store, config: StoreConfig, condition: Condition) {
    let mut migrate = config.migrate;
    loop {
        let mut migrated = Ok(());
        if let Store::Sql(sql) = &store
            && migrate
        {
            migrated = match sql.migrate_up().await {
                Ok(applied) => {
                    migrate = false;
                    log_migrations(&applied);
                    Ok(())
                }
                Err(error) => Err(format!("the schema cannot be brought up: {error}")),
            };
        }
        let checked = match migrated {
            Ok(()) => store.check().await,
            Err(reason) => Err(reason),
        };
        match checked {
            Ok(()) if condition.is_met() => info!("the store is ready"),
            Ok(()) => {}
            Err(reason) => {
                if condition.lacks(&*reason) {
                    warn!(reason, "the store is not ready");
                }
            }
        }
        tokio::time::sleep(STORE_CHECK_INTERVAL).await;
    }
}
