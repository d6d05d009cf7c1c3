//! `faroe-sidecar store`: the bundled store as a gRPC `UserStore`, with health and reflection.

use std::{
    fmt, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    pin::Pin,
    str::FromStr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Context as _;
use rustls::{
    ServerConfig,
    server::{NoServerSessionStorage, ProducesTickets},
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, UnixListener, UnixStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{
    server::NamedService as _,
    transport::{Server, server::Connected},
};
use tonic_health::server::HealthReporter;
use tracing::{info, warn};

use crate::{
    proto::{FILE_DESCRIPTOR_SET, user_store_server::UserStoreServer},
    store::{MAX_MESSAGE, sql::SqlStore},
    stream::Duplex,
    tls,
};

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection lives before its client has to make a new one.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(60 * 60);

/// How many calls that were given up may be unread on one connection. A sidecar gives many up at
/// once when its callers have lost their patience; the default of 20 would take that for an attack,
/// and end the calls of all others on the connection.
const MAX_GIVEN_UP: usize = 10_000;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `tcp://HOST:PORT`.
    Tcp(SocketAddr),
    /// `unix:///PATH`.
    Unix(PathBuf),
}

/// A value of `--listen` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("write unix:///PATH or tcp://ADDRESS:PORT")]
pub struct InvalidListen;

impl FromStr for Listen {
    type Err = InvalidListen;

    fn from_str(url: &str) -> Result<Self, InvalidListen> {
        if let Some(path) = url.strip_prefix("unix://") {
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.into())),
                false => Err(InvalidListen),
            };
        }
        let address = url.strip_prefix("tcp://").ok_or(InvalidListen)?;
        let address = address
            .strip_prefix("localhost:")
            .map_or_else(|| address.to_owned(), |port| format!("127.0.0.1:{port}"));
        address.parse().map(Self::Tcp).map_err(|_| InvalidListen)
    }
}

impl Listen {
    /// Whether strangers could reach it.
    pub fn is_exposed(&self) -> bool {
        match self {
            Self::Tcp(address) => !address.ip().is_loopback(),
            Self::Unix(_) => false,
        }
    }
}

/// A bound listener.
#[derive(Debug)]
pub enum Bound {
    /// On TCP.
    Tcp(TcpListener),
    /// On a Unix socket; the file goes with the value.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket, removed when the listener ends; one that another process has put in
/// its place meanwhile stays.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: Option<(u64, u64)>,
}

impl SocketFile {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), inode: inode(path) }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.inode.is_some() && inode(&self.path) == self.inode {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Bound {
    /// Binds. A socket file that nobody listens on is replaced.
    ///
    /// # Errors
    ///
    /// If the address is in use or may not be bound.
    pub async fn bind(listen: &Listen) -> anyhow::Result<Self> {
        match listen {
            Listen::Tcp(address) => TcpListener::bind(address)
                .await
                .map(Self::Tcp)
                .with_context(|| format!("cannot listen on {address}")),
            Listen::Unix(path) => remove_abandoned(path)
                .await
                .and_then(|()| UnixListener::bind(path))
                .map(|listener| Self::Unix(listener, SocketFile::new(path)))
                .with_context(|| format!("cannot listen on {}", path.display())),
        }
    }
}

impl Bound {
    async fn accept(&self) -> io::Result<Box<dyn Duplex>> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Self::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "tcp://{address}"),
                Err(_) => f.write_str("tcp://"),
            },
            Self::Unix(_, file) => write!(f, "unix://{}", file.path.display()),
        }
    }
}

/// Removes a socket file whose listener has gone; leaves anything else alone.
async fn remove_abandoned(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(io::Error::other("the path is taken by something else than a socket")),
        Err(_) => return Ok(()),
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Ok(_) => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on this socket"))
        }
        Err(error) => Err(error),
    }
}

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
    let connections = accept(bound, tls, stopping.clone());
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

/// Accepts connections until `stopping`. Each handshake is done in a task of its own, so that a
/// slow one holds nobody up.
fn accept(
    bound: Bound,
    tls: Option<ServerConfig>,
    stopping: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let (accepted, connections) = mpsc::channel(1);
    let tls = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
    tokio::spawn(async move {
        loop {
            let stream = tokio::select! {
                () = stopping.cancelled() => return,
                stream = bound.accept() => stream,
            };
            match stream {
                Ok(stream) => {
                    let (tls, accepted) = (tls.clone(), accepted.clone());
                    tokio::spawn(async move {
                        if let Some(connection) = handshake(stream, tls).await {
                            // It is dropped, and so closed, where the server has stopped.
                            let _ = accepted.send(Ok(connection)).await;
                        }
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection; the listener goes on");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    ReceiverStream::new(connections)
}

async fn handshake(stream: Box<dyn Duplex>, tls: Option<TlsAcceptor>) -> Option<Connection> {
    let Some(tls) = tls else { return Some(Connection(stream)) };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(Connection(Box::new(stream))),
        Ok(Err(error)) => {
            info!(%error, "TLS handshake failed");
            None
        }
        Err(_) => {
            info!("TLS handshake took too long");
            None
        }
    }
}

/// A connection, as tonic takes it.
struct Connection(Box<dyn Duplex>);

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses() {
        assert_eq!("unix:///run/s".parse(), Ok(Listen::Unix("/run/s".into())));
        let tcp = |address: &str| Ok(Listen::Tcp(address.parse().unwrap()));
        assert_eq!("tcp://127.0.0.1:1".parse(), tcp("127.0.0.1:1"));
        assert_eq!("tcp://localhost:1".parse(), tcp("127.0.0.1:1"));
        assert_eq!("tcp://[::1]:1".parse(), tcp("[::1]:1"));
        for wrong in ["", "unix://s", "tcp://", "tcp://h", "grpc://127.0.0.1:1", "127.0.0.1:1"] {
            assert_eq!(wrong.parse::<Listen>(), Err(InvalidListen), "{wrong}");
        }
    }

    #[test]
    fn only_loopback_is_safe_without_tls() {
        for (url, exposed) in [
            ("tcp://127.0.0.1:1", false),
            ("tcp://[::1]:1", false),
            ("unix:///s", false),
            ("tcp://0.0.0.0:1", true),
            ("tcp://10.0.0.1:1", true),
        ] {
            assert_eq!(url.parse::<Listen>().unwrap().is_exposed(), exposed, "{url}");
        }
    }
}
