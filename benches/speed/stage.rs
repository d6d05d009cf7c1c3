//! Who is measured: the servers, each started when it is first asked for.

use std::{ffi::OsString, fs, net::SocketAddr, process::Command, sync::Arc};

use crate::{
    bare,
    daemon::Daemon,
    databases::{self, Databases},
    harness::{
        database::Kind,
        process::{Pki, program},
    },
    load::{self, Caller, Mode},
    memory_server,
    peers::{Peer, Peers},
    slice::Target,
    usage::Group,
    users,
    work::Population,
};

/// The users that measurements have unless they say otherwise.
pub const USERS: u64 = 1_000;

/// The users that can be deleted from a store in memory.
const DELETABLE_USERS: u64 = 800_000;

/// Who serves the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// faroe-sidecar.
    Ours(Behind),
    /// Mutual TLS, HTTP and a constant answer.
    Floor,
    /// The same with a call of the gRPC store for each request, by a bare tonic client.
    FloorWithGrpc,
    /// What people use today.
    Peer(Peer, Kind),
}

/// Where the users of faroe-sidecar are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    Memory,
    /// In memory too, and users that can be deleted beside them.
    MemoryToDelete,
    Grpc,
    Database(Kind),
}

impl Who {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours(_) => "faroe-sidecar",
            Self::Floor => "floor",
            Self::FloorWithGrpc => "floor + tonic client",
            Self::Peer(peer, _) => peer.name(),
        }
    }

    pub fn store(self) -> &'static str {
        match self {
            Self::Ours(Behind::Memory | Behind::MemoryToDelete) => "in memory",
            Self::Ours(Behind::Grpc) | Self::FloorWithGrpc => "gRPC, Unix socket",
            Self::Ours(Behind::Database(kind)) | Self::Peer(_, kind) => databases::name(kind),
            Self::Floor => "none",
        }
    }

    fn kind(self) -> Option<Kind> {
        match self {
            Self::Ours(Behind::Database(kind)) | Self::Peer(_, kind) => Some(kind),
            _ => None,
        }
    }
}

/// A server that is running, until this is dropped.
pub struct Running {
    _daemon: Daemon,
    pub target: Target,
    pub population: Arc<Population>,
}

pub struct Stage {
    pub pki: Arc<Pki>,
    pub databases: Databases,
    peers: Peers,
    /// The gRPC store that is called over a socket.
    store: Option<Daemon>,
    running: Vec<(Who, u64, Arc<Running>)>,
}

impl Stage {
    pub fn new() -> Self {
        Self {
            pki: Arc::new(Pki::new()),
            databases: Databases::default(),
            peers: Peers::default(),
            store: None,
            running: Vec::new(),
        }
    }

    /// The server with that many users.
    pub async fn with_users(&mut self, who: Who, users: u64) -> Arc<Running> {
        let mut started = self.running.iter();
        if let Some((_, _, running)) = started.find(|(w, u, _)| (*w, *u) == (who, users)) {
            return Arc::clone(running);
        }
        let running = Arc::new(self.start(who, users).await);
        self.running.push((who, users, Arc::clone(&running)));
        running
    }

    /// From now on the databases have users that can be deleted.
    pub async fn add_deletable(&mut self) {
        for kind in Kind::ALL {
            self.databases.add_deletable(kind, USERS).await;
        }
    }

    pub async fn running(&mut self, who: Who) -> Arc<Running> {
        self.with_users(who, USERS).await
    }

    async fn start(&mut self, who: Who, users: u64) -> Running {
        let mut store = Group::None;
        let mut population = Population::new(users);
        let mut url = String::new();
        if let Some(kind) = who.kind() {
            let populated = self.databases.with_users(kind, users).await;
            population = Arc::clone(&populated.population);
            url.clone_from(&populated.database.url);
            store = match kind {
                Kind::Sqlite => Group::None,
                Kind::Postgres => Group::Named("postgres"),
                Kind::MariaDb => Group::Named("mariadbd"),
            };
        }
        if matches!(who, Who::FloorWithGrpc | Who::Ours(Behind::Grpc)) {
            store = Group::Process(self.store());
        }
        let (command, line) = match who {
            Who::Ours(Behind::Memory) => (self.memory(users, 0), bare::LISTENING),
            Who::Ours(Behind::MemoryToDelete) => {
                (self.memory(users, DELETABLE_USERS), bare::LISTENING)
            }
            Who::Ours(Behind::Grpc) => {
                (sidecar(&self.pki, &format!("unix://{}", self.socket())), READY)
            }
            Who::Ours(Behind::Database(_)) => (sidecar(&self.pki, &url), READY),
            Who::Floor | Who::FloorWithGrpc => {
                let answer = self.answer().await;
                let mut command = self.again(bare::ARGUMENT, &[]);
                command.args(self.files()).arg(answer);
                if who == Who::FloorWithGrpc {
                    command.args([&self.socket(), &users::id(0)]);
                }
                (command, bare::LISTENING)
            }
            Who::Peer(peer, _) => (self.peers.command(peer, &self.pki, &url), bare::LISTENING),
        };
        let mut daemon = Daemon::start(command);
        let (line, _) = daemon.wait_for(line);
        let address: SocketAddr = if matches!(who, Who::Ours(Behind::Grpc | Behind::Database(_))) {
            let (line, _) = daemon.wait_for("\"listening\"");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            line["endpoint"].as_str().unwrap().parse().unwrap()
        } else {
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        let pki = Arc::clone(&self.pki);
        let server = Group::Process(daemon.id());
        let target = Target { address, pki, server, store };
        Running { _daemon: daemon, target, population }
    }

    /// This program again, as something else.
    fn again(&self, argument: &str, numbers: &[u64]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(argument).args(numbers.iter().map(u64::to_string));
        command
    }

    fn files(&self) -> [OsString; 3] {
        let pki = &self.pki;
        let client_ca = pki.authority.certificate();
        [&pki.server.certificate, &pki.server.key, &client_ca].map(OsString::from)
    }

    fn memory(&self, users: u64, deletable: u64) -> Command {
        let mut command = self.again(memory_server::ENDPOINT, &[users, deletable]);
        command.args(self.files());
        command
    }

    pub fn socket(&self) -> String {
        self.pki.authority.folder().join("store.sock").to_str().unwrap().to_owned()
    }

    /// Starts the gRPC store, if it is not running; the number of its process.
    pub fn store(&mut self) -> u32 {
        if self.store.is_none() {
            let mut command = self.again(memory_server::STORE, &[USERS, DELETABLE_USERS]);
            command.arg(self.socket());
            let mut daemon = Daemon::start(command);
            daemon.wait_for(bare::LISTENING);
            self.store = Some(daemon);
        }
        self.store.as_ref().unwrap().id()
    }

    /// A file with an answer as faroe-sidecar gives it to `get_user`.
    async fn answer(&mut self) -> OsString {
        let file = self.pki.authority.folder().join("answer.json");
        if !file.exists() {
            let ours = Box::pin(self.running(Who::Ours(Behind::Memory))).await;
            let tls = load::tls(&self.pki, Mode::KeepAlive);
            let mut caller = Caller::new(Mode::KeepAlive, tls, load::fixed(ours.target.address));
            let invocation = ours.population.work("get_user")(0);
            let answer = caller.post(&invocation.body.into()).await.unwrap();
            fs::write(&file, answer.body).unwrap();
        }
        file.into()
    }
}

/// What the sidecar logs when it is ready.
pub const READY: &str = "the store is ready";

/// The sidecar with the default log level.
pub fn sidecar(pki: &Pki, store: &str) -> Command {
    let mut arguments = pki.serve_options(store);
    let level = arguments.iter().position(|argument| argument == "--log-level").unwrap();
    arguments.drain(level..level + 2);
    program(arguments)
}
