//! Accepting connections and serving HTTP on them: TLS, limits, and the end.
//!
//! It runs any service and knows nothing of what that does. With each request it says whom that is
//! from: an [`Origin`].

mod activity;
mod answer;
mod connection;
mod identity;
mod room;
mod wire;

use std::{sync::Arc, time::Duration};

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use tokio::{net::TcpListener, sync::watch};
use tracing::warn;

pub use self::identity::{Caller, Origin};
use self::{
    connection::{Connection, Notices},
    room::Room,
};
use crate::{
    accept::Acceptor,
    drain::Drain,
    metrics::{Metrics, RejectedConnection},
    readiness::Condition,
    tls::ServerMaterial,
};

/// The limits of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How many may be open at once. Those that have not shown a certificate yet may be half of
    /// them at the most, and the oldest of those makes room for the next, so that strangers cannot
    /// keep callers out.
    pub max_connections: usize,
    /// From accepting a connection to the end of its TLS handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of an HTTP/1.1 request to the end of its headers.
    pub header_timeout: Duration,
    /// How long a connection may be without a request.
    pub idle_timeout: Duration,
    /// How many streams a connection of HTTP/2 may have open at once.
    pub max_streams: u32,
    /// After how many requests a connection is to be renewed.
    pub max_requests_per_connection: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            max_streams: 256,
            max_requests_per_connection: None,
        }
    }
}

/// What answers requests. It always has an answer: an error is a response too.
pub trait Service: Send + Sync + 'static {
    /// Answers one request.
    fn call(
        &self,
        request: Request<Incoming>,
        origin: &Origin,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// A listener and everything that its connections share.
pub struct Server<S> {
    /// Without, connections are plain text.
    pub tls: Option<watch::Receiver<Arc<ServerMaterial>>>,
    /// What answers.
    pub service: S,
    /// The limits.
    pub config: Config,
    /// Where connections are counted, if they are.
    pub metrics: Option<Arc<Metrics>>,
    /// Met as long as connections are accepted, if that is of any interest.
    pub accepting: Option<Condition>,
    /// Every connection is work of it.
    pub drain: Drain,
}

impl<S: Service> Server<S> {
    /// Accepts connections until it is time to finish.
    pub async fn serve(mut self, listener: TcpListener) {
        let mut acceptor = Acceptor::new(self.accepting.take());
        let server = Arc::new(self);
        let room = Room::new(server.config.max_connections);
        let notices = Arc::new(Notices::default());
        loop {
            let (tcp, address) = tokio::select! {
                accepted = acceptor.next(|| listener.accept()) => accepted,
                () = server.drain.finishing() => return,
            };
            let Some(newcomer) = room.enter() else {
                server.rejected(RejectedConnection::MaxConnections);
                if notices.crowded.is_due() {
                    warn!(
                        %address,
                        max_connections = server.config.max_connections,
                        "there are more connections than --max-connections: the excess is closed"
                    );
                }
                continue;
            };
            let notices = Arc::clone(&notices);
            let connection = Connection { server: Arc::clone(&server), address, notices };
            server.drain.spawn(connection.run(tcp, newcomer));
        }
    }

    fn rejected(&self, reason: RejectedConnection) {
        if let Some(metrics) = &self.metrics {
            metrics.rejected_connection(reason);
        }
    }
}
