//! Every store that the sidecar can stand in front of.

use std::sync::Arc;

use super::{
    certs::Leaf,
    client::Client,
    database::{Database, Kind},
    process::{Pki, Process, Sidecar, SqliteFile, program},
};

/// How a sidecar reaches its users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// The bundled store on a database.
    Bundled(Kind),
    /// A gRPC store over TCP.
    GrpcTcp,
    /// A gRPC store over mutual TLS.
    GrpcTls,
    /// A gRPC store over a Unix socket.
    GrpcUnix,
}

impl StoreKind {
    /// A sidecar, ready, in front of an empty store of this kind.
    pub fn start(self, options: &[&str]) -> Running {
        match self {
            Self::Bundled(kind) => {
                let database = kind.database();
                let options = [options, &["--migrate"]].concat();
                let sidecar = Sidecar::ready(&database.url, &options);
                Running { sidecar, database, _store: None }
            }
            Self::GrpcTcp | Self::GrpcTls | Self::GrpcUnix => self.start_grpc(options),
        }
    }

    fn start_grpc(self, options: &[&str]) -> Running {
        let database = Kind::Sqlite.database();
        let pki = Arc::new(Pki::new());
        let identity = pki.authority.issue("store", Leaf::server());
        let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        let ca = path(&pki.authority.certificate());
        let socket = pki.authority.folder().join("store.sock");
        let mut arguments: Vec<String> =
            ["store", "--store", &database.url, "--log-format", "json"].map(str::to_owned).to_vec();
        let mut sidecar_options: Vec<String> =
            options.iter().map(|option| (*option).to_owned()).collect();
        match self {
            Self::GrpcUnix => {
                arguments.extend(["--listen".to_owned(), format!("unix://{}", socket.display())]);
            }
            _ => arguments.extend(["--listen".to_owned(), "tcp://127.0.0.1:0".to_owned()]),
        }
        if self == Self::GrpcTls {
            let tls = [
                ("--tls-cert", path(&identity.certificate)),
                ("--tls-key", path(&identity.key)),
                ("--client-ca", ca.clone()),
            ];
            arguments.extend(tls.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
            let tls = [
                ("--store-ca", ca),
                ("--store-cert", path(&pki.client.certificate)),
                ("--store-key", path(&pki.client.key)),
            ];
            sidecar_options
                .extend(tls.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
        }
        let store = Process::start(program(arguments));
        let line: serde_json::Value =
            serde_json::from_str(&store.wait_for_log("\"listening\"")).unwrap();
        let listens = line["store"].as_str().unwrap();
        let url = match self {
            Self::GrpcTls => listens.replace("tcp://127.0.0.1", "grpcs://localhost"),
            _ => listens.replace("tcp://", "grpc://"),
        };
        let sidecar_options: Vec<&str> = sidecar_options.iter().map(String::as_str).collect();
        let sidecar = Sidecar::start_with(pki, &url, &sidecar_options);
        sidecar.wait_until_ready();
        Running { sidecar, database, _store: Some(store) }
    }
}

/// A sidecar with what lies behind it.
pub struct Running {
    pub sidecar: Sidecar,
    pub database: Database,
    _store: Option<Process>,
}

impl Running {
    pub fn client(&self) -> Client {
        self.sidecar.client()
    }
}

/// Two sidecars over one database, as replicas are.
pub struct Pair {
    pub sidecars: [Sidecar; 2],
    pub database: Database,
}

impl Pair {
    /// Two sidecars, ready, over an empty database. They have time: who asks for two is not after
    /// what happens on a machine that is too slow.
    pub fn start(kind: Kind) -> Self {
        const OPTIONS: [&str; 3] = ["--migrate", "--store-timeout", "30s"];
        let database = kind.database();
        let pki = Arc::new(Pki::new());
        let sidecars = [(); 2].map(|()| {
            let sidecar = Sidecar::start_with(Arc::clone(&pki), &database.url, &OPTIONS);
            sidecar.wait_until_ready();
            sidecar
        });
        Self { sidecars, database }
    }

    /// A client of each.
    pub fn clients(&self) -> [Client; 2] {
        self.sidecars.each_ref().map(Sidecar::client)
    }
}

/// A sidecar on an SQLite file of its own, ready.
pub fn sqlite_sidecar(options: &[&str]) -> (Sidecar, SqliteFile) {
    let file = SqliteFile::new();
    (Sidecar::ready(&file.url(), options), file)
}
