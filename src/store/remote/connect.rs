//! One HTTP/2 connection to one address of a store.

use std::{error::Error, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use hyper::client::conn::http2::{Connection, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, pki_types::ServerName};
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::{
    net::{TcpStream, UnixStream},
    sync::{oneshot, watch},
};
use tokio_rustls::TlsConnector;
use tonic::body::Body;

use crate::{
    stream::{Duplex, Observed},
    tls::ClientMaterial,
};

/// How long data may stay unacknowledged before the connection counts as dead. The system sends it
/// again after 0.2, 0.6 and 1.4 seconds, and then ever more rarely: a new connection finds out
/// sooner that the store is back. A store that hangs still acknowledges, its system does. HTTP/2
/// pings would tell too, but grpc-go closes connections that send them more than once in five
/// minutes.
const UNACKNOWLEDGED: Duration = Duration::from_secs(2);

/// How long the TCP connection may take: a lost SYN is sent again after 1, 3 and 7 seconds, and a
/// store that is back should not have to wait for that.
const TCP_CONNECT_TIMEOUT: Duration = Duration::from_millis(750);

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// TLS towards the store, and the name that its certificate must have.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) material: watch::Receiver<Arc<ClientMaterial>>,
    pub(super) name: ServerName<'static>,
}

impl Tls {
    fn config(&mut self) -> Arc<ClientConfig> {
        Arc::clone(&self.material.borrow_and_update().config)
    }

    /// Resolves when there is other material than that of the last connection.
    pub(super) async fn changed(&mut self) {
        if self.material.changed().await.is_err() {
            // Nobody is left to change it.
            std::future::pending().await
        }
    }
}

#[derive(Debug, Error)]
pub(super) enum ConnectError {
    #[error("connecting: {0}")]
    Connect(#[source] io::Error),
    #[error("TLS handshake: {0}")]
    Tls(#[source] io::Error),
    #[error("the store does not offer HTTP/2 (ALPN h2)")]
    NotHttp2,
    #[error("HTTP/2 handshake: {0}")]
    Http2(String),
    #[error("no connection within {0:?}")]
    Timeout(Duration),
}

/// Connects. The second value is the connection's own future: it ends with the connection.
pub(super) async fn connect(
    address: &Address,
    tls: Option<&mut Tls>,
    timeout: Duration,
) -> Result<(SendRequest<Body>, impl Future<Output = ()> + Send + use<>), ConnectError> {
    tokio::time::timeout(timeout, dial(address, tls))
        .await
        .unwrap_or(Err(ConnectError::Timeout(timeout)))
}

async fn dial(
    address: &Address,
    tls: Option<&mut Tls>,
) -> Result<(SendRequest<Body>, impl Future<Output = ()> + Send + use<>), ConnectError> {
    let (sender, connection) = match address {
        Address::Unix(path) => {
            http2(Box::new(UnixStream::connect(path).await.map_err(ConnectError::Connect)?)).await?
        }
        Address::Tcp(address) => {
            let tcp = tokio::time::timeout(TCP_CONNECT_TIMEOUT, TcpStream::connect(address))
                .await
                .map_err(|_| ConnectError::Timeout(TCP_CONNECT_TIMEOUT))?
                .map_err(ConnectError::Connect)?;
            prepare(&tcp).map_err(ConnectError::Connect)?;
            match tls {
                None => http2(Box::new(tcp)).await?,
                Some(tls) => {
                    let stream = TlsConnector::from(tls.config())
                        .connect(tls.name.clone(), tcp)
                        .await
                        .map_err(ConnectError::Tls)?;
                    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                        return Err(ConnectError::NotHttp2);
                    }
                    http2(Box::new(stream)).await?
                }
            }
        }
    };
    let ended = async move {
        // How it ended is told to the calls that it cut off.
        let _ = connection.await;
    };
    Ok((sender, ended))
}

fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(30)))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(())
}

type Io = TokioIo<Observed<Box<dyn Duplex>, Box<dyn FnMut() + Send>>>;

/// Speaks HTTP/2 and waits until the store does. In TLS 1.3 a client has finished its handshake
/// before the store has looked at its certificate, and something on the way may accept for a store
/// that is not there: a call on such a connection would be lost, though it never was received.
async fn http2(
    stream: Box<dyn Duplex>,
) -> Result<(SendRequest<Body>, Connection<Io, Body, TokioExecutor>), ConnectError> {
    let (heard, first_byte) = oneshot::channel();
    let mut heard = Some(heard);
    let stream = Observed::new(
        stream,
        Box::new(move || {
            if let Some(heard) = heard.take() {
                // Nobody waits for it if the connection was given up.
                let _ = heard.send(());
            }
        }) as Box<dyn FnMut() + Send>,
    );
    let (sender, mut connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        // Room for a reply with large hashes without waiting for window updates.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| ConnectError::Http2(with_sources(&error)))?;
    tokio::select! {
        ended = &mut connection => Err(ConnectError::Http2(match ended {
            Err(error) => with_sources(&error),
            Ok(()) => "the store closed the connection".to_owned(),
        })),
        _ = first_byte => Ok((sender, connection)),
    }
}

fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = error.source();
    }
    text
}
