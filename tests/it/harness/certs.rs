//! Certificates, made by each test for itself.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
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
    common_name: Option<String>,
}

impl Leaf {
    fn new(names: &[&str], usage: ExtendedKeyUsagePurpose) -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            usages: vec![usage],
            not_before: now - Duration::from_secs(3600),
            not_after: now + Duration::from_secs(3600),
            common_name: None,
        }
    }

    /// For a server of this machine.
    pub fn server() -> Self {
        Self::server_of(&["localhost", "127.0.0.1", "::1"])
    }

    /// For a server of these names.
    pub fn server_of(names: &[&str]) -> Self {
        Self::new(names, ExtendedKeyUsagePurpose::ServerAuth)
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

    /// With another common name than the one that tells it from the others.
    pub fn with_common_name(mut self, common_name: &str) -> Self {
        self.common_name = Some(common_name.to_owned());
        self
    }

    fn params(self, name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let common_name = self.common_name.unwrap_or_else(|| format!("test {name}"));
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = self
            .names
            .iter()
            .map(|name| match name.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) if name.contains(':') => SanType::URI(name.as_str().try_into().unwrap()),
                Err(_) => SanType::DnsName(name.as_str().try_into().unwrap()),
            })
            .collect();
        params.extended_key_usages = self.usages;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (self.not_before, self.not_after);
        params
    }
}

impl Identity {
    /// From when on the certificate is not valid any more: its last second counts still.
    pub fn end(&self) -> SystemTime {
        use x509_parser::prelude::FromDer as _;
        let der = CertificateDer::from_pem_file(&self.certificate).unwrap();
        let (_, certificate) = x509_parser::prelude::X509Certificate::from_der(&der).unwrap();
        let not_after = certificate.validity().not_after.timestamp();
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(not_after).unwrap() + 1)
    }

    fn serial_number(&self) -> SerialNumber {
        use x509_parser::prelude::FromDer as _;
        let der = CertificateDer::from_pem_file(&self.certificate).unwrap();
        let (_, certificate) = x509_parser::prelude::X509Certificate::from_der(&der).unwrap();
        SerialNumber::from_slice(certificate.raw_serial())
    }

    /// Waits until the certificate has ended.
    pub async fn wait_for_end(&self) {
        while let Ok(left) = self.end().duration_since(SystemTime::now()) {
            // The clock of certificates is not the one that sleeps.
            tokio::time::sleep(left.max(Duration::from_millis(1))).await;
        }
    }

    /// The pin of its key, as `--allow-client` writes it.
    pub fn spki_pin(&self) -> String {
        use rcgen::PublicKeyData as _;
        let key = KeyPair::from_pem(&fs::read_to_string(&self.key).unwrap()).unwrap();
        let digest =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key.subject_public_key_info());
        format!("spki:sha256/{}", super::base64(digest))
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
        // Revocation lists are found by the name of their issuer.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("test authority {}", NEXT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
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
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.params(name).signed_by(&key, &self.issuer).unwrap();
        self.write(name, &certificate, &key)
    }

    /// Writes `NAME.crl`: these certificates are revoked, and the list is in force from and until
    /// then, counted from now.
    pub fn revoke(
        &self,
        name: &str,
        revoked: &[&Identity],
        from: time::Duration,
        until: time::Duration,
    ) -> PathBuf {
        let now = OffsetDateTime::now_utc();
        let revoked = revoked.iter().map(|identity| RevokedCertParams {
            serial_number: identity.serial_number(),
            revocation_time: now - Duration::from_secs(60),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: now + from,
            next_update: now + until,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.folder.path().join(format!("{name}.crl"));
        fs::write(&path, list.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
        path
    }

    /// The same, signed by nobody but itself.
    pub fn self_signed(&self, name: &str, leaf: Leaf) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.params(name).self_signed(&key).unwrap();
        self.write(name, &certificate, &key)
    }

    fn write(&self, name: &str, certificate: &rcgen::Certificate, key: &KeyPair) -> Identity {
        let identity = Identity {
            certificate: self.folder.path().join(format!("{name}.pem")),
            key: self.folder.path().join(format!("{name}.key")),
        };
        fs::write(&identity.certificate, certificate.pem()).unwrap();
        fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }
}
