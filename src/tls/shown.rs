//! The certificates that peers have shown, and those of them that were verified: a session that is
//! resumed brings them again, and to verify a signature takes longer than the rest of its handshake.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::pki_types::CertificateDer;

use super::{Peer, PeerError};

/// The chain that a peer has shown, its own certificate first, and who that is.
#[derive(Debug)]
pub struct Shown {
    /// Who it is.
    pub peer: Peer,
    /// The certificates.
    pub chain: Vec<CertificateDer<'static>>,
}

impl Shown {
    pub(super) fn read(chain: &[CertificateDer<'_>]) -> Result<Self, PeerError> {
        let peer = Peer::from_chain(chain)?;
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Ok(Self { peer, chain })
    }
}

/// How many chains are remembered: callers are few, and nobody gets in here who is not accepted.
const REMEMBERED: usize = 16;

/// The chains that were verified last, the newest first.
#[derive(Debug, Default)]
pub(super) struct Verified(Mutex<VecDeque<Arc<Shown>>>);

impl Verified {
    /// The chain, if it is one of them, byte by byte.
    pub(super) fn find(&self, chain: &[CertificateDer<'_>]) -> Option<Arc<Shown>> {
        self.chains().iter().find(|shown| shown.chain == chain).cloned()
    }

    pub(super) fn remember(&self, shown: Arc<Shown>) {
        let mut chains = self.chains();
        chains.truncate(REMEMBERED - 1);
        chains.push_front(shown);
    }

    fn chains(&self) -> MutexGuard<'_, VecDeque<Arc<Shown>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Vec<CertificateDer<'static>> {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        vec![params.self_signed(&key).unwrap().der().clone()]
    }

    #[test]
    fn the_last_ones_are_remembered_and_no_more() {
        let verified = Verified::default();
        let chains: Vec<_> = (0..=REMEMBERED).map(|_| chain()).collect();
        for chain in &chains {
            assert!(verified.find(chain).is_none());
            verified.remember(Arc::new(Shown::read(chain).unwrap()));
        }
        assert!(verified.find(&chains[0]).is_none(), "it made room");
        for chain in &chains[1..] {
            assert_eq!(verified.find(chain).unwrap().chain, *chain);
        }
    }

    #[test]
    fn a_chain_is_known_as_a_whole() {
        let verified = Verified::default();
        let (leaf, above) = (chain(), chain());
        let both = [leaf.clone(), above].concat();
        verified.remember(Arc::new(Shown::read(&both).unwrap()));
        assert!(verified.find(&leaf).is_none());
        assert!(verified.find(&both).is_some());
    }
}
