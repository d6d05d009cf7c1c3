//! Who is at the other end, and whether that is still so: the certificate may end, be revoked, or
//! lose its authority while the connection goes on.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use rustls::HandshakeKind;
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::server::TlsStream;

use crate::tls::{Peer, ServerMaterial, Shown};

/// Whom the requests of a connection are from.
#[derive(Debug)]
pub struct Origin {
    /// The other end.
    pub address: SocketAddr,
    /// Who is there; nobody knows on a listener without TLS.
    pub caller: Option<Arc<Caller>>,
}

impl Origin {
    /// What the log calls whoever is there.
    pub fn name(&self) -> &str {
        self.caller.as_ref().map_or("(no certificate)", |caller| caller.peer().name())
    }
}

/// Whoever is at the other end of a connection: a peer whose certificate was verified.
#[derive(Debug)]
pub struct Caller {
    shown: Arc<Shown>,
    /// Whether the material of the listener no longer accepts the certificate.
    refused: AtomicBool,
}

impl Caller {
    pub(super) fn of(shown: Arc<Shown>) -> Self {
        Self { shown, refused: AtomicBool::new(false) }
    }

    /// Who it is.
    pub fn peer(&self) -> &Peer {
        &self.shown.peer
    }

    /// Whether its certificate is accepted still: a connection may outlive it for a moment.
    pub fn is_accepted(&self) -> bool {
        !self.refused.load(Ordering::Acquire) && self.peer().validity().contains(SystemTime::now())
    }
}

/// What a connection knows of its certificate.
pub(super) struct Identity {
    pub(super) caller: Arc<Caller>,
    pub(super) material: watch::Receiver<Arc<ServerMaterial>>,
    /// Whether HTTP/2 was agreed on with it.
    pub(super) http2: bool,
}

/// Resolves when the certificate behind a connection has ended, or is not accepted any more by the
/// material of the time; and says which.
pub(super) async fn certificate_ended(identity: Option<&Identity>) -> &'static str {
    let Some(Identity { caller, material, .. }) = identity else {
        return std::future::pending().await;
    };
    let mut material = material.clone();
    let mut has_changed = false;
    loop {
        let left = caller.peer().validity().left(SystemTime::now());
        if left.is_zero() {
            return "has ended";
        }
        let current = {
            let current = material.borrow_and_update();
            // It may have changed during the handshake already.
            has_changed |= current.has_changed();
            Arc::clone(&current)
        };
        if (has_changed || current.has_revocation_lists()) && !current.accepts(&caller.shown.chain)
        {
            caller.refused.store(true, Ordering::Release);
            return "is not accepted any more";
        }
        // In steps, because the clock of certificates can be set and is not the one that sleeps.
        has_changed = tokio::select! {
            () = tokio::time::sleep(left.min(CLOCK_STEP)) => false,
            Ok(()) = material.changed() => true,
        };
    }
}

/// How often a connection looks at the clock of certificates and revocation lists, at the least.
const CLOCK_STEP: Duration = Duration::from_secs(60);

/// Who the peer is, if its certificate is accepted now. A resumed session brings the certificates of
/// the first handshake, at which rustls does not look again; and the material may have changed since
/// this one began.
pub(super) fn verified_peer(
    stream: &TlsStream<TcpStream>,
    material: &watch::Receiver<Arc<ServerMaterial>>,
) -> Option<Arc<Shown>> {
    let current = material.borrow();
    let has_changed = current.has_changed();
    let session = stream.get_ref().1;
    let is_resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    current.identify(session.peer_certificates()?, !is_resumed && !has_changed)
}
