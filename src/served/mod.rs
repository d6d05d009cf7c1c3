//! `faroe-sidecar store`: the bundled store as a gRPC `UserStore`, with health and reflection.

mod incoming;
mod listen;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use rustls::{
    ServerConfig,
    server::{NoServerSessionStorage, ProducesTickets},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{server::NamedService as _, transport::Server};
use tonic_health::server::HealthReporter;
use tracing::{info, warn};

pub use self::listen::{Bound, InvalidListen, Listen, SocketFile};
use crate::{
    proto::{FILE_DESCRIPTOR_SET, user_store_server::UserStoreServer},
    store::{MAX_MESSAGE, sql::SqlStore},
    tls,
};

/// How long a connection lives before its client has to make a new one.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(60 * 60);

/// How many calls that were given up may be unread on one connection. A sidecar gives many up at
/// once when its callers have lost their patience; the default of 20 would take that for an attack,
/// and end the calls of all others on the connection.
const MAX_GIVEN_UP: usize = 10_000;

/// The TLS of the listener: every client has to show a certificate of the authority, each time; no
/// session is resumed, because a resumed one does not look at the certificate again.
///
/// # Errors
///
/// If a file cannot be read or used.
pub fn tls_config(files: &tls::ServerFiles) -> Result<ServerConfig, tls::TlsError> {
    let mut config = tls::server_config(files)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.ticketer = Arc::new(NoTickets);
    Ok(config)
}

/// Makes no session tickets, and takes none.
#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// Serves until `shutdown` resolves; calls in hand are finished then, and what takes longer than
/// `drain_timeout` is cut. Whether everything finished by itself.
///
/// # Errors
///
/// If the server cannot be set up or fails.
pub async fn serve(
    store: SqlStore,
    bound: Bound,
    tls: Option<ServerConfig>,
    drain_timeout: Duration,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<bool> {
    let (mut reporter, health) = tonic_health::server::health_reporter();
    reporter.set_not_serving::<UserStoreServer<SqlStore>>().await;
    let mut watch = JoinSet::new();
    watch.spawn(watch_health(store.clone(), reporter.clone()));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("reflection")?;
    let service = UserStoreServer::new(store)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let router = Server::builder()
        // A client that has gone without a word is found out, and one whose certificate has ended
        // has to show another one.
        .http2_keepalive_interval(Some(Duration::from_secs(60)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .max_connection_age(MAX_CONNECTION_AGE)
        .http2_max_pending_accept_reset_streams(Some(MAX_GIVEN_UP))
        .add_service(service)
        .add_service(health)
        .add_service(reflection);

    info!(store = %bound, "listening");
    let stopping = CancellationToken::new();
    let connections = incoming::accept(bound, tls, stopping.clone());
    let stopped = stopping.clone().cancelled_owned();
    let mut serving = std::pin::pin!(router.serve_with_incoming_shutdown(connections, stopped));
    tokio::select! {
        ended = &mut serving => return Ok(ended.map(|()| true)?),
        () = shutdown => {}
    }
    info!("draining: no more connections, and the calls in hand are finished");
    stopping.cancel();
    // Whoever watches the health would keep its connection open for ever. The empty name is that of
    // the whole server.
    watch.shutdown().await;
    reporter.clear_service_status(UserStoreServer::<SqlStore>::NAME).await;
    reporter.clear_service_status("").await;
    match tokio::time::timeout(drain_timeout, serving).await {
        Ok(ended) => {
            ended?;
            info!("stopped");
            Ok(true)
        }
        Err(_) => {
            warn!("stopped; calls that took too long were cut off");
            Ok(false)
        }
    }
}

async fn watch_health(store: SqlStore, reporter: HealthReporter) {
    let mut before = None;
    loop {
        let state = store.check().await;
        if before.as_ref() != Some(&state) {
            match &state {
                Ok(()) => {
                    info!("the store is ready");
                    reporter.set_serving::<UserStoreServer<SqlStore>>().await;
                }
                Err(reason) => {
                    warn!(reason, "the store is not ready");
                    reporter.set_not_serving::<UserStoreServer<SqlStore>>().await;
                }
            }
            before = Some(state);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
