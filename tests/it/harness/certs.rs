//! Certificates, made by each test for itself.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use tempfile::TempDir;
use time::OffsetDateTime;

/// A certificate authority with a folder for what it issues.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What a certificate is to be.
pub struct Leaf {
    names: Vec<String>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Leaf {
    fn new(names: &[&str], usage: ExtendedKeyUsagePurpose) -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            usages: vec![usage],
            not_before: now - Duration::from_secs(3600),
            not_after: now + Duration::from_secs(3600),
        }
    }

    /// For a server of this machine.
    pub fn server() -> Self {
        Self::new(&["localhost", "127.0.0.1", "::1"], ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// For a client of these names; one with a colon is a URI.
    pub fn client(names: &[&str]) -> Self {
        Self::new(names, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// Valid from and until then, counted from now.
    pub fn valid(mut self, from: time::Duration, until: time::Duration) -> Self {
        let now = OffsetDateTime::now_utc();
        (self.not_before, self.not_after) = (now + from, now + until);
        self
    }

    /// With another extended key usage.
    pub fn with_usage(mut self, usage: ExtendedKeyUsagePurpose) -> Self {
        self.usages = vec![usage];
        self
    }
}

impl Authority {
    pub fn new() -> Self {
        Self::new_in(&std::env::temp_dir())
    }

    /// With its folder in this one, for what is never dropped: whoever removes this one removes
    /// both.
    pub fn new_in(parent: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = TempDir::new_in(parent).unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The authority's own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Issues `NAME.pem` and `NAME.key`.
    pub fn issue(&self, name: &str, leaf: Leaf) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("test {name}"));
        params.subject_alt_names = leaf
            .names
            .iter()
            .map(|name| match name.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) if name.contains(':') => SanType::URI(name.as_str().try_into().unwrap()),
                Err(_) => SanType::DnsName(name.as_str().try_into().unwrap()),
            })
            .collect();
        params.extended_key_usages = leaf.usages;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (leaf.not_before, leaf.not_after);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let identity = Identity {
            certificate: self.folder.path().join(format!("{name}.pem")),
            key: self.folder.path().join(format!("{name}.key")),
        };
        fs::write(&identity.certificate, certificate.pem()).unwrap();
        fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }
}
