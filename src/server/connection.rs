//! One connection: its handshake, its requests, and who or what ends it.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::{HeaderValue, Request, header};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, watch},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, info, warn};

use super::{
    Server, Service,
    activity::{Activity, Expired, Limits},
    answer::Answer,
    identity::{Caller, Identity, Origin, certificate_ended, verified_peer},
    room::Newcomer,
    wire::Wire,
};
use crate::{metrics::RejectedConnection, telemetry::Occasionally, tls::ServerMaterial};

/// How long a connection that is to end may stay when nothing is in hand and every answer has left.
const GOODBYE: Duration = Duration::from_secs(5);

/// The largest headers of a request, in bytes, all together.
const MAX_HEADERS: usize = 16 << 10;

/// How much of the bodies that nobody has read yet a peer may send over HTTP/2, in bytes: on one
/// stream, and on one connection.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;

/// A connection that was accepted.
pub(super) struct Connection<S> {
    pub(super) server: Arc<Server<S>>,
    pub(super) address: SocketAddr,
    pub(super) notices: Arc<Notices>,
}

/// What could be said of each connection, and is said now and then.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// That there are too many.
    pub(super) crowded: Occasionally,
    /// That somebody does not finish a handshake.
    strangers: Occasionally,
}

impl<S: Service> Connection<S> {
    /// Serves it to its end.
    pub(super) async fn run(self, tcp: TcpStream, newcomer: Newcomer) {
        let _counted = self.server.metrics.as_ref().map(|metrics| metrics.connection());
        if let Err(error) = tcp.set_nodelay(true) {
            debug!(address = %self.address, %error, "the connection is gone already");
            return;
        }
        let Some(material) = self.server.tls.clone() else {
            let Some(_slot) = newcomer.admit() else { return };
            return self.http(tcp, None).await;
        };
        let Some((stream, identity, _slot)) = self.handshake(tcp, material, newcomer).await else {
            return;
        };
        self.http(stream, Some(identity)).await;
    }

    /// The TLS handshake. It is boxed: it is over soon, and its room should not stay.
    async fn handshake(
        &self,
        tcp: TcpStream,
        mut material: watch::Receiver<Arc<ServerMaterial>>,
        mut newcomer: Newcomer,
    ) -> Option<(TlsStream<TcpStream>, Identity, OwnedSemaphorePermit)> {
        let address = self.address;
        let config = Arc::clone(&material.borrow_and_update().config);
        let handshake = Box::pin(TlsAcceptor::from(config).accept(tcp));
        let handshake = tokio::time::timeout(self.server.config.handshake_timeout, handshake);
        let result = tokio::select! {
            result = handshake => result,
            () = newcomer.displaced() => return self.displaced(),
            () = self.server.drain.finishing() => return None,
        };
        let stream = match result {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.handshaken("failed");
                // Whoever only knocks, as TCP probes do, is no news; and strangers may come as often as
                // they like.
                if error.kind() != io::ErrorKind::UnexpectedEof && self.notices.strangers.is_due() {
                    info!(%address, %error, "TLS handshake failed");
                } else {
                    debug!(%address, %error, "TLS handshake failed");
                }
                return None;
            }
            Err(_) => {
                self.handshaken("timeout");
                self.server.rejected(RejectedConnection::HandshakeTimeout);
                if self.notices.strangers.is_due() {
                    info!(%address, "TLS handshake took too long");
                } else {
                    debug!(%address, "TLS handshake took too long");
                }
                return None;
            }
        };
        let Some(shown) = verified_peer(&stream, &material) else {
            self.handshaken("failed");
            info!(%address, "the client certificate of the session is not valid now");
            return None;
        };
        let Some(slot) = newcomer.admit() else { return self.displaced() };
        self.handshaken("ok");
        let caller = Arc::new(Caller::of(shown));
        // Looked at here: a stream that is borrowed in the caller would have its room there for good.
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Some((stream, Identity { caller, material, http2 }, slot))
    }

    fn displaced<T>(&self) -> Option<T> {
        self.handshaken("failed");
        self.server.rejected(RejectedConnection::MaxHandshakes);
        if self.notices.crowded.is_due() {
            warn!(
                address = %self.address,
                "there are more TLS handshakes at once than half of --max-connections: the oldest \
                 are cut off"
            );
        }
        None
    }

    fn handshaken(&self, result: &'static str) {
        if let Some(metrics) = &self.server.metrics {
            metrics.tls_handshake(result);
        }
    }

    /// Serves requests until the peer, a limit, the certificate or the drain ends it.
    async fn http<T>(&self, stream: T, identity: Option<Identity>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let http2 = identity.as_ref().is_some_and(|identity| identity.http2);
        let activity = Activity::start(http2);
        let metrics = self.server.metrics.clone();
        let io = TokioIo::new(Wire::new(stream, Arc::clone(&activity), metrics, http2));
        let service = service_fn({
            let caller = identity.as_ref().map(|identity| Arc::clone(&identity.caller));
            let origin = Origin { address: self.address, caller };
            // Of the connection alone: what all of them share, each processor would take from the
            // others with every request.
            let connection = Arc::new((Arc::clone(&self.server), origin, Arc::clone(&activity)));
            move |request: Request<Incoming>| {
                let connection = Arc::clone(&connection);
                // Boxed, because hyper keeps room for it with each connection of HTTP/1.1.
                Box::pin(async move {
                    let (server, origin, activity) = &*connection;
                    let (busy, number) = activity.request();
                    let mut response = server.service.call(request, origin).await;
                    let limit = server.config.max_requests_per_connection;
                    let is_last = limit.is_some_and(|limit| number >= limit);
                    if !http2 && (is_last || server.drain.has_begun()) {
                        if is_last {
                            server.rejected(RejectedConnection::MaxRequests);
                        }
                        let close = HeaderValue::from_static("close");
                        response.headers_mut().insert(header::CONNECTION, close);
                    }
                    drop(busy);
                    Ok::<_, Infallible>(response.map(|body| match http2 {
                        true => Answer::http2(body, Arc::clone(activity)),
                        false => Answer::http1(body),
                    }))
                })
            }
        });
        // Boxed, so that a connection has room for the one version that it speaks.
        if http2 {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(self.server.config.max_streams)
                .max_header_list_size(MAX_HEADERS as u32)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .serve_connection(io, service);
            let connection = Box::pin(connection);
            self.supervise(connection, &activity, identity.as_ref(), http2).await;
        } else {
            let connection = http1::Builder::new()
                .max_buf_size(MAX_HEADERS)
                // A client that has sent its request and shut its side down still gets an answer.
                .half_close(true)
                .serve_connection(io, service);
            let connection = Box::pin(connection);
            self.supervise(connection, &activity, identity.as_ref(), http2).await;
        }
    }

    async fn supervise<C: Graceful>(
        &self,
        mut connection: std::pin::Pin<Box<C>>,
        activity: &Activity,
        identity: Option<&Identity>,
        http2: bool,
    ) {
        let Server { config, drain, .. } = &*self.server;
        // Whatever else there is to wait for: nobody stays whose certificate is not accepted. It is
        // looked at when something of it has happened, and not whenever the connection moves.
        let mut reasons = FuturesUnordered::new();
        reasons.push(async {
            tokio::select! {
                why = certificate_ended(identity) => Reason::Certificate(why),
                end = self.end(activity, http2) => Reason::Ours(end),
                () = drain.cutting() => Reason::Ours(End::Now),
            }
        });
        tokio::select! {
            result = connection.as_mut() => return self.ended(result),
            Some(reason) = reasons.next() => match reason {
                Reason::Certificate(why) => self.refused(why),
                Reason::Ours(End::Gracefully) => {}
                Reason::Ours(End::Now) => return,
            },
        }
        drop(reasons);
        activity.leave(GOODBYE);
        connection.as_mut().finish();
        // What is in hand is finished, and there is time to say goodbye; but nobody has to wait for
        // a peer that has gone without a word.
        let stays_away = async {
            tokio::time::sleep(GOODBYE).await;
            let limits = Limits {
                idle: GOODBYE,
                unsent: Some(config.idle_timeout.max(GOODBYE)),
                headers: config.header_timeout,
            };
            tokio::select! {
                biased;
                // An answer is part of what is in hand, for which the end has its own limit.
                () = drain.finishing() => {
                    activity.expired(Limits { unsent: None, ..limits }).await
                }
                expired = activity.expired(limits) => expired,
            }
        };
        let is_accepted = identity.is_none_or(|identity| identity.caller.is_accepted());
        tokio::select! {
            result = connection => self.ended(result),
            _ = stays_away => {}
            why = certificate_ended(identity), if is_accepted => self.refused(why),
            () = drain.cutting() => {}
        }
    }

    fn refused(&self, why: &str) {
        info!(address = %self.address, "the client certificate {why}");
        self.server.rejected(RejectedConnection::Certificate);
    }

    /// Resolves when this side has a reason to end the connection.
    async fn end(&self, activity: &Activity, http2: bool) -> End {
        let Server { config, drain, .. } = &*self.server;
        // On HTTP/1.1 the answer says `Connection: close` instead; to close an idle connection
        // would race with a request that is on its way.
        let renewed = async {
            match config.max_requests_per_connection {
                Some(number) if http2 => activity.requests(number).await,
                _ => std::future::pending().await,
            }
        };
        // A connection that is sent away before its first request may come back at once, for ever.
        let sent_away = async {
            drain.beginning().await;
            if http2 {
                activity.requests(1).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let limits = Limits {
            idle: config.idle_timeout,
            unsent: Some(config.idle_timeout),
            headers: config.header_timeout,
        };
        let reason = tokio::select! {
            expired = activity.expired(limits) => match expired {
                Expired::Idle => RejectedConnection::IdleTimeout,
                Expired::Headers => {
                    debug!(address = %self.address, "the headers of a request took too long");
                    self.server.rejected(RejectedConnection::HeaderTimeout);
                    return End::Now;
                }
            },
            () = renewed => RejectedConnection::MaxRequests,
            () = sent_away => return End::Gracefully,
            () = drain.finishing() => return End::Gracefully,
        };
        self.server.rejected(reason);
        End::Gracefully
    }

    fn ended(&self, result: hyper::Result<()>) {
        let Err(error) = result else { return };
        if error.is_parse_too_large() {
            self.server.rejected(RejectedConnection::HeaderSize);
        } else if is_flood(&error) {
            self.server.rejected(RejectedConnection::Flood);
            info!(address = %self.address, %error, "a flood of HTTP/2 frames was cut off");
        }
        debug!(address = %self.address, %error, "connection ended");
    }
}

/// Why a connection is to end, other than by itself.
enum Reason {
    /// Its certificate is not accepted any more.
    Certificate(&'static str),
    Ours(End),
}

/// How this side ends a connection.
enum End {
    /// After the requests in hand.
    Gracefully,
    Now,
}

/// Whether a connection ended because the peer sent more than a well-behaved one would. Where the
/// peer says the same it is its own reason to go.
fn is_flood(error: &hyper::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .is_some_and(|error| {
            error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM) && !error.is_remote()
        })
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
            S: hyper::service::HttpService<Incoming, ResBody = Answer, Error = Infallible>,
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
