//! What happens for each request apart from TLS and HTTP: who may call, decoding, the call,
//! encoding.

use std::{fmt::Write as _, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use faroe_sidecar::{action::ActionServer, authz::AllowList, tls::Peer};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;

use crate::{memory::MemoryStore, users};

pub const USERS: u64 = 1_000;

/// Resolves action invocations with a store in memory.
pub struct HotPath {
    pub actions: ActionServer,
    pub runtime: tokio::runtime::Runtime,
    pub certificate: CertificateDer<'static>,
    pub allow: AllowList,
}

impl HotPath {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let names = ["faroe.internal", "faroe", "localhost"].map(str::to_owned);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        // The last entry is the one that matches.
        let entries = ["dns:a.example", "dns:*.b.example", "uri:spiffe://c/**", "dns:faroe"];
        let allow = AllowList::new(entries.map(|entry| entry.parse().unwrap()).to_vec());
        let actions = ActionServer::new(Arc::new(MemoryStore::with_users(0..USERS)));
        Self { actions, runtime, certificate: certificate.der().clone(), allow }
    }

    /// Resolves an invocation that has to succeed.
    pub fn resolve(&self, body: &str) {
        let resolution = self.runtime.block_on(self.actions.resolve(body.as_bytes())).unwrap();
        assert!(resolution.error_code.is_none());
    }

    /// Decodes a request that turns out to be wrong at its very end, so that nothing is called.
    pub fn decode(&self, body: &str) {
        self.runtime.block_on(self.actions.resolve(body.as_bytes())).unwrap_err();
    }

    pub fn peer(&self) -> Peer {
        Peer::from_certificate(&self.certificate).unwrap()
    }
}

pub fn get_user(number: u64) -> String {
    let id = users::id(number % USERS);
    format!(r#"{{"action":"get_user","arguments":{{"user_id":"{id}"}}}}"#)
}

/// With the counter of a user that nothing else updates.
pub fn update_user_password_hash(counter: i32) -> String {
    let mut body = password("update_user_password_hash");
    let id = users::id(0);
    let _ = write!(body, r#","user_id":"{id}","user_password_hash_counter":{counter}}}}}"#);
    body
}

/// An invocation of `create_user` whose last argument has the wrong type.
pub fn wrong_create_user() -> String {
    password("create_user") + r#","email_address":1}}"#
}

fn password(action: &str) -> String {
    let (hash, salt) = (STANDARD.encode([0xa5; users::HASH]), STANDARD.encode([0x5a; users::SALT]));
    let algorithm = users::ALGORITHM;
    format!(
        r#"{{"action":"{action}","arguments":{{"password_hash":"{hash}","password_hash_algorithm_id":"{algorithm}","password_salt":"{salt}""#
    )
}
