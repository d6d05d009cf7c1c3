//! The store in memory behind the library's own endpoint, and as a gRPC server: this program again,
//! as processes of their own.

use std::{ffi::OsString, path::PathBuf, sync::Arc};

use faroe_sidecar::{
    action::ActionServer,
    authz::AllowList,
    drain::Drain,
    endpoint::{self, DEFAULT_MAX_BODY, DEFAULT_MAX_IN_FLIGHT, DEFAULT_REQUEST_TIMEOUT, Endpoint},
    metrics::Metrics,
    proto::user_store_server::UserStoreServer,
    server::{self, Server},
    store,
    telemetry::{Log, LogFormat, LogLevel},
    tls::{self, IdentityFiles, Reloading, ServerFiles, ServerMaterial},
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
};
use tokio_stream::wrappers::UnixListenerStream;

use crate::{bare::LISTENING, memory::MemoryStore, work::DELETABLE};

/// The first argument of this program when it is to serve the endpoint; the number of users and of
/// those that can be deleted, certificate, key and client CA follow.
pub const ENDPOINT: &str = "memory-endpoint";
/// The first argument of this program when it is to be a gRPC store; the same numbers and its socket
/// follow.
pub const STORE: &str = "memory-store";

/// Serves the endpoint as `serve` puts it together, until it is killed.
pub async fn serve_endpoint(mut arguments: impl Iterator<Item = OsString>) {
    tls::install_provider();
    let store = store(&mut arguments);
    let mut files = arguments.map(PathBuf::from);
    let mut file = || files.next().unwrap();
    let files = ServerFiles {
        identity: IdentityFiles { certificate: file(), key: file() },
        client_ca: file(),
        client_crl: None,
    };
    Log::start(LogFormat::Json, LogLevel::Info, None);
    let tls = Reloading::<ServerMaterial>::load(files).unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let drain = Drain::default();
    // The certificates are looked at now and then, as in the program.
    let (_requests, requests) = watch::channel(0);
    let served = tls.subscribe();
    tokio::spawn(tls.follow(requests, Arc::clone(&metrics)));
    // Of whatever store: a span that nobody listens to, as in the program.
    let spans = store::Spans::of(&"unix:///memory".parse().unwrap());
    let actions = ActionServer::new(Arc::new(store)).with_store_spans(spans);
    let config = endpoint::Config {
        path: "/".to_owned(),
        max_body: DEFAULT_MAX_BODY,
        request_timeout: DEFAULT_REQUEST_TIMEOUT,
        max_in_flight: DEFAULT_MAX_IN_FLIGHT,
        allow: AllowList::new(vec!["dns:faroe".parse().unwrap()]),
    };
    let server = Server {
        tls: Some(served),
        service: Endpoint::new(config, actions, Arc::clone(&metrics), drain.clone()),
        config: server::Config::default(),
        metrics: Some(metrics),
        accepting: None,
        drain,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    eprintln!("{LISTENING} {}", listener.local_addr().unwrap());
    server.serve(listener).await;
}

/// Serves a gRPC store as tonic does by itself, until it is killed.
pub async fn serve_store(mut arguments: impl Iterator<Item = OsString>) {
    let store = store(&mut arguments);
    let socket = PathBuf::from(arguments.next().unwrap());
    let listener = UnixListener::bind(&socket).unwrap();
    eprintln!("{LISTENING} {}", socket.display());
    tonic::transport::Server::builder()
        .add_service(UserStoreServer::new(store))
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await
        .unwrap();
}

fn store(arguments: &mut impl Iterator<Item = OsString>) -> MemoryStore {
    let mut number = || arguments.next().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let (users, deletable) = (number(), number());
    MemoryStore::with_users((0..users).chain(DELETABLE..DELETABLE + deletable))
}
