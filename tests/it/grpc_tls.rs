//! The way to a gRPC store, and `faroe-sidecar store` as such a one: TLS, sockets, health,
//! reflection.

use std::{
    fs,
    os::unix::{fs::FileTypeExt as _, net::UnixListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_stream::StreamExt as _;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::harness::{
    certs::{Authority, Identity, Leaf},
    client::admin,
    database::Kind,
    email_address,
    process::{PATIENCE, Pki, Process, Sidecar, SqliteFile, output_of, program, run},
};

const SERVICE: &str = "faroe.userstore.v1.UserStore";

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// `faroe-sidecar store` on an SQLite file of its own.
struct Store {
    process: Process,
    /// Where it listens, as it says.
    listens: String,
    _file: SqliteFile,
}

impl Store {
    fn start(listen: &str, options: &[String]) -> Self {
        let file = SqliteFile::new();
        let process = Process::start(store(listen, &file, options));
        let line: Value = serde_json::from_str(&process.wait_for_log("\"listening\"")).unwrap();
        let listens = line["store"].as_str().unwrap().to_owned();
        Self { process, listens, _file: file }
    }

    /// With this certificate, for clients of `clients`.
    fn tls(identity: &Identity, clients: &Authority) -> Self {
        let options = [
            ("--tls-cert", text(&identity.certificate)),
            ("--tls-key", text(&identity.key)),
            ("--client-ca", text(&clients.certificate())),
        ];
        let options: Vec<_> =
            options.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        Self::start("tcp://127.0.0.1:0", &options)
    }

    fn url(&self, host: &str) -> String {
        self.listens.replace("tcp://127.0.0.1", &format!("grpcs://{host}"))
    }
}

fn store(listen: &str, file: &SqliteFile, options: &[String]) -> std::process::Command {
    let fixed = ["store", "--listen", listen, "--store", &file.url(), "--log-format", "json"]
        .map(str::to_owned);
    program(fixed.into_iter().chain(options.iter().cloned()))
}

/// A sidecar in front of a store with TLS.
fn sidecar(pki: &Arc<Pki>, url: &str, ca: &Path, identity: Option<&Identity>) -> Sidecar {
    let mut options = vec!["--store-ca".to_owned(), text(ca)];
    if let Some(identity) = identity {
        let (certificate, key) = (text(&identity.certificate), text(&identity.key));
        options.extend(["--store-cert".to_owned(), certificate, "--store-key".to_owned(), key]);
    }
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    Sidecar::start_with(Arc::clone(pki), url, &options)
}

async fn works(sidecar: &Sidecar) {
    sidecar.wait_until_ready();
    let user = sidecar.client().create_user(&email_address()).await;
    assert_eq!(sidecar.client().get_user(&user).await, user);
}

/// The sidecar is not ready and never was, says why, and a caller is told to come again.
async fn does_not_work(sidecar: &Sidecar, why: &str) {
    let body = json!({ "action": "get_user", "arguments": { "user_id": "nobody" } });
    let reply = sidecar.client().post(body.to_string()).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{}", reply.text());
    assert!(reply.header("retry-after").is_some());
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    let line = sidecar.process.wait_for_log(why);
    assert!(line.contains("WARN"), "{line}");
    // The condition is looked at now and then; whatever it says, it is not met.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ready = admin(sidecar.admin, "/readyz").await;
        assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE, "{}", ready.text());
        if ready.text().contains(why) {
            break;
        }
        assert!(Instant::now() < deadline, "no {why:?}: {}", ready.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = sidecar.process.log();
    assert!(!log.contains("the store is ready"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_used_over_mutual_tls_by_name_and_by_address() {
    let pki = Arc::new(Pki::new());
    let store = Store::tls(&pki.server, &pki.authority);
    let ca = pki.authority.certificate();
    for host in ["localhost", "127.0.0.1"] {
        works(&sidecar(&pki, &store.url(host), &ca, Some(&pki.client))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_wants_another_client_certificate_is_not_reached() {
    let pki = Arc::new(Pki::new());
    let store = Store::tls(&pki.server, &pki.authority);
    let ca = pki.authority.certificate();
    let other_authority = Authority::new();
    let stranger = other_authority.issue("stranger", Leaf::client(&["faroe"]));
    for (identity, why) in
        [(None, "CertificateRequired"), (Some(&stranger), "received fatal alert")]
    {
        let sidecar = sidecar(&pki, &store.url("localhost"), &ca, identity);
        does_not_work(&sidecar, why).await;
    }
    works(&sidecar(&pki, &store.url("localhost"), &ca, Some(&pki.client))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_authority_is_not_used() {
    let pki = Arc::new(Pki::new());
    let store = Store::tls(&pki.server, &pki.authority);
    let stranger = Authority::new();
    let ca = stranger.certificate();
    let sidecar = sidecar(&pki, &store.url("localhost"), &ca, Some(&pki.client));
    does_not_work(&sidecar, "TLS handshake: invalid peer certificate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_name_is_not_used() {
    let pki = Arc::new(Pki::new());
    let other = pki.authority.issue("other", Leaf::server_of(&["other.example"]));
    let store = Store::tls(&other, &pki.authority);
    let ca = pki.authority.certificate();
    let sidecar = sidecar(&pki, &store.url("localhost"), &ca, Some(&pki.client));
    does_not_work(&sidecar, "certificate not valid for name").await;
}

#[test]
fn plain_text_to_another_host_has_to_be_allowed() {
    let pki = Pki::new();
    let check = |url: &str, options: &[&str]| {
        let mut arguments = pki.serve_options(url);
        arguments[0] = "check".to_owned();
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let output = run(arguments);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for url in ["grpc://10.0.0.1:1", "grpc://store.example:1", "grpc://0.0.0.0:1"] {
        let (code, said) = check(url, &[]);
        assert_eq!(code, Some(2), "{url}: {said}");
        assert!(said.contains("--insecure-store") && said.contains("grpcs://"), "{said}");
        assert_eq!(check(url, &["--insecure-store"]).0, Some(0), "{url}");
    }
    for url in ["grpc://127.0.0.1:1", "grpc://[::1]:1", "grpc://localhost:1", "unix:///s"] {
        assert_eq!(check(url, &[]).0, Some(0), "{url}");
    }
    let ca = text(&pki.authority.certificate());
    assert_eq!(check("grpcs://10.0.0.1:1", &["--store-ca", &ca]).0, Some(0));
}

#[test]
fn a_store_that_strangers_could_reach_has_to_have_tls() {
    let file = SqliteFile::new();
    let output = output_of(store("tcp://0.0.0.0:0", &file, &[]), "", PATIENCE);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--tls-cert"), "{said}");
    assert!(!file.path.exists(), "nothing is written");
    // It is the missing TLS that is wrong with it; the address is one of this host all the same.
    let pki = Pki::new();
    let options = [
        ("--tls-cert", text(&pki.server.certificate)),
        ("--tls-key", text(&pki.server.key)),
        ("--client-ca", text(&pki.authority.certificate())),
    ];
    let options: Vec<_> =
        options.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
    assert!(Store::start("tcp://0.0.0.0:0", &options).process.terminate().success());
    let allowed = ["--insecure-store".to_owned()];
    assert!(Store::start("tcp://0.0.0.0:0", &allowed).process.terminate().success());
}

/// A folder with a place for a socket.
fn socket() -> (TempDir, PathBuf, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sock");
    let url = format!("unix://{}", path.display());
    (folder, path, url)
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_nobody_listens_on_is_replaced_and_removed_at_the_end() {
    let (_folder, path, url) = socket();
    // Closing a listener leaves its file.
    drop(UnixListener::bind(&path).unwrap());
    assert!(is_socket(&path));
    let mut store = Store::start(&url, &[]);
    works(&Sidecar::start(&store.listens, &[])).await;
    assert!(store.process.terminate().success());
    assert!(!path.exists(), "it is removed at the end");

    // One that a crash left behind.
    let mut store = Store::start(&url, &[]);
    store.process.kill();
    assert!(is_socket(&path));
    let mut store = Store::start(&url, &[]);
    works(&Sidecar::start(&store.listens, &[])).await;
    assert!(store.process.terminate().success());
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_in_use_and_a_file_are_left_alone() {
    let (_folder, path, url) = socket();
    let refused = |why: &str| {
        let file = SqliteFile::new();
        let output = output_of(store(&url, &file, &[]), "", PATIENCE);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why) && said.contains(path.to_str().unwrap()), "{said}");
        assert!(!file.path.exists(), "nothing is written");
    };
    fs::write(&path, "somebody's file").unwrap();
    refused("something else than a socket");
    assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's file");
    fs::remove_file(&path).unwrap();

    let first = Store::start(&url, &[]);
    refused("another process listens");
    works(&Sidecar::start(&first.listens, &[])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_tells_its_health_and_its_contract() {
    let store = Store::start("tcp://127.0.0.1:0", &[]);
    let url = store.listens.replace("tcp://", "http://");
    let channel = tonic::transport::Endpoint::from_shared(url).unwrap().connect().await.unwrap();

    let mut health = HealthClient::new(channel.clone());
    // Serving comes a moment after listening: the store looks at its database first.
    let request = HealthCheckRequest { service: SERVICE.to_owned() };
    let mut states = health.watch(request.clone()).await.unwrap().into_inner();
    while states.next().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    let answer = health.check(request).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
    let unknown = HealthCheckRequest { service: "no.such.Service".to_owned() };
    assert_eq!(health.check(unknown).await.unwrap_err().code(), tonic::Code::NotFound);

    let mut reflection = ServerReflectionClient::new(channel);
    let mut ask = async |question: MessageRequest| {
        let request =
            ServerReflectionRequest { message_request: Some(question), ..Default::default() };
        let answers = reflection.server_reflection_info(tokio_stream::once(request)).await;
        let answer = answers.unwrap().into_inner().next().await.unwrap().unwrap();
        answer.message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(services) =
        ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("no list of services")
    };
    let names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&SERVICE), "{names:?}");
    assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");
    let MessageResponse::FileDescriptorResponse(files) =
        ask(MessageRequest::FileContainingSymbol(SERVICE.to_owned())).await
    else {
        panic!("no description of the service")
    };
    let has = |part: &[u8]| {
        files.file_descriptor_proto.iter().any(|file| file.windows(part.len()).any(|w| w == part))
    };
    assert!(has(b"GetUserByEmailAddress"), "the methods can be found out");
}

/// A store whose database is not there is not healthy, and is again when it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_not_healthy_without_its_schema() {
    let database = tokio::task::spawn_blocking(|| Kind::Postgres.database()).await.unwrap();
    let arguments = [
        "store",
        "--listen",
        "tcp://127.0.0.1:0",
        "--store",
        &database.url,
        "--log-format",
        "json",
    ];
    let process = Process::start(program(arguments));
    let line: Value = serde_json::from_str(&process.wait_for_log("\"listening\"")).unwrap();
    process.wait_for_log("the store is not ready");
    let url = line["store"].as_str().unwrap().replace("tcp://", "http://");
    let channel = tonic::transport::Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    let request = HealthCheckRequest { service: SERVICE.to_owned() };
    let answer = health.check(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::NotServing);
    let mut states = health.watch(request).await.unwrap().into_inner();
    assert!(run(["migrate", "up", "--store", &database.url]).status.success());
    while states.next().await.unwrap().unwrap().status() != ServingStatus::Serving {}

    // Whoever watches does not hold the end up.
    let mut process = process;
    assert_eq!(process.terminate().code(), Some(0));
}
