//! One HTTP/2 connection to one address of a store.

use std::{error::Error, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http2::{Connection, SendRequest},
    },
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, pki_types::ServerName};
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::{
    net::{TcpStream, UnixStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::body::Body;

use super::hearing::{Heard, Hearing};
use crate::{store::shortened, stream::Duplex, tls::ClientMaterial};

/// How long data may stay unacknowledged before the system ends the connection. It only cleans up
/// behind connections that were replaced long before, because they were silent; and it is not
/// short, because it counts for a store too that acknowledges and reads nothing: one that pauses.
/// HTTP/2 pings would tell the two apart, but grpc-go closes connections that send them more than
/// once in five minutes.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// When the system asks whether the other end of an idle connection is still there, and how often
/// it asks again. On Linux one without an answer ends at the first of these after
/// [`UNACKNOWLEDGED`].
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// When an attempt to connect by TCP counts as failed, and another may be made beside it. The
/// system sends a lost SYN again after 1, 3 and 7 seconds, and a store that is back should not have
/// to wait for that.
const TCP_PATIENCE: Duration = Duration::from_millis(750);

/// How long that attempt goes on all the same, for a path that takes longer than it.
const LONGEST_TCP_CONNECT: Duration = Duration::from_secs(3);

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

/// Calls are sent on a connection with this.
#[derive(Clone)]
pub(super) struct Sender {
    http2: SendRequest<Body>,
    hearing: Hearing,
}

impl Sender {
    pub(super) fn is_closed(&self) -> bool {
        self.http2.is_closed()
    }

    /// Sends a call, and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        let call = self.hearing.call();
        let response = self.http2.try_send_request(request).await?;
        call.answered();
        Ok(response)
    }

    /// Resolves when calls were sent and nothing has been heard since, for too long.
    pub(super) async fn silence(&self) {
        self.hearing.silence().await;
    }
}

/// Makes connections to one address, one after another.
pub(super) struct Dialer {
    pub(super) address: Address,
    tls: Option<Tls>,
    /// How long a connection may take, handshakes included.
    timeout: Duration,
    /// Attempts to connect by TCP that still may succeed.
    attempts: JoinSet<Result<TcpStream, ConnectError>>,
}

impl Dialer {
    pub(super) fn new(address: Address, tls: Option<Tls>, timeout: Duration) -> Self {
        Self { address, tls, timeout, attempts: JoinSet::new() }
    }

    /// Connects. The second value is the connection's own future: it ends with the connection.
    pub(super) async fn connect(
        &mut self,
    ) -> Result<(Sender, impl Future<Output = ()> + Send + use<>), ConnectError> {
        let limit = self.timeout;
        timeout(limit, self.dial()).await.unwrap_or(Err(ConnectError::Timeout(limit)))
    }

    /// Resolves when there is other TLS material than that of the last connection.
    pub(super) async fn changed(&mut self) {
        match &mut self.tls {
            Some(tls) => tls.changed().await,
            None => std::future::pending().await,
        }
    }

    async fn dial(
        &mut self,
    ) -> Result<(Sender, impl Future<Output = ()> + Send + use<>), ConnectError> {
        let (sender, connection) = match self.address.clone() {
            Address::Unix(path) => {
                let unix = UnixStream::connect(path).await.map_err(ConnectError::Connect)?;
                http2(Box::new(unix)).await?
            }
            Address::Tcp(address) => {
                let tcp = self.tcp(address).await?;
                prepare(&tcp).map_err(ConnectError::Connect)?;
                match &mut self.tls {
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

    /// The first of the attempts to succeed, those included that were made by earlier calls.
    async fn tcp(&mut self, address: SocketAddr) -> Result<TcpStream, ConnectError> {
        let limit = self.timeout.min(LONGEST_TCP_CONNECT);
        self.attempts.spawn(async move {
            timeout(limit, TcpStream::connect(address))
                .await
                .map_err(|_| ConnectError::Timeout(limit))?
                .map_err(ConnectError::Connect)
        });
        match timeout(TCP_PATIENCE, self.attempts.join_next()).await {
            Ok(Some(attempt)) => {
                let tcp =
                    attempt.map_err(|error| ConnectError::Connect(io::Error::other(error)))??;
                // The others are not needed.
                self.attempts = JoinSet::new();
                Ok(tcp)
            }
            Ok(None) | Err(_) => Err(ConnectError::Timeout(TCP_PATIENCE)),
        }
    }
}

fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL),
    )?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(())
}

type Io = TokioIo<Heard<Box<dyn Duplex>>>;

/// Speaks HTTP/2 and waits until the store does. In TLS 1.3 a client has finished its handshake
/// before the store has looked at its certificate, and something on the way may accept for a store
/// that is not there: a call on such a connection would be lost, though it never was received.
async fn http2(
    stream: Box<dyn Duplex>,
) -> Result<(Sender, Connection<Io, Body, TokioExecutor>), ConnectError> {
    let hearing = Hearing::default();
    let stream = Heard::new(stream, hearing.clone());
    let (http2, mut connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
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
        () = hearing.first_byte() => Ok((Sender { http2, hearing }, connection)),
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
    shortened(&text)
}
