//! Accepting connections and serving HTTP on them: TLS, time limits, and the end.
//!
//! It runs any service and knows nothing of what that does. The peer's verified identity goes into
//! each request's extensions, as `Arc<Peer>`; on a listener without TLS there is none.

mod activity;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, info, warn};

use self::activity::{Activity, Expired};
use crate::{drain::Drain, stream::Observed, tls::Peer};

/// How long a connection that is to end may stay without a request in hand.
const GOODBYE: Duration = Duration::from_secs(5);

/// The time limits of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// From accepting a connection to the end of its TLS handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of an HTTP/1.1 request to the end of its headers.
    pub header_timeout: Duration,
    /// How long a connection may be without a request.
    pub idle_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
        }
    }
}

/// What answers requests. It always has an answer: an error is a response too.
pub trait Service: Send + Sync + 'static {
    /// Answers one request.
    fn call(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// Accepts connections until it is time to finish. Every connection is work of `drain`.
pub async fn serve<S: Service>(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    service: S,
    config: Config,
    drain: Drain,
) {
    let service = Arc::new(service);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.finishing() => return,
        };
        match accepted {
            Ok((tcp, address)) => {
                let connection = Connection {
                    tls: tls.clone(),
                    service: Arc::clone(&service),
                    config,
                    drain: drain.clone(),
                };
                drain.spawn(connection.run(tcp, address));
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection; the listener goes on");
                if is_exhausted(&error) {
                    // Nothing gets better by asking again at once.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Whether an accept failed for want of descriptors or memory, and not for the peer's sake.
fn is_exhausted(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

struct Connection<S> {
    tls: Option<Arc<ServerConfig>>,
    service: Arc<S>,
    config: Config,
    drain: Drain,
}

impl<S: Service> Connection<S> {
    async fn run(self, tcp: TcpStream, address: SocketAddr) {
        if let Err(error) = tcp.set_nodelay(true) {
            debug!(%address, %error, "the connection is gone already");
            return;
        }
        let Some(tls) = &self.tls else {
            self.http(tcp, None, false).await;
            return;
        };
        let handshake = TlsAcceptor::from(Arc::clone(tls)).accept(tcp);
        let handshake = tokio::time::timeout(self.config.handshake_timeout, handshake);
        let stream = tokio::select! {
            result = handshake => match result {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    info!(%address, %error, "TLS handshake failed");
                    return;
                }
                Err(_) => {
                    info!(%address, "TLS handshake took too long");
                    return;
                }
            },
            () = self.drain.finishing() => return,
        };
        let Some(peer) = verified_peer(&stream) else {
            info!(%address, "the client certificate of the session is not valid now");
            return;
        };
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        self.http(stream, Some(Arc::new(peer)), http2).await;
    }

    /// Serves requests until the peer, the certificate, the clock or the drain ends it.
    async fn http<T>(&self, stream: T, peer: Option<Arc<Peer>>, http2: bool)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::start(http2);
        let observer = Arc::clone(&activity);
        let io = TokioIo::new(Observed::new(stream, move || observer.received()));
        let certificate_ends = peer.as_ref().map(|peer| peer.validity().left(SystemTime::now()));
        let service = service_fn({
            let service = Arc::clone(&self.service);
            let activity = Arc::clone(&activity);
            move |mut request: Request<Incoming>| {
                let busy = activity.request();
                if let Some(peer) = &peer {
                    request.extensions_mut().insert(Arc::clone(peer));
                }
                let service = Arc::clone(&service);
                async move {
                    let response = service.call(request).await;
                    drop(busy);
                    Ok::<_, Infallible>(response)
                }
            }
        });
        if http2 {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .serve_connection(io, service);
            self.supervise(connection, &activity, certificate_ends).await;
        } else {
            let connection = http1::Builder::new()
                // A client that has sent its request and shut its side down still gets an answer.
                .half_close(true)
                .serve_connection(io, service);
            self.supervise(connection, &activity, certificate_ends).await;
        }
    }

    async fn supervise(
        &self,
        connection: impl Graceful,
        activity: &Activity,
        certificate_ends: Option<Duration>,
    ) {
        let mut connection = std::pin::pin!(connection);
        let certificate_ended = async {
            match certificate_ends {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        let Config { idle_timeout, header_timeout, .. } = self.config;
        tokio::select! {
            result = connection.as_mut() => return log_end(result),
            expired = activity.expired(idle_timeout, header_timeout) => match expired {
                Expired::Idle => {}
                Expired::Headers => {
                    debug!("the headers of a request took too long");
                    return;
                }
            },
            () = certificate_ended => debug!("the client certificate has ended"),
            () = self.drain.finishing() => {}
            () = self.drain.cutting() => return,
        }
        connection.as_mut().finish();
        // What is in hand is finished, and there is time to say goodbye; but nobody has to wait for
        // a peer that has gone without a word.
        let stays_away = async {
            tokio::time::sleep(GOODBYE).await;
            activity.expired(GOODBYE, header_timeout).await
        };
        tokio::select! {
            result = connection => log_end(result),
            _ = stays_away => {}
            () = self.drain.cutting() => {}
        }
    }
}

fn log_end(result: hyper::Result<()>) {
    if let Err(error) = result {
        debug!(%error, "connection ended");
    }
}

/// Who the peer is, if its chain is valid now. A resumed session brings the certificates of the
/// first handshake, at which rustls does not look again.
fn verified_peer(stream: &TlsStream<TcpStream>) -> Option<Peer> {
    let peer = Peer::from_chain(stream.get_ref().1.peer_certificates()?).ok()?;
    peer.validity().contains(SystemTime::now()).then_some(peer)
}

/// A connection of either version of HTTP.
trait Graceful: Future<Output = hyper::Result<()>> {
    /// Takes no more requests and ends after those in hand.
    fn finish(self: std::pin::Pin<&mut Self>);
}

macro_rules! graceful {
    ($connection:ty) => {
        impl<I, S> Graceful for $connection
        where
            I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
            S: hyper::service::HttpService<Incoming, ResBody = Full<Bytes>, Error = Infallible>,
            S::Future: Send + 'static,
        {
            fn finish(self: std::pin::Pin<&mut Self>) {
                self.graceful_shutdown();
            }
        }
    };
}

graceful!(http1::Connection<I, S>);
graceful!(http2::Connection<I, S, TokioExecutor>);
