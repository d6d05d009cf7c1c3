//! Certificate, key and client CA of a sidecar in a folder that is changed as Kubernetes changes a
//! mounted Secret: a new folder beside the old one, and a symbolic link that is renamed over.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig,
    client::Resumption,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tempfile::TempDir;

use crate::{
    harness::{
        certs::{Authority, Identity, Leaf},
        process::Pki,
    },
    load::{Mode, connect, tls},
};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const CLIENT_CA: &str = "ca.crt";

/// The mounted folder, and the two states that it goes back and forth between. The caller's
/// certificate is good in both.
pub struct Material {
    folder: TempDir,
    servers: [Identity; 2],
    bundles: [String; 2],
    generation: usize,
    /// A client that resumes no session: each connection shows the certificate of the server.
    tls: Arc<ClientConfig>,
}

impl Material {
    pub fn new(pki: &Pki) -> Self {
        let servers = ["first", "second"].map(|name| pki.authority.issue(name, Leaf::server()));
        let ours = pem(&pki.authority.certificate());
        let [other, third] = [(); 2].map(|()| pem(&Authority::new().certificate()));
        let bundles = [format!("{ours}{other}"), format!("{other}{ours}{third}")];
        let mut tls = Arc::unwrap_or_clone(tls(pki, Mode::KeepAlive));
        tls.resumption = Resumption::disabled();
        let folder = TempDir::new().unwrap();
        let material = Self { folder, servers, bundles, generation: 0, tls: Arc::new(tls) };
        material.publish();
        for name in [CERTIFICATE, KEY, CLIENT_CA] {
            symlink(Path::new("..data").join(name), material.path(name)).unwrap();
        }
        material
    }

    /// The options that name the files.
    pub fn options(&self) -> [(&'static str, PathBuf); 3] {
        [("--tls-cert", CERTIFICATE), ("--tls-key", KEY), ("--client-ca", CLIENT_CA)]
            .map(|(flag, name)| (flag, self.path(name)))
    }

    /// Brings the other state.
    pub fn change(&mut self) {
        self.generation += 1;
        self.publish();
    }

    /// Whether a new connection shows the certificate that is in the folder.
    pub async fn is_shown(&self, endpoint: SocketAddr) -> bool {
        let stream = connect(endpoint, &self.tls).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap().first();
        shown == Some(&CertificateDer::from_pem_file(&self.server().certificate).unwrap())
    }

    fn server(&self) -> &Identity {
        &self.servers[self.generation % 2]
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn publish(&self) {
        let name = |generation: usize| format!("..{generation}");
        let new = self.path(&name(self.generation));
        fs::create_dir(&new).unwrap();
        fs::copy(&self.server().certificate, new.join(CERTIFICATE)).unwrap();
        fs::copy(&self.server().key, new.join(KEY)).unwrap();
        fs::write(new.join(CLIENT_CA), &self.bundles[self.generation % 2]).unwrap();
        symlink(name(self.generation), self.path("..data_tmp")).unwrap();
        fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
        if let Some(last) = self.generation.checked_sub(1) {
            fs::remove_dir_all(self.path(&name(last))).unwrap();
        }
    }
}

fn pem(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}
