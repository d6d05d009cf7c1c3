//! The program as people meet it: usage errors, exit codes, what it prints, how it stops.
//! `interface`.

use std::{fs, net::TcpListener, path::Path, process::Output, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{
    certs::{Authority, Leaf},
    client::admin,
    database::Kind,
    email_address,
    process::{Pki, Process, Sidecar, SqliteFile, program, run, without_secret},
    stores::{StoreKind, sqlite_sidecar},
};

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The options of a `serve` that would work, with one of them changed.
fn serve_with(pki: &Pki, store: &str, flag: &str, value: Option<&str>) -> Vec<String> {
    let mut arguments = pki.serve_options(store);
    match (arguments.iter().position(|argument| argument == flag), value) {
        (Some(at), Some(value)) => arguments[at + 1] = value.to_owned(),
        (Some(at), None) => {
            arguments.drain(at..at + 2);
        }
        (None, value) => {
            arguments.push(flag.to_owned());
            arguments.extend(value.map(str::to_owned));
        }
    }
    arguments
}

/// Exit 2, one line that says what is wrong, nothing bound, nothing created, no secret.
#[test]
fn wrong_configuration_ends_at_once_with_one_clear_line() {
    let pki = Pki::new();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let other_authority = Authority::new();
    let other = other_authority.issue("other", Leaf::server());
    let users = folder.path().join("users.sqlite");
    let store = format!("sqlite://{}", users.display());
    let empty = file("empty", "");
    let garbage = file("garbage", "-----BEGIN CERTIFICATE-----\nplanted!\n");
    let other_key = fs::read_to_string(&other.key).unwrap();
    let other_key = file("other.key", &other_key);
    let secret = "postgres://user:planted-password@";
    let database = |rest: &str| Some(format!("{secret}{rest}"));
    let value = |value: &str| Some(value.to_owned());
    let missing = path(&folder.path().join("missing"));
    let deep = format!("sqlite://{}", folder.path().join("no/such/folder.sqlite").display());
    let folder_url = format!("sqlite://{}", folder.path().display());
    for (flag, value, says) in [
        ("--tls-cert", None, "--tls-cert"),
        ("--tls-key", None, "--tls-key"),
        ("--client-ca", None, "--client-ca"),
        ("--allow-client", None, "--allow-client"),
        ("--tls-cert", value(&missing), "cannot read"),
        ("--tls-key", value(&missing), "cannot read"),
        ("--client-ca", value(&missing), "cannot read"),
        ("--tls-cert", value(&empty), "no PEM certificate"),
        ("--tls-key", value(&empty), "no PEM private key"),
        ("--client-ca", value(&empty), "no PEM certificate"),
        ("--tls-cert", value(&garbage), "not valid PEM"),
        ("--client-ca", value(&garbage), "not valid PEM"),
        ("--tls-key", value(&other_key), "cannot be used together"),
        ("--allow-client", value("faroe"), "dns:NAME"),
        ("--allow-client", value("dns:faroe,cn:faroe"), "unknown kind"),
        ("--allow-client", value("dns:"), "no DNS name"),
        ("--allow-client", value("spki:sha256/AAAA"), "no key pin"),
        ("--allow-client", value(""), "--allow-client"),
        ("--store", value("mongodb://user:planted-password@h/db"), "unknown scheme"),
        ("--store", value("planted-password"), "no scheme"),
        ("--store", database("h:port/db"), "cannot be read"),
        ("--store", database("h/db?sslmod=x"), "not known"),
        ("--store", database("h"), "names no database"),
        ("--store", value(&deep), "does not exist"),
        ("--store", value(&folder_url), "is a folder"),
        ("--store", value("grpc://store.example:1"), "--insecure-store"),
        ("--store", value("grpc://user:planted-password@localhost:1"), "HOST:PORT"),
        ("--store-file", value(&missing), "--store-file"),
        ("--store-ca", value(&missing), "grpcs://"),
        ("--store-cert", value(&missing), "--store-key"),
        ("--listen", value("8443"), "ADDRESS:PORT"),
        ("--admin-listen", value("localhost:9090"), "ADDRESS:PORT"),
        ("--path", value("users"), "--path"),
        ("--max-body", value("64 apples"), "--max-body"),
        ("--request-timeout", value("10"), "--request-timeout"),
        ("--store-timeout", value("0s"), "--store-timeout"),
        ("--drain-timeout", value("2days"), "--drain-timeout"),
        ("--log-level", value("loud"), "--log-level"),
        ("--db-max-connections", value("0"), "--db-max-connections"),
        ("--no-such-flag", None, "--no-such-flag"),
        (&format!("{secret}h/db"), None, "unexpected argument"),
    ] {
        for command in ["serve", "check"] {
            let mut arguments = serve_with(&pki, &store, flag, value.as_deref());
            arguments[0] = command.to_owned();
            let output = run(arguments);
            let error = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{command} {flag} {value:?}: {error}");
            assert_eq!(error.lines().count(), 1, "{flag} {value:?}: {error}");
            assert!(error.contains(says), "{flag} {value:?}: {error}");
            assert!(output.stdout.is_empty());
            assert!(!users.exists(), "{flag} {value:?} created the SQLite file");
        }
    }
}

#[test]
fn the_environment_says_the_same_as_flags() {
    let pki = Pki::new();
    let mut command = program(["check"]);
    command
        .env("FAROE_SIDECAR_TLS_CERT", &pki.server.certificate)
        .env("FAROE_SIDECAR_TLS_KEY", &pki.server.key)
        .env("FAROE_SIDECAR_CLIENT_CA", pki.authority.certificate())
        .env("FAROE_SIDECAR_ALLOW_CLIENT", "dns:faroe,uri:spiffe://x/faroe")
        .env("FAROE_SIDECAR_MIGRATE", "true")
        .env("FAROE_SIDECAR_STORE", "postgres://user:planted-password@db/users");
    let output = without_secret(command.output().unwrap());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(output.stdout, b"the configuration is right\n");

    command.env("FAROE_SIDECAR_ALLOW_CLIENT", "dns:faroe,");
    let output = without_secret(command.output().unwrap());
    assert_eq!(output.status.code(), Some(2), "an empty entry is refused, not dropped");

    // Help shows no value of the environment.
    let mut command = program(["serve", "--help"]);
    command.env("FAROE_SIDECAR_STORE", "postgres://user:planted-password@db/users");
    let help = String::from_utf8(without_secret(command.output().unwrap()).stdout).unwrap();
    assert!(!help.contains("planted"), "{help}");
    assert!(help.contains("FAROE_SIDECAR_STORE"));
}

#[test]
fn check_creates_and_binds_nothing() {
    let pki = Pki::new();
    let file = SqliteFile::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut arguments = serve_with(&pki, &file.url(), "--listen", Some(&address));
    arguments[0] = "check".to_owned();
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!file.path.exists());
}

/// What `serve` would only warn of: a certificate can be replaced, and a clock can be wrong.
#[test]
fn check_refuses_a_certificate_that_is_not_valid_now() {
    let pki = Pki::new();
    let file = SqliteFile::new();
    let hour = time::Duration::hours(1);
    for (name, from, until) in [("ended", -hour * 2, -hour), ("early", hour, hour * 2)] {
        let identity = pki.authority.issue(name, Leaf::server().valid(from, until));
        let mut arguments = pki.serve_options(&file.url());
        arguments[0] = "check".to_owned();
        for (flag, path) in [("--tls-cert", identity.certificate), ("--tls-key", identity.key)] {
            let at = arguments.iter().position(|argument| argument == flag).unwrap();
            arguments[at + 1] = path.to_str().unwrap().to_owned();
        }
        let output = run(arguments);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{name}: {error}");
        assert!(error.contains("--tls-cert") && error.contains("not valid now"), "{error}");
    }
}

#[test]
fn both_listeners_at_one_address_are_refused() {
    let pki = Pki::new();
    let file = SqliteFile::new();
    let address = "127.0.0.1:8443";
    let mut arguments = serve_with(&pki, &file.url(), "--listen", Some(address));
    arguments[0] = "check".to_owned();
    let at = arguments.iter().position(|argument| argument == "--admin-listen").unwrap();
    arguments[at + 1] = address.to_owned();
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("the same address"), "{}", stderr(&output));
}

#[test]
fn an_address_in_use_is_a_failure_and_creates_nothing() {
    let pki = Pki::new();
    let file = SqliteFile::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--admin-listen"] {
        let output = run(serve_with(&pki, &file.url(), flag, Some(&address)));
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(&address), "{}", stderr(&output));
        assert!(!file.path.exists());
    }
}

#[test]
fn help_lists_what_there_is_and_nothing_else() {
    let output = run(["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    for command in ["dev", "serve", "migrate", "store", "proto", "check"] {
        assert!(help.contains(&format!("\n  {command}")), "{help}");
        let output = run([command, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{command}");
    }
    assert_eq!(run(["--version"]).status.code(), Some(0));
    assert_eq!(run([""; 0]).status.code(), Some(2));
}

#[test]
fn proto_prints_the_contract() {
    let output = run(["proto"]);
    assert_eq!(output.status.code(), Some(0));
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/proto/faroe/userstore/v1/user_store.proto");
    assert_eq!(output.stdout, fs::read(file).unwrap());
}

/// The certificates of a pod are files of a Secret; an unreadable key is said by its name. Modes
/// bind nobody who is root, so the program runs as somebody else then.
#[test]
fn an_unreadable_key_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let pki = Pki::new();
    let open = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open(pki.authority.folder(), 0o755);
    open(&pki.server.key, 0o000);
    let file = SqliteFile::new();
    let arguments = pki.serve_options(&file.url());
    let mut command = program(arguments.clone());
    let mut id = std::process::Command::new("id");
    if id.arg("-u").output().unwrap().stdout == b"0\n" {
        // The program's own folder may be closed to others.
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        open(folder.path(), 0o755);
        let copy = folder.path().join("faroe-sidecar");
        fs::copy(env!("CARGO_BIN_EXE_faroe-sidecar"), &copy).unwrap();
        open(&copy, 0o755);
        command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(copy).args(arguments).current_dir("/");
        let output = without_secret(command.output().unwrap());
        return assert_names_key(&output);
    }
    assert_names_key(&without_secret(command.output().unwrap()));
}

fn assert_names_key(output: &Output) {
    let error = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("cannot read") && error.contains("server.key"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_has_probes() {
    let (sidecar, _file) = sqlite_sidecar(&[]);
    let livez = admin(sidecar.admin, "/livez").await;
    assert_eq!((livez.status, livez.text()), (StatusCode::OK, "ok\n"));
    let readyz = admin(sidecar.admin, "/readyz").await;
    assert_eq!((readyz.status, readyz.text()), (StatusCode::OK, "ok\n"));
    assert_eq!(admin(sidecar.admin, "/").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_is_at_its_path_alone() {
    let (sidecar, _file) = sqlite_sidecar(&["--path", "/users/faroe"]);
    let client = sidecar.client();
    let body = r#"{"action":"get_user","arguments":{"user_id":"x"}}"#;
    for (path, status) in [
        ("/users/faroe", StatusCode::OK),
        // A query carries no meaning.
        ("/users/faroe?x=1", StatusCode::OK),
        ("/", StatusCode::NOT_FOUND),
        ("/users/faroe/", StatusCode::NOT_FOUND),
        ("/users/FAROE", StatusCode::NOT_FOUND),
        ("/users/faro%65", StatusCode::NOT_FOUND),
    ] {
        let reply = client.send(client.request(Method::POST, path, body)).await.unwrap();
        assert_eq!(reply.status, status, "{path}");
    }
}

/// SIGTERM and SIGINT: no more connections, the requests in hand finish, exit 0.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_lets_the_requests_in_hand_finish() {
    for signal in ["TERM", "INT"] {
        for http1 in [true, false] {
            let mut running = StoreKind::Bundled(Kind::Sqlite).start(&[]);
            let sidecar = &mut running.sidecar;
            let client = if http1 { sidecar.client().http1() } else { sidecar.client() };
            // A request in hand: its body is not whole yet.
            let mut stream = sidecar.client().http1().connect().await.unwrap();
            let body = json!({
                "action": "get_user_by_email_address",
                "arguments": { "email_address": email_address() },
            })
            .to_string();
            let head =
                format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body.as_bytes()[..10]).await.unwrap();
            stream.flush().await.unwrap();
            // One more request, answered, shows that the first has arrived before the signal.
            client.post(body.clone()).await;

            sidecar.process.signal(signal);
            sidecar.process.wait_for_log("draining");
            stream.write_all(&body.as_bytes()[10..]).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains("user_not_found"), "{answer}");
            assert_eq!(sidecar.process.wait().code(), Some(0));
            assert!(client.try_post(body).await.is_err(), "nothing is accepted any more");
        }
    }
}

/// What takes longer than `--drain-timeout` is cut off, and the exit code says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_end_is_cut_off() {
    let mut running = StoreKind::Bundled(Kind::Sqlite).start(&["--drain-timeout", "200ms"]);
    let sidecar = &mut running.sidecar;
    let mut stream = sidecar.client().http1().connect().await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{").await.unwrap();
    stream.flush().await.unwrap();
    sidecar.client().post("{}").await;
    assert_eq!(sidecar.process.terminate().code(), Some(1));
}

/// A connection on which nothing is going on does not hold the end up.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_hold_the_end_up() {
    let mut running = StoreKind::Bundled(Kind::Sqlite).start(&[]);
    let client = running.client();
    client.post("{}").await;
    let _idle = running.client().http1().connect().await.unwrap();
    let start = std::time::Instant::now();
    assert_eq!(running.sidecar.process.terminate().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(20), "it waited for the drain timeout");
}

/// Without a configuration file there is still one command that does it all.
#[tokio::test(flavor = "multi_thread")]
async fn dev_on_a_database_server_brings_the_schema_up() {
    let database = Kind::Postgres.database();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("dev");
    let process = Process::start(program([
        "dev",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--dir",
        dir.to_str().unwrap(),
        "--store",
        &database.url,
        "--log-format",
        "json",
    ]));
    let sidecar = Sidecar::of_process(process, Arc::new(Pki::new()));
    sidecar.wait_until_ready();
    assert!(!dir.join("users.sqlite").exists());
}
