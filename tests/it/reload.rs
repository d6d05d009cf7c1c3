//! TLS material that changes while the program runs: what is new is used, what is broken is refused
//! whole, and whoever is no longer accepted does not stay. `interface`, "`serve`", `--client-crl`.

use std::{fs, path::Path, sync::Arc, time::Instant};

use http::StatusCode;
use rustls::{AlertDescription, HandshakeKind, SupportedProtocolVersion, version::TLS12};
use serde_json::{Value, json};
use time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{
    certs::{Authority, Identity, Leaf},
    client::{Client, admin, tls_config_of},
    email_address,
    metrics::Metrics,
    process::{Mounted, PATIENCE, Pki, Process, Sidecar, SqliteFile, program, run},
};

const HOUR: Duration = Duration::hours(1);

/// The files of a sidecar, where they can be swapped.
struct Material {
    mounted: Mounted,
    ca: std::path::PathBuf,
    crl: Option<std::path::PathBuf>,
}

impl Material {
    fn new(server: &Identity, ca: &Path, crl: Option<&Path>) -> Self {
        let mounted = Mounted::new(&files(server, ca, crl));
        Self { mounted, ca: ca.to_owned(), crl: crl.map(Path::to_owned) }
    }

    fn swap(&mut self, server: &Identity) {
        self.mounted.swap(&files(server, &self.ca, self.crl.as_deref()));
    }

    /// A sidecar on an SQLite file of its own, ready.
    fn sidecar(&self, pki: &Arc<Pki>, options: &[&str]) -> (Sidecar, SqliteFile) {
        let file = SqliteFile::new();
        let path = |name: &str| self.mounted.path(name).to_str().unwrap().to_owned();
        let mut arguments = pki.serve_options(&file.url());
        for (option, name) in
            [("--tls-cert", "tls.crt"), ("--tls-key", "tls.key"), ("--client-ca", "ca.crt")]
        {
            let at = arguments.iter().position(|argument| argument == option).unwrap();
            arguments[at + 1] = path(name);
        }
        if self.crl.is_some() {
            arguments.extend(["--client-crl".to_owned(), path("ca.crl")]);
        }
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let process = Process::start(program(arguments));
        let sidecar = Sidecar::of_process(process, Arc::clone(pki));
        sidecar.wait_until_ready();
        (sidecar, file)
    }
}

fn files<'a>(
    server: &'a Identity,
    ca: &'a Path,
    crl: Option<&'a Path>,
) -> Vec<(&'static str, &'a Path)> {
    let identity = [("tls.crt", &*server.certificate), ("tls.key", &*server.key), ("ca.crt", ca)];
    identity.into_iter().chain(crl.map(|crl| ("ca.crl", crl))).collect()
}

/// One PEM file of several.
fn bundle(folder: &Path, name: &str, files: &[&Path]) -> std::path::PathBuf {
    let bundle = folder.join(name);
    let content: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    fs::write(&bundle, content).unwrap();
    bundle
}

/// The certificate that the server shows on a new connection.
async fn shown(client: &Client) -> Vec<u8> {
    let stream = client.http1().connect().await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn der(identity: &Identity) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject as _;
    rustls::pki_types::CertificateDer::from_pem_file(&identity.certificate).unwrap().to_vec()
}

fn get_user() -> String {
    json!({ "action": "get_user", "arguments": { "user_id": "nobody" } }).to_string()
}

/// A connection of HTTP/1.1 that has carried a request.
async fn used_http1(client: &Client) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let mut stream = client.http1().connect().await.unwrap();
    let body = get_user();
    let request =
        format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 200 "));
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn new_connections_get_the_new_certificate_and_old_ones_go_on() {
    let pki = Arc::new(Pki::new());
    let mut material = Material::new(&pki.server, &pki.authority.certificate(), None);
    let (sidecar, _file) = material.sidecar(&pki, &[]);
    let client = sidecar.client();
    client.post(get_user()).await;
    let mut http1 = used_http1(&client).await;
    assert_eq!(shown(&client).await, der(&pki.server));

    let renewed = pki.authority.issue("renewed", Leaf::server());
    material.swap(&renewed);
    sidecar.process.wait_for_log("the TLS material towards callers was reloaded");
    assert_eq!(shown(&client).await, der(&renewed));
    // On the connections from before.
    assert_eq!(client.post(get_user()).await.status, StatusCode::OK);
    let body = get_user();
    let request =
        format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    http1.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 16];
    http1.read_exact(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    assert_eq!(Metrics::of(&sidecar).await.value("tls_reloads_total{result=\"ok\"}"), 1.0);
    assert!(!sidecar.process.log().contains("not accepted any more"));
}

#[tokio::test(flavor = "multi_thread")]
async fn material_that_cannot_be_used_is_refused_whole() {
    let pki = Arc::new(Pki::new());
    let mut material = Material::new(&pki.server, &pki.authority.certificate(), None);
    let (sidecar, _file) = material.sidecar(&pki, &[]);
    let client = sidecar.client();

    // A certificate with the key of another, and, as good as they are by themselves, new authorities.
    let other = Authority::new();
    let renewed = pki.authority.issue("renewed", Leaf::server());
    let mixed = Identity { certificate: renewed.certificate.clone(), key: pki.server.key.clone() };
    material.ca = other.certificate();
    material.swap(&mixed);
    let line = sidecar.process.wait_for_log("the old one is kept");
    assert!(line.contains("\"ERROR\"") && line.contains("tls.key"), "{line}");
    let failed = "tls_reloads_total{result=\"failed\"}";
    assert_eq!(Metrics::of(&sidecar).await.value(failed), 1.0);
    assert_eq!(shown(&client).await, der(&pki.server));
    assert_eq!(client.http1().post(get_user()).await.status, StatusCode::OK);

    // What can be used is used again.
    material.ca = pki.authority.certificate();
    material.swap(&renewed);
    sidecar.process.wait_for_log("was reloaded");
    assert_eq!(shown(&client).await, der(&renewed));
}

/// The wrong file, or one that came too early, is no reason to stop serving.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_valid_does_not_take_the_place_of_one_that_is() {
    let pki = Arc::new(Pki::new());
    let mut material = Material::new(&pki.server, &pki.authority.certificate(), None);
    let (sidecar, _file) = material.sidecar(&pki, &[]);
    for (name, from, until) in [("past", -HOUR * 2, -HOUR), ("future", HOUR, HOUR * 2)] {
        material.swap(&pki.authority.issue(name, Leaf::server().valid(from, until)));
        let failed = "tls_reloads_total{result=\"failed\"}";
        let before = Metrics::of(&sidecar).await.value(failed);
        let deadline = Instant::now() + PATIENCE;
        while Metrics::of(&sidecar).await.value(failed) == before {
            assert!(Instant::now() < deadline, "{name}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(shown(&sidecar.client()).await, der(&pki.server), "{name}");
    }
    let line = sidecar.process.wait_for_log("the old one is kept");
    assert!(line.contains("--tls-cert is not valid now"), "{line}");
    assert_eq!(admin(sidecar.admin, "/readyz").await.status, StatusCode::OK);
}

/// A clock that is a few seconds behind the authority's is no reason to wait for the next renewal.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_came_too_early_is_used_when_it_is_valid() {
    let pki = Arc::new(Pki::new());
    let mut material = Material::new(&pki.server, &pki.authority.certificate(), None);
    let (sidecar, _file) = material.sidecar(&pki, &[]);
    let early = Leaf::server().valid(Duration::seconds(8), HOUR);
    let early = pki.authority.issue("early", early);
    material.swap(&early);
    sidecar.process.wait_for_log("--tls-cert is not valid now");
    assert_eq!(shown(&sidecar.client()).await, der(&pki.server));
    sidecar.process.wait_for_log("the TLS material towards callers was reloaded");
    assert_eq!(shown(&sidecar.client()).await, der(&early));
    // It is refused once, however often it is tried.
    let metrics = Metrics::of(&sidecar).await;
    assert_eq!(metrics.value("tls_reloads_total{result=\"failed\"}"), 1.0);
    assert_eq!(metrics.value("tls_reloads_total{result=\"ok\"}"), 1.0);
    assert_eq!(sidecar.process.log().matches("the old one is kept").count(), 1);
}

/// Each file for itself, and worse news at once.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_certificate_is_told_when_it_comes_near_and_when_it_is_there() {
    let pki = Arc::new(Pki::new());
    let ending = Leaf::server().valid(-Duration::seconds(24), Duration::seconds(14));
    let ending = pki.authority.issue("ending", ending);
    let near = pki.authority.revoke("near", &[], -HOUR, Duration::minutes(5));
    let material = Material::new(&ending, &pki.authority.certificate(), Some(&near));
    let (sidecar, _file) = material.sidecar(&pki, &[]);
    let warning = |option: &str| format!("--{option}: less than 30 % of its lifetime is left");
    sidecar.process.wait_for_log(&warning("client-crl"));
    assert!(!sidecar.process.log().contains(&warning("tls-cert")), "it took too long to start");
    sidecar.process.wait_for_log(&warning("tls-cert"));
    let line = sidecar.process.wait_for_log("--tls-cert is not valid now");
    assert!(line.contains("\"ERROR\""), "{line}");
    assert!(std::time::SystemTime::now() >= ending.end());
    let ready = admin(sidecar.admin, "/readyz").await;
    assert!(ready.text().contains("--tls-cert is not valid now"), "{}", ready.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_has_the_files_read_again() {
    let pki = Arc::new(Pki::new());
    let material = Material::new(&pki.server, &pki.authority.certificate(), None);
    let (sidecar, _file) = material.sidecar(&pki, &[]);
    sidecar.process.signal("HUP");
    sidecar.process.wait_for_log("the TLS material towards callers was reloaded");
    fs::remove_file(material.mounted.path("tls.key")).unwrap();
    sidecar.process.signal("HUP");
    sidecar.process.wait_for_log("the old one is kept");
    assert_eq!(sidecar.client().post(get_user()).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_the_new_authorities_do_not_accept_does_not_stay() {
    let pki = Arc::new(Pki::new());
    let other = Authority::new();
    let guests = other.issue("guest", Leaf::client(&["faroe"]));
    let folder = pki.authority.folder();
    let both = bundle(folder, "both.pem", &[&pki.authority.certificate(), &other.certificate()]);
    let mut material = Material::new(&pki.server, &both, None);
    let (sidecar, _file) = material.sidecar(&pki, &[]);
    let guest = Client::new(sidecar.endpoint, &pki, Some(&guests));
    assert_eq!(guest.post(get_user()).await.status, StatusCode::OK);
    let mut guests_http1 = used_http1(&guest).await;
    let stays = sidecar.client();
    assert_eq!(stays.post(get_user()).await.status, StatusCode::OK);
    let mut stays_http1 = used_http1(&stays).await;

    material.ca = pki.authority.certificate();
    material.swap(&pki.server);
    // Its two connections, and no other.
    sidecar.process.wait_for_log_lines("the client certificate is not accepted any more", 2);
    assert_eq!(guests_http1.read(&mut [0]).await.unwrap_or(0), 0, "the connection has ended");
    assert_eq!(entry(&sidecar, &guests).await, Err(AlertDescription::UnknownCA));
    assert!(guest.try_post(get_user()).await.is_err());

    assert_eq!(stays.post(get_user()).await.status, StatusCode::OK);
    stays_http1.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(stays_http1.read(&mut [0]).await.unwrap() > 0);
    let ended = "rejected_connections_total{reason=\"certificate\"}";
    assert_eq!(Metrics::of(&sidecar).await.value(ended), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_from_before_a_reload_are_worthless() {
    let pki = Arc::new(Pki::new());
    let mut material = Material::new(&pki.server, &pki.authority.certificate(), None);
    let (sidecar, _file) = material.sidecar(&pki, &[]);
    let versions: [&'static SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &TLS12];
    let clients = versions.map(|version| {
        let ca = pki.authority.certificate();
        let mut client = sidecar.client().http1();
        let mut tls = tls_config_of(&[version], &ca, Some(&pki.client));
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        client.tls = Arc::new(tls);
        client
    });
    let kind = async |client: &Client| used_http1(client).await.get_ref().1.handshake_kind();
    for client in &clients {
        assert_eq!(kind(client).await, Some(HandshakeKind::Full));
        assert_eq!(kind(client).await, Some(HandshakeKind::Resumed));
    }
    material.swap(&pki.authority.issue("renewed", Leaf::server()));
    sidecar.process.wait_for_log("was reloaded");
    for client in &clients {
        assert_eq!(kind(client).await, Some(HandshakeKind::Full));
    }
}

/// How a client without a session to resume gets in: the start of an answer, or the alert. In TLS
/// 1.3 the alert comes after the client's side of the handshake.
async fn entry(sidecar: &Sidecar, identity: &Identity) -> Result<String, AlertDescription> {
    let client = Client::new(sidecar.endpoint, &sidecar.pki, Some(identity)).http1();
    let mut stream = client.connect().await.unwrap();
    let body = get_user();
    let request =
        format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    // Whoever is refused may be so before it has said anything.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut start = [0; 15];
    match stream.read_exact(&mut start).await {
        Ok(_) => Ok(String::from_utf8(start.to_vec()).unwrap()),
        Err(error) => match error.get_ref().and_then(|error| error.downcast_ref()) {
            Some(rustls::Error::AlertReceived(alert)) => Err(*alert),
            _ => panic!("neither an answer nor an alert: {error:?}"),
        },
    }
}

fn in_and_answered() -> Result<String, AlertDescription> {
    Ok("HTTP/1.1 200 OK".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_does_not_get_in_and_does_not_stay() {
    let pki = Arc::new(Pki::new());
    let revoked = pki.authority.issue("revoked", Leaf::client(&["faroe"]));
    let late = pki.authority.issue("late", Leaf::client(&["faroe"]));
    let list = pki.authority.revoke("first", &[&revoked], -HOUR, HOUR);
    let mut material = Material::new(&pki.server, &pki.authority.certificate(), Some(&list));
    let (sidecar, _file) = material.sidecar(&pki, &[]);
    assert_eq!(entry(&sidecar, &revoked).await, Err(AlertDescription::CertificateRevoked));
    assert_eq!(entry(&sidecar, &pki.client).await, in_and_answered());

    let client = Client::new(sidecar.endpoint, &pki, Some(&late));
    assert_eq!(client.post(get_user()).await.status, StatusCode::OK);
    let mut http1 = used_http1(&client).await;
    let stays = sidecar.client();
    stays.post(get_user()).await;
    material.crl = Some(pki.authority.revoke("second", &[&revoked, &late], -HOUR, HOUR));
    material.swap(&pki.server);
    sidecar.process.wait_for_log_lines("the client certificate is not accepted any more", 2);
    assert_eq!(http1.read(&mut [0]).await.unwrap_or(0), 0);
    assert_eq!(entry(&sidecar, &late).await, Err(AlertDescription::CertificateRevoked));
    assert_eq!(stays.post(get_user()).await.status, StatusCode::OK);
}

/// An older list may be in force still: the newest one of an authority counts, wherever it stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_list_of_the_same_authority_counts() {
    let pki = Arc::new(Pki::new());
    let revoked = pki.authority.issue("revoked", Leaf::client(&["faroe"]));
    let old = pki.authority.revoke("old", &[], -HOUR * 2, HOUR * 2);
    let new = pki.authority.revoke("new", &[&revoked], -HOUR, HOUR);
    for (name, lists) in [("old-new.crl", [&*old, &*new]), ("new-old.crl", [&*new, &*old])] {
        let lists = bundle(pki.authority.folder(), name, &lists);
        let material = Material::new(&pki.server, &pki.authority.certificate(), Some(&lists));
        let (sidecar, _file) = material.sidecar(&pki, &[]);
        let refused = Err(AlertDescription::CertificateRevoked);
        assert_eq!(entry(&sidecar, &revoked).await, refused, "{name}");
        assert_eq!(entry(&sidecar, &pki.client).await, in_and_answered(), "{name}");
    }
}

/// The safe side: what no list speaks for is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_no_list_covers_is_refused() {
    let pki = Arc::new(Pki::new());
    let other = Authority::new();
    let guest = other.issue("guest", Leaf::client(&["faroe"]));
    let folder = pki.authority.folder();
    let both = bundle(folder, "both.pem", &[&pki.authority.certificate(), &other.certificate()]);
    let list = pki.authority.revoke("own", &[], -HOUR, HOUR);
    let mut material = Material::new(&pki.server, &both, Some(&list));
    let (sidecar, _file) = material.sidecar(&pki, &[]);
    assert_eq!(entry(&sidecar, &pki.client).await, in_and_answered());
    assert!(entry(&sidecar, &guest).await.is_err());
    // With a list of each authority both get in.
    let others_list = other.revoke("other", &[], -HOUR, HOUR);
    material.crl = Some(bundle(folder, "both.crl", &[&list, &others_list]));
    material.swap(&pki.server);
    sidecar.process.wait_for_log("was reloaded");
    assert_eq!(entry(&sidecar, &guest).await, in_and_answered());
    assert_eq!(entry(&sidecar, &pki.client).await, in_and_answered());
}

/// The safe side again: a list that is over says nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_has_expired_keeps_everybody_out_and_the_sidecar_not_ready() {
    let pki = Arc::new(Pki::new());
    let expired = pki.authority.revoke("expired", &[], -HOUR, -HOUR / 2);
    let mut material = Material::new(&pki.server, &pki.authority.certificate(), Some(&expired));
    let (sidecar, _file) = material.sidecar(&pki, &[]);
    assert!(entry(&sidecar, &pki.client).await.is_err());
    let line = sidecar.process.wait_for_log("--client-crl is not valid now");
    assert!(line.contains("\"ERROR\""), "{line}");
    let ready = admin(sidecar.admin, "/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready.text().contains("--client-crl is not valid now"), "{}", ready.text());

    material.crl = Some(pki.authority.revoke("next", &[], -HOUR, HOUR));
    material.swap(&pki.server);
    sidecar.process.wait_for_log("was reloaded");
    assert_eq!(entry(&sidecar, &pki.client).await, in_and_answered());
    until_ready(&sidecar).await;
}

/// A session that was made while the list was in force is no way around its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_resumed_beyond_the_list() {
    let pki = Arc::new(Pki::new());
    let list = pki.authority.revoke("short", &[], -HOUR, Duration::seconds(8));
    let until = Instant::now() + std::time::Duration::from_secs(9);
    let material = Material::new(&pki.server, &pki.authority.certificate(), Some(&list));
    let (sidecar, _file) = material.sidecar(&pki, &[]);
    let client = sidecar.client().http1();
    used_http1(&client).await;
    let resumed = used_http1(&client).await;
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    tokio::time::sleep_until(until.into()).await;
    assert!(client.try_post(get_user()).await.is_err());
    sidecar.process.wait_for_log("the client certificate of the session is not valid now");
}

async fn until_ready(sidecar: &Sidecar) {
    let deadline = Instant::now() + PATIENCE;
    while admin(sidecar.admin, "/readyz").await.status != StatusCode::OK {
        assert!(Instant::now() < deadline, "{}", admin(sidecar.admin, "/readyz").await.text());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[test]
fn check_refuses_a_list_that_has_expired() {
    let pki = Pki::new();
    let list = pki.authority.revoke("expired", &[], -HOUR, -HOUR / 2);
    let mut arguments = pki.serve_options("sqlite://unused.sqlite");
    arguments[0] = "check".to_owned();
    arguments.extend(["--client-crl".to_owned(), list.to_str().unwrap().to_owned()]);
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("--client-crl: it is not valid now"), "{text}");
}

#[test]
fn a_list_that_cannot_be_read_stops_the_start() {
    let pki = Pki::new();
    let empty = pki.authority.folder().join("empty.crl");
    fs::write(&empty, "").unwrap();
    let missing = pki.authority.folder().join("missing.crl");
    for (file, why) in [
        (&empty, "revocation list"),
        (&missing, "cannot read"),
        (&pki.authority.certificate(), "revocation list"),
    ] {
        for command in ["serve", "check"] {
            let mut arguments = pki.serve_options("sqlite://unused.sqlite");
            arguments[0] = command.to_owned();
            arguments.extend(["--client-crl".to_owned(), file.to_str().unwrap().to_owned()]);
            let output = run(arguments);
            assert_eq!(output.status.code(), Some(2));
            let text = String::from_utf8(output.stderr).unwrap();
            assert!(text.contains("--client-crl") && text.contains(why), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_each_file_is_a_metric_and_a_warning_comes_before_it() {
    let pki = Arc::new(Pki::new());
    // 2 of 10 hours are left; of the authority, many years.
    let short = pki.authority.issue("short", Leaf::server().valid(-HOUR * 8, HOUR * 2));
    let list = pki.authority.revoke("list", &[], -HOUR, HOUR * 9);
    let mut material = Material::new(&short, &pki.authority.certificate(), Some(&list));
    let (sidecar, _file) = material.sidecar(&pki, &[]);
    let line = sidecar.process.wait_for_log("less than 30 % of its lifetime is left");
    assert!(line.contains("\"WARN\"") && line.contains("--tls-cert"), "{line}");
    let expiry =
        |file: &str| format!("tls_certificate_expiry_timestamp_seconds{{file=\"{file}\"}}");
    let end = |identity: &Identity| {
        // The last second counts still.
        let end = identity.end() - std::time::Duration::from_secs(1);
        end.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
    };
    assert_eq!(Metrics::of(&sidecar).await.value(&expiry("tls-cert")), end(&short));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let left = Metrics::of(&sidecar).await.value(&expiry("client-crl")) - now.as_secs_f64();
    assert!((8.0 * 3600.0..=9.0 * 3600.0).contains(&left), "{left}");
    assert!(Metrics::of(&sidecar).await.value(&expiry("client-ca")) > now.as_secs_f64());
    let warnings = |log: &str| log.matches("less than 30 %").count();
    assert_eq!(warnings(&sidecar.process.log()), 1, "{}", sidecar.process.log());

    let renewed = pki.authority.issue("renewed", Leaf::server());
    material.swap(&renewed);
    sidecar.process.wait_for_log("was reloaded");
    let deadline = Instant::now() + PATIENCE;
    while Metrics::of(&sidecar).await.value(&expiry("tls-cert")) != end(&renewed) {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(warnings(&sidecar.process.log()), 1);
}

/// The material towards a gRPC store is watched too: a renewed identity is shown without a restart,
/// and a store that the new authorities do not vouch for is left.
#[tokio::test(flavor = "multi_thread")]
async fn the_material_towards_a_store_is_reloaded() {
    let pki = Arc::new(Pki::new());
    let others = Authority::new();
    let users = SqliteFile::new();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    // A store that takes the others' clients.
    let store = Process::start(program([
        "store".to_owned(),
        "--listen".to_owned(),
        "tcp://127.0.0.1:0".to_owned(),
        "--store".to_owned(),
        users.url(),
        "--tls-cert".to_owned(),
        text(&pki.server.certificate),
        "--tls-key".to_owned(),
        text(&pki.server.key),
        "--client-ca".to_owned(),
        text(&others.certificate()),
        "--log-format".to_owned(),
        "json".to_owned(),
    ]));
    let line: Value = serde_json::from_str(&store.wait_for_log("\"listening\"")).unwrap();
    let url = line["store"].as_str().unwrap().replace("tcp://127.0.0.1", "grpcs://localhost");
    let files = |ca: &Path, identity: &Identity| {
        [
            ("ca.crt", ca.to_owned()),
            ("tls.crt", identity.certificate.clone()),
            ("tls.key", identity.key.clone()),
        ]
    };
    let swap = |mounted: &mut Mounted, files: [(&'static str, std::path::PathBuf); 3]| {
        mounted.swap(&files.each_ref().map(|(name, path)| (*name, &**path)));
    };
    let first = files(&pki.authority.certificate(), &pki.client);
    let mut mounted = Mounted::new(&first.each_ref().map(|(name, path)| (*name, &**path)));
    let path = |name: &str| mounted.path(name).to_str().unwrap().to_owned();
    let (ca, certificate, key) = (path("ca.crt"), path("tls.crt"), path("tls.key"));
    let options = ["--store-ca", &ca, "--store-cert", &certificate, "--store-key", &key];
    let sidecar = Sidecar::start_with(Arc::clone(&pki), &url, &options);
    let client = sidecar.client();
    assert_eq!(client.post(get_user()).await.status, StatusCode::SERVICE_UNAVAILABLE);

    let invited = others.issue("invited", Leaf::client(&["sidecar"]));
    swap(&mut mounted, files(&pki.authority.certificate(), &invited));
    sidecar.process.wait_for_log("the TLS material towards the store was reloaded");
    sidecar.wait_until_ready();
    let user = client.create_user(&email_address()).await;
    assert_eq!(client.get_user(&user).await, user);

    swap(&mut mounted, files(&others.certificate(), &invited));
    sidecar.process.wait_for_log("invalid peer certificate");
    let reply = client.post(get_user()).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{}", reply.text());

    swap(&mut mounted, files(&pki.authority.certificate(), &invited));
    sidecar.process.wait_for_log_lines("the store is ready", 2);
    assert_eq!(client.get_user(&user).await, user);
}

/// It is refused whole too, and the end of each file is told; whether the store is there or not.
#[tokio::test(flavor = "multi_thread")]
async fn the_material_towards_a_store_is_checked_and_its_end_is_told() {
    let pki = Arc::new(Pki::new());
    // 2 of 10 hours are left.
    let short = pki.authority.issue("short", Leaf::client(&["sidecar"]).valid(-HOUR * 8, HOUR * 2));
    let files = |certificate: &Path, key: &Path| {
        [("tls.crt", certificate.to_owned()), ("tls.key", key.to_owned())]
            .into_iter()
            .chain([("ca.crt", pki.authority.certificate())])
            .collect::<Vec<_>>()
    };
    let swap = |mounted: &mut Mounted, files: Vec<(&'static str, std::path::PathBuf)>| {
        let files: Vec<_> = files.iter().map(|(name, path)| (*name, &**path)).collect();
        mounted.swap(&files);
    };
    let first = files(&short.certificate, &short.key);
    let first: Vec<_> = first.iter().map(|(name, path)| (*name, &**path)).collect();
    let mut mounted = Mounted::new(&first);
    let path = |name: &str| mounted.path(name).to_str().unwrap().to_owned();
    let (ca, certificate, key) = (path("ca.crt"), path("tls.crt"), path("tls.key"));
    let options = ["--store-ca", &ca, "--store-cert", &certificate, "--store-key", &key];
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("grpcs://localhost:{}", nobody.local_addr().unwrap().port());
    drop(nobody);
    let sidecar = Sidecar::start_with(Arc::clone(&pki), &url, &options);

    let line = sidecar.process.wait_for_log("less than 30 % of its lifetime is left");
    assert!(line.contains("\"WARN\"") && line.contains("--store-cert"), "{line}");
    let metrics = Metrics::of(&sidecar).await;
    let expiry = |file: &str| {
        metrics.value(&format!("tls_certificate_expiry_timestamp_seconds{{file=\"{file}\"}}"))
    };
    // The last second counts still.
    let end = short.end() - std::time::Duration::from_secs(1);
    let end = end.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert_eq!(expiry("store-cert"), end);
    assert!(expiry("store-ca") > end);

    // The key of another, and a certificate that came too late.
    let over = pki.authority.issue("over", Leaf::client(&["sidecar"]).valid(-HOUR * 2, -HOUR));
    for (certificate, key, why) in [
        (&short.certificate, &pki.client.key, "cannot be used together"),
        (&over.certificate, &over.key, "--store-cert is not valid now"),
    ] {
        swap(&mut mounted, files(certificate, key));
        let line = sidecar.process.wait_for_log(why);
        assert!(line.contains("towards the store") && line.contains("\"ERROR\""), "{line}");
    }
    let failed = "tls_reloads_total{result=\"failed\"}";
    assert_eq!(Metrics::of(&sidecar).await.value(failed), 2.0);
    swap(&mut mounted, files(&pki.client.certificate, &pki.client.key));
    sidecar.process.wait_for_log("the TLS material towards the store was reloaded");
}
