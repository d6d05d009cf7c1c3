//! `dev`: everything on one machine.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;

use super::{
    Failure, block_on,
    options::{Log, address, default_admin_address},
    print_line,
    serve::ended,
    signals,
};
use crate::{
    action::DEFAULT_STORE_TIMEOUT,
    app::{App, Config, DEFAULT_DRAIN_TIMEOUT, Signal, StoreConfig, Telemetry},
    authz::AllowList,
    dev::{self, Files},
    endpoint, server, store,
    systemd::ServiceManager,
    tls::ClientFiles,
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Folder for the certificates and the SQLite file; what is there is kept
    #[arg(
        long,
        env = "FAROE_SIDECAR_DIR",
        value_name = "FOLDER",
        default_value = ".faroe-sidecar"
    )]
    dir: PathBuf,
    /// Address of the mutual-TLS listener
    #[arg(
        long,
        env = "FAROE_SIDECAR_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8443",
        value_parser = address
    )]
    listen: SocketAddr,
    /// Address of the admin listener, plain HTTP: /livez, /readyz, /metrics [default: 127.0.0.1:9090; in a
    /// pod 0.0.0.0:9090]
    #[arg(
        long,
        env = "FAROE_SIDECAR_ADMIN_LISTEN",
        value_name = "ADDRESS:PORT",
        value_parser = address
    )]
    admin_listen: Option<SocketAddr>,
    /// The store, as for serve [default: users.sqlite in the folder]
    #[arg(long, env = "FAROE_SIDECAR_STORE", value_name = "URL", hide_env_values = true)]
    store: Option<String>,
    #[command(flatten)]
    log: Log,
}

pub(super) fn run(options: Options) -> Result<ExitCode, Failure> {
    let telemetry = Telemetry {
        log: options.log.start(),
        traces: None,
        service_manager: ServiceManager::default(),
    };
    let files = Files::of(&options.dir);
    let url = match &options.store {
        Some(url) => url.parse().map_err(|error| {
            Failure::Usage(anyhow::Error::new::<store::InvalidUrl>(error).context("--store"))
        })?,
        None => store::Url::Sql(store::sql::Url::Sqlite(files.users.clone())),
    };
    let endpoint = endpoint::Config {
        path: "/".to_owned(),
        max_body: endpoint::DEFAULT_MAX_BODY,
        request_timeout: endpoint::DEFAULT_REQUEST_TIMEOUT,
        max_in_flight: endpoint::DEFAULT_MAX_IN_FLIGHT,
        allow: AllowList::new(vec![dev::CLIENT.parse().map_err(Failure::usage)?]),
    };
    let path = endpoint.path.clone();
    let config = Config {
        listen: options.listen,
        admin_listen: options.admin_listen.unwrap_or_else(default_admin_address),
        endpoint,
        server: server::Config::default(),
        tls: files.server_files(),
        store: StoreConfig {
            url,
            file: None,
            tls: ClientFiles::default(),
            timeout: DEFAULT_STORE_TIMEOUT,
            db_max_connections: None,
            migrate: true,
            insecure: false,
        },
        drain_delay: Duration::ZERO,
        drain_timeout: DEFAULT_DRAIN_TIMEOUT,
    };
    if options.store.is_some() {
        config.store.check().map_err(Failure::Usage)?;
    }
    let users = config.store.url.kind();
    let made = dev::prepare(&options.dir).map_err(Failure::Failed)?;
    block_on(async {
        let signals = signals(Signal::Stop).map_err(Failure::failed)?;
        let app = App::bind(config).await?;
        let address = app.endpoint_address().map_err(Failure::failed)?;
        print_line(&format!(
            "{} certificates in {}: for this machine, not for production. The users are in {users}.\n\n{}",
            if made { "New" } else { "Kept" },
            options.dir.display(),
            dev::curl_lines(&files, address, &path),
        ))?;
        ended(app.run(telemetry, signals).await.map_err(Failure::Failed)?)
    })
}
