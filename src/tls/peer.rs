//! What a certificate says about whoever shows it.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use thiserror::Error;
use x509_parser::{
    extensions::GeneralName,
    prelude::{ASN1Time, FromDer, X509Certificate},
    revocation_list::CertificateRevocationList,
};

/// A certificate or revocation list that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} cannot be read")]
pub struct PeerError(&'static str);

/// The identity in a certificate: its subject alternative names and its key. The subject's common
/// name is nobody's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    dns_names: Vec<String>,
    uri_names: Vec<String>,
    spki_sha256: [u8; SHA256_OUTPUT_LEN],
    validity: Validity,
}

/// From when to when a certificate is valid or a revocation list in force, both included; seconds
/// since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    not_before: i64,
    not_after: i64,
}

impl Validity {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self {
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        }
    }

    /// That of a revocation list; one that does not say when the next one comes has no end.
    pub(super) fn of_revocation_list(
        list: &CertificateRevocationListDer<'_>,
    ) -> Result<Self, PeerError> {
        let (_, list) = CertificateRevocationList::from_der(list)
            .map_err(|_| PeerError("the structure of a revocation list"))?;
        Ok(Self {
            not_before: list.last_update().timestamp(),
            not_after: list.next_update().as_ref().map_or(i64::MAX, ASN1Time::timestamp),
        })
    }

    /// The time in which both are valid.
    pub(super) fn within(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        }
    }

    /// Whether it is valid at `now`.
    pub fn contains(&self, now: SystemTime) -> bool {
        (self.not_before..=self.not_after).contains(&unix_seconds(now))
    }

    /// The first second that counts, since 1970.
    pub(super) fn beginning(&self) -> i64 {
        self.not_before
    }

    /// The last second that counts, since 1970.
    pub fn end(&self) -> i64 {
        self.not_after
    }

    /// Whether less than 30 % of the whole time is left at `now`.
    pub fn is_near_its_end(&self, now: SystemTime) -> bool {
        let whole = self.not_after.saturating_sub(self.not_before);
        let left = self.not_after.saturating_sub(unix_seconds(now));
        left < whole / 10 * 3
    }

    /// How long it is still valid at `now`; zero if it is not.
    pub fn left(&self, now: SystemTime) -> Duration {
        // `not_after` is the last second that counts.
        let seconds = self.not_after.saturating_add(1).saturating_sub(unix_seconds(now));
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }
}

fn unix_seconds(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

impl Peer {
    /// Reads the chain that a peer has shown, its own certificate first. The identity is that of
    /// the first, and valid as long as all of them are.
    ///
    /// # Errors
    ///
    /// If there is no certificate, or one of them cannot be read.
    pub fn from_chain(chain: &[CertificateDer<'_>]) -> Result<Self, PeerError> {
        let (first, above) = chain.split_first().ok_or(PeerError("the certificate chain"))?;
        let mut peer = Self::from_certificate(first)?;
        for certificate in above {
            let (_, certificate) = X509Certificate::from_der(certificate)
                .map_err(|_| PeerError("the certificate chain"))?;
            peer.validity = peer.validity.within(Validity::of(&certificate));
        }
        Ok(peer)
    }

    /// Reads a certificate.
    ///
    /// # Errors
    ///
    /// If its structure, or its subject alternative names, cannot be read.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Result<Self, PeerError> {
        let (_, certificate) = X509Certificate::from_der(certificate)
            .map_err(|_| PeerError("the structure of the certificate"))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| PeerError("the subject alternative name of the certificate"))?;
        let mut dns_names = Vec::new();
        let mut uri_names = Vec::new();
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                GeneralName::URI(name) => uri_names.push((*name).to_owned()),
                _ => {}
            }
        }
        let mut spki_sha256 = [0; SHA256_OUTPUT_LEN];
        spki_sha256.copy_from_slice(digest(&SHA256, certificate.public_key().raw).as_ref());
        Ok(Self { dns_names, uri_names, spki_sha256, validity: Validity::of(&certificate) })
    }

    /// The DNS names, as the certificate writes them.
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.dns_names.iter().map(String::as_str)
    }

    /// The URI names, as the certificate writes them.
    pub fn uri_names(&self) -> impl Iterator<Item = &str> {
        self.uri_names.iter().map(String::as_str)
    }

    /// SHA-256 of the DER of the subject's public key info.
    pub fn spki_sha256(&self) -> &[u8; SHA256_OUTPUT_LEN] {
        &self.spki_sha256
    }

    /// When the certificate is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// What a log calls this peer: its first URI, else its first DNS name.
    pub fn name(&self) -> &str {
        self.uri_names().chain(self.dns_names()).next().unwrap_or("(no name)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_the_validity_are_valid() {
        let validity = Validity { not_before: 100, not_after: 200 };
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (seconds, valid) in [(99, false), (100, true), (150, true), (200, true), (201, false)] {
            assert_eq!(validity.contains(at(seconds)), valid, "{seconds}");
        }
        assert_eq!(validity.left(at(150)), Duration::from_secs(51));
        assert_eq!(validity.left(at(201)), Duration::ZERO);
        assert_eq!(validity.left(at(9999)), Duration::ZERO);
    }

    #[test]
    fn the_last_30_percent_are_near_the_end() {
        let validity = Validity { not_before: 1_000, not_after: 2_000 };
        for (seconds, near) in
            [(0, false), (1_000, false), (1_700, false), (1_701, true), (3_000, true)]
        {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(validity.is_near_its_end(now), near, "{seconds}");
        }
        let endless = Validity { not_before: 0, not_after: i64::MAX };
        assert!(!endless.is_near_its_end(SystemTime::now()));
    }

    #[test]
    fn a_chain_is_valid_as_long_as_all_of_it_is() {
        let certificate = |from: i32, until: i32| {
            let mut params = rcgen::CertificateParams::default();
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(until, 1, 1);
            params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap()
        };
        let leaf = certificate(2000, 2040);
        let above = certificate(2010, 2030);
        let chain = [leaf.der().clone(), above.der().clone()];
        let alone = Peer::from_chain(&chain[..1]).unwrap().validity();
        assert_eq!(alone, Peer::from_certificate(&chain[0]).unwrap().validity());
        let both = Peer::from_chain(&chain).unwrap().validity();
        let of_above = Peer::from_certificate(&chain[1]).unwrap().validity();
        assert_eq!(both, of_above);
        assert_eq!(alone.within(of_above), of_above.within(alone));
        assert!(Peer::from_chain(&[]).is_err());
    }

    #[test]
    fn every_name_of_a_certificate_is_seen_and_its_common_name_is_not() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params =
            rcgen::CertificateParams::new(vec!["a.example".to_owned(), "b.example".to_owned()])
                .unwrap();
        for uri in ["spiffe://x/one", "spiffe://x/two"] {
            params.subject_alt_names.push(rcgen::SanType::URI(uri.try_into().unwrap()));
        }
        params.distinguished_name.push(rcgen::DnType::CommonName, "common.example");
        let certificate = params.self_signed(&key).unwrap();
        let peer = Peer::from_certificate(certificate.der()).unwrap();
        assert_eq!(peer.dns_names().collect::<Vec<_>>(), ["a.example", "b.example"]);
        assert_eq!(peer.uri_names().collect::<Vec<_>>(), ["spiffe://x/one", "spiffe://x/two"]);
        assert_eq!(peer.name(), "spiffe://x/one");
        use rcgen::PublicKeyData as _;
        let spki = digest(&SHA256, &key.subject_public_key_info());
        assert_eq!(peer.spki_sha256(), spki.as_ref());
    }
}
