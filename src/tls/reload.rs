//! TLS files that are read again when they change, or when somebody asks for it.
//!
//! The files' content is looked at, twice a second. A watch by the file system would miss what a
//! network file system does not tell, and a watch on the file alone what Kubernetes does: it swaps
//! a symlink in a folder above. What has changed is used once it has stayed the same for one look,
//! because a file that is being written is half there.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{Context, Digest, SHA256};
use rustls::{
    ClientConfig, ServerConfig,
    pki_types::{CertificateDer, UnixTime},
    server::danger::ClientCertVerifier,
};
use tokio::{sync::watch, time::Instant};
use tracing::{error, info};

use super::{
    ClientFiles, ServerFiles, Shown, TlsError, Validity, client_config, client_verifier,
    revocation_lists, server_config_with, shown::Verified, validity,
};
use crate::metrics::Metrics;

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// How often what was refused is tried again: a certificate that came too early becomes valid, the
/// one that is used until then ends, and a file may have been unreadable for a moment.
const RETRY: Duration = Duration::from_secs(5);

/// Something made of TLS files, whole or not at all.
pub trait Material: Send + Sync + Sized + 'static {
    /// The files.
    type Files: Send + Sync + 'static;

    /// What it is for, as the log says it.
    const PURPOSE: &'static str;

    /// Reads and checks the files.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or used, or they do not fit together.
    fn load(files: &Self::Files) -> Result<Self, TlsError>;

    /// Until when each of the files can be used.
    fn terms(&self) -> &[Term];

    /// All of the files.
    fn paths(files: &Self::Files) -> Vec<&Path>;
}

/// What is in one file, and until when it can be used.
#[derive(Debug, Clone)]
pub struct Term {
    /// The option that names the file.
    pub option: &'static str,
    /// Whether callers are kept out when it is over.
    pub is_needed: bool,
    /// Whether it is what this side shows of itself.
    pub is_shown: bool,
    /// The validity of the certificate or list that ends first.
    pub validity: Validity,
}

impl Term {
    /// Whether it is valid now.
    pub fn is_valid(&self) -> bool {
        self.validity.contains(SystemTime::now())
    }
}

/// The material of a listener.
#[derive(Debug)]
pub struct ServerMaterial {
    /// For connections from now on.
    pub config: Arc<ServerConfig>,
    terms: Vec<Term>,
    verifier: Arc<dyn ClientCertVerifier>,
    /// When the revocation lists are in force, if there are any.
    lists: Option<Validity>,
    verified: Verified,
}

impl ServerMaterial {
    /// Whether a client certificate is accepted now: it chains to an authority, none of the chain
    /// has ended, and with revocation lists each of them is covered by a list that is in force and
    /// does not name it.
    pub fn accepts(&self, chain: &[CertificateDer<'_>]) -> bool {
        chain.split_first().is_some_and(|(first, above)| {
            self.verifier.verify_client_cert(first, above, UnixTime::now()).is_ok()
        })
    }

    /// Whether a certificate that is accepted may stop to be by the passing of time alone, other
    /// than by its own end.
    pub fn has_revocation_lists(&self) -> bool {
        self.lists.is_some()
    }

    /// Who shows this chain, if it is accepted now. With `is_verified` a handshake with this
    /// material has just verified it. What this material has verified once it accepts as long as
    /// everything that it went by is in force.
    pub fn identify(&self, chain: &[CertificateDer<'_>], is_verified: bool) -> Option<Arc<Shown>> {
        let now = SystemTime::now();
        let is_in_force = |shown: &Shown| {
            shown.peer.validity().contains(now)
                && self.lists.is_none_or(|lists| lists.contains(now))
        };
        if let Some(shown) = self.verified.find(chain)
            && is_in_force(&shown)
        {
            return Some(shown);
        }
        let shown = Arc::new(Shown::read(chain).ok()?);
        let is_accepted =
            shown.peer.validity().contains(now) && (is_verified || self.accepts(chain));
        if is_accepted && is_in_force(&shown) {
            self.verified.remember(Arc::clone(&shown));
        }
        is_accepted.then_some(shown)
    }
}

impl Material for ServerMaterial {
    type Files = ServerFiles;

    const PURPOSE: &'static str = "towards callers";

    fn load(files: &ServerFiles) -> Result<Self, TlsError> {
        let verifier = client_verifier(files)?;
        let config = server_config_with(files, Arc::clone(&verifier))?;
        let mut terms = vec![
            Term {
                option: "tls-cert",
                is_needed: true,
                is_shown: true,
                validity: validity(&files.identity.certificate)?,
            },
            // An authority that has ended is a matter of whoever issues: verifiers do not look.
            Term {
                option: "client-ca",
                is_needed: false,
                is_shown: false,
                validity: validity(&files.client_ca)?,
            },
        ];
        let mut lists = None;
        if let Some(file) = &files.client_crl {
            let validity = revocation_lists(file)?.1;
            terms.push(Term { option: "client-crl", is_needed: true, is_shown: false, validity });
            lists = Some(validity);
        }
        let verified = Verified::default();
        Ok(Self { config: Arc::new(config), terms, verifier, lists, verified })
    }

    fn terms(&self) -> &[Term] {
        &self.terms
    }

    fn paths(files: &ServerFiles) -> Vec<&Path> {
        let identity = [&files.identity.certificate, &files.identity.key, &files.client_ca];
        identity.into_iter().chain(&files.client_crl).map(AsRef::as_ref).collect()
    }
}

/// The material towards a gRPC store.
#[derive(Debug)]
pub struct ClientMaterial {
    /// For connections from now on.
    pub config: Arc<ClientConfig>,
    terms: Vec<Term>,
}

impl Material for ClientMaterial {
    type Files = ClientFiles;

    const PURPOSE: &'static str = "towards the store";

    fn load(files: &ClientFiles) -> Result<Self, TlsError> {
        let config = Arc::new(client_config(files)?);
        let mut terms = Vec::new();
        if let Some(file) = &files.ca {
            terms.push(Term {
                option: "store-ca",
                is_needed: false,
                is_shown: false,
                validity: validity(file)?,
            });
        }
        if let Some(identity) = &files.identity {
            let validity = validity(&identity.certificate)?;
            terms.push(Term { option: "store-cert", is_needed: true, is_shown: true, validity });
        }
        Ok(Self { config, terms })
    }

    fn terms(&self) -> &[Term] {
        &self.terms
    }

    fn paths(files: &ClientFiles) -> Vec<&Path> {
        let identity = files.identity.iter().flat_map(|files| [&files.certificate, &files.key]);
        files.ca.iter().chain(identity).map(AsRef::as_ref).collect()
    }
}

/// Material, and the files that it comes from.
#[derive(Debug)]
pub struct Reloading<M: Material> {
    files: Arc<M::Files>,
    /// Of the files when they were last read, usable or not.
    seen: Snapshot,
    current: watch::Sender<Arc<M>>,
    /// The last request that has come to its end.
    finished: watch::Sender<u64>,
}

impl<M: Material> Reloading<M> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or used, or they do not fit together.
    pub fn load(files: M::Files) -> Result<Self, TlsError> {
        // Before reading: what changes in between is a change.
        let seen = Snapshot::of::<M>(&files);
        let current = watch::Sender::new(Arc::new(M::load(&files)?));
        Ok(Self { files: Arc::new(files), seen, current, finished: watch::Sender::default() })
    }

    /// The material of the time, now and later.
    pub fn subscribe(&self) -> watch::Receiver<Arc<M>> {
        self.current.subscribe()
    }

    /// The number of the last request that has come to its end, now and later.
    pub fn finished(&self) -> watch::Receiver<u64> {
        self.finished.subscribe()
    }

    /// Reads the files again whenever they have changed or `requests` has. Files that cannot be
    /// used are refused whole, and the material stays what it was; they are tried again now and
    /// then, about which nothing is said until it comes to something else. Never returns.
    pub async fn follow(mut self, mut requests: watch::Receiver<u64>, metrics: Arc<Metrics>) {
        let mut candidate = None;
        let mut refused: Option<Refused> = None;
        loop {
            let is_request = tokio::select! {
                Ok(()) = requests.changed() => true,
                () = tokio::time::sleep(INTERVAL) => false,
            };
            let Some(now) = self.blocking(Snapshot::of::<M>).await else { continue };
            let has_changed = now != self.seen;
            if is_request || (has_changed && candidate.as_ref() == Some(&now)) {
                let request = *requests.borrow_and_update();
                self.seen = now;
                candidate = None;
                refused = self.reload(None, &metrics).await.err();
                self.finished.send_replace(request);
            } else if refused.as_ref().is_some_and(|refused| !has_changed && refused.is_due()) {
                refused = self.reload(refused, &metrics).await.err();
            } else {
                candidate = has_changed.then_some(now);
            }
        }
    }

    /// Runs what reads the files where it may block; nothing comes of it when the program ends.
    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&M::Files) -> T + Send + 'static,
    ) -> Option<T> {
        let files = Arc::clone(&self.files);
        tokio::task::spawn_blocking(move || read(&files)).await.ok()
    }

    /// Uses what is in the files, if it can be used. It is no news that it cannot if it was refused
    /// `before` for the same reason.
    async fn reload(&self, before: Option<Refused>, metrics: &Metrics) -> Result<(), Refused> {
        let purpose = M::PURPOSE;
        let loaded = match self.blocking(M::load).await {
            Some(loaded) => loaded.map_err(|error| error.to_string()),
            None => Err("reading the files was broken off".to_owned()),
        };
        match loaded.and_then(|material| self.no_worse(material)) {
            Ok(material) => {
                self.current.send_replace(Arc::new(material));
                metrics.tls_reload("ok");
                info!("the TLS material {purpose} was reloaded");
                Ok(())
            }
            Err(reason) => {
                if before.is_none_or(|before| before.reason != reason) {
                    metrics.tls_reload("failed");
                    error!(error = %reason, "the TLS material {purpose} has changed and cannot be used: the old one is kept");
                }
                Err(Refused { reason, at: Instant::now() })
            }
        }
    }

    /// Refuses a certificate to show that is not valid now, where the one before is: it is the wrong
    /// file, or came too early. A revocation list that is over is taken: that is the safe side.
    fn no_worse(&self, material: M) -> Result<M, String> {
        let shows_validity = |material: &M| {
            material
                .terms()
                .iter()
                .find(|term| term.is_shown)
                .map(|term| (term.option, term.is_valid()))
        };
        match (shows_validity(&self.current.borrow()), shows_validity(&material)) {
            (Some((_, true)), Some((option, false))) => Err(format!(
                "the certificate of --{option} is not valid now, and the one before is"
            )),
            _ => Ok(material),
        }
    }
}

/// Why the files could not be used, and when they were tried last.
#[derive(Debug)]
struct Refused {
    reason: String,
    at: Instant,
}

impl Refused {
    /// Whether it is time to try them again.
    fn is_due(&self) -> bool {
        self.at.elapsed() >= RETRY
    }
}

/// What the content of files was at a time: a digest, because one of them is a key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Snapshot(Vec<u8>);

impl Snapshot {
    fn of<M: Material>(files: &M::Files) -> Self {
        let mut digest = Context::new(&SHA256);
        for path in M::paths(files) {
            match std::fs::read(path) {
                Ok(content) => {
                    digest.update(&content.len().to_be_bytes());
                    digest.update(&content);
                }
                Err(error) => digest.update(error.kind().to_string().as_bytes()),
            }
        }
        let digest: Digest = digest.finish();
        Self(digest.as_ref().to_vec())
    }
}
