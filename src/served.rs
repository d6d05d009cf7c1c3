//! `faroe-sidecar store`: the bundled store as a gRPC `UserStore`, with health and reflection.

use std::{
    fmt, io,
    net::SocketAddr,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use anyhow::Context as _;
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig, server::Router};
use tracing::info;

use crate::{
    proto::{FILE_DESCRIPTOR_SET, user_store_server::UserStoreServer},
    store::{remote::is_loopback, sql::SqlStore},
    tls,
};

/// Hashes may be large; the contract sets no limit.
const MAX_MESSAGE: usize = 64 << 20;

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
            Self::Tcp(address) => !is_loopback(&address.ip().to_string()),
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

/// The file of a Unix socket, removed when the listener ends.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
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
                .map(|listener| Self::Unix(listener, SocketFile(path.clone())))
                .with_context(|| format!("cannot listen on {}", path.display())),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "tcp://{address}"),
                Err(_) => f.write_str("tcp://"),
            },
            Self::Unix(_, file) => write!(f, "unix://{}", file.0.display()),
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

/// The TLS of the listener: every client has to show a certificate of the authority.
///
/// # Errors
///
/// If a file cannot be read or used; the files are looked at as `serve` would.
pub fn tls_config(files: &tls::ServerFiles) -> anyhow::Result<ServerTlsConfig> {
    tls::server_config(files)?;
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let identity =
        Identity::from_pem(read(&files.identity.certificate)?, read(&files.identity.key)?);
    let client_ca = Certificate::from_pem(read(&files.client_ca)?);
    Ok(ServerTlsConfig::new().identity(identity).client_ca_root(client_ca))
}

/// Serves until `shutdown` resolves; calls in hand are finished then.
///
/// # Errors
///
/// If the server cannot be set up or fails.
pub async fn serve(
    store: SqlStore,
    bound: Bound,
    tls: Option<ServerTlsConfig>,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_not_serving::<UserStoreServer<SqlStore>>().await;
    let watched = store.clone();
    let watch = tokio::spawn(async move {
        loop {
            match watched.check().await {
                Ok(()) => reporter.set_serving::<UserStoreServer<SqlStore>>().await,
                Err(reason) => {
                    tracing::warn!(reason, "the store is not ready");
                    reporter.set_not_serving::<UserStoreServer<SqlStore>>().await;
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("reflection")?;
    let mut server = Server::builder();
    if let Some(tls) = tls {
        server = server.tls_config(tls).context("TLS")?;
    }
    let service = UserStoreServer::new(store)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let router = server.add_service(service).add_service(health).add_service(reflection);
    let result = serve_on(router, bound, shutdown).await;
    watch.abort();
    result
}

async fn serve_on(
    router: Router,
    bound: Bound,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    info!(store = %bound, "listening");
    match bound {
        Bound::Tcp(listener) => {
            router.serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown).await?;
        }
        Bound::Unix(listener, _file) => {
            router
                .serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown)
                .await?;
        }
    }
    Ok(())
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
