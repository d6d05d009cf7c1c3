//! TLS: from PEM files to rustls configurations, and from a certificate to names.
//!
//! aws-lc-rs is the provider, named at each place: rustls cannot choose between two. TLS 1.3 and
//! 1.2, hybrid post-quantum key exchange first, no early data.

mod peer;
mod reload;
mod shown;

use std::{
    cmp::Reverse,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use thiserror::Error;

pub use self::{
    peer::{Peer, PeerError, Validity},
    reload::{ClientMaterial, Material, Reloading, ServerMaterial, Term},
    shown::Shown,
};

/// The protocols of the endpoint, the preferred one first.
const HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// TLS material that cannot be used. The text names the file and never shows what is in it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file has no PEM section of the kind that is needed.
    #[error("{file} has no PEM {wanted}")]
    Empty {
        /// The file.
        file: PathBuf,
        /// What it should have.
        wanted: &'static str,
    },
    /// A file is not PEM.
    #[error("{file} is not valid PEM")]
    Pem {
        /// The file.
        file: PathBuf,
    },
    /// A certificate of a bundle cannot be a trust anchor.
    #[error("{file} has a certificate that cannot be a certificate authority: {source}")]
    Anchor {
        /// The file.
        file: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// Certificate and key do not go together, or one of them cannot be used.
    #[error("{certificate} and {key} cannot be used together: {source}")]
    Identity {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// A certificate or a revocation list of a file cannot be read.
    #[error("{file} cannot be used: {source}")]
    Certificate {
        /// The file.
        file: PathBuf,
        /// Why.
        source: PeerError,
    },
    /// The certificate authorities cannot be used to verify clients.
    #[error("{files} cannot be used to verify client certificates: {source}")]
    Verifier {
        /// The files: authorities, and revocation lists.
        files: String,
        /// Why.
        source: VerifierBuilderError,
    },
    /// The system has no certificate authorities.
    #[error(
        "the system has no certificate authorities that can be used: name them with --store-ca"
    )]
    NoSystemAuthorities,
    /// The provider does not support the protocol versions.
    #[error("TLS cannot be set up: {0}")]
    Provider(rustls::Error),
}

/// A certificate chain and its key, as files.
#[derive(Debug, Clone)]
pub struct IdentityFiles {
    /// PEM: the certificate, then those between it and the authority.
    pub certificate: PathBuf,
    /// PEM: the private key.
    pub key: PathBuf,
}

/// The material of a listener, as files.
#[derive(Debug, Clone)]
pub struct ServerFiles {
    /// What the server shows.
    pub identity: IdentityFiles,
    /// PEM: the authorities that client certificates must chain to.
    pub client_ca: PathBuf,
    /// PEM: lists of client certificates that are revoked. With them, a certificate of a chain that
    /// no list covers is refused, and so is one whose list is no longer in force.
    pub client_crl: Option<PathBuf>,
}

/// The material towards a server, as files.
#[derive(Debug, Clone, Default)]
pub struct ClientFiles {
    /// PEM: the authorities that the server's certificate must chain to; those of the system
    /// without.
    pub ca: Option<PathBuf>,
    /// What the client shows, if anything.
    pub identity: Option<IdentityFiles>,
}

/// The configuration of a listener that requires a client certificate.
///
/// A session may be resumed. rustls does not look at the client certificate again then: whoever
/// serves the connection has to ([`ServerMaterial::accepts`]).
///
/// # Errors
///
/// If a file cannot be read or used.
pub fn server_config(files: &ServerFiles) -> Result<ServerConfig, TlsError> {
    server_config_with(files, client_verifier(files)?)
}

fn server_config_with(
    files: &ServerFiles,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, TlsError> {
    let (chain, key) = identity(&files.identity)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|source| unusable(&files.identity, source))?;
    config.alpn_protocols = HTTP.map(<[u8]>::to_vec).to_vec();
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Provider)?;
    config.max_early_data_size = 0;
    Ok(config)
}

fn client_verifier(files: &ServerFiles) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(authorities(&files.client_ca)?);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
    if let Some(file) = &files.client_crl {
        verifier = verifier.with_crls(revocation_lists(file)?.0).enforce_revocation_expiration();
    }
    verifier.build().map_err(|source| {
        let lists = files.client_crl.iter().map(|file| format!(" with {}", file.display()));
        let files = files.client_ca.display().to_string() + &lists.collect::<String>();
        TlsError::Verifier { files, source }
    })
}

/// The lists of a file, and the time in which all of them are in force. The newest comes first:
/// whoever verifies with them looks at the first list that covers a certificate, and at no other.
fn revocation_lists(
    file: &Path,
) -> Result<(Vec<CertificateRevocationListDer<'static>>, Validity), TlsError> {
    const WANTED: &str = "revocation list (X509 CRL)";
    let lists = CertificateRevocationListDer::pem_slice_iter(&read(file)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| pem_error(file, WANTED, &error))?;
    let mut lists = lists
        .into_iter()
        .map(|list| Ok((Validity::of_revocation_list(&list)?, list)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Certificate { file: file.to_owned(), source })?;
    lists.sort_by_key(|(validity, _)| Reverse(validity.beginning()));
    let validity = lists
        .iter()
        .map(|(validity, _)| *validity)
        .reduce(Validity::within)
        .ok_or_else(|| empty(file, WANTED))?;
    Ok((lists.into_iter().map(|(_, list)| list).collect(), validity))
}

/// The configuration of a gRPC client.
///
/// # Errors
///
/// If a file cannot be read or used.
pub fn client_config(files: &ClientFiles) -> Result<ClientConfig, TlsError> {
    let roots = match &files.ca {
        Some(file) => authorities(file)?,
        None => system_authorities()?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?
        .with_root_certificates(roots);
    let mut config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let (chain, key) = identity(files)?;
            builder.with_client_auth_cert(chain, key).map_err(|source| unusable(files, source))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Makes aws-lc-rs the provider of libraries that ask the process for one (the drivers of the
/// databases). Once a process; later calls change nothing.
pub fn install_provider() {
    let _already_there: Result<(), Arc<CryptoProvider>> =
        aws_lc_rs::default_provider().install_default();
}

/// The time in which all certificates of a file are valid.
///
/// # Errors
///
/// If the file cannot be read or has no certificate.
pub fn validity(file: &Path) -> Result<Validity, TlsError> {
    Peer::from_chain(&certificates(file)?)
        .map(|peer| peer.validity())
        .map_err(|source| TlsError::Certificate { file: file.to_owned(), source })
}

/// Looks at material that a library uses by itself: whether it can be read, and whether certificate
/// and key go together.
///
/// # Errors
///
/// If a file cannot be read or used.
pub fn check_client_files(files: &ClientFiles) -> Result<(), TlsError> {
    if let Some(ca) = &files.ca {
        authorities(ca)?;
    }
    if let Some(files) = &files.identity {
        let (chain, key) = identity(files)?;
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(|source| unusable(files, source))?;
    }
    Ok(())
}

pub(crate) fn authorities(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(file)? {
        store
            .add(certificate)
            .map_err(|source| TlsError::Anchor { file: file.to_owned(), source })?;
    }
    Ok(store)
}

fn system_authorities() -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() { Err(TlsError::NoSystemAuthorities) } else { Ok(store) }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(files: &IdentityFiles) -> Result<Identity, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|error| pem_error(&files.key, "private key", &error))?;
    Ok((chain, key))
}

pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(&read(file)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| pem_error(file, "certificate", &error))?;
    if certificates.is_empty() { Err(empty(file, "certificate")) } else { Ok(certificates) }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|source| TlsError::Read { file: file.to_owned(), source })
}

fn pem_error(file: &Path, wanted: &'static str, error: &pem::Error) -> TlsError {
    match error {
        pem::Error::NoItemsFound => empty(file, wanted),
        // The error may quote a line of the file, and that may be a line of a key.
        _ => TlsError::Pem { file: file.to_owned() },
    }
}

fn empty(file: &Path, wanted: &'static str) -> TlsError {
    TlsError::Empty { file: file.to_owned(), wanted }
}

fn unusable(files: &IdentityFiles, source: rustls::Error) -> TlsError {
    TlsError::Identity { certificate: files.certificate.clone(), key: files.key.clone(), source }
}
