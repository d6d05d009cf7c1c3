//! The patterns of `--allow-client`. The first line is an entry, each line after it a name of the
//! certificate: a URI if it has a colon, else a DNS name. Each `$` stands for the pin of the key.

#![no_main]

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use faroe_sidecar::{
    authz::{AllowList, AllowedClient},
    tls::Peer,
};
use libfuzzer_sys::fuzz_target;
use oracle::{
    names::{Certificate, allows},
    planted,
};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SanType};

static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate_for(&PKCS_ED25519).unwrap());
static SPKI_SHA256: LazyLock<[u8; 32]> = LazyLock::new(|| *peer(vec![]).spki_sha256());

fn peer(names: Vec<SanType>) -> Peer {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    Peer::from_certificate(params.self_signed(&*KEY).unwrap().der()).unwrap()
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let (entry, names) = text.split_once('\n').unwrap_or((text, ""));
    let entry = planted(entry, &STANDARD.encode(*SPKI_SHA256));

    let mut certificate =
        Certificate { spki_sha256: SPKI_SHA256.to_vec(), ..Certificate::default() };
    let mut of_peer = Vec::new();
    for name in names.lines().filter(|name| name.is_ascii() && !name.is_empty()) {
        let text = name.try_into().unwrap();
        if name.contains(':') {
            of_peer.push(SanType::URI(text));
            certificate.uri_names.push(name.to_owned());
        } else {
            of_peer.push(SanType::DnsName(text));
            certificate.dns_names.push(name.to_owned());
        }
    }

    let allowed = match entry.parse::<AllowedClient>() {
        Ok(client) => Some(AllowList::new(vec![client]).allows(&peer(of_peer))),
        Err(error) => {
            assert!(error.to_string().len() > entry.len(), "{error}");
            None
        }
    };
    assert_eq!(allowed, allows(&entry, &certificate), "{entry:?} {certificate:?}");
});
