//! `store`: the bundled store, served over gRPC.

use std::{path::PathBuf, process::ExitCode};

use anyhow::anyhow;
use clap::{Args, builder::BoolishValueParser};
use tokio_stream::StreamExt as _;

use super::{
    Failure, block_on,
    options::{Database, Log, StoreUrl},
    signals,
};
use crate::{
    action::DEFAULT_STORE_TIMEOUT,
    app::{DEFAULT_DRAIN_TIMEOUT, Signal},
    served::{self, Bound, Listen},
    store::sql::{SqlStore, Url},
    tls::{IdentityFiles, ServerFiles},
    watch::log_migrations,
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where to listen: unix:///PATH or tcp://ADDRESS:PORT. Clients of a Unix socket have to send the
    /// authority localhost, which some do only if told so
    #[arg(long, env = "FAROE_SIDECAR_LISTEN", value_name = "URL")]
    listen: Listen,
    #[command(flatten)]
    store: StoreUrl,
    /// Server certificate and what lies between it and its authority: PEM; only for tcp://
    #[arg(
        long,
        env = "FAROE_SIDECAR_TLS_CERT",
        value_name = "FILE",
        requires_all = ["tls_key", "client_ca"]
    )]
    tls_cert: Option<PathBuf>,
    /// Key of the server certificate: PEM
    #[arg(long, env = "FAROE_SIDECAR_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Authorities that client certificates must chain to, PEM: every certificate of theirs may call
    #[arg(long, env = "FAROE_SIDECAR_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    client_ca: Option<PathBuf>,
    /// Allow an address that is not loopback without TLS
    #[arg(
        long,
        env = "FAROE_SIDECAR_INSECURE_STORE",
        value_parser = BoolishValueParser::new()
    )]
    insecure_store: bool,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    log: Log,
}

impl Options {
    fn tls_files(&self) -> Option<ServerFiles> {
        Some(ServerFiles {
            identity: IdentityFiles {
                certificate: self.tls_cert.clone()?,
                key: self.tls_key.clone()?,
            },
            client_ca: self.client_ca.clone()?,
            client_crl: None,
        })
    }

    fn check(&self) -> anyhow::Result<()> {
        let tls = self.tls_cert.is_some();
        if tls && matches!(self.listen, Listen::Unix(_)) {
            return Err(anyhow!("--tls-cert is for --listen tcp://: a Unix socket needs no TLS"));
        }
        if self.listen.is_exposed() && !tls && !self.insecure_store {
            return Err(anyhow!(
                "--listen: anyone could read and change users there without TLS: give --tls-cert, --tls-key and --client-ca, or allow it with --insecure-store"
            ));
        }
        Ok(())
    }
}

pub(super) fn run(options: Options) -> Result<ExitCode, Failure> {
    options.log.start();
    options.check().map_err(Failure::Usage)?;
    let url = options.store.resolve_bundled().map_err(Failure::Usage)?;
    url.check_files().map_err(Failure::usage)?;
    let tls = options
        .tls_files()
        .map(|files| served::tls_config(&files))
        .transpose()
        .map_err(Failure::usage)?;
    block_on(async {
        let mut signals = signals(Signal::Stop).map_err(Failure::failed)?;
        let shutdown = async move {
            signals.next().await;
        };
        let bound = Bound::bind(&options.listen).await.map_err(Failure::Failed)?;
        let store = SqlStore::open(&url, &options.database.config()).map_err(Failure::failed)?;
        if let Url::Sqlite(_) = url {
            log_migrations(&store.migrate_up().await.map_err(Failure::failed)?);
        }
        if let Some(file) = options.store.store_file {
            tokio::spawn(store.clone().follow_url_file(file));
        }
        let drained = served::serve(store.clone(), bound, tls, DEFAULT_DRAIN_TIMEOUT, shutdown)
            .await
            .map_err(Failure::Failed)?;
        store.close(DEFAULT_STORE_TIMEOUT).await;
        Ok(if drained { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}
